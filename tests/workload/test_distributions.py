"""Distributions against scipy's, and what cannot be one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from distillcalc import DistillcalcError, Scenario, Workload
from distillcalc.workload.distributions import (
    Distribution,
    beta,
    beta_quantile,
    discrete,
    empirical,
    lognormal,
    triangular,
    uniform,
)

LEVELS = np.array([0.001, 0.1, 0.25, 0.5, 0.9, 0.999])
SIGMA = 1.6448536269514722 - (1.6448536269514722**2 - 2 * np.log(1.6)) ** 0.5


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (uniform(2, 5), stats.uniform(2, 3)),
        (triangular(1, 2, 5), stats.triang(0.25, 1, 4)),
        (triangular(1, 1, 5), stats.triang(0, 1, 4)),
        (lognormal(10, 16), stats.lognorm(SIGMA, scale=10 * np.exp(-(SIGMA**2) / 2))),
        (beta(0.9, 0.03), stats.beta(0.9 * 99, 0.1 * 99)),
        (Distribution.of({"beta": [2, 3]}), stats.beta(2, 3)),
    ],
    ids=["uniform", "triangular", "no left side", "lognormal", "beta by mean and sd", "beta by shapes"],
)
def test_quantiles_and_mean(ours: Distribution, theirs: stats.rv_continuous) -> None:
    exact = 1e-9 if ours.kind != "beta" else 1e-5  # read off a table
    np.testing.assert_allclose(ours.quantile(LEVELS), theirs.ppf(LEVELS), rtol=exact)
    np.testing.assert_allclose([float(ours.quantile(level)) for level in LEVELS], theirs.ppf(LEVELS), rtol=1e-9)
    assert ours.mean == pytest.approx(theirs.mean())
    assert ours.median == pytest.approx(theirs.median())


def test_lognormal_is_what_it_was_asked_to_be() -> None:
    one = lognormal(40_000, 90_000)
    assert float(one.quantile(0.95)) == pytest.approx(90_000)
    assert np.mean(one.quantile((np.arange(200_000) + 0.5) / 200_000)) == pytest.approx(40_000, rel=1e-4)


def test_discrete_and_empirical_by_hand() -> None:
    one = discrete([3, 1, 2], [1, 2, 1])  # 1 half of the time
    np.testing.assert_array_equal(one.quantile([0.01, 0.5, 0.51, 0.75, 0.76, 1.0]), [1, 1, 2, 2, 3, 3])
    assert one.mean == pytest.approx((3 + 2 + 2) / 4)
    seen = empirical([5, 1, 9, 1])
    np.testing.assert_array_equal(seen.quantile([0.5, 0.75, 0.99]), [1, 5, 9])
    assert seen.mean == 4


def test_many_quantiles_of_one_beta_come_from_a_table() -> None:
    levels = np.linspace(1e-4, 1 - 1e-4, 20_001)
    np.testing.assert_allclose(beta_quantile(465.0, 37.0, levels), stats.beta(465, 37).ppf(levels), rtol=0, atol=1e-6)


KINDS = st.one_of(
    st.tuples(st.floats(0, 10), st.floats(11, 20)).map(lambda p: uniform(*p)),
    st.tuples(st.floats(0, 5), st.floats(5, 10), st.floats(11, 20)).map(lambda p: triangular(*p)),
    st.tuples(st.floats(0.1, 10), st.floats(1.01, 3.5)).map(lambda p: lognormal(p[0], p[0] * p[1])),
    st.tuples(st.floats(0.05, 0.95), st.floats(0.01, 0.2)).map(lambda p: beta(*p)),
    st.lists(st.floats(0.1, 50), min_size=1, max_size=5).map(empirical),
    st.lists(st.tuples(st.floats(0.1, 50), st.floats(0.1, 5)), min_size=1, max_size=5).map(
        lambda rows: discrete([v for v, _ in rows], [w for _, w in rows])
    ),
)


@given(KINDS)
def test_a_distribution_survives_its_table_and_its_quantiles_rise(one: Distribution) -> None:
    assert Distribution.of(one.to_dict()) == one
    values = one.quantile(np.linspace(0.001, 0.999, 50))
    assert np.all(np.diff(values) >= 0)
    low, high = one.ends
    assert low - 1e-6 <= values[0]
    assert values[-1] <= high + 1e-6


@given(KINDS)
def test_a_scenario_with_distributions_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory, one: Distribution
) -> None:
    made = Scenario.from_dict(
        {
            "workload": {
                "requests_per_day": 5_000,
                "input_tokens": {"mean": uniform(800, 1_200), "p95": 2_100},
                "output_tokens": triangular(40, 60, 90),
                "task_changes_per_year": one,
            },
            "choices": {"teacher": "openai/gpt-6-sol", "distillation": {"engineering_hours": one}},
            "correlations": {"output_tokens": {"task_changes_per_year": 0.5}},
        }
    )
    assert made.workload.task_changes_per_year == one.median
    assert made.workload.uncertain["input_tokens"] == uniform(800, 1_200)
    assert made.workload.mean_input_tokens == 1_000
    assert Scenario.load(made.save(tmp_path_factory.mktemp("s") / "s.toml")) == made
    assert Scenario.from_dict(made.to_dict()) == made


def test_the_repr_is_the_python_that_makes_it() -> None:
    made = Workload(requests_per_day=lognormal(100, 150), input_tokens=9, output_tokens=uniform(3, 4))
    names = {"lognormal": lognormal, "uniform": uniform, "Workload": Workload, "TokenLengths": dict}
    again = eval(repr(made).replace("datetime.date", "date"), {**names, "date": __import__("datetime").date})
    assert again == made


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ({"requests_per_day": {"uniform": [-3, 4]}}, "must lie between 0 and 1e+11"),
        ({"requests_per_day": {"uniform": [4, 4]}}, "uniform needs low < high"),
        ({"requests_per_day": {"triangular": [3, 2, 4]}}, "low <= mode <= high"),
        ({"requests_per_day": {"triangular": [3, 4]}}, "is written { triangular = [low, mode, high] }"),
        ({"requests_per_day": {"lognormal": {"mean": 10, "p95": 9}}}, "a p95 above its mean"),
        ({"requests_per_day": {"lognormal": {"mean": 10, "p95": 90}}}, "at most 3.87 times"),
        ({"requests_per_day": {"lognormal": [2, 3]}}, "is written { lognormal ="),
        ({"requests_per_day": {"normal": [2, 3]}}, "one of the keys uniform, triangular"),
        ({"requests_per_day": {"empirical": []}}, "at least one observed value"),
        ({"requests_per_day": {"discrete": {"values": [1, 2], "weights": [1]}}}, "as many weights as values"),
        ({"requests_per_day": {"discrete": {"values": [1, 2], "weights": [0, 0]}}}, "weights of at least 0"),
        ({"requests_per_day": {"uniform": [1, float("inf")]}}, "finite numbers"),
        ({"batchable_share": {"uniform": [0.5, 1.2]}}, "between 0 and 1"),
        ({"batchable_share": {"beta": {"mean": 0.5, "sd": 0.7}}}, "sd between 0 and"),
        ({"horizon_months": {"uniform": [12, 36]}}, "one whole number, not a distribution"),
        ({"input_tokens": {"mean": {"uniform": [-5, 10]}, "p95": 20}}, "must lie between 0"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(field: dict[str, object], said: str) -> None:
    values = {"requests_per_day": 5, "input_tokens": 5, "output_tokens": 5, **field}
    with pytest.raises(DistillcalcError) as error:
        Workload.from_dict(values)
    assert said in str(error.value)
    assert next(iter(field)) in str(error.value)


def test_an_error_names_the_line_of_the_file(tmp_path: object) -> None:
    file = tmp_path / "s.toml"  # type: ignore[operator]
    file.write_text(
        "[workload]\nrequests_per_day = { triangular = [3, 2, 4] }\ninput_tokens = 5\noutput_tokens = 5\n"
        '[choices]\nteacher = "openai/gpt-6-sol"\n'
    )
    with pytest.raises(DistillcalcError, match=r"workload\.requests_per_day: triangular .*line 2 of s\.toml"):
        Scenario.load(file)


def test_a_range_as_a_slider_gives_it_is_uniform() -> None:
    made = Workload(requests_per_day=(20_000, 60_000), input_tokens=9, output_tokens=9)
    assert made.uncertain["requests_per_day"] == uniform(20_000, 60_000)
    assert made.requests_per_day == 40_000
    assert made == Workload.from_dict({"requests_per_day": [20_000, 60_000], "input_tokens": 9, "output_tokens": 9})
    with pytest.raises(DistillcalcError, match="low < high"):
        Workload.from_dict({"requests_per_day": [60_000, 20_000], "input_tokens": 9, "output_tokens": 9})
    sampled = Workload(requests_per_day=9, input_tokens=[5, 10], output_tokens=9)
    assert not sampled.uncertain  # two observed lengths are a sample of lengths
