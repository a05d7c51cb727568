"""The four-way table drawn: how good each model is for its time or size, and whether its confidence can be believed.

Each takes a result and, if you like, the axes to draw on, and returns the figure. Colours are Okabe and Ito's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from distillcalc.calibration_measures import BINS, Reliability, expected_calibration_error
from distillcalc.decide.figures import BLUE, GREY, INK, LIGHT, ORANGE
from distillcalc.decide.words import count, seconds
from distillcalc.distill.training.four_way import one_line
from distillcalc.distill.training.scores import Answers
from distillcalc.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from distillcalc.distill.training.four_way import Entry, FourWay

ROLE_LOOKS = {"teacher": (BLUE, "s"), "raw": (GREY, "v"), "label-only": ("#E69F00", "o"), "distilled": (ORANGE, "D")}
OTHERS = (("#009E73", "^"), ("#CC79A7", "P"), ("#56B4E9", "X"), ("#8C6D31", "<"), ("#F0E442", ">"))
MOST_OF_A_NAME = 28  # characters of a line, where there is no room for more
LETTER, VALUE = 5.2, 8  # width of a letter on average [pt]; letters of the value behind a name
NEAR = 0.06  # of the width of the axes
BESIDE = 11.0  # between points that are drawn side by side [pt]


@dataclass(frozen=True, eq=False)
class _Point:
    x: float
    entry: Entry
    colour: str
    marker: str


def four_way_figure(table: FourWay, ax: Axes | None = None) -> Figure:
    """Accuracy of each model, with its 95% interval, over its time per item; over its parameters where that is unknown.

    Parameters
    ----------
    table : what :func:`.four_way.four_way` made.
    ax : to draw on; left out, a figure is made.
    """
    figure, ax = _axes(ax, table.headline, (8.0, 4.6))
    name, value, words = _across(table)
    points, left_out = [], []
    for entry, (colour, marker) in zip(table.entries, _looks(table.entries), strict=True):
        x = value(entry)
        if x is None:
            left_out.append(_short(entry.name))
        else:
            points.append(_Point(x, entry, colour, marker))
    _limits(ax, table, points)
    teacher = table.entry("teacher")
    if teacher is not None:
        middle = 100 * teacher.score.accuracy
        ax.axhline(middle, color=BLUE, linewidth=1, linestyle=(0, (4, 3)), alpha=0.6, zorder=1)
        if value(teacher) is None:
            ax.annotate(
                f"{_short(teacher.name)}  {middle:.1f}%",
                (0.01, middle),
                (0, 3),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                fontsize=9,
                color=INK,
            )
    for group in _groups(ax, points):
        _draw(ax, group)
    ax.xaxis.set_major_formatter(lambda x, _: words(x))
    ax.xaxis.set_minor_formatter(lambda _x, _: "")
    ax.yaxis.set_major_formatter(lambda y, _: f"{y:g}%")
    more = f"\nnot measured: {', '.join(left_out)}" if left_out else ""
    ax.set_xlabel(name + more, color=INK)
    ax.set_ylabel(f"{_short(table.metric)} [% of items], 95% interval", color=INK)
    return figure


def reliability_figure(answers: Answers | Sequence[Answers], ax: Axes | None = None) -> Figure:
    """How often answers of like confidence are right: on the line it is as often as the model believes.

    Parameters
    ----------
    answers : with confidences; several seeds are taken together, their calibration error is the mean.
    ax : to draw on; left out, a figure is made.

    Raises
    ------
    InputError
        If there are no confidences.
    """
    runs = [answers] if isinstance(answers, Answers) else list(answers)
    sure = [(run.confidence, run.right) for run in runs if run.confidence is not None]
    if not runs or len(sure) < len(runs):
        raise InputError("a reliability diagram needs the model's confidence in each answer. Got answers without it")
    figure, ax = _axes(ax, "How often answers are right, by how sure the model is", (5.6, 5.2))
    pooled = Reliability.of(*(np.concatenate(part) for part in zip(*sure, strict=True)), bins=BINS, by="width")
    ax.plot([0, 100], [0, 100], color=GREY, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    ax.annotate("perfectly calibrated", (4, 4), (0, 5), textcoords="offset points", rotation=45, color=GREY, fontsize=9,
                rotation_mode="anchor", transform_rotates_text=True)  # fmt: skip
    bins = np.stack([pooled.predicted, pooled.observed, pooled.low, pooled.high], axis=1) * 100
    for (x, y, low, high), items in zip(bins, pooled.count, strict=True):
        ax.plot([x, x], [x, y], color=ORANGE, linewidth=3, alpha=0.35, solid_capstyle="butt", zorder=2)
        ax.plot([x, x], [low, high], color=BLUE, linewidth=1.2, alpha=0.6, zorder=3)
        ax.scatter(x, y, s=18 + 500 * items / pooled.items, color=BLUE, edgecolor="white", linewidth=1, zorder=4,
                   clip_on=False)  # fmt: skip
    error = float(np.mean([expected_calibration_error(*run, by="width") for run in sure]))
    ax.text(
        0.03,
        0.97,
        f"ECE {error:.3f}, the mean gap to the line\n{pooled.items:,} answers; larger dots hold more of them",
        transform=ax.transAxes,
        va="top",
        fontsize=9,
        color=INK,
    )
    ax.set_xlim(0, 102)
    ax.set_ylim(0, 118)
    ax.set_yticks(range(0, 101, 20))
    ax.spines["left"].set_bounds(0, 100)
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}%")
    ax.yaxis.set_major_formatter(lambda y, _: f"{y:g}%")
    ax.set_xlabel("confidence of the model in its answer", color=INK)
    ax.set_ylabel("answers that are right, 95% interval", color=INK)
    return figure


def _axes(ax: Axes | None, title: str, size: tuple[float, float]) -> tuple[Figure, Axes]:
    if ax is None:
        from matplotlib.figure import Figure

        ax = Figure(figsize=size, layout="constrained").subplots()
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.tick_params(labelsize=9, colors=INK)
    ax.grid(axis="y", color=LIGHT, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_title(title.replace("$", r"\$"), loc="left", fontsize=11, fontweight="bold", color=INK)
    figure: Any = ax.figure
    return figure, ax


def _across(table: FourWay) -> tuple[str, Callable[[Entry], float | None], Callable[[float], str]]:
    """What is drawn across, in what unit: whichever of time and size more models have; time where both do."""
    found: list[tuple[str, Callable[[Entry], float | None], Callable[[float], str]]] = [
        ("median time per item", lambda e: e.facts.latency_ms_per_item, lambda ms: seconds(ms / 1000) if ms else "0"),
        ("parameters", lambda e: e.facts.parameters, count),
    ]
    best = max(found, key=lambda one: sum(one[1](entry) is not None for entry in table.entries))
    if any(best[1](entry) is not None for entry in table.entries):
        return best
    order = {entry.name: i + 1.0 for i, entry in enumerate(table.entries)}
    return "neither time nor size was measured: in the order of the table", lambda e: order[e.name], lambda _: ""


def _looks(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """A colour and a marker for each row: by role, and what is over gets one of its own."""
    spare = iter(OTHERS * len(entries))
    taken: set[str] = set()
    looks = []
    for entry in entries:
        looks.append(ROLE_LOOKS[entry.role] if entry.role in ROLE_LOOKS.keys() - taken else next(spare))
        taken.add(entry.role)
    return looks


def _limits(ax: Axes, table: FourWay, points: list[_Point]) -> None:
    """Room for every interval, and to the right of the last point for its name."""
    low, high = (100 * end([e.score.accuracy_interval[i] for e in table.entries]) for i, end in enumerate((min, max)))
    room = 0.08 * (high - low) + 1
    ax.set_ylim(max(0, low - room), min(101.5, high + room))
    across = [p.x for p in points]
    if across and min(across) > 0 and max(across) / min(across) > 10:
        from matplotlib.ticker import LogLocator

        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.set_xlim(min(across) / 1.6, max(across) * (max(across) / min(across)) ** 0.45)
    else:
        ax.set_xlim(0, max(across, default=1) * 1.45 or 1)


def _groups(ax: Axes, points: list[_Point]) -> list[list[_Point]]:
    """Points that would stand on each other, near across and with intervals that overlap, to be drawn side by side."""
    place = {id(p): float(ax.transAxes.inverted().transform(ax.transData.transform((p.x, 0)))[0]) for p in points}

    def meet(a: _Point, b: _Point) -> bool:
        (low, high), (other_low, other_high) = a.entry.score.accuracy_interval, b.entry.score.accuracy_interval
        return abs(place[id(a)] - place[id(b)]) < NEAR and low <= other_high and other_low <= high

    groups: list[list[_Point]] = []
    for point in points:
        met = [group for group in groups if any(meet(point, other) for other in group)]
        groups = [group for group in groups if group not in met] + [[point, *(p for group in met for p in group)]]
    return groups


def _draw(ax: Axes, group: list[_Point]) -> None:
    """Points with their intervals, side by side where they are near; names to the right of them, each on its line."""
    from matplotlib.transforms import ScaledTranslation

    figure: Any = ax.figure
    ordered = sorted(group, key=lambda p: p.entry.score.accuracy)
    bottom, top = ax.get_ylim()
    names_at = max(point.x for point in group)
    right = BESIDE * (len(ordered) - 1) / 2 + 14
    most = _room(ax, names_at, right)
    names = [_lines(point.entry.name, most) for point in ordered]
    gap = (0.055 if max(name.count("\n") for name in names) == 0 else 0.1) * (top - bottom)
    heights = _apart([100 * p.entry.score.accuracy for p in ordered], gap, bottom, top)
    across = {id(point): i for i, point in enumerate(sorted(ordered, key=lambda p: p.x))}
    for point, height, name in zip(ordered, heights, names, strict=True):
        middle, (low, high) = 100 * point.entry.score.accuracy, (100 * e for e in point.entry.score.accuracy_interval)
        shift = BESIDE * (across[id(point)] - (len(ordered) - 1) / 2)
        ax.errorbar(
            point.x,
            middle,
            yerr=[[max(middle - low, 0)], [max(high - middle, 0)]],
            color=point.colour,
            marker=point.marker,
            markersize=8,
            markeredgecolor="white",
            capsize=3,
            linewidth=2,
            zorder=3,
            transform=ax.transData + ScaledTranslation(shift / 72, 0, figure.dpi_scale_trans),
        )
        if len(ordered) > 1:
            start = ax.transData + ScaledTranslation((shift + 5) / 72, 0, figure.dpi_scale_trans)
            end = ax.transData + ScaledTranslation((right - 1) / 72, 0, figure.dpi_scale_trans)
            ax.add_artist(_leader(start, (point.x, middle), end, (names_at, height), point.colour))
        ax.annotate(
            f"{name}  {middle:.1f}%",
            (names_at, height),
            (right + 1, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=INK,
            zorder=4,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )


def _leader(start: Any, a: tuple[float, float], end: Any, b: tuple[float, float], colour: str) -> Any:
    from matplotlib.patches import ConnectionPatch

    return ConnectionPatch(a, b, start, end, color=colour, linewidth=0.9, alpha=0.8, zorder=2)


def _apart(heights: list[float], gap: float, bottom: float, top: float) -> list[float]:
    """Rising heights moved until each is a gap above the one before, around where they were."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + gap) if moved else height)
    back = float(np.mean(np.subtract(moved, heights))) if moved[1:] else 0.0
    back = max(back, moved[-1] - (top - gap / 2))
    return [height - min(back, moved[0] - bottom - gap / 2) for height in moved]


def _room(ax: Axes, x: float, right: float) -> int:
    """Letters of a name that fit between a point at x, so many points [pt] to its right, and the edge of the axes."""
    figure: Any = ax.figure
    place = float(ax.transAxes.inverted().transform(ax.transData.transform((x, 0)))[0])
    width = 72 * ax.bbox.width / figure.dpi
    return max(MOST_OF_A_NAME, int(((1 - place) * width - right) / LETTER) - VALUE)


def _lines(name: str, most: int) -> str:
    """A name on one line where it fits, else on two, cut where these do not hold it."""
    return "\n".join(wrap(one_line(name), most, max_lines=2, placeholder="…")).replace("$", r"\$")


def _short(name: str) -> str:
    shown = one_line(name).replace("$", r"\$")
    return shown if len(shown) <= MOST_OF_A_NAME else shown[: MOST_OF_A_NAME - 1].rstrip("\\ ") + "…"
