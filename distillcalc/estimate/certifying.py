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
from distillcalc.workload.routing import MeasuredRouting, RoutingCounts

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
PValues: TypeAlias = Floats | Callable[[int], float]

NUISANCE_SHARE = 0.1  # of the level, spent on the interval of the nuisance parameter
CUT = 1e-14  # probability that a sum over a binomial leaves out, and adds back
CELLS = 16  # that the interval of the nuisance parameter is split into at first
CLOSE = 0.01  # relative gap between the bounds of the p-value down to which cells are split
SPLIT = 4  # parts that such a cell is split into
MOST_ROUNDS = 5
BETS = 32
POWER = 0.8
MOST_ITEMS = 10_000_000


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


def retention_p_value(
    items: int,
    teacher_right: int,
    gained: ArrayLike,
    lost: ArrayLike,
    retention: float,
    *,
    gamma: float = 0.01,
) -> Floats:
    """The p-value of "the mixture is right less often than ``retention`` x the teacher", on the same items.

    Parameters
    ----------
    items, teacher_right : how many items there are, and how many of them the teacher gets right.
    gained, lost : items that the mixture alone gets right, and the teacher alone, any shape.
    retention : least quality of the mixture / the teacher's, in (0, 1].
    gamma : probability spent on the nuisance parameter; it is part of the p-value, which is never below it.

    Returns
    -------
    p-values in the shape of the counts.

    Notes
    -----
    Given the m items that either gets right, the counts (A gained, B lost, C both) are trinomial with cells alpha,
    beta and the rest. The mixture is right in 1 - beta of them and the teacher in 1 - alpha, so the requirement is
    1 - beta >= rho (1 - alpha), and the boundary of the hypothesis beta = 1 - rho + rho alpha with alpha at most
    rho / (1 + rho). S = rho A - B rejects where it is large; at a given alpha it is stochastically largest on the
    boundary. The p-value is the largest P(S' >= S) over the Clopper-Pearson interval of alpha at level 1 - gamma, plus
    gamma (Berger & Boos, JASA 89, 1994). The largest is bounded from above, not sought: in each cell of alphas S is
    stochastically below that of the cell's largest alpha with its smallest beta, and cells are split until the bound is
    within a hundredth of a value that is reached.

    Raises
    ------
    InputError
        For counts that do not add up, or a retention outside (0, 1].
    """
    if not 0 < retention <= 1:
        raise InputError(f"retention must be above 0 and at most 1. Got {retention:g}")
    more, fewer = np.broadcast_arrays(np.asarray(gained), np.asarray(lost))
    if (fewer > teacher_right).any() or (teacher_right + more > items).any() or min(more.min(), fewer.min()) < 0:
        raise InputError(
            f"of {items} items with {teacher_right} right by the teacher, lost are among those and gained among the "
            f"rest. Got gained {more.max()} and lost {fewer.max()} at most"
        )
    found = [
        _paired(teacher_right + int(a), int(a), int(b), float(retention), float(gamma))
        for a, b in zip(more.ravel(), fewer.ravel(), strict=True)
    ]
    return np.asarray(found, dtype=float).reshape(more.shape)


@lru_cache(maxsize=4096)
def _paired(m: int, gained: int, lost: int, rho: float, gamma: float, level: float | None = None) -> float:
    """The p-value of the paired test; where a level is given, any value that is on the same side of it."""
    from scipy.special import betaincinv

    if m == 0:
        return 1.0
    low = float(betaincinv(gained, m - gained + 1, gamma / 2)) if gained else 0.0
    high = float(betaincinv(gained + 1, m - gained, 1 - gamma / 2)) if gained < m else 1.0
    high = min(high, rho / (1 + rho))
    low = min(low, high)  # beyond the hypothesis its last alpha stands in, which bounds from above
    reached, best = rho * gained - lost, 0.0
    edges = np.linspace(low, high, CELLS + 1)
    below, above = edges[:-1], edges[1:]
    bounds = _upper(m, reached, rho, below, above)
    for _ in range(MOST_ROUNDS):
        worst = int(np.argmax(bounds))
        middle = np.array([(below[worst] + above[worst]) / 2])
        best = max(best, float(_upper(m, reached, rho, middle, middle)[0]))
        if level is not None and (gamma + bounds[worst] <= level or gamma + best > level + CUT):
            break
        loose = bounds > best * (1 + CLOSE)
        if not loose.any() or bounds[worst] < 1e-9 * gamma:
            break
        parts = np.linspace(below[loose], above[loose], SPLIT + 1)
        below = np.concatenate([below[~loose], parts[:-1].ravel()])
        above = np.concatenate([above[~loose], parts[1:].ravel()])
        bounds = np.concatenate([bounds[~loose], _upper(m, reached, rho, parts[:-1].ravel(), parts[1:].ravel())])
    decided = level is not None and gamma + best > level + CUT
    return min(1.0, gamma + (best if decided else float(bounds.max())))


def _upper(m: int, reached: float, rho: float, below: Floats, above: Floats) -> Floats:
    """P(rho A - B >= reached) of the trinomial with alpha ``above`` and the beta of ``below``, shape of the two.

    A sum over B of its binomial probability x the tail of A given B, B from where next to nothing is left out.
    """
    from scipy.special import betainc, gammaln

    beta = 1 - rho + rho * np.minimum(below, above)
    spread = 9 * np.sqrt(m * (beta * (1 - beta))) + 40  # Bernstein: less than CUT beyond
    first = max(int(np.floor((m * beta - spread).min())), 0)
    last = min(int(np.ceil((m * beta + spread).max())), m)
    b = np.arange(first, last + 1, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_b = np.where(b > 0, b * np.log(np.maximum(beta, 1e-300))[:, None], 0.0)
        log_rest = np.where(b < m, (m - b) * np.log1p(-beta)[:, None], 0.0)
    chances = np.exp(gammaln(m + 1) - gammaln(b + 1) - gammaln(m - b + 1) + log_b + log_rest)
    # S counts itself as reached, whatever rounding made of it.
    need = np.ceil((reached + b) / rho - 1e-9 * (m + 1))
    left = m - b
    share = np.minimum(above / (1 - beta), 1.0)[:, None]
    inside = (need >= 1) & (need <= left)
    tail = betainc(np.where(inside, need, 1.0), np.where(inside, left - need + 1, 1.0), share)
    tail = np.where(need < 1, 1.0, np.where(inside, tail, 0.0))
    return np.asarray(np.minimum(np.sum(chances * tail, axis=1) * (1 + 1e-9 + 1e-14 * m) + CUT, 1.0))


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
        return _paired(counts.teacher_right + gained, gained, lost, retention, NUISANCE_SHARE * level, level)

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
    power : probability that so many are enough, should the estimate be right.
    point : which threshold; left out, the one that sends fewest on of those whose estimate meets the requirement.

    Returns
    -------
    The least k with N z + k mu - z_power sigma sqrt(k) >= z_level sigma sqrt(N + k), for the mean z of the N certifying
    items, the mean mu and standard deviation sigma of tuning and certifying items together: a normal approximation.
    None where the estimate is not above the requirement, so that no number of items would do.
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
    mu, sigma, n = float(margin[point]), float(spread[point]), certifying.items
    sigma_0 = sigma if floor is None else max(float(np.sqrt(floor * (1 - floor))), 1e-9)
    level = (1 - confidence) * (1 - NUISANCE_SHARE if retention is not None else 1)
    z_level, z_power = float(ndtri(1 - level)), float(ndtri(power))

    def enough(k: float) -> bool:
        surplus = n * own[point] - 0.5 + k * mu - z_power * sigma * np.sqrt(k)  # half an item: the counts are whole
        return bool(surplus >= z_level * sigma_0 * np.sqrt(n + k))

    low, high = 0, 1
    while not enough(high) and high < MOST_ITEMS:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
