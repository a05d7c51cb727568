"""A run's folder: its plan, its journal, and a lock. What is written there survives the process that wrote it.

``plan.json`` is written once, before anything is asked of the service. ``journal.jsonl`` only grows: an intent
before each upload and each creation, the result after it, each line on the disk before the next step.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from distillcalc.distill.journal import hold, sync_folder
from distillcalc.errors import InputError

PLAN = "plan.json"
JOURNAL = "journal.jsonl"
LOCK = "lock"


class RunFolder:
    """The folder of one run.

    Parameters
    ----------
    path : of the folder; made when something is first written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process; the lock goes with the process, however that ends.

        Raises
        ------
        InputError
            If another process holds it, or the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise InputError(f"cannot use the run folder {self.path}: {error.strerror}") from error
        try:
            hold(handle, self.path)
            yield
        finally:
            os.close(handle)

    def plan(self) -> dict[str, Any] | None:
        """The stored plan, or None; raises :class:`InputError` where the file is not one."""
        try:
            text = (self.path / PLAN).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"cannot read {self.path / PLAN}: {error.strerror}") from error
        try:
            plan = json.loads(text)
        except ValueError as error:
            raise InputError(f"{self.path / PLAN} is not JSON: {error}") from error
        if not isinstance(plan, dict) or not {"fingerprint", "spec", "files", "forecast"} <= plan.keys():
            raise InputError(f"{self.path / PLAN} is not the plan of a fine-tune")
        return cast(dict[str, Any], plan)

    @property
    def is_run(self) -> bool:
        """Whether the folder holds a fine-tune: labellings keep a plan.json of their own in the same place."""
        try:
            return self.plan() is not None
        except InputError:
            return False

    def write_plan(self, plan: dict[str, Any]) -> None:
        """Write the plan: whole, or not at all."""
        part = self.path / f"{PLAN}.part"
        with part.open("w", encoding="utf-8") as stream:
            json.dump(plan, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(self.path / PLAN)
        sync_folder(self.path)

    def note(self, event: str, **facts: Any) -> dict[str, Any]:
        """Add one line to the journal, on the disk when this returns."""
        file = self.path / JOURNAL
        new = not file.exists()
        line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **facts}
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            text = (json.dumps(line, allow_nan=False) + "\n").encode()
            if os.fstat(handle).st_size:
                os.lseek(handle, -1, os.SEEK_END)
                if os.read(handle, 1) != b"\n":  # the last writer was cut off
                    text = b"\n" + text
            while text:
                text = text[os.write(handle, text) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        if new:
            sync_folder(self.path)
        return line

    def lines(self) -> list[dict[str, Any]]:
        """The journal's lines, oldest first; lines that were cut off are left out."""
        try:
            text = (self.path / JOURNAL).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        found: list[dict[str, Any]] = []
        for line in text.splitlines():
            try:
                read = json.loads(line)
            except ValueError:
                continue
            if isinstance(read, dict) and "event" in read:
                found.append(read)
        return found

    def last(self, event: str, **facts: Any) -> dict[str, Any] | None:
        """The newest line of an event with these facts, or None."""
        wanted = {"event": event, **facts}
        newest_first = reversed(self.lines())
        return next(
            (line for line in newest_first if all(line.get(key) == value for key, value in wanted.items())), None
        )
