"""The wealth of a bet, bets on a share and confidence sequences, against arithmetic by hand and their guarantees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import comb
from scipy.stats import binom

from distillcalc.errors import InputError
from distillcalc.route.sequential import Wealth, exact_interval, mean_interval, share_bets, start_weight


def by_definition(factors: np.ndarray) -> list[float]:
    """The weight of what has not begun yet, and the products from every start on: the definition, term by term."""
    n, kinds = factors.shape
    weights = [float(start_weight(place)) for place in range(1, n + 1)]
    told = []
    for t in range(1, n + 1):
        begun = sum(
            weights[s] / kinds * np.prod(factors[s:t, g]) for s in range(t) for g in range(kinds)
        )  # fmt: skip
        told.append(1 - sum(weights[:t]) + begun)
    return told


def test_wealth_is_the_mixture_over_starts_and_kinds() -> None:
    factors = np.random.default_rng(1).uniform(0.5, 1.8, size=(40, 3))
    wealth = Wealth(3, 0.05)
    found = np.exp(wealth.extend(np.log(factors), np.arange(40)))
    assert found == pytest.approx(by_definition(factors), rel=1e-10)
    # after one observation half has bet, a third of it on each kind: 1/2 + (f1 + f2 + f3) / 6
    assert found[0] == pytest.approx(0.5 + factors[0].sum() / 6)


def test_the_weights_of_all_starts_add_up_to_one() -> None:
    # what has not begun after s starts is 1 / (2 + 2 ln(1 + (s - 1) / 100))
    for many in (1, 2, 50, 100_000):
        left = 1 / (2 + 2 * np.log(1 + (many - 1) / 100))
        assert start_weight(np.arange(1, many + 1)).sum() == pytest.approx(1 - left, rel=1e-9)


@given(
    bound=st.floats(0.01, 0.99), below=st.floats(0, 1), tilt=st.floats(0.01, 3), upward=st.booleans(),
    parts=st.integers(1, 4),
)  # fmt: skip
def test_a_bet_on_a_share_is_never_favourable_inside_the_hypothesis(
    bound: float, below: float, tilt: float, upward: bool, parts: int
) -> None:
    share = bound * below if upward else 1 - (1 - bound) * below
    values = np.arange(parts + 1) / parts  # binomial(parts, share) / parts has the mean share, whatever the parts
    counts = np.arange(parts + 1)
    chance = comb(parts, counts) * share**counts * (1 - share) ** (parts - counts)
    factors = np.exp(share_bets(values, bound, [tilt if upward else -tilt]))[:, 0]
    assert float(chance @ factors) <= 1 + 1e-9
    if parts == 1 and share == bound:
        assert float(chance @ factors) == pytest.approx(1)


def test_wealth_reaches_its_bar_no_more_often_than_its_level_and_finds_a_change_where_it_was() -> None:
    rng = np.random.default_rng(2)
    level, streams = 0.1, 400
    alarms = 0
    for _ in range(streams):
        wealth = Wealth(5, level)
        wealth.extend(share_bets((rng.random(3000) < 0.3).astype(float), 0.3), np.arange(3000))
        alarms += wealth.alarmed_at is not None
    assert 0 < alarms <= binom.ppf(0.999, streams, level)

    wealth = Wealth(5, 0.001)
    drawn = np.where(np.arange(30_000) < 20_000, rng.random(30_000) < 0.3, rng.random(30_000) < 0.4)
    wealth.extend(share_bets(drawn.astype(float), 0.3), np.arange(30_000))
    assert wealth.alarmed_at is not None
    assert wealth.changed_at is not None
    assert 20_000 < wealth.alarmed_at < 21_500
    assert abs(wealth.changed_at - 20_000) < 300


def test_wealth_goes_on_from_what_it_told() -> None:
    factors = share_bets((np.random.default_rng(3).random(500) < 0.45).astype(float), 0.3)
    whole, half = Wealth(5, 0.05), Wealth(5, 0.05)
    whole.extend(factors, np.arange(500))
    for i in range(200):
        half.extend(factors[i : i + 1], np.array([i]))
    half = Wealth.of(half.to_dict())
    half.extend(factors[200:], np.arange(200, 500))
    assert (half.alarmed_at, half.changed_at, half.alarmed_by) == (whole.alarmed_at, whole.changed_at, whole.alarmed_by)
    assert half.log_e == pytest.approx(whole.log_e, rel=1e-12)
    assert whole.alarmed_at is not None


def test_a_confidence_sequence_holds_at_all_times_together() -> None:
    rng = np.random.default_rng(4)
    level, streams, missed = 0.2, 300, 0
    times = np.unique(np.geomspace(1, 5000, 25).astype(int))
    for _ in range(streams):
        totals = np.cumsum(rng.random(5000) < 0.1)
        missed += any(
            not low <= 0.1 <= high for low, high in (mean_interval(float(totals[t - 1]), t, level) for t in times)
        )
    assert missed <= binom.ppf(0.999, streams, level)


def test_confidence_sequences_at_their_limits() -> None:
    assert mean_interval(0, 0, 0.05) == (0, 1)
    # all 100 right: p^100 = 0.05 x B(100.5, 0.5) / B(0.5, 0.5) at the border, which is C(200, 100) / 4^100 = 0.0563485
    low, high = mean_interval(100, 100, 0.05)
    assert high == 1
    assert low == pytest.approx((0.05 * 0.0563485) ** 0.01, rel=1e-6)
    wide, narrow = mean_interval(30, 100, 0.05), mean_interval(3000, 10_000, 0.05)
    assert wide[0] < narrow[0] < 0.3 < narrow[1] < wide[1]


def test_an_exact_interval() -> None:
    # none of 10: 1 - 0.025^(1/10) = 0.3085 (Clopper & Pearson)
    assert exact_interval(0, 10, 0.05) == pytest.approx((0, 1 - 0.025**0.1))
    assert exact_interval(10, 10, 0.05) == pytest.approx((0.025**0.1, 1))
    with pytest.raises(InputError, match="11 of 10"):
        exact_interval(11, 10, 0.05)
