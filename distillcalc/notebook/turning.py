"""Where the verdict turns with the volume, cheaply enough for every step of a slider.

:func:`distillcalc.decide.tipping.tipping_points` searches every input; this asks the same table about one input, on a
grid of volumes, and leaves out options that something holds back at any volume, such as a quality below the floor:
their queues need not be worked out at a hundred volumes. Between two volumes of the
grid, which are 15% apart, only the two options that win there are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from distillcalc.decide.break_even import VOLUMES
from distillcalc.decide.table import Block, Table, compare, compared, evaluate, still_possible
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
    """A scenario, and the table of it (row 0) and of every volume of the scan.

    Parameters
    ----------
    scenario : at its medians.
    catalog : with the scenario's overrides laid over.

    Returns
    -------
    The block of the scenario itself with every option; the table, with those that may pass at some volume.
    """
    block = evaluate(Inputs(scenario), catalog, compared(scenario))
    possible = still_possible(block)
    volumes = np.append(scenario.workload.requests_per_day, np.geomspace(*VOLUMES, SCAN))
    arrays = {"requests_per_day": volumes}
    return block, compare(scenario, catalog, arrays, possible or compared(scenario)[:1])


def turned(scenario: Scenario, catalog: Catalog) -> tuple[Block, Table, Turn | None]:
    """:func:`evaluated` and :func:`nearest_turn` in one; asked again for the same scenario, the same answer.

    Parameters
    ----------
    scenario, catalog : as for :func:`evaluated`.

    Returns
    -------
    Its two results, and the turn; None where nothing is recommended to turn from.
    """
    global _latest  # the verdict of the slider's last step is asked for again by the full view
    known = _latest
    if known is None or known[1] is not catalog or known[0] != scenario:
        block, table = evaluated(scenario, catalog)
        turn = nearest_turn(scenario, catalog, table) if table.option(0) is not None else None
        _latest = known = (scenario, catalog, (block, table, turn))
    return known[2]


_latest: tuple[Scenario, Catalog, tuple[Block, Table, Turn | None]] | None = None


def nearest_turn(scenario: Scenario, catalog: Catalog, table: Table) -> Turn | None:
    """The nearest volume (by its factor) at which another option is recommended; None where none does.

    Parameters
    ----------
    scenario, catalog : as for :func:`evaluated`.
    table : its second result.
    """
    own = scenario.workload.requests_per_day
    grid = np.geomspace(*VOLUMES, SCAN)
    different = np.flatnonzero(table.best[1:] != table.best[0])
    if not different.size:
        return None
    place = int(np.searchsorted(grid, own))
    below, above = different[different < place][-1:], different[different >= place][:1]
    # Each end: the last volume of the grid that keeps the verdict, the first that turns it, and to what.
    ends = [(min(float(grid[min(at + 1, SCAN - 1)]), own), float(grid[at]), table.option(at + 1)) for at in below]
    ends += [(max(float(grid[max(at - 1, 0)]), own), float(grid[at]), table.option(at + 1)) for at in above]
    ends.sort(key=lambda end: abs(float(np.log(end[0] / own))))
    near = [end for end in ends if abs(np.log(end[0] / own)) <= abs(np.log(ends[0][1] / own))]
    found = [_located(scenario, catalog, table.option(0), to, keeps, flips) for keeps, flips, to in near]
    return min(found, key=lambda turn: abs(float(np.log(turn.requests_per_day / own))))


def _located(
    scenario: Scenario, catalog: Catalog, here: str | None, to: str | None, keeps: float, flips: float
) -> Turn:
    """The turn between a volume that keeps the verdict and one that turns it, narrowed down among these two options."""
    above = flips > keeps
    options = [name for name in (here, to) if name is not None]
    for _ in range(ROUNDS):
        volumes = np.geomspace(keeps, flips, ZOOM)
        found = compare(scenario, catalog, {"requests_per_day": volumes}, options)
        at = next((i for i in range(1, ZOOM) if found.option(i) != here), ZOOM - 1)
        keeps, flips = float(volumes[at - 1]), float(volumes[at])
    return Turn(flips, to, above)
