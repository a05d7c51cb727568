"""Cost against quality, and how honest probabilities are, drawn; each takes a result and axes to draw on if you like.

Colours are Okabe and Ito's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from distillcalc.errors import InputError
from distillcalc.route.bands import GRID, Bands

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from distillcalc.route.certificate import Certificate
    from distillcalc.route.probability import Reliability

INK, GREY, LIGHT = "#333333", "#8C8C8C", "#D9D9D9"
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"


def curve_figure(
    bands: Bands,
    certificate: Certificate | None = None,
    axes: Axes | None = None,
    *,
    over: Literal["usd", "calls"] | None = None,
) -> Figure:
    """Quality over dollars (or over the share of requests that the teacher answers), beside the baselines.

    Parameters
    ----------
    bands : the router's curve on items that it was not made from.
    certificate : its chosen threshold is marked.
    over : left out, dollars where they are known.

    Raises
    ------
    InputError
        For a figure over dollars where nobody knows any.
    """
    c = bands.curve
    if over == "usd" and not c.priced:
        raise InputError("dollars are not known of these pairs: draw the curve over calls")
    dollars = c.priced if over is None else over == "usd"
    figure, axes = _axes(axes, f"Quality and cost of routing by {c.name}")
    if dollars:
        scale = 1000.0
        x, oracle_x = c.usd * scale, np.array([c.oracle_usd(float(rate)) for rate in c.oracle_rate]) * scale
        random_x = (c.student_usd * scale, c.teacher_usd * scale)
        band_x = np.interp(GRID, c.escalation_rate, c.usd) * scale
        axes.set_xlabel("dollars per 1,000 requests [USD]", color=INK)
    else:
        x, oracle_x, random_x, band_x = c.escalation_rate * 100, c.oracle_rate * 100, (0.0, 100.0), GRID * 100
        axes.set_xlabel("requests that the teacher answers [%]", color=INK)
    ends = (c.student_quality, c.teacher_quality)
    axes.plot(oracle_x, c.oracle_quality, color=GREEN, linewidth=1.2, linestyle=":", label="oracle")
    axes.plot(random_x, ends, color=GREY, linewidth=1.2, linestyle="--", label="at random")
    axes.fill_between(band_x, *bands.quality_band, color=BLUE, alpha=0.18, linewidth=0)
    axes.plot(x, c.quality, color=BLUE, linewidth=1.8, label="router, 95% band")
    axes.plot(random_x, ends, "o", color=INK, markersize=5, zorder=4)
    top = max(float(c.oracle_quality.max()), float(bands.quality_band.max()))
    low = min(*ends, float(bands.quality_band.min()))
    pad = 0.06 * (top - low)
    axes.annotate("student alone", (random_x[0], ends[0]), (6, -12), textcoords="offset points", fontsize=9, color=INK)
    axes.annotate(
        "teacher alone", (random_x[1], ends[1]), (-4, 9), textcoords="offset points", fontsize=9, color=INK,
        ha="right",
    )  # fmt: skip
    if certificate is not None and certificate.chosen is not None:
        rate = float(certificate.certifying.escalation_rate[certificate.chosen])
        at = (c.usd_at(rate) * 1000 if dollars else rate * 100, c.quality_at(rate))
        axes.plot(*at, "D", color=ORANGE, markersize=7, zorder=5, label=f"chosen: {rate:.0%} sent on")
    axes.set_ylim(low - 2 * pad, top + pad)
    axes.set_ylabel("quality (share of requests answered right)", color=INK)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.08), fontsize=9, frameon=False)
    return figure


def reliability_figure(reliability: Reliability, axes: Axes | None = None) -> Figure:
    """How often the student is right where its probability says so: on the diagonal it says the truth.

    Parameters
    ----------
    reliability : of items that the calibration was not made from.
    """
    figure, axes = _axes(axes, "How honest the student's probabilities are", 5.6, 5.2)
    predicted, observed = reliability.predicted * 100, reliability.observed * 100
    below, above = observed - reliability.low * 100, reliability.high * 100 - observed
    axes.plot((0, 100), (0, 100), color=GREY, linewidth=1.2, linestyle="--", label="honest")
    axes.errorbar(
        predicted, observed, yerr=np.maximum([below, above], 0), fmt="o", color=BLUE, ecolor=LIGHT, elinewidth=2,
        markersize=6, label="observed, 95% interval",
    )  # fmt: skip
    least = max(float(min(predicted.min(), (reliability.low * 100).min())) - 5, 0.0)
    axes.set_xlim(least, 102)
    axes.set_ylim(least, 102)
    axes.set_xlabel("probability that the student is right [%]", color=INK)
    axes.set_ylabel("answered right [%]", color=INK)
    axes.legend(loc="upper left", fontsize=9, frameon=False)
    axes.text(
        0.98, 0.03, f"{reliability.items:,} pairs, ECE {reliability.ece:.3f}", transform=axes.transAxes, ha="right",
        fontsize=9, color=INK,
    )  # fmt: skip
    return figure


def _axes(axes: Axes | None, title: str, width: float = 8.0, height: float = 4.6) -> tuple[Figure, Axes]:
    if axes is None:
        from matplotlib.figure import Figure

        axes = Figure(figsize=(width, height), layout="constrained").subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=9, colors=INK)
    axes.set_title(title.replace("$", r"\$"), loc="left", fontsize=11, fontweight="bold", color=INK)
    figure: Any = axes.figure
    return figure, axes
