"""A comparison of two records as tables: in what they differ, then each metric side by side."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from distillcalc.distill.training.four_way import one_line

if TYPE_CHECKING:
    from distillcalc.benchmark.comparing import Comparison
    from distillcalc.benchmark.comparing_metrics import Metric, Value

MISSING = "-"
LONGEST = 40  # characters of a value in which they differ


def shown(comparison: Comparison) -> Any:
    """The comparison as rich renderables."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[Any] = [Text(comparison.headline, style="bold" if comparison.comparable else "bold yellow")]
    if comparison.unlike:
        differ = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("they differ in", "", comparison.a, comparison.b):
            differ.add_column(Text(name), overflow="fold")
        for one in comparison.unlike:
            differ.add_row(*(Text(cell) for cell in (one.group, one_line(one.name), _said(one.a), _said(one.b))))
        parts.append(differ)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("load", "metric"):
        table.add_column(name, no_wrap=True)
    for name in (comparison.a, comparison.b, "b / a"):
        table.add_column(Text(name), justify="right", overflow="fold")
    table.add_column("difference", overflow="fold")
    before = ""
    for metric in comparison.metrics:
        load = metric.load if metric.load != before else ""
        if load and before:
            table.add_section()
        before = metric.load
        row = (load, *cells(metric))
        table.add_row(*map(Text, row), style="bold" if metric.better_side is not None else "")
    parts += [table, *(Text(line) for line in _below(comparison))]
    return Group(*parts)


def cells(metric: Metric) -> tuple[str, str, str, str, str]:
    """Its name and unit, both values with their intervals, the ratio, and what the difference tells."""
    factor, unit = _scale(metric)
    name = f"{metric.name} [{unit}]" if unit else metric.name
    ratio = MISSING if metric.ratio is None else f"{metric.ratio:.3g}"
    told = metric.telling.replace("no interval", MISSING)
    if metric.better_side is not None:
        side = "first" if metric.better_side == "a" else "second"
        told = f"{side} is {'better' if metric.telling == 'apart' else 'likely better'}"
    return name, _value(metric.a, factor), _value(metric.b, factor), ratio, told


def _scale(metric: Metric) -> tuple[float, str]:
    """By what its values are multiplied, and the unit that they then have."""
    values = [abs(one.value) for one in (metric.a, metric.b) if one is not None and math.isfinite(one.value)]
    match metric.unit:
        case "s" if max(values, default=1.0) < 1:
            return 1e3, "ms"
        case "bytes":
            return 1e-9, "GB"
        case "s" | "W" | "J":
            return 1.0, metric.unit
        case _:  # its name says it
            return 1.0, ""


def _value(value: Value | None, factor: float) -> str:
    if value is None:
        return MISSING
    if not math.isfinite(value.value):
        return "never"
    text = _number(factor * value.value)
    if value.low is None or value.high is None:
        return text
    low, high = (_number(factor * end) if math.isfinite(end) else "?" for end in (value.low, value.high))
    return f"{text} ({low}–{high})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{float(f'{value:.3g}'):.15g}" if abs(value) >= 1e-4 else "0"


def _said(value: Any) -> str:
    if value is None or value == "":
        return MISSING
    text = one_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _below(comparison: Comparison) -> Iterator[str]:
    for name, loads in ((comparison.a, comparison.only_a), (comparison.b, comparison.only_b)):
        if loads:
            yield f"measured of {name} alone: {', '.join(loads)}"
    telling = {metric.telling for metric in comparison.metrics}
    if "apart" in telling:
        yield "better: the 95% intervals do not overlap"
    if "beyond" in telling:
        yield "likely better: the intervals overlap, but either value is outside the other's"
    if not comparison.metrics:
        yield "there is no load that both measured"
