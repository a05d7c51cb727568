"""Machines of one's own: prices of an hour, the bill of a fleet, the choice of a GPU, and what has no price."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillcalc.catalog import Catalog
from distillcalc.errors import MissingPrice, UnknownName
from distillcalc.estimate.context import Context
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.outcome import Outcome, at
from distillcalc.estimate.self_hosting import Dedicated, gpu_usd_per_hour, self_hosted
from distillcalc.provenance import given as stated
from distillcalc.workload import Scenario, Serving
from tests.estimate.tiny import catalog, detail, scenario, verdict

TWO_GPUS = {
    "gpus": {"fast": {"name": "Fast", "memory_gb": 100, "bandwidth_gb_s": 4000, "bf16_tflops": 400}},
    "gpu_prices": {
        "fast-rent": {"gpu": "fast", "provider": "cloud", "commitment": "on-demand", "usd_per_gpu_hour": 5},
    },
}


def hosted(
    case: Scenario | None = None,
    known: Catalog | None = None,
    arrays: dict[str, Any] | None = None,
    model: str = "tiny",
    **more: Any,
) -> Outcome:
    x, rows = Inputs(case or scenario(), arrays), known or catalog()
    lengths, thinking = x.student_lengths, x["student_reasoning_tokens"]
    return self_hosted(Context(x, rows), "self-host", model, rows.model(model), lengths, thinking, **more)


# --- an hour ---------------------------------------------------------------------------------------------------------


def test_the_cheapest_rental_of_the_commitment() -> None:
    known = catalog(
        gpu_prices={
            "dear": {"gpu": "toy", "provider": "other", "commitment": "on-demand", "usd_per_gpu_hour": 3},
            "spot": {"gpu": "toy", "provider": "other", "commitment": "spot", "usd_per_gpu_hour": 1},
        }
    )

    def usd(**serving: Any) -> float | None:
        found = gpu_usd_per_hour(known, "toy", Serving(**serving), 1)
        return found.usd_per_hour if found else None

    assert usd() == 2
    assert usd(commitment="spot") == 1
    assert usd(gpu_provider="other") == 3
    assert usd(commitment="reserved-3y") is None
    assert usd(gpu_provider="nobody") is None


def test_an_offer_of_eight_is_no_offer_of_one() -> None:
    known = catalog(
        gpu_prices={
            "bulk": {
                "gpu": "toy",
                "provider": "cloud",
                "commitment": "on-demand",
                "usd_per_gpu_hour": 1,
                "min_gpus": 8,
            }
        }
    )
    one, eight = (gpu_usd_per_hour(known, "toy", Serving(), n) for n in (1, 8))
    assert one is not None
    assert eight is not None
    assert (one.usd_per_hour, eight.usd_per_hour) == (2, 1)


def test_an_owned_gpu_costs_its_share_of_the_price_and_its_power() -> None:
    # 35,064 USD over 4 years of 8,766 hours is 1 USD an hour; 0.5 kW x 1.3 x 0.20 USD/kWh = 0.13.
    serving = Serving(commitment="owned", capex_usd_per_gpu=35_064, usd_per_kwh=0.2)
    found = gpu_usd_per_hour(catalog(), "toy", serving, 1)
    assert found is not None
    assert found.usd_per_hour == pytest.approx(1.13)
    # Two years, no cooling, free power: only the price is left, 2 USD.
    lean = Serving(commitment="owned", capex_usd_per_gpu=35_064, lifetime_years=2, cooling=1, usd_per_kwh=0)
    found = gpu_usd_per_hour(catalog(), "toy", lean, 1)
    assert found is not None
    assert found.usd_per_hour == pytest.approx(2)


def test_an_owned_gpu_of_unknown_price_or_power_has_no_hourly_cost() -> None:
    assert gpu_usd_per_hour(catalog(), "toy", Serving(commitment="owned"), 1) is None
    priced = catalog(gpus={"toy": {"capex_usd": 35_064}})
    assert gpu_usd_per_hour(priced, "toy", Serving(commitment="owned"), 1) is not None
    assert gpu_usd_per_hour(catalog(gpus=TWO_GPUS["gpus"]), "fast", Serving(commitment="owned"), 1) is None


# --- a month ---------------------------------------------------------------------------------------------------------


def test_the_bill_of_a_small_fleet_by_hand() -> None:
    # One replica and a spare at 2 USD, all hours: 2 x 2 x 24 x 31, 31 and 28 days. Ten hours of people at 100 USD.
    found = hosted()
    gpus = found.monthly_usd["gpus_busy"] + found.monthly_usd["gpus_idle"]
    np.testing.assert_allclose(gpus, [[2976, 2976, 2688]])
    np.testing.assert_allclose(found.monthly_usd["operations"], [[1000, 1000, 1000]])
    assert at(found.facts["replicas"], 0) == 2


def test_idle_hours_are_paid_and_shown() -> None:
    # 1,000 a day are 0.011574 a second. Without limits a replica has 1,024 in flight, at 327.7 + 2 + 1,023 x 3.2004 ms
    # a token: 1,024 / (0.322 + 99 x 3.6037) = 2.8676 a second, so two of them are 0.2% busy.
    found = hosted()
    busy = at(found.facts["utilisation"], 0)
    assert busy == pytest.approx(1000 / 86_400 / (2 * 2.8676), rel=1e-3)
    assert at(found.monthly_usd["gpus_busy"], 0) == pytest.approx(2976 * busy)


def test_a_fleet_for_the_peak_by_hand() -> None:
    # 10 a second under 50 ms a token need 7 replicas (test_capacity), and a spare: 8 x 2 x 24 x 31.
    found = hosted(scenario({"requests_per_day": 864_000, "slo": {"tpot_p95_ms": 50}}))
    assert found.monthly_total_usd[0, 0] == pytest.approx(8 * 2 * 24 * 31 + 1000)
    assert at(found.facts["batch"], 0) == 9
    assert verdict(found, "slo") == "pass"


def test_prices_follow_their_factor_and_their_path() -> None:
    # Half the list price, and 75% cheaper each year: a half of that after six months.
    case = scenario({"horizon_months": 7}, {"gpu_price_factor": 0.5, "gpu_price_change_per_year": -0.75})
    found = hosted(case)
    gpus = (found.monthly_usd["gpus_busy"] + found.monthly_usd["gpus_idle"])[0]
    assert gpus[0] == pytest.approx(2976 / 2)
    assert gpus[6] == pytest.approx(2 * 2 * 24 * 30 / 2 / 2)  # June
    assert at(found.facts["replica_usd_per_hour"], 0) == 1


def test_a_reserved_machine_keeps_the_price_of_its_first_day() -> None:
    # On demand prices fall by half in six months; what was reserved at 2 USD stays at 2.
    known = catalog(gpu_prices={"toy-rent": {"commitment": "reserved-1y"}})
    case = scenario(
        {"horizon_months": 7}, {"gpu_price_change_per_year": -0.75, "serving": {"commitment": "reserved-1y"}}
    )
    found = hosted(case, known)
    gpus = (found.monthly_usd["gpus_busy"] + found.monthly_usd["gpus_idle"])[0]
    assert gpus[6] == pytest.approx(2 * 2 * 24 * 30)


def test_a_replica_of_two_gpus_costs_two() -> None:
    # 60 x 10^9 parameters in bf16 are 120 GB: two toys.
    found = hosted(known=catalog(models={"tiny": {"params_b": 60}}))
    assert found.label(0) == "tiny on 2 x toy"
    gpus = found.monthly_usd["gpus_busy"] + found.monthly_usd["gpus_idle"]
    assert gpus[0, 0] == pytest.approx(2 * 2 * 2 * 24 * 31)


# --- the choice of a GPU ---------------------------------------------------------------------------------------------


def test_the_cheapest_gpu_is_chosen_scenario_by_scenario() -> None:
    # At a trickle one replica of either will do and the toy is cheaper. At 100 a second the fast one, four times the
    # speed for 2.5 times the price, needs so many fewer that it is.
    case = scenario({"slo": {"e2e_p95_s": 5}}, {"gpus": ["toy", "fast"], "serving": {"spare_replicas": 0}})
    found = hosted(case, catalog(**TWO_GPUS), {"requests_per_day": [1, 8.64e6]})
    assert [found.label(i) for i in range(2)] == ["tiny on toy", "tiny on fast"]
    for i, (gpu, rate) in enumerate((("toy", 1.0), ("fast", 8.64e6))):
        alone = hosted(
            scenario(
                {"slo": {"e2e_p95_s": 5}, "requests_per_day": rate},
                {"gpus": [gpu], "serving": {"spare_replicas": 0}},
            ),
            catalog(**TWO_GPUS),
        )
        np.testing.assert_array_equal(found.monthly_total_usd[i], alone.monthly_total_usd[0])


@settings(max_examples=40, deadline=None)
@given(
    st.floats(1, 1e8), st.floats(0.3, 60), st.permutations(["toy", "fast", "h"]), st.floats(1, 5000), st.floats(1, 900)
)
def test_more_gpus_to_choose_from_never_cost_more_in_any_order(
    requests: float, e2e: float, order: list[str], tokens_in: float, tokens_out: float
) -> None:
    known = catalog(
        gpus=TWO_GPUS["gpus"] | {"h": {"name": "H", "memory_gb": 40, "bandwidth_gb_s": 2000, "bf16_tflops": 300}},
        gpu_prices=TWO_GPUS["gpu_prices"]
        | {"h-rent": {"gpu": "h", "provider": "cloud", "commitment": "on-demand", "usd_per_gpu_hour": 2.5}},
    )
    traffic = {
        "requests_per_day": requests,
        "slo": {"e2e_p95_s": e2e},
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
    }

    def bill(gpus: list[str]) -> float:
        found = hosted(scenario(traffic, {"gpus": gpus}), known)
        return float(np.nan_to_num(found.monthly_total_usd, nan=np.inf).sum())

    alone = [bill([gpu]) for gpu in ("toy", "fast", "h")]
    assert bill(order) == pytest.approx(min(alone), rel=1e-12)


def test_where_no_gpu_meets_the_limits_the_nearest_is_shown_with_its_floor() -> None:
    # A token alone takes 22 ms on a toy and 7 ms on the fast one: 16 GB / 3,200 GB/s + 2 ms. No number of GPUs takes
    # away the 2 ms of a step.
    case = scenario({"slo": {"tpot_p95_ms": 2}}, {"gpus": ["toy", "fast"]})
    found = hosted(case, catalog(**TWO_GPUS))
    assert found.label(0) == "tiny on fast"
    assert (verdict(found, "memory"), verdict(found, "slo")) == ("pass", "fail")
    assert detail(found, "slo") == ("TPOT p95 7 ms against 2 ms (no batch meets it; the floor of this machine is 7 ms)")
    assert np.isnan(found.monthly_total_usd).all()  # there is no such fleet to price


def test_replicas_are_wider_where_only_those_meet_the_limits() -> None:
    # 5 ms a token: two fast GPUs read 16 GB in 2.5 ms, + 2 ms and 10 all-reduces of 10 us; one needs 7 ms.
    def case(**slo: float) -> Scenario:
        return scenario({"slo": slo}, {"gpus": ["fast"]})

    known = catalog(**TWO_GPUS)
    narrow, wide = hosted(case(tpot_p95_ms=20), known), hosted(case(tpot_p95_ms=5), known)
    assert (narrow.label(0), wide.label(0)) == ("tiny on fast", "tiny on 2 x fast")
    assert at(wide.facts["gpus_per_replica"], 0) == 2
    assert at(wide.facts["replica_usd_per_hour"], 0) == 2 * at(narrow.facts["replica_usd_per_hour"], 0)
    assert at(wide.latency["tpot_p50"], 0) == pytest.approx(0.0046, rel=1e-3)
    assert verdict(wide, "slo") == "pass"
    # The width that the scenario names stands.
    fixed = scenario({"slo": {"tpot_p95_ms": 5}}, {"gpus": ["fast"], "serving": {"tensor_parallel": 1}})
    assert verdict(hosted(fixed, known), "slo") == "fail"
    # Each row of a sweep gets its own: 500,000 tokens of cache, 1 GB, are read in 0.3 ms.
    swept = hosted(case(tpot_p95_ms=7.2), known, {"input_tokens": [100.0, 500_000.0]})
    assert [swept.label(i) for i in range(2)] == ["tiny on fast", "tiny on 2 x fast"]


def test_an_slo_that_is_met_says_by_how_much() -> None:
    found = hosted(scenario({"requests_per_day": 1, "slo": {"ttft_p95_s": 1}}))
    assert verdict(found, "slo") == "pass"
    assert detail(found, "slo") == "TTFT p95 0.344 s against 1 s"


def test_a_model_too_large_for_eight() -> None:
    found = hosted(known=catalog(models={"tiny": {"params_b": 400}}))
    assert verdict(found, "memory") == "fail"
    assert detail(found, "memory") == (
        "tiny needs 840 GB (800 of weights and 5% beside them); 8 x toy offers 720 GB, 120 GB too little. "
        "fp8 would hold it"
    )
    assert np.isnan(found.monthly_total_usd).all()


@pytest.mark.parametrize("slo", [{}, {"e2e_p95_s": 1e6}])
def test_a_request_whose_cache_has_no_room(slo: dict[str, float]) -> None:
    # 74 GB hold 37 million tokens of cache.
    found = hosted(scenario({"input_tokens": 38e6, "slo": slo}))
    assert verdict(found, "memory") == "fail"
    assert detail(found, "memory") == "tiny leaves no room for the cache of one request"


def test_an_objective_for_the_median_still_staffs_for_the_tail() -> None:
    # 50 ms for the median leaves a batch of 9, as 50 ms for the p95 does: 7 replicas and a spare, and not the 6
    # (50.53 / 9 = 5.61) that would leave half of the requests waiting.
    for slo in ({"tpot_p50_ms": 50}, {"tpot_p95_ms": 50}):
        found = hosted(scenario({"requests_per_day": 864_000, "slo": slo}))
        assert at(found.facts["replicas"], 0) == 8


@settings(max_examples=40, deadline=None)
@given(
    st.floats(1, 1e8),
    st.sampled_from(["ttft_p50_s", "ttft_p95_s", "ttft_p99_s", "e2e_p50_s", "e2e_p95_s", "e2e_p99_s"]),
    st.floats(0.05, 100),
    st.floats(0, 300),
    st.floats(-0.3, 0.5),
    st.booleans(),
)
def test_a_fleet_that_is_priced_meets_what_it_was_sized_for(
    requests: float, name: str, limit: float, thinking: float, growth: float, autoscaling: bool
) -> None:
    found = hosted(
        scenario(
            {
                "requests_per_day": requests,
                "slo": {name: limit},
                "student_reasoning_tokens": thinking,
                "growth_per_month": growth,
                "hour_of_week": "business-hours",
                "output_tokens": {"mean": 100, "p95": 250},
            },
            {"serving": {"autoscaling": autoscaling}},
        )
    )
    if at(found.facts["batch"], 0) >= 1:
        assert at(found.latency[name.removesuffix("_s")], 0) <= limit * (1 + 1e-6)
        assert verdict(found, "slo") == "pass"
        assert np.isfinite(found.monthly_total_usd).all()
    else:
        assert verdict(found, "slo") == "fail"
        assert "no batch meets it" in detail(found, "slo")


# --- no price --------------------------------------------------------------------------------------------------------


def test_a_model_of_unknown_shape_has_no_price() -> None:
    with pytest.raises(MissingPrice, match=r'shape of small is not in the catalog.*\[overrides.models."small".shape\]'):
        hosted(model="small")


def test_gpus_without_a_price_are_not_free() -> None:
    with pytest.raises(MissingPrice, match=r"no spot price known for any of the GPUs named \(toy\)"):
        hosted(scenario({}, {"serving": {"commitment": "spot"}}))
    with pytest.raises(MissingPrice, match="no on-demand price from nobody known"):
        hosted(scenario({}, {"serving": {"gpu_provider": "nobody"}}))
    with pytest.raises(MissingPrice, match=r"no owned price known.*give capex_usd_per_gpu"):
        hosted(scenario({}, {"serving": {"commitment": "owned"}}))
    with pytest.raises(UnknownName, match=r"unknown GPU 'tyo'\. Did you mean toy"):
        hosted(scenario({}, {"gpus": ["tyo"]}))


def test_a_gpu_without_a_price_leaves_the_others() -> None:
    found = hosted(scenario({}, {"gpus": ["toy", "fast"]}), catalog(gpus=TWO_GPUS["gpus"]))
    assert found.labels == ("tiny on toy",)


def test_left_out_every_gpu_with_a_price_is_tried_and_no_phone() -> None:
    known = catalog(
        gpus=TWO_GPUS["gpus"]
        | {"phone": {"name": "P", "kind": "phone", "memory_gb": 100, "bandwidth_gb_s": 9000, "bf16_tflops": 900}},
        gpu_prices=TWO_GPUS["gpu_prices"]
        | {"phone-rent": {"gpu": "phone", "provider": "c", "commitment": "on-demand", "usd_per_gpu_hour": 0.01}},
    )
    found = hosted(scenario({}, {"gpus": None}), known)
    assert found.labels == ("tiny on toy", "tiny on fast")


# --- dedicated endpoints ---------------------------------------------------------------------------------------------


def test_a_dedicated_endpoint_is_sized_by_the_load_without_spares_or_people() -> None:
    # 7 replicas for 10 a second, at the provider's 3 USD: 7 x 3 x 24 x 31.
    case = scenario({"requests_per_day": 864_000, "slo": {"tpot_p95_ms": 50}})
    found = hosted(case, dedicated=Dedicated("toy", 3.0, stated("a quote")))
    assert found.monthly_total_usd[0, 0] == pytest.approx(7 * 3 * 24 * 31)
    assert "operations" not in found.monthly_usd
    assert found.provenance["gpus_busy"].source == "a quote"
    one = hosted(scenario(), dedicated=Dedicated("toy", 3.0, stated("a quote")))
    assert one.monthly_total_usd[0, 0] == pytest.approx(3 * 24 * 31)


# --- provenance and months -------------------------------------------------------------------------------------------


def test_the_price_says_who_rents_it_out_and_when_that_was_read() -> None:
    known = catalog(gpu_prices={"toy-rent": {"source": "cloud.example/prices", "checked": "2026-10-01"}})
    found = hosted(known=known).provenance["gpus_busy"]
    assert "cloud toy, on-demand, 2 USD/GPU-h (cloud.example/prices)" in found.source
    assert found.checked == date(2026, 10, 1)


def test_growth_adds_replicas_month_by_month() -> None:
    # 10, 20 and 40 a second at 50 ms a token: 6.89, then (100.74 + 16.51) / 9 = 13.03, (201.48 + 23.35) / 9 = 24.98.
    case = scenario({"requests_per_day": 864_000, "growth_per_month": 1, "slo": {"tpot_p95_ms": 50}})
    found = hosted(case)
    gpus = (found.monthly_usd["gpus_busy"] + found.monthly_usd["gpus_idle"])[0]
    np.testing.assert_allclose(gpus / (2 * 24 * np.array([31, 31, 28])), [8, 15, 26])
    assert at(found.facts["replicas"], 0) == 8
    assert at(found.facts["replicas_last_month"], 0) == 26
