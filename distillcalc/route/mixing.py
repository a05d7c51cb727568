"""Who answers what at which thresholds, and what becomes of it: the mixtures that a router may choose from.

The first model whose score reaches its threshold answers; what none keeps goes to the teacher. Items of equal score
move together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import InputError
from distillcalc.route.pairs import Pairs
from distillcalc.workload.routing import RoutingCounts

Floats = NDArray[np.float64]
Kind: TypeAlias = Literal["cascade", "router"]

SENT_ON, KEPT = -1e300, 1e300  # scores of what a rule decides, beyond any threshold
STEPS = 33  # thresholds of a pair
BEYOND = 10.0  # times the range of a score: where nothing lies
MOST_VECTORS = 2_000  # threshold vectors of a chain that are tried


@dataclass(frozen=True, eq=False)
class Mixtures:
    """What becomes of some items at each of several thresholds.

    Parameters
    ----------
    thresholds : of each model but the teacher, shape (mixtures, models - 1).
    shares : of requests that each model answers, shape (mixtures, models).
    quality : mean of what is right, shape (mixtures,).
    usd : mean dollars of a request, every attempt paid, shape (mixtures,); nan where costs are not known.
    items : how many.
    """

    thresholds: Floats
    shares: Floats
    quality: Floats
    usd: Floats
    items: int

    @property
    def escalation_rate(self) -> Floats:
        """Share of requests that reach the teacher, shape (mixtures,)."""
        found: Floats = self.shares[:, -1]
        return found

    def __len__(self) -> int:
        return len(self.quality)

    def take(self, rows: NDArray[np.intp]) -> Mixtures:
        """Some of them."""
        return Mixtures(self.thresholds[rows], self.shares[rows], self.quality[rows], self.usd[rows], self.items)


def answering(scores: Floats, thresholds: Floats) -> NDArray[np.intp]:
    """Which model answers each item: the first whose score reaches its threshold, shape (items,).

    Parameters
    ----------
    scores : shape (items, models - 1). thresholds : shape (models - 1,).
    """
    kept = scores >= thresholds
    first = np.argmax(kept, axis=1)
    return np.asarray(np.where(kept.any(axis=1), first, scores.shape[1]))


def billed(pairs: Pairs, kind: Kind, extra_usd: float = 0.0) -> Floats:
    """Dollars of a request by the model that answers it, shape (items, models).

    A cascade pays for every model that was asked before; a router for the one that answers. ``extra_usd`` is what the
    router, a probe or a verifier costs for each request that is judged.
    """
    if pairs.usd is None:
        return np.full(pairs.right.shape, np.nan)
    paid = np.cumsum(pairs.usd, axis=1) if kind == "cascade" else pairs.usd
    judged = np.minimum(np.arange(pairs.right.shape[1]) + 1, pairs.right.shape[1] - 1) if kind == "cascade" else 1
    return np.asarray(paid + extra_usd * judged)


def mixtures(pairs: Pairs, score: str, thresholds: Floats, kind: Kind = "cascade", extra_usd: float = 0.0) -> Mixtures:
    """What becomes of the items at each threshold vector.

    Parameters
    ----------
    pairs : the items. score : its name among their scores.
    thresholds : shape (mixtures, models - 1).
    kind, extra_usd : see :func:`billed`.
    """
    values, usd = pairs.score(score), billed(pairs, kind, extra_usd)
    n, k = pairs.right.shape
    if k == 2:
        return _of_two(pairs, values[:, 0], thresholds, usd)
    rows = np.arange(n)
    shares, quality, dollars = np.empty((len(thresholds), k)), np.empty(len(thresholds)), np.empty(len(thresholds))
    for i, vector in enumerate(thresholds):
        who = answering(values, vector)
        shares[i] = np.bincount(who, minlength=k) / n
        quality[i] = pairs.right[rows, who].mean()
        dollars[i] = usd[rows, who].mean()
    return Mixtures(thresholds, shares, quality, dollars, n)


def _of_two(pairs: Pairs, score: Floats, thresholds: Floats, usd: Floats) -> Mixtures:
    """The same of a pair by one sort: sums over all items of a lower score."""
    order = np.argsort(score, kind="stable")
    sent = np.searchsorted(score[order], thresholds[:, 0], side="left")
    n = len(score)

    def mean(values: Floats) -> Floats:
        more = np.concatenate([[0.0], np.cumsum((values[:, 1] - values[:, 0])[order])])
        return np.asarray((values[:, 0].sum() + more[sent]) / n)

    rate = sent / n
    return Mixtures(thresholds, np.column_stack([1 - rate, rate]), mean(pairs.right), mean(usd), n)


def counts_of(pairs: Pairs, score: str, thresholds: Floats) -> RoutingCounts:
    """Labelled items by what becomes of them at each threshold.

    Raises
    ------
    InputError
        For answers that are neither right nor wrong: they cannot be counted.
    """
    if not pairs.is_binary:
        raise InputError("counts are of answers that are right or wrong, and some are between 0 and 1")
    values, rows = pairs.score(score), np.arange(len(pairs))
    teacher = pairs.right[:, -1]
    escalated, gained, lost = [], [], []
    for vector in thresholds:
        who = answering(values, vector)
        difference = pairs.right[rows, who] - teacher
        escalated.append(int((who == len(pairs.models) - 1).sum()))
        gained.append(int((difference > 0).sum()))
        lost.append(int((difference < 0).sum()))
    return RoutingCounts(
        items=len(pairs), teacher_right=int(teacher.sum()), escalated=tuple(escalated), gained=tuple(gained),
        lost=tuple(lost),
    )  # fmt: skip


def candidates(
    pairs: Pairs, score: str, kind: Kind = "cascade", steps: int = STEPS, *, name: str | None = None
) -> Floats:
    """Threshold vectors worth trying, shape (mixtures, models - 1), from keeping all to sending all on.

    Quantiles of the score. Of a chain, all combinations of them, and of those the ones that no other beats in both
    quality and cost (share of escalations where costs are not known), and sending everything on. ``name`` is what the
    score is called in errors.

    Raises
    ------
    InputError
        If the score says the same of every item.
    """
    values = pairs.score(score)
    k = values.shape[1]
    per_stage = steps if k == 1 else max(3, int(MOST_VECTORS ** (1 / k)))
    stages = [_thresholds(values[:, stage], per_stage, name or score) for stage in range(k)]
    if k == 1:
        return stages[0][:, None]
    every = mixtures(pairs, score, np.array(list(product(*stages))), kind)
    cost = every.usd if np.isfinite(every.usd).all() else every.escalation_rate
    front = pareto(cost, every.quality)
    kept = front[np.unique(np.linspace(0, len(front) - 1, steps).round().astype(int))]
    return np.vstack([every.thresholds[kept], outermost(values)[1]])


def pareto(cost: Floats, quality: Floats) -> NDArray[np.intp]:
    """Places of what nothing else is at least as cheap and at least as good as, cheapest first."""
    order = np.lexsort((-quality, cost))
    best = np.maximum.accumulate(quality[order])
    new = np.concatenate([[True], best[1:] > best[:-1]])
    return np.asarray(order[new])


def outermost(scores: Floats) -> tuple[Floats, Floats]:
    """Thresholds far below and far above every score, shape (models - 1,) each: nothing is sent on, everything is."""
    ends = []
    for column in scores.T:
        values = column[by_score(column)]
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
        beyond = BEYOND * ((high - low) or 1.0)
        ends.append((low - beyond, high + beyond))
    below, above = np.array(ends).T
    return below, above


def by_score(score: Floats) -> NDArray[np.bool_]:
    """Which items the score decides, and no rule."""
    return np.asarray(np.abs(score) < KEPT)


def _thresholds(score: Floats, steps: int, name: str) -> Floats:
    """Thresholds that send on about equal shares more each, values that occur; one far below and one far above all.

    Between what was seen and what will be, the two outermost keep everything and send everything on.
    """
    score = score[by_score(score)]
    distinct = np.unique(score)
    if len(distinct) < 2:
        said = f"is {distinct[0]:g} for every item" if len(distinct) else "is asked of no item, for rules decide all"
        raise InputError(f"the score {name} {said}: it cannot tell what to send on. Choose another score")
    below, above = outermost(score[:, None])
    wanted = np.quantile(score, np.linspace(0, 1, steps), method="inverted_cdf")
    return np.asarray(np.unique(np.concatenate([wanted[1:], below, above])))


def seconds_of(
    pairs: Pairs, who: NDArray[np.intp], kind: Kind, levels: Sequence[float], extra_s: float = 0.0
) -> Floats:
    """Quantiles of how long the items took [s], attempts one after the other in a cascade; nan where nobody knows."""
    if pairs.seconds is None:
        return np.full(len(levels), np.nan)
    took = np.cumsum(pairs.seconds, axis=1) if kind == "cascade" else pairs.seconds
    return np.asarray(np.quantile(took[np.arange(len(pairs)), who] + extra_s, levels))
