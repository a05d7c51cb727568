"""Measured figures against hand-worked ones, numpy, and the published traces (FACTS.md, Traffic)."""

from __future__ import annotations

import dataclasses
import math
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr, t

from distillcalc.decide import recommend
from distillcalc.errors import InputError
from distillcalc.workload.logs import texts, timing
from distillcalc.workload.logs.ingest import ingest
from distillcalc.workload.logs.measure import measure
from distillcalc.workload.logs.timing import trend_of
from tests.workload.logs.relations import MONDAY, azure, burstgpt, counts, requests, traffic

HOUR, DAY = 3600, 86_400
TEACHER = "openai/gpt-6-sol"


class TestTraces:
    """What the two traces are known for."""

    def test_azure_code(self) -> None:
        profile = measure(azure())
        arrivals, lengths = profile.arrivals, profile.lengths
        assert lengths is not None
        assert arrivals.interarrival_cv == pytest.approx(13.2, abs=0.05)
        assert arrivals.interarrival_cv_within_hour == pytest.approx(13.2, abs=0.05)
        assert arrivals.minute_peak_to_mean == pytest.approx(3.8, abs=0.05)
        assert profile.volume.requests_per_day == pytest.approx(2.57 * DAY, rel=0.002)
        assert (round(lengths.input.mean), round(lengths.output.mean)) == (2048, 28)
        assert profile.cycle.kind == "none"
        assert "57 minutes of log show no daily cycle" in profile.cycle.statement
        assert profile.volume.trend.growth_per_month is None

    def test_the_lengths_of_azure_code_compress_within_a_percent(self) -> None:
        frame = pd.read_csv(traffic("AzureLLMInferenceTrace_code.csv"))
        lengths = measure(azure()).lengths
        assert lengths is not None
        sample = np.array(lengths.sample)
        assert len(sample) <= 2000
        levels = [*(i / 100 for i in range(1, 100)), 0.995, 0.999]
        weights = sample[:, 2].astype(int)
        for column, few in (("ContextTokens", sample[:, 0]), ("GeneratedTokens", sample[:, 1])):
            exact = frame[column].to_numpy()
            assert few @ weights / weights.sum() == pytest.approx(exact.mean(), rel=1e-12)
            found = np.quantile(few, levels, method="inverted_cdf", weights=weights)
            assert found == pytest.approx(np.quantile(exact, levels, method="inverted_cdf"), rel=0.01)
        exact_rank = spearmanr(frame["ContextTokens"], frame["GeneratedTokens"]).statistic
        few_rank = spearmanr(np.repeat(sample[:, 0], weights), np.repeat(sample[:, 1], weights)).statistic
        assert few_rank == pytest.approx(exact_rank, abs=0.01)
        assert lengths.rank_correlation == pytest.approx(exact_rank, abs=0.01)

    def test_burstgpt(self) -> None:
        profile = measure(burstgpt())
        assert profile.arrivals.hour_peak_to_mean == pytest.approx(34, abs=0.5)
        assert profile.arrivals.hour_p99_to_mean == pytest.approx(11.7, abs=0.05)
        assert profile.arrivals.interarrival_cv is None
        assert profile.lengths is None
        assert profile.cycle.kind == "hour-of-week"
        assert "its clock begins at 0" in profile.cycle.statement
        assert profile.volume.requests_per_day == pytest.approx(1_429_737 / 1461 * 24)

    def test_each_trace_leads_to_a_recommendation(self) -> None:
        for workload in (
            measure(azure()).workload(),
            measure(burstgpt()).workload(input_tokens=600, output_tokens=150),
        ):
            decision = recommend(workload, teacher=TEACHER)
            assert decision.recommendation is not None
            assert decision.options[decision.recommendation].present_value_usd > 0


class TestVolume:
    """Requests per day, whole days, trend."""

    def test_requests_per_day_is_the_inverse_of_the_mean_gap(self) -> None:
        volume = measure(requests([0, 10, 20, 30])).volume
        assert volume.requests_per_day == 8640
        assert volume.span_s == 30
        assert (volume.first, volume.last) == (MONDAY, datetime(2026, 3, 2, 0, 0, 30))

    def test_only_whole_days_are_listed(self) -> None:
        # From noon of the first day to noon of the fourth, one an hour.
        daily = measure(requests(12 * HOUR + HOUR * np.arange(72))).volume.daily
        assert [(day.day, n) for day, n in daily] == [(3, 24), (4, 24)]

    def test_a_log_too_short_for_a_trend_says_so(self) -> None:
        trend = measure(requests(HOUR * np.arange(13 * 24))).volume.trend
        assert trend.growth_per_month is None
        assert trend.verdict == "open"
        assert "13 whole days" in trend.statement
        assert "14 are needed" in trend.statement

    def test_planted_growth_is_found(self) -> None:
        # 0.2% more each day: 1.002^30.4375 - 1 = 6.27% a month.
        daily = np.round(24_000 * 1.002 ** np.arange(60))
        trend = measure(counts(np.repeat(daily / 24, 24))).volume.trend
        assert trend.growth_per_month == pytest.approx(0.0627, abs=0.0005)
        assert trend.verdict == "growth"

    def test_the_weekday_pattern_is_not_taken_for_growth(self) -> None:
        week = np.array([100, 110, 120, 110, 100, 20, 10])
        trend = trend_of(np.tile(week, 3)[:17])
        assert trend.growth_per_month == pytest.approx(0, abs=1e-9)
        assert trend.verdict == "steady"

    def test_the_interval_is_that_of_least_squares(self) -> None:
        # Alternating noise has r < 0, which widens nothing: the textbook's interval.
        days = np.arange(28)
        daily = np.round(1e6 * np.exp(0.01 * days + 0.1 * (-1.0) ** days * np.linspace(0.5, 1.5, 28))).astype(np.int64)
        trend = trend_of(daily)
        design = np.column_stack([days, *(days % 7 == k for k in range(7))]).astype(float)
        solution, (rss,), _, _ = np.linalg.lstsq(design, np.log(daily), rcond=None)
        error = math.sqrt(rss / (28 - 8) * np.linalg.inv(design.T @ design)[0, 0])
        month = 365.25 / 12
        low, high = (math.expm1(month * (solution[0] + s * t.ppf(0.975, 20) * error)) for s in (-1, 1))
        assert (trend.growth_per_month, trend.low, trend.high) == pytest.approx(
            (math.expm1(month * solution[0]), low, high)
        )

    @pytest.mark.parametrize(("r", "least"), [(0.0, 0.9), (0.5, 0.85)])
    def test_the_interval_holds_the_truth_as_often_as_it_says(self, r: float, least: float) -> None:
        random = np.random.default_rng(4)
        held = 0
        for _ in range(300):
            noise = random.standard_normal(60)
            for i in range(1, 60):
                noise[i] = r * noise[i - 1] + math.sqrt(1 - r * r) * noise[i]
            trend = trend_of(np.round(1e5 * np.exp(0.003 * np.arange(60) + 0.2 * noise)).astype(np.int64))
            assert trend.low is not None
            assert trend.high is not None
            held += trend.low <= math.expm1(0.003 * 365.25 / 12) <= trend.high
        assert least <= held / 300 <= 0.99

    def test_days_without_requests_are_left_out_and_said(self) -> None:
        trend = trend_of(np.array([50, 50, 50, 50, 50, 0, 0] * 2))
        assert trend.growth_per_month is None
        assert "10 of them with requests" in trend.statement


class TestCycle:
    """Hour-of-week from two weeks on, hour-of-day from three days on, else a sentence."""

    def test_two_weeks_show_the_hours_of_the_week(self) -> None:
        rates = np.arange(1, 169)
        cycle = measure(counts(np.tile(rates, 2))).cycle  # begins on a Monday at 00:00
        assert cycle.kind == "hour-of-week"
        assert cycle.rates == pytest.approx(rates / rates.mean(), abs=1e-4)
        assert "busiest Sun 23:00 UTC" in cycle.statement

    def test_monday_comes_first_whenever_the_log_begins(self) -> None:
        rates = np.ones(15 * 24)
        rates[24 + 9] = 100  # begins on a Thursday: Friday, 09:00
        cycle = measure(counts(rates, start=datetime(2026, 3, 5))).cycle
        assert int(np.argmax(cycle.rates)) == 4 * 24 + 9

    def test_three_days_show_the_hours_of_the_day(self) -> None:
        cycle = measure(counts(np.tile(np.arange(1, 25), 4))).cycle
        assert cycle.kind == "hour-of-day"
        assert cycle.rates == pytest.approx(np.arange(1, 25) / 12.5, abs=1e-4)
        assert "weekdays are not told apart" in cycle.statement

    @pytest.mark.parametrize("hours", [1, 30, 71])
    def test_less_shows_none(self, hours: int) -> None:
        cycle = measure(counts(np.ones(hours))).cycle
        assert cycle.kind == "none"
        assert cycle.rates == ()
        assert "show no daily cycle" in cycle.statement

    def test_counts_and_requests_agree(self) -> None:
        random = np.random.default_rng(5)
        at = np.sort(random.uniform(0, 15 * DAY, 20_000))
        hourly = np.bincount((at // HOUR).astype(int), minlength=15 * 24)
        one, other = measure(requests(at)), measure(counts(hourly))
        assert one.cycle.kind == other.cycle.kind == "hour-of-week"
        assert one.cycle.rates == other.cycle.rates
        assert one.volume.daily == other.volume.daily
        assert one.arrivals.hour_peak_to_mean == pytest.approx(other.arrivals.hour_peak_to_mean)

    @pytest.mark.parametrize(("step_s", "kind"), [(60, "hour-of-day"), (900, "hour-of-day"), (DAY, "none")])
    def test_counts_of_other_steps(self, step_s: int, kind: str) -> None:
        profile = measure(counts(np.full(5 * DAY // step_s, 7), step_s=step_s))
        assert profile.cycle.kind == kind
        assert profile.volume.requests_per_day == pytest.approx(7 * DAY / step_s)
        assert profile.arrivals.minute_peak_to_mean == (1 if step_s == 60 else None)
        assert profile.arrivals.hour_peak_to_mean == (None if step_s == DAY else 1)

    def test_weekly_counts_are_volume_and_no_more(self) -> None:
        profile = measure(counts([700, 1400, 700], step_s=7 * DAY))
        assert profile.volume.requests_per_day == pytest.approx(2800 / 21)
        assert profile.volume.daily == ()
        assert "too coarse" in profile.volume.trend.statement
        assert [n for _, n in profile.volume.series] == [700, 1400, 700]
        profile.figure()

    def test_hours_left_out_of_counts_are_empty_hours(self) -> None:
        log = counts([4, 0, 0, 8, 4, 4, 4])
        before = measure(log)
        log.connection.execute("DELETE FROM counts WHERE requests = 0")
        assert measure(log) == before


class TestArrivals:
    """Gaps and counts in windows."""

    def test_interarrival_cv_by_hand(self) -> None:
        # Gaps 1, 1, 4: mean 2, variance (1 + 1 + 4) / 3 = 2, CV sqrt(2) / 2.
        assert measure(requests([0, 1, 2, 6])).arrivals.interarrival_cv == pytest.approx(math.sqrt(2) / 2)

    def test_interarrival_cv_over_many_hours_is_exact(self) -> None:
        random = np.random.default_rng(6)
        at = np.cumsum(np.append(random.pareto(1.2, 5_000) * 20, np.zeros(50))).round(6)
        gaps = np.diff(at)
        assert at[-1] > 20 * HOUR
        assert measure(requests(at)).arrivals.interarrival_cv == pytest.approx(gaps.std() / gaps.mean(), rel=1e-7)

    def test_the_daily_cycle_is_taken_out_within_hours(self) -> None:
        # A metronome at 100 an hour and at 1,000 an hour in turn: within each hour nothing varies.
        at = np.concatenate([h * HOUR + HOUR / n * np.arange(n) for h in range(24) for n in [1000 if h % 2 else 100]])
        arrivals = measure(requests(at)).arrivals
        assert arrivals.interarrival_cv is not None
        assert arrivals.interarrival_cv > 1
        assert arrivals.interarrival_cv_within_hour == pytest.approx(0, abs=1e-3)

    def test_a_metronome_and_a_poisson_stream(self) -> None:
        metronome = measure(requests(np.arange(0, 3 * HOUR, 0.5))).arrivals
        assert metronome.interarrival_cv == pytest.approx(0, abs=1e-6)
        assert metronome.dispersion_1s == metronome.dispersion_60s == pytest.approx(0)
        assert metronome.minute_peak_to_mean == metronome.hour_peak_to_mean == 1
        poisson = measure(requests(np.sort(np.random.default_rng(7).uniform(0, 6 * HOUR, 40_000)))).arrivals
        for value in (
            poisson.interarrival_cv,
            poisson.interarrival_cv_within_hour,
            poisson.dispersion_1s,
            poisson.dispersion_10s,
            poisson.dispersion_60s,
        ):
            assert value == pytest.approx(1, abs=0.15)

    def test_dispersion_and_peaks_against_numpy(self) -> None:
        random = np.random.default_rng(8)
        at = np.sort(17.3 + random.gamma(0.1, 10, 9_000).cumsum())
        arrivals = measure(requests(at)).arrivals
        minutes = np.bincount((at // 60).astype(int))[1:-1]  # the ends are cut
        inside = at[(at >= 60) & (at < 60 * (len(minutes) + 1))] - 60
        for window, found in (
            (1, arrivals.dispersion_1s),
            (10, arrivals.dispersion_10s),
            (60, arrivals.dispersion_60s),
        ):
            n = np.bincount((inside // window).astype(int), minlength=len(minutes) * 60 // window)
            assert found == pytest.approx(n.var() / n.mean())
        assert arrivals.minute_peak_to_mean == pytest.approx(minutes.max() / minutes.mean())

    def test_gaps_longer_than_an_hour_are_in_the_distribution(self) -> None:
        # Gaps of 1 s, 1 s and 2 h: a third is at least (nearly) two hours.
        found = measure(requests([0, 1, 2, 7202])).arrivals.distribution
        assert [share for _, share in found] == pytest.approx([1, 1 / 3])
        assert 2 * HOUR / 2**0.25 < found[-1][0] <= 2 * HOUR

    def test_the_distribution_falls_from_one(self) -> None:
        found = measure(azure()).arrivals.distribution
        x, share = np.array(found).T
        assert (np.diff(x) > 0).all()
        assert (np.diff(share) < 0).all()
        assert share[0] == pytest.approx(1, abs=0.05)  # a few gaps are 0
        assert share[-1] > 0

    @pytest.mark.parametrize("at", [[5.0], [5.0, 5.0, 5.0], [0.0, 1.0]])
    def test_too_few_moments_stay_unknown(self, at: list[float]) -> None:
        profile = measure(requests(at))
        assert profile.arrivals.interarrival_cv is None
        assert profile.arrivals.dispersion_60s is None
        assert "arrivals" in str(profile)
        profile.figure()


class TestLengths:
    """Joint lengths and what is left out of them."""

    def test_reasoning_is_not_part_of_the_answer(self) -> None:
        profile = measure(requests([0, 1, 2], output_tokens=[100, 50, 10], reasoning_tokens=[80, None, 10]))
        assert profile.lengths is not None
        assert sorted(row[1] for row in profile.lengths.sample) == [0, 20, 50]
        assert profile.tokens.reasoning == 45  # of the two that log it

    def test_a_failed_request_has_no_length(self) -> None:
        profile = measure(requests([0, 1, 2], output_tokens=[100, 50, 0], failed=[False, None, True]))
        assert profile.lengths is not None
        assert profile.lengths.output.mean == 75

    def test_where_everything_failed_there_are_no_lengths(self) -> None:
        profile = measure(requests([0, 1, 2], failed=[True] * 3))
        assert profile.lengths is None
        with pytest.raises(InputError, match="input_tokens and output_tokens are missing"):
            profile.workload()

    def test_quantiles_and_cached_tokens(self) -> None:
        profile = measure(requests(np.arange(100), input_tokens=np.arange(1, 101), cached_tokens=np.arange(100)))
        assert profile.lengths is not None
        assert profile.lengths.input.quantile("p95") == 95
        assert profile.tokens.cached == 49.5
        assert profile.tokens.reasoning is None


class TestTexts:
    """Repeats, prefixes, failures."""

    def test_repeats_by_hand(self) -> None:
        prompts = ["Where is it?", "Where is it?", "where is it", "Order 17", "Order 18", "Where is it?"]
        repeats = measure(requests(np.arange(6), prompt=prompts)).repeats
        assert repeats.exact == pytest.approx(2 / 6)
        assert repeats.near_exact == pytest.approx(1 / 6)

    def test_a_prompt_that_failed_was_not_answered_before(self) -> None:
        repeats = measure(requests([0, 1], prompt=["a", "a"], failed=[True, False])).repeats
        assert repeats.exact == 0

    def test_hashes_alone_show_exact_repeats(self) -> None:
        profile = measure(requests(np.arange(4), prompt_hash=[7, 7, 8, 7]))
        assert profile.repeats.exact == 0.5
        assert profile.repeats.near_exact is None
        assert profile.prefixes is None

    def test_prompts_of_signs_only_are_not_all_the_same(self) -> None:
        assert measure(requests([0, 1], prompt=["?", "!"])).repeats.near_exact == 0

    def test_common_prefixes_by_hand(self) -> None:
        one, other = "a" * 300, "b" * 250
        prompts = [one + "x", one + "yy", one + "xz", other + "1", other + "2", "alone"]
        # Four characters a token, so that the families' prefixes are 75 and 62.5 tokens.
        profile = measure(requests(np.arange(6), prompt=prompts, input_tokens=[len(p) // 4 for p in prompts]))
        shared = profile.prefixes
        assert shared is not None
        assert shared.families == 2
        assert shared.share == pytest.approx(5 / 6)
        assert shared.mean_characters == pytest.approx((3 * 300 + 2 * 250) / 6)
        per_character = (75 * 3) / (301 + 302 + 302), (62 * 2) / 502
        tokens = 3 * 300 * per_character[0], 2 * 250 * per_character[1]
        assert shared.mean_tokens == pytest.approx(sum(tokens) / 6)
        assert shared.effective == pytest.approx(sum(tokens) ** 2 / sum(each**2 for each in tokens))
        assert [row[:2] for row in shared.largest] == [(3, 300), (2, 250)]

    def test_tokens_that_are_no_text_do_not_make_a_prefix_long(self) -> None:
        """Images and tools have tokens too: 250 characters are never more than 250 tokens."""
        profile = measure(requests([0, 1], prompt=["a" * 250 + "x", "a" * 250 + "y"], input_tokens=[9_000, 9_000]))
        assert profile.prefixes is not None
        assert profile.prefixes.mean_tokens == pytest.approx(250)

    def test_prompts_cut_by_litellm_have_the_tokens_per_character_of_whole_ones(self) -> None:
        cut = "a" * 400 + "... (litellm_truncated 90000 chars) ..." + "z" * 100
        whole = "a" * 400 + "bbbb"
        shared = measure(requests([0, 1], prompt=[cut, whole], input_tokens=[20_000, 101])).prefixes
        assert shared is not None
        assert shared.mean_tokens == pytest.approx(100)
        shared = measure(requests([0, 1], prompt=[cut, cut + "y"], input_tokens=[20_000, 20_000])).prefixes
        assert shared is not None
        assert shared.mean_tokens == pytest.approx(shared.mean_characters / 4)

    def test_a_prefix_ends_between_characters_not_bytes(self) -> None:
        # é and è share their first byte in UTF-8.
        shared = measure(requests([0, 1], prompt=["p" * 200 + "é", "p" * 200 + "è"])).prefixes
        assert shared is not None
        assert shared.mean_characters == 200

    def test_no_family_no_prefix(self) -> None:
        profile = measure(requests([0, 1], prompt=["a", "b"]))
        assert profile.prefixes is not None
        assert profile.prefixes.mean_tokens == 0
        assert profile.workload().cacheable_prefix_tokens == 0

    def test_retries_by_hand(self) -> None:
        rows = [
            (0, "a", True),  # fails, and
            (30, "a", False),  # is tried again: a retry
            (40, "a", False),  # after an answer: a repeat
            (100, "b", True),
            (161, "b", True),  # 61 s later: too late
            (221, "b", False),  # 60 s after that failure: a retry
            (300, "c", None),
        ]
        at, prompt, failed = (list(column) for column in zip(*rows, strict=True))
        failures = measure(requests(at, prompt=prompt, failed=failed)).failures
        assert failures.failed == 3 / 6
        assert failures.retries == pytest.approx(2 / 7)

    def test_unknown_stays_unknown(self) -> None:
        profile = measure(requests(np.arange(3)))
        assert profile.failures.failed is None
        assert profile.failures.retries is None
        assert profile.repeats.exact is None
        assert profile.tokens.cached is None
        assert measure(requests(np.arange(3), failed=[False] * 3)).failures.failed == 0


class TestModels:
    """Who was called and what was paid."""

    def test_by_hand(self) -> None:
        profile = measure(
            requests(
                np.arange(4),
                model=["x", "y", "x", None],
                input_tokens=[1, 2, 3, 4],
                output_tokens=[10, 20, 30, 40],
                cost_usd=[0.5, None, 0.25, None],
            )
        )
        use = {m.model: m for m in profile.models}
        assert [m.model for m in profile.models] == ["x", "y", None]
        assert (use["x"].requests, use["x"].input_tokens, use["x"].output_tokens, use["x"].cost_usd) == (2, 4, 40, 0.75)
        assert use["y"].cost_usd is None
        assert use["x"].cached_tokens is None


class TestTheRelation:
    """What is asked of, and left of, the connection."""

    @pytest.mark.parametrize("log", [lambda: requests(np.zeros(0)), lambda: counts([]), lambda: counts([0, 0])])
    def test_no_request_is_an_error(self, log: Any) -> None:
        with pytest.raises(InputError, match="no request"):
            measure(log())

    def test_a_view_does_and_nothing_is_left_behind(self) -> None:
        log = requests(np.arange(10), prompt=["p" * 300 + str(i) for i in range(10)], failed=[True, False] * 5)
        before = measure(log)
        log.connection.execute("ALTER TABLE requests RENAME TO stored; CREATE VIEW requests AS FROM stored")
        assert measure(log) == before
        tables = {row[0] for row in log.connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
        assert tables == {"stored"}

    def test_a_log_measured_in_parts_is_measured_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        random = np.random.default_rng(11)
        # Nights of some hours without a request, and a prompt for every three.
        at = np.sort(np.concatenate([day * DAY + random.uniform(0, 5 * HOUR, 300) for day in range(4)]))
        log = requests(at, prompt=[f"{k} {'x' * 250}" for k in random.integers(0, 400, len(at))])
        whole = measure(log)
        monkeypatch.setattr(timing, "SLICE_REQUESTS", 50)
        monkeypatch.setattr(texts, "PART_REQUESTS", 100)
        parts = measure(log)
        assert parts.arrivals.interarrival_cv == pytest.approx(whole.arrivals.interarrival_cv, rel=1e-12)
        assert parts.arrivals.interarrival_cv_within_hour == pytest.approx(whole.arrivals.interarrival_cv_within_hour)
        assert parts.arrivals.dispersion_10s == whole.arrivals.dispersion_10s
        assert parts.arrivals.distribution == whole.arrivals.distribution
        assert (parts.volume, parts.cycle, parts.repeats) == (whole.volume, whole.cycle, whole.repeats)

    @pytest.mark.parametrize(
        ("name", "stand_in"),
        [("AzureLLMInferenceTrace_code.csv", azure), ("burstgpt1_hourly_requests.csv", burstgpt)],
    )
    def test_the_stand_in_is_what_the_ingestion_makes(self, name: str, stand_in: Any) -> None:
        with ingest([traffic(name)]) as log:
            real = measure(log)
        expected = measure(stand_in())
        assert real.volume == expected.volume
        assert real.lengths == expected.lengths
        assert real.cycle == expected.cycle


moments = st.lists(st.integers(0, 10 * DAY * 1000), min_size=4, max_size=60)


def of(at: list[int], times: int = 1, scale: int = 1, order: Any = None) -> Any:
    """A log whose lengths, prompts and outcomes follow from the moments [ms]."""
    rows = sorted(at) * times if order is None else [sorted(at)[i] for i in order]
    ms = np.array(rows)
    return measure(
        requests(
            ms * scale / 1000,
            input_tokens=ms % 977 + 1,
            output_tokens=ms % 31,
            prompt=[f"{'q' * 220} {m % 7}" for m in rows],
            failed=[bool(m % 3 == 0) for m in rows],
            model=[str(m % 2) for m in rows],
        )
    )


@settings(max_examples=25)
@given(moments, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(at: list[int], random: Any) -> None:
    order = list(range(len(at)))
    random.shuffle(order)
    one, other = of(at, order=range(len(at))), of(at, order=order)
    for name in ("interarrival_cv", "interarrival_cv_within_hour"):  # sums of floats in another order
        values = [getattr(found.arrivals, name) for found in (one, other)]
        assert (values[0] is None) == (values[1] is None)
        assert values[0] is None or values[0] == pytest.approx(values[1], rel=1e-9, abs=1e-9)
    same = dict.fromkeys(("interarrival_cv", "interarrival_cv_within_hour"))
    one, other = (
        dataclasses.replace(found, arrivals=dataclasses.replace(found.arrivals, **same)) for found in (one, other)
    )
    assert one == other


@settings(max_examples=25)
@given(moments)
def test_every_row_twice_doubles_volume_and_leaves_shapes(at: list[int]) -> None:
    one, two = of(at), of(at, times=2)
    assert two.volume.requests == 2 * one.volume.requests
    assert two.lengths == one.lengths or two.lengths.input == one.lengths.input
    if one.lengths is not None:
        assert [row[2] for row in two.lengths.sample] == [2 * row[2] for row in one.lengths.sample]
    assert two.failures.failed == one.failures.failed
    assert two.repeats.exact is None or two.repeats.exact >= one.repeats.exact
    assert two.prefixes is None or two.prefixes.share == 1
    # Half of the gaps become 0: the mean halves, the mean square too, so 1 + CV^2 doubles (up to the ends).
    n = len(at)
    if one.arrivals.interarrival_cv is not None:
        expected = (1 + one.arrivals.interarrival_cv**2) * (2 * n - 1) / (n - 1)
        assert 1 + two.arrivals.interarrival_cv**2 == pytest.approx(expected, rel=1e-6)


@settings(max_examples=25)
@given(moments.filter(lambda at: max(at) > min(at)), st.sampled_from([2, 10, 60]))
def test_slower_time_scales_the_volume_and_leaves_the_cv(at: list[int], scale: int) -> None:
    one, slow = of(at), of(at, scale=scale)
    assert slow.volume.span_s == pytest.approx(scale * one.volume.span_s)
    assert slow.volume.requests_per_day == pytest.approx(one.volume.requests_per_day / scale)
    assert slow.arrivals.interarrival_cv == pytest.approx(one.arrivals.interarrival_cv)
    assert slow.lengths == one.lengths
