"""Trainings that kill themselves: ``python -m tests.distill.training.killed FOLDER NAME...`` leaves what they left.

Each runs in a process of its own and ends it by SIGKILL at the place that its name stands for.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from distillcalc.distill.training import checkpoints, trainer_torch
from distillcalc.distill.training.examples import Examples
from distillcalc.distill.training.fit import Fitted, Report
from distillcalc.distill.training.progress import Progress
from distillcalc.distill.training.recipe import Lora, Objective
from tests.distill.training import tiny

MID = {"steps": 7, "batch_size": 8, "micro_batch": 2, "checkpoints": 2}  # saved at 3 and 6; an epoch is of two steps
BORDER = MID | {"checkpoints": 3}  # saved at 2, 4, 6


def _taught(**objective: Any) -> dict[str, Any]:
    return {
        "objective": Objective(**objective),
        "teacher": (tiny.llama(seed=1, layers=3, hidden=48), tiny.tokenizer()),
    }


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "features": lambda: {"settings": MID, **_taught(hard=0.5, soft=0.5, features=1.0)},
    "border": lambda: {"settings": BORDER, **_taught(hard=0.5, soft=0.5, features=1.0)},
    "adapters": lambda: {
        "settings": MID | {"evaluations": 2}, "lora": Lora(rank=4, dropout=0.3), "validation": tiny.examples(5),
        **_taught(hard=0.5, soft=0.5, features=1.0),
    },
    "on-policy": lambda: {
        "settings": MID, "on_policy": 0.6, **_taught(hard=0.3, soft=0.7, divergence="jsd", max_new_tokens=8)
    },
    "marking": lambda: {"settings": MID},
    "writing": lambda: {"settings": MID},
    "finished": lambda: {"settings": MID},
    "patience": lambda: {
        "settings": {"steps": 40, "evaluations": 20, "patience": 2, "learning_rate": 3e-2, "batch_size": 4,
                     "micro_batch": 2},
        "validation": Examples(tiny.examples(8).sequences[2:3]),
    },
    "impatient": lambda: CASES["patience"](),
}  # fmt: skip


def training(name: str, folder: Path, report: Report | None = None) -> Fitted:
    """The training of a name, from the start or from what a killed one left."""
    given = CASES[name]()
    data = Examples(tiny.examples(8).sequences[3:]) if "patience" in given["settings"] else tiny.examples(12)
    return tiny.train(tiny.llama(), data, folder, report=report, **given)


def die() -> None:
    """End this process as a pulled plug would."""
    os.kill(os.getpid(), signal.SIGKILL)


def dying(name: str, folder: Path) -> None:
    """The same, up to the place where it is killed."""
    at = {"features": 5, "border": 5, "adapters": 5, "on-policy": 5, "impatient": 7}.get(name)

    def report(progress: Progress) -> None:
        if progress.step == at:
            die()

    mark, save = checkpoints.mark_whole, torch.save

    def marking(folder: Path, *given: Any) -> None:
        if folder.name == "checkpoint-6":
            die()
        mark(folder, *given)

    def writing(what: Any, file: Any, *given: Any, **more: Any) -> None:
        save(what, file, *given, **more)
        if str(file).endswith("checkpoint-6/optimizer.pt"):
            with open(file, "r+b") as half:
                half.truncate(os.path.getsize(file) // 2)
            die()

    if name == "marking":
        checkpoints.mark_whole = marking
    if name == "writing":
        torch.save = writing
    if name in ("finished", "patience"):
        trainer_torch.StudentTrainer.save_student = lambda *_: die()  # type: ignore[assignment]
    training(name, folder, report)


if __name__ == "__main__":
    for case in sys.argv[2:]:
        child = os.fork()
        if child == 0:
            dying(case, Path(sys.argv[1]) / case)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{case} {os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
