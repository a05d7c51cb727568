"""Many lengths as few weighted pairs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from distillcalc.workload.logs.compress import MOST_POINTS, Marginal, fitting_bins, joined, rank_correlation

LEVELS = [*(i / 100 for i in range(1, 100)), 0.995, 0.999]
Pair = tuple[np.ndarray, np.ndarray]


def lognormal(n: int, rho: float) -> Pair:
    z = np.random.default_rng(1).standard_normal((2, n))
    other = rho * z[0] + np.sqrt(1 - rho**2) * z[1]
    return np.exp(7 + z[0]).astype(np.int64), np.exp(5 + 1.2 * other).astype(np.int64)


def bimodal() -> Pair:
    random = np.random.default_rng(2)
    short, n = random.random(100_000) < 0.3, 100_000
    return (
        np.where(short, random.lognormal(5, 0.3, n), random.lognormal(9, 0.2, n)).astype(np.int64),
        np.where(short, random.poisson(2, n), random.lognormal(6.5, 0.8, n)).astype(np.int64),
    )


def compressed(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(input, output, requests) as measure() makes them."""
    sides = [Marginal.of(*np.unique(side, return_counts=True)) for side in (x, y)]
    bins = fitting_bins(*sides)
    a, b = (numbers[np.searchsorted(m.values, side)] for numbers, m, side in zip(bins, sides, (x, y), strict=True))
    cells, counts = np.unique(np.stack([a, b]), axis=1, return_counts=True)
    few_a, few_b, n = joined(cells[0], cells[1], counts)
    means = [
        np.bincount(numbers, weights=m.counts * m.values) / np.bincount(numbers, weights=m.counts)
        for numbers, m in zip(bins, sides, strict=True)
    ]
    return means[0][few_a], means[1][few_b], n


@pytest.mark.parametrize(
    "pairs",
    [
        lambda: lognormal(3_000, 0.5),
        lambda: lognormal(200_000, -0.9),
        lambda: lognormal(200_000, 0.0),
        lambda: lognormal(200_000, 0.95),
        bimodal,
    ],
    ids=["few", "falling", "independent", "rising", "bimodal"],
)
def test_quantiles_are_within_a_percent_means_exact_and_ranks_kept(pairs: Callable[[], Pair]) -> None:
    x, y = pairs()
    few_x, few_y, n = compressed(x, y)
    assert len(n) <= MOST_POINTS
    assert n.sum() == len(x)
    for many, few in ((x, few_x), (y, few_y)):
        assert few @ n / n.sum() == pytest.approx(many.mean(), rel=1e-12)
        exact = np.quantile(many, LEVELS, method="inverted_cdf")
        found = np.quantile(few, LEVELS, method="inverted_cdf", weights=n)
        assert found == pytest.approx(exact, rel=0.01)
    kept = spearmanr(np.repeat(few_x, n), np.repeat(few_y, n)).statistic
    assert kept == pytest.approx(spearmanr(x, y).statistic, abs=0.01)


def test_the_widest_pair_of_sides_still_fits() -> None:
    # Log-uniform from 1 to 10^8 on both sides: 1% bins would be 2,800 in all, so they widen.
    random = np.random.default_rng(3)
    x, y = (np.exp(random.uniform(0, np.log(1e8), 200_000)).astype(np.int64) for _ in range(2))
    few_x, _, n = compressed(x, y)
    assert len(n) <= MOST_POINTS
    assert few_x @ n / n.sum() == pytest.approx(x.mean())
    exact = np.quantile(x, LEVELS, method="inverted_cdf")
    assert np.quantile(few_x, LEVELS, method="inverted_cdf", weights=n) == pytest.approx(exact, rel=0.02)


def test_few_distinct_pairs_stay_as_they_are() -> None:
    x, y = np.array([5, 5, 9, 70]), np.array([0, 0, 3, 1])
    few_x, few_y, n = compressed(x, y)
    assert list(zip(few_x, few_y, n, strict=True)) == [(5, 0, 2), (9, 3, 1), (70, 1, 1)]


@settings(max_examples=20)
@given(
    st.integers(0, 2**31),
    st.integers(1, 120),
    st.integers(1, 120),
    st.integers(0, 6_000),
)
def test_the_marginals_of_any_cells_are_kept_to_the_request(seed: int, wide: int, high: int, cells: int) -> None:
    random = np.random.default_rng(seed)
    every = np.arange(max(wide, high))  # each bin of either side holds a request
    a, b = (np.append(random.integers(0, bins, cells), every % bins) for bins in (wide, high))
    pairs = np.unique(np.stack([a, b]), axis=1)
    n = random.geometric(0.01, pairs.shape[1])
    few_a, few_b, few_n = joined(pairs[0], pairs[1], n)
    assert len(few_n) <= MOST_POINTS
    assert (few_n > 0).all()
    for many, few in ((pairs[0], few_a), (pairs[1], few_b)):
        assert (np.bincount(many, weights=n) == np.bincount(few, weights=few_n)).all()


def test_rank_correlation_is_spearmans() -> None:
    x, y = lognormal(500, 0.6)
    assert rank_correlation(x, y, np.ones(500)) == pytest.approx(spearmanr(x, y).statistic)
    assert rank_correlation(np.array([3, 3]), np.array([1, 2]), np.ones(2)) is None


def test_a_quantile_is_the_least_length_that_enough_requests_do_not_exceed() -> None:
    side = Marginal.of(np.array([30, 10, 20]), np.array([1, 2, 1]))
    assert [side.quantile(q) for q in (0.25, 0.5, 0.51, 0.75, 0.76, 1)] == [10, 10, 20, 20, 30, 30]
    assert side.mean == 17.5
