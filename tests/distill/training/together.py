"""Trainings of several processes: ``accelerate launch ... -m tests.distill.training.together FOLDER NAME...``.

A name that ends in "-stopped" is stopped in its third step and taken up again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distillcalc.distill.training.fit import Fitted
from distillcalc.distill.training.recipe import Lora, Objective
from distillcalc.distill.training.trainer_torch import StudentTrainer
from tests.distill.training import tiny

FEW = {"steps": 4, "batch_size": 8, "micro_batch": 2, "evaluations": 2}  # of twelve sequences: eight, four, eight, four


def _taught(**objective: Any) -> dict[str, Any]:
    return {
        "objective": Objective(**objective),
        "teacher": (tiny.llama(seed=1, layers=3, hidden=48), tiny.tokenizer()),
    }


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "hard": lambda: {"model": tiny.llama(tie_word_embeddings=False)},
    "features": lambda: _taught(hard=0.5, soft=0.5, temperature=2.0, features=1.0),
    "moe": lambda: {"model": tiny.mixtral()},
    "adapters": lambda: {"lora": Lora(rank=4), **_taught(hard=0.5, soft=0.5, features=1.0)},
    "on-policy": lambda: {"on_policy": 1.0, **_taught(hard=0.0, soft=1.0, max_new_tokens=6)},
    "uld": lambda: _uld(),
    "coarse": lambda: {"settings": {"precision": "bf16"}, **_taught(hard=0.5, soft=0.5, features=1.0)},
    "features-stopped": lambda: CASES["features"]() | {"settings": {"checkpoints": 4}},
    "patience": lambda: {"settings": {"evaluations": 4, "patience": 1, "learning_rate": 0.1}},
    "diverges": lambda: {"settings": {"learning_rate": 1e20}},
}


def _uld() -> dict[str, Any]:
    other = tiny.tokenizer(280, reverse=True)
    teacher = tiny.llama(seed=1, hidden=48, vocabulary=len(other))
    return {"objective": Objective(hard=0.5, soft=0.5, divergence="uld"), "teacher": (teacher, other)}


def training(name: str, folder: Path) -> Fitted:
    """The training of a name."""
    given = CASES[name]()
    settings = FEW | given.pop("settings", {})
    model = given.pop("model", None) or tiny.llama()
    return tiny.train(model, tiny.examples(12), folder, settings=settings, validation=tiny.examples(5), **given)


class Stopped(Exception):
    """What ends all processes in the same step."""


def stopped(name: str, folder: Path) -> None:
    """A training that ends in its third step."""
    step = StudentTrainer.training_step

    def stops(self: Any, *given: Any, **more: Any) -> Any:
        if self.state.global_step == 2:
            raise Stopped
        return step(self, *given, **more)

    StudentTrainer.training_step = stops
    try:
        training(name, folder)
    except Stopped:
        return
    finally:
        StudentTrainer.training_step = step
    raise AssertionError("it was not stopped")


def shard_on_cpus() -> None:
    """Let accelerate shard among CPUs: torch can, and accelerate reads ``ACCELERATE_USE_FSDP`` for GPUs alone."""
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedType

    plain = AcceleratorState.__init__

    def init(self: Any, *given: Any, fsdp_plugin: Any = None, **more: Any) -> None:
        plain(self, *given, fsdp_plugin=fsdp_plugin, **more)
        if fsdp_plugin is not None and self._mixed_precision != "no":
            fsdp_plugin.set_mixed_precision(self._mixed_precision)
        self.fsdp_plugin = fsdp_plugin or getattr(self, "fsdp_plugin", None)
        if self.fsdp_plugin is not None:
            self.distributed_type = DistributedType.FSDP

    AcceleratorState.__init__ = init


if __name__ == "__main__":
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        shard_on_cpus()
    for case in sys.argv[2:]:
        if case.endswith("-stopped"):
            stopped(case, Path(sys.argv[1]) / case)
        training(case, Path(sys.argv[1]) / case)
