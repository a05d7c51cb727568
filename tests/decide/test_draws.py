"""The draws: seeded, shared by all options, correlated as asked, and each one a scenario of its own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from distillcalc import Catalog, DistillcalcError, Scenario
from distillcalc.decide.draws import Space, correlation_factor
from distillcalc.decide.table import compare
from distillcalc.errors import InputError, UnknownName
from distillcalc.workload.distributions import triangular, uniform
from tests.decide.scenarios import scenario

CATALOG = Catalog.load()


def uncertain(**more: object) -> Scenario:
    return scenario(
        workload={
            "requests_per_day": {"lognormal": {"mean": 200_000, "p95": 500_000}},
            "growth_per_month": triangular(-0.02, 0.03, 0.08),
            "input_tokens": {"mean": uniform(250, 400), "p95": 700},
            "cacheable_prefix_tokens": 280,
            **more,
        },
        choices={
            "teacher_price_factor": uniform(0.6, 1),
            "evaluations": {"qwen3-4b": {"correct": 91, "total": 100}, "teacher": {"correct": 95, "total": 100}},
        },
    )


def test_dimensions_are_inputs_and_beliefs() -> None:
    space = Space.of(uncertain(), CATALOG, ("call-teacher", "self-host", "cascade"))
    assert tuple(space.inputs) == ("requests_per_day", "growth_per_month", "input_tokens", "teacher_price_factor")
    assert {"quality of qwen3-4b", "quality of the teacher", "the router works"} <= set(space.beliefs)


def test_a_seed_gives_its_draws() -> None:
    space = Space.of(uncertain(), CATALOG)
    np.testing.assert_array_equal(space.levels(128, 5), space.levels(128, 5))
    assert not np.array_equal(space.levels(128, 5), space.levels(128, 6))


@pytest.mark.parametrize("draws", [0, 63, 100, 3_000, 1 << 21])
def test_draws_are_a_power_of_two(draws: int) -> None:
    with pytest.raises(InputError, match=r"power of two from 64 to 1,048,576.*near it: [\d,]+"):
        Space.of(uncertain(), CATALOG).levels(draws)


def test_every_option_meets_the_same_draws_and_costs_what_a_sweep_says() -> None:
    """Row by row, the cost of each option's cheapest model is what the deterministic calculator gives at its inputs."""
    space = Space.of(uncertain(), CATALOG)
    levels = space.levels(64, 1)
    drawn, arrays = space.evaluate(levels), space.arrays(levels)
    assert np.all(arrays["cacheable_prefix_tokens"] <= arrays["input_tokens"])
    for option in ("call-teacher", "self-host", "hosted-fine-tune", "cascade"):
        own = [a for a, one in enumerate(drawn.alternatives) if one.option == option]
        for i in (0, 17, 63):
            at = {name: [values[i]] for name, values in arrays.items()}
            found = np.nanmin(drawn.present_value_usd[i, own])
            assert found == compare(space.scenario, CATALOG, at, (option,)).present_value_usd[0, 0], (option, i)


def test_the_order_in_which_options_are_named_changes_nothing() -> None:
    def drawn(options: tuple[str, ...]) -> dict[tuple[str, str], list[float]]:
        made = uncertain()
        named = Scenario.from_dict({**made.to_dict(), "choices": {**made.to_dict()["choices"], "options": options}})
        space = Space.of(named, CATALOG)
        found = space.evaluate(space.levels(64, 1))
        return {
            (one.option, one.label): found.present_value_usd[:, a].tolist() for a, one in enumerate(found.alternatives)
        }

    assert drawn(("call-teacher", "self-host", "cascade")) == drawn(("cascade", "call-teacher", "self-host"))


def test_stretches_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    space = Space.of(uncertain(), CATALOG)
    levels = space.levels(256, 2)
    whole = space.evaluate(levels)
    monkeypatch.setattr("distillcalc.decide.draws.ROWS_PER_STRETCH", 100)
    parts = space.evaluate(levels)
    np.testing.assert_array_equal(whole.present_value_usd, parts.present_value_usd)
    np.testing.assert_array_equal(whole.passes, parts.passes)
    np.testing.assert_array_equal(whole.quality, parts.quality)
    for a in range(len(whole.alternatives)):
        np.testing.assert_array_equal(whole.monthly_usd(a), parts.monthly_usd(a))
        assert {k: v.tolist() for k, v in whole.gates[a].items()} == {k: v.tolist() for k, v in parts.gates[a].items()}


def test_rank_correlations_are_as_asked_and_marginals_stay() -> None:
    made = uncertain()
    plain = made.to_dict() | {"correlations": {"requests_per_day": {"growth_per_month": -0.6}}}
    space = Space.of(Scenario.from_dict(plain), CATALOG, ("call-teacher",))
    arrays = space.arrays(space.levels(4_096, 3))
    rank = stats.spearmanr(arrays["requests_per_day"], arrays["growth_per_month"]).statistic
    assert rank == pytest.approx(-0.6, abs=0.01)
    assert abs(stats.spearmanr(arrays["requests_per_day"], arrays["teacher_price_factor"]).statistic) < 0.01
    low, high = made.workload.uncertain["growth_per_month"].quantile([0.1, 0.9])
    np.testing.assert_allclose(np.quantile(arrays["growth_per_month"], [0.1, 0.9]), [low, high], atol=5e-4)


@pytest.mark.parametrize("value", [1.0, -1.0])
def test_a_perfect_correlation_is_possible(value: float) -> None:
    factor = correlation_factor({"a": {"b": value}}, ("a", "b"))
    assert factor is not None
    assert factor @ factor.T == pytest.approx(np.array([[1, value], [value, 1]]), abs=1e-6)


def test_correlations_that_nothing_has_are_refused_with_how_far_they_would_go() -> None:
    pairs = {"a": {"b": 0.9, "c": 0.9}, "b": {"c": -0.9}}
    with pytest.raises(InputError, match=r"not positive definite .* Times 0\.\d\d or less") as error:
        correlation_factor(pairs, ("a", "b", "c"))
    scale = float(str(error.value).split("Times ")[1].split(" ")[0])
    smaller = {a: {b: value * scale for b, value in others.items()} for a, others in pairs.items()}
    assert correlation_factor(smaller, ("a", "b", "c")) is not None


def test_correlations_of_what_is_not_uncertain_are_refused() -> None:
    with pytest.raises(UnknownName, match="labels"):
        correlation_factor({"a": {"labels": 0.5}}, ("a", "b"))
    with pytest.raises(InputError, match="once"):
        correlation_factor({"a": {"b": 0.5}, "b": {"a": 0.5}}, ("a", "b"))
    with pytest.raises(InputError, match="itself"):
        correlation_factor({"a": {"a": 0.5}}, ("a", "b"))


def test_what_is_no_input_cannot_be_a_distribution() -> None:
    with pytest.raises(DistillcalcError, match=r"workload\.slo\.e2e_p95_s cannot be a distribution"):
        Space.of(uncertain(slo={"e2e_p95_s": uniform(1, 2)}), CATALOG)


def test_means_converge_faster_than_chance() -> None:
    """The cost of calling the big model is linear in its price and in the volume, so its mean is known exactly.

    Scrambled Sobol points: the root mean square error over seeds falls at least as n^-0.9, chance falls as n^-0.5.
    """
    made = scenario(
        workload={"requests_per_day": uniform(1_000, 9_000)}, choices={"teacher_price_factor": uniform(0.5, 1.5)}
    )
    space = Space.of(made, CATALOG, ("call-teacher",))
    exact = compare(scenario(workload={"requests_per_day": 5_000}), CATALOG, {}, ("call-teacher",)).present_value_usd
    sizes = [64, 256, 1_024, 4_096]
    errors = []
    for n in sizes:
        means = [space.evaluate(space.levels(n, seed)).present_value_usd[:, 0].mean() for seed in range(12)]
        errors.append(np.sqrt(np.mean((np.array(means) / exact[0, 0] - 1) ** 2)))
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert slope < -0.9
    assert errors[-1] < 1e-4
