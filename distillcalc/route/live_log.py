"""The live log of a deployed router read from JSON Lines, CSV or Parquet; what cannot be read is counted and shown."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import InputError, MissingExtra

Floats = NDArray[np.float64]

COLUMNS = ("time", "score", "escalated", "student_answer", "teacher_answer", "agreement", "right")
NEEDED = ("score", "escalated")
_YES = {"true": 1.0, "yes": 1.0, "t": 1.0, "false": 0.0, "no": 0.0, "f": 0.0}
_MILLISECONDS = 1e11  # a number of seconds beyond the year 5000 is one of milliseconds


@dataclass(frozen=True)
class Unreadable:
    """A line that could not be read: its number from 1 (of Parquet its row), and why."""

    line: int
    reason: str


@dataclass(frozen=True, eq=False)
class LiveLog:
    """Requests of a live log, oldest first.

    Parameters
    ----------
    time : seconds since 1970, shape (rows,), nan where the log has none.
    score : nan where a rule decided before any score.
    escalated : 1 or 0.
    agreement, right : in [0, 1], nan where not known.
    unreadable : lines that are not among the rows.
    reordered : whether the file was not in the order of its times, and was sorted.
    unused : columns of the file that nothing was read from.
    """

    time: Floats
    score: Floats
    escalated: Floats
    agreement: Floats
    right: Floats
    unreadable: tuple[Unreadable, ...] = field(default=(), repr=False)
    reordered: bool = False
    unused: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.score)

    def __str__(self) -> str:
        told = f"{len(self):,} requests read"
        if self.unreadable:
            reasons = Counter(one.reason.split(". Got")[0] for one in self.unreadable)
            first = self.unreadable[0]
            told += f", {len(self.unreadable):,} lines not ({'; '.join(f'{n:,} x {why}' for why, n in reasons.items())}"
            told += f"; the first is line {first.line})"
        told += ", sorted by time" if self.reordered else ""
        return told + (f"; not read: {', '.join(self.unused)}" if self.unused else "")


def read_log(
    file: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    same: Callable[[str, str], bool] | None = None,
) -> LiveLog:
    """Read a live log.

    Parameters
    ----------
    file : .jsonl, .ndjson, .csv or .parquet with columns ``score`` and ``escalated`` and, where there are, ``time``
        (ISO 8601, or seconds or milliseconds since 1970), ``agreement``, ``right``, ``student_answer`` and
        ``teacher_answer``. An empty value is one that is not known; an empty score is that of a rule.
    columns : the file's own name of a column, by the name that it has here.
    same : whether two answers are the same, where ``agreement`` is empty; by default whether they are equal without the
        white space around them.

    Returns
    -------
    LiveLog.

    Raises
    ------
    InputError
        If the file cannot be read at all, or lacks ``score`` or ``escalated``.
    MissingExtra
        For Parquet without pyarrow.
    """
    path = Path(file)
    own = {name: name for name in COLUMNS} | dict(columns or {})
    if unknown := set(own) - set(COLUMNS):
        raise InputError(f"columns may name {', '.join(COLUMNS)}. Got {', '.join(sorted(unknown))}")
    kinds: dict[str, Callable[[Path], Iterator[tuple[int, Any]]]] = {
        ".jsonl": _json_lines, ".ndjson": _json_lines, ".csv": _csv_lines, ".parquet": _parquet_rows,
    }  # fmt: skip
    if path.suffix.lower() not in kinds:
        raise InputError(f"a live log is .jsonl, .ndjson, .csv or .parquet. Got {path.name}")
    rows: list[tuple[float, float, float, float, float]] = []
    bad: list[Unreadable] = []
    named: set[str] = set()
    equal = same or (lambda a, b: a.strip() == b.strip())
    try:
        for line, row in kinds[path.suffix.lower()](path):
            if isinstance(row, str):
                bad.append(Unreadable(line, row))
                continue
            named.update(row)
            try:
                rows.append(_row({name: row.get(own[name]) for name in COLUMNS}, equal))
            except _BadValue as error:
                bad.append(Unreadable(line, str(error)))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    if missing := [own[name] for name in NEEDED if own[name] not in named] if named else []:
        raise InputError(
            f"{path.name} has no column {' and '.join(missing)}. Got {', '.join(sorted(named))}; "
            "columns={'score': 'its name'} says which it is"
        )
    found = np.array(rows, dtype=float).reshape(-1, 5)
    times = found[:, 0]
    timed = np.isfinite(times)
    reordered = bool(timed.all() and (np.diff(times) < 0).any())
    if reordered:
        found = found[np.argsort(times, kind="stable")]
    time, score, escalated, agreement, right = (np.ascontiguousarray(column) for column in found.T)
    unused = tuple(sorted(named - set(own.values())))
    return LiveLog(time, score, escalated, agreement, right, tuple(bad), reordered, unused)


class _BadValue(Exception):
    """Why a row cannot be read."""


def _row(row: Mapping[str, Any], same: Callable[[str, str], bool]) -> tuple[float, float, float, float, float]:
    """Time, score, escalated, agreement and right of one row."""
    escalated = _share(row["escalated"], "escalated")
    if escalated not in (0.0, 1.0):
        raise _BadValue(f"escalated must be true or false. Got {row['escalated']!r}")
    agreement = _share(row["agreement"], "agreement")
    student, teacher = row["student_answer"], row["teacher_answer"]
    if math.isnan(agreement) and not _empty(student) and not _empty(teacher):
        agreement = float(same(str(student), str(teacher)))
    return _time(row["time"]), _number(row["score"], "score"), escalated, agreement, _share(row["right"], "right")


def _empty(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _number(value: Any, name: str) -> float:
    """A number, nan where there is none."""
    if _empty(value):
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise _BadValue(f"{name} must be a number. Got {value!r}") from None


def _share(value: Any, name: str) -> float:
    """A value in [0, 1], or a word for one, nan where there is none."""
    if isinstance(value, str) and value.strip().lower() in _YES:
        return _YES[value.strip().lower()]
    found = _number(value, name)
    if found < 0 or found > 1:
        raise _BadValue(f"{name} must be true, false or between 0 and 1. Got {value!r}")
    return found


def _time(value: Any) -> float:
    """Seconds since 1970; a time without a zone is in UTC."""
    from datetime import UTC, datetime

    if _empty(value):
        return float("nan")
    if hasattr(value, "timestamp"):
        return float((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp())
    try:
        number = float(value)
    except (TypeError, ValueError):
        try:
            read = datetime.fromisoformat(str(value).strip())
        except ValueError:
            raise _BadValue(f"time must be ISO 8601 or seconds since 1970. Got {value!r}") from None
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(number):
        raise _BadValue(f"time must be finite. Got {value!r}")
    return number / 1000 if number > _MILLISECONDS else number


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                yield number, "no JSON"
                continue
            yield number, row if isinstance(row, dict) else "no JSON object"


def _csv_lines(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        reader = csv.reader(lines)
        header = next(reader, [])
        begins = reader.line_num + 1
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield begins, f"no CSV: {error}"
                begins = reader.line_num + 1
                continue
            if cells and len(cells) != len(header):
                yield begins, f"other cells than the header's {len(header)}. Got {len(cells)}"
            elif cells:
                yield begins, dict(zip(header, cells, strict=True))
            begins = reader.line_num + 1


def _parquet_rows(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtra("pyarrow", "route") from None
    try:
        batches = pq.ParquetFile(path).iter_batches(use_threads=False)
        number = 0
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except pa.ArrowInvalid as error:
        raise InputError(f"{path.name} is no Parquet file: {error}") from error
