"""What a recipe brought: students, the table, gains, and what a person should know."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillcalc.distill.training.fit import Fitted
from distillcalc.distill.training.four_way import FourWay
from distillcalc.distill.training.scores import Difference

SCHEMA_VERSION = 1

NO_TABLE = "no evaluation items, so no table"


@dataclass(frozen=True)
class TrainRun:
    """What a recipe brought.

    Parameters
    ----------
    folder : of the run. student : of the student that the recipe is about, first seed.
    table : teacher, raw student, label-only student, distilled student; None without evaluation items.
    trainings : by student and seed.
    gains : how much better students are than those they are held against, by "a against b".
    material : in numbers: records, what was left out, terms.
    notes : what a person should know.
    """

    folder: Path
    student: Path
    table: FourWay | None
    trainings: dict[str, Fitted]
    gains: dict[str, Difference]
    material: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def sentences(self) -> list[str]:
        """What stands below the table: gains, how much was learnt from and what was not, and notes."""
        found = [f"{name}: {gain}" for name, gain in self.gains.items()]
        found.append(f"learnt from {self.material['train']:,} records")
        found += [f"not learnt from {count:,}: {why}" for why, count in self.material["left_out"].items()]
        return [*found, *self.notes]

    def __rich__(self) -> Any:
        """The table, and the sentences below it."""
        from rich.console import Group
        from rich.text import Text

        return Group(self.table if self.table is not None else Text(NO_TABLE), *map(Text, self.sentences))

    def __str__(self) -> str:
        return "\n".join([NO_TABLE if self.table is None else str(self.table), *self.sentences])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "schema_version": SCHEMA_VERSION,
            "student": str(self.student),
            "table": self.table.to_dict() if self.table is not None else None,
            "trainings": {
                name: {"steps": f.steps, "tokens": f.tokens, "seconds": f.seconds,
                       "tokens_per_s": f.tokens_per_s if math.isfinite(f.tokens_per_s) else None,
                       "loss": f.losses[-1]["loss"] if f.losses else None, "best_step": f.best_step}
                for name, f in self.trainings.items()
            },
            "gains": {name: gain.to_dict() for name, gain in self.gains.items()},
            "material": self.material,
            "notes": list(self.notes),
        }  # fmt: skip
