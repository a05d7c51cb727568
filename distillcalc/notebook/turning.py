"""Where the verdict turns with the volume, cheaply enough for every step of a slider.

:func:`distillcalc.decide.tipping.tipping_points` searches every input; this asks the same table about one input, on a
grid that holds the scenario itself, so that the answer and the grid cost one evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from distillcalc.decide.break_even import VOLUMES
from distillcalc.decide.table import Block, Table, compare, compared, evaluate, table_of
from distillcalc.estimate.inputs import Inputs

if TYPE_CHECKING:
    from distillcalc.catalog import Catalog
    from distillcalc.workload.scenario import Scenario

SCAN = 128  # volumes looked at, from 1 to 10^8 requests a day: 15% apart
ZOOM = 33  # each round narrows a turn 32 times: after two it is told to a ten-thousandth
ROUNDS = 2


@dataclass(frozen=True)
class Turn:
    """The nearest volume at which another option is recommended.

    Parameters
    ----------
    requests_per_day : that volume.
    to : what is recommended beyond it; None where nothing passes there.
    above : whether it lies above the scenario's own volume.
    """

    requests_per_day: float
    to: str | None
    above: bool


def evaluated(scenario: Scenario, catalog: Catalog) -> tuple[Block, Table]:
    """A scenario (row 0) and the same at every volume of the scan, in one evaluation.

    Parameters
    ----------
    scenario : at its medians.
    catalog : with the scenario's overrides laid over.
    """
    volumes = np.append(scenario.workload.requests_per_day, np.geomspace(*VOLUMES, SCAN))
    block = evaluate(Inputs(scenario, {"requests_per_day": volumes}), catalog, compared(scenario))
    return block, table_of([block])


def turns(scenario: Scenario, catalog: Catalog, table: Table) -> list[Turn]:
    """The nearest turn below and above the scenario's own volume, the nearer one (by its factor) first.

    Parameters
    ----------
    scenario, catalog : as for :func:`evaluated`.
    table : its result.
    """
    own = scenario.workload.requests_per_day
    grid = np.geomspace(*VOLUMES, SCAN)
    different = np.flatnonzero(table.best[1:] != table.best[0])
    place = int(np.searchsorted(grid, own))
    below, above = different[different < place][-1:], different[different >= place][:1]
    ends = [(float(grid[min(at[0] + 1, SCAN - 1)]), float(grid[at[0]]), False) for at in (below,) if at.size]
    ends += [(float(grid[max(at[0] - 1, 0)]), float(grid[at[0]]), True) for at in (above,) if at.size]
    ends = [(max(k, own) if up else min(k, own), flips, up) for k, flips, up in ends]
    return [_located(scenario, catalog, table, keeps, flips, above=up) for keeps, flips, up in ends]


def _located(scenario: Scenario, catalog: Catalog, table: Table, keeps: float, flips: float, *, above: bool) -> Turn:
    here = table.best[0]
    to: str | None = None
    for _ in range(ROUNDS):
        volumes = np.geomspace(keeps, flips, ZOOM)
        best = compare(scenario, catalog, {"requests_per_day": volumes}, table.options).best
        at = max(int(np.argmax(best != here)), 1)
        keeps, flips = float(volumes[at - 1]), float(volumes[at])
        to = table.options[best[at]] if best[at] >= 0 else None
    return Turn(flips, to, above)
