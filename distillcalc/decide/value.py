"""What a choice costs while things are uncertain, and what knowing more would be worth.

All functions take the costs of n draws and A alternatives; the draws themselves are :mod:`.draws`' subject.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distillcalc.estimate.outcome import LIKELY

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

QUALITY_BINS = 128


def costs_if_chosen(present_value_usd: Floats, one_off_usd: Floats, passes: Flags, fallback: int | None) -> Floats:
    """What each draw costs if an alternative is chosen before it is known whether it passes, shape (n, A) [USD].

    Its present value where it passes. Where it does not, its one-off cost is spent and the traffic is served by the
    ``fallback`` (the column of calling the big model), or by the cheapest that passes where that does not. nan in
    draws in which nothing passes: there nothing can be bought.
    """
    best = np.where(passes, present_value_usd, np.inf).min(axis=1)
    instead = best
    if fallback is not None:
        instead = np.where(passes[:, fallback], present_value_usd[:, fallback], best)
    costs = np.where(passes, present_value_usd, np.nan_to_num(one_off_usd) + instead[:, None])
    costs[~np.isfinite(best)] = np.nan
    return costs


def choose(mean_costs: Floats, odds: Floats, keep: int | None = None) -> NDArray[np.intp]:
    """The alternative of least expected cost among those whose odds of passing are at least three to one.

    Parameters
    ----------
    mean_costs, odds : shape (..., A).
    keep : a column that may be chosen whatever its odds: what is chosen already.

    Returns
    -------
    Columns, shape (...,); -1 where none may be chosen.
    """
    allowed = odds >= LIKELY
    if keep is not None:
        allowed = allowed.copy()
        allowed[..., keep] = True
    allowed &= np.isfinite(mean_costs)
    best = np.argmin(np.where(allowed, mean_costs, np.inf), axis=-1)
    return np.asarray(np.where(allowed.any(axis=-1), best, -1))


def perfect_information_usd(costs: Floats, chosen: int) -> float:
    """Expected value of perfect information: E[cost of the choice] - E[cost of the best in each draw] [USD].

    It is the expected regret of choosing now (Raiffa and Schlaifer, Applied Statistical Decision Theory, 1961).
    """
    return float(np.mean(costs[:, chosen] - costs.min(axis=1)))


def input_information_usd(values: Floats, costs: Floats, passes: Flags, chosen: int, bins: int | None = None) -> float:
    """Expected value of knowing one input exactly, all else as uncertain as before [USD].

    E_x[min_d E(cost_d | x)] against E(cost of the choice), the expectations given x by sorting the draws by it and
    averaging over bins of equally many (the partition method of Strong and Oakley, Medical Decision Making 33, 2013).
    The choice in a bin is made on one half of its draws and paid on the other, both ways round, so that an input that
    does not matter is worth nothing rather than the noise of its bins. Never below 0.

    Parameters
    ----------
    values : of the input, shape (n,).
    costs, passes : shape (n, A).
    chosen : column of what is chosen now; it may be kept whatever its odds are given x.
    bins : left out, the square root of n, to a power of two.
    """
    n = len(values)
    bins = bins or 1 << max(round(np.log2(n) / 2), 2)
    per = n // bins // 2 * 2
    if per < 2:
        return 0.0
    order = _spread(np.argsort(values, kind="stable"), per * bins)

    def halves(columns: Floats) -> tuple[Floats, Floats]:
        shaped = columns[order].reshape(bins, per // 2, 2, -1)
        return shaped[:, :, 0].mean(axis=1), shaped[:, :, 1].mean(axis=1)

    cost, odds = halves(costs), halves(passes.astype(float))
    rows = np.arange(bins)
    saved = 0.0
    for mine, others in ((0, 1), (1, 0)):
        best = choose(cost[mine], odds[mine], chosen)
        saved += float(np.mean(cost[others][:, chosen] - cost[others][rows, best])) / 2
    return max(saved, 0.0)


def _spread(order: NDArray[np.intp], kept: int) -> NDArray[np.intp]:
    """So many of a sorted order as fill the bins, what is left over taken evenly and not from one end."""
    return order if kept == len(order) else order[np.arange(kept) * len(order) // kept]


def sample_information_usd(
    quality: Floats, costs: Floats, passes: Flags, chosen: int, items: Sequence[int]
) -> list[float]:
    """Expected value of seeing an alternative answer so many labelled items, for each number of items [USD].

    The preposterior of a mean observed on N items: of k right answers the probability in a draw of quality q is
    Binomial(k; N, q); given k the draws are reweighed by it and the choice is made anew, so
    value = E(cost of the choice) - sum_k P(k) min_d E(cost_d | k) (Raiffa and Schlaifer, 1961). Draws are gathered in
    bins of equal shares by quality.
    """
    from scipy.special import gammaln

    bins = min(QUALITY_BINS, len(quality))
    per = len(quality) // bins
    order = _spread(np.argsort(quality, kind="stable"), per * bins).reshape(bins, per)
    middle = np.clip(quality[order].mean(axis=1), 1e-12, 1 - 1e-12)
    right, wrong = np.log(middle), np.log1p(-middle)
    cost, odds = costs[order].mean(axis=1), passes[order].mean(axis=1)
    found = []
    for n in items:
        k = np.arange(n + 1)[:, None]
        ways = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
        likelihood = np.exp(ways + k * right + (n - k) * wrong) / bins
        marginal = likelihood.sum(axis=1)
        seen = marginal > 1e-15
        given = likelihood[seen] / marginal[seen, None]
        mean_cost = given @ cost
        best = choose(mean_cost, given @ odds, chosen)
        saved = mean_cost[:, chosen] - mean_cost[np.arange(len(best)), best]
        found.append(max(float(marginal[seen] @ saved), 0.0))
    return found


@dataclass(frozen=True)
class SampleValue:
    """What labelling more evaluation items is worth.

    Parameters
    ----------
    model : the alternative whose answers are judged, in words.
    option : its id.
    items : how many more.
    cost_usd, worth_usd : of labelling them; of what they would tell.
    probability : that its quality meets the floor, as known now.
    trained : whether the model exists (its quality has been counted, or it is called as it is).
    """

    model: str
    option: str
    items: int
    cost_usd: float
    worth_usd: float
    probability: float
    trained: bool

    @property
    def net_usd(self) -> float:
        """Worth less cost."""
        return self.worth_usd - self.cost_usd
