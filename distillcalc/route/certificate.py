"""A threshold that is chosen on one set of items and certified on another, with what is promised of it.

Quality is promised by Learn-then-Test (Angelopoulos et al., arXiv:2110.01052): thresholds are tested one after the
other in an order that the tuning items set, by exact tests of the certifying items
(:mod:`~distillcalc.estimate.certifying`). Dollars are promised in the same way (:mod:`.budget`). Where both are
promised each gets half of the error. Items are taken to be drawn one by one: of equal texts one counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import InputError
from distillcalc.estimate import certifying as tests
from distillcalc.route.budget import within_budget
from distillcalc.route.goal import Goal
from distillcalc.route.mixing import Kind, Mixtures, answering, counts_of, mixtures
from distillcalc.route.pairs import Pairs
from distillcalc.workload.routing import MeasuredRouting

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Promise:
    """One figure of the chosen threshold on the certifying items.

    Parameters
    ----------
    value : as it was seen.
    low, high : of a 95% interval, for this threshold taken by itself.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    def __format__(self, spec: str) -> str:
        """As text; with "%" in percent."""
        return f"{self.value:.1%} ({self.low:.1%} to {self.high:.1%})" if spec == "%" else str(self)


@dataclass(frozen=True, eq=False)
class Certificate:
    """What a router's thresholds were found to do, and the one that is chosen.

    Parameters
    ----------
    goal : what was asked.
    kind : of the router.
    tuning, certifying : what becomes of the two sets of items at each threshold vector.
    certified : which threshold vectors meet the goal, all of them with the goal's confidence, shape (mixtures,).
    chosen : place of the cheapest certified one, or of the best within the budget; None where none is certified.
    more_items : about how many more labelled certifying items it takes; 0 where one is certified, None where no number
        would do.
    quality, retention, escalation_rate : of the chosen one on the certifying items; None where none is.
    measured : counts of both sets, as a scenario holds them; None where answers are neither right nor wrong.
    """

    goal: Goal
    kind: Kind
    tuning: Mixtures
    certifying: Mixtures
    certified: Bools
    chosen: int | None
    more_items: int | None
    quality: Promise | None = None
    retention: Promise | None = None
    escalation_rate: Promise | None = None
    measured: MeasuredRouting | None = field(default=None, repr=False)

    @property
    def thresholds(self) -> Floats | None:
        """The chosen vector, shape (models - 1,)."""
        return None if self.chosen is None else np.asarray(self.tuning.thresholds[self.chosen])

    @property
    def usd(self) -> float:
        """Mean dollars of a request at the chosen threshold, on the certifying items; nan where it is not known."""
        return float("nan") if self.chosen is None else float(self.certifying.usd[self.chosen])

    @property
    def sentences(self) -> list[str]:
        """What is promised, in words."""
        goal = self.goal
        if self.chosen is None:
            said = f"Not certified: {goal}."
            if not goal.asks_quality:
                least = float(self.tuning.usd.min()) * (goal.requests_per_month or 0.0)
                return [said, f"The cheapest that there is costs ${least:,.0f} a month."]
            if self.more_items is None:
                within = " within the budget" if goal.usd_per_month is not None else ""
                why = (
                    f"At no threshold is the estimate good enough{within}, so that more labelled pairs would not help."
                )
                return [said, why]
            return [said, f"Not enough data: about {rounded(self.more_items):,} more labelled pairs would tell."]
        return [
            f"Certified on {self.certifying.items:,} pairs that nothing was chosen on: {goal}.",
            f"Sent on to the teacher: {self.escalation_rate:%}; quality {self.quality}, "
            f"{self.retention} of the teacher's (95% intervals of this threshold by itself).",
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        named = {name: getattr(self, name) for name in ("quality", "retention", "escalation_rate")}
        return {
            "goal": self.goal.model_dump(mode="json", exclude_none=True),
            "certified": int(self.certified.sum()),
            "thresholds": None if self.thresholds is None else self.thresholds.tolist(),
            "more_items": self.more_items,
            "items": {"tuning": self.tuning.items, "certifying": self.certifying.items},
            "usd_per_request": self.usd if np.isfinite(self.usd) else None,
            **{name: None if one is None else vars(one) for name, one in named.items()},
            "sentences": self.sentences,
        }


def certify(
    tuning: Pairs,
    certifying: Pairs,
    score: str,
    thresholds: Floats,
    goal: Goal,
    *,
    kind: Kind = "cascade",
    extra_usd: float = 0.0,
    source: str = "",
) -> Certificate:
    """Choose the cheapest threshold that meets a goal, or the best within its budget, and certify it.

    Parameters
    ----------
    tuning : items that the order of tests and the costs are taken from.
    certifying : other items, that nothing was learned or chosen on.
    score : its name among the scores of both.
    thresholds : vectors that are tried, shape (mixtures, models - 1); they must not come from the certifying items.
    kind, extra_usd : see :func:`.mixing.billed`.
    source : of the router, in words.

    Raises
    ------
    InputError
        If the two sets share items, or are of other models; or a budget is asked for and no dollars are known.
    """
    refuse_leaks(tuning.keys(), certifying, "tuning")
    if tuning.models != certifying.models:
        raise InputError(f"tuning and certifying pairs are of {tuning.models} and of {certifying.models}")
    tuned = mixtures(tuning, score, thresholds, kind, extra_usd)
    found = mixtures(certifying, score, thresholds, kind, extra_usd)
    measured = None
    if tuning.is_binary and certifying.is_binary:
        measured = measured_routing(tuning, certifying, score, thresholds, kind, source)
    asked = int(goal.asks_quality) + int(goal.usd_per_month is not None)
    level = (1 - goal.confidence) / asked
    certified = np.ones(len(tuned), dtype=bool)
    if goal.asks_quality:
        certified &= _good_enough(goal, level, tuning, certifying, score, thresholds, measured)
    if goal.usd_per_request is not None:
        certified &= within_budget(goal.usd_per_request, level, tuning, certifying, score, thresholds, kind, extra_usd)
    chosen = _chosen(goal, tuned, certified)
    more: int | None = 0
    if chosen is None:
        more = _more(goal, level, tuned, tuning, certifying, score, measured)
        return Certificate(goal, kind, tuned, found, certified, None, more, measured=measured)
    return Certificate(
        goal, kind, tuned, found, certified, chosen, more, *_promises(certifying, score, thresholds[chosen]), measured
    )


def refuse_leaks(seen: NDArray[np.uint64], pairs: Pairs, what: str) -> None:
    """Refuse items that were seen before: what was chosen on them looks better on them than it is.

    Raises
    ------
    InputError
        If any text of the pairs, or id where there is no text, was among those that were seen.
    """
    both = np.flatnonzero(np.isin(pairs.keys(), seen))
    if both.size:
        raise InputError(
            f"{both.size:,} of {len(pairs):,} certifying pairs are among the {what} pairs too, the first is "
            f"{pairs.ids[both[0]]!r}: a router is certified on pairs that nothing was learned or chosen on. Take others"
        )


def measured_routing(
    tuning: Pairs, certifying: Pairs, score: str, thresholds: Floats, kind: Kind, source: str = ""
) -> MeasuredRouting:
    """The counts of both sets of items, as a scenario holds them; of a chain the thresholds are those of the first.

    Raises
    ------
    InputError
        For answers that are neither right nor wrong.
    """
    return MeasuredRouting(
        kind=kind,
        student=tuning.student,
        teacher=tuning.teacher,
        score=score,
        threshold=tuple(float(vector[0]) for vector in thresholds),
        tuning=counts_of(tuning, score, thresholds),
        certifying=counts_of(certifying, score, thresholds),
        student_right=int(certifying.right[:, 0].sum()),
        source=source,
    )


def _good_enough(
    goal: Goal, level: float, tuning: Pairs, certifying: Pairs, score: str, thresholds: Floats,
    measured: MeasuredRouting | None,
) -> Bools:  # fmt: skip
    if measured is not None:
        asked = {"floor": goal.floor, "retention": goal.retention}
        return tests.certified(measured, **asked, confidence=1 - level)
    margins = [_margins(pairs, score, thresholds, goal) for pairs in (tuning, certifying)]
    spread = np.sqrt(margins[0].var(axis=0) + 1 / len(tuning))
    support = margins[0].mean(axis=0) / spread
    order = np.argsort(-support, kind="stable")
    least = goal.floor if goal.floor is not None else goal.retention
    assert least is not None
    high = 1 - least if goal.floor is not None else 1.0
    return tests.fixed_sequence(tests.bounded_mean_p_value(margins[1], -least, max(high, 1e-9)), order, level)


def _margins(pairs: Pairs, score: str, thresholds: Floats, goal: Goal) -> Floats:
    """What must be above 0 on average, shape (items, mixtures)."""
    rows, values = np.arange(len(pairs)), pairs.score(score)
    right = np.column_stack([pairs.right[rows, answering(values, vector)] for vector in thresholds])
    if goal.floor is not None:
        return right - goal.floor
    return np.asarray(right - (goal.retention or 0.0) * pairs.right[:, -1:])


def _chosen(goal: Goal, tuned: Mixtures, certified: Bools) -> int | None:
    places = np.flatnonzero(certified)
    if not places.size:
        return None
    cost = tuned.usd if np.isfinite(tuned.usd).all() else tuned.escalation_rate
    if goal.asks_quality:
        return int(places[np.lexsort((-tuned.quality[places], cost[places]))[0]])
    return int(places[np.lexsort((cost[places], -tuned.quality[places]))[0]])


def _more(
    goal: Goal, level: float, tuned: Mixtures, tuning: Pairs, certifying: Pairs, score: str,
    measured: MeasuredRouting | None,
) -> int | None:  # fmt: skip
    """About how many more items would certify the cheapest threshold that looks good enough, and within the budget."""
    within = np.ones(len(tuned), dtype=bool) if goal.usd_per_request is None else tuned.usd <= goal.usd_per_request
    if not goal.asks_quality:
        return None
    margins = np.vstack([_margins(pairs, score, tuned.thresholds, goal) for pairs in (tuning, certifying)])
    mean, spread = margins.mean(axis=0), np.maximum(margins.std(axis=0), 1e-9)
    places = np.flatnonzero(within & (mean > 1e-9))
    if not places.size:
        return None
    cost = tuned.usd if np.isfinite(tuned.usd).all() else tuned.escalation_rate
    place = int(places[np.argmin(cost[places])])
    if measured is not None:
        return tests.more_items(measured, floor=goal.floor, retention=goal.retention, confidence=1 - level, point=place)
    # The bets' capital grows as exp(n mean^2 / (2 sd^2)), and has to reach the number of bets / level.
    needed = 2 * np.log(tests.BETS / level) * (spread[place] / mean[place]) ** 2
    return max(int(needed) - len(certifying), 1)


def _promises(pairs: Pairs, score: str, thresholds: Floats) -> tuple[Promise, Promise, Promise]:
    rows, n = np.arange(len(pairs)), len(pairs)
    who = answering(pairs.score(score), thresholds)
    right, teacher = pairs.right[rows, who], pairs.right[:, -1]
    sent = int((who == len(pairs.models) - 1).sum())
    # A ratio of means of pairs: the delta method on its logarithm.
    seen_right, seen_teacher = max(float(right.mean()), 0.5 / n), max(float(teacher.mean()), 0.5 / n)
    error = float(np.std(right / seen_right - teacher / seen_teacher)) / np.sqrt(n)
    low, high = (seen_right / seen_teacher * np.exp(side * Z95 * error) for side in (-1, 1))
    own = _clopper_pearson(float(right.sum()), n) if pairs.is_binary else _of_mean(right)
    seen = float(right.mean() / teacher.mean()) if teacher.mean() > 0 else float("nan")
    return (
        Promise(float(right.mean()), *own),
        Promise(seen, float(low), float(high)),
        Promise(sent / n, *_clopper_pearson(float(sent), n)),
    )


def _of_mean(values: Floats) -> tuple[float, float]:
    """The normal 95% interval of a mean of values in [0, 1]."""
    middle, error = float(values.mean()), float(values.std()) / np.sqrt(len(values))
    return max(middle - Z95 * error, 0.0), min(middle + Z95 * error, 1.0)


def _clopper_pearson(k: float, n: int) -> tuple[float, float]:
    """The exact 95% interval of a share (Clopper & Pearson 1934)."""
    from scipy.special import betaincinv

    low = float(betaincinv(k, n - k + 1, 0.025)) if k > 0 else 0.0
    return low, float(betaincinv(k + 1, n - k, 0.975)) if k < n else 1.0


def rounded(count: int) -> int:
    """Two leading digits, upwards: the figure is an approximation."""
    step = 10 ** max(len(str(count)) - 2, 0)
    return int(-(-count // step) * step)
