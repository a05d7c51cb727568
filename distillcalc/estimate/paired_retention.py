"""Whether a mixture keeps a share of the teacher's quality, tested on the same items: an exact conditional test."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distillcalc.errors import InputError

Floats = NDArray[np.float64]

CUT = 1e-14  # probability that a sum over a binomial leaves out, and adds back
CELLS = 16  # that the interval of the nuisance parameter is split into at first
CLOSE = 0.01  # relative gap between the bounds of the p-value down to which cells are split
SPLIT = 4  # parts that such a cell is split into
MOST_ROUNDS = 5


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
