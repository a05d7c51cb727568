"""What outlives a kernel: the panel's state in a small file in the user's cache, one for each notebook folder.

The file holds two addresses (:mod:`.address`), of the scenario and of the pinned one. It is a convenience: where it
cannot be written or read, the panel says so and goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from distillcalc.errors import InputError


@dataclass(frozen=True)
class Remembered:
    """What a panel had when its kernel ended.

    Parameters
    ----------
    now : address of its scenario.
    pinned : address of the pinned one; None where none was.
    """

    now: str
    pinned: str | None = None


def place_of(start: str) -> Path:
    """Where the state of a panel that starts from ``start`` in this folder is kept.

    Parameters
    ----------
    start : id of the preset, or the address of the scenario that the notebook names.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = hashlib.sha256(f"{Path.cwd()}\n{start}".encode()).hexdigest()[:20]
    return cache / "distillcalc" / "panels" / f"{key}.json"


def remember(state: Remembered, place: Path) -> None:
    """Write the state, whole or not at all.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(json.dumps({"version": 1, "now": state.now, "pinned": state.pinned}), encoding="utf-8")
        draft.replace(place)
    except OSError as error:
        raise InputError(f"cannot keep the panel's state in {place}: {error.strerror}") from error


def recall(place: Path) -> Remembered | None:
    """The state that was kept; None where none was.

    Raises
    ------
    InputError
        If the file is there and is none of these.
    """
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
        if found["version"] != 1 or not isinstance(found["now"], str):
            raise InputError(f"{place} was written by another version")
        pinned = found["pinned"]
        return Remembered(found["now"], str(pinned) if pinned is not None else None)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"cannot read the panel's state from {place}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{place} does not hold a panel's state") from error


def forget(place: Path) -> None:
    """Remove the state, if there is one."""
    place.unlink(missing_ok=True)
