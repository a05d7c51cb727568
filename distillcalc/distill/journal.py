"""An append-only journal: each entry is on disk before it counts, and a torn end loses nothing that counted.

One JSON object a line, each with its own checksum. Entries that are waiting together are written and synced together
by a thread of the journal's own, so that the cost of a sync is shared.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from distillcalc.errors import InputError

_sync = getattr(os, "fdatasync", os.fsync)  # macOS has none
_PREFIX = b'{"crc":"'
_BODY = len(_PREFIX) + 10  # checksum, quote and comma


def _line(entry: Mapping[str, Any] | str) -> bytes:
    """An entry as a line: its JSON with the checksum of that JSON before it."""
    text = entry if isinstance(entry, str) else json.dumps(entry, ensure_ascii=False, separators=(",", ":"))
    raw = text.encode("utf-8", errors="surrogatepass")
    return b'%s%08x",%s\n' % (_PREFIX, zlib.crc32(raw), raw[1:])


def _entry(line: bytes) -> dict[str, Any] | None:
    """The entry of a line, or None where the line is not whole."""
    if not line.startswith(_PREFIX) or not line.endswith(b"\n"):
        return None
    raw = b"{" + line[_BODY:-1]
    try:
        if int(line[len(_PREFIX) : len(_PREFIX) + 8], 16) != zlib.crc32(raw):
            return None
        found = json.loads(raw.decode("utf-8", errors="surrogatepass"))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


class Journal:
    """The journal of one run, held by one process at a time.

    Open it with :meth:`open`; it is a context manager. :meth:`commit` returns once the entry is on disk.
    """

    def __init__(self, file: Path, descriptor: int, length: int) -> None:
        self.file = file
        self._descriptor = descriptor
        self._length = length
        self._pending: list[tuple[bytes, Any]] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._broken: OSError | None = None
        self.syncs = 0
        self._thread = threading.Thread(target=self._write, name=f"journal {file.name}", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, file: Path) -> Journal:
        """Open or begin a journal; a torn end, of a process that was killed, is cut off and kept in ``NAME.torn``.

        Raises
        ------
        InputError
            If another process holds it, it is damaged before its end, or it cannot be written.
        """
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise InputError(f"cannot write the journal {file}: {error.strerror}") from error
        try:
            hold(descriptor, file.parent)
            whole = _whole_length(file)
            size = os.fstat(descriptor).st_size
            if whole < size:
                with file.open("rb") as old, file.with_suffix(".torn").open("ab") as torn:
                    old.seek(whole)
                    torn.write(old.read())
                os.ftruncate(descriptor, whole)
            os.fsync(descriptor)
            sync_folder(file.parent)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(file, descriptor, whole)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is waiting and let the journal go."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        self._wake.set()
        self._thread.join()
        os.close(self._descriptor)

    async def commit(self, entry: Mapping[str, Any] | str) -> int:
        """Append an entry, a mapping or its JSON; returns where it stands [byte] once it is on disk."""
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._put(_line(entry), done)
        return await done

    def write(self, entry: Mapping[str, Any] | str) -> int:
        """:meth:`commit` for callers without an event loop."""
        done: Future[int] = Future()
        self._put(_line(entry), done)
        return done.result()

    def write_all(self, found: Sequence[Mapping[str, Any]]) -> list[int]:
        """:meth:`write` for many entries, which share a sync."""
        waiting: list[Future[int]] = [Future() for _ in found]
        for entry, done in zip(found, waiting, strict=True):
            self._put(_line(entry), done)
        return [done.result() for done in waiting]

    def _put(self, line: bytes, done: Any) -> None:
        with self._lock:
            if self._broken is not None:
                raise InputError(f"cannot write the journal {self.file}: {self._broken.strerror}") from self._broken
            if self._closing:
                raise InputError(f"the journal {self.file} is closed")
            self._pending.append((line, done))
        self._wake.set()

    def _write(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            with self._lock:
                batch, self._pending = self._pending, []
                closing = self._closing
            if batch:
                self._sync(batch)
            elif closing:
                return
            if closing:
                self._wake.set()

    def _sync(self, batch: list[tuple[bytes, Any]]) -> None:
        data = memoryview(b"".join(line for line, _ in batch))
        failure: OSError | None = None
        try:
            if self._broken is not None:  # nothing goes after an end that may be torn
                raise self._broken
            while data:
                data = data[os.write(self._descriptor, data) :]
            os.fdatasync(self._descriptor)
            self.syncs += 1
        except OSError as error:
            failure = error
            with self._lock:
                self._broken = error
            with contextlib.suppress(OSError):  # else the torn end is cut off when it is opened again
                os.ftruncate(self._descriptor, self._length)
        results: list[tuple[Any, int | None]] = []
        for line, done in batch:
            results.append((done, None if failure else self._length))
            self._length += 0 if failure else len(line)
        waiting: dict[Any, list[tuple[Any, int | None]]] = {}
        for done, place in results:
            if isinstance(done, Future):
                _resolve([(done, place)], failure, self.file)
            else:
                waiting.setdefault(done.get_loop(), []).append((done, place))
        for loop, found in waiting.items():
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(_resolve, found, failure, self.file)

    def entries(self, start: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """Every entry on disk from a place on, with where it stands [byte]."""
        return entries(self.file, start)


def entries(file: Path, start: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """The whole entries of a journal file that may be in use, with where each stands [byte]."""
    place = start
    with file.open("rb") as lines:
        lines.seek(start)
        for line in lines:
            found = _entry(line)
            if found is None:
                return
            yield place, found
            place += len(line)


def entry_at(stream: Any, place: int) -> dict[str, Any]:
    """One entry of an open journal file by where it stands [byte]."""
    stream.seek(place)
    found = _entry(stream.readline())
    if found is None:
        raise InputError(f"the journal has no entry at byte {place}: it was changed by hand")
    return found


def _resolve(found: list[tuple[Any, int | None]], failure: OSError | None, file: Path) -> None:
    for done, place in found:
        if done.done():
            continue  # its caller was cancelled
        if failure is not None:
            done.set_exception(InputError(f"cannot write the journal {file}: {failure.strerror}"))
        else:
            done.set_result(place)


def _whole_length(file: Path) -> int:
    """How many bytes of a journal are whole lines [bytes]; refuses damage that is not at the end."""
    whole, torn_at = 0, 0
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if _entry(line) is None:
                torn_at = torn_at or number
            elif torn_at:
                raise InputError(
                    f"{file} is damaged at line {torn_at}, before its end: restore it from a copy. Nothing was "
                    "changed; deleting it would pay for everything again"
                )
            else:
                whole += len(line)
    return whole


def hold(descriptor: int, place: Path) -> None:
    """Keep other processes from a run while the file is open; Windows has no such locks.

    Raises
    ------
    InputError
        If another process has it.
    """
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise InputError(f"another process is working on this run ({place}). Wait for it, or stop it") from error


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk; Windows has no such thing."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
