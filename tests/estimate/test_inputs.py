"""Inputs: what is broadcast, what is refused, and that a sweep is the scalar calculation row by row."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillcalc.catalog import Catalog
from distillcalc.errors import InputError, UnknownName
from distillcalc.estimate.context import Context
from distillcalc.estimate.inputs import LENGTHS, SPECS, Inputs, with_inputs
from distillcalc.estimate.options import OPTIONS
from distillcalc.estimate.outcome import Outcome, at, row
from distillcalc.workload import Scenario
from tests.estimate.tiny import catalog, scenario

# --- shapes and calendar ---------------------------------------------------------------------------------------------


def test_a_value_is_one_by_one_and_an_array_is_a_column() -> None:
    x = Inputs(scenario(), {"labels": [1000, 2000, 3000], "epochs": 2})
    assert x.n == 3
    assert x["labels"].shape == (3, 1)
    assert x["epochs"].shape == (1, 1)
    assert x["requests_per_day"].tolist() == [[1000.0]]


def test_requests_of_each_month_by_hand() -> None:
    # 1,000 a day growing 10% a month: 1,000 x 31, 1,100 x 31, 1,210 x 28.
    x = Inputs(scenario({"growth_per_month": 0.1}))
    assert x.days.tolist() == [[31.0, 31.0, 28.0]]
    np.testing.assert_allclose(x.requests, [[31_000, 34_100, 33_880]], rtol=1e-12)


def test_requests_broadcast_growth_against_volume() -> None:
    x = Inputs(scenario(), {"requests_per_day": [10, 100], "growth_per_month": [0.0, -0.5]})
    np.testing.assert_allclose(x.requests, [[310, 310, 280], [3100, 1550, 700]], rtol=1e-12)


def test_discount_is_one_without_a_rate() -> None:
    assert Inputs(scenario()).discount.tolist() == [[1.0, 1.0, 1.0]]


def test_discount_counts_from_the_middle_of_each_month() -> None:
    # 44% a year: the middle of month 5 lies 5.5/12 of a year out. The middles of the months m and 11 - m add up
    # to one year, so that their factors multiply to 1/1.44; the middle of the year would be 1/1.2.
    found = Inputs(scenario({"horizon_months": 12}), {"discount_rate": 0.44}).discount[0]
    np.testing.assert_allclose(found * found[::-1], np.full(12, 1 / 1.44), rtol=1e-12)
    assert found[5] == pytest.approx(1.44 ** (-5.5 / 12))
    assert found[5] > 1 / 1.2 > found[6]


def test_a_price_path_reaches_its_yearly_change_after_twelve_months() -> None:
    path = Inputs(scenario({"horizon_months": 25}), {"token_price_change_per_year": -0.36}).price_path(
        "token_price_change_per_year"
    )
    # -36% a year: 0.8 after half a year (0.8^2 = 0.64), 0.64 after one, 0.4096 after two.
    np.testing.assert_allclose(path[0, [0, 6, 12, 24]], [1, 0.8, 0.64, 0.4096], rtol=1e-12)


def test_a_horizon_sweep_runs_to_the_longest_and_counts_no_days_past_each_end() -> None:
    x = Inputs(scenario(), {"horizon_months": [1, 4, 2]})
    assert x.months == 4
    assert x.days.tolist() == [[31, 0, 0, 0], [31, 31, 28, 31], [31, 31, 0, 0]]
    assert x.last_month(np.arange(4.0)[None, :]).ravel().tolist() == [0.0, 3.0, 1.0]


def test_the_last_month_without_a_horizon_sweep() -> None:
    assert Inputs(scenario()).last_month(np.arange(3.0)[None, :]).tolist() == [[2.0]]


def test_a_day_is_inside_a_horizon_up_to_its_last_day() -> None:
    x = Inputs(scenario(), {"horizon_months": [1, 2]})  # to 1 January and to 1 February 2027
    assert x.ends_after(date(2026, 12, 31)).ravel().tolist() == [True, True]
    assert x.ends_after(date(2027, 1, 1)).ravel().tolist() == [False, True]
    assert x.ends_after(date(2027, 2, 1)).ravel().tolist() == [False, False]


def test_a_stretch_of_scenarios_keeps_months_and_single_numbers() -> None:
    x = Inputs(scenario(), {"horizon_months": [2, 5, 3], "labels": 7.0})
    part = x.rows(2, 4)
    assert part.n == 1
    assert part.months == 5
    assert part["horizon_months"].tolist() == [[3.0]]
    assert part["labels"].tolist() == [[7.0]]


def test_the_students_prompt_follows_the_teachers_until_it_has_its_own() -> None:
    assert Inputs(scenario(), {"input_tokens": [10, 20]})["student_input_tokens"].tolist() == [[10.0], [20.0]]
    own = scenario({"student_input_tokens": 300})
    assert Inputs(own, {"input_tokens": [10, 20]})["student_input_tokens"].tolist() == [[300.0]]


def test_what_a_scenario_leaves_out_is_not_a_number() -> None:
    x = Inputs(scenario())
    assert np.isnan(x["floor"]).all()
    assert np.isnan(x["teacher_quality"]).all()
    assert np.isnan(x["cache_ttl_s"]).all()


# --- the door --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPECS)
def test_bounds_are_inclusive(name: str) -> None:
    spec = SPECS[name]
    # A prefix may not be longer than its prompt, and a prompt not shorter than its prefix.
    case = scenario({"input_tokens": 1e8}) if name == "cacheable_prefix_tokens" else scenario()
    x = Inputs(case, {name: [spec.low, spec.high]})
    assert x[name].ravel().tolist() == [spec.low, spec.high]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("escalation_rate", [0.2, 1.4], r"escalation_rate must be between 0 and 1\. Got 1\.4 in place 1"),
        ("requests_per_day", 0.0, r"requests_per_day must be between 1e-06 and 1e\+11 requests/day\. Got 0 in place 0"),
        ("labels", float("nan"), "Got nan"),
        ("labels", float("inf"), "Got inf"),
        ("horizon_months", [3, 4.5], r"horizon_months must be whole numbers\. Got 4\.5"),
        ("labels", [[1, 2]], r"one-dimensional array\. Got shape \(1, 2\)"),
        ("labels", [], "one-dimensional array"),
        ("labels", "many", "must be a number or an array of numbers. Got 'many'"),
    ],
)
def test_a_value_that_cannot_be_is_refused(name: str, value: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Inputs(scenario(), {name: value})


def test_an_unknown_input_is_named_with_its_neighbours() -> None:
    with pytest.raises(UnknownName, match=r"unknown input 'request_per_day'\. Did you mean requests_per_day"):
        Inputs(scenario(), {"request_per_day": 3})
    with pytest.raises(UnknownName, match="escalation_rate"):
        with_inputs(scenario(), {"escalation": 0.3})


def test_a_prefix_longer_than_its_prompt_is_refused() -> None:
    with pytest.raises(InputError, match=r"Got 600 of 599 tokens in place 1"):
        Inputs(scenario({"cacheable_prefix_tokens": 600}), {"input_tokens": [600, 599]})
    with pytest.raises(InputError, match=r"Got 1001 of 1000 tokens in place 0"):
        Inputs(scenario(), {"cacheable_prefix_tokens": 1001})


def test_counts_give_way_to_a_quality_set_by_name() -> None:
    counted = scenario(
        {}, {"evaluations": {"teacher": {"correct": 9, "total": 10}, "tiny": {"correct": 8, "total": 10}}}
    )
    swept = Context(Inputs(counted, {"teacher_quality": [0.6, 0.7], "student_retention": 0.5}), catalog())
    for i, value in enumerate((0.6, 0.7)):
        alone = with_inputs(counted, {"teacher_quality": value, "student_retention": 0.5})
        single = Context(Inputs(alone), catalog())
        for option in ("call-teacher", "self-host"):
            many, one = swept.outcomes(option)[0], single.outcomes(option)[0]
            assert at(many.quality_mean, i) == at(one.quality_mean, 0)
    assert at(swept.outcomes("self-host")[0].quality_mean, 1) == pytest.approx(0.35)  # 0.7 x 0.5


def test_arrays_of_different_lengths_are_refused() -> None:
    with pytest.raises(InputError, match=r"one length\. Got \{'labels': 2, 'epochs': 3\}"):
        Inputs(scenario(), {"labels": [1, 2], "epochs": [1, 2, 3], "floor": 0.5})


# --- one scenario of a sweep, as a scenario --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "workload", "choices"),
    [
        ({"requests_per_day": 5.0}, {"requests_per_day": 5.0}, {}),
        ({"horizon_months": 7.0}, {"horizon_months": 7}, {}),
        ({"floor": 0.8}, {"quality": {"floor": 0.8}}, {}),
        ({"labels": 9.0, "epochs": 1.5}, {}, {"distillation": {"labels": 9.0, "epochs": 1.5}}),
        ({"escalation_rate": 0.4}, {}, {"routing": {"escalation_rate": 0.4}}),
        ({"spare_replicas": 2.0}, {}, {"serving": {"spare_replicas": 2.0}}),
        ({"teacher_quality": 0.7}, {}, {"teacher_quality": 0.7}),
        ({"input_tokens": 640.0}, {"input_tokens": 640.0}, {}),
        ({"student_input_tokens": 64.0}, {"student_input_tokens": 64.0}, {}),
    ],
)
def test_inputs_set_by_name_are_the_scenario_set_by_hand(
    values: dict[str, float], workload: dict[str, Any], choices: dict[str, Any]
) -> None:
    assert with_inputs(scenario(), values) == scenario(workload, choices)


def test_a_length_keeps_its_shape_when_it_is_scaled() -> None:
    base = scenario({"input_tokens": {"mean": 1000, "p95": 2000}, "output_tokens": {"mean": 20, "p95": 40}})
    half = with_inputs(base, {"input_tokens": 500.0, "output_tokens": 40.0, "student_input_tokens": 250.0})
    assert half.workload.input_tokens is not None
    assert (half.workload.input_tokens.mean, half.workload.input_tokens.p95) == (500, 1000)
    assert half.workload.output_tokens is not None
    assert (half.workload.output_tokens.mean, half.workload.output_tokens.p95) == (40, 80)
    # A prompt of the student's own starts from the teacher's: same shape, other mean.
    assert half.workload.student_input_tokens is not None
    assert (half.workload.student_input_tokens.mean, half.workload.student_input_tokens.p95) == (250, 500)


def test_the_mean_of_a_scaled_length_is_the_mean_that_was_asked_for() -> None:
    # With an observed answer the pair is 1,024 points, whose mean is near to the stated one, not equal to it.
    base = scenario({"input_tokens": {"mean": 1000, "p95": 2000}, "output_tokens": [10, 30]})
    half = with_inputs(base, {"input_tokens": 500.0, "output_tokens": 40.0}).workload
    assert half.mean_input_tokens == pytest.approx(500, rel=1e-12)
    assert half.input_tokens is not None
    assert half.input_tokens.sigma == pytest.approx(base.workload.input_tokens.sigma, rel=1e-12)  # type: ignore[union-attr]
    assert half.output_tokens is not None
    assert half.output_tokens.sample == (20, 60)


def test_a_joint_sample_is_scaled_by_column() -> None:
    base = scenario({"input_tokens": None, "output_tokens": None, "length_sample": [[100, 10], [300, 30]]})
    assert with_inputs(base, {"input_tokens": 400}).workload.length_sample == ((200, 10), (600, 30))
    assert with_inputs(base, {"output_tokens": 10}).workload.length_sample == ((100, 5), (300, 15))


def test_answers_that_are_all_empty_cannot_be_scaled() -> None:
    base = scenario({"input_tokens": None, "output_tokens": None, "length_sample": [[100, 0], [300, 0]]})
    with pytest.raises(InputError, match="all 0, so they cannot be scaled to a mean of 5"):
        with_inputs(base, {"output_tokens": 5})
    assert with_inputs(scenario({"output_tokens": 0}), {"output_tokens": 5}) == scenario({"output_tokens": 5})


# --- a sweep is the scalar calculation -------------------------------------------------------------------------------

RICH = scenario(
    {
        "requests_per_day": 40_000,
        "growth_per_month": 0.07,
        "hour_of_week": "business-hours",
        "interarrival_cv": 2.5,
        "input_tokens": {"mean": 1000, "p95": 2100},
        "output_tokens": {"mean": 100, "p95": 220},
        "student_input_tokens": {"mean": 400, "p95": 900},
        "cacheable_prefix_tokens": 600,
        "distinct_prefixes": 3,
        "reasoning_tokens": 40,
        "student_reasoning_tokens": 15,
        "batchable_share": 0.2,
        "task_changes_per_year": 2,
        "wrong_answer_usd": 0.01,
        "discount_rate": 0.1,
        "horizon_months": 6,
        "slo": {"e2e_p95_s": 6.0, "ttft_p95_s": 1.5, "tpot_p50_ms": 60},
    },
    {
        "on_retirement": "migrate",
        "token_price_change_per_year": -0.2,
        "gpu_price_change_per_year": -0.1,
        "gpus": ["toy", "big-toy"],
        "students": ["tiny", "mini"],
        "teacher": "acme/big",
    },
    {"competes_with_teacher": False},
)
KNOWN = catalog(
    token_prices={
        # The successor's caching has a surcharge for writes and it has no batch price.
        "acme/next": {
            "input_usd_per_mtok": 8,
            "output_usd_per_mtok": 16,
            "cached_input_usd_per_mtok": 1,
            "cache_write_usd_per_mtok": 10,
        }
    },
    models={
        "mini": {
            "name": "Mini",
            "provider": "lab",
            "kind": "open",
            "params_b": 2,
            "context_window": 8192,
            "shape": {"layers": 4, "hidden": 64, "heads": 8, "kv_heads": 2, "head_dim": 16, "vocab": 1000},
        },
        "small": {"small_siblings": []},
    },
    gpus={"big-toy": {"name": "Big toy", "memory_gb": 200, "bandwidth_gb_s": 4000, "bf16_tflops": 900}},
    gpu_prices={
        "big-rent": {"gpu": "big-toy", "provider": "cloud", "commitment": "on-demand", "usd_per_gpu_hour": 7},
    },
    retirements={
        "big": {
            "provider": "acme",
            "model": "big",
            "what": "shutdown",
            "on": "2027-03-10",
            "replacement": "acme/next",
        },
        "small": {"provider": "acme", "model": "small", "what": "shutdown", "on": "2027-02-10"},
        "jobs": {"provider": "acme", "what": "no-new-jobs", "on": "2027-01-15"},
    },
)
VALUES: dict[str, list[float]] = {
    "requests_per_day": [1e-3, 0.5, 40_000, 3e6, 1e9],
    "growth_per_month": [-0.5, 0.0, 0.07, 0.8],
    "interarrival_cv": [0, 1, 13.2],
    "input_tokens": [600, 1000, 1700, 90_000],
    "output_tokens": [0, 1, 100, 5000],
    "student_input_tokens": [0, 1, 400, 3000],
    "cacheable_prefix_tokens": [0, 499, 600, 1000],
    "distinct_prefixes": [1, 1e3, 1e9],
    "cache_ttl_s": [0.5, 300, 86_400],
    "reasoning_tokens": [0, 40, 9000],
    "student_reasoning_tokens": [0, 15, 400],
    "batchable_share": [0, 0.3, 1],
    "task_changes_per_year": [0, 2, 52],
    "wrong_answer_usd": [0, 0.01, 5],
    "network_rtt_s": [0, 0.05, 2],
    "horizon_months": [1, 2, 3, 4, 6, 9],
    "discount_rate": [-0.3, 0, 0.1, 2],
    "floor": [0, 0.5, 0.8, 0.9, 1],
    "teacher_quality": [0.4, 0.9, 0.999],
    "student_retention": [0.3, 0.9, 1],
    "token_price_change_per_year": [-0.7, 0, 1],
    "gpu_price_change_per_year": [-0.7, 0, 1],
    "spare_replicas": [0, 1, 3],
    "min_replicas": [1, 2, 9],
    "escalation_rate": [0, 0.04, 0.5, 1],
    "apgr": [0.01, 0.5, 0.9],
}


def evaluated(case: Scenario, known: Catalog, arrays: dict[str, Any] | None = None) -> tuple[Inputs, list[Outcome]]:
    context = Context(Inputs(case, arrays), known)
    return context.x, [outcome for option in OPTIONS for outcome in context.outcomes(option)]


def named(label: str) -> str:
    """A label without the migrations in it: those of the longest horizon are named for all."""
    return re.sub(r", then \S+ from [\d-]+", "", label)


def assert_row_is(
    x: Inputs, swept: list[Outcome], i: int, x1: Inputs, single: list[Outcome], rtol: float = 0.0
) -> None:
    """Scenario i of a sweep against the same scenario alone: every figure, exactly unless ``rtol`` is given."""

    def same(a: Any, b: Any, what: str) -> None:
        np.testing.assert_allclose(a, b, rtol=rtol, atol=0, err_msg=what)

    months = x1.months
    same(row(x.requests, i, x.months)[:months], x1.requests[0], "requests")
    left = list(single)
    for many in swept:
        what = f"{many.option} {many.label(i)}"
        if not left or (many.option, named(many.label(i))) != (left[0].option, named(left[0].label(0))):
            # A service that is closed to some of the scenarios is left out of a single one where it is closed.
            assert at(many.failed, i), what
            continue
        one = left.pop(0)
        assert many.unpriced == one.unpriced
        for item in {*many.monthly_usd, *one.monthly_usd}:
            usd = row(many.monthly_usd.get(item, np.zeros((1, 1))), i, x.months)
            same(usd[:months], row(one.monthly_usd.get(item, np.zeros((1, 1))), 0, months), f"{what}: {item}")
            assert not usd[months:].any() or np.isnan(usd[months:]).all(), f"{what}: {item} past the horizon"
        same(row(many.monthly_total_usd, i, x.months)[:months], row(one.monthly_total_usd, 0, months), what)
        same(at(many.present_value_usd(x.discount), i), at(one.present_value_usd(x1.discount), 0), what)
        assert many.one_off_usd.keys() == one.one_off_usd.keys()
        for item, usd in one.one_off_usd.items():
            same(at(many.one_off_usd[item], i), at(usd, 0), f"{what}: {item}")
        assert many.latency.keys() == one.latency.keys()
        for name, seconds in one.latency.items():
            same(at(many.latency[name], i), at(seconds, 0), f"{what}: {name}")
        same(at(many.quality_mean, i), at(one.quality_mean, 0), f"{what}: quality")
        same(at(many.quality_sd, i), at(one.quality_sd, 0), f"{what}: quality sd")
        for name in one.facts:
            same(at(many.facts[name], i), at(one.facts[name], 0), f"{what}: {name}")
        _assert_gates(many, i, one, what, rtol)
    assert not left


def _assert_gates(many: Outcome, i: int, one: Outcome, what: str, rtol: float) -> None:
    """The gates of the single scenario in their order; a gate that is about other scenarios only holds here."""
    stated = [(gate.name, int(at(gate.code, 0)), gate.detail(0)) for gate in one.gates]
    swept = [(gate.name, int(at(gate.code, i)), gate.detail(i)) for gate in many.gates]
    for gate in swept:
        if stated and gate == stated[0]:
            stated.pop(0)
        else:
            assert gate[1] == 1, f"{what}: {gate} is not in {stated}"
    assert not stated, f"{what}: {stated} is missing from {swept}"
    chances = [at(gate.probability, i) for gate in many.gates if gate.probability is not None]
    alone = [at(gate.probability, 0) for gate in one.gates if gate.probability is not None]
    np.testing.assert_allclose(chances, alone, rtol=rtol, err_msg=what)


@pytest.mark.parametrize("name", SPECS)
def test_every_row_of_a_sweep_is_the_single_scenario(name: str) -> None:
    spec = SPECS[name]
    values = VALUES.get(name) or [spec.low, max(spec.low, 0.6), 1.0, min(spec.high, 50.0)]
    x, swept = evaluated(RICH, KNOWN, {name: values})
    for i, value in enumerate(values):
        x1, single = evaluated(with_inputs(RICH, {name: value}), KNOWN)
        assert_row_is(x, swept, i, x1, single, rtol=1e-12 if name in LENGTHS else 0.0)


@pytest.mark.parametrize("name", LENGTHS)
@pytest.mark.parametrize("own_prompt", [False, True])
def test_a_sweep_of_lengths_scales_an_observed_sample(name: str, own_prompt: bool) -> None:
    case = scenario(
        {
            "input_tokens": None,
            "output_tokens": None,
            "length_sample": [[200, 0], [700, 90], [700, 20], [3000, 400]],
            **({"student_input_tokens": [50, 60, 400, 20]} if own_prompt else {}),
            "slo": {"e2e_p95_s": 9},
        }
    )
    values = [10.0, 999.0, 4000.0]
    x, swept = evaluated(case, catalog(), {name: values})
    for i, value in enumerate(values):
        x1, single = evaluated(with_inputs(case, {name: value}), catalog())
        assert_row_is(x, swept, i, x1, single, rtol=1e-12)


def test_a_sweep_of_the_students_prompt_keeps_the_teachers_shape() -> None:
    case = scenario({"input_tokens": {"mean": 1000, "p95": 2500}, "slo": {"ttft_p95_s": 0.5}})
    x, swept = evaluated(case, catalog(), {"student_input_tokens": [100.0, 2000.0]})
    for i, value in enumerate((100.0, 2000.0)):
        x1, single = evaluated(with_inputs(case, {"student_input_tokens": value}), catalog())
        assert_row_is(x, swept, i, x1, single, rtol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0.1, 1e8), st.floats(-0.2, 0.3), st.floats(0, 1), st.floats(0.1, 10), st.integers(1, 8)),
        min_size=1,
        max_size=4,
    )
)
def test_rows_of_a_joint_sweep_are_single_scenarios(rows: list[tuple[float, ...]]) -> None:
    names = ("requests_per_day", "growth_per_month", "escalation_rate", "teacher_price_factor", "horizon_months")
    x, swept = evaluated(RICH, KNOWN, dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    for i, values in enumerate(rows):
        x1, single = evaluated(with_inputs(RICH, dict(zip(names, values, strict=True))), KNOWN)
        assert_row_is(x, swept, i, x1, single)


def test_a_stretch_of_a_sweep_is_the_same_stretch_of_the_whole() -> None:
    values = np.geomspace(1, 1e7, 7)
    x, swept = evaluated(RICH, KNOWN, {"requests_per_day": values})
    part = Context(x.rows(3, 6), KNOWN)
    for many, few in zip(swept, [o for option in OPTIONS for o in part.outcomes(option)], strict=True):
        whole = np.broadcast_to(many.monthly_total_usd, (7, x.months))[3:6]
        np.testing.assert_array_equal(np.broadcast_to(few.monthly_total_usd, (3, x.months)), whole)
