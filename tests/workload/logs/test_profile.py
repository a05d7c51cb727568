"""How a profile prints and draws, and the Workload that it makes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distillcalc import Workload
from distillcalc.errors import InputError
from distillcalc.workload.logs.measure import measure
from distillcalc.workload.logs.profile import WorkloadProfile
from tests.workload.logs.relations import azure, burstgpt, counts, requests

SECRET = "my account number is secret"


def full() -> WorkloadProfile:
    """Four weeks with everything logged."""
    random = np.random.default_rng(9)
    n = 6_000
    at = np.sort(random.uniform(0, 28 * 86_400, n))
    system = "You are a kind support agent of the shop. " * 40
    prompts = [f"{system}{SECRET} {k}" for k in random.integers(0, 3_000, n)]
    log = requests(
        at,
        input_tokens=[len(p) // 4 for p in prompts],
        output_tokens=random.lognormal(5, 0.8, n).astype(int) + 40,
        reasoning_tokens=random.integers(0, 41, n),
        cached_tokens=random.integers(0, 400, n),
        prompt=prompts,
        failed=random.random(n) < 0.02,
        model=random.choice(["openai/gpt-6-sol", "<script>alert('$x$')</script>"], n),
        cost_usd=random.random(n) / 100,
    )
    log.notes = ["the clock ran backwards 3 times & was sorted"]
    log.rows_read, log.rows_rejected, log.reject_reasons = n + 2, 2, {"negative tokens": 2}
    return measure(log)


@pytest.fixture(scope="module")
def profile() -> WorkloadProfile:
    return full()


class TestWorkload:
    """From profile to Workload."""

    def test_every_measured_field_arrives_with_its_provenance(self, profile: WorkloadProfile) -> None:
        workload = profile.workload(name="support", horizon_months=12)
        assert profile.lengths is not None
        assert profile.prefixes is not None
        assert profile.failures.failed is not None
        assert profile.volume.requests_per_day is not None
        assert workload.name == "support"
        assert workload.horizon_months == 12
        assert workload.requests_per_day == pytest.approx(
            profile.volume.requests_per_day * (1 - profile.failures.failed)
        )
        assert workload.mean_input_tokens == pytest.approx(profile.lengths.input.mean)
        assert workload.mean_output_tokens == pytest.approx(profile.lengths.output.mean)
        assert workload.hour_of_week == profile.cycle.rates
        assert workload.interarrival_cv == profile.arrivals.interarrival_cv
        assert workload.cacheable_prefix_tokens == pytest.approx(profile.prefixes.mean_tokens)
        assert workload.distinct_prefixes == pytest.approx(1)
        assert workload.reasoning_tokens == profile.tokens.reasoning
        for name in (
            "requests_per_day",
            "hour_of_week",
            "interarrival_cv",
            "length_sample",
            "cacheable_prefix_tokens",
            "distinct_prefixes",
            "reasoning_tokens",
        ):
            assert profile.provenance[name].kind == "measured"
            assert "test log" in profile.provenance[name].source

    def test_what_the_log_cannot_tell_is_assumed_and_says_why(self) -> None:
        origins = measure(azure()).provenance
        for name, why in {
            "growth_per_month": "too short",
            "hour_of_week": "57 minutes of log show no daily cycle",
            "cacheable_prefix_tokens": "neither texts nor cached tokens",
            "reasoning_tokens": "not logged",
        }.items():
            assert origins[name].kind == "assumed"
            assert why in origins[name].source

    def test_given_fields_win(self, profile: WorkloadProfile) -> None:
        given = {"requests_per_day": 5, "input_tokens": 900, "output_tokens": 60, "cacheable_prefix_tokens": 10}
        workload = profile.workload(**given)
        assert workload.length_sample is None
        assert (workload.requests_per_day, workload.mean_input_tokens) == (5, 900)
        origins = profile.provenance_of(**given)
        assert origins["requests_per_day"].kind == origins["input_tokens"].kind == "given"
        assert "length_sample" not in origins
        assert origins["reasoning_tokens"].kind == "measured"

    def test_counts_need_lengths_from_the_caller(self) -> None:
        found = measure(burstgpt())
        with pytest.raises(InputError, match="input_tokens and output_tokens are missing: this log holds only counts"):
            found.workload()
        with pytest.raises(InputError, match="output_tokens is missing"):
            found.workload(input_tokens=900)
        workload = found.workload(input_tokens=900, output_tokens={"mean": 60, "p95": 120})
        assert workload.interarrival_cv == 1
        assert len(workload.hour_of_week) == 168
        assert found.provenance["interarrival_cv"].kind == "assumed"

    def test_a_field_that_cannot_be_right_is_named(self, profile: WorkloadProfile) -> None:
        with pytest.raises(InputError, match="horizon_months"):
            profile.workload(horizon_months=0)
        with pytest.raises(InputError, match="unknown field horizon_month"):
            profile.workload(horizon_month=3)

    def test_one_moment_has_no_rate(self) -> None:
        found = measure(requests([3.0]))
        with pytest.raises(InputError, match="requests_per_day is missing"):
            found.workload()
        assert found.workload(requests_per_day=2_000).requests_per_day == 2_000

    def test_growth_is_used_where_the_interval_excludes_none_and_carried_to_the_end(self) -> None:
        # 1% a day over 60 days from 24,000: at the end 24,000 e^(0.01 x 60) = 43,731 a day.
        hours = np.arange(60 * 24)
        found = measure(counts(np.round(1000 * np.exp(0.01 * (hours + 0.5) / 24))))
        workload = found.workload(input_tokens=1, output_tokens=1, horizon_months=6)
        assert found.volume.trend.verdict == "growth"
        assert workload.growth_per_month == pytest.approx(np.exp(0.01 * 365.25 / 12) - 1, rel=0.01)
        assert workload.requests_per_day == pytest.approx(24_000 * np.exp(0.6), rel=0.01)
        assert "excludes 0" in found.provenance["growth_per_month"].source
        assert "to the end of the log" in found.provenance["requests_per_day"].source

    def test_a_wide_interval_around_none_is_not_growth(self) -> None:
        random = np.random.default_rng(10)
        found = measure(counts(np.repeat(random.lognormal(4, 1, 20), 24)))
        assert found.volume.trend.verdict == "open"
        assert found.workload(input_tokens=1, output_tokens=1).growth_per_month == 0
        assert "wide" in found.provenance["growth_per_month"].source

    def test_three_days_fill_the_week(self) -> None:
        workload = measure(counts(np.tile(np.arange(1, 25), 4))).workload(input_tokens=1, output_tokens=1)
        assert workload.hour_of_week[:24] == workload.hour_of_week[-24:]

    def test_cached_tokens_stand_in_for_texts(self) -> None:
        found = measure(requests(np.arange(4), cached_tokens=[0, 50, 50, 60]))
        assert found.workload().cacheable_prefix_tokens == 40
        assert "cached tokens per request as logged" in found.provenance["cacheable_prefix_tokens"].source

    def test_where_prompts_are_all_the_same_the_whole_prompt_is_shared(self) -> None:
        workload = measure(requests(np.arange(7), prompt=["same" * 99] * 7, input_tokens=[101] * 7)).workload()
        assert workload.cacheable_prefix_tokens == pytest.approx(101)

    def test_counted_tokens_are_said_to_be(self) -> None:
        log = requests(np.arange(4))
        log.token_source = "counted"
        assert "counted from the texts" in measure(log).provenance["length_sample"].source

    def test_it_saves_and_loads(self, profile: WorkloadProfile, tmp_path: Path) -> None:
        workload = profile.workload()
        assert Workload.load(workload.save(tmp_path / "w.toml")) == workload
        assert SECRET not in (tmp_path / "w.toml").read_text()


class TestPrinting:
    """Text, HTML, JSON: the same rows, nothing from the prompts."""

    def test_text(self, profile: WorkloadProfile) -> None:
        text = str(profile)
        assert text.startswith("6,000 requests in 28 days, 2026-03-02")
        for what in (
            "6,002 read, 6,000 used, 2 rejected",
            "2 negative tokens",
            "interarrival CV",
            "hour-of-week",
            "USD",
        ):
            assert what in text
        assert "the clock ran backwards" in text
        assert repr(profile).startswith("<WorkloadProfile: 6,000 requests")

    def test_html_is_escaped(self, profile: WorkloadProfile) -> None:
        html = profile._repr_html_()
        assert "<script>" not in html
        assert "&lt;script&gt;" in html
        assert "backwards 3 times &amp; was sorted" in html

    def test_no_text_of_a_prompt_is_kept(self, profile: WorkloadProfile) -> None:
        for rendering in (str(profile), profile._repr_html_(), json.dumps(profile.to_dict())):
            assert "account number" not in rendering
            assert "kind support agent" not in rendering

    def test_json(self, profile: WorkloadProfile) -> None:
        for found in (profile, measure(burstgpt()), measure(requests([3.0]))):
            back = json.loads(json.dumps(found.to_dict(), allow_nan=False))
            assert back["volume"]["requests"] == found.volume.requests
            assert back["provenance"]["growth_per_month"]["kind"] in ("measured", "assumed")
        plain = profile.to_dict()
        assert plain["volume"]["first"].startswith("2026-03-02T")
        assert set(plain) == {f.name for f in dataclasses.fields(WorkloadProfile)} | {"provenance"}

    def test_it_is_frozen(self, profile: WorkloadProfile) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            profile.models = ()  # type: ignore[misc]

    def test_many_models_are_summed_up(self) -> None:
        found = measure(requests(np.arange(20), model=[f"m{i}" for i in range(20)]))
        assert "and 12 more" in str(found)


class TestFigure:
    """Four panels, each labelled or with a sentence."""

    @staticmethod
    def panels(found: WorkloadProfile) -> list[Any]:
        figure = found.figure()
        figure.canvas.draw()
        return [ax for ax in figure.axes if ax.get_title(loc="left")]

    def test_all_four_are_labelled(self, profile: WorkloadProfile) -> None:
        panels = self.panels(profile)
        assert [ax.get_title(loc="left").split(":")[0] for ax in panels] == [
            "Volume",
            "Lengths",
            "Arrivals",
            "Repeats and failures",
        ]
        for ax in panels:
            assert ax.get_xlabel()
            assert ax.get_ylabel() or ax.get_yticklabels()
        assert "[tokens]" in panels[1].get_xlabel()
        assert "[%]" in panels[3].get_xlabel()

    @pytest.mark.parametrize(
        ("log", "empty", "why"),
        [
            (azure, 3, "neither prompts nor outcomes"),
            (burstgpt, 1, "no token counts"),
            (lambda: requests([3.0]), 0, "one window"),
            (lambda: requests([3.0]), 2, "Too few requests"),
        ],
    )
    def test_an_empty_panel_says_why(self, log: Any, empty: int, why: str) -> None:
        ax = self.panels(measure(log()))[empty]
        assert any(why in text.get_text() for text in ax.texts)

    def test_it_saves(self, profile: WorkloadProfile, tmp_path: Path) -> None:
        profile.figure().savefig(tmp_path / "profile.png")
        assert (tmp_path / "profile.png").stat().st_size > 10_000
