"""The cheapest machine of many scenarios: what pricing every machine finds, one scenario at a time."""

from __future__ import annotations

import numpy as np
import pytest

from distillcalc import Catalog, Scenario, recommend
from distillcalc.decide.table import evaluate
from distillcalc.estimate.capacity import Load, fleet, machines, replica_capacity
from distillcalc.estimate.cheapest_machine import bounds, fleet_cost
from distillcalc.estimate.inputs import Inputs, with_inputs
from distillcalc.workload.files import load_scenario

CATALOG = Catalog.load()
RNG = np.random.default_rng(5)
N = 24


def swept(serving: dict[str, object], slo: dict[str, float]) -> Scenario:
    plain = load_scenario("support-triage").to_dict()
    plain["workload"]["slo"] = slo
    plain["choices"] |= {"serving": serving, "options": ["self-host"]}
    return Scenario.from_dict(plain)


@pytest.mark.parametrize(
    ("autoscaling", "commitment"), [(False, "on-demand"), (True, "on-demand"), (False, "reserved-1y")]
)
@pytest.mark.parametrize("slo", [{}, {"e2e_p95_s": 5.0}, {"ttft_p95_s": 0.1, "tpot_p95_ms": 12}], ids=str)
def test_a_row_of_many_is_the_single_scenario(autoscaling: bool, slo: dict[str, float], commitment: str) -> None:
    made = swept({"autoscaling": autoscaling, "commitment": commitment}, slo)
    arrays = {
        "requests_per_day": np.exp(RNG.uniform(3, 19, N)),
        "growth_per_month": RNG.uniform(-0.05, 0.1, N),
        "gpu_price_factor": RNG.uniform(0.5, 2, N),
        "gpu_price_change_per_year": RNG.uniform(-0.5, 0.2, N),
        "step_time_factor": RNG.choice([0.7, 1.0, 1.6], N),
    }
    block = evaluate(Inputs(made, arrays), CATALOG, ("self-host",))
    for i in range(N):
        one = with_inputs(made, {name: float(values[i]) for name, values in arrays.items()})
        alone = evaluate(Inputs(one), CATALOG, ("self-host",))
        for mine, single in zip(block.candidates["self-host"], alone.candidates["self-host"], strict=True):
            assert mine.label(i) == single.label(0)
            np.testing.assert_array_equal(mine.monthly_total_usd[i], single.monthly_total_usd[0])
            for name, seconds in single.latency.items():
                assert mine.latency[name][i if len(mine.latency[name]) > 1 else 0, 0] == seconds[0, 0], name


def test_no_fleet_costs_less_than_its_bound() -> None:
    arrays = {"requests_per_day": np.exp(RNG.uniform(1, 20, 200)), "interarrival_cv": RNG.uniform(0, 5, 200)}
    made = swept({}, {})
    x = Inputs(made, arrays)
    kinds = [(name, CATALOG.gpu(name)) for name in ("h100-sxm", "l4", "rtx-4090")]
    sized = machines(CATALOG.model("qwen3-4b"), kinds, made.choices.serving, CATALOG.engines)
    capacity = replica_capacity(sized, Load.of(x.student_lengths, np.zeros((1, 1))), [])
    usd = np.full((3, 1, 1), 2.5)
    path = np.ones((1, 1))
    cost = fleet_cost(x, fleet(x, capacity, 0.95).replicas, usd * x["gpu_price_factor"] * path)[1][:, :, 0]
    low = bounds(x, capacity, usd, path, spares=True)
    assert np.all(low <= cost)
    assert np.all(cost < 4 * low)  # and it is near enough to be of use


def test_a_step_twice_as_long_doubles_the_time_per_token_and_never_costs_less() -> None:
    made = swept({}, {})
    plain, slow = (recommend(with_inputs(made, {"step_time_factor": f})).options["self-host"] for f in (1.0, 2.0))
    busy = plain.facts["utilisation"] * plain.facts["replicas"]
    assert slow.facts["utilisation"] * slow.facts["replicas"] >= 1.9 * busy
    assert slow.latency["tpot_p50_ms"] >= 2 * plain.latency["tpot_p50_ms"] * 0.999
    assert slow.present_value_usd >= plain.present_value_usd


def test_training_at_half_the_mfu_costs_twice() -> None:
    made = swept({}, {})
    once = {f: recommend(with_inputs(made, {"training_mfu": f})).options["self-host"].one_off_usd for f in (0.2, 0.4)}
    assert once[0.2]["training"] == pytest.approx(2 * once[0.4]["training"])
    assert once[0.2]["labels"] == once[0.4]["labels"]


def test_a_router_s_people_and_verifier_are_inputs_too() -> None:
    plain = load_scenario("support-triage").to_dict()
    made = Scenario.from_dict({**plain, "choices": {**plain["choices"], "options": ["cascade"]}})
    values = {"router_engineering_hours": 100.0, "verifier_usd_per_request": 0.001}
    cascade = recommend(with_inputs(made, values)).options["cascade"]
    assert cascade.one_off_usd["router_engineering"] == pytest.approx(100 * 100)
    assert float(cascade.monthly_usd["verifier"][0]) == pytest.approx(0.001 * 40_000 * 31)
