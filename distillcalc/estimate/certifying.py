"""Which thresholds of a measured router are good enough, with a guarantee that holds for any finite sample.

Learn-then-Test (Angelopoulos et al. 2021, arXiv:2110.01052): the tuning items say in which order the thresholds are
tried, the certifying items test them one after the other, each at the full level, and the first that is not rejected
ends it. With probability 1 - level or more every threshold that is certified meets the requirement. All tests read
counts, so the order of the items plays no part.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distillcalc.errors import InputError
from distillcalc.estimate.paired_retention import boundary_spread, paired_p_value, retention_p_value
from distillcalc.workload.routing import MeasuredRouting, RoutingCounts

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
PValues: TypeAlias = Floats | Callable[[int], float]

NUISANCE_SHARE = 0.02  # of the level, spent on the interval of the nuisance parameter
BETS = 32
POWER = 0.8
MOST_ITEMS = 10_000_000

__all__ = [
    "bounded_mean_p_value",
    "certified",
    "fixed_sequence",
    "floor_p_value",
    "more_items",
    "retention_p_value",
    "support",
    "trial_order",
]


def floor_p_value(right: ArrayLike, items: int, floor: ArrayLike) -> Floats:
    """The p-value of "quality is below the floor", by the exact binomial test.

    Parameters
    ----------
    right : items that were answered right, any shape.
    items : how many there are.
    floor : of the quality, in [0, 1], broadcastable to ``right``.

    Returns
    -------
    P(Bin(items, floor) >= right), shape of the two broadcast; the duality of Clopper & Pearson (Biometrika 26, 1934).
    """
    from scipy.special import betainc

    counts, floors = np.broadcast_arrays(np.asarray(right, dtype=float), np.asarray(floor, dtype=float))
    found = betainc(np.maximum(counts, 1), items - counts + 1, np.clip(floors, 0, 1))
    return np.asarray(np.where(counts <= 0, 1.0, found))


def bounded_mean_p_value(values: ArrayLike, low: float, high: float) -> Floats:
    """The p-value of "the mean is below 0" of bounded values, for metrics that are not right or wrong.

    Parameters
    ----------
    values : shape (items,) or (items, thresholds), in [low, high]; for a floor f the metric - f, for a retention rho
        the mixture's metric - rho x the teacher's.
    low, high : bounds of a value, low < 0 < high.

    Returns
    -------
    p-values, shape () or (thresholds,).

    Raises
    ------
    InputError
        For values beyond the bounds, or bounds on one side of 0.

    Notes
    -----
    A mixture of fixed bets: e = mean over j of prod over i of (1 + lambda_j Z_i), whose mean is at most 1 where that of
    Z is at most 0, so that 1 / e is a p-value (Waudby-Smith & Ramdas 2024, arXiv:2010.09686). The products do not
    depend on the order of the items.
    """
    from scipy.special import logsumexp

    z = np.asarray(values, dtype=float)
    if not low < 0 < high:
        raise InputError(f"the bounds must lie on the two sides of 0. Got {low:g} and {high:g}")
    if not z.size or not np.isfinite(z).all() or z.min() < low or z.max() > high:
        raise InputError(f"values must be finite and lie between {low:g} and {high:g}, one at least")
    z = np.sort(z, axis=0)  # so that not even rounding depends on the order
    bets = np.geomspace(1e-3, 0.99, BETS) / abs(low)
    logs = np.stack([np.log1p(bet * z).sum(axis=0) for bet in bets])
    return np.asarray(np.minimum(1.0, np.exp(np.log(BETS) - logsumexp(logs, axis=0))))


def fixed_sequence(p_values: PValues, order: ArrayLike, level: float) -> Bools:
    """Which hypotheses are rejected when tested in an order, each at the full level, up to the first that is not.

    Parameters
    ----------
    p_values : one for each hypothesis; or a function of its place, which is then asked only as far as it is needed.
    order : places in the order of testing, chosen without looking at what the p-values are of.
    level : probability of any false rejection, at most (Bauer, Statistics in Medicine 10, 1991).
    """
    places = np.asarray(order, dtype=np.intp)
    rejected = np.zeros(len(places), dtype=bool)
    for place in places:
        p = p_values(int(place)) if callable(p_values) else p_values[place]
        if not p <= level:
            break
        rejected[place] = True
    return rejected


def support(counts: RoutingCounts, *, floor: ArrayLike | None = None, retention: float | None = None) -> Floats:
    """By how many standard errors each threshold's estimate is above a requirement.

    Parameters
    ----------
    counts : of the tuning items.
    floor : least quality, shape () or (n, 1).
    retention : least quality / the teacher's; one of the two is given.

    Returns
    -------
    Shape (thresholds,) or (n, thresholds). Half an item is added to each cell, so that no count of 0 makes it infinite.
    """
    margin, spread = _margin(counts, floor, retention)
    return np.asarray(margin / spread * np.sqrt(counts.items))


def _margin(
    counts: RoutingCounts, floor: ArrayLike | None, retention: float | None, smoothing: float = 0.5
) -> tuple[Floats, Floats]:
    """Mean and standard deviation over items of what must be positive on average, shape (thresholds,)."""
    gained, lost = (np.asarray(values, dtype=float) + smoothing for values in (counts.gained, counts.lost))
    both = counts.teacher_right - np.asarray(counts.lost, dtype=float) + smoothing
    items = counts.items + 4 * smoothing
    if retention is None:
        if floor is None:
            raise InputError("give floor or retention")
        right = (gained + both) / items
        return np.asarray(right - np.asarray(floor)), np.asarray(np.sqrt(np.maximum(right * (1 - right), 1e-12)))
    margin = (gained + (1 - retention) * both - retention * lost) / items
    square = (gained + (1 - retention) ** 2 * both + retention**2 * lost) / items
    return np.asarray(margin), np.asarray(np.sqrt(np.maximum(square - margin**2, 1e-12)))


def trial_order(
    measured: MeasuredRouting, *, floor: ArrayLike | None = None, retention: float | None = None
) -> NDArray[np.intp]:
    """Places of the thresholds, the best supported by the tuning items first; of equals the one that sends more on."""
    z = np.round(support(measured.tuning, floor=floor, retention=retention), 9)
    sent = np.broadcast_to(np.asarray(measured.tuning.escalated), z.shape)
    return np.lexsort((-sent, -z), axis=-1)


def certified(
    measured: MeasuredRouting,
    *,
    floor: ArrayLike | None = None,
    retention: float | None = None,
    confidence: float,
) -> Bools:
    """Which thresholds meet a requirement, all of those named with probability ``confidence`` at least.

    Parameters
    ----------
    measured : the router's counts.
    floor : least quality: a number, or shape (n,) for n floors, each of which is then answered by itself.
    retention : least quality / the teacher's; one of the two is given.
    confidence : 1 - the level of the tests.

    Returns
    -------
    Shape (thresholds,), or (n, thresholds) for n floors. What asks for nothing is met by all.
    """
    level = 1 - confidence
    if retention is not None:
        return _certified_retention(measured, float(retention), level).copy()
    floors = np.asarray(floor, dtype=float)
    asked = np.atleast_1d(floors)[:, None]
    order = trial_order(measured, floor=asked)
    right = measured.certifying.teacher_right + np.subtract(measured.certifying.gained, measured.certifying.lost)
    rejected = floor_p_value(right, measured.certifying.items, asked) <= level
    in_order = np.logical_and.accumulate(np.take_along_axis(rejected, order, axis=1), axis=1)
    found = np.zeros_like(rejected)
    np.put_along_axis(found, order, in_order, axis=1)
    found |= asked <= 0
    return found.reshape((*floors.shape, len(measured.threshold)))


@lru_cache(maxsize=1024)
def _certified_retention(measured: MeasuredRouting, retention: float, level: float) -> Bools:
    if retention <= 0:
        return np.ones(len(measured.threshold), dtype=bool)
    counts = measured.certifying

    def p_value(place: int) -> float:
        gained, lost = counts.gained[place], counts.lost[place]
        return paired_p_value(counts.teacher_right + gained, gained, lost, retention, NUISANCE_SHARE * level, level)

    return fixed_sequence(p_value, trial_order(measured, retention=retention), level)


def more_items(
    measured: MeasuredRouting,
    *,
    floor: float | None = None,
    retention: float | None = None,
    confidence: float,
    power: float = POWER,
    point: int | None = None,
) -> int | None:
    """About how many more labelled certifying items would certify a threshold.

    Parameters
    ----------
    measured, floor, retention, confidence : as :func:`certified`.
    power : probability that so many are enough, should the estimate be right; of each test by itself.
    point : which threshold; left out, the one that sends fewest on of those whose estimate meets the requirement.

    Returns
    -------
    The least k with N z + k mu - z_power sigma sqrt(k) >= z_level sigma_0 sqrt(N + k), for the mean z of the N
    certifying items, the mean mu and standard deviation sigma of tuning and certifying items together, and sigma_0
    where the requirement is just met: a normal approximation. Of thresholds that the order puts before it, and that
    are not certified either, the one that needs most counts.
    None where the estimate is not above the requirement, so that no number of items would do; 0 where it is certified.
    """
    from scipy.special import ndtri

    tuning, certifying = measured.tuning, measured.certifying
    pooled = RoutingCounts(
        items=tuning.items + certifying.items,
        teacher_right=tuning.teacher_right + certifying.teacher_right,
        escalated=tuple(np.add(tuning.escalated, certifying.escalated).tolist()),
        gained=tuple(np.add(tuning.gained, certifying.gained).tolist()),
        lost=tuple(np.add(tuning.lost, certifying.lost).tolist()),
    )
    margin, _ = _margin(pooled, floor, retention, smoothing=0.0)
    meets = np.flatnonzero(margin > 1e-12)
    if point is None:
        if not meets.size:
            return None
        point = int(meets[np.argmin(np.asarray(pooled.escalated)[meets])])
    elif point not in meets:
        return None
    _, spread = _margin(pooled, floor, retention)
    own, _ = _margin(certifying, floor, retention, smoothing=0.0)
    just_met = _spread_at_the_boundary(pooled, floor, retention)
    level = (1 - confidence) * (1 - NUISANCE_SHARE if retention is not None else 1)
    z = (float(ndtri(1 - level)), float(ndtri(power)))
    # Those that are tried before it must be certified too.
    order = trial_order(measured, floor=floor, retention=retention).ravel().tolist()
    passed = certified(measured, floor=floor, retention=retention, confidence=confidence)
    tried = [i for i in order[: order.index(point) + 1] if i in meets and not passed[i]]
    return max((_needed(certifying.items, own[i], margin[i], spread[i], just_met[i], z) for i in tried), default=0)


def _spread_at_the_boundary(counts: RoutingCounts, floor: float | None, retention: float | None) -> Floats:
    """Standard deviation over items of the margin where the requirement is just met, shape (thresholds,)."""
    gained, lost = (np.asarray(values, dtype=float) for values in (counts.gained, counts.lost))
    if retention is None:
        assert floor is not None
        return np.full(len(gained), max(float(np.sqrt(floor * (1 - floor))), 1e-9))
    either = np.maximum(counts.teacher_right + gained, 1.0)
    return np.asarray(np.sqrt(either / counts.items) * boundary_spread(gained / either, lost / either, retention))


def _needed(n: int, own: float, mu: float, sigma: float, sigma_0: float, z: tuple[float, float]) -> int:
    """How many more items bring the sum of n items of mean ``own`` above what a test at the quantile z[0] asks."""

    def enough(k: float) -> bool:
        surplus = n * own - 0.5 + k * mu - z[1] * sigma * np.sqrt(k)  # half an item: the counts are whole
        return bool(surplus >= z[0] * sigma_0 * np.sqrt(n + k))

    low, high = 0, 1
    while not enough(high) and high < MOST_ITEMS:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
