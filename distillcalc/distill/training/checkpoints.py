"""Checkpoints that a kill cannot leave half: a mark is written last, and only marked ones are gone on from."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

MARK = "whole.json"
PROJECTIONS = "distillation_projections"  # where a student keeps what compares hidden states while it learns
PROJECTIONS_FILE = "distillation_projections.safetensors"


def mark_whole(folder: Path, seconds: float = 0.0, tokens: int = 0) -> None:
    """Say that a checkpoint is complete: its files with their sizes, synced before the mark is there.

    Parameters
    ----------
    seconds, tokens : that the training took up to it.
    """
    sizes = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.name != MARK:
            with file.open("rb") as written:
                os.fsync(written.fileno())
            sizes[str(file.relative_to(folder))] = file.stat().st_size
    part = folder / f"{MARK}.part"
    with part.open("w", encoding="utf-8") as out:
        json.dump({"schema_version": 1, "files": sizes, "seconds": seconds, "tokens": tokens}, out)
        out.flush()
        os.fsync(out.fileno())
    part.replace(folder / MARK)


def is_whole(folder: Path) -> bool:
    """Whether a checkpoint is marked and all its files have the sizes that they had then."""
    try:
        files = json.loads((folder / MARK).read_text(encoding="utf-8"))["files"]
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError):
        return False


def last_whole(folder: Path) -> Path | None:
    """The newest checkpoint in a folder that is whole; None where there is none."""
    numbered = []
    for found in folder.glob("checkpoint-*"):
        number = found.name.removeprefix("checkpoint-")
        if number.isdecimal() and is_whole(found):
            numbered.append((int(number), found))
    return max(numbered)[1] if numbered else None


def clear_broken(folder: Path) -> None:
    """Delete what a kill left half: a mark from before must never stand beside files that are written anew."""
    for found in folder.glob("checkpoint-*"):
        if found.is_dir() and not is_whole(found):
            shutil.rmtree(found)


def seconds_before(checkpoint: Path | None) -> tuple[float, int]:
    """Seconds and tokens that a training had taken when a checkpoint was written."""
    if checkpoint is None:
        return 0.0, 0
    mark = json.loads((checkpoint / MARK).read_text(encoding="utf-8"))
    return float(mark["seconds"]), int(mark["tokens"])


def save_projections(model: Any, folder: Path) -> None:
    """Keep what compares hidden states beside a checkpoint; nothing where nothing does."""
    projections = getattr(model, PROJECTIONS, None)
    if projections is None or not folder.is_dir():
        return
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous().cpu() for name, tensor in projections.state_dict().items()},
              folder / PROJECTIONS_FILE)  # fmt: skip


def load_projections(model: Any, folder: Path) -> None:
    """Take up what :func:`save_projections` kept."""
    projections, file = getattr(model, PROJECTIONS, None), folder / PROJECTIONS_FILE
    if projections is None or not file.is_file():
        return
    from safetensors.torch import load_file

    projections.load_state_dict(load_file(file))
