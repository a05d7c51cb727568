"""When to start: by hand, and against the decision that it times."""

from __future__ import annotations

import numpy as np
import pytest

from distillcalc import recommend
from distillcalc.decide import timing
from distillcalc.decide.timing import _payback, _totals
from distillcalc.errors import InputError, MissingPrice
from distillcalc.workload.distributions import discrete
from distillcalc.workload.files import load_scenario
from tests.decide.scenarios import scenario


def test_totals_by_hand() -> None:
    """The big model 10 a month, the student 4, its making 7, then 5, then 3: start now 19, in a month 23, in two 27."""
    totals = _totals(np.full((1, 3), 4.0), np.full((1, 3), 10.0), np.array([[7.0, 5.0, 3.0]]))
    np.testing.assert_allclose(totals, [[19, 23, 27, 30]])


@pytest.mark.parametrize(("once", "start", "expected"), [(9.0, 0, 1.5), (9.0, 1, 2.5), (9.0, 2, None), (0.0, 1, 1.0)])
def test_payback_by_hand(once: float, start: int, expected: float | None) -> None:
    """6 are saved a month: 9 are paid back a month and a half after the start, if that is inside the three months."""
    assert _payback(np.full(3, 4.0), np.full(3, 10.0), once, start) == expected


def test_now_and_never_are_the_decision_s_own_figures() -> None:
    decision = recommend(load_scenario("support-triage"))
    when = timing(decision)
    assert when.option == "self-host"
    assert when.starts[0].present_value_usd == pytest.approx(decision.options["self-host"].present_value_usd, rel=1e-12)
    assert when.never.present_value_usd == pytest.approx(decision.options["call-teacher"].present_value_usd, rel=1e-12)
    assert when.starts[0].payback_months == pytest.approx(decision.payback_months())
    assert when.starts[0].cost_of_delay_usd == 0
    assert len(when.starts) == decision.scenario.workload.horizon_months + 1
    assert when.best.month == 0
    assert when.cost_of_delay_usd > 0
    assert when.probability_now is None


def test_a_growing_volume_is_worth_waiting_for() -> None:
    """Too little traffic today and much of it in a year: the best start lies between, and the big model serves till."""
    made = scenario(
        workload={"requests_per_day": 20_000, "growth_per_month": 0.12, "input_tokens": 900, "horizon_months": 24},
        choices={"options": ["call-teacher", "self-host"]},
    )
    when = timing(recommend(made), "self-host")
    assert 0 < when.best.month < 24
    assert when.best.present_value_usd < min(when.starts[0].present_value_usd, when.never.present_value_usd)
    assert when.first_to_pay is when.starts[0] or when.starts[0].payback_months is None
    assert when.cost_of_delay_usd < 0


def test_what_is_made_later_is_paid_at_later_prices() -> None:
    """GPUs at half the price each year: training in a year costs half; people cost what they cost."""

    def late(change: float) -> float:
        made = scenario(
            workload={"requests_per_day": 300_000, "horizon_months": 24},
            choices={
                "gpu_price_change_per_year": change,
                "options": ["call-teacher", "self-host"],
                "distillation": {"labels": 5_000_000, "engineering_hours": 0},
                "serving": {"operations_hours_per_month": 0},
            },
        )
        decision = recommend(made)
        one = decision.options["self-host"]
        when = timing(decision, "self-host")
        d = one.discount
        running = sum(one.monthly_total_usd[12:] * d[12:])
        before = sum(decision.options["call-teacher"].monthly_total_usd[:12] * d[:12])
        return float((when.starts[12].present_value_usd - running - before) / one.one_off_total_usd)

    made = scenario(choices={"distillation": {"labels": 5_000_000, "engineering_hours": 0}})
    once = recommend(made).options["self-host"].one_off_usd
    trained = (once["training"] + once["failed_runs"]) / sum(once.values())
    assert late(0.0) == pytest.approx(1.0)
    assert late(-0.5) == pytest.approx(1 - trained / 2)


def test_draws_are_split_between_now_later_and_never() -> None:
    made = scenario(
        workload={
            "requests_per_day": discrete([500, 20_000, 900_000]),
            "input_tokens": 900,
            "growth_per_month": 0.12,
            "horizon_months": 24,
        },
        choices={"options": ["call-teacher", "self-host"]},
    )
    when = timing(recommend(made, draws=512), "self-host")
    assert when.probability_now is not None
    shares = (when.probability_now, when.probability_later, when.probability_never)
    assert sum(s or 0.0 for s in shares) == pytest.approx(1)
    assert all(s is not None and s > 0.01 for s in shares)


def test_what_cannot_be_timed_is_refused() -> None:
    decision = recommend(scenario())
    with pytest.raises(InputError, match="option must be one of"):
        timing(decision, "call-teacher")
    with pytest.raises(InputError, match="'self_host'"):
        timing(decision, "self_host")
    with pytest.raises(MissingPrice):
        timing(decision, "self-host-teacher")
    with pytest.raises(InputError, match="ruled out by privacy"):
        timing(recommend(load_scenario("private-notes")))
    with pytest.raises(InputError, match="leave call-teacher among"):
        timing(recommend(scenario(choices={"options": ["self-host"]})), "self-host")
