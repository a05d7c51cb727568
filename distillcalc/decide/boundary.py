"""Where the recommendation changes in the plane of two inputs: a map with the scenario's own point on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.catalog import Catalog
from distillcalc.decide.table import compare, compared
from distillcalc.decide.tipping import SEARCHED, believed
from distillcalc.errors import InputError, UnknownName
from distillcalc.estimate.inputs import SPECS, Inputs, uncertain_inputs
from distillcalc.workload.scenario import Scenario

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
Range = tuple[float, float]

POINTS = 61
FACTOR = 10.0  # how far around a value is looked where nothing says how far it may be off


@dataclass(frozen=True)
class Boundary:
    """Which option is recommended over a grid of two inputs, all else as in the scenario or at its median.

    Parameters
    ----------
    x, y : names of the inputs.
    x_values, y_values : the grid, rising, the scenario's own values among them.
    options : ids.
    best : place of the recommended option in ``options``, -1 where nothing passes, shape (len(y), len(x)).
    point : the scenario's own (x, y).
    """

    x: str
    y: str
    x_values: Floats
    y_values: Floats
    options: tuple[str, ...]
    best: NDArray[np.intp]
    point: tuple[float, float]

    def option(self, x: float, y: float) -> str | None:
        """The option recommended at the grid point nearest to (x, y); None where nothing passes."""
        column, row = (int(np.argmin(np.abs(v - at))) for v, at in ((self.x_values, x), (self.y_values, y)))
        best = int(self.best[row, column])
        return self.options[best] if best >= 0 else None

    def shares(self) -> dict[str, float]:
        """Share of the map's points at which each option is recommended, largest first."""
        places, counts = np.unique(self.best, return_counts=True)
        found = {
            self.options[place] if place >= 0 else "nothing that passes": float(n / self.best.size)
            for place, n in zip(places, counts, strict=True)
        }
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "x": self.x,
            "y": self.y,
            "x_values": self.x_values.tolist(),
            "y_values": self.y_values.tolist(),
            "best": [[self.options[i] if i >= 0 else None for i in row] for row in self.best.tolist()],
            "point": list(self.point),
        }

    def figure(self, axes: Axes | None = None) -> Any:
        """The map as a matplotlib figure."""
        from distillcalc.decide.figures import boundary_figure

        return boundary_figure(self, axes)


def boundary(
    scenario: Scenario,
    x: str,
    y: str,
    *,
    catalog: Catalog | None = None,
    points: int = POINTS,
    x_range: Range | None = None,
    y_range: Range | None = None,
) -> Boundary:
    """Which option is recommended over a grid of two inputs.

    Parameters
    ----------
    scenario : all else; distributions stand at their medians.
    x, y : names as sweeps use them.
    catalog : what is known; left out, the shipped one. The scenario's overrides are laid over it.
    points : of each side.
    x_range, y_range : from, to; left out, what the input's distribution covers, else ten times down and up or what
        tipping points search.

    Raises
    ------
    UnknownName, InputError
        For an input that cannot be swept, the same one twice, or a range that is none.
    """
    for name in (x, y):
        if name not in SPECS:
            raise UnknownName("input", name, SPECS, f"Inputs that can be swept: {', '.join(SPECS)}.")
    if x == y:
        raise InputError(f"a map has two inputs. Got {x} twice")
    if not 2 <= points <= 1_000:
        raise InputError(f"points must be between 2 and 1,000. Got {points}")
    known = (catalog or Catalog.load()).with_overrides(scenario.overrides)
    own = {name: _own(scenario, known, name) for name in (x, y)}
    sides = [_side(scenario, name, own[name], span, points) for name, span in ((x, x_range), (y, y_range))]
    for at, name in enumerate((x, y)):
        if name == "input_tokens":
            least = float(Inputs(scenario)["cacheable_prefix_tokens"][0, 0])
            sides[at] = np.unique(np.maximum(sides[at], least))
    grid_x, grid_y = (grid.ravel() for grid in np.meshgrid(*sides))
    if "cacheable_prefix_tokens" in (x, y) and "input_tokens" in (x, y):
        prefix = grid_x if x == "cacheable_prefix_tokens" else grid_y
        np.minimum(prefix, grid_y if x == "cacheable_prefix_tokens" else grid_x, out=prefix)
    elif "cacheable_prefix_tokens" in (x, y):
        longest = scenario.workload.mean_input_tokens
        at = 0 if x == "cacheable_prefix_tokens" else 1
        sides[at] = np.unique(np.minimum(sides[at], longest))
        grid_x, grid_y = (grid.ravel() for grid in np.meshgrid(*sides))
    table = compare(scenario, known, {x: grid_x, y: grid_y}, compared(scenario))
    shape = (len(sides[1]), len(sides[0]))
    return Boundary(x, y, sides[0], sides[1], table.options, table.best.reshape(shape), (own[x], own[y]))


def _own(scenario: Scenario, catalog: Catalog, name: str) -> float:
    """The scenario's own value, or what is believed where it states none."""
    x = Inputs(scenario)
    value = x.stated(name)
    if value is None and name == "student_input_tokens":
        value = x.stated("input_tokens")
    if value is None and name == "floor":
        relative, teacher = scenario.workload.quality.retention_floor, believed(x, catalog, "teacher_quality")
        value = relative * teacher if relative is not None and teacher is not None else None
    if value is None:
        value = believed(x, catalog, name)
    if value is None:
        raise InputError(f"the scenario leaves {name} out, so there is no point to draw a map around: state it")
    return value


def _side(scenario: Scenario, name: str, own: float, span: Range | None, points: int) -> Floats:
    """Values of one side, rising, with the scenario's own among them; spaced by factors where they span many."""
    spec = SPECS[name]
    if span is not None:
        if not spec.low <= span[0] < span[1] <= spec.high:
            raise InputError(
                f"the range of {name} must rise and lie between {spec.low:g} and {spec.high:g}. Got {span[0]:g} to "
                f"{span[1]:g}"
            )
        low, high = min(span[0], own), max(span[1], own)
    elif (given := uncertain_inputs(scenario).get(name)) is not None:
        first, last = (float(v) for v in given.quantile([0.001, 0.999]))
        reach = (last - first) * 0.1
        low, high = (first / 1.3 if first > 0 and last / first > FACTOR else first - reach), last + reach
    elif name in SEARCHED and SEARCHED[name][0] == "range":
        low, high = SEARCHED[name][1:3]
    elif own > 0:
        low, high = own / FACTOR, own * FACTOR
    else:
        low, high = own, 1.0 if spec.high <= 1 else own + FACTOR
    low, high = max(min(low, own), spec.low), min(max(high, own), spec.high)
    grid = np.geomspace(low, high, points) if low > 0 and high / low > FACTOR else np.linspace(low, high, points)
    if spec.integer:
        grid = np.round(grid)
    return np.unique(np.clip(np.append(grid, own), spec.low, spec.high))
