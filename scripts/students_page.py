"""What the pages of trained students share: a run as a section of Markdown, and progress as lines."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from distillcalc.distill.training.four_way import FourWay
from distillcalc.distill.training.progress import Progress


def section(folder: Path, name: str, text: str) -> str:
    """A run's table, differences and trainings, from what it wrote."""
    table = FourWay.load(folder / name / "four_way.json")
    run = json.loads((folder / name / "run.json").read_text(encoding="utf-8"))
    left_out = "; ".join(f"{count} x {why}" for why, count in run["material"]["left_out"].items())
    lines = [f"- {gain}: {told_of(numbers)}" for gain, numbers in run["gains"].items()]
    rates = [
        f"| {arm} | {one['steps']} | {one['tokens']:,} | {one['seconds']:.0f} | {one['tokens_per_s']:,.0f} | "
        f"{one['loss']:.3f} |"
        for arm, one in run["trainings"].items()
    ]
    return "\n\n".join(
        [
            text,
            f"`{name}.toml`, {run['material']['train']} records (left out: {left_out or 'none'}).",
            table.to_markdown(),
            "Differences on the same items, in points of accuracy, and in the Brier score (lower is better):",
            "\n".join(lines),
            "<details><summary>Trainings</summary>",
            "| student | steps | tokens | s | tokens/s | last loss |\n|---|---:|---:|---:|---:|---:|\n"
            + "\n".join(rates),
            "</details>",
        ]
    )


def told_of(numbers: dict[str, Any]) -> str:
    """A difference in words."""
    low, high = numbers["interval"]
    word = "better" if low > 0 else "worse" if high < 0 else "no difference can be told"
    if numbers["metric"] == "brier":
        seeds = ", ".join(f"{-one:+.3f}" for one in numbers["by_seed"])
        told = f"Brier score {-numbers['mean']:+.3f} (95% interval {-high:+.3f} to {-low:+.3f}; by seed {seeds})"
    else:
        seeds = ", ".join(f"{100 * one:+.1f}" for one in numbers["by_seed"])
        told = f"{100 * numbers['mean']:+.1f} (95% interval {100 * low:+.1f} to {100 * high:+.1f}; by seed {seeds})"
    return f"{told}: {word}"


def keep_minutes(folder: Path, name: str, minutes: float) -> None:
    """How long the longest run of a part took: one that only rewrites the page does not count."""
    file = folder / "minutes.json"
    known = json.loads(file.read_text()) if file.is_file() else {}
    known[name] = max(minutes, known.get(name, 0.0))
    file.write_text(json.dumps(known))


def minutes_of(folder: Path, *names: str) -> float:
    """Minutes of these parts, or of all."""
    known = json.loads((folder / "minutes.json").read_text())
    return float(sum(known[name] for name in names or known))


def tell(progress: Progress) -> None:
    """A line now and then."""
    if progress.step in (1, progress.steps) or progress.step % 50 == 0:
        loss = "" if progress.loss is None else f", loss {progress.loss:.3f}, {progress.tokens_per_s:,.0f} tokens/s"
        print(f"{progress.what}: {progress.step} of {progress.steps}{loss}", file=sys.stderr, flush=True)
