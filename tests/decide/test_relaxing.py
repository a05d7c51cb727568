"""What would let an option through: each way on is decided anew and does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from distillcalc import Catalog, Scenario, recommend
from distillcalc.decide import explain
from distillcalc.decide.relaxing import relaxations
from distillcalc.estimate.inputs import with_inputs
from tests.decide.scenarios import scenario

COUNTED = {"teacher": {"correct": 95, "total": 100}, "qwen3-4b": {"correct": 90, "total": 100}}
BLOCKED: dict[str, dict[str, Any]] = {
    "floor": {"workload": {"quality": {"floor": 0.97}}, "choices": {"evaluations": COUNTED}},
    "relative floor": {
        "workload": {"quality": {"floor_relative_to_teacher": 1.0}},
        "choices": {"options": ["self-host"]},
    },
    "private": {"workload": {"private": True}},
    "latency": {"workload": {"slo": {"e2e_p95_s": 0.004}}},
    "two latencies": {"workload": {"slo": {"e2e_p95_s": 0.004, "tpot_p95_ms": 0.01}}},
    "two gates": {"workload": {"private": True, "slo": {"e2e_p95_s": 0.004}}},
}


@pytest.mark.parametrize("name", BLOCKED)
def test_each_way_on_is_what_recommend_then_says(name: str) -> None:
    decision = recommend(scenario(**BLOCKED[name]))
    assert decision.recommendation is None
    ways = decision.relaxations
    assert ways
    assert [way.present_value_usd for way in ways] == sorted(way.present_value_usd for way in ways)
    for way in ways:
        assert way.scenario is not None
        again = recommend(way.scenario)
        assert again.recommendation == way.option
        assert again.options[way.option].present_value_usd == pytest.approx(way.present_value_usd, rel=1e-9)
    assert str(ways[0]) in explain(decision)
    assert str(ways[0]) in str(decision)
    assert json.loads(decision.to_json())["relaxations"][0]["option"] == ways[0].option


@pytest.mark.parametrize("name", ["floor", "relative floor"])
def test_the_floor_is_lowered_as_little_as_is_enough(name: str) -> None:
    (way,) = recommend(scenario(**BLOCKED[name])).relaxations
    assert way.scenario is not None
    quality = way.scenario.workload.quality
    field = "floor" if quality.floor is not None else "floor_relative_to_teacher"
    plain = way.scenario.model_dump(mode="python")
    plain["workload"]["quality"][field] += 0.002
    assert recommend(Scenario.from_dict(plain)).recommendation is None


def test_a_latency_is_relaxed_to_what_the_option_has() -> None:
    way = next(w for w in recommend(scenario(**BLOCKED["latency"])).relaxations if w.gates == ("slo",))
    assert way.scenario is not None
    limit = way.scenario.workload.slo.e2e_p95_s
    assert limit is not None
    had = recommend(way.scenario).options[way.option].latency["e2e_p95_s"]
    assert had <= limit <= 1.002 * had
    assert "E2E p95 of 4 ms" in str(way)


def test_two_are_named_together_only_where_none_alone_is_enough() -> None:
    assert all(len(way.gates) == 1 for way in recommend(scenario(**BLOCKED["latency"])).relaxations)
    assert all(len(way.gates) == 2 for way in recommend(scenario(**BLOCKED["two gates"])).relaxations)


def test_terms_are_told_though_no_field_holds_them() -> None:
    made = scenario(
        workload={"requests_per_day": 400_000},
        choices={"options": ["self-host"], "evaluations": {"qwen3-4b": {"correct": 980, "total": 1000}}},
        use={"kind": "generative", "competes_with_teacher": True},
    )
    decision = recommend(made)
    assert decision.recommendation is None
    (way,) = decision.relaxations
    assert way.gates == ("terms",)
    assert way.scenario is None
    assert way.present_value_usd == pytest.approx(decision.options["self-host"].present_value_usd)


def test_where_something_passes_there_is_nothing_to_relax() -> None:
    made = scenario()
    assert recommend(made).relaxations == []
    assert relaxations(made, Catalog.load()) == []


def test_draws_that_mostly_fail_are_told_by_their_likeliest() -> None:
    made = with_inputs(scenario(choices={"evaluations": COUNTED}), {"floor": 0.93})
    plain = made.to_dict()
    plain["workload"]["requests_per_day"] = {"uniform": [5_000, 15_000]}
    plain["workload"]["quality"] = {"floor": {"discrete": {"values": [0.9, 0.99], "weights": [6, 4]}}}
    decision = recommend(Scenario.from_dict(plain), draws=512)
    assert decision.recommendation is None
    assert "The likeliest to pass is" in explain(decision)
