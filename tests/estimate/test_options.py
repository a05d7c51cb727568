"""What holds for all options: they are all there, in any order, and more traffic never costs less."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillcalc.errors import UnknownName
from distillcalc.estimate.context import Context
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.options import OPTIONS
from distillcalc.estimate.outcome import at
from distillcalc.workload.scenario import OPTION_IDS
from tests.estimate.tiny import ROWS, catalog, outcomes, scenario

OPEN = {"kind": "open", "params_b": 8, "shape": ROWS["models"]["tiny"]["shape"]}


def test_the_options_are_those_of_a_scenario() -> None:
    assert tuple(OPTIONS) == OPTION_IDS


def test_an_option_is_evaluated_once() -> None:
    context = Context(Inputs(scenario()), catalog())
    assert context.outcomes("self-host") is context.outcomes("self-host")


def test_an_unknown_student_is_named() -> None:
    for option in ("self-host", "hosted-open-student", "hosted-fine-tune", "cascade"):
        with pytest.raises(UnknownName, match=r"unknown model 'tinny'\. Did you mean tiny"):
            outcomes(option, scenario({}, {"students": ["tinny"]}))


MINI = {
    "mini": {
        "name": "Mini",
        "provider": "lab",
        "kind": "open",
        "params_b": 2,
        "price_refs": ["host/mini"],
        "shape": {"layers": 4, "hidden": 64, "heads": 8, "kv_heads": 2, "head_dim": 16, "vocab": 1000},
    }
}
MANY = catalog(
    models=MINI | {"big": OPEN},
    token_prices={"host/mini": {"input_usd_per_mtok": 0.2, "output_usd_per_mtok": 2}},
    gpus={"fast": {"name": "Fast", "memory_gb": 100, "bandwidth_gb_s": 4000, "bf16_tflops": 400}},
    gpu_prices={"f": {"gpu": "fast", "provider": "cloud", "commitment": "on-demand", "usd_per_gpu_hour": 5}},
)


@settings(max_examples=30, deadline=None)
@given(st.floats(1, 1e8), st.floats(1, 5000), st.floats(1, 2000), st.floats(0.05, 60), st.permutations([0, 1]))
def test_the_order_of_students_and_gpus_changes_no_candidate(
    requests: float, tokens_in: float, tokens_out: float, limit: float, order: list[int]
) -> None:
    def bills(flip: bool) -> dict[tuple[str, str], float]:
        students, gpus = ["tiny", "mini"], ["toy", "fast"]
        if flip:
            students, gpus = [students[i] for i in order], gpus[::-1]
        case = scenario(
            {
                "requests_per_day": requests,
                "input_tokens": tokens_in,
                "output_tokens": tokens_out,
                "slo": {"e2e_p95_s": limit},
            },
            {"students": students, "gpus": gpus},
        )
        context = Context(Inputs(case), MANY)
        found = [o for option in OPTIONS for o in context.outcomes(option)]
        return {
            (o.option, o.label(0)): float(np.nan_to_num(at(o.present_value_usd(context.x.discount), 0))) for o in found
        }

    assert bills(flip=False) == bills(flip=True)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(1, 1e8), min_size=2, max_size=6),
    st.floats(1, 5000),
    st.floats(1, 2000),
    st.one_of(st.none(), st.floats(0.5, 60)),
    st.floats(0, 1),
    st.floats(-0.2, 0.5),
    st.booleans(),
)
def test_more_traffic_never_costs_less(
    volumes: list[float],
    tokens_in: float,
    tokens_out: float,
    limit: float | None,
    escalation: float,
    growth: float,
    autoscaling: bool,
) -> None:
    # CORRECTIONS exempts cached and batch tiers: there are none here.
    case = scenario(
        {
            "input_tokens": tokens_in,
            "output_tokens": tokens_out,
            "growth_per_month": growth,
            "hour_of_week": "business-hours",
            "slo": {"e2e_p95_s": limit},
        },
        {
            "students": ["tiny", "mini"],
            "gpus": ["toy", "fast"],
            "routing": {"escalation_rate": escalation},
            "serving": {"autoscaling": autoscaling},
        },
    )
    context = Context(Inputs(case, {"requests_per_day": sorted(volumes)}), MANY)
    for option in OPTIONS:
        for found in context.outcomes(option):
            cost = np.broadcast_to(found.present_value_usd(context.x.discount), (len(volumes), 1))[:, 0]
            assert np.isnan(cost).all() or np.all(np.diff(cost) >= -1e-9 * cost[1:]), (option, found.label(0))


@settings(max_examples=25, deadline=None)
@given(st.floats(1e-3, 1e8), st.floats(0, 1), st.integers(1, 24), st.floats(-0.5, 0.4), st.floats(0, 12))
def test_money_is_never_negative_and_items_add_up(
    requests: float, escalation: float, months: int, growth: float, changes: float
) -> None:
    case = scenario(
        {
            "requests_per_day": requests,
            "horizon_months": months,
            "growth_per_month": growth,
            "task_changes_per_year": changes,
            "wrong_answer_usd": 0.01,
            "cacheable_prefix_tokens": 600,
            "batchable_share": 0.5,
        },
        {"routing": {"escalation_rate": escalation}, "students": ["tiny", "mini"]},
    )
    context = Context(Inputs(case), MANY)
    for option in OPTIONS:
        for found in context.outcomes(option):
            if found.unpriced:
                continue
            items = [np.broadcast_to(usd, (1, months)) for usd in found.monthly_usd.values()]
            assert all(np.all(usd >= 0) for usd in items)
            assert all(np.all(usd >= 0) for usd in found.one_off_usd.values())
            np.testing.assert_allclose(found.monthly_total_usd, sum(items), rtol=1e-12)
            assert 0 <= at(found.quality_mean, 0) <= 1
