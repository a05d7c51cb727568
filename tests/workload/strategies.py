"""Hypothesis strategies for whatever a scenario file can hold."""

from __future__ import annotations

from datetime import date
from typing import Any

from hypothesis import strategies as st

from distillcalc import Scenario, TokenLengths, Workload
from distillcalc.workload import OPTION_IDS


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, allow_infinity=False)


shares = numbers(0, 1)
dates = st.dates(date(2000, 1, 1), date(2100, 1, 1))
names = st.text(min_size=1, max_size=20)

fixed_lengths = numbers(0, 1e6).map(lambda mean: TokenLengths(mean=mean))
lognormal_lengths = st.tuples(numbers(1e-3, 1e6), numbers(1, 3.86)).map(
    lambda pair: TokenLengths(mean=pair[0], p95=pair[0] * pair[1])
)
sample_lengths = st.lists(numbers(0, 1e6), min_size=1, max_size=8).map(
    lambda values: TokenLengths(sample=tuple(values))
)


@st.composite
def quantile_lengths(draw: st.DrawFn) -> TokenLengths:
    levels = draw(st.lists(st.sampled_from([1, 10, 25, 50, 75, 90, 95, 99, 99.9]), min_size=2, max_size=5, unique=True))
    values = draw(st.lists(numbers(0, 1e6), min_size=len(levels), max_size=len(levels)))
    return TokenLengths(
        quantiles={f"p{level}": value for level, value in zip(sorted(levels), sorted(values), strict=True)}
    )


lengths = st.one_of(fixed_lengths, lognormal_lengths, sample_lengths, quantile_lengths())

weeks = st.one_of(
    st.sampled_from(["flat", "business-hours"]),
    st.lists(numbers(0.01, 100), min_size=168, max_size=168).map(tuple),
)
slos = st.fixed_dictionaries({}, optional={"ttft_p95_s": numbers(1e-3, 1e3), "tpot_p50_ms": numbers(1e-3, 1e3)})
qualities = st.one_of(
    st.fixed_dictionaries({}, optional={"metric": names, "floor": shares, "confidence": numbers(0.51, 0.99)}),
    st.fixed_dictionaries({"floor_relative_to_teacher": shares}),
)
more_of_a_workload = st.fixed_dictionaries(
    {"requests_per_day": numbers(1e-3, 1e6), "start": dates},
    optional={
        "name": names,
        "growth_per_month": numbers(-0.5, 0.2),
        "hour_of_week": weeks,
        "interarrival_cv": numbers(0, 1000),
        "length_correlation": numbers(-1, 1),
        "distinct_prefixes": numbers(1, 1e9),
        "cache_ttl_s": numbers(1e-3, 1e8),
        "reasoning_tokens": numbers(0, 1e6),
        "student_input_tokens": lengths,
        "student_reasoning_tokens": numbers(0, 1e6),
        "batchable_share": shares,
        "slo": slos,
        "quality": qualities,
        "private": st.booleans(),
        "region": names,
        "task_changes_per_year": numbers(0, 365),
        "wrong_answer_usd": numbers(0, 1e6),
        "network_rtt_s": numbers(0, 10),
        "horizon_months": st.integers(1, 60),
        "discount_rate": numbers(-0.5, 10),
    },
)
pairs = st.lists(st.tuples(numbers(0, 1e6), numbers(0, 1e6)), min_size=1, max_size=6)
triples = st.lists(st.tuples(numbers(0, 1e6), numbers(0, 1e6), numbers(1e-3, 10)), min_size=1, max_size=6)


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    """Any workload that is valid, with its cacheable prefix within its mean prompt."""
    values: dict[str, Any] = draw(more_of_a_workload)
    if draw(st.booleans()):
        values |= {"input_tokens": draw(lengths), "output_tokens": draw(lengths)}
    else:
        values |= {"length_sample": tuple(draw(st.one_of(pairs, triples)))}
    plain = Workload(**values)
    return Workload(**values, cacheable_prefix_tokens=draw(numbers(0, 0.99)) * plain.mean_input_tokens)


evaluations = st.tuples(st.integers(0, 500), st.integers(500, 1000)).map(
    lambda pair: {"correct": pair[0], "total": pair[1]}
)
more_choices = st.fixed_dictionaries(
    {"teacher": st.sampled_from(["openai/gpt-6-sol", "deepseek-r1"])},
    optional={
        "small": st.lists(names, max_size=3).map(tuple),
        "students": st.lists(names, min_size=1, max_size=3).map(tuple),
        "options": st.lists(st.sampled_from(OPTION_IDS), min_size=1, unique=True).map(tuple),
        "teacher_quality": numbers(0.01, 0.99),
        "student_retention": st.one_of(numbers(0.01, 1), st.dictionaries(names, numbers(0.01, 1), max_size=3)),
        "evaluations": st.dictionaries(names, evaluations, max_size=3),
        "gpu_price_factor": numbers(0.01, 100),
        "token_price_change_per_year": numbers(-0.9, 10),
        "on_retirement": st.sampled_from(["refuse", "migrate"]),
        "distillation": st.fixed_dictionaries({}, optional={"labels": numbers(1, 1e9), "white_box": st.booleans()}),
        "serving": st.fixed_dictionaries({}, optional={"precision": st.sampled_from(["bf16", "fp8", "int8", "int4"])}),
        "routing": st.fixed_dictionaries({}, optional={"escalation_rate": shares}),
    },
)
uses = st.fixed_dictionaries(
    {},
    optional={
        "distributed": st.booleans(),
        "competes_with_teacher": st.booleans(),
        "kind": st.sampled_from(["generative", "classifier", "embedding"]),
    },
)
overrides = st.dictionaries(
    st.sampled_from(["gpu_prices", "token_prices"]),
    st.dictionaries(names, st.dictionaries(names, st.one_of(numbers(0, 100), names, dates, st.booleans()), max_size=3)),
)


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Any scenario that is valid."""
    return Scenario(
        workload=draw(workloads()),
        choices=draw(more_choices),
        use=draw(uses),
        overrides=draw(overrides),
    )
