"""What is asked of a training goes together, and its folder holds no other one."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from distillcalc.distill.training import checkpoints
from distillcalc.distill.training.examples import Examples
from distillcalc.distill.training.recipe import Objective, Settings
from distillcalc.errors import InputError

RESULT, ASKED = "training.json", "asked.json"
LEARNT_BY = ("epochs", "steps", "tokens", "batch_size", "learning_rate", "warmup", "weight_decay", "max_grad_norm",
             "schedule", "patience")  # fmt: skip


def refuse_contradictions(
    objective: Objective, settings: Settings, validation: Examples | None, targets: Any, validation_targets: Any,
    on_policy: float,
) -> None:  # fmt: skip
    """Refuse what would be left out in silence; the parameters are those of :func:`.fit.fit`.

    Raises
    ------
    InputError
        It says what does not go together.
    """
    if targets is not None and (objective.features or objective.attention):
        raise InputError("stored soft labels hold no hidden states and no attention: give the teacher's weights")
    if targets is not None and objective.soft and objective.divergence == "uld":
        raise InputError("uld sorts the teacher's whole distribution, and of stored ones only the top is kept")
    if targets is not None and validation is not None and validation_targets is None and objective.soft:
        raise InputError("the validation set needs stored soft labels too: give validation_targets")
    if on_policy and (targets is not None or not objective.soft):
        raise InputError(
            "what the student writes is scored by a teacher beside it: give its weights, and a weight for soft. Got "
            f"{'stored soft labels' if targets is not None else 'soft = 0'}"
        )
    for what, asked in (("on-policy", on_policy), ("uld", objective.soft and objective.divergence == "uld")):
        if asked and settings.packing:
            raise InputError(f"packing and {what} do not go together: set packing = false")
    if settings.patience is not None and validation is None:
        raise InputError("patience counts evaluations of a validation set: set validation_share above 0")


def claim(folder: Path, objective: Objective, settings: Settings, seed: int, examples: Examples, share: float) -> None:
    """Take a folder for one training: what another one has learnt is never taken for this one's.

    A folder in which nothing was learnt may be taken for another one: the first was perhaps a slip. What only says how
    a training is run (``micro_batch``, ``checkpoints``, ...) may change when it is taken up again.

    Parameters
    ----------
    share : of the batches that the student writes itself; the others are those of :func:`.fit.fit`.

    Raises
    ------
    InputError
        If it holds a checkpoint or the result of another training; it says what differs.
    """
    learnt_by = {*LEARNT_BY, *(() if settings.patience is None else ("evaluations",))}
    asked = {
        "examples": _fingerprint(examples), "seed": seed, "on_policy": share,
        "objective": objective.model_dump(mode="json"),
        "settings": settings.model_dump(mode="json", include=learnt_by),
    }  # fmt: skip
    asked = json.loads(json.dumps(asked))
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / ASKED
    if file.is_file():
        known = json.loads(file.read_text(encoding="utf-8"))
        other = [name for name, value in asked.items() if known.get(name) != value]
        if not other:
            return
        if (folder / RESULT).is_file() or checkpoints.last_whole(folder) is not None:
            raise InputError(
                f"{folder} holds a training of other {', '.join(other)}. Give another folder, or delete this one"
            )
    part = folder / f"{ASKED}.{os.getpid()}.part"
    part.write_text(json.dumps(asked, indent=1) + "\n", encoding="utf-8")
    part.replace(file)


def _fingerprint(examples: Examples) -> str:
    """Of the sequences in their order; names may repeat."""
    digest = hashlib.sha256()
    for one in examples.sequences:
        digest.update(json.dumps([one.sample, one.start, one.group, *one.ids]).encode())
    return digest.hexdigest()
