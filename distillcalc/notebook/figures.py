"""The panel's three pictures: what each option costs a month, what they add up to, how fast they answer.

Each takes a decision and returns an inline picture; every number drawn is the decision's own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from distillcalc.decide.words import duration, usd
from distillcalc.notebook.style import AMBER, GREY, HEIGHT, INK, LINE, PAPER, WIDTH, axes_of, colour, points, svg
from distillcalc.notebook.tables import title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from distillcalc.decide.decision import Decision
    from distillcalc.estimate.outcome import Estimate

MAY_BE_CHOSEN = ("feasible", "provisional")
SMALL = points(12)
# The options' titles where a picture has room for twenty characters.
_SHORT = {
    "call-teacher": "Call the big model",
    "call-small": "Call a small model",
    "hosted-open-student": "Open student at host",
    "hosted-fine-tune": "Fine-tune at provider",
    "self-host": "Distill and self-host",
    "self-host-teacher": "Self-host big model",
    "cascade": "Student, then teacher",
}


def monthly_figure(decision: Decision) -> str:
    """What each option costs in the first month, and by a tick in the last; what may not be chosen is hatched."""
    shown = sorted(
        (e for e in decision.options.values()), key=lambda e: (e.unpriced != "", _first(e), e.option), reverse=True
    )
    figure, ax = axes_of(WIDTH, HEIGHT, left=0.15, bottom=0.48)
    said = []
    dearest = max((float(max(e.monthly_total_usd[0], e.monthly_total_usd[-1])) for e in shown if _priced(e)), default=1)
    for place, e in enumerate(shown):
        if not _priced(e):
            _above(ax, place, f"{_name(e)}: no price")
            continue
        first, last = float(e.monthly_total_usd[0]), float(e.monthly_total_usd[-1])
        open_ = e.status in MAY_BE_CHOSEN
        ax.barh(
            place,
            first,
            height=0.4,
            color=colour(e.option) if open_ else "none",
            edgecolor=colour(e.option),
            hatch=None if open_ else "////",
            linewidth=1,
        )
        if len(e.monthly_total_usd) > 1:
            ax.plot([last, last], [place - 0.27, place + 0.27], color=INK, linewidth=2)
        why = "" if open_ else f", {e.status.replace('-', ' ')}: {e.worst_gate()}"
        cost = usd(first) if usd(first) == usd(last) else f"{usd(first)} → {usd(last)}"
        _above(ax, place, f"{_name(e)}: {cost}{why}", bold=e.option == decision.recommendation)
        said.append(f"{_name(e)} {usd(first)}{why}")
    ax.set_yticks([])
    ax.set_xlim(0, dearest * 1.04)
    ax.set_ylim(-0.4, len(shown) - 0.2)
    _dollars(ax, "x")
    ax.set_xlabel("USD in month 1 (bar) and the last (tick); hatched: may not be chosen", loc="left")
    return svg(figure, "Running cost in the first month: " + "; ".join(reversed(said)), "monthly")


def cumulative_figure(decision: Decision) -> str:
    """What has been paid by the end of each month, one-off costs included, and where the choice has paid back."""
    shown = [e for e in decision.options.values() if _priced(e) and _worth_drawing(e, decision)]
    figure, ax = axes_of(WIDTH, HEIGHT, left=0.72, bottom=0.48, top=0.3)
    ends: list[tuple[float, Estimate]] = []
    months = 1
    for e in shown:
        paid = np.concatenate([[0.0], np.cumsum(e.monthly_total_usd * e.discount)]) + e.one_off_total_usd
        months = len(paid) - 1
        thick = 2.6 if e.option == decision.recommendation else 1.6
        ax.plot(range(months + 1), paid, color=colour(e.option), linewidth=thick, solid_capstyle="round")
        ends.append((float(paid[-1]), e))
    top = max((end for end, _ in ends), default=1.0)
    ax.set_xlim(0, months * 1.6)
    ax.set_ylim(0, top * 1.08 or 1)
    _ends(ax, ends, months, top, decision)
    back = decision.payback_months()
    if back:
        ax.axvline(back, color=AMBER, linewidth=1.4, linestyle=(0, (4, 3)))
        flip = back > months * 0.6
        ax.text(
            back,
            top * 1.1,
            f"pays back in {duration(back)}",
            ha="right" if flip else "left",
            va="bottom",
            fontsize=SMALL,
            color=INK,
        )
    ax.grid(axis="y", color=LINE, linewidth=0.6)
    ax.set_axisbelow(True)
    step = next((n for n in (1, 2, 3, 6, 12, 24) if months / n <= 8), 24)
    ax.set_xticks(range(0, months + 1, step))
    _dollars(ax, "y")
    ax.set_xlabel("months from the start", loc="left")
    said = "; ".join(f"{_name(e)} {usd(end)}" for end, e in sorted(ends, key=lambda one: one[0]))
    told = f". The choice pays back in {duration(back)}" if back else ""
    return svg(figure, f"Cost added up over {months} months: {said}{told}", "cumulative")


def latency_figure(decision: Decision) -> str:
    """Median to 95th percentile of each option's answer times, against the objective where one is set."""
    what, percentile, limit = _objective(decision)
    options = [e for e in decision.options.values() if not e.unpriced][::-1]
    figure, ax = axes_of(WIDTH, HEIGHT, left=1.5, bottom=0.48, top=0.3)
    said, known = [], [limit] if limit else []
    unit = "ms" if what == "tpot" else "s"
    for place, e in enumerate(options):
        middle, tail = e.latency.get(f"{what}_p50_{unit}"), e.latency.get(f"{what}_p{percentile}_{unit}")
        if tail is None:
            said.append(f"{_name(e)} unknown")
            continue
        at = [middle if middle is not None else tail, tail]
        known += at
        misses = limit is not None and tail > limit
        ax.plot(at, [place, place], color=colour(e.option), linewidth=5, solid_capstyle="round")
        ax.plot(tail, place, marker="X" if misses else "o", color=colour(e.option), markersize=9, markeredgecolor=PAPER)
        said.append(f"{_name(e)} {tail:.3g} {unit}" + (" (misses)" if misses else ""))
    low, high = (min(known), max(known)) if known else (0.1, 1.0)
    ax.set_xscale("log")
    ax.minorticks_off()
    ax.set_xlim(low / 1.5, high * 2.2)
    for place, e in enumerate(options):
        tail = e.latency.get(f"{what}_p{percentile}_{unit}")
        if tail is None:
            ax.text(low / 1.45, place, "unknown", va="center", fontsize=SMALL, color=GREY)
            continue
        left = limit is not None and tail < limit < tail * 1.8  # words that end at the limit do not cross it
        ax.text(tail, place + 0.2, f"{tail:.3g}", ha="right" if left else "left", fontsize=SMALL, color=INK)
    if limit is not None:
        ax.axvline(limit, color=INK, linewidth=1.4, linestyle=(0, (4, 3)), zorder=0.5)
        ax.text(limit, len(options) - 0.42, f"limit {limit:.3g} {unit}", ha="center", va="bottom", fontsize=SMALL)
        ax.texts[-1].set_color(INK)
    ax.set_yticks(range(len(options)), [_SHORT[e.option] for e in options])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-0.6, max(len(options), 1) - 0.4)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    name = {"e2e": "whole answer", "ttft": "first token", "tpot": "each further token"}[what]
    ax.set_xlabel(f"{name}, median to p{percentile} [{unit}]; X: misses", loc="left")
    against = f" against a limit of {limit:.3g} {unit}" if limit is not None else ""
    return svg(figure, f"Time to the {name}, p{percentile}{against}: {'; '.join(reversed(said))}", "latency")


def _name(e: Estimate) -> str:
    """What the option is called everywhere on the panel."""
    return title(e.option)


def _objective(decision: Decision) -> tuple[str, int, float | None]:
    """The objective that is drawn: of the whole answer if one is set, else the first; else no limit."""
    asked = decision.scenario.workload.slo.objectives()
    found = next((one for one in asked if one[0] == "e2e"), asked[0] if asked else None)
    if found is None:
        return "e2e", 95, None
    what, share, limit = found
    return what, round(share * 100), limit * 1000 if what == "tpot" else limit


def _priced(e: Estimate) -> bool:
    return not e.unpriced and math.isfinite(e.present_value_usd)


def _first(e: Estimate) -> float:
    return float(e.monthly_total_usd[0]) if _priced(e) else math.inf


def _worth_drawing(e: Estimate, decision: Decision) -> bool:
    return e.status != "ruled-out" or e.option in (decision.recommendation, "call-teacher")


def _ends(ax: Axes, ends: list[tuple[float, Estimate]], months: int, top: float, decision: Decision) -> None:
    """Names at the ends of the lines; those that end close together are moved apart, none beyond the top."""
    ends = sorted(ends, key=lambda one: one[0])
    gap, heights = top * 0.075, [value for value, _ in ends]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], top * 1.02 - gap * (len(heights) - 1 - i))
    for (value, e), height in zip(ends, heights, strict=True):
        weight = "bold" if e.option == decision.recommendation else "normal"
        ax.plot([months, months * 1.02], [value, height], color=colour(e.option), linewidth=1)
        ax.text(months * 1.03, height, _SHORT[e.option], va="center", fontsize=SMALL, color=INK, fontweight=weight)


def _above(ax: Axes, place: int, words: str, *, bold: bool = False) -> None:
    """Words above a bar, where they have the whole width."""
    weight = "bold" if bold else "normal"
    ax.text(0, place + 0.28, words, va="bottom", fontsize=SMALL, color=INK, fontweight=weight)


def _dollars(ax: Axes, which: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_locator(MaxNLocator(5))
    axis.set_major_formatter(lambda value, _: usd(value) if value else "$0")
