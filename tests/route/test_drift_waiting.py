"""Dollars a day of waiting, worked out by hand."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from distillcalc.errors import InputError
from distillcalc.route.drift import Advice, Drift, Test
from distillcalc.route.waiting import Prices, waiting


def measured(name: str, calibrated: float, recent: float, low: float, high: float, n: int = 1000) -> Test:
    return Test(
        name, n, calibrated, recent, low, high, 1.0, 0.0, 100.0, None, None, None, n, recent, low, high, calibrated
    )  # fmt: skip


def drift(advice: Advice = "recalibrate", *, labelled: int = 1000, floor: bool = True) -> Drift:
    tests = [measured("escalation rate", 0.2, 0.35, 0.3, 0.4), measured("scores", 0.5, 0.4, 0.35, 0.45)]
    if floor:
        tests.append(measured("quality", 0.9, 0.88, 0.85, 0.91, labelled))
    return Drift(advice, (), tuple(tests), 1000, 0, 0, float("nan"), 10_000.0, 0.05)


PRICES = Prices(0.01, wrong_answer_usd=0.5, labels=400, label_usd=0.25, hours=4, hour_usd=80, redistill_usd=9000)


def test_a_day_and_the_payback_by_hand() -> None:
    found = waiting(drift(), PRICES)
    # (0.35 - 0.2) x 10,000 x $0.01 = $15 (0.3: $10, 0.4: $20)
    # (0.9 - 0.88) x 10,000 x $0.50 = $100 (0.91: $0, 0.85: $250)
    assert (found.escalations_usd, found.escalations_low, found.escalations_high) == pytest.approx((15, 10, 20))
    assert (found.wrong_usd, found.wrong_low, found.wrong_high) == pytest.approx((100, 0, 250))
    assert found.remedy_usd == 420  # 400 x $0.25 + 4 x $80
    assert found.payback_days == pytest.approx(420 / 115)
    assert str(found) == (
        "waiting costs $115 a day ($10.00 to $270); recalibrating costs $420 and pays back in 4 days."
    )  # fmt: skip


def test_a_new_student_pays_back_later() -> None:
    found = waiting(drift("re-distill"), PRICES)
    assert found.payback_days == pytest.approx(9000 / 115)
    assert "re-distilling costs $9,000 and pays back in 78 days" in str(found)
    unknown = waiting(drift("re-distill"), dataclasses.replace(PRICES, redistill_usd=None))
    assert math.isnan(unknown.payback_days)
    assert "re-distilling has no price" in str(unknown)
    assert unknown.to_dict()["payback_days"] is None
    json.dumps(unknown.to_dict(), allow_nan=False)


def test_what_has_no_price_is_said_and_not_taken_for_free() -> None:
    for one, prices, why in (
        (drift(labelled=0), PRICES, "none was labelled"),
        (drift(floor=False), PRICES, "no floor was certified"),
        (drift(), dataclasses.replace(PRICES, wrong_answer_usd=None), "what one costs was not given"),
    ):
        found = waiting(one, prices)
        assert math.isnan(found.wrong_usd)
        assert found.usd_per_day == pytest.approx(15)
        assert why in str(found)


def test_fewer_escalations_save_nothing_here_and_a_remedy_then_never_pays_back() -> None:
    one = drift()
    lower = dataclasses.replace(
        one, tests=(measured("escalation rate", 0.2, 0.1, 0.08, 0.12), measured("quality", 0.9, 0.95, 0.93, 0.97))
    )
    found = waiting(lower, PRICES)
    assert found.usd_per_day == 0
    assert math.isinf(found.payback_days)
    assert "does not pay back" in str(found)
    assert waiting(dataclasses.replace(lower, advice="nothing"), PRICES).remedy is None


def test_cost_scales_with_requests_and_prices() -> None:
    twice = waiting(drift(), dataclasses.replace(PRICES, requests_per_day=20_000))
    assert twice.usd_per_day == pytest.approx(230)
    assert twice.requests_per_day == 20_000


def test_bad_prices_and_a_log_without_times() -> None:
    with pytest.raises(InputError, match="teacher_usd must be 0 or more"):
        Prices(-0.1)
    with pytest.raises(InputError, match="give requests_per_day"):
        waiting(dataclasses.replace(drift(), requests_per_day=float("nan")), PRICES)
