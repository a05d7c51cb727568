"""The file of a shadow: one line of JSON a pair, each on disk before it counts, a torn end never joined to the next."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from distillcalc.errors import InputError


class ShadowLog:
    """A JSONL file that is appended to from an event loop, in a thread of its own.

    Parameters
    ----------
    file : made if it is not there, readable by its owner alone.

    Raises
    ------
    InputError
        If it cannot be written.
    """

    def __init__(self, file: Path) -> None:
        if file.suffix.lower() not in (".jsonl", ".ndjson"):
            raise InputError(f"a shadow writes .jsonl. Got {file.name}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            size = os.fstat(self._descriptor).st_size
            self._torn = size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"
        except OSError as error:
            raise InputError(f"{file} cannot be written: {error.strerror}") from error
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shadow")

    async def append(self, entry: Mapping[str, Any]) -> None:
        """Write one entry and sync it; raises OSError where the disk does not take it."""
        line = json.dumps(entry).encode("ascii") + b"\n"
        await asyncio.get_running_loop().run_in_executor(self._thread, self._write, line)

    def _write(self, line: bytes) -> None:
        whole = b"\n" + line if self._torn else line
        self._torn = True  # until all of it is there
        if os.write(self._descriptor, whole) < len(whole):
            raise OSError("the disk took part of a line")
        self._torn = False
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Write what waits, and close the file."""
        self._thread.shutdown()
        os.close(self._descriptor)
