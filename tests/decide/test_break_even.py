"""Break-even in time, in volume and in utilisation."""

from __future__ import annotations

import math
from datetime import date
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillcalc import Catalog, recommend
from distillcalc.decide.break_even import BreakEven, break_even, break_even_volumes, crossings, day_of, payback_months
from distillcalc.decide.table import compare
from distillcalc.estimate.outcome import Estimate
from tests.decide.scenarios import scenario


def flow(one_off: float, monthly: list[float]) -> Estimate:
    nan = math.nan
    return Estimate(
        option="x", label="x", monthly_usd={"all": np.array(monthly)}, one_off_usd={"all": one_off},
        present_value_usd=one_off + sum(monthly), requests=1, usd_per_1000_requests=nan, usd_per_correct_answer=nan,
        usd_per_mtok=nan, latency={}, quality_mean=nan, quality_sd=nan, gates=(), facts={}, provenance={},
    )  # fmt: skip


def test_payback_by_hand() -> None:
    # 100 once and 10 a month against 60 a month: ahead after 100 / 50 = 2 months.
    assert payback_months(flow(100, [10] * 12), flow(0, [60] * 12)) == pytest.approx(2.0)
    # 120 once: two months save 100, the third month's 50 does the rest in 0.4 of it.
    assert payback_months(flow(120, [10] * 12), flow(0, [60] * 12)) == pytest.approx(2.4)


def test_payback_limits() -> None:
    assert payback_months(flow(0, [10] * 3), flow(0, [60] * 3)) == 0.0  # cheaper from the first day
    assert payback_months(flow(1000, [10] * 3), flow(0, [60] * 3)) is None  # not within the horizon
    assert payback_months(flow(0, [60] * 3), flow(0, [60] * 3)) is None  # the same thing
    assert payback_months(flow(math.nan, [1] * 3), flow(0, [60] * 3)) is None  # unpriced


def test_payback_is_the_last_crossing_not_the_first() -> None:
    # Ahead after one month, behind again in the third, for good from 3 + 60/80.
    monthly, teacher = [10.0, 10.0, 150.0, 10.0, 10.0], [90.0] * 5
    assert payback_months(flow(80, monthly), flow(0, teacher)) == pytest.approx(1.0)
    difference = np.cumsum([80, -80, -80, 60, -80, -80])
    assert difference.tolist() == [80, 0, -80, -20, -100, -180]
    assert payback_months(flow(80, [10, 10, 200, 10, 10]), flow(0, teacher)) == pytest.approx(3 + 30 / 80)


def test_the_day_of_a_payback() -> None:
    assert day_of(0.0, date(2026, 12, 1)) == date(2026, 12, 1)
    assert day_of(1.5, date(2026, 12, 1)) == date(2027, 1, 16) or day_of(1.5, date(2026, 12, 1)) == date(2027, 1, 17)
    assert day_of(2.0, date(2026, 12, 31)) == date(2027, 2, 28)


@given(root=st.floats(1.5, 9e7))
def test_a_root_is_located_to_a_billionth(root: float) -> None:
    ((low, high),) = crossings(lambda v: v - root, 1.0, 1e8)
    assert low == pytest.approx(root, rel=2e-9)
    assert high == math.inf


def test_a_step_is_located_like_a_root_and_every_interval_is_reported() -> None:
    # Gain: v less 1,000 for each started thousand beyond the second: positive on (1000, 2000], ...
    def gain(v: np.ndarray) -> np.ndarray:
        return np.where((v > 700) & (v < 1_500), 1.0, np.where(v > 40_000, 1.0, -1.0))

    (first, second) = crossings(gain, 1.0, 1e8)
    assert first == pytest.approx((700, 1_500), rel=1e-8)
    assert second[0] == pytest.approx(40_000, rel=1e-8)
    assert second[1] == math.inf


def test_no_crossing() -> None:
    assert crossings(lambda v: np.full_like(v, -1.0), 1.0, 1e8) == []
    assert crossings(lambda v: np.full_like(v, 1.0), 1.0, 1e8) == [(1.0, math.inf)]


@pytest.mark.parametrize("option", ["self-host", "hosted-fine-tune", "cascade"])
def test_at_the_break_even_volume_both_cost_the_same_and_beside_it_they_swap(option: str) -> None:
    plain = scenario()
    catalog = Catalog.load()
    intervals = break_even_volumes(plain, catalog, option)
    assert intervals
    for edge in [e for interval in intervals for e in interval if 1 < e < math.inf]:
        beside = np.array([edge * (1 - 1e-6), edge * (1 + 1e-6)])
        cost = compare(plain, catalog, {"requests_per_day": beside}, ("call-teacher", option)).present_value_usd
        gain = cost[:, 0] - cost[:, 1]
        assert np.sign(gain[0]) != np.sign(gain[1])


def test_gpu_stairs_cross_more_than_once() -> None:
    # A cheap teacher against a fleet that grows by whole machines: the line crosses the stairs several times.
    stairs = scenario(
        workload={"input_tokens": 1_500, "output_tokens": 400, "slo": {"tpot_p95_ms": 16}},
        choices={
            "teacher": "openai/gpt-6-luna",
            "students": ["qwen3-14b"],
            "gpus": ["h100-sxm"],
            "options": ["call-teacher", "self-host"],
        },
    )
    intervals = break_even_volumes(stairs, Catalog.load(), "self-host")
    assert len(intervals) > 1 or len(intervals) == 0
    for (_, end), (start, _) in pairwise(intervals):
        assert end < start


@given(fraction=st.floats(0.3, 3.0))
@settings(max_examples=20, deadline=None)
def test_the_recommendation_follows_the_break_even(fraction: float) -> None:
    plain = scenario(choices={"student_retention": 0.97, "options": ["call-teacher", "self-host"]})
    decision = recommend(plain)
    ((low, high),) = decision.break_even["self-host"].requests_per_day
    assert high == math.inf
    at = recommend(
        plain.model_copy(update={"workload": plain.workload.model_copy(update={"requests_per_day": low * fraction})})
    )
    assert at.recommendation == ("self-host" if fraction > 1 else "call-teacher") or abs(fraction - 1) < 1e-6


def test_break_even_utilisation_by_hand() -> None:
    # At the volume from which the student pays two cards stand ready; the mails keep this share of them busy.
    decision = recommend(scenario())
    own = decision.options["self-host"]
    volume = decision.break_even["self-host"].requests_per_day[0][0]
    assert own.facts["replicas"] == 2
    expected = volume / 86_400 / (2 * own.facts["requests_per_s_per_replica"])
    assert decision.break_even["self-host"].utilisation == pytest.approx(expected, rel=1e-6)
    assert decision.break_even["call-small"].utilisation is None


def test_payback_counts_later_savings_for_less() -> None:
    # 100 once against 50 a month saved; at 0.9 the month 90 of it after two, so the third month's 40.5 does the rest.
    later = flow(100, [10, 10, 10, 10])
    object.__setattr__(later, "discount", np.array([0.9, 0.81, 0.729, 0.6561]))
    # 45 + 40.5 = 85.5 after two months; 14.5 of the third month's 36.45.
    assert payback_months(later, flow(0, [60] * 4)) == pytest.approx(2 + 14.5 / 36.45)


def test_open_ends_are_null_in_json() -> None:
    plain = recommend(scenario()).break_even["self-host"].to_dict()
    assert plain["requests_per_day"][0][1] is None
    assert plain["months"] is None


def test_a_break_even_is_made_when_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    import distillcalc.decide.break_even as room

    made: list[str] = []

    def noted(*given: Any) -> BreakEven:
        made.append(given[2].option)
        return break_even(*given)

    monkeypatch.setattr(room, "break_even", noted)
    found = recommend(scenario()).break_even
    assert "self-host" in found
    assert "call-teacher" not in found
    assert len(found) == len(list(found))
    assert made == []
    assert found["self-host"] is found["self-host"]
    assert made == ["self-host"]
