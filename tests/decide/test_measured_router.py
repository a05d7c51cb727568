"""A measured router in a decision: its threshold is picked with cost, quality and latency together."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from distillcalc import Catalog, Scenario, recommend
from distillcalc.decide.boundary import boundary
from distillcalc.decide.explain import explain
from distillcalc.decide.relaxing import relaxations
from distillcalc.decide.render import certified_cascades
from distillcalc.decide.sweep import sweep
from distillcalc.decide.table import Block, compared, evaluate
from distillcalc.decide.tipping import tipping_points
from distillcalc.decide.uncertainty import Uncertainty
from distillcalc.errors import InputError
from distillcalc.estimate.inputs import Inputs, with_inputs
from distillcalc.estimate.outcome import Estimate, Outcome, at
from distillcalc.workload.distributions import uniform
from tests.decide.scenarios import TEACHER, scenario
from tests.estimate.routers import drawn, router

CATALOG = Catalog.load()
THRESHOLDS = (0.8, 0.6, 0.45, 0.3, 0.2, 0.1)
BOTH = ("call-teacher", "cascade")


def measured(items: int = 4_000, **changed: Any) -> dict[str, Any]:
    """The student is right in 80% alone, the teacher in 95%; 0.6 of the scores are below 0.6, and so on."""
    tuning, _ = drawn(items, 1, THRESHOLDS)
    certifying, student = drawn(items, 2, THRESHOLDS)
    made = router(
        certifying, tuning, student="qwen3-4b", teacher=TEACHER, threshold=list(THRESHOLDS), student_right=student
    )
    return made | changed


def one_threshold(made: dict[str, Any], i: int) -> dict[str, Any]:
    """The same router with one of its thresholds."""
    parts = {
        name: made[name] | {key: [made[name][key][i]] for key in ("escalated", "gained", "lost")}
        for name in ("tuning", "certifying")
    }
    return made | parts | {"threshold": [made["threshold"][i]]}


def case(
    made: dict[str, Any] | None = None, workload: dict[str, Any] | None = None, options: Any = BOTH, **choices: Any
) -> Scenario:
    return scenario(
        workload=workload, choices={"routing": {"measured": made or measured()}, "options": list(options), **choices}
    )


def evaluated(made: Scenario) -> Block:
    return evaluate(Inputs(made), CATALOG, compared(made))


def picked(made: Scenario) -> Estimate:
    return evaluated(made).estimate("cascade")


@pytest.mark.parametrize("kind", ["cascade", "router"])
@pytest.mark.parametrize(
    "workload",
    [
        {"quality": {"floor": 0.9}},
        {"quality": {"floor_relative_to_teacher": 0.97, "confidence": 0.95}},
        {"quality": {"floor": 0.85}, "wrong_answer_usd": 0.01},
        {"quality": {"floor": 0.88}, "requests_per_day": 3_000_000},
        {"quality": {"floor": 0.84}, "slo": {"e2e_p95_s": 1.5}, "wrong_answer_usd": 0.02},
    ],
)
def test_the_threshold_picked_is_the_cheapest_of_those_that_pass(kind: str, workload: dict[str, Any]) -> None:
    made = measured(kind=kind)
    whole = evaluated(case(made, workload))
    alone = [evaluated(case(one_threshold(made, i), workload)) for i in range(len(THRESHOLDS))]
    passing = [block for block in alone if block.eligible["cascade"][0]]
    assert passing
    best = min(passing, key=lambda block: float(block.present_value_usd["cascade"][0]))
    assert whole.estimate("cascade").label == best.estimate("cascade").label
    assert float(whole.present_value_usd["cascade"][0]) == pytest.approx(float(best.present_value_usd["cascade"][0]))


def test_the_dearest_wrong_answers_make_more_be_sent_on() -> None:
    rates = [
        picked(case(workload={"quality": {"floor": 0.8}, "wrong_answer_usd": usd})).facts["escalation_rate"]
        for usd in (0.0, 0.003, 1.0)
    ]
    assert rates[0] < rates[1] < rates[2]


@pytest.mark.parametrize("kind", ["cascade", "router"])
def test_a_sweep_of_many_thresholds_says_what_each_scenario_says_alone(kind: str) -> None:
    # More thresholds than are looked at: which ones a scenario looks at must not depend on its neighbours in the sweep.
    many = tuple(np.linspace(0.9, 0.05, 40).tolist())
    tuning, _ = drawn(3_000, 3, many)
    certifying, student = drawn(3_000, 4, many)
    made = measured(kind=kind) | {
        "threshold": list(many),
        "tuning": tuning,
        "certifying": certifying,
        "student_right": student,
    }
    floors, usd = np.linspace(0.78, 0.94, 9), np.array([0, 0, 0.001, 0.003, 0, 0.01, 0, 1, 0])
    rows = sweep(case(made), {"floor": floors, "wrong_answer_usd": usd}, catalog=CATALOG)
    rows = rows[rows.option == "cascade"]
    for floor, each, (_, row) in zip(floors, usd, rows.iterrows(), strict=True):
        alone = picked(case(made, {"quality": {"floor": float(floor)}, "wrong_answer_usd": float(each)}))
        assert row.label == alone.label
        assert row.status == alone.status
        assert row.present_value_usd == pytest.approx(alone.present_value_usd)


@pytest.mark.parametrize("kind", ["cascade", "router"])
@pytest.mark.parametrize("name", ["floor", "floor_relative_to_teacher"])
def test_a_tighter_floor_never_sends_fewer_on(kind: str, name: str) -> None:
    made = measured(kind=kind)
    floors = np.linspace(0.78, 0.92, 8)
    blocks = [evaluated(case(made, {"quality": {name: float(floor)}})) for floor in floors]
    assert all(block.eligible["cascade"][0] for block in blocks)
    rates = [block.estimate("cascade").facts["escalation_rate"] for block in blocks]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]


def test_an_objective_on_latency_bounds_what_is_sent_on() -> None:
    # At a floor of 0.84 wrong answers make much be sent on, and each that is sent on waits for both.
    free, bound = (
        picked(case(workload={"quality": {"floor": 0.8}, "wrong_answer_usd": 1.0, "slo": slo}))
        for slo in ({}, {"e2e_p50_s": 0.3})
    )
    assert bound.facts["escalation_rate"] < free.facts["escalation_rate"]
    assert {gate.name: gate.verdict for gate in bound.gates}["slo"] == "pass"


def test_a_decision_tells_the_threshold_and_the_rate() -> None:
    decision = recommend(case(workload={"quality": {"floor": 0.9}, "requests_per_day": 2_000_000}))
    assert decision.recommendation == "cascade"
    estimate = decision.options["cascade"]
    rate, threshold = estimate.facts["escalation_rate"], estimate.facts["threshold"]
    assert threshold in THRESHOLDS
    words = f"for {rate:.0%} (margin < {threshold:g})"
    assert words in estimate.label
    said = str(decision)
    assert words in said
    assert f"router: {rate:.1%} of requests go to the big model; margin >= {threshold:g} is certified on 4,000" in said
    plain = json.loads(decision.to_json())["options"]["cascade"]
    assert plain["facts"]["threshold"] == threshold
    assert plain["provenance"]["escalation_rate"]["kind"] == "measured"
    assert not any("No model has been measured" in warning for warning in decision.warnings)
    assert words in explain(decision)


def test_few_items_leave_the_router_open_and_say_how_many_more() -> None:
    decision = recommend(case(measured(60), {"quality": {"floor": 0.86}}))
    told = next(gate for gate in decision.options["cascade"].gates if gate.name == "router")
    assert told.verdict == "unknown"
    assert told.probability is not None
    assert 0.75 < told.probability < 0.9
    assert "is not certified on 60 labelled items" in told.detail
    assert "more labelled items would certify it" in told.detail


def test_the_escalation_rate_of_a_measured_router_is_no_input() -> None:
    made = case(workload={"quality": {"floor": 0.9}})
    assert "escalation_rate" not in {point.input for point in tipping_points(made, CATALOG)}
    with pytest.raises(InputError, match="the router is measured"):
        with_inputs(made, {"escalation_rate": 0.3})
    with pytest.raises(InputError, match="apgr cannot be swept"):
        sweep(made, {"apgr": [0.5, 0.7]}, catalog=CATALOG)


def test_a_map_over_the_escalation_rate_stands_on_the_measured_curve() -> None:
    made = case(workload={"quality": {"floor": 0.9}})
    found = boundary(made, "escalation_rate", "requests_per_day", catalog=CATALOG, points=5)
    assert found.point[0] == pytest.approx(picked(made).facts["escalation_rate"])
    rows = sweep(made, {"escalation_rate": [0.0, 1.0]}, catalog=CATALOG)
    quality = rows[rows.option == "cascade"].quality_mean.to_numpy()
    # 2 + 4,000 items: the student's right ones and the teacher's, where nothing and everything is sent on.
    router_counts = measured()
    wanted = [router_counts["student_right"], router_counts["certifying"]["teacher_right"]]
    own = evaluated_at(made, [0.0, 1.0])
    np.testing.assert_allclose(own.quality_mean[:, 0], (1 + np.array(wanted)) / 4_002)
    assert quality[1] == pytest.approx((1 + wanted[1]) / 4_002)


def evaluated_at(made: Scenario, rates: list[float]) -> Outcome:
    return evaluate(Inputs(made, {"escalation_rate": rates}), CATALOG, compared(made)).candidates["cascade"][0]


def test_a_router_in_doubt_is_to_be_measured_on_more_items() -> None:
    # Nothing but cascades is compared, and none is likely enough: give the router or lower the floor.
    made, bare = (
        scenario(
            workload={"quality": {"floor": 0.8}, "private": True},
            choices={
                "options": ["cascade"],
                "routing": routing,
                "evaluations": {"qwen3-4b": {"correct": 95, "total": 100}},
            },
        )
        for routing in ({"measured": measured(student="qwen3-8b")}, {})
    )
    for one, words in (
        (made, "measure the router on more labelled items of this student"),
        (bare, "measure a router on labelled items, or state its escalation rate"),
    ):
        assert any(words in str(found) for found in relaxations(one, CATALOG))


def test_draws_stand_for_the_candidates_that_the_decision_shows() -> None:
    made = case(workload={"quality": {"floor": 0.9}, "requests_per_day": uniform(5_000, 20_000)})
    decision = recommend(made, draws=256)
    assert decision.drawn is not None
    assert decision.options["cascade"].label == decision.drawn.options["cascade"].label
    labels = [one.label for one in decision.drawn.drawn.alternatives if one.option == "cascade"]
    assert labels == [estimate.label for estimate in decision.candidates["cascade"]]


def test_a_floor_that_is_a_distribution_is_certified_draw_by_draw() -> None:
    # Where the floor of a draw is beyond what is certified the drawn quality decides.
    made = case(workload={"quality": {"floor": uniform(0.8, 0.96)}})
    u = Uncertainty.of(made, catalog=CATALOG, draws=512)
    own = [a for a, one in enumerate(u.drawn.alternatives) if "margin" in one.label]
    shares = [float(np.mean(u.drawn.gates[a]["router"])) for a in own]
    assert shares == sorted(shares)  # more sent on, more floors met
    assert 0 < shares[0] < shares[-1] < 1
    for a in own:
        held = u.drawn.gates[a]
        assert (held["router"] >= held["quality"]).all()


def test_a_tornado_shows_the_quality_behind_the_router() -> None:
    made = case(workload={"quality": {"floor": 0.9}, "requests_per_day": 2_000_000})
    u = Uncertainty.of(made, catalog=CATALOG, draws=256)
    assert u.recommendation == "cascade"
    swing = next(one for one in u.tornado if one.input == "quality behind the router")
    assert 0.8 < swing.values[0] < swing.values[1] < 0.96


def test_the_odds_of_a_threshold_are_the_share_of_draws_in_which_it_is_good_enough() -> None:
    made = case(measured(200), {"quality": {"floor": 0.88}})
    drawn_ones = Uncertainty.of(made, catalog=CATALOG, draws=1_024).drawn
    shown = {estimate.label: estimate for estimate in recommend(made).candidates["cascade"]}
    compared_ones = 0
    for a, one in enumerate(drawn_ones.alternatives):
        if one.option != "cascade" or "margin" not in one.label:
            continue
        chance = next(gate.probability for gate in shown[one.label].gates if gate.name == "quality")
        assert float(np.mean(drawn_ones.gates[a]["quality"])) == pytest.approx(chance, abs=0.01)
        compared_ones += 1
    assert compared_ones >= 3


def test_thresholds_of_one_router_are_good_together() -> None:
    made = case(measured(200), {"quality": {"floor": 0.88}})
    drawn_ones = Uncertainty.of(made, catalog=CATALOG, draws=256).drawn
    own = [a for a, one in enumerate(drawn_ones.alternatives) if "margin" in one.label]
    ranks = np.argsort(np.argsort(drawn_ones.quality[:, own], axis=0), axis=0)
    assert (ranks == ranks[:, :1]).all()


def test_a_router_that_was_measured_on_another_student_is_told_beside_the_cascade() -> None:
    made = case(measured(student="qwen3-8b"))
    found = evaluate(Inputs(made), CATALOG, compared(made)).candidates["cascade"][0]
    bare = evaluated(scenario(choices={"options": list(BOTH)})).candidates["cascade"][0]
    assert at(found.present_value_usd(np.ones((1, 12))), 0) == at(bare.present_value_usd(np.ones((1, 12))), 0)
    words = next(gate.detail(0) for gate in found.gates if gate.name == "router")
    assert words.startswith("the router was measured on qwen3-8b, not on qwen3-4b")


def test_a_threshold_that_is_likely_stands_beside_the_one_that_is_certified() -> None:
    decision = recommend(case(measured(400), {"quality": {"floor": 0.9}}))
    chosen = decision.options["cascade"]
    certified = certified_cascades(decision)
    gate = next(gate for gate in chosen.gates if gate.name == "router")
    assert gate.verdict == "unknown"
    assert certified
    assert all(any(g.name == "router" and g.verdict == "pass" for g in one.gates) for one in certified)
    assert certified[0].present_value_usd > chosen.present_value_usd
    assert certified[0].facts["escalation_rate"] > chosen.facts["escalation_rate"]
    told = f"the cheapest threshold that is certified sends on {certified[0].facts['escalation_rate']:.1%} at "
    assert told in str(decision)
    none = recommend(case(measured(60), {"quality": {"floor": 0.93}}))
    assert not certified_cascades(none)  # 60 items cannot, so near the teacher's own quality
    assert "none of its thresholds is certified" in str(none)
