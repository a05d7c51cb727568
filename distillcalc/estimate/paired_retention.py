"""Whether a mixture keeps a share of the teacher's quality, on the same items: an exact test by score statistic."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distillcalc.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CUT = 1e-9  # probability that a sum over a binomial leaves out, and adds back
CLOSE = 0.01  # share of gamma by which the bound of the p-value may be too high
CORNERS = 48  # of the polygon around an ellipse
FINER = 32  # points at which a polynomial is looked at, for each of its own


def retention_p_value(
    items: int,
    teacher_right: int,
    gained: ArrayLike,
    lost: ArrayLike,
    retention: float,
    *,
    gamma: float = 0.001,
) -> Floats:
    """The p-value of "the mixture is right less often than ``retention`` x the teacher", on the same items.

    Parameters
    ----------
    items, teacher_right : how many items there are, and how many of them the teacher gets right.
    gained, lost : items that the mixture alone gets right, and the teacher alone, any shape.
    retention : least quality of the mixture / the teacher's, in (0, 1].
    gamma : probability spent on the nuisance parameter, in (0, 1); it is part of the p-value, which is never below it.

    Returns
    -------
    p-values in the shape of the counts.

    Notes
    -----
    Given the m items that either gets right, the counts (A gained, B lost, C both) are trinomial with cells alpha,
    beta and the rest. The mixture is right in 1 - beta of them and the teacher in 1 - alpha, so the requirement is
    1 - beta >= rho (1 - alpha), and the boundary of the hypothesis beta = 1 - rho + rho alpha with alpha at most
    rho / (1 + rho). Outcomes are ordered by the score statistic (Nam & Blackwelder, Statistics in Medicine 21, 2002)

        T = (rho A - B + m (1 - rho)) / sqrt(m rho ((1 + rho) u + 1 - rho)),

    u the most likely alpha on the boundary: the root >= 0 of rho (1 + rho) u^2 - q u - rho (1 - rho) A / m = 0, q =
    rho^2 A / m + B / m - (1 - rho^2). T rises with A and falls with B: with a = A / m, W = (1 + rho) u + 1 - rho and
    T = sqrt(m rho W) (a - u) / u, its derivatives have the signs of (1 + rho) u ((2 + rho) u + 1 - rho - rho a) +
    a (1 - rho)^2, where rho a <= (1 + rho) u, and of (1 + rho) u (u - a) - 2 ((1 + rho) u^2 + a (1 - rho)). So P(T' >=
    T) falls with beta at any alpha and is largest on the boundary (Barnard's convexity; Rohmel & Mansmann, Biometrical
    Journal 41, 1999). The p-value is the largest P(T' >= T) there over the Clopper-Pearson interval of alpha at level
    1 - gamma, plus gamma (Berger & Boos, JASA 89, 1994; of ordered tables Lloyd & Moldovan, Statistics in Medicine 27,
    2008). Both the largest and the sums are bounded from above: the p-value is at most about a hundredth of gamma and
    a thousandth of itself too high, and the test is exact in the sense that its size is never above its level.

    Raises
    ------
    InputError
        For counts that do not add up, or a retention or gamma outside its range.
    """
    if not 0 < retention <= 1:
        raise InputError(f"retention must be above 0 and at most 1. Got {retention:g}")
    if not 0 < gamma < 1:
        raise InputError(f"gamma must be between 0 and 1. Got {gamma:g}")
    more, fewer = np.broadcast_arrays(np.asarray(gained), np.asarray(lost))
    if (fewer > teacher_right).any() or (teacher_right + more > items).any() or min(more.min(), fewer.min()) < 0:
        raise InputError(
            f"of {items} items with {teacher_right} right by the teacher, lost are among those and gained among the "
            f"rest. Got gained {more.max()} and lost {fewer.max()} at most"
        )
    found = [
        paired_p_value(teacher_right + int(a), int(a), int(b), float(retention), float(gamma))
        for a, b in zip(more.ravel(), fewer.ravel(), strict=True)
    ]
    return np.asarray(found, dtype=float).reshape(more.shape)


@lru_cache(maxsize=4096)
def paired_p_value(m: int, gained: int, lost: int, rho: float, gamma: float, level: float | None = None) -> float:
    """The p-value of one pair of counts, as :func:`retention_p_value` says.

    Parameters
    ----------
    m : items that either gets right.
    gained, lost : of them, those that the mixture alone gets right, and the teacher alone.
    rho, gamma : least retention; probability spent on the nuisance parameter.
    level : where it is given, any value on the same side of it will do, which is found sooner.
    """
    from scipy.special import betaincinv

    if m == 0:
        return 1.0
    low = float(betaincinv(gained, m - gained + 1, gamma / 2)) if gained else 0.0
    high = float(betaincinv(gained + 1, m - gained, 1 - gamma / 2)) if gained < m else 1.0
    high = min(high, rho / (1 + rho))
    low = min(low, high)  # beyond the hypothesis its last alpha stands in, which bounds from above
    counts = np.array([gained]), np.array([lost])
    reached = float(_score(*counts, m, rho)[0])
    reached -= 1e-9 * (1 + abs(reached))  # the outcome counts itself as reached, whatever rounding made of it
    if level is not None:
        likely = np.clip(_most_likely(counts[0] / m, counts[1] / m, rho), low, high)
        found = gamma + float(_chance(m, reached, rho, likely)[0])
        if found > level:
            return min(1.0, found)
    return min(1.0, gamma + _largest(m, reached, rho, low, high, CLOSE * gamma))


def boundary_spread(gained: ArrayLike, lost: ArrayLike, rho: float) -> Floats:
    """Standard deviation of the margin of one item that either gets right, where the requirement is just met.

    Parameters
    ----------
    gained, lost : shares of those items that the mixture alone gets right, and the teacher alone.
    rho : least retention.

    Returns
    -------
    sqrt(rho ((1 + rho) u + 1 - rho)), u the most likely share gained on the boundary, as in :func:`retention_p_value`.
    """
    u = _most_likely(np.asarray(gained, dtype=float), np.asarray(lost, dtype=float), rho)
    return np.asarray(np.sqrt(rho * ((1 + rho) * u + 1 - rho)))


def _most_likely(a: Floats, b: Floats, rho: float) -> Floats:
    """The alpha on the boundary under which shares ``a`` gained and ``b`` lost are most likely."""
    q = rho * rho * a + b - (1 - rho * rho)
    root = np.sqrt(q * q + 4 * rho * rho * (1 - rho * rho) * a)
    # Of the two forms of the root the one without a difference.
    other = 2 * rho * (1 - rho) * a / np.where(q < 0, root - q, 1.0)
    return np.asarray(np.where(q < 0, other, (q + root) / (2 * rho * (1 + rho))))


def _score(gained: Ints, lost: Ints, m: int, rho: float) -> Floats:
    a, b = gained / m, lost / m
    spread = boundary_spread(a, b, rho)
    # Without any spread nothing is gained and nothing lost where all is asked for: the margin is 0.
    return np.asarray(np.sqrt(m) * (rho * a - b + (1 - rho)) / np.where(spread > 0, spread, 1.0))


def _least(lost: Ints, m: int, rho: float, reached: float) -> Ints:
    """The least gained with which the statistic is reached at so many lost, by bisection; one too many if none is."""
    below, above = np.full(lost.shape, -1), m - lost + 1
    while (above - below > 1).any():
        middle = (below + above) // 2
        tried = np.clip(middle, 0, m - lost)
        enough = (middle > m - lost) | ((middle >= 0) & (_score(tried, lost, m, rho) >= reached))
        below, above = np.where(enough, below, middle), np.where(enough, middle, above)
    return above


def _chance(m: int, reached: float, rho: float, alpha: Floats) -> Floats:
    """P(T >= reached) on the boundary, shape of ``alpha``; too low by CUT at most.

    A sum over B of its binomial probability x the tail of A given B, by Bernstein's inequality for all B but for CUT.
    """
    from scipy.special import betainc, gammaln

    beta = 1 - rho + rho * alpha
    log_cut = np.log(2 / CUT)
    spread = log_cut / 3 + np.sqrt(log_cut**2 / 9 + 2 * log_cut * m * beta * (1 - beta))
    b = np.arange(max(int((m * beta - spread).min()), 0), min(int(np.ceil((m * beta + spread).max())), m) + 1)
    least = _least(b, m, rho, reached)
    b, least = b[least <= m - b], least[least <= m - b]
    with np.errstate(divide="ignore", invalid="ignore"):
        log_b = np.where(b > 0, b * np.log(np.maximum(beta, 1e-300))[:, None], 0.0)
        log_rest = np.where(b < m, (m - b) * np.log1p(-beta)[:, None], 0.0)
    chances = np.exp(gammaln(m + 1) - gammaln(b + 1) - gammaln(m - b + 1) + log_b + log_rest)
    share = np.minimum(alpha / (1 - beta), 1.0)[:, None]
    tail = np.where(least < 1, 1.0, betainc(np.maximum(least, 1), m - b - least + 1, share))
    return np.asarray((chances * tail).sum(axis=1))


def _largest(m: int, reached: float, rho: float, low: float, high: float, tolerance: float) -> float:
    """An upper bound of P(T >= reached) over alpha from ``low`` to ``high``, too high by little more than a tolerance.

    The probability is a polynomial in alpha. It is interpolated at Chebyshev's points, with the error bounded by its
    size on an ellipse around the interval, and the interpolant's largest value by those on a finer grid (Ehlich &
    Zeller, Mathematische Zeitschrift 86, 1964).
    """
    degree = _degree(m, rho, low, high, tolerance)
    places = np.arange(degree + 1)
    angles = (2 * places + 1) * np.pi / (2 * degree + 2)
    alpha = np.clip((low + high) / 2 + (high - low) / 2 * np.cos(angles), low, high)
    coefficients = 2 / (degree + 1) * np.cos(places[:, None] * angles) @ _chance(m, reached, rho, alpha)
    coefficients[0] /= 2
    finer = FINER * (degree + 1)
    looked_at = np.cos((2 * np.arange(finer) + 1)[:, None] * np.pi / (2 * finer) * places) @ coefficients
    # Interpolation takes what the sums leave out at most five times: Lebesgue's constant and rounding.
    largest = max(float(np.abs(looked_at).max()), 0.0) / np.cos(np.pi * degree / (2 * finer))
    return float(largest * (1 + 1e-14 * m) + tolerance + 5 * CUT)


def _degree(m: int, rho: float, low: float, high: float, tolerance: float) -> int:
    """The least degree n of the interpolant with 4 M r^-n / (r - 1) <= tolerance.

    M bounds the polynomial on the ellipse whose half-axes sum to r half intervals (Trefethen 2013, Approximation
    Theory and Approximation Practice, theorem 8.2). There it is at most (|alpha| + |beta| + |rest|)^m, which is convex
    and so largest at a corner of a polygon around the ellipse.
    """
    r = 1 + np.geomspace(0.01, 4, 28)[:, None]
    angles = np.linspace(0, np.pi, CORNERS // 2 + 1)  # the other half mirrors it
    unit = ((r + 1 / r) * np.cos(angles) + 1j * (r - 1 / r) * np.sin(angles)) / (2 * np.cos(np.pi / CORNERS))
    z = (low + high) / 2 + (high - low) / 2 * unit
    log_most = m * np.log((np.abs(z) + np.abs(1 - rho + rho * z) + np.abs(rho - (1 + rho) * z)).max(axis=1))
    r = r[:, 0]
    return max(int(np.ceil(((np.log(4 / (r - 1) / tolerance) + log_most) / np.log(r)).min())), 1)
