"""What a path is: which log files it stands for, and by their content, never their name, how each is to be read.

Which columns a log has is left to :mod:`distillcalc.workload.logs.schemas`.
"""

from __future__ import annotations

import glob
import json
import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeAlias

from distillcalc.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Format: TypeAlias = Literal["csv", "jsonl", "parquet", "frame"]
Compression: TypeAlias = Literal["none", "gzip", "zstd"]
Paths: TypeAlias = "str | os.PathLike[str] | pd.DataFrame | Iterable[str | os.PathLike[str] | pd.DataFrame]"

MEASURED = "# Measured by distillcalc"  # how a scenario begins that was made from logs
REJECT_KEYS = ("file", "line", "reason", "text")
HEAD_BYTES = 1 << 20
HEAD_LINES = 2_000

_BOM = b"\xef\xbb\xbf"
_DELIMITERS = ",\t;|"
_WRAPPED = re.compile(rb'"(data|items|results|observations|records|rows|events|logs)"\s*:\s*\[\s*\{')
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"')
_REFUSED = {
    b"PK\x03\x04": ("a zip archive", "Unpack it first"),
    b"BZh": ("compressed with bzip2", "Unpack it, or compress it with gzip or zstd"),
    b"\xfd7zXZ\x00": ("compressed with xz", "Unpack it, or compress it with gzip or zstd"),
    b"\xff\xfe": ("UTF-16 text", "Save it as UTF-8"),
    b"\xfe\xff": ("UTF-16 text", "Save it as UTF-8"),
}


@dataclass(frozen=True)
class Source:
    """One log to read.

    Parameters
    ----------
    path : where the file lies; ``None`` for a DataFrame
    format : ``"csv"``, ``"jsonl"``, ``"parquet"`` or ``"frame"``
    compression : ``"none"``, ``"gzip"`` or ``"zstd"``
    array : the file is one JSON array rather than one object per line
    wrapped : the key under which objects hold such an array, as the pages of a web interface do; empty: none does
    delimiter, quoted : of a CSV; ``quoted`` is false where no quote was seen, so a stray one spoils only its own line
    bom : the text begins with a byte order mark
    cut : a zstd file ends before its last frame does
    frame : the DataFrame
    named : it was named outright, not found in a folder or behind a glob
    """

    path: Path | None
    format: Format
    compression: Compression = "none"
    array: bool = False
    wrapped: str = ""
    delimiter: str = ","
    quoted: bool = False
    bom: bool = False
    cut: bool = False
    frame: pd.DataFrame | None = None
    named: bool = True

    @property
    def name(self) -> str:
        """What to call the log in messages."""
        return "the DataFrame" if self.path is None else str(self.path)


def find_sources(paths: Paths) -> tuple[list[Source], list[str]]:
    """The logs that paths, folders, globs and DataFrames stand for, and notes on what was passed over.

    Parameters
    ----------
    paths : one path, folder, glob or DataFrame, or several. Folders are searched to any depth. A file in a folder or
        behind a glob that is no log, or is empty, is passed over with a note; one named outright is an error.

    Raises
    ------
    InputError
        If nothing is there, nothing there is a log, or a file named outright is none.
    """
    found: list[Source] = []
    notes: list[str] = []
    seen: set[Path] = set()
    given = _listed(paths)
    if not given:
        raise InputError("no logs given. Give a file, a folder, a glob such as 'logs/*.jsonl.gz' or a DataFrame")
    for one in given:
        if not isinstance(one, (str, os.PathLike)):
            found.append(_frame_source(one))
            continue
        files, named = _expand(one)
        passed: list[str] = []
        logs = 0
        for file in files:
            if file.resolve() in seen:
                notes.append(f"{file} was given more than once and is read once")
                logs += 1
                continue
            seen.add(file.resolve())
            try:
                found.append(replace(recognise_file(file), named=named))
                logs += 1
            except InputError as error:
                if named:
                    raise
                passed.append(str(error).removesuffix("."))
        if not logs:
            listing = "; ".join(passed[:5]) or "the folder is empty"
            raise InputError(f"no logs in {str(one)!r}: {listing}. Logs are CSV, JSONL or Parquet, plain, gzip or zstd")
        notes += [f"passed over: {reason}" for reason in passed]
    return found, notes


def recognise_file(file: Path) -> Source:
    """What one file is, by its magic bytes and first lines.

    Raises
    ------
    InputError
        If it cannot be read, is empty, or is neither CSV nor JSONL nor Parquet.
    """
    try:
        with file.open("rb") as stream:
            start = stream.read(16)
            size = stream.seek(0, os.SEEK_END)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    if not size:
        raise InputError(f"{file} is empty")
    for magic, (kind, remedy) in _REFUSED.items():
        if start.startswith(magic):
            raise InputError(f"{file} is {kind}, which is not read. {remedy}")
    if start.startswith(b"PAR1"):
        return Source(file, "parquet")
    compression: Compression = "none"
    if start.startswith(b"\x1f\x8b"):
        compression = "gzip"
    elif start.startswith(b"\x28\xb5\x2f\xfd"):
        compression = "zstd"
    head = _head_bytes(file, compression)
    if not head.strip():
        raise InputError(
            f"{file} is empty" + (f" once unpacked ({compression}); it may be cut" if compression != "none" else "")
        )
    return _recognise_text(file, compression, head)


def _recognise_text(file: Path, compression: Compression, head: bytes) -> Source:
    bom = head.startswith(_BOM)
    lines = [line.strip() for line in head.removeprefix(_BOM).split(b"\n")]
    lines = [line for line in lines if line][:50]
    readable = sum(not _is_binary(line) for line in lines)
    binary = InputError(
        f"{file} is a binary file (it begins with {head[:8]!r}). Logs are CSV, JSONL or Parquet, plain, gzip or zstd"
    )
    if readable * 2 < len(lines):
        raise binary
    if head.startswith(MEASURED.encode()):
        raise InputError(f"{file} is a scenario that distillcalc wrote, not a log")
    if all(_is_reject(line) for line in lines):
        raise InputError(f"{file} holds the rows that distillcalc rejected from a log, not requests")
    cut = compression == "zstd" and not _zstd_is_whole(file)
    objects = sum(line.startswith(b"{") for line in lines)
    if lines[0].startswith(b"[") and not objects * 2 > len(lines) + 1:
        return Source(file, "jsonl", compression, array=True, bom=bom, cut=cut)
    if objects * 2 >= len(lines) or lines[0].startswith(b"{"):
        pretty = lines[0] == b"{" and len(lines) > 1
        wrapped = _wrapper(head) if pretty or 2 * sum(bool(_wrapper(line)) for line in lines) >= len(lines) else ""
        if wrapped:
            return Source(file, "jsonl", compression, array=True, wrapped=wrapped, bom=bom, cut=cut)
        if pretty:
            raise InputError(
                f"{file} is JSON spread over several lines, which is not read. "
                f"Write one object per line: jq -c . {file}"
            )
        return Source(file, "jsonl", compression, bom=bom, cut=cut)
    if _is_binary(lines[0]):
        raise binary
    header = lines[0].decode("utf-8", "replace")
    delimiter = max(_DELIMITERS, key=header.count)
    if delimiter not in header:
        raise InputError(
            f"{file} is neither CSV, JSONL nor Parquet: its first line is {header[:80]!r}. "
            "A CSV log begins with a line of column names"
        )
    return Source(file, "csv", compression, delimiter=delimiter, quoted=b'"' in head, bom=bom, cut=cut)


def _is_reject(line: bytes) -> bool:
    try:
        found = json.loads(line)
    except ValueError:
        return False
    return isinstance(found, dict) and tuple(found) == REJECT_KEYS


def _wrapper(head: bytes) -> str:
    """The key of an object under which it holds a list of objects, by the beginning of its text; empty: none."""
    for found in _WRAPPED.finditer(head):
        before = _STRING.sub(b"", head[: found.start()])
        if before.count(b"{") - before.count(b"}") == 1 and before.count(b"[") == before.count(b"]"):
            return found[1].decode()
    return ""


def head_lines(source: Source, count: int = HEAD_LINES) -> list[str]:
    """The first non-blank lines of a text log, a line cut off by the end of the look taken left out."""
    assert source.path is not None
    head = _head_bytes(source.path, source.compression)
    lines = head.removeprefix(_BOM).decode("utf-8", "replace").split("\n")
    if len(head) >= HEAD_BYTES and len(lines) > 1:
        lines = lines[:-1]
    return [line.rstrip("\r") for line in lines if line.strip()][:count]


def open_lines(source: Source) -> Iterator[bytes]:
    """The physical lines of a text log without their newlines, as far as they can be unpacked."""
    assert source.path is not None
    if source.compression == "zstd":
        yield from _zstd_lines(source.path)
        return
    with source.path.open("rb") as stream:
        if source.compression == "none":
            for line in stream:
                yield line.rstrip(b"\n")
            return
        rest = b""
        for block in gunzip(stream):
            lines = (rest + block).split(b"\n")
            rest = lines.pop()
            yield from lines
        if rest:
            yield rest


def gunzip(stream: BinaryIO) -> Iterator[bytes]:
    """Unpack gzip for as long as it can be unpacked; a cut or damaged stream just ends. Several members are read on."""
    unpack = zlib.decompressobj(wbits=31)
    while block := stream.read(HEAD_BYTES):
        while block:
            before = unpack.copy()
            try:
                data = unpack.decompress(block, 8 * HEAD_BYTES)
            except zlib.error:
                yield from _up_to_the_damage(before, block)
                return
            if data:
                yield data
            if unpack.eof:
                block, unpack = unpack.unused_data.lstrip(b"\0"), zlib.decompressobj(wbits=31)
            else:
                block = unpack.unconsumed_tail
    if tail := unpack.flush():
        yield tail


def _up_to_the_damage(unpack: Any, block: bytes) -> Iterator[bytes]:
    """What of a damaged block can be unpacked; a call that fails gives nothing of what it could unpack."""
    try:
        while data := unpack.decompress(block, 512):
            yield data
            block = unpack.unconsumed_tail
    except zlib.error:
        return


def gzip_is_whole(file: Path) -> bool:
    """Whether a gzip file can be unpacked to its end and fits its checksums; what follows that is no gzip is let be."""
    unpack, fresh = zlib.decompressobj(wbits=31), True
    with file.open("rb") as stream:
        while block := stream.read(HEAD_BYTES):
            while block:
                if fresh and not b"\x1f\x8b".startswith(block[:2]):
                    return True
                try:
                    unpack.decompress(block, 8 * HEAD_BYTES)
                except zlib.error:
                    return False
                fresh = unpack.eof
                if fresh:
                    block, unpack = unpack.unused_data.lstrip(b"\0"), zlib.decompressobj(wbits=31)
                else:
                    block = unpack.unconsumed_tail
    return fresh


def keep_logs(sources: Iterable[Source], written: Mapping[str, Path | None]) -> None:
    """See to it that no log is overwritten.

    Parameters
    ----------
    written : each file that is to be written, under the name of its option

    Raises
    ------
    InputError
        If one of them is a log.
    """
    logs = [source.path for source in sources if source.path is not None]
    for option, file in written.items():
        if file is not None and file.exists() and any(log.samefile(file) for log in logs):
            raise InputError(f"{option} would overwrite {file}, which is one of the logs. Give another file")


def _listed(paths: Any) -> list[Any]:
    if isinstance(paths, (str, os.PathLike)) or hasattr(paths, "columns"):
        return [paths]
    if isinstance(paths, Iterable):
        return list(paths)
    raise InputError(f"logs are given as paths or DataFrames. Got {type(paths).__name__}")


def _frame_source(frame: Any) -> Source:
    if not hasattr(frame, "columns") or not hasattr(frame, "iloc"):
        raise InputError(f"logs are given as paths or DataFrames. Got {type(frame).__name__}")
    if not len(frame):
        raise InputError("the DataFrame is empty")
    if getattr(frame.index, "dtype", None) is not None and frame.index.dtype.kind == "M":
        name = frame.index.name or "timestamp"
        if name not in frame.columns:
            frame = frame.rename_axis(index=name).reset_index()  # a time series, as pandas keeps it
    return Source(None, "frame", frame=frame)


def _expand(path: str | os.PathLike[str]) -> tuple[Sequence[Path], bool]:
    """The files behind a path, and whether it named a file outright."""
    text = os.path.expanduser(os.fspath(path))
    place = Path(text)
    if place.is_dir():
        return sorted(file for file in place.rglob("*") if file.is_file()), False
    if place.exists():
        return [place], True
    if glob.has_magic(text):
        files = sorted(Path(file) for file in glob.glob(text, recursive=True) if Path(file).is_file())
        if files:
            return files, False
        raise InputError(f"no file fits the glob {text!r} (looked from {Path.cwd()})")
    raise InputError(f"no file {text!r} (looked from {Path.cwd()}). Give a file, a folder or a glob in quotes")


def _is_binary(line: bytes) -> bool:
    odd = sum(byte < 9 or 13 < byte < 32 for byte in line[:2000])
    return odd * 20 > len(line[:2000])


def _head_bytes(file: Path, compression: Compression) -> bytes:
    if compression == "zstd":
        head, lines = bytearray(), _zstd_lines(file)
        for line in lines:
            head += line + b"\n"
            if len(head) >= HEAD_BYTES:
                break
        return bytes(head)
    with file.open("rb") as stream:
        if compression == "none":
            return stream.read(HEAD_BYTES)
        unpacked = bytearray()
        for block in gunzip(stream):
            unpacked += block
            if len(unpacked) >= HEAD_BYTES:
                break
        return bytes(unpacked[:HEAD_BYTES])


def _zstd_lines(file: Path) -> Iterator[bytes]:
    """Physical lines of a zstd file, unpacked by DuckDB: Python has no zstd of its own before 3.14."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        try:
            connection.execute(
                "SELECT line FROM read_csv(?, compression='zstd', auto_detect=false, columns={'line': 'VARCHAR'}, "
                r"delim=E'\x01', quote='', escape='', header=false, strict_mode=false, ignore_errors=true, "
                "max_line_size=67108864)",
                [str(file)],
            )
            while rows := connection.fetchmany(1_000):
                yield from ((line or "").encode() for (line,) in rows)
        except duckdb.Error as error:
            raise InputError(f"cannot unpack {file} as zstd: {str(error).splitlines()[0]}") from error


def _zstd_is_whole(file: Path) -> bool:
    """Whether a zstd file ends where its last frame does (RFC 8878, 3.1.1). DuckDB reads a cut one without a word."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        while stream.tell() < size:
            magic = stream.read(4)
            if len(magic) == 4 and magic[1:] == b"\x2a\x4d\x18" and magic[0] & 0xF0 == 0x50:
                length = stream.read(4)
                if len(length) < 4:
                    return False
                stream.seek(struct.unpack("<I", length)[0], os.SEEK_CUR)
            elif magic == b"\x28\xb5\x2f\xfd":
                if not _skip_zstd_frame(stream):
                    return False
            else:
                return False
        return stream.tell() == size


def _skip_zstd_frame(stream: BinaryIO) -> bool:
    descriptor = stream.read(1)
    if not descriptor:
        return False
    flags = descriptor[0]
    single_segment = flags >> 5 & 1
    content_size = (1 if single_segment else 0, 2, 4, 8)[flags >> 6]
    stream.seek((0, 1, 2, 4)[flags & 3] + content_size + (not single_segment), os.SEEK_CUR)
    while True:
        header = stream.read(3)
        if len(header) < 3:
            return False
        block = int.from_bytes(header, "little")
        stream.seek(1 if block >> 1 & 3 == 1 else block >> 3, os.SEEK_CUR)
        if block & 1:
            stream.seek(4 * (flags >> 2 & 1), os.SEEK_CUR)
            return True
