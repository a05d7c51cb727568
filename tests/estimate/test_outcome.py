"""Outcomes over scenarios and the scalar estimate read out of one row."""

from __future__ import annotations

import json
import math
from datetime import date
from typing import Any

import numpy as np
import pytest

from distillcalc.errors import MissingPrice
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.outcome import LIKELY, Estimate, GateResult, Outcome, at, plain, row
from distillcalc.estimate.quality import Belief
from distillcalc.provenance import assumed, derived
from tests.estimate.tiny import scenario

MONTHS = 3
FLAT = np.ones((1, MONTHS))


def outcome(**changes: Any) -> Outcome:
    """Two scenarios: 10 USD a month each, and a second item of 1, 2, 3 or of nothing."""
    fields: dict[str, Any] = {
        "monthly_usd": {"tokens": np.array([[10.0]]), "gpus": np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])},
        "one_off_usd": {"labels": np.array([[100.0]]), "engineering": np.array([[4.0], [6.0]])},
        "latency": {"ttft_p95": np.array([[0.5]]), "tpot_p95": np.array([[0.02]]), "e2e_p95": np.array([[np.nan]])},
        "belief": Belief(np.array([[0.8], [0.5]]), np.array([[0.1]]), assumed("a test")),
        "tokens_per_request": np.array([[1100.0]]),
        "facts": {"replicas": np.array([[2.0]])},
        "provenance": {"tokens": derived("a formula")},
        "label_index": np.array([[0], [1]]),
        "months": MONTHS,
    }
    return Outcome("self-host", ("a on x", "a on y"), **fields | changes)


def estimate(of: Outcome | None = None, i: int = 0, **workload: Any) -> Estimate:
    return (of or outcome()).estimate(i, Inputs(scenario(workload)))


def gates(*verdicts: str, probability: float | None = None) -> list[GateResult]:
    found = [GateResult.of(f"g{i}", v, f"because {i}") for i, v in enumerate(verdicts)]  # type: ignore[arg-type]
    if probability is not None:
        odds = np.array([[probability]])
        found.append(GateResult("quality", np.zeros((1, 1), dtype=np.int8), lambda _: "odds", "", odds))
    return found


# --- sums ------------------------------------------------------------------------------------------------------------


def test_totals_by_hand() -> None:
    found = outcome()
    assert found.monthly_total_usd.tolist() == [[11, 12, 13], [10, 10, 10]]
    assert found.one_off_total_usd.tolist() == [[104], [106]]
    assert found.present_value_usd(FLAT).tolist() == [[140], [136]]  # 104 + 36, 106 + 30


def test_a_discount_applies_to_what_is_paid_later() -> None:
    # 104 + 11 x 0.9 + 12 x 0.8 + 13 x 0.7 = 132.6.
    discount = np.array([[0.9, 0.8, 0.7]])
    assert outcome().present_value_usd(discount)[0, 0] == pytest.approx(132.6)


def test_an_unpriced_option_is_never_free() -> None:
    nothing = Outcome("call-small", ("small model",), unpriced="no small model is known", months=MONTHS)
    assert np.isnan(nothing.monthly_total_usd).all()
    assert nothing.monthly_total_usd.shape == (1, MONTHS)
    assert np.isnan(nothing.present_value_usd(FLAT)).all()
    found = estimate(nothing)
    assert found.status == "unpriced"
    assert math.isnan(found.present_value_usd)
    assert math.isnan(found.usd_per_1000_requests)
    assert found.to_dict()["present_value_usd"] is None
    with pytest.raises(MissingPrice, match="call-small has no cash flow: no small model is known"):
        found.cash_flow()


def test_values_that_all_scenarios_share() -> None:
    assert at(np.array([[1.0, 2.0]]), 7, 1) == 2
    assert at(np.array([[1.0], [2.0]]), 1, 5) == 2
    assert row(np.array([[5.0]]), 3, 4).tolist() == [5, 5, 5, 5]
    assert row(np.array([[1.0, 2.0], [3.0, 4.0]]), 1, 2).tolist() == [3, 4]


# --- one scenario ----------------------------------------------------------------------------------------------------


def test_an_estimate_by_hand() -> None:
    # 140 USD over 90 days of 1,000 requests of 1,100 tokens, 0.8 of them right.
    found = estimate()
    assert found.label == "a on x"
    assert found.present_value_usd == 140
    assert found.requests == 90_000
    assert found.usd_per_1000_requests == pytest.approx(140 / 90)
    assert found.usd_per_correct_answer == pytest.approx(140 / 72_000)
    assert found.usd_per_mtok == pytest.approx(140 / 99)
    assert found.monthly_usd["tokens"].tolist() == [10, 10, 10]
    assert found.monthly_total_usd.tolist() == [11, 12, 13]
    assert found.one_off_total_usd == 104
    assert found.facts == {"replicas": 2}


def test_a_price_per_request_is_levelised() -> None:
    # Requests to come count as little as the money to come: of an option that only costs 0.01 USD a request, a
    # request costs 0.01 USD at any rate.
    x = Inputs(scenario({"discount_rate": 0.5, "growth_per_month": 0.3}))
    plain_cost = outcome(monthly_usd={"tokens": 0.01 * x.requests}, one_off_usd={}).estimate(0, x)
    assert plain_cost.usd_per_1000_requests == pytest.approx(10)
    assert plain_cost.requests == pytest.approx(31_000 + 40_300 + 47_320)
    # The middles of the months lie 0.5, 1.5 and 2.5 twelfths of a year out.
    factors = [1.5 ** (-(m + 0.5) / 12) for m in range(3)]
    assert plain_cost.discount.tolist() == pytest.approx(factors)
    assert plain_cost.present_value_usd == pytest.approx(
        sum(0.01 * n * f for n, f in zip(x.requests[0], factors, strict=True))
    )


def test_the_gate_that_holds_it_back_most() -> None:
    def odds(name: str, probability: float) -> GateResult:
        return GateResult(name, np.zeros((1, 1), dtype=np.int8), lambda _: "", "", np.array([[probability]]))

    assert estimate().worst_gate() == ""
    assert (
        estimate(outcome(gates=[*gates("unknown"), odds("quality", 0.6), odds("router", 0.5)])).worst_gate() == "router"
    )
    assert estimate(outcome(gates=[odds("quality", 0.6), *gates("unknown", "fail")])).worst_gate() == "g1"


def test_the_second_scenario_is_read_from_its_own_row() -> None:
    found = estimate(i=1)
    assert (found.label, found.present_value_usd, found.quality_mean) == ("a on y", 136, 0.5)
    assert found.quality_sd == 0.1  # shared


def test_latency_carries_its_unit_and_leaves_out_what_is_unknown() -> None:
    assert estimate().latency == {"ttft_p95_s": 0.5, "tpot_p95_ms": 20}


def test_cash_flow_starts_with_what_is_paid_before_the_first_request() -> None:
    flow = estimate().cash_flow()
    assert flow["total_usd"].tolist() == [104, 11, 12, 13]
    assert flow["labels"].tolist() == [100, 0, 0, 0]
    assert flow["month_start"].tolist() == [
        date(2026, 12, 1),
        date(2026, 12, 1),
        date(2027, 1, 1),
        date(2027, 2, 1),
    ]
    assert flow["total_usd"].sum() == estimate().present_value_usd


def test_plain_values_are_json() -> None:
    found = json.loads(json.dumps(estimate(outcome(gates=gates("pass", "unknown"))).to_dict(), allow_nan=False))
    assert found["present_value_usd"] == 140
    assert found["status"] == "provisional"
    assert found["quality"] == {"mean": 0.8, "sd": 0.1}
    assert [gate["verdict"] for gate in found["gates"]] == ["pass", "unknown"]
    assert found["provenance"]["tokens"] == {"kind": "derived", "source": "a formula"}
    assert (plain(float("inf")), plain(float("nan")), plain(2)) == (None, None, 2.0)


def test_plain_values_of_an_estimate_without_a_fleet() -> None:
    found = estimate(outcome(monthly_usd={"gpus": np.full((1, MONTHS), np.nan)})).to_dict()
    json.dumps(found, allow_nan=False)
    assert found["monthly_usd"]["gpus"] == [None, None, None]


# --- status ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdicts", "probability", "status"),
    [
        ((), None, "feasible"),
        (("pass", "pass"), None, "feasible"),
        (("pass", "unknown"), None, "provisional"),
        (("unknown", "fail"), None, "ruled-out"),
        (("pass",), LIKELY, "provisional"),
        (("pass",), LIKELY - 0.01, "unproven"),
        (("fail",), 0.01, "ruled-out"),
    ],
)
def test_how_far_the_gates_let_it_go(verdicts: tuple[str, ...], probability: float | None, status: str) -> None:
    found = outcome(gates=gates(*verdicts, probability=probability))
    assert estimate(found).status == status
    # The same over arrays: failed, unknown, likely.
    assert found.failed[0, 0] == (status == "ruled-out")
    assert found.likely[0, 0] == (status in ("feasible", "provisional"))
    assert found.unknown[0, 0] == ("unknown" in verdicts or probability is not None)


def test_a_gate_may_fail_in_some_scenarios_only() -> None:
    some = GateResult("slo", np.array([[1], [-1]], dtype=np.int8), lambda i: f"scenario {i}", "a table")
    found = outcome(gates=[some, *gates("pass")])
    assert found.failed.ravel().tolist() == [False, True]
    assert found.likely.ravel().tolist() == [True, False]
    assert [estimate(found, i).status for i in (0, 1)] == ["feasible", "ruled-out"]
    assert [gate.detail for gate in estimate(found, 1).failing()] == ["scenario 1"]


def test_open_questions_are_the_unknown_gates() -> None:
    found = estimate(outcome(gates=gates("unknown", "pass", "fail")))
    assert [gate.name for gate in found.open_questions()] == ["g0"]
    assert [gate.name for gate in found.failing()] == ["g2"]
    assert found.open_questions()[0].to_dict() == {
        "name": "g0",
        "verdict": "unknown",
        "detail": "because 0",
        "source": "",
        "probability": None,
    }


def test_provenance_is_carried_along() -> None:
    found = estimate(outcome(provenance={"tokens": assumed("a guess")}))
    assert str(found.provenance["tokens"]) == "assumed: a guess"
