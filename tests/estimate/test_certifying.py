"""Finite-sample tests on a router's counts: by hand, against enumeration, and what they promise, simulated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import brentq

from distillcalc.errors import InputError
from distillcalc.estimate.certifying import (
    bounded_mean_p_value,
    certified,
    fixed_sequence,
    floor_p_value,
    more_items,
    retention_p_value,
    support,
    trial_order,
)
from distillcalc.estimate.paired_retention import paired_p_value
from distillcalc.workload.routing import MeasuredRouting, RoutingCounts


def counts(items: int, teacher_right: int, *points: tuple[int, int, int]) -> RoutingCounts:
    """Each point is (escalated, gained, lost)."""
    sent, gained, lost = (tuple(column) for column in zip(*points, strict=True))
    return RoutingCounts(items=items, teacher_right=teacher_right, escalated=sent, gained=gained, lost=lost)


def router(tuning: RoutingCounts, certifying: RoutingCounts, **changed: Any) -> MeasuredRouting:
    made: dict[str, Any] = {
        "student": "tiny",
        "teacher": "acme/big",
        "score": "margin",
        "threshold": tuple(np.linspace(0.9, 0.1, len(tuning.escalated)).tolist()),
        "tuning": tuning,
        "certifying": certifying,
        "student_right": 0,
        **changed,
    }
    return MeasuredRouting(**made)


def test_the_floor_by_hand() -> None:
    # Of 3 fair coins: three heads 1/8, two or more 4/8, one or more 7/8, none or more 1.
    np.testing.assert_allclose(floor_p_value([3, 2, 1, 0], 3, 0.5), [1 / 8, 4 / 8, 7 / 8, 1])
    np.testing.assert_allclose(floor_p_value(9, 10, [0.0, 1.0]), [0, 1])


@given(st.integers(1, 400), st.data())
def test_the_floor_is_the_binomial_test_and_dual_to_clopper_and_pearson(items: int, data: st.DataObject) -> None:
    right, floor = data.draw(st.integers(0, items)), data.draw(st.floats(0.01, 0.99))
    p = float(floor_p_value(right, items, floor))
    assert p == pytest.approx(stats.binomtest(right, items, floor, alternative="greater").pvalue, rel=1e-6)
    least = stats.binomtest(right, items, alternative="greater").proportion_ci(0.95).low
    if abs(p - 0.05) > 1e-6:
        assert (p < 0.05) == (least > floor)


def test_retention_by_hand() -> None:
    # Two items, the teacher right in both and the mixture too; half the teacher's quality is asked for. Only (0, 0),
    # (1, 0) and (2, 0) are as convincing: no B. On the boundary beta = (1 + alpha) / 2: (1 - beta)^2, at most 1/4.
    assert float(retention_p_value(2, 2, 0, 0, 0.5, gamma=0.01)) == pytest.approx(0.26, rel=0.01)
    # Three items that the mixture alone gets right, all of the teacher's quality: alpha = beta <= 1/2, P(A = 3) = 1/8.
    assert float(retention_p_value(3, 0, 3, 0, 1.0, gamma=0.01)) == pytest.approx(0.135, rel=0.01)
    assert float(retention_p_value(5, 0, 0, 0, 0.9)) == 1  # nobody is right in anything: nothing is known


def test_where_all_is_asked_for_the_statistic_is_mcnemars() -> None:
    # (A - B) / sqrt(A + B): of 3 and 0 it is 1.732, of 4 and 1 1.342, of 6 and 2 1.414, of 9 and 3 again 1.732.
    p = [float(retention_p_value(40, 30, a, b, 1.0)) for a, b in ((4, 1), (6, 2), (3, 0), (9, 3))]
    assert p[0] > p[1] > max(p[2], p[3])
    m, cells = 20, [(a, b) for a in range(21) for b in range(21 - a) if a + b and (a - b) / np.sqrt(a + b) >= 3**0.5]
    low, high = stats.beta.ppf([0.001, 0.999], [3, 4], [18, 17])
    a, b = np.array(cells).T
    most = max(
        stats.multinomial.pmf(np.stack([a, b, m - a - b], axis=1), m, [alpha, alpha, 1 - 2 * alpha]).sum()
        for alpha in np.linspace(low, min(high, 0.5), 400)
    )
    assert float(retention_p_value(m, m - 3, 3, 0, 1.0, gamma=0.002)) == pytest.approx(0.002 + most, rel=0.003)


def score(m: int, gained: int, lost: int, rho: float) -> float:
    """The margin over its standard deviation at the most likely point of the boundary, found by bisection."""
    both = m - gained - lost

    def slope(alpha: float) -> float:  # of the log-likelihood; it falls
        beta, rest = 1 - rho + rho * alpha, rho - (1 + rho) * alpha
        return gained / alpha + lost * rho / beta - both * (1 + rho) / rest

    ends = 1e-12, rho / (1 + rho) - 1e-12
    alpha = ends[0] if slope(ends[0]) <= 0 else ends[1] if slope(ends[1]) >= 0 else brentq(slope, *ends, xtol=1e-15)
    beta = 1 - rho + rho * alpha
    variance = m * (rho**2 * alpha + beta - (rho * alpha - beta) ** 2)
    return float((rho * gained - lost + m * (1 - rho)) / np.sqrt(variance))


def exact(m: int, gained: int, lost: int, rho: float, gamma: float) -> float:
    """By enumeration of A and B on a fine grid of alpha."""
    low = stats.beta.ppf(gamma / 2, gained, m - gained + 1) if gained else 0.0
    high = min(stats.beta.ppf(1 - gamma / 2, gained + 1, m - gained) if gained < m else 1.0, rho / (1 + rho))
    low, reached = min(low, high), score(m, gained, lost, rho)
    cells = [(a, b) for a in range(m + 1) for b in range(m + 1 - a) if score(m, a, b, rho) >= reached - 1e-6]
    a, b = np.array(cells).T
    found = 0.0
    for alpha in np.linspace(low, high, 200):
        beta = 1 - rho + rho * alpha
        p = [alpha, beta, max(1 - alpha - beta, 0.0)]
        found = max(found, stats.multinomial.pmf(np.stack([a, b, m - a - b], axis=1), m, p).sum())
    return min(1.0, found + gamma)


@pytest.mark.parametrize(
    ("m", "gained", "lost", "rho"),
    [
        (20, 1, 2, 0.9), (20, 4, 1, 1.0), (25, 0, 0, 0.9), (15, 6, 0, 0.8), (12, 5, 3, 1.0), (18, 0, 3, 0.7),
        (40, 2, 1, 0.95), (30, 9, 12, 0.5), (12, 0, 12, 0.8), (12, 12, 0, 0.8),
    ],
)  # fmt: skip
def test_retention_is_what_enumeration_finds_and_never_less(m: int, gained: int, lost: int, rho: float) -> None:
    found = float(retention_p_value(m + 7, m - gained, gained, lost, rho, gamma=0.02))
    wanted = exact(m, gained, lost, rho, 0.02)
    assert wanted * (1 - 1e-9) <= found <= wanted * 1.011


def test_items_that_both_get_wrong_tell_nothing_of_the_retention() -> None:
    few, many = (float(retention_p_value(items, 40, 1, 2, 0.9)) for items in (50, 5000))
    assert few == many


@settings(max_examples=60)
@given(st.integers(1, 300), st.sampled_from([0.8, 0.9, 0.95, 1.0]), st.data())
def test_one_more_gained_or_one_fewer_lost_is_never_less_convincing(n: int, rho: float, data: st.DataObject) -> None:
    right = data.draw(st.integers(1, n))
    gained, lost = data.draw(st.integers(0, n - right)), data.draw(st.integers(1, right))
    p, fewer = (float(retention_p_value(n, right, gained, b, rho, gamma=1e-4)) for b in (lost, lost - 1))
    assert fewer <= p * 1.011 + 1e-9  # bounds are within a hundredth of the value
    assert 1e-4 <= fewer <= 1


@pytest.mark.parametrize(("alpha", "rho", "m"), [(0.02, 0.9, 150), (0.2, 1.0, 120), (0.0, 0.95, 100), (0.35, 0.8, 80)])
def test_on_the_boundary_a_false_certificate_is_as_rare_as_promised(alpha: float, rho: float, m: int) -> None:
    beta, level, runs = 1 - rho + rho * alpha, 0.1, 2_000
    rng = np.random.default_rng(7)
    drawn = rng.multinomial(m, [alpha, beta, 1 - alpha - beta], size=runs)
    cells, times = np.unique(drawn[:, :2], axis=0, return_counts=True)
    p = np.array([float(retention_p_value(m, m - a, a, b, rho, gamma=0.01)) for a, b in cells])
    assert (times * (p <= level)).sum() / runs <= level + 2 * np.sqrt(level * (1 - level) / runs)


@pytest.mark.parametrize("rho", [0.8, 0.9, 0.95, 1.0])
def test_nowhere_on_the_boundary_does_the_test_exceed_its_level_and_it_uses_most_of_it(rho: float) -> None:
    # Every outcome of 60 items enumerated: the probability of a p-value of 0.1 or less, at 25 points of the boundary.
    m, level = 60, 0.1
    cells = np.array([(a, b) for a in range(m + 1) for b in range(m + 1 - a)])
    p = np.array([paired_p_value(m, int(a), int(b), rho, 0.002, level) for a, b in cells])
    sizes = []
    for alpha in np.linspace(0, rho / (1 + rho), 25):
        beta = 1 - rho + rho * alpha
        at = np.array([alpha, beta, max(1 - alpha - beta, 0.0)])
        chances = stats.multinomial.pmf(np.c_[cells, m - cells.sum(axis=1)], m, at / at.sum())
        sizes.append(chances[p <= level].sum())
    assert 0.09 < max(sizes) <= level
    assert np.median(sizes) > 0.08


@pytest.mark.parametrize("rho", [0.6, 0.9, 1.0])
def test_one_more_gained_and_one_fewer_lost_are_each_more_convincing(rho: float) -> None:
    # The bound by stochastic order stands on it: of 30 items every outcome beside its neighbours.
    m = 30
    p = {(a, b): score(m, a, b, rho) for a in range(m + 1) for b in range(m + 1 - a) if a + b}
    for (a, b), one in p.items():
        assert p.get((a + 1, b), np.inf) >= one
        assert p.get((a, b + 1), -np.inf) <= one


def test_a_value_that_only_decides_is_on_the_same_side_of_the_level() -> None:
    rng = np.random.default_rng(11)
    for a, b in rng.integers(0, (40, 60), (60, 2)).tolist():
        whole, decided = (paired_p_value(400, a, b, 0.95, 0.001, level) for level in (None, 0.05))
        assert whole is not None
        assert (whole <= 0.05) == (decided <= 0.05)


def test_with_many_items_the_power_is_that_of_the_normal_approximation() -> None:
    # 8% gained, 15% lost, 74.4% right by both: margin 0.08 + 0.1 x 0.744 - 0.9 x 0.15 = 0.0194 with sd 0.45, which is
    # 1.9 standard errors of 2,000 items.
    rng, n, runs = np.random.default_rng(3), 2_000, 600
    gained, lost, both = 0.08, 0.15, 0.744
    drawn = rng.multinomial(n, [gained, lost, both, 1 - gained - lost - both], size=runs)
    p = np.array([paired_p_value(int(a + b + c), int(a), int(b), 0.9, 0.001, 0.05) for a, b, c, _ in drawn])
    margin = gained + 0.1 * both - 0.9 * lost
    sd = np.sqrt(gained + 0.01 * both + 0.81 * lost - margin**2)
    power = stats.norm.sf(stats.norm.isf(0.05) - margin / sd * np.sqrt(n))
    assert 0.5 < power < 0.7
    assert np.mean(p <= 0.05) == pytest.approx(power, abs=0.04)


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="lost are among those"):
        retention_p_value(10, 5, 0, 6, 0.9)
    with pytest.raises(InputError, match="gained among the rest"):
        retention_p_value(10, 5, 6, 0, 0.9)
    with pytest.raises(InputError, match=r"at most 1\. Got 1\.2"):
        retention_p_value(10, 5, 0, 0, 1.2)
    with pytest.raises(InputError, match=r"gamma must be between 0 and 1\. Got 0"):
        retention_p_value(10, 5, 0, 0, 0.9, gamma=0)


def test_a_bounded_mean_by_hand() -> None:
    # One value of 0.5: each bet wins half of lambda, so e = 1 + 0.5 x the mean bet.
    bets = np.geomspace(1e-3, 0.99, 32)
    assert float(bounded_mean_p_value([0.5], -1, 1)) == pytest.approx(1 / (1 + 0.5 * bets.mean()))
    assert float(bounded_mean_p_value([-1.0], -1, 1)) == 1


def test_a_bounded_mean_is_certified_with_enough_values_and_no_order_matters() -> None:
    rng = np.random.default_rng(5)
    values = rng.uniform(-0.8, 1.0, (1_000, 2)) - [0.0, 0.2]
    p = bounded_mean_p_value(np.maximum(values, -0.9), -0.9, 1.0)
    assert p[0] < 1e-3 < p[1]
    np.testing.assert_array_equal(p, bounded_mean_p_value(np.maximum(values, -0.9)[::-1], -0.9, 1.0))


def test_a_bounded_mean_of_nought_is_rarely_certified() -> None:
    rng = np.random.default_rng(6)
    p = bounded_mean_p_value(rng.choice([-0.9, 0.1], p=[0.1, 0.9], size=(200, 2_000)), -0.9, 0.1)
    assert np.mean(p <= 0.1) <= 0.1


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, -0.5)])
def test_bounds_lie_on_both_sides_of_nought(low: float, high: float) -> None:
    with pytest.raises(InputError, match="two sides of 0"):
        bounded_mean_p_value([0.0], low, high)


def test_values_beyond_their_bounds_are_refused() -> None:
    with pytest.raises(InputError, match="between -1 and 1"):
        bounded_mean_p_value([0.5, 1.5], -1, 1)


def test_a_fixed_sequence_ends_at_the_first_that_is_not_rejected() -> None:
    p = np.array([0.01, 0.2, 0.03])
    assert fixed_sequence(p, [0, 2, 1], 0.05).tolist() == [True, False, True]
    assert fixed_sequence(p, [0, 1, 2], 0.05).tolist() == [True, False, False]
    assert fixed_sequence(p, [1, 0, 2], 0.05).tolist() == [False, False, False]
    asked: list[int] = []

    def p_value(place: int) -> float:
        asked.append(place)
        return float(p[place])

    fixed_sequence(p_value, [0, 1, 2], 0.05)
    assert asked == [0, 1]


def test_support_is_the_margin_in_standard_errors() -> None:
    # 100 items, half an item more in each of four cells: (80.5 + 2.5) / 102 right, and their binomial error.
    one = counts(100, 84, (10, 2, 4))
    q = 83 / 102
    assert support(one, floor=0.7)[0] == pytest.approx((q - 0.7) / np.sqrt(q * (1 - q) / 100))
    assert support(one, floor=np.array([[0.7], [0.8]])).shape == (2, 1)
    margin = (2.5 + 0.1 * 80.5 - 0.9 * 4.5) / 102
    square = (2.5 + 0.01 * 80.5 + 0.81 * 4.5) / 102
    assert support(one, retention=0.9)[0] == pytest.approx(margin / np.sqrt((square - margin**2) / 100))


def test_of_equal_support_the_one_that_sends_more_on_is_tried_first() -> None:
    made = counts(100, 90, (10, 1, 1), (30, 1, 1), (20, 0, 9))
    assert trial_order(router(made, made), retention=0.9).tolist() == [1, 0, 2]


def test_certified_at_known_p_values() -> None:
    # P(Bin(100, 0.9) >= 95) = 0.0576 and P(... >= 94) = 0.117 (tables of the binomial): at 90% only the first is.
    made = counts(100, 94, (40, 2, 1), (20, 1, 1))
    assert certified(router(made, made), floor=0.9, confidence=0.9).tolist() == [True, False]
    assert certified(router(made, made), floor=0.9, confidence=0.95).tolist() == [False, False]
    assert certified(router(made, made), floor=0.0, confidence=0.95).tolist() == [True, True]
    assert certified(router(made, made), retention=0.0, confidence=0.95).tolist() == [True, True]
    # Both keep nine tenths of the teacher's: next to nothing is lost.
    assert certified(router(made, made), retention=0.9, confidence=0.95).tolist() == [True, True]


def test_a_threshold_behind_one_that_fails_is_not_certified() -> None:
    # The tuning items put the second first; it fails on the certifying items, and the first is never asked.
    tuning, certifying = counts(100, 94, (40, 2, 1), (20, 4, 0)), counts(100, 94, (40, 5, 0), (20, 0, 4))
    assert certified(router(tuning, certifying), floor=0.9, confidence=0.9).tolist() == [False, False]


@given(st.lists(st.floats(0.5, 0.99), min_size=1, max_size=6))
def test_many_floors_are_each_one_floor(floors: list[float]) -> None:
    made = router(
        counts(200, 180, (150, 3, 1), (80, 5, 6), (20, 6, 20)), counts(300, 270, (220, 4, 1), (130, 7, 8), (33, 8, 33))
    )
    many = certified(made, floor=np.array(floors), confidence=0.9)
    for floor, row in zip(floors, many, strict=True):
        np.testing.assert_array_equal(row, certified(made, floor=floor, confidence=0.9))


def test_the_order_of_the_thresholds_plays_no_part() -> None:
    points = [(150, 3, 1), (80, 5, 6), (20, 6, 20)]
    forth, back = (router(counts(200, 180, *p), counts(200, 180, *p)) for p in (points, points[::-1]))
    for asked in ({"floor": 0.85}, {"retention": 0.95}):
        one, other = (certified(made, confidence=0.9, **asked) for made in (forth, back))
        assert one.tolist() == other[::-1].tolist()
        assert 0 < one.sum() < 3


def test_more_items_are_about_as_many_as_the_power_asks_for() -> None:
    # 92% of 300 against a floor of 0.9: not yet at 95%. With so many more of the same quality, four in five are.
    made = counts(300, 276, (100, 3, 3))
    one = router(made, made)
    assert not certified(one, floor=0.9, confidence=0.95).any()
    more = more_items(one, floor=0.9, confidence=0.95)
    assert more is not None
    right = 276 + np.random.default_rng(0).binomial(more, 0.92, 4_000)
    share = np.mean(floor_p_value(right, 300 + more, 0.9) <= 0.05)
    assert share == pytest.approx(0.8, abs=0.05)
    assert (more_items(one, floor=0.9, confidence=0.95, power=0.95) or 0) > more


@pytest.mark.parametrize(
    ("teacher", "gained", "lost", "asked"),
    [
        (0.9, 0.05, 0.068, {"retention": 0.95}),  # keeps 0.98
        (0.85, 0.06, 0.043, {"retention": 1.0}),  # keeps 1.02
        (0.9, 0.03, 0.057, {"retention": 0.9}),  # keeps 0.97: few more
        (0.97, 0.02, 0.02, {"floor": 0.95}),
    ],
)
def test_with_so_many_more_about_four_in_five_are_certified(
    teacher: float, gained: float, lost: float, asked: dict[str, Any]
) -> None:
    rng = np.random.default_rng(5)
    p = [gained, lost, teacher - lost, 1 - teacher - gained]

    def drawn(items: int) -> np.ndarray:
        return rng.multinomial(items, p)

    def made(of: np.ndarray) -> RoutingCounts:
        a, b, both, _ = of.tolist()
        return counts(int(of.sum()), b + both, (0, a, b))

    held, asked_for = 0, 0
    while asked_for < 300:
        tuning, certifying = made(drawn(20_000)), drawn(100)
        now = router(tuning, made(certifying))
        if certified(now, confidence=0.95, **asked)[0]:
            continue
        more = more_items(now, confidence=0.95, **asked)
        assert more is not None
        then = router(tuning, made(certifying + drawn(more)))
        asked_for += 1
        held += bool(certified(then, confidence=0.95, **asked)[0])
    assert 0.7 < held / asked_for < 0.9


def test_more_items_are_of_the_cheapest_whose_estimate_is_enough() -> None:
    made = counts(200, 180, (150, 3, 1), (80, 2, 4), (20, 0, 30))
    one = router(made, made)
    assert more_items(one, retention=0.98, confidence=0.9) == more_items(one, retention=0.98, confidence=0.9, point=1)
    assert more_items(one, retention=0.98, confidence=0.9, point=2) is None
    assert more_items(one, floor=0.95, confidence=0.9) is None
    assert more_items(one, floor=0.5, confidence=0.9) == 0


def test_what_is_tried_before_must_be_certified_too() -> None:
    # The second would pass by itself; it waits for the first, of which 92% are right where 90% are asked for.
    tuning = counts(300, 281, (150, 3, 1), (60, 3, 4))
    certifying = counts(300, 276, (150, 3, 3), (60, 9, 0))
    one = router(tuning, certifying)
    assert floor_p_value([276, 285], 300, 0.9)[1] < 0.05 < floor_p_value([276, 285], 300, 0.9)[0]
    assert trial_order(one, floor=0.9).tolist() == [0, 1]
    assert not certified(one, floor=0.9, confidence=0.95).any()
    needed = [more_items(one, floor=0.9, confidence=0.95, point=i) for i in (0, 1)]
    assert needed[0] == needed[1]
    assert (needed[0] or 0) > 50


@pytest.mark.parametrize("asked", [{"retention": 0.95}, {"floor": 0.855}])
def test_the_cheapest_certified_threshold_is_good_enough_in_nine_of_ten_calibrations(asked: dict[str, float]) -> None:
    # A score s, even on (0, 1): the student is right with probability (1 + s) / 2, the teacher in 0.9 whatever s is. At
    # threshold t the mixture is right in 0.9 t + (1 - t) / 2 + (1 - t^2) / 4; of 0.855 that is t = 0.337.
    thresholds = np.array([0.1, 0.2, 0.3, 0.33, 0.36, 0.4, 0.5, 0.6, 0.8])
    quality = 0.9 * thresholds + (1 - thresholds) / 2 + (1 - thresholds**2) / 4
    assert (quality >= 0.855).tolist() == [False] * 4 + [True] * 5
    rng = np.random.default_rng(2026)

    def drawn(items: int) -> RoutingCounts:
        s = rng.random(items)
        student, teacher = rng.random(items) < (1 + s) / 2, rng.random(items) < 0.9
        kept = s[None] >= thresholds[:, None]
        gained, lost = (kept & student & ~teacher).sum(axis=1), (kept & teacher & ~student).sum(axis=1)
        sent = (~kept).sum(axis=1)
        return counts(items, int(teacher.sum()), *np.stack([sent, gained, lost], axis=1).tolist())

    held, answered = 0, 0
    for _ in range(1_000):
        good = np.flatnonzero(certified(router(drawn(300), drawn(600)), confidence=0.9, **asked))
        answered += bool(good.size)
        held += not good.size or bool(quality[good[0]] >= 0.855)
    assert held >= 900
    assert answered >= 900  # it is no guarantee of silence
