"""Fleets sized by simulation, their bill, what cannot do and why; machines worked out by hand."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distillcalc import recommend
from distillcalc.calendar import DAYS_PER_MONTH
from distillcalc.catalog import Catalog
from distillcalc.errors import InputError, UnknownName
from distillcalc.estimate.capacity_plan import CapacityPlan, plan_capacity, requests_of_logs
from distillcalc.estimate.context import Context
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.simulated_fleet import SimulatedFleet, engine_of_machine
from distillcalc.estimate.simulation import Requests, Traffic, simulate
from distillcalc.workload import Scenario, Serving, Workload
from tests.estimate.tiny import catalog, machine, scenario

DAY = 86_400
MONTH_HOURS = 24 * DAYS_PER_MONTH


def plan(workload: dict[str, Any], choices: dict[str, Any] | None = None, **options: Any) -> CapacityPlan:
    known = options.pop("known", None) or catalog()
    gpus = options.pop("gpus", ["toy"])
    return plan_capacity(scenario(workload, choices or {}), "tiny", gpus, catalog=known, **options)


# 1,000 tokens in and 100 out on a toy: 20 ms of weights, 2 ms a step, 0.32 s of prompt.
TRAFFIC = {"input_tokens": 1000, "output_tokens": 100, "requests_per_day": 2 * DAY}


def test_an_idle_machine_is_as_fast_as_a_request_alone() -> None:
    found = plan({**TRAFFIC, "requests_per_day": 10}).best
    assert found is not None
    assert (found.replicas, found.spares, found.gpus_per_replica) == (1, 1, 1)
    # The prompt takes a step of 0.32004 s and 2 ms; then 99 steps of 20 ms + 2.5 us of cache + 2 ms.
    assert found.latency_s["ttft_p50"] == pytest.approx(0.32204, rel=1e-6)
    assert found.latency_s["tpot_p50"] == pytest.approx(0.0220026, rel=1e-4)
    assert found.latency_s["e2e_p50"] == pytest.approx(0.32204 + 99 * 0.0220026, rel=1e-4)
    assert found.tokens_per_s == pytest.approx(1 / 0.0220026, rel=1e-4)


def test_the_bill_of_a_month_by_hand() -> None:
    found = plan({**TRAFFIC, "requests_per_day": 10}).best
    assert found is not None
    assert found.usd_per_replica_hour == 2
    assert found.usd_per_month == pytest.approx(2 * 2 * MONTH_HOURS)  # one and a spare
    # Nothing else is offered, so both are by the hour.
    assert found.mix is not None
    assert (found.mix.reserved, found.mix.by_the_hour) == (0, 2)
    assert found.mix.usd_per_month == pytest.approx(found.usd_per_month)


def test_the_least_fleet_does_and_one_fewer_does_not() -> None:
    found = plan({**TRAFFIC, "slo": {"tpot_p95_ms": 50, "ttft_p95_s": 2}}).best
    assert found is not None
    assert found.replicas > 1
    assert found.latency_s["tpot_p95"] <= 0.050
    assert found.latency_s["ttft_p95"] <= 2
    assert "the limit" in found.one_fewer
    fewer = plan({**TRAFFIC, "slo": {"tpot_p95_ms": 500, "ttft_p95_s": 20}}).best
    assert fewer is not None
    assert fewer.replicas <= found.replicas


def test_the_closed_form_and_the_simulation_are_not_far_apart() -> None:
    """At 2 requests a second and Poisson arrivals, for limits between tight and loose."""
    for tpot in (35, 60, 120):
        case = scenario({**TRAFFIC, "slo": {"tpot_p95_ms": tpot}}, {"gpus": ["toy"], "students": ["tiny"]})
        simulated = plan_capacity(case, "tiny", ["toy"], catalog=catalog()).best
        decision = recommend(case, catalog=catalog())
        assert simulated is not None
        formula = decision.options["self-host"].facts["replicas"] - 1
        assert simulated.replicas == pytest.approx(formula, abs=2)


def test_a_peak_that_the_user_names() -> None:
    base = plan(TRAFFIC)
    assert base.peak_per_s == base.mean_per_s == pytest.approx(2)
    assert plan(TRAFFIC, peak_to_mean=3).peak_per_s == pytest.approx(6)
    assert plan(TRAFFIC, peak_per_s=5).peak_per_s == 5
    week = [3.0] * 84 + [1.0] * 84
    assert plan({**TRAFFIC, "hour_of_week": week}).peak_per_s == pytest.approx(3)
    grown = plan({**TRAFFIC, "growth_per_month": 0.5, "horizon_months": 3}, month=3)
    assert grown.mean_per_s == pytest.approx(2 * 1.5**2)
    with pytest.raises(InputError, match=r"at least the mean of 2 requests/s. Got 1"):
        plan(TRAFFIC, peak_per_s=1)
    with pytest.raises(InputError, match="not both"):
        plan(TRAFFIC, peak_per_s=5, peak_to_mean=3)
    with pytest.raises(InputError, match="month must be a whole number between 1 and 3"):
        plan({**TRAFFIC, "horizon_months": 3}, month=4)


def test_autoscaling_pays_for_the_hours_and_for_the_start() -> None:
    week = [4.0] * 84 + [0.0] * 84
    limits = {"slo": {"tpot_p95_ms": 50}}
    fixed = plan({**TRAFFIC, **limits, "hour_of_week": week}).best
    serving = {"autoscaling": True, "spare_replicas": 0, "start_up_s": 1800}
    scaled = plan({**TRAFFIC, **limits, "hour_of_week": week}, {"serving": serving}).best
    assert fixed is not None
    assert scaled is not None
    assert fixed.usd_per_month == pytest.approx((fixed.replicas + 1) * 2 * MONTH_HOURS)
    # Half the week at the peak, half with the least of one; once a week the others start half an hour early.
    n = scaled.replicas
    paid = (n + 1) / 2 + (n - 1) * 0.5 / 168
    assert scaled.usd_per_month == pytest.approx(paid * 2 * MONTH_HOURS)
    # A replica serves 9 at a time, 1.78674 a second (test_capacity); two a second are asked for.
    assert scaled.idle_share == pytest.approx(1 - 2 / 1.78674 / paid, rel=1e-4)


def test_reserved_replicas_for_the_hours_that_pay_them() -> None:
    # Reserved at 1.2 against 2 by the hour: a replica that is needed more than 60% of the week is reserved.
    known = catalog(
        gpu_prices={
            "year": {"gpu": "toy", "provider": "cloud", "commitment": "reserved-1y", "usd_per_gpu_hour": 1.2},
        }
    )
    week = [4.0] * 84 + [1.0] * 84
    serving: dict[str, Any] = {"autoscaling": True, "spare_replicas": 0, "start_up_s": 0, "tensor_parallel": 1}
    found = plan({**TRAFFIC, "slo": {"tpot_p95_ms": 50}, "hour_of_week": week}, {"serving": serving}, known=known).best
    assert found is not None
    assert found.mix is not None
    always = found.mix.reserved
    assert 1 <= always < found.replicas
    assert found.mix.by_the_hour == found.replicas - always
    assert found.mix.commitment == "reserved-1y"
    expected = always * 1.2 + (found.replicas - always) * 2 / 2
    assert found.mix.usd_per_month == pytest.approx(expected * MONTH_HOURS)
    assert found.mix.hourly == "on-demand"
    # Where the scenario takes machines that may be taken away, at 0.5 an hour, none is worth a reservation.
    spot = {"spot": {"gpu": "toy", "provider": "cloud", "commitment": "spot", "usd_per_gpu_hour": 0.5}}
    year = {"year": {"gpu": "toy", "provider": "cloud", "commitment": "reserved-1y", "usd_per_gpu_hour": 1.2}}
    serving["commitment"] = "spot"
    known = catalog(gpu_prices={**spot, **year})
    cheap = plan({**TRAFFIC, "slo": {"tpot_p95_ms": 50}, "hour_of_week": week}, {"serving": serving}, known=known).best
    assert cheap is not None
    assert cheap.mix is not None
    assert (cheap.mix.reserved, cheap.mix.hourly) == (0, "spot")


def test_the_front_of_cost_and_latency() -> None:
    known = catalog(
        gpus={"fast": {"name": "F", "memory_gb": 100, "bandwidth_gb_s": 4000, "bf16_tflops": 400},
              "slow": {"name": "S", "memory_gb": 100, "bandwidth_gb_s": 900, "bf16_tflops": 90}},
        gpu_prices={
            "f": {"gpu": "fast", "provider": "c", "commitment": "on-demand", "usd_per_gpu_hour": 5},
            "s": {"gpu": "slow", "provider": "c", "commitment": "on-demand", "usd_per_gpu_hour": 2.5},
        },
    )  # fmt: skip
    serving = {"tensor_parallel": 1}
    found = plan({**TRAFFIC, "requests_per_day": 100}, {"serving": serving}, known=known, gpus=["fast", "slow", "toy"])
    assert [row.gpu for row in found.rows] == ["toy", "slow", "fast"]
    assert [row.on_front for row in found.rows] == [True, False, True]  # slow is dearer and slower than a toy
    assert found.best is found.rows[0]
    wide = plan({**TRAFFIC, "requests_per_day": 100}, known=known)
    assert [row.machine for row in wide.rows] == ["toy", "2 x toy", "4 x toy", "8 x toy"]


def test_under_autoscaling_a_named_peak_is_no_hour_of_the_week() -> None:
    week = [1.5] * 84 + [0.5] * 84
    serving = {"autoscaling": True, "spare_replicas": 0, "start_up_s": 0, "tensor_parallel": 1}
    mean = plan({**TRAFFIC, "hour_of_week": week}, {"serving": serving}).best
    burst = plan({**TRAFFIC, "hour_of_week": week}, {"serving": serving}, peak_to_mean=10).best
    assert mean is not None
    assert burst is not None
    assert burst.replicas > mean.replicas  # what the fleet must be able to grow to
    assert burst.usd_per_month == pytest.approx(mean.usd_per_month)
    named = plan({**TRAFFIC, "hour_of_week": week}, {"serving": serving}, replicas=5).best
    assert named is not None
    assert named.usd_per_month == pytest.approx(5 * 2 * MONTH_HOURS)


def test_prices_follow_their_factor() -> None:
    full, half = (plan(TRAFFIC, {"gpu_price_factor": factor}).best for factor in (1, 0.5))
    assert full is not None
    assert half is not None
    assert half.usd_per_month == pytest.approx(full.usd_per_month / 2)  # type: ignore[operator]


def test_heads_that_gpus_cannot_share_and_prompts_that_no_window_holds() -> None:
    shape = {"layers": 5, "hidden": 100, "heads": 28, "kv_heads": 4, "head_dim": 25, "vocab": 1000}
    known = catalog(models={"tiny": {"shape": shape, "context_window": 4_096}})
    assert [row.gpus_per_replica for row in plan(TRAFFIC, known=known).rows] == [1, 2, 4]
    with pytest.raises(InputError, match=r"split the heads of tiny evenly: over 1, 2, 4 GPUs. Got 8"):
        plan(TRAFFIC, {"serving": {"tensor_parallel": 8}}, known=known)
    with pytest.raises(InputError, match=r"tiny takes 4,096 tokens, a request has 5,100 on average"):
        plan({**TRAFFIC, "input_tokens": 5000}, known=known)
    # A log-normal tail beyond the window is cut, and refuses no machine.
    wide = {**TRAFFIC, "requests_per_day": 100, "input_tokens": {"mean": 2000, "p95": 6000}}
    assert plan(wide, {"serving": {"tensor_parallel": 1}}, known=known).best is not None


@pytest.mark.parametrize("wrong", [0, -2, 1.5])
def test_replicas_and_months_are_counted(wrong: float) -> None:
    with pytest.raises(InputError, match="replicas must be a whole number, 1 or more"):
        plan(TRAFFIC, replicas=wrong)
    with pytest.raises(InputError, match="month must be a whole number"):
        plan(TRAFFIC, month=wrong)


def test_a_trace_is_replayed_at_the_rate_of_the_peak(tmp_path: Path) -> None:
    # Pairs of requests at the same moment, one pair a second: half of the gaps are 0, their CV is 1.
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    lines += [f"2024-05-01 {i // 3600:02d}:{i // 60 % 60:02d}:{i % 60:02d},1000,100" for i in range(1000) for _ in "ab"]
    log = tmp_path / "trace.csv"
    log.write_text("\n".join(lines) + "\n")
    trace = requests_of_logs(log)
    assert (len(trace), trace.rate_per_s) == (2000, pytest.approx(1999 / 999))
    limits = {"slo": {"tpot_p95_ms": 50}}
    replayed = plan({**TRAFFIC, **limits}, {"serving": {"tensor_parallel": 1}}, trace=trace)
    assert replayed.interarrival_cv == pytest.approx(1, abs=0.01)
    assert replayed.best is not None
    assert replayed.best.latency_s["tpot_p95"] <= 0.05
    # Pairs arrive at once: the second prompt waits for the first, or is read beside it.
    assert replayed.best.latency_s["ttft_p95"] > 0.322
    again = plan({**TRAFFIC, **limits}, {"serving": {"tensor_parallel": 1}}, trace=trace)
    assert again.best == replayed.best
    with pytest.raises(InputError, match=r"1 replica cannot keep up with the trace: .* would"):
        plan(TRAFFIC, {"serving": {"tensor_parallel": 1}}, trace=trace, peak_per_s=9, replicas=1)


def test_a_trace_that_cannot_be_replayed(tmp_path: Path) -> None:
    log = tmp_path / "moment.csv"
    log.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "2024-05-01 00:00:00,10,5\n" * 50)
    with pytest.raises(InputError, match="no gaps to stretch"):
        plan(TRAFFIC, trace=requests_of_logs(log))
    log.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-01 00:00:00,10,5\n")
    with pytest.raises(InputError, match="two answered requests or more"):
        requests_of_logs(log)
    log.write_text("hour_start,requests\n2024-05-01 00:00:00,10\n2024-05-01 01:00:00,10\n")
    with pytest.raises(InputError, match="counts per period"):
        requests_of_logs(log)


# --- what cannot do --------------------------------------------------------------------------------------------------


def test_a_model_that_does_not_fit_says_by_how_much_and_what_would() -> None:
    known = catalog(models={"tiny": {"params_b": 60}})
    with pytest.raises(InputError) as error:
        plan(TRAFFIC, {"serving": {"tensor_parallel": 1}}, known=known)
    # 120 GB and 5% beside them are 126; a toy offers 90.
    assert str(error.value) == (
        "tiny on toy: tiny needs 126 GB (120 of weights and 5% beside them); toy offers 90 GB, 36 GB too little. "
        "fp8 or 2 GPUs would hold it"
    )
    assert plan(TRAFFIC, {"serving": {"tensor_parallel": 1, "precision": "fp8"}}, known=known).best is not None


def test_an_slo_below_the_floor_says_the_floor() -> None:
    with pytest.raises(InputError, match=r"TPOT p95 of 10 ms is below the floor of this machine, 22 ms for a request"):
        plan({**TRAFFIC, "slo": {"tpot_p95_ms": 10}}, {"serving": {"tensor_parallel": 1}})


def test_a_limit_that_the_formula_takes_for_too_tight_is_simulated() -> None:
    # The formula adds a step of 22 ms to a prompt of 322.04 ms; alone, the first token comes with the prompt.
    narrow = {"serving": {"tensor_parallel": 1}}
    found = plan({**TRAFFIC, "requests_per_day": 10, "slo": {"ttft_p95_s": 0.33}}, narrow).best
    assert found is not None
    assert found.latency_s["ttft_p95"] == pytest.approx(0.32204)
    assert 0 <= found.idle_share < 1
    with pytest.raises(InputError, match="below the floor of this machine, 322 ms"):
        plan({**TRAFFIC, "requests_per_day": 10, "slo": {"ttft_p95_s": 0.32}}, narrow)


def test_an_unstable_load_says_the_least_fleet() -> None:
    with pytest.raises(InputError, match=r"1 replica cannot keep up with 8 requests/s: .* 3 keep up with it"):
        plan({**TRAFFIC, "requests_per_day": 8 * DAY}, {"serving": {"tensor_parallel": 1}}, replicas=1)


def test_a_given_fleet_is_held_to_the_objectives() -> None:
    narrow = {"serving": {"tensor_parallel": 1}}
    with pytest.raises(InputError, match=r"2 replicas: TPOT p95 .* ms, the limit 30 ms"):
        plan({**TRAFFIC, "slo": {"tpot_p95_ms": 30}}, narrow, replicas=2)
    found = plan({**TRAFFIC, "slo": {"tpot_p95_ms": 300}}, narrow, replicas=6).best
    assert found is not None
    assert (found.replicas, found.spares) == (6, 0)


def test_names_that_are_not_known() -> None:
    with pytest.raises(UnknownName, match="Did you mean toy"):
        plan(TRAFFIC, gpus=["toi"])
    with pytest.raises(UnknownName, match="engine"):
        plan(TRAFFIC, {"serving": {"engine": "nope"}})
    with pytest.raises(InputError, match="at least one GPU"):
        plan(TRAFFIC, gpus=[])
    with pytest.raises(InputError, match="shape of big is not in the catalog"):
        plan_capacity(scenario(TRAFFIC), "big", ["toy"], catalog=catalog())


# --- devices ---------------------------------------------------------------------------------------------------------


def test_a_phone_serves_its_own_user() -> None:
    # 8 x 10^9 parameters in int4 with scales, 4.25 GB, read at 85 x 0.8 GB/s in 62.5 ms; 2 ms a step, and 0.16 s of
    # computing at 10^11 x 0.5 FLOP/s, which hides the rest.
    phone = {"name": "P", "kind": "phone", "memory_gb": 12, "bandwidth_gb_s": 85, "bf16_tflops": 0.2}
    known = catalog(gpus={"phone": phone})
    found = plan(TRAFFIC, {"serving": {"precision": "int4"}}, known=known, gpus=["phone"]).best
    assert found is not None
    assert (found.replicas, found.spares, found.usd_per_month) == (1, 0, None)
    assert found.tokens_per_s == pytest.approx(1 / (0.16 + 0.002), rel=1e-3)
    with pytest.raises(InputError, match=r"phone offers 10.8 GB, 6 GB too little. fp8 would hold it"):
        plan(TRAFFIC, known=known, gpus=["phone"])
    with pytest.raises(InputError, match=r"TPOT p95 is 162 ms, the limit 100 ms"):
        plan({**TRAFFIC, "slo": {"tpot_p95_ms": 100}}, {"serving": {"precision": "int4"}}, known=known, gpus=["phone"])


def test_a_small_student_runs_at_twenty_tokens_a_second_on_a_phone() -> None:
    case = Scenario.load("support-triage")
    serving = case.choices.serving.model_copy(update={"precision": "int4"})
    case = case.model_copy(update={"choices": case.choices.model_copy(update={"serving": serving})})
    found = plan_capacity(case, "qwen3.5-0.8b", ["snapdragon-8-elite"]).best
    assert found is not None
    assert found.tokens_per_s > 20


# --- the simulated fleet ---------------------------------------------------------------------------------------------


def fleet_of(objectives: tuple[tuple[str, float, float], ...] = (), before_s: float = 0.0) -> SimulatedFleet:
    traffic = Traffic(8.0, 1000, 100)
    return SimulatedFleet(engine_of_machine(machine(catalog(), "tiny", "toy")), traffic, objectives, before_s)


def test_the_engine_of_a_machine_has_its_constants_and_its_room() -> None:
    m = machine(catalog(), "tiny", "toy")
    engine = engine_of_machine(m)
    assert engine.kv_tokens == pytest.approx(74e9 / 2000)
    assert engine.step_time.seconds(1, 1000, 0, 500_000) == pytest.approx(0.32204)
    one = simulate(engine, Requests([0.0], 1000, 100))
    assert one.ttft_s[0] == pytest.approx(0.32204)


def test_fleets_rise_with_the_rate_and_are_simulated_at_few() -> None:
    fleet = fleet_of((("tpot", 0.95, 0.05),))
    rates = np.linspace(0.5, 8, 40)
    needed = fleet.needed(rates)
    assert (np.diff(needed) >= 0).all()
    assert (needed == np.round(needed)).all()
    assert needed[-1] == fleet.at(8.0).replicas
    assert len(fleet._found) <= 6
    assert fleet.needed(np.zeros(3)).tolist() == [1, 1, 1]


def test_what_comes_before_the_engine_counts_for_the_user() -> None:
    plain, late = fleet_of((("ttft", 0.95, 2.0),)), fleet_of((("ttft", 0.95, 2.0),), before_s=1.0)
    assert late.limits == [("ttft", 0.95, 1.0)]
    one = simulate(late.engine, late.traffic.draw(500), replicas=4)
    assert late.quantile(one, "ttft", 0.5) == plain.quantile(one, "ttft", 0.5) + 1
    assert late.quantile(one, "tpot", 0.5) == plain.quantile(one, "tpot", 0.5)
    assert late.at(8.0).replicas >= plain.at(8.0).replicas
    with pytest.raises(InputError, match="no number of replicas meets it"):
        fleet_of((("ttft", 0.95, 1.2),), before_s=1.0).at(1.0)


# --- recommend -------------------------------------------------------------------------------------------------------


def test_recommend_by_simulation() -> None:
    case = scenario(
        {**TRAFFIC, "slo": {"tpot_p95_ms": 60}, "growth_per_month": 0.3}, {"gpus": ["toy"], "students": ["tiny"]}
    )
    formula, simulated = recommend(case, catalog=catalog()), recommend(case, catalog=catalog(), fidelity="simulated")
    own = simulated.options["self-host"]
    assert "simulation of the busiest hour" in own.provenance["replicas"].source
    assert "square-root staffing" in formula.options["self-host"].provenance["replicas"].source
    # The last month's 3.38 requests a second are what the fleet is simulated at.
    last = plan_capacity(case, "tiny", ["toy"], catalog=catalog(), month=3)
    same = next(row for row in last.rows if row.gpus_per_replica == own.facts["gpus_per_replica"])
    assert own.facts["replicas_last_month"] == same.replicas + 1
    assert own.latency["tpot_p95_ms"] == pytest.approx(same.latency_s["tpot_p95"] * 1000, rel=1e-6)
    assert own.latency["tpot_p95_ms"] <= 60
    assert own.facts["replicas"] <= own.facts["replicas_last_month"]
    # What is not self-hosted is the same.
    assert simulated.options["call-teacher"].present_value_usd == formula.options["call-teacher"].present_value_usd


def test_fidelity_is_one_of_two_and_sweeps_take_the_closed_form() -> None:
    case = scenario(TRAFFIC, {"gpus": ["toy"], "students": ["tiny"]})
    with pytest.raises(InputError, match=r"fidelity must be closed_form or simulated. Got 'exact'"):
        recommend(case, catalog=catalog(), fidelity="exact")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a simulation is of one scenario: sweeps take fidelity='closed_form'"):
        Context(Inputs(case, {"requests_per_day": [1, 2]}), catalog(), "simulated")


def test_a_burst_of_equal_arrivals_is_simulated_as_one() -> None:
    """A trace with no gaps has no rate; it is a burst, and stretching it is refused."""
    burst = Requests(np.zeros(50), 1000, 100)
    assert math.isinf(burst.rate_per_s)
    with pytest.raises(InputError, match="no gaps to stretch"):
        burst.at_rate(1.0)
    assert simulate(engine_of_machine(machine(catalog(), "tiny", "toy")), burst).completed == 50


def test_the_shipped_catalog_answers_for_a_7b_and_a_70b() -> None:
    case = Scenario.load("support-triage")
    small = plan_capacity(case, "deepseek-r1-distill-qwen-7b", ["h100-sxm"])
    large = plan_capacity(case, "deepseek-r1-distill-llama-70b", ["h100-sxm"])
    assert small.best is not None
    assert large.best is not None
    assert large.best.gpus_per_replica >= 4  # 141 GB of weights
    assert large.best.usd_per_month > small.best.usd_per_month  # type: ignore[operator]
    assert small.tpot_factor > 1
    assert small.to_dict()["best"] == small.best.machine
    assert Catalog.load().engine("vllm").rows > 0


TRAFFIC_FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "traffic"


def burstgpt() -> Scenario:
    """The scenario of docs/results/capacity.md: hourly counts of 61 days, lengths and limits given beside them."""
    log = TRAFFIC_FOLDER / "burstgpt1_hourly_requests.csv"
    if not log.is_file():
        pytest.skip(f"{log.name} lies in ../shared, which is not here")
    workload = Workload.from_logs(
        log,
        name="BurstGPT",
        input_tokens=1155,
        output_tokens=211,
        start=date(2026, 12, 1),
        slo={"ttft_p95_s": 2, "tpot_p95_ms": 50},
    )
    return Scenario.from_dict({"workload": workload.to_dict(), "choices": {"teacher": "openai/gpt-6-sol"}})


@pytest.mark.parametrize(
    ("model", "gpu", "width", "replicas"),
    [
        ("deepseek-r1-distill-qwen-7b", "rtx-4090", 1, (1, 1, 3)),
        ("deepseek-r1-distill-llama-70b", "h100-sxm", 4, (1, 1, 2)),
    ],
)
def test_a_7b_and_a_70b_on_the_profile_of_burstgpt(model: str, gpu: str, width: int, replicas: tuple[int, ...]) -> None:
    """The busiest hour of the mean week, the 99th percentile of all hours and the busiest hour of all."""
    case = burstgpt()
    choices = case.choices.model_copy(update={"serving": Serving(tensor_parallel=width)})  # type: ignore[arg-type]
    case = case.model_copy(update={"choices": choices})
    found = [plan_capacity(case, model, [gpu], peak_to_mean=peak).best for peak in (None, 11.7, 34.1)]
    assert [one and one.replicas for one in found] == list(replicas)
    for one in found:
        assert one is not None
        assert one.latency_s["ttft_p95"] <= 2
        assert one.latency_s["tpot_p95"] <= 0.05
