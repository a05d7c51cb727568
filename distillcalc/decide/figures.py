"""How sure a decision is, drawn: odds, costs by month, what moves it, what knowing more is worth, and the map.

Each takes a result and, if you like, the axes to draw on, and returns the figure. Colours are Okabe and Ito's, one for
each option wherever it is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from distillcalc.decide.explain import words_of
from distillcalc.decide.words import count, usd
from distillcalc.estimate.inputs import SPECS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from distillcalc.decide.boundary import Boundary
    from distillcalc.decide.uncertainty import Uncertainty

INK, GREY, LIGHT = "#333333", "#8C8C8C", "#D9D9D9"
BLUE, ORANGE = "#0072B2", "#D55E00"
COLOURS = {
    "call-teacher": "#0072B2",
    "call-small": "#56B4E9",
    "hosted-open-student": "#009E73",
    "hosted-fine-tune": "#CC79A7",
    "self-host": "#D55E00",
    "self-host-teacher": "#8C6D31",
    "cascade": "#E69F00",
}
MOST_BARS = 10


def _axes(axes: Axes | None, title: str, height: float = 4.2, width: float = 8.0) -> tuple[Figure, Axes]:
    if axes is None:
        from matplotlib.figure import Figure

        axes = Figure(figsize=(width, height), layout="constrained").subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=9, colors=INK)
    axes.set_title(title.replace("$", r"\$"), loc="left", fontsize=11, fontweight="bold", color=INK)
    figure: Any = axes.figure
    return figure, axes


def _money(value: float, _: Any = None) -> str:
    return usd(value).replace("$", r"\$")


def _nothing(axes: Axes, why: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, why, ha="center", va="center", wrap=True, fontsize=10, color=INK, transform=axes.transAxes)


def odds_figure(uncertainty: Uncertainty, axes: Axes | None = None) -> Figure:
    """P(each option is the cheapest that passes), largest on top."""
    rows = {name: share for name, share in uncertainty.probability_best.items() if share > 0}
    if uncertainty.probability_none > 0:
        rows["nothing passes"] = uncertainty.probability_none
    ordered = sorted(rows.items(), key=lambda item: item[1])
    figure, axes = _axes(axes, "Which option is the cheapest that passes", 1.4 + 0.42 * len(ordered))
    names = [name for name, _ in ordered]
    shares = [share * 100 for _, share in ordered]
    axes.barh(names, shares, color=[COLOURS.get(name, GREY) for name in names], height=0.7)
    for i, share in enumerate(shares):
        shown = f"{share:.0f}%" if share >= 0.5 else "below 1%"
        axes.text(share + 1, i, shown, va="center", fontsize=9, color=INK)
    axes.set_xlim(0, 108)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel(f"share of {uncertainty.draws:,} draws [%]", color=INK)
    return figure


def cost_figure(uncertainty: Uncertainty, axes: Axes | None = None) -> Figure:
    """Running cost by month of the choice, its rival and the big model: P50, and P10 to P90 shaded."""
    figure, axes = _axes(axes, "Running cost by month: median, and P10 to P90 shaded")
    alternatives = uncertainty.drawn.alternatives
    options = [uncertainty.recommendation]
    options += [alternatives[uncertainty.rival].option] if uncertainty.rival is not None else []
    options += ["call-teacher"] if "call-teacher" in uncertainty.options else []
    ends: list[tuple[float, str]] = []
    months = 0
    for name in dict.fromkeys(option for option in options if option is not None):
        low, middle, high = uncertainty.monthly_usd(name)
        if not np.isfinite(middle).all():
            continue
        months = len(middle)
        at = np.arange(1, months + 1)
        axes.fill_between(at, low, high, color=COLOURS[name], alpha=0.18, linewidth=0)
        axes.plot(at, middle, color=COLOURS[name], linewidth=2, label=name)
        ends.append((float(middle[-1]), name))
    if not ends:
        _nothing(axes, "No option passes, so there is no cost to show.")
        return figure
    axes.set_ylim(0, None)
    gap = axes.get_ylim()[1] * 0.06
    height = -np.inf
    for value, name in sorted(ends):  # labels of lines that end close together are moved apart
        height = max(value, height + gap)
        axes.annotate(
            name, (months, height), (6, 0), textcoords="offset points", va="center", fontsize=9, color=COLOURS[name]
        )
    axes.set_xlim(1, max(months, 2))
    axes.yaxis.set_major_formatter(_money)
    axes.set_xlabel("month", color=INK)
    axes.set_ylabel("USD a month, without what is paid once", color=INK)
    return figure


def tornado_figure(uncertainty: Uncertainty, axes: Axes | None = None) -> Figure:
    """The lead of the choice over its rival, with each input at its P10 and P90 and all else at its median."""
    swings = [swing for swing in uncertainty.tornado if swing.width_usd > 0][:MOST_BARS][::-1]
    rival = uncertainty.drawn.alternatives[uncertainty.rival].option if uncertainty.rival is not None else "nothing"
    title = f"What moves the lead of {uncertainty.recommendation} over {rival}"
    figure, axes = _axes(axes, title, 1.6 + 0.5 * max(len(swings), 2), 9.0)
    if not swings:
        _nothing(axes, "No input moves it.")
        return figure
    for i, swing in enumerate(swings):
        base = uncertainty.median_lead_usd
        ends = list(zip(swing.values, swing.lead_usd, (BLUE, ORANGE), strict=True))
        # The longer one first: where both lie on one side the shorter one is drawn on it.
        for value, lead, colour in sorted(ends, key=lambda end: -abs(end[1] - base)):
            others = [v for v in swing.lead_usd if v != lead]
            axes.barh(i, lead - base, left=base, height=0.6, color=colour, zorder=2)
            outward = lead >= base if lead != base else not any(v > base for v in others)
            axes.annotate(
                _value(swing.input, value),
                (lead, i),
                (4 if outward else -4, 0),
                textcoords="offset points",
                va="center",
                ha="left" if outward else "right",
                fontsize=8,
                color=INK,
                zorder=4,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
            )
    axes.set_yticks(range(len(swings)), [_wrapped(words_of(swing.input)) for swing in swings])
    axes.axvline(0, color=INK, linewidth=1.2, zorder=3)
    axes.annotate(
        f"left of this line {rival} costs less",
        (0, len(swings) - 0.45),
        (-4, 2),
        textcoords="offset points",
        fontsize=8,
        color=INK,
        ha="right",
        va="bottom",
    )
    low, high = axes.get_xlim()
    room = (max(high, 0) - min(low, 0)) * 0.14
    axes.set_xlim(min(low, 0) - room * 1.8, max(high, 0) + room)
    axes.set_ylim(-0.6, len(swings) - 0.1)
    axes.xaxis.set_major_formatter(_money)
    axes.set_xlabel("lead over the horizon [USD]; blue: the input at its P10, orange: at its P90", color=INK)
    return figure


def value_figure(uncertainty: Uncertainty, axes: Axes | None = None) -> Figure:
    """What knowing each input exactly would be worth, and knowing everything."""
    worth = {name: value for name, value in uncertainty.evpi_by_input.items() if value > uncertainty.negligible_usd}
    rows = list(worth.items())[:MOST_BARS][::-1]
    figure, axes = _axes(axes, "What it would be worth to know exactly", 1.5 + 0.45 * max(len(rows), 2))
    if not rows:
        _nothing(axes, "Nothing that could be found out about one input is worth a thousandth of the cost.")
        return figure
    values = [value for _, value in rows]
    axes.barh(range(len(rows)), values, color=BLUE, height=0.65)
    for i, value in enumerate(values):
        axes.annotate(_money(value), (value, i), (4, 0), textcoords="offset points", va="center", fontsize=9, color=INK)
    axes.set_yticks(range(len(rows)), [_wrapped(words_of(name)) for name, _ in rows])
    everything = uncertainty.evpi_usd or 0.0
    axes.axvline(everything, color=GREY, linestyle="--", linewidth=1.2)
    axes.annotate(
        f"everything: {_money(everything)}",
        (everything, -0.5),
        (-4, 0),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=9,
        color=INK,
    )
    axes.set_xlim(0, max(everything, max(values)) * 1.12)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.xaxis.set_major_formatter(_money)
    axes.set_xlabel("expected value of perfect information [USD over the horizon]", color=INK)
    return figure


def boundary_figure(boundary: Boundary, axes: Axes | None = None) -> Figure:
    """Which option is recommended over two inputs, with the scenario's own point."""
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.patches import Patch

    figure, axes = _axes(axes, f"What is recommended, by {words_of(boundary.x)} and {words_of(boundary.y)}", 5.0)
    present = sorted(set(boundary.best.ravel().tolist()))
    names = [boundary.options[i] if i >= 0 else "nothing passes" for i in present]
    colours = [COLOURS.get(name, LIGHT) for name in names]
    places = np.searchsorted(present, boundary.best)
    norm = BoundaryNorm(np.arange(len(present) + 1) - 0.5, len(present))
    axes.pcolormesh(
        boundary.x_values,
        boundary.y_values,
        places,
        cmap=ListedColormap(colours),
        norm=norm,
        shading="nearest",
        alpha=0.75,
        linewidth=0,
        rasterized=True,
    )
    for which, values in (("x", boundary.x_values), ("y", boundary.y_values)):
        if values[0] > 0 and values[-1] / values[0] > 10:
            getattr(axes, f"set_{which}scale")("log")
        getattr(axes, f"{which}axis").set_major_formatter(lambda value, _: count(value) if value >= 1 else f"{value:g}")
    axes.plot(*boundary.point, marker="o", markersize=9, color="white", markeredgecolor=INK, markeredgewidth=2)
    axes.annotate(
        "you are here",
        boundary.point,
        (9, 7),
        textcoords="offset points",
        fontsize=10,
        color=INK,
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5},
    )
    axes.set_xlabel(_labelled(boundary.x), color=INK)
    axes.set_ylabel(_labelled(boundary.y), color=INK)
    patches = [Patch(color=colour, alpha=0.75, label=name) for name, colour in zip(names, colours, strict=True)]
    axes.legend(
        handles=patches,
        loc="lower center",
        bbox_to_anchor=(0.5, -0.28),
        ncols=min(len(patches), 4),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
    return figure


def _labelled(name: str) -> str:
    unit = SPECS[name].unit
    return f"{name} [{unit}]" if unit else name


def _value(name: str, value: float) -> str:
    """A value of an input beside its bar."""
    if value != value:
        return ""
    unit = SPECS[name].unit if name in SPECS else ""
    if unit.startswith("per "):
        return f"{value:+.1%}"
    if unit.startswith("USD"):
        return _money(value)
    return count(value) if abs(value) >= 100 else f"{value:.3g}"


def _wrapped(words: str, width: int = 30) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(words, width, break_on_hyphens=False))
