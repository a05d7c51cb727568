"""What would let an option through: each way on is decided anew and does."""

from __future__ import annotations

import json
import re
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
TOLD = re.compile(r"(TTFT|TPOT|E2E) (p\d\d) of [\d.]+ m?s to ([\d.]+) (ms|s)")


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


@pytest.mark.parametrize("slo", [{"e2e_p95_s": 0.02}, {"tpot_p95_ms": 0.5}, {"e2e_p95_s": 0.05, "ttft_p95_s": 0.004}])
@pytest.mark.parametrize("gpu", ["rtx-4090", "h100-sxm"])
@pytest.mark.parametrize("output_tokens", [20, 200])
def test_limits_typed_in_as_they_are_told_let_the_option_in_at_the_cost_told(
    slo: dict[str, float], gpu: str, output_tokens: int
) -> None:
    made = scenario(
        workload={"requests_per_day": 100_000, "output_tokens": output_tokens, "interarrival_cv": 4, "slo": slo},
        choices={"student_retention": 0.97, "gpus": [gpu], "options": ["hosted-fine-tune", "self-host"]},
    )
    assert recommend(made).recommendation is None
    ways = [way for way in recommend(made).relaxations if way.gates == ("slo",)]
    assert ways
    for way in ways:
        assert way.scenario is not None
        again = recommend(way.scenario)
        assert (again.recommendation, again.options[way.option].label) == (way.option, way.label)
        assert again.options[way.option].present_value_usd == pytest.approx(way.present_value_usd, rel=1e-9)
        plain = made.model_dump(mode="python")
        for what, level, value, unit in TOLD.findall(str(way)):
            name = f"{what.lower()}_{level}_{'ms' if what == 'TPOT' else 's'}"
            in_ms = float(value) * (1 if unit == "ms" else 1000)
            plain["workload"]["slo"][name] = in_ms if what == "TPOT" else in_ms / 1000
        assert "leave out" not in str(way)
        assert plain["workload"]["slo"] == pytest.approx(way.scenario.model_dump(mode="python")["workload"]["slo"])
        assert recommend(Scenario.from_dict(plain)).recommendation == way.option


@pytest.mark.parametrize("other", ["quality", "slo"])
def test_a_condition_outside_is_paired_with_one_of_the_scenario(other: str) -> None:
    asked = {"quality": {"quality": {"floor": 0.96}}, "slo": {"slo": {"e2e_p95_s": 0.004}, "quality": {"floor": 0.5}}}
    made = scenario(
        workload={"requests_per_day": 400_000, **asked[other]},
        choices={"options": ["self-host"], "evaluations": {"qwen3-4b": {"correct": 930, "total": 1000}}},
        use={"kind": "generative", "competes_with_teacher": True},
    )
    (way,) = recommend(made).relaxations
    assert way.gates == (other, "terms")
    assert way.scenario is None
    assert way.present_value_usd > 0


def test_a_model_too_large_for_the_gpus_named_is_told_what_other_gpus_cost() -> None:
    made = scenario(
        choices={
            "students": ["qwen3-32b"],
            "options": ["self-host"],
            "student_retention": 0.97,
            "serving": {"tensor_parallel": 1},
        }
    )
    (way,) = recommend(made).relaxations
    assert way.gates == ("memory",)
    assert way.scenario is not None
    assert recommend(way.scenario).recommendation == "self-host"
