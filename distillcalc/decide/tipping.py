"""Tipping points: the value of one input at which the recommendation changes, all else as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.catalog import Catalog
from distillcalc.decide.table import (
    ASKED_OF_THE_MODEL,
    compare,
    compared,
    evaluate,
    still_possible,
    table_of,
)
from distillcalc.estimate.context import Context
from distillcalc.estimate.inputs import SPECS, UNSTATED, Inputs
from distillcalc.estimate.measured_cascade import usual_rate
from distillcalc.estimate.outcome import plain
from distillcalc.estimate.quality import RETENTION_PRIOR
from distillcalc.workload.scenario import Scenario

Floats = NDArray[np.float64]
Winners = NDArray[np.object_]

POINTS = 65
ROUNDS = 5  # each narrows a flip 16 times
ZOOM = 17

# Inputs that matter: how far around its value each is searched (a factor down and up, or a range), and what
# change of it a planner would not be surprised by, by which flips are ranked (None: a factor of two).
SEARCHED: dict[str, tuple[str, float, float, float | None]] = {
    "requests_per_day": ("factor", 1e-4, 1e4, None),
    "growth_per_month": ("range", -0.2, 0.5, 0.03),
    "input_tokens": ("factor", 1 / 50, 50, None),
    "output_tokens": ("factor", 1 / 50, 50, None),
    "cacheable_prefix_tokens": ("share of input_tokens", 0.0, 1.0, None),
    "batchable_share": ("range", 0.0, 1.0, 0.25),
    "task_changes_per_year": ("range", 0.0, 52.0, 3.0),
    "wrong_answer_usd": ("range", 0.0, 10.0, 0.25),
    "teacher_price_factor": ("range", 0.01, 10.0, None),
    "gpu_price_factor": ("range", 0.01, 10.0, None),
    "teacher_quality": ("range", 0.5, 0.999, 0.03),
    "student_retention": ("range", 0.5, 1.0, 0.03),
    "floor": ("range", 0.0, 1.0, 0.03),
    "engineering_hours": ("range", 0.0, 5000.0, None),
    "operations_hours_per_month": ("range", 0.0, 500.0, None),
    "labels": ("factor", 1e-2, 1e3, None),
    "escalation_rate": ("range", 0.0, 1.0, 0.1),
}


@dataclass(frozen=True)
class TippingPoint:
    """One value at which the recommendation flips.

    Parameters
    ----------
    input, unit : its name and unit.
    value : the scenario's own; None where it leaves the input out.
    flips_at : the nearest value, on one side, from which another option is recommended.
    to : that option; None where nothing passes there.
    own : the value that the search started from: the scenario's, or what is believed where it states none.
    """

    input: str
    unit: str
    value: float | None
    flips_at: float
    to: str | None
    own: float

    @property
    def distance(self) -> float:
        """How far the flip is from here, in changes that would surprise nobody: doublings, or the input's own scale."""
        scale = SEARCHED[self.input][3]
        if scale is not None:
            return abs(self.flips_at - self.own) / scale
        if self.own > 0 and self.flips_at > 0:
            return abs(float(np.log2(self.flips_at / self.own)))
        return float("inf")

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "input": self.input,
            "unit": self.unit,
            "value": self.value,
            "flips_at": plain(self.flips_at),
            "to": self.to,
        }


@dataclass
class _Side:
    """One direction of one input: an end that keeps the recommendation and an end that flips it."""

    name: str
    value: float | None
    keeps: float
    flips: float
    to: str | None = None


def tipping_points(scenario: Scenario, catalog: Catalog) -> list[TippingPoint]:
    """Every nearest flip of every input that matters, below and above its value, nearest first.

    One vectorised scan over all inputs finds the first grid interval on either side in which the
    recommendation changes; repeated subdivision of all of them at once locates the flips to a millionth of
    the interval. A flip back and forth inside one grid interval is not seen, nor an option that wins inside one only.
    """
    search = _Search(scenario, catalog)
    grids = {name: grid for name in SEARCHED if (grid := search.grid(name)) is not None}
    winners = search.winners(grids)
    sides: list[_Side] = []
    for name, grid in grids.items():
        same = winners[name] == search.base
        own = search.own[name]
        place = int(np.searchsorted(grid, own))
        if not same[place]:
            continue  # stating the value outright already changes the decision: no distance to speak of
        for step in (-1, 1):
            order = range(place + step, len(grid) if step > 0 else -1, step)
            at = next((i for i in order if not same[i]), None)
            if at is not None:
                keeps, flips = float(grid[at - step]), float(grid[at])
                sides.append(_Side(name, search.stated(name), keeps, flips, winners[name][at]))
    among = {search.base, *(side.to for side in sides)}
    for _ in range(ROUNDS):
        inner = [np.linspace(side.keeps, side.flips, ZOOM) for side in sides]
        for side, values, best in zip(sides, inner, search.winners_of(sides, inner, among), strict=True):
            at = max(int(np.argmax(best != search.base)), 1)
            side.keeps, side.flips, side.to = float(values[at - 1]), float(values[at]), best[at]
    points = [
        TippingPoint(side.name, SPECS[side.name].unit, side.value, side.flips, side.to, search.own[side.name])
        for side in sides
    ]
    return sorted(points, key=lambda point: point.distance)


def believed(x: Inputs, catalog: Catalog, name: str) -> float | None:
    """What stands in for an input that the scenario leaves out; None where nothing does."""
    if name == "teacher_quality":
        return float(Context(x, catalog).teacher_belief.mean[0, 0])
    if name == "escalation_rate" and x.scenario.choices.routing.measured is not None:
        return usual_rate(x.scenario)
    return RETENTION_PRIOR[0] if name == "student_retention" else UNSTATED.get(name)


class _Search:
    """The scenario's recommendation as a function of one input at a time, many values in one evaluation."""

    def __init__(self, scenario: Scenario, catalog: Catalog) -> None:
        self.scenario, self.catalog = scenario, catalog
        self.x = Inputs(scenario)
        self.options = compared(scenario)
        block = evaluate(self.x, catalog, self.options)
        self.base = table_of([block]).option(0)
        self.possible = still_possible(block)
        self.own: dict[str, float] = {}

    def stated(self, name: str) -> float | None:
        """The value that the scenario is computed with; None where counts stand over it, or nothing is stated."""
        counts = self.scenario.choices.evaluations.keys()
        overruled = {"teacher_quality": {"teacher"}, "student_retention": set(self.scenario.choices.students)}
        return None if overruled.get(name, set()) & counts else self.x.stated(name)

    def grid(self, name: str) -> Floats | None:
        """Values to search, rising, with the scenario's own among them; None where there is nothing to search."""
        if name == "escalation_rate" and self.scenario.choices.routing.measured is not None:
            return None  # the decision picks it: it is no input
        own = self.stated(name)
        if own is None:
            own = believed(self.x, self.catalog, name)
            if own is None:
                return None
        own = float(np.clip(own, SPECS[name].low, SPECS[name].high))
        how, low, high, _ = SEARCHED[name]
        if how == "factor":
            if not own:
                return None
            grid = own * np.geomspace(low, high, POINTS)
        elif how == "range":
            grid = np.geomspace(low, high, POINTS) if low > 0 and high / low > 10 else np.linspace(low, high, POINTS)
        else:
            grid = np.linspace(low, high, POINTS) * float(self.x["input_tokens"][0, 0])
        if name == "input_tokens":
            grid = np.maximum(grid, self.scenario.workload.cacheable_prefix_tokens)
        self.own[name] = own
        return np.unique(np.append(np.clip(grid, SPECS[name].low, SPECS[name].high), own))

    def winners(self, values: dict[str, Floats], among: set[str | None] | None = None) -> dict[str, Winners]:
        """Id of the best option for each value of each input, all else as in the scenario; None where nothing passes.

        Inputs that the scenario states share an evaluation; one that it leaves out has no number to stand in the other
        rows, so it has an evaluation of its own. Where an input asks nothing of the models, options whose models are
        held back are left out: their queues need not be worked out a thousand times.
        """
        stated = [name for name in values if self.stated(name) is not None]
        groups = [([name for name in stated if name not in ASKED_OF_THE_MODEL], self.possible)]
        groups.append(([name for name in stated if name in ASKED_OF_THE_MODEL], self.options))
        groups += [([name], self.options) for name in values if name not in stated]
        found: dict[str, Winners] = {}
        for names, options in groups:
            chosen = tuple(option for option in options if among is None or option in among)
            edges = np.cumsum([0, *(len(values[name]) for name in names)])
            columns = {name: np.full(edges[-1], self.own[name]) for name in names}
            for name, start, end in zip(names, edges, edges[1:], strict=False):
                columns[name][start:end] = values[name]
            best = np.full(edges[-1], None, dtype=object)
            if names and chosen:
                best = np.array([*chosen, None], dtype=object)[
                    compare(self.scenario, self.catalog, columns, chosen).best
                ]
            found |= {name: best[start:end] for name, start, end in zip(names, edges, edges[1:], strict=False)}
        return found

    def winners_of(self, sides: list[_Side], inner: list[Floats], among: set[str | None]) -> list[Winners]:
        """The same for the values of each side."""
        by_name: dict[str, Floats] = {}
        for side, values in zip(sides, inner, strict=True):
            by_name[side.name] = np.append(by_name.get(side.name, np.zeros(0)), values)
        best = self.winners(by_name, among)
        taken: dict[str, int] = {}
        found = []
        for side in sides:
            start = taken.get(side.name, 0)
            found.append(best[side.name][start : start + ZOOM])
            taken[side.name] = start + ZOOM
        return found
