"""What a measured router offers: at each threshold how many are sent on, how good that is, and whether it is certified.

The decision picks among the thresholds; here they are read from the counts of
:class:`~distillcalc.workload.routing.MeasuredRouting`. What is dominated by another threshold is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import DistillcalcError
from distillcalc.estimate.certifying import certified, more_items, trial_order
from distillcalc.estimate.context import Context
from distillcalc.estimate.inputs import Inputs, uncertain_inputs
from distillcalc.estimate.outcome import FAIL, PASS, UNKNOWN, GateResult, at
from distillcalc.estimate.quality import Belief, Paired, from_counts
from distillcalc.provenance import Provenance
from distillcalc.workload.distributions import beta_quantile
from distillcalc.workload.routing import MeasuredRouting
from distillcalc.workload.scenario import Evaluation, Scenario

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# Thresholds that are looked at, by how many models have a fleet of their own at each; fewer where they are drawn.
MOST = (12, 6, 4)
FEW = (5, 3, 3)
QUALITY_LATENT = "quality behind the router"
RATE_LATENT = "escalation rate of the router"


@dataclass(frozen=True)
class Point:
    """A measured router at one threshold, or between two of them at a given escalation rate.

    Parameters
    ----------
    place : of the threshold among the measured ones; None between them.
    rate : share of requests that is sent on, shape (n or 1, 1).
    belief : of the quality of the mixture.
    certified : whether it is certified for the floor at the confidence that the workload asks for, shape (n or 1, 1).
    looked_at : whether a scenario looks at it; where it does not it has no price there, shape (n or 1, 1).
    share : the share sent on in words.
    """

    measured: MeasuredRouting
    place: int | None
    rate: Floats
    belief: Belief
    certified: Bools
    looked_at: Bools
    share: str = ""

    @property
    def words(self) -> str:
        """Which share goes to the teacher and by what rule, for a label; empty between thresholds."""
        if self.place is None:
            return ""
        sets = (self.measured.tuning, self.measured.certifying)
        sent, items = sum(one.escalated[self.place] for one in sets), sum(one.items for one in sets)
        if sent in (0, items):  # such a threshold lies beyond every score, and its number says nothing
            rule = f"{'all' if sent else 'none'} of {items:,} items sent on"
        else:
            rule = f"{self.measured.score} < {self.measured.threshold[self.place]:.4g}"
        return f" for {self.share} ({rule})"

    @property
    def facts(self) -> dict[str, Floats]:
        """The escalation rate, and the threshold where it is one."""
        found = {"escalation_rate": self.rate}
        if self.place is not None:
            found["threshold"] = np.array([[self.measured.threshold[self.place]]])
        return found

    @property
    def provenance(self) -> dict[str, Provenance]:
        """Where the rate and the threshold are from."""
        if self.place is None:
            source = Provenance("given", "escalation_rate, swept along the measured thresholds")
            return {"escalation_rate": source}
        counts, measured = self.measured.certifying, self.measured
        origin = f" ({measured.source})" if measured.source else ""
        return {
            "escalation_rate": Provenance(
                "measured",
                f"{counts.escalated[self.place]:,} of {counts.items:,} labelled items have {measured.score} below "
                f"{measured.threshold[self.place]:.4g}{origin}",
            ),
            "threshold": Provenance("derived", "the cheapest of the measured thresholds that passes every gate"),
        }

    def quality_gate(self, context: Context) -> GateResult:
        """The quality floor: met where it is certified, else by the odds that the counts give it."""
        gate = context.quality_gate(self.belief)
        if context.x.drawn or not self.certified.any():
            return gate
        code = np.where(self.certified & (gate.code == UNKNOWN), PASS, gate.code).astype(np.int8)
        return replace(gate, code=code)

    def router_gate(self, context: Context) -> GateResult:
        """Whether the threshold is certified; where beliefs are drawn, one that is not holds where its quality does."""
        quality = context.quality_gate(self.belief)
        chance = quality.probability if quality.probability is not None else np.ones((1, 1))
        confidence = context.workload.quality.confidence
        if context.x.drawn:
            code = np.where(self.certified | (quality.code != FAIL), PASS, FAIL).astype(np.int8)
            return GateResult("router", code, lambda _: "as drawn")
        code = np.where(self.certified, PASS, UNKNOWN).astype(np.int8)
        odds = np.where(self.certified, np.maximum(chance, confidence), chance)
        return GateResult("router", code, lambda i: self._told(context, i, at(chance, i)), self.measured.source, odds)

    def _told(self, context: Context, i: int, chance: float) -> str:
        target, items = context.workload.quality, self.measured.certifying.items
        relative, floor = requirement(context.x)
        asked = f"{target.metric} >= " + (
            f"{at(floor, i):.3g}" if relative is None else f"{relative:.3g} of the teacher's"
        )
        if self.place is None:
            return f"interpolated between measured thresholds, which alone can be certified: P({asked}) is {chance:.2f}"
        rule = f"{self.measured.score} >= {self.measured.threshold[self.place]:.4g}"
        if at(self.certified, i):
            return f"{rule} is certified on {items:,} labelled items: {asked}, at {target.confidence:.4g} confidence"
        more = more_items(
            self.measured,
            floor=None if relative is not None else at(floor, i),
            retention=relative,
            confidence=target.confidence,
            point=self.place,
        )
        to_do = (
            "its estimate is not above that, so more items would not certify it"
            if more is None
            else f"about {more:,} more labelled item{'s' if more > 1 else ''} would certify it"
        )
        return f"{rule} is not certified on {items:,} labelled items: P({asked}) is {chance:.2f}; {to_do}"


def requirement(x: Inputs) -> tuple[float | None, Floats]:
    """What quality is asked for: relative to the teacher's, or None and the floors, shape (n or 1, 1)."""
    relative = x.scenario.workload.quality.retention_floor
    return (relative if "floor" not in x.swept else None), x["floor"]


def points(context: Context) -> list[Point]:
    """The thresholds worth looking at, fewest sent on first; at a swept escalation rate the one point on the curve."""
    return context.once("points of the router", lambda: _points(context))


def _points(context: Context) -> list[Point]:
    x, measured = context.x, context.choices.routing.measured
    assert measured is not None
    if "escalation_rate" in x.swept:
        return [_between(measured, x)]
    own = Inputs(x.scenario) if x.drawn else x  # the same ones in every stretch of draws
    passes = _certified(own, measured)
    uncertain = x.drawn or bool(uncertain_inputs(x.scenario))
    fleets = (measured.kind == "router") + serves_the_teacher(context)
    looked_at = _looked_at(measured, passes, FEW[fleets] if uncertain else MOST[fleets])
    if own is not x:
        passes = _certified(x, measured)
    places = np.flatnonzero(looked_at.any(axis=0)).tolist()
    places.sort(key=lambda place: (measured.certifying.escalated[place], -measured.certifying.right(place)))
    return [_at(measured, x, place, passes[:, place : place + 1], looked_at[:, place : place + 1]) for place in places]


def _looked_at(measured: MeasuredRouting, passes: Bools, most: int) -> Bools:
    """Which thresholds each scenario looks at, shape of ``passes``: its own front, whatever the others look at."""
    found = np.zeros_like(passes)
    patterns, which = np.unique(passes, axis=0, return_inverse=True)
    for n, pattern in enumerate(patterns):
        places = np.zeros(passes.shape[1], dtype=bool)
        places[front(measured, pattern, most)] = True
        found[which.ravel() == n] = places
    return found


def serves_the_teacher(context: Context) -> bool:
    """Whether the teacher may be served on machines of one's own: its weights are open, and the option is compared."""
    row, named = context.teacher_row, context.choices.options
    is_open = row is not None and row.kind == "open" and row.shape is not None
    return is_open and (named is None or "self-host-teacher" in named)


def _certified(x: Inputs, measured: MeasuredRouting) -> Bools:
    """Whether each threshold is certified for what is asked, shape (n or 1, thresholds)."""
    relative, floor = requirement(x)
    confidence = x.scenario.workload.quality.confidence
    if relative is not None:
        return certified(measured, retention=relative, confidence=confidence)[None]
    return certified(measured, floor=floor[:, 0], confidence=confidence)


def front(measured: MeasuredRouting, passes: Bools, most: int) -> list[int]:
    """Places of the thresholds that no other one dominates, fewest sent on first.

    Parameters
    ----------
    measured : the counts; what was escalated and what was right are those of the certifying items.
    passes : whether each is certified, shape (thresholds,): one that is not does not dominate one that is.
    most : how many are kept; the one that sends fewest on of those certified always is.
    """
    counts = measured.certifying
    kept: list[int] = []
    # Fewest sent on first, of equals the better one; so what dominates comes before what it dominates.
    order = sorted(
        range(len(measured.threshold)),
        key=lambda i: (counts.escalated[i], -counts.right(i), not passes[i], -measured.threshold[i]),
    )
    for i in order:
        if not any(counts.right(j) >= counts.right(i) and passes[j] >= passes[i] for j in kept):
            kept.append(i)
    if len(kept) <= most:
        return kept
    first = next((n for n, i in enumerate(kept) if passes[i]), len(kept) - 1)
    others = [n for n in range(len(kept)) if n != first]
    spread = np.unique(np.linspace(0, len(others) - 1, most - 1).round().astype(int))
    return [kept[n] for n in sorted([first, *(others[n] for n in spread)])]


def _at(measured: MeasuredRouting, x: Inputs, place: int, passes: Bools, looked_at: Bools) -> Point:
    counts = measured.certifying
    sent = counts.escalated[place]
    a, b = np.array([[1.0 + sent]]), np.array([[1.0 + counts.items - sent]])
    mean, level = a / (a + b), x.latent(RATE_LATENT)
    name = f"{measured.student} behind the router, {measured.score} >= {measured.threshold[place]:.4g}"
    belief = from_counts(Evaluation(correct=counts.right(place), total=counts.items), name)
    quantile = x.latent(QUALITY_LATENT)
    cells = (counts.gained[place], counts.lost[place], counts.teacher_right - counts.lost[place])
    gained, lost, both = (np.array([[float(count)]]) for count in cells)
    paired = Paired(gained, lost, both, quantile)
    belief = replace(belief, paired=paired)
    if quantile is not None:
        drawn = beta_quantile(1.0 + counts.right(place), 1.0 + counts.items - counts.right(place), quantile)
        belief = replace(belief, mean=drawn, sd=np.zeros((1, 1)), drawn=True)
    share = float(mean[0, 0])
    return Point(
        measured,
        place,
        mean if level is None else beta_quantile(a, b, level),
        belief,
        passes,
        looked_at,
        f"{share:.0%}" if share >= 0.0095 else f"{share:.1%}",
    )


def _between(measured: MeasuredRouting, x: Inputs) -> Point:
    """The point at a swept escalation rate: counts by linear interpolation between thresholds.

    At a rate of 1 nothing is gained or lost; at 0 the student alone stands, whose right items are known.
    """
    counts, rate = measured.certifying, x["escalation_rate"]
    order = sorted(range(len(measured.threshold)), key=lambda i: (counts.escalated[i], -counts.right(i)))
    order = [i for n, i in enumerate(order) if not n or counts.escalated[i] > counts.escalated[order[n - 1]]]
    rates, gained, lost = (
        [float(values[i]) for i in order] for values in (counts.escalated, counts.gained, counts.lost)
    )
    if rates[0] > 0:
        change = measured.student_right - counts.right(order[0])
        rates.insert(0, 0.0)
        gained.insert(0, gained[0] + max(change, 0))
        lost.insert(0, lost[0] + max(-change, 0))
    if rates[-1] < counts.items:
        rates.append(float(counts.items))
        gained.append(0.0)
        lost.append(0.0)
    sent = rate * counts.items
    more, fewer = np.interp(sent, rates, gained), np.interp(sent, rates, lost)
    right = counts.teacher_right + more - fewer
    a, b = 1 + right, 1 + counts.items - right
    mean = a / (a + b)
    source = Provenance(
        "derived", f"right of {counts.items:,} labelled items, by linear interpolation between measured thresholds"
    )
    belief = Belief(mean, np.sqrt(mean * (1 - mean) / (a + b + 1)), source, measured=True)
    belief = replace(belief, paired=Paired(more, fewer, counts.teacher_right - fewer))
    return Point(measured, None, rate, belief, np.zeros((1, 1), dtype=bool), np.ones((1, 1), dtype=bool))


def usual_rate(scenario: Scenario) -> float:
    """The escalation rate that a measured router would most likely be run at.

    The least of those certified; where none is, that of the threshold which the tuning items support most.
    """
    measured = scenario.choices.routing.measured
    assert measured is not None
    x = Inputs(scenario)
    relative, floor = requirement(x)
    passes = np.flatnonzero(_certified(x, measured)[0])
    asked = {"floor": None, "retention": relative} if relative is not None else {"floor": float(floor[0, 0])}
    counts = measured.certifying
    place = (
        min(passes, key=lambda i: counts.escalated[i])
        if passes.size
        else int(trial_order(measured, **asked).ravel()[0])
    )
    return (1.0 + counts.escalated[place]) / (2.0 + counts.items)


def why_not(context: Context, student: str) -> str:
    """Why the measured router says nothing of a student; empty where it was measured on it.

    Parameters
    ----------
    student : catalog id of one trained on this task, or provider/model of one that is called as it is published; the
        same model at another host is the same.
    """
    measured = context.choices.routing.measured
    if measured is None:
        return ""
    names = {student}
    if "/" in student:
        found = context.catalog.model_of(student)
        names |= set(found[1].price_refs) if found else set()
    if measured.student not in names:
        return f"the router was measured on {measured.student}, not on {student}"
    if not _is_the_teacher(context, measured.teacher):
        return f"the router was measured before {measured.teacher}, not before {context.teacher}"
    return ""


def _is_the_teacher(context: Context, name: str) -> bool:
    if name in (context.teacher, context.choices.teacher):
        return True
    found, row = context.catalog.model_of(name), context.teacher_row
    if found is not None and found[1] is row:
        return True
    try:
        return context.catalog.price_ref(name, context.last_day) == context.teacher
    except DistillcalcError:
        return False
