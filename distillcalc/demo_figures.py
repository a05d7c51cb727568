"""The figures of the demo's report, each drawn once for a page and once for a phone, as SVG.

Colours are Okabe and Ito's: blue is what the report is about, grey is the rest; what differs in colour differs in form
or in words too. Names stand above their rows, so that no width of the screen makes them meet.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distillcalc.decide.figures import BLUE, GREY, INK, LIGHT
from distillcalc.decide.words import seconds, usd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from distillcalc.route.bands import Bands

WIDE, NARROW = 8.6, 3.9  # inches
SOFT, PALE, MIDDLE = "#5B6770", "#E3E7EB", "#9AA5B1"
LETTERS = 13  # that fit into an inch
ROW = 0.56  # height of a row with its name [inches]
WHATS = {
    "TTFT": "time to the first word (TTFT)",
    "TPOT": "time for each further word (TPOT)",
    "E2E": "time for the whole answer (E2E)",
}
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True)
class Bar:
    """A row of :func:`cost_figure`: its name, dollars, what to say of it, and whether it is the one or may be it."""

    name: str
    usd: float
    said: str
    chosen: bool
    may: bool


@dataclass(frozen=True)
class Dot:
    """A row with a value and an interval, or two values: ``low`` <= ``value`` <= ``high``."""

    name: str
    value: float
    low: float
    high: float
    said: str
    accent: bool


@dataclass(frozen=True)
class Ratios:
    """A row of :func:`ratio_figure`: estimate / measured of each load, before and after the re-fit."""

    name: str
    before: tuple[float, ...]
    after: tuple[float, ...]


def svg_of(draw: Callable[[float], Figure], width: float) -> bytes:
    """A figure as SVG that is the same whenever it is drawn, with letters as shapes."""
    from matplotlib import rc_context

    out = io.BytesIO()
    with rc_context({"svg.hashsalt": "distillcalc", "svg.fonttype": "path"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a letter that the font has not
        draw(width).savefig(out, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return out.getvalue()


def both(draw: Callable[[float], Figure]) -> tuple[bytes, bytes]:
    """The figure for a page, and for a phone."""
    return svg_of(draw, WIDE), svg_of(draw, NARROW)


def traffic_figure(rates: Sequence[float], per_day: float, width: float = WIDE) -> Figure:
    """Requests in each hour of the day or of the week.

    Parameters
    ----------
    rates : relative to the mean: 24 from midnight, or 168 from Monday, UTC.
    per_day : requests a day, mean.
    width : of the figure [inches].
    """
    figure, ax = _axes(width, 2.6)
    hourly = [rate * per_day / 24 for rate in rates]
    edges = list(range(len(hourly) + 1))
    ax.stairs(hourly, edges, fill=True, color=BLUE, alpha=0.22)
    ax.stairs(hourly, edges, color=BLUE, linewidth=1.5)
    ax.set_xlim(0, len(hourly))
    top = max(hourly) or 1.0
    ax.set_ylim(0, top * 1.22)
    busiest = hourly.index(max(hourly))
    right = busiest > len(hourly) * 0.6
    ax.annotate(
        f"busiest: {max(hourly):,.0f}", (busiest + 0.5, top), (0, 4), textcoords="offset points",
        ha="right" if right else "left" if busiest < len(hourly) * 0.2 else "center", fontsize=9, color=INK,
    )  # fmt: skip
    level = per_day / 24
    ax.axhline(level, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    quiet = 0 if hourly[0] < level else len(hourly)  # the words go where the curve is below the line
    ax.annotate(
        f"mean {level:,.0f}", (quiet, level), (4 if quiet == 0 else -4, 3), textcoords="offset points",
        ha="left" if quiet == 0 else "right", fontsize=9, color=INK,
    )  # fmt: skip
    if len(hourly) == 168:
        ax.set_xticks(range(0, 168, 24), ["" for _ in DAYS])
        for day, name in enumerate(DAYS):
            ax.annotate(
                name, (24 * day + 12, 0), (0, -6), xycoords=("data", "axes fraction"), textcoords="offset points",
                ha="center", va="top", fontsize=9, color=INK,
            )  # fmt: skip
    else:
        step = 3 if width > 6 else 6
        ax.set_xticks(range(0, len(hourly) + 1, step), [f"{hour:02d}:00" for hour in range(0, len(hourly) + 1, step)])
    ax.yaxis.set_major_locator(_few(4))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    ax.grid(axis="y", color=LIGHT, linewidth=0.6)
    return figure


def cost_figure(bars: Sequence[Bar], width: float = WIDE) -> Figure:
    """What each option costs over the horizon, cheapest on top.

    Parameters
    ----------
    bars : options that have a price.
    width : of the figure [inches].
    """
    ordered = sorted(bars, key=lambda bar: bar.usd)
    figure, ax = _rows([bar.name for bar in ordered], width, bold=[bar.chosen for bar in ordered])
    most = max((bar.usd for bar in ordered), default=1.0) or 1.0
    room = 0.2 + 1.75 / (width - 0.4)  # for the words behind the longest bar
    ax.set_xlim(0, most * (1 + room))
    for place, bar in enumerate(ordered):
        look: dict[str, Any] = {"color": BLUE} if bar.chosen else {"color": MIDDLE}
        if not bar.may:
            look = {"facecolor": PALE, "edgecolor": MIDDLE, "hatch": "////", "linewidth": 0.6}
        ax.barh(place, bar.usd, height=0.34, **look)
        said = f"{usd(bar.usd)}  {bar.said}".replace("$", r"\$")
        ax.annotate(
            said, (bar.usd, place), (5, 0), textcoords="offset points", va="center", fontsize=9, color=INK,
            fontweight="bold" if bar.chosen else "normal",
        )  # fmt: skip
    ax.set_xticks([])
    ax.spines["bottom"].set_visible(False)
    return figure


def quality_figure(dots: Sequence[Dot], floor: tuple[float, str] | None, width: float = WIDE) -> Figure:
    """How often each model is right, with its 95% interval, and what is asked for.

    Parameters
    ----------
    dots : shares of test messages.
    floor : share that is asked for, and what it is in words; None leaves it out.
    width : of the figure [inches].
    """
    figure, ax = _rows(
        [f"{dot.name}: {dot.said}" for dot in dots], width, bold=[dot.accent for dot in dots], above=bool(floor)
    )
    low = min([dot.low for dot in dots] + ([floor[0]] if floor else []), default=0.0)
    left = max(0.0, math.floor(low * 10 - 0.5) / 10)
    ax.set_xlim(left, 1.0 + 0.02 * (1.0 - left))
    if floor:
        _limit(ax, floor[0], f"asked for: {floor[1]}", flip=floor[0] - left > 0.5 * (ax.get_xlim()[1] - left))
    for place, dot in enumerate(dots):
        _dot(ax, place, dot)
    ax.spines["bottom"].set_bounds(left, 1.0)
    ax.set_xticks([tick / 10 for tick in range(round(left * 10), 11, 1 if width > 6 or left > 0.45 else 2)])
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.set_xlabel("test messages that it sorts right", color=SOFT, fontsize=9)
    return figure


def latency_figure(dots: Sequence[Dot], limit_s: float | None, width: float = WIDE) -> Figure:
    """Time for a message: the median, and a line to the 95th percentile, on an axis of factors.

    Parameters
    ----------
    dots : [s]: value and low are the median, high the 95th percentile.
    limit_s : objective of the 95th percentile [s]; None leaves it out.
    width : of the figure [inches].
    """
    from matplotlib.ticker import LogLocator, NullLocator

    figure, ax = _rows(
        [f"{dot.name}: {dot.said}" for dot in dots], width, bold=[dot.accent for dot in dots], above=limit_s is not None
    )
    least, most = min(dot.low for dot in dots), max(dot.high for dot in dots)
    ax.set_xscale("log")
    span = max(most / least, 10.0)
    ax.set_xlim(least / span**0.08, max(most * span**0.08, limit_s * 1.3 if limit_s else 0.0))
    if limit_s is not None:
        far = math.log(limit_s / ax.get_xlim()[0]) / math.log(ax.get_xlim()[1] / ax.get_xlim()[0])
        _limit(ax, limit_s, f"asked for: {seconds(limit_s)}", flip=far > 0.5)
    for place, dot in enumerate(dots):
        _dot(ax, place, dot)
    ax.xaxis.set_major_locator(LogLocator(numticks=5 if width < 6 else 9))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(lambda value, _: seconds(value))
    ax.set_xlabel("time for a message: median, line to the 95th percentile", color=SOFT, fontsize=9)
    return figure


def ratio_figure(rows: Sequence[Ratios], width: float = WIDE) -> Figure:
    """Estimate / measured on an axis of factors: hollow before the re-fit, full after it.

    Parameters
    ----------
    rows : one for each figure of each record.
    width : of the figure [inches].
    """
    from matplotlib.ticker import NullLocator

    figure, ax = _rows([row.name for row in rows], width, above=True)
    every = [abs(math.log2(one)) for row in rows for one in (*row.before, *row.after) if one > 0]
    reach = max(1.0, math.ceil(max(every, default=0.0) * 4 + 0.4) / 4)
    ax.set_xscale("log", base=2)
    ax.set_xlim(2 ** -(reach + 0.1), 2 ** (reach + 0.1))
    ax.axvline(1, color=INK, linewidth=1)
    ax.annotate(
        "exact", (1, 1), (0, 2), xycoords=("data", "axes fraction"), textcoords="offset points", ha="center",
        fontsize=9, color=INK,
    )  # fmt: skip
    for place, row in enumerate(rows):
        ax.axhline(place, color=LIGHT, linewidth=0.6, zorder=1)
        marks: list[tuple[tuple[float, ...], dict[str, Any]]] = [
            (row.before, {"facecolor": "white", "edgecolor": SOFT, "marker": "o", "s": 80}),  # a ring where both meet
            (row.after, {"facecolor": BLUE, "edgecolor": BLUE, "marker": "D", "s": 20}),
        ]
        for values, look in marks:
            shown = [value for value in values if value > 0]
            ax.scatter(shown, [place] * len(shown), linewidth=1.2, zorder=3, **look)
    ticks = [2**-n for n in range(int(reach), 0, -1)] + [1] + [2**n for n in range(1, int(reach) + 1)]
    ax.set_xticks(ticks, [f"{tick:g} times" if tick != 1 else "1" for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("estimate / measured", color=SOFT, fontsize=9)
    return figure


def routing_figure(bands: Bands, rate: float | None, width: float = WIDE) -> Figure:
    """Quality over the share that is sent on, beside random and an oracle.

    Parameters
    ----------
    bands : of the certifying messages.
    rate : share that the certified threshold sends on; None where none is certified.
    width : of the figure [inches].
    """
    from distillcalc.route.figures import ORANGE, curve_figure

    figure, ax = _axes(width, 3.4)
    curve_figure(bands, None, ax, over="calls")
    ax.set_title("", loc="left")  # the caption says it
    for words in list(ax.texts):
        words.remove()
    c = bands.curve
    ends = (("small model alone", 0, c.student_quality, "left"), ("big model alone", 100, c.teacher_quality, "right"))
    for said, x, y, side in ends:
        far, down = (7, -13) if side == "left" else (-4, -24)
        ax.annotate(
            said, (x, y), (far, down), textcoords="offset points", ha=side, fontsize=9, color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.75},
        )  # fmt: skip
    if rate is not None:
        ax.plot(100 * rate, c.quality_at(rate), "D", color=ORANGE, markersize=7, zorder=5, label="certified threshold")
    ax.legend().remove()  # within the axes it would hide a curve
    figure.legend(loc="outside upper left", ncols=4 if width > 6 else 2, fontsize=9, frameon=False, labelcolor=INK)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}%")
    ax.yaxis.set_major_locator(_few(6, steps=[1, 2, 5, 10]))  # 82.5% would be written as 82%
    ax.yaxis.set_major_formatter(lambda value, _: f"{round(100 * value, 3):g}%")
    ax.set_xlabel("messages that the big model answers", color=SOFT, fontsize=9)
    ax.set_ylabel("messages sorted right", color=SOFT, fontsize=9)
    return figure


def shortened(name: str, most: int) -> str:
    """A name of at most so many letters, an ellipsis for the rest."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    ax = figure.subplots()
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(MIDDLE)
    ax.tick_params(labelsize=9, colors=INK, length=3, color=MIDDLE)
    ax.set_axisbelow(True)
    return figure, ax


def _rows(names: Sequence[str], width: float, *, bold: Sequence[bool] = (), above: bool = False) -> tuple[Figure, Axes]:
    """Axes of rows from the top, each with its name above it at the left edge."""
    figure, ax = _axes(width, ROW * max(len(names), 1) + (0.75 if above else 0.5))
    ax.set_ylim(max(len(names), 1) - 0.6, -0.75)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    for place, name in enumerate(names):
        weight = "bold" if place < len(bold) and bold[place] else "normal"
        ax.annotate(
            shortened(name, round(LETTERS * width)).replace("$", r"\$"), (0, place - 0.27),
            xycoords=("axes fraction", "data"), va="bottom", fontsize=9.5, color=INK, fontweight=weight, zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip
    return figure, ax


def _dot(ax: Axes, place: int, dot: Dot) -> None:
    colour = BLUE if dot.accent else GREY
    ax.plot([dot.low, dot.high], [place, place], color=colour, linewidth=3, alpha=0.45, solid_capstyle="round")
    ax.scatter([dot.value], [place], s=52, color=colour, marker="D" if dot.accent else "o", zorder=3)


def _limit(ax: Axes, at: float, said: str, *, flip: bool) -> None:
    """A dashed line, with words above the rows on the side where there is room."""
    ax.axvline(at, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    ax.annotate(
        said, (at, 1), (-4 if flip else 4, 2), xycoords=("data", "axes fraction"), textcoords="offset points",
        ha="right" if flip else "left", fontsize=9, color=INK,
    )  # fmt: skip


def _few(most: int, **how: Any) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(most, **how)


def ratios_of(checks: Mapping[str, Any], names: Mapping[str, str]) -> list[Ratios]:
    """Rows of :func:`ratio_figure` from ``Validation.to_dict()``: a record's figures, loads side by side.

    Parameters
    ----------
    checks : with "before" and "after".
    names : what to call a record.
    """
    kinds = list(dict.fromkeys((one["record"], one["what"]) for one in checks.get("before", [])))

    def found(when: str, record: str, what: str) -> tuple[float, ...]:
        every = [one for one in checks.get(when, []) if (one["record"], one["what"]) == (record, what)]
        return tuple(one["estimate"] / one["measured"] for one in every if one["estimate"] and one["measured"])

    return [
        Ratios(
            f"{names.get(record, record)}: {WHATS.get(what, what)}",
            found("before", record, what),
            found("after", record, what),
        )
        for record, what in kinds
    ]
