"""Where an option starts to pay against calling the big model: in time, in volume, in utilisation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.calendar import add_months
from distillcalc.catalog import Catalog
from distillcalc.decide.table import compare, evaluate
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.outcome import Estimate
from distillcalc.workload.scenario import Scenario

Floats = NDArray[np.float64]

VOLUMES = (1.0, 1e8)  # requests per day between which a crossing is looked for
SCAN_POINTS = 321
ZOOM_POINTS = 65
TOLERANCE = 1e-9  # relative, of a located crossing


@dataclass(frozen=True)
class BreakEven:
    """When one option starts to cost less than calling the big model.

    Parameters
    ----------
    option : id.
    months : from the start until the accumulated cost falls below the teacher's and stays there to the end
        of the horizon; None if it does not.
    day : the date of it.
    requests_per_day : every interval of volumes in which the option is the cheaper one over the horizon;
        infinity where it stays so beyond 10^8 requests a day.
    utilisation : share of the fleet's capacity that is used at the least volume that pays; None for options
        without machines, or where none pays.
    """

    option: str
    months: float | None
    day: date | None
    requests_per_day: tuple[tuple[float, float], ...]
    utilisation: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values; an open upper end is None."""
        return {
            "option": self.option,
            "months": self.months,
            "day": self.day.isoformat() if self.day else None,
            "requests_per_day": [[low, high if np.isfinite(high) else None] for low, high in self.requests_per_day],
            "utilisation": self.utilisation,
        }


def payback_months(option: Estimate, baseline: Estimate) -> float | None:
    """Months until the accumulated present cost of ``option`` falls below that of ``baseline`` for good.

    Cash flows are even within a month, so the accumulated difference is a line through month ends and its
    zero is exact. 0 where it is never above; None where it ends above.
    """
    once = option.one_off_total_usd - baseline.one_off_total_usd
    saved = (option.monthly_total_usd - baseline.monthly_total_usd) * option.discount
    difference = once + np.concatenate([[0.0], np.cumsum(saved)])
    if np.isnan(difference).any() or difference[-1] > 0 or (difference == 0).all():
        return None
    above = np.flatnonzero(difference > 0)
    if not above.size:
        return 0.0
    last = int(above[-1])
    return float(last + difference[last] / (difference[last] - difference[last + 1]))


def day_of(months: float, start: date) -> date:
    """The date that lies ``months`` after the start."""
    whole = int(months)
    first, after = add_months(start, whole), add_months(start, whole + 1)
    return first + timedelta(days=round((months - whole) * (after - first).days))


def break_even_utilisation(scenario: Scenario, catalog: Catalog, option: str, volume: float) -> float | None:
    """Share of a self-hosted fleet's capacity that is used at the volume from which the option pays.

    Everything that is paid is in it: spares, idle hours, people, the student's making. None for options
    without machines, and where the option pays from the least volume looked at.
    """
    if not VOLUMES[0] < volume < VOLUMES[1]:
        return None
    block = evaluate(Inputs(scenario, {"requests_per_day": [volume]}), catalog, (option,))
    return block.estimate(option).facts.get("utilisation")


def crossings(
    gain: Callable[[Floats], Floats], low: float, high: float, points: int = SCAN_POINTS
) -> list[tuple[float, float]]:
    """Every interval of (low, high) in which ``gain`` is positive, ends located to 1e-9.

    A vectorised scan on a logarithmic grid finds the sign changes, repeated subdivision of all of them at
    once locates them; a step (a replica more) is located like a root. What lies between two grid points
    with equal signs is not seen: the grid is 6% apart.

    Returns
    -------
    [(from, to), ...]; ``to`` is infinity where the gain is positive at ``high``.
    """
    grid = np.geomspace(low, high, points)
    positive = gain(grid) > 0
    change = np.flatnonzero(positive[1:] != positive[:-1])
    left, right = grid[change], grid[change + 1]
    while left.size and np.any(right / left - 1 > TOLERANCE):
        inner = left[:, None] * (right / left)[:, None] ** np.linspace(0, 1, ZOOM_POINTS)[None, :]
        inner[:, 0], inner[:, -1] = left, right
        sign = (gain(inner.ravel()) > 0).reshape(inner.shape)
        at = np.argmax(sign != sign[:, :1], axis=1)
        rows = np.arange(len(left))
        left, right = inner[rows, np.maximum(at, 1) - 1], inner[rows, np.maximum(at, 1)]
    edges = [*((left + right) / 2)]
    intervals: list[tuple[float, float]] = []
    start = low if positive[0] else None
    for edge, index in zip(edges, change, strict=True):
        if positive[index + 1]:
            start = float(edge)
        elif start is not None:
            intervals.append((start, float(edge)))
            start = None
    if start is not None:
        intervals.append((start, np.inf))
    return intervals


def break_even_volumes(
    scenario: Scenario, catalog: Catalog, option: str, baseline: str = "call-teacher"
) -> tuple[tuple[float, float], ...]:
    """Every interval of requests per day in which ``option`` costs less than ``baseline`` over the horizon.

    Both follow their best candidate at each volume; what gates rule out is left aside, for a gate on quality
    or terms does not depend on the volume.
    """

    def gain(volumes: Floats) -> Floats:
        table = compare(scenario, catalog, {"requests_per_day": volumes}, (baseline, option))
        return np.nan_to_num(table.present_value_usd[:, 0] - table.present_value_usd[:, 1], nan=-1.0)

    return tuple(crossings(gain, *VOLUMES))


def break_even(scenario: Scenario, catalog: Catalog, option: Estimate, teacher: Estimate) -> BreakEven:
    """Break-even of one option against calling the big model, in time, volume and utilisation."""
    months = payback_months(option, teacher)
    volumes = break_even_volumes(scenario, catalog, option.option) if not option.unpriced else ()
    utilisation = None
    if volumes and "utilisation" in option.facts:
        utilisation = break_even_utilisation(scenario, catalog, option.option, volumes[0][0])
    return BreakEven(
        option=option.option,
        months=months,
        day=day_of(months, scenario.workload.start) if months is not None else None,
        requests_per_day=volumes,
        utilisation=utilisation,
    )


class BreakEvens(Mapping[str, BreakEven]):
    """The break-even of every priced option against calling the big model, by id; each made when it is looked at.

    Parameters
    ----------
    scenario, catalog : what was asked, and what is known.
    options : estimates by id; without a priced ``call-teacher`` there is nothing to compare with.
    """

    def __init__(self, scenario: Scenario, catalog: Catalog, options: Mapping[str, Estimate]) -> None:
        self._scenario, self._catalog = scenario, catalog
        self._teacher = options.get("call-teacher")
        known = self._teacher is not None and not self._teacher.unpriced
        self._options = {
            name: estimate
            for name, estimate in options.items()
            if known and name != "call-teacher" and np.isfinite(estimate.present_value_usd)
        }
        self._made: dict[str, BreakEven] = {}

    def __getitem__(self, option: str) -> BreakEven:
        estimate, teacher = self._options[option], self._teacher
        if option not in self._made and teacher is not None:
            self._made[option] = break_even(self._scenario, self._catalog, estimate, teacher)
        return self._made[option]

    def __contains__(self, option: object) -> bool:
        return option in self._options

    def __iter__(self) -> Iterator[str]:
        return iter(self._options)

    def __len__(self) -> int:
        return len(self._options)
