"""The rows that were rejected: where each stands in its file, and its first characters."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillcalc.errors import InputError
from distillcalc.workload.logs.sources import Source, open_lines

if TYPE_CHECKING:
    import duckdb

EXCERPT = 200


def write_rejects(file: Path, rejected: Iterator[dict[str, Any]]) -> Path:
    """Write rejected rows to a JSONL file; raises :class:`InputError` where it cannot be written."""
    try:
        with file.open("w", encoding="utf-8") as out:
            out.writelines(json.dumps(reject) + "\n" for reject in rejected)
    except OSError as error:
        raise InputError(f"cannot write the rejected rows to {file}: {error.strerror}") from error
    return file


def rejected_rows(connection: duckdb.DuckDBPyConnection, read_as: Mapping[int, Source]) -> Iterator[dict[str, Any]]:
    """Every rejected row: its file, line (in tables the row, from 1), reason and first characters."""
    for part, source in sorted(read_as.items()):
        first = _first_row(connection, part)
        broken = {
            int(record): (int(lines), reason, text or "")
            for record, lines, reason, text in connection.execute(
                f"SELECT record, lines, reason, text FROM broken WHERE part = {part} ORDER BY record"
            ).fetchall()
        }
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT coalesce(place, rowid - {first}), reason, left(coalesce(raw, ''), {EXCERPT}), "
                "concat_ws(', ', \"at\", input_tokens, output_tokens, request_id) FROM staged "
                f"WHERE part = {part} AND reason IS NOT NULL ORDER BY rowid"
            )
            staged = _fetched(cursor)
            if source.format in ("csv", "jsonl") and not source.array:
                yield from _with_lines(source, staged, broken)
                continue
            for row, reason, raw, known in staged:
                yield {"file": source.name, "line": row + 1, "reason": reason, "text": raw or known}


def _first_row(connection: duckdb.DuckDBPyConnection, part: int) -> int:
    (first,) = connection.execute(f"SELECT min(rowid) FROM staged WHERE part = {part}").fetchall()[0]
    return first or 0


def _fetched(cursor: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while rows := cursor.fetchmany(10_000):
        yield from rows


def _with_lines(
    source: Source, staged: Iterator[tuple[Any, ...]], broken: dict[int, tuple[int, str, str]]
) -> Iterator[dict[str, Any]]:
    """Rejected rows of a text log with the physical lines on which they stand.

    ``staged`` counts the rows that were read from 0, ``broken`` is by record from 1, where header and blank lines are
    records too. A record is a line, or in a CSV with quotes as many lines as it takes to close them.
    """
    wanted = next(staged, None)
    ordinal = -1
    is_csv = source.format == "csv"
    unseen = dict(broken)
    for record, line, text in _records(source, broken):
        if record in broken:
            lines, reason, shown = unseen.pop(record)
            shown = (text.decode("utf-8", "replace") or shown).strip("\n")
            parts = [part for part in shown.split("\n") if part.strip()] if lines > 1 else [shown]
            for i in range(lines):
                excerpt = parts[i] if i < len(parts) else ""
                yield {"file": source.name, "line": line + i, "reason": reason, "text": excerpt[:EXCERPT]}
        elif text.strip() and not (is_csv and record == 1):
            ordinal += 1
            while wanted is not None and wanted[0] == ordinal:
                shown = text[: 4 * EXCERPT].decode("utf-8", "replace")[:EXCERPT]
                yield {"file": source.name, "line": line, "reason": wanted[1], "text": shown}
                wanted = next(staged, None)
        if wanted is None and not unseen:
            return
    while wanted is not None:  # lines that cannot be found again
        yield {"file": source.name, "line": None, "reason": wanted[1], "text": wanted[2] or wanted[3]}
        wanted = next(staged, None)
    for record, (lines, reason, shown) in unseen.items():
        for _ in range(lines):
            yield {"file": source.name, "line": record, "reason": reason, "text": shown.strip("\n")[:EXCERPT]}


def _records(source: Source, broken: dict[int, tuple[int, str, str]]) -> Iterator[tuple[int, int, bytes]]:
    """Records of a text log: number, the physical line where it begins, and its bytes."""
    quoted = source.format == "csv" and source.quoted
    record, held, begins, delimiter = 0, b"", 1, source.delimiter.encode()
    for number, line in enumerate(open_lines(source), 1):
        if not held:
            begins = number
            record += 1
        held = held + b"\n" + line if held else line
        if quoted:
            known = broken.get(record)
            if known is not None and len(held) < 100_000:
                length = known[2].strip("\n").count("\n")
                if held.count(b"\n") < length:
                    continue
            elif _is_open(held, delimiter):
                continue
        yield record, begins, held
        held = b""
    if held:
        yield record, begins, held


_QUOTED = re.compile(rb'"(?:[^"]|"")*+"')


def _is_open(record: bytes, delimiter: bytes) -> bool:
    """Whether a CSV record ends inside quotes. A quote opens only where a value begins; elsewhere it is a character."""
    at = 0
    while b'"' in record[at:]:
        if record[at : at + 1] == b'"':
            closed = _QUOTED.match(record, at)
            if closed is None:
                return True
            at = closed.end()
        following = record.find(delimiter, at)
        if following < 0:
            return False
        at = following + 1
    return False
