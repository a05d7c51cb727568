"""What knowing more is worth, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import betainc

from distillcalc.decide.uncertainty import sobol_indices
from distillcalc.decide.value import (
    choose,
    costs_if_chosen,
    input_information_usd,
    perfect_information_usd,
    sample_information_usd,
)

N = 1 << 16


def unit_loss(z: float) -> float:
    """The unit normal loss integral: E[max(Z - z, 0)]."""
    return float(stats.norm.pdf(z) - z * stats.norm.sf(z))


def normals(count: int, draws: int = N) -> np.ndarray:
    points = stats.qmc.Sobol(count, scramble=True, rng=np.random.default_rng(7)).random(draws)
    return stats.norm.ppf(np.clip(points, 1e-9, 1 - 1e-9))


def test_a_choice_that_fails_costs_its_making_and_what_stands_in() -> None:
    usd = np.array([[100.0, 60.0, np.nan], [100.0, 60.0, 20.0], [100.0, 60.0, 20.0], [100.0, 60.0, 20.0]])
    once = np.array([[0.0, 30.0, 5.0]] * 4)
    passes = np.array([[True, True, False], [True, False, True], [False, True, False], [False, False, False]])
    costs = costs_if_chosen(usd, once, passes, 0)
    np.testing.assert_allclose(costs[0], [100, 60, 105])
    np.testing.assert_allclose(costs[1], [100, 130, 20])
    np.testing.assert_allclose(costs[2], [60, 60, 65])  # the big model fails too: the cheapest that passes stands in
    assert np.isnan(costs[3]).all()


def test_the_choice_is_the_cheapest_of_good_odds() -> None:
    assert choose(np.array([50.0, 10.0, 40.0]), np.array([1.0, 0.74, 0.75])) == 2
    assert choose(np.array([50.0, 10.0, 40.0]), np.array([1.0, 0.74, 0.75]), keep=1) == 1
    assert choose(np.array([50.0, np.nan]), np.array([0.5, 1.0])) == -1


@pytest.mark.parametrize(("mean", "sd"), [(0.0, 10.0), (5.0, 10.0), (30.0, 10.0), (-8.0, 3.0)])
def test_perfect_information_of_a_normal_difference(mean: float, sd: float) -> None:
    """EVPI = sd L(|mean| / sd), L the unit normal loss integral (Raiffa and Schlaifer, 1961)."""
    costs = np.stack([np.zeros(N), mean + sd * normals(1)[:, 0]], axis=1)
    chosen = int(choose(costs.mean(axis=0), np.ones(2)))
    assert chosen == (1 if mean < 0 else chosen)
    assert perfect_information_usd(costs, chosen) == pytest.approx(sd * unit_loss(abs(mean) / sd), rel=2e-3, abs=1e-3)


@pytest.mark.parametrize("draws", [2_048, 16_384, N])
def test_one_input_of_two(draws: int) -> None:
    """Of a difference 2 + 3 x + 4 y the value of knowing y is 4 L(2 / 4), and of an input that is not in it 0."""
    x, y, nothing = normals(3, draws).T
    costs = np.stack([np.zeros(draws), 2 + 3 * x + 4 * y], axis=1)
    passes = np.ones_like(costs, dtype=bool)
    exact = {"x": 3 * unit_loss(2 / 3), "y": 4 * unit_loss(2 / 4)}
    room = 0.25 if draws < 10_000 else 0.04
    assert input_information_usd(x, costs, passes, 0) == pytest.approx(exact["x"], abs=room * exact["x"])
    assert input_information_usd(y, costs, passes, 0) == pytest.approx(exact["y"], abs=room * exact["y"])
    assert input_information_usd(nothing, costs, passes, 0) < 0.05 * exact["x"]
    assert input_information_usd(y, costs, passes, 0) < perfect_information_usd(costs, 0)


@pytest.mark.parametrize("items", [1, 20, 200])
def test_a_sample_of_labels_is_worth_its_preposterior(items: int) -> None:
    """Beta(9, 3) quality, floor 0.75: choosing the student saves 100 above the floor and loses 60 below it.

    Exactly: sum over k of the Beta-binomial probability of k right answers times what the better choice saves, the
    posterior being Beta(9 + k, 3 + items - k). The odds rule is part of the choice: three to one.
    """
    a, b, floor = 9.0, 3.0, 0.75
    levels = (np.arange(N) + 0.5) / N
    quality = stats.beta(a, b).ppf(levels)
    good = quality >= floor
    costs = np.stack([np.zeros(N), np.where(good, -100.0, 60.0)], axis=1)
    passes = np.stack([np.ones(N, dtype=bool), good], axis=1)
    k = np.arange(items + 1)
    chance = stats.betabinom(items, a, b).pmf(k)
    above = 1 - betainc(a + k, b + items - k, floor)
    saved = np.where(above >= 0.75, np.maximum(above * 100 - (1 - above) * 60, 0), 0.0)
    (worth,) = sample_information_usd(quality, costs, passes, 0, [items])
    assert worth == pytest.approx(float(chance @ saved), rel=0.03, abs=0.05)


def test_more_labels_are_never_worth_less() -> None:
    quality = stats.beta(9, 3).ppf((np.arange(4_096) + 0.5) / 4_096)
    good = quality >= 0.75
    costs = np.stack([np.zeros(4_096), np.where(good, -100.0, 60.0)], axis=1)
    worth = sample_information_usd(quality, costs, np.stack([good | True, good], axis=1), 0, [10, 50, 200, 1_000])
    assert worth == sorted(worth)
    assert worth[-1] < np.mean(np.where(good, 100.0, 0.0))


def test_sobol_indices_of_the_ishigami_function() -> None:
    """a = 7, b = 0.1: S = 0.3139, 0.4424, 0; S_T = 0.5576, 0.4424, 0.2437 (Ishigami and Homma, 1990)."""

    def ishigami(levels: np.ndarray) -> np.ndarray:
        x, y, z = (-np.pi + 2 * np.pi * levels).T
        return np.sin(x) + 7 * np.sin(y) ** 2 + 0.1 * z**4 * np.sin(x)

    found = {index.input: index for index in sobol_indices(ishigami, ["x", "y", "z"], seed=3)}
    for name, first, total in (("x", 0.3139, 0.5576), ("y", 0.4424, 0.4424), ("z", 0.0, 0.2437)):
        assert found[name].first == pytest.approx(first, abs=0.03)
        assert found[name].total == pytest.approx(total, abs=0.03)


def test_a_constant_has_no_indices() -> None:
    assert [index.total for index in sobol_indices(lambda levels: np.ones(len(levels)), ["x", "y"], 64)] == [0.0, 0.0]


@pytest.mark.parametrize("draws", [4_096, 4_090, 4_033])
def test_what_only_the_tail_tells_counts_whatever_the_number_of_draws(draws: int) -> None:
    """One draw in fifty, the highest, saves 1,000 by the other choice and all others lose 100: it is worth 20."""
    values = (np.random.default_rng(2).permutation(draws) + 0.5) / draws
    tail = values >= 0.98
    costs = np.stack([np.zeros(draws), np.where(tail, -1_000.0, 100.0)], axis=1)
    passes = np.ones_like(costs, dtype=bool)
    exact = 1_000 * tail.mean()
    assert input_information_usd(values, costs, passes, 0) == pytest.approx(exact, rel=0.25)
    (worth,) = sample_information_usd(values, costs, passes, 0, [50_000])
    assert worth == pytest.approx(exact, rel=0.25)
