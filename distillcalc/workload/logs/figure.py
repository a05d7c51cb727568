"""A WorkloadProfile drawn: volume over time, lengths, arrivals, repeats.

Colours are Okabe and Ito's and the map is one hue by lightness, which readers with any colour vision tell apart.
A panel that has nothing to show says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from distillcalc.workload.logs.profile import WorkloadProfile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY, INK = "#0072B2", "#D55E00", "#8C8C8C", "#333333"
CELLS = 30
STEPS = {1: "second", 10: "10 s", 60: "minute", 300: "5 minutes", 900: "15 minutes", 3600: "hour", 21600: "6 hours"}
DAYS = {86_400: "day", 604_800: "week"}


def draw(profile: WorkloadProfile) -> Figure:
    """One figure of four panels; the caller shows or saves it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.5), layout="constrained")
    axes = figure.subplots(2, 2)
    panels = (_volume, _lengths, _arrivals, _repeats)
    for panel, ax in zip(panels, axes.flat, strict=True):
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        ax.tick_params(labelsize=9, colors=INK)
        panel(profile, ax)
    figure.suptitle(_literal(profile.headline), fontsize=11, x=0.01, ha="left", color=INK)
    return figure


def _literal(text: str) -> str:
    """Text from outside, of which matplotlib makes no formula."""
    return text.replace("$", r"\$")


def _title(ax: Axes, title: str) -> None:
    ax.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)


def _nothing(ax: Axes, why: str) -> None:
    """A sentence instead of an empty panel."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, why, ha="center", va="center", wrap=True, fontsize=10, color=INK, transform=ax.transAxes)


def _volume(profile: WorkloadProfile, ax: Axes) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    volume = profile.volume
    step = int(volume.series_step_s)
    name = {**STEPS, **DAYS}.get(step, f"{step} s")
    _title(ax, f"Volume: requests per {name}")
    if len(volume.series) < 2:
        return _nothing(ax, "All requests came within one window:\nthere is no course over time to draw.")
    begin = volume.series[0][0]
    times: list[Any] = [at if volume.dated else (at - begin).total_seconds() / 86_400 for at, _ in volume.series]
    counts = np.array([n for _, n in volume.series], dtype=float)
    ax.fill_between(times, counts, step="post", color=BLUE, alpha=0.25, linewidth=0)
    ax.step(times, counts, where="post", color=BLUE, linewidth=1)
    mean = counts.mean()
    ax.axhline(mean, color=ORANGE, linewidth=1.2, linestyle="--")
    ax.set_ylim(0, max(counts.max() * 1.08, 1))
    ax.set_xlim(times[0], times[-1])
    ax.set_ylabel(f"requests per {name}, mean {_short(mean)} (dashed)", color=INK)
    ax.yaxis.set_major_formatter(lambda value, _: _short(value))
    if not volume.dated:
        ax.set_xlabel("time since the log began [days]", color=INK)
        return None
    ax.set_xlabel("time [UTC]", color=INK)
    locator = AutoDateLocator(minticks=3, maxticks=7)  # type: ignore[no-untyped-call]
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    return None


def _lengths(profile: WorkloadProfile, ax: Axes) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    _title(ax, "Lengths: share of requests [%]")
    if profile.lengths is None:
        return _nothing(ax, "The log holds no token counts:\ngive input_tokens and output_tokens to .workload().")
    sample = np.array(profile.lengths.sample)
    # A request without an answer has no place on a log axis; it stands at 1/2.
    x, y, weight = np.maximum(sample[:, 0], 0.5), np.maximum(sample[:, 1], 0.5), sample[:, 2] / sample[:, 2].sum()
    cells, across, up = np.histogram2d(x, y, bins=[_cells(x), _cells(y)], weights=weight)
    shown = np.ma.masked_equal(cells.T, 0)
    blues = LinearSegmentedColormap.from_list("blues", colormaps["Blues"](np.linspace(0.2, 1, 64)))
    mesh = ax.pcolormesh(across, up, shown, cmap=blues, norm=LogNorm(float(shown.min()), float(shown.max())))
    ax.set_xscale("log")
    ax.set_yscale("log")
    for axis, edges in ((ax.xaxis, across), (ax.yaxis, up)):
        axis.set_major_formatter(lambda value, _: _short(value))
        axis.set_minor_formatter(_between(edges[-1] / edges[0]))
        axis.set_tick_params(which="minor", labelsize=8)
    for side, line in ((profile.lengths.input, ax.axvline), (profile.lengths.output, ax.axhline)):
        line(max(side.mean, 0.5), color=ORANGE, linewidth=1.2, linestyle="--")
    ax.set_xlabel(f"input [tokens], mean {profile.lengths.input.mean:,.0f} (dashed)", color=INK)
    ax.set_ylabel(f"output [tokens], mean {profile.lengths.output.mean:,.0f} (dashed)", color=INK)
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.02, format=lambda value, _: _percent(value))
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)
    return None


def _cells(values: Any) -> Any:
    """Edges of the cells of one side, evenly spaced in the log, with some room where it never varies."""
    low, high = float(values.min()), float(values.max())
    if high < low * 1.5:
        low, high = low / 1.5, high * 1.5
    return np.geomspace(low * 0.98, high * 1.02, CELLS + 1)


def _arrivals(profile: WorkloadProfile, ax: Axes) -> None:
    arrivals = profile.arrivals
    counted = profile.source.kind == "counts"
    _title(ax, "Arrivals: hours at least so busy" if counted else "Arrivals: gaps at least so long")
    if len(arrivals.distribution) < 2:
        return _nothing(ax, "Too few requests, or too few windows,\nto say how unevenly they come.")
    x, share = (np.array(column) for column in zip(*arrivals.distribution, strict=True))
    ax.plot(x, share, color=BLUE, linewidth=1.6, label="measured")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylim(max(float(share.min()) * 0.7, 1e-7), 1.4)
    if counted:
        ax.axvline(1, color=ORANGE, linewidth=1.2, linestyle="--", label="mean hour")
        ax.set_xlabel("requests in the hour / mean", color=INK)
        ax.set_ylabel("share of hours [%]", color=INK)
        said = [("peak", arrivals.hour_peak_to_mean), ("p99", arrivals.hour_p99_to_mean)]
    else:
        if arrivals.mean_gap_s:
            smooth = np.geomspace(x[0], x[-1], 200)
            ax.plot(
                smooth,
                np.exp(-smooth / arrivals.mean_gap_s),
                color=ORANGE,
                linestyle="--",
                linewidth=1.2,
                label="Poisson at the same rate",
            )
        ax.set_xlabel("gap between requests", color=INK)
        ax.set_ylabel("share of gaps [%]", color=INK)
        said = [("CV", arrivals.interarrival_cv), ("busiest minute / mean", arrivals.minute_peak_to_mean)]
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}" if counted else _time(value))
    ax.yaxis.set_major_formatter(lambda value, _: _percent(value))
    title = ", ".join(f"{name} {value:.3g}" for name, value in said if value is not None)
    ax.legend(frameon=False, fontsize=9, title=title or None, title_fontsize=9, loc="lower left", labelcolor=INK)
    return None


def _repeats(profile: WorkloadProfile, ax: Axes) -> None:
    _title(ax, "Repeats and failures")
    repeats, shared, failures = profile.repeats, profile.prefixes, profile.failures
    prefix = None
    if shared is not None and profile.lengths is not None and profile.lengths.input.mean:
        prefix = min(shared.mean_tokens / profile.lengths.input.mean, 1.0)
    bars = [
        ("prompt seen before,\nto the letter", repeats.exact),
        ("... but for case, spaces,\npunctuation", repeats.near_exact),
        ("input tokens in a\nshared prefix", prefix),
        ("failed", failures.failed),
        ("retries", failures.retries),
    ]
    if all(share is None for _, share in bars):
        what = "Counts" if profile.source.kind == "counts" else "This log's rows"
        return _nothing(
            ax, f"{what} hold neither prompts nor outcomes:\nrepeats, shared prefixes and retries are unknown."
        )
    places = np.arange(len(bars))
    ax.barh(places, [100 * (share or 0) for _, share in bars], color=BLUE, height=0.6)
    most = 100 * max(share or 0 for _, share in bars)
    for place, (_, share) in zip(places, bars, strict=True):
        text = "not logged" if share is None else _percent(share)
        ax.annotate(
            text,
            (100 * (share or 0), place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=GREY if share is None else INK,
        )
    ax.set_yticks(places, [name for name, _ in bars])
    ax.invert_yaxis()
    ax.set_xlim(0, max(most * 1.2, 1))
    ax.set_xlabel("share of requests (of input tokens for the prefix) [%]", color=INK)
    return None


def _short(value: float) -> str:
    """1500 as 1.5k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _between(ratio: float) -> Callable[[float, Any], str]:
    """Labels between powers of ten: all where an axis spans less than a factor of 4, 2 and 5 below 20, else none."""
    shown = "123456789" if ratio < 4 else "25" if ratio < 20 else ""
    return lambda value, _: _short(value) if f"{value:.0e}"[0] in shown else ""


def _time(seconds: float) -> str:
    """0.001 as 1 ms."""
    for size, unit in ((1, "s"), (1e-3, "ms")):
        if seconds >= size * 0.999:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def _percent(share: float) -> str:
    """A share in percent, with as many digits as it needs."""
    if not share:
        return "0%"
    digits = max(0, 1 - math.floor(math.log10(abs(share) * 100))) if share < 0.1 else 0
    return f"{share * 100:.{digits}f}".rstrip("0").rstrip(".") + "%" if digits else f"{share * 100:.0f}%"
