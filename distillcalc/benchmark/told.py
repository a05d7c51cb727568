"""A benchmark's record in a table, and what must be read with it in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distillcalc.benchmark.record import Level, Record

MISSING = "-"


def table_of(record: Record) -> Any:
    """The levels as a rich table, and notes below it."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    columns = _columns(record)
    table = Table(title=title_of(record), title_justify="left")
    for name in columns:
        table.add_column(name, justify="left" if name == "load" else "right")
    for level in record.levels:
        table.add_row(*columns_of(level, columns))
    return Group(table, *map(Text, notes_of(record)))


def lines_of(record: Record) -> list[str]:
    """The same as plain lines of text, columns parted by two spaces."""
    columns = _columns(record)
    rows = [columns, *(columns_of(level, columns) for level in record.levels)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    return [title_of(record), *lines, *notes_of(record)]


def title_of(record: Record) -> str:
    """What was measured, on what."""
    measured, machine = record.measured, record.machine
    device = machine.get("gpu") or machine.get("cpu") or "unknown machine"
    said = [measured.name, measured.kind, *(one for one in (measured.engine, measured.precision) if one)]
    if measured.weights == "random":
        said.append("random weights")
    asked = record.workload
    lengths = ""
    if "mean_input_tokens" in asked:
        lengths = f"; {asked['mean_input_tokens']:.0f} tokens in, {asked['mean_output_tokens']:.0f} out on average"
    return f"{', '.join(said)} on {device}{lengths}"


def columns_of(level: Level, columns: list[str]) -> list[str]:
    """The cells of a level."""
    summary = level.summary
    power = level.power or {}
    cells = {
        "load": level.name,
        "requests": f"{summary['requests']:,}",
        "failed": f"{summary['requests'] - summary['outcomes'].get('ok', 0):,}",
        "TTFT p50/p95/p99": _latency(summary["ttft"]),
        "TPOT p50/p95": _latency(summary["tpot"], ("p50", "p95")),
        "E2E p50/p95/p99": _latency(summary["e2e"]),
        "requests/s": _number(summary["requests_per_s"]),
        "tokens/s out": _number(summary["output_tokens_per_s"]),
        "goodput/s": _number(summary["goodput_per_s"]),
        "objectives": summary["verdict"] or MISSING,
        "memory": MISSING if level.peak_memory_bytes is None else f"{level.peak_memory_bytes / 1e9:.2f} GB",
        "power": f"{power['mean_w']:.0f} W" if power.get("valid") and power.get("mean_w") is not None else MISSING,
        "$/Mtok out": f"{level.usd_per_mtok['output']:.3g}" if "output" in level.usd_per_mtok else MISSING,
    }
    return [cells[name] for name in columns]


def notes_of(record: Record) -> list[str]:
    """What must be read with the table."""
    said = []
    for level in record.levels:
        said += [f"{level.name}: {note}" for note in level.summary["notes"]]
        said += [f"{level.name}: {_objective(one)}" for one in level.summary["objectives"]]
    if (found := record.highest_load) is not None:
        low = "no rate" if found["met"] is None else f"{found['met']:.3g} requests/s"
        high = "none was found that missed" if found["missed"] is None else f"{found['missed']:.3g} missed"
        said.append(f"highest load that meets the objectives: {low}; {high} ({found['stopped']})")
    if (client := record.client) is not None:
        said.append(
            f"the client itself: up to {client['requests_per_s']:,.0f} requests/s; with {client['concurrency']} in "
            f"flight it adds {client['ttft_p50_s'] * 1e3:.2g} ms to TTFT (p99 {client['ttft_p99_s'] * 1e3:.2g} ms)"
        )
    powers = [level.power for level in record.levels if level.power is not None]
    if powers and not any(power.get("valid") for power in powers):
        said.append(f"no energy: {powers[0].get('why', 'not metered')}")
    if record.workload.get("counted_by") == "words":
        said.append("lengths are words: no tokenizer was given")
    return [*said, *record.notes]


def _columns(record: Record) -> list[str]:
    every = [
        "load", "requests", "failed", "TTFT p50/p95/p99", "TPOT p50/p95", "E2E p50/p95/p99", "requests/s",
        "tokens/s out", "goodput/s", "objectives", "memory", "power", "$/Mtok out",
    ]  # fmt: skip
    whole = [dict(zip(every, columns_of(level, every), strict=True)) for level in record.levels]
    return [name for name in every if name in ("load", "requests", "failed") or any(r[name] != MISSING for r in whole)]


def _latency(told: dict[str, Any], levels: tuple[str, ...] = ("p50", "p95", "p99")) -> str:
    values = [told[level]["value"] for level in levels]
    if all(value is None for value in values):
        return MISSING
    largest = max(value for value in values if value is not None)
    unit, factor = ("ms", 1e3) if largest < 1 else ("s", 1.0)
    return " / ".join("never" if value is None else f"{value * factor:.3g}" for value in values) + f" {unit}"


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:,.3g}" if value < 100 else f"{value:,.0f}"


def _objective(one: dict[str, Any]) -> str:
    value = one["quantile"]["value"]
    said = "never" if value is None else f"{value:.3g} s"
    return f"{one['what'].upper()} p{one['level'] * 100:g} {said} against {one['limit_s']:g} s: {one['verdict']}"
