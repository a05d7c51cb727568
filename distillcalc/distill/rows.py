"""The rows to be labelled: read one after the other from JSONL, CSV, Parquet, a DataFrame or a list of mappings.

What cannot be used is told with its place and reason, never dropped in silence.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillcalc.errors import InputError, MissingExtra, near_matches

if TYPE_CHECKING:
    import pandas as pd

    from distillcalc.distill.task import Task

EXCERPT = 200  # characters of a rejected row that are shown
LONGEST_CELL = 16 * 1024 * 1024  # characters


@dataclass(frozen=True, slots=True)
class Row:
    """One input: where it stands, its id, the fields that the prompt uses, and what a person says is right."""

    place: int
    id: str
    values: dict[str, Any]
    human_label: str | None


@dataclass(frozen=True, slots=True)
class Reject:
    """One row that cannot be used: where it stands, why, and its first characters."""

    place: int
    reason: str
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a rejects file."""
        return {"row": self.place, "reason": self.reason, "text": self.text}


@dataclass(frozen=True)
class Rows:
    """Rows that can be read again and again, in one order.

    Parameters
    ----------
    source : a .jsonl, .csv or .parquet file, a DataFrame, or a sequence of mappings.
    id : field that names a row, each once; left out, a row is named by its number, from 1.
    human_label : field that holds what a person says is right; the prompt must not use it.
    limit : only so many rows from the start.
    """

    source: str | Path | pd.DataFrame | Sequence[Mapping[str, Any]]
    id: str | None = None
    human_label: str | None = None
    limit: int | None = None

    @property
    def name(self) -> str:
        """Where the rows come from, in words."""
        return Path(self.source).name if isinstance(self.source, (str, Path)) else "rows given in memory"

    @property
    def stamp(self) -> tuple[int, int] | None:
        """Size and time of the last change of the file, where it is one; tells whether it was changed since."""
        if not isinstance(self.source, (str, Path)):
            return None
        try:
            found = Path(self.source).stat()
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns

    def read(self, task: Task) -> Iterator[Row | Reject]:
        """Every row as the task needs it, or why it cannot be used.

        Raises
        ------
        InputError
            If the file cannot be read, or no row has a field that the task, ``id`` or ``human_label`` names.
        """
        if self.human_label is not None and self.human_label in task.fields:
            raise InputError(
                f"the prompt uses {{{self.human_label}}}, which holds what a person says is right: the teacher would "
                "be told the answer. Name another field"
            )
        seen: set[bytes] = set()
        checked = False
        for number, (place, found) in enumerate(_raw(self.source), 1):
            if self.limit is not None and number > self.limit:
                return
            if isinstance(found, str):
                yield Reject(place, found.split("\n", 1)[0], found.split("\n", 1)[-1][:EXCERPT])
                continue
            if not checked:  # of the first that is a row at all
                self._refuse_unknown_fields(task, found)
                checked = True
            made = self._row(task, place, found)
            if isinstance(made, Row) and self.id is not None:
                key = hashlib.blake2b(made.id.encode(), digest_size=8).digest()
                if key in seen:
                    made = Reject(place, f"another row has the id {made.id!r} too", _excerpt(found))
                seen.add(key)
            yield made

    def _refuse_unknown_fields(self, task: Task, row: Mapping[str, Any]) -> None:
        for what, name in [("the prompt", field) for field in task.fields] + [
            ("id", self.id), ("human_label", self.human_label),
        ]:  # fmt: skip
            if name is not None and name not in row:
                near = near_matches(name, map(str, row))
                hint = f" Did you mean {near[0]}?" if near else ""
                raise InputError(
                    f"{what} names the field {name!r}, and the first row of {self.name} has "
                    f"{', '.join(map(str, row)) or 'none'}.{hint}"
                )

    def _row(self, task: Task, place: int, found: Mapping[str, Any]) -> Row | Reject:
        values: dict[str, Any] = {}
        for name in task.fields:
            value = _plain(found.get(name))
            if value is None or (isinstance(value, str) and not value.strip()):
                return Reject(place, f"{name} is empty", _excerpt(found))
            values[name] = value
        own = _plain(found.get(self.id)) if self.id is not None else place
        if own is None or own == "":
            return Reject(place, f"{self.id} is empty", _excerpt(found))
        label = _plain(found.get(self.human_label)) if self.human_label is not None else None
        if label is not None and not isinstance(label, str):
            label = json.dumps(label, ensure_ascii=False)
        if not _is_text(values, str(own), label):
            return Reject(
                place,
                "holds half of a character (a lone surrogate), which is no text",
                ascii(_excerpt(found))[:EXCERPT],
            )
        return Row(place, str(own), values, label if label is not None and label.strip() else None)


def _is_text(*values: Any) -> bool:
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _excerpt(row: Mapping[str, Any]) -> str:
    text = json.dumps({str(k): _plain(v) for k, v in row.items()}, ensure_ascii=False, default=str)[:EXCERPT]
    return text.encode(errors="replace").decode()


def _plain(value: Any) -> Any:
    """A value as JSON would hold it; None where there is none (NaN, NaT, NA)."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, (bytes, bytearray)):  # Parquet that does not say that its bytes are text
        return value.decode(errors="replace")
    if hasattr(value, "item") and not hasattr(value, "__len__"):  # a scalar of numpy
        value = value.item()
    if isinstance(value, numbers.Real):
        number = float(value)
        return value if math.isfinite(number) else None
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)) or hasattr(value, "tolist"):
        return [_plain(inner) for inner in (value.tolist() if hasattr(value, "tolist") else value)]
    return str(value)


def _raw(source: Any) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """Each row with its number, from 1; or the reason why it is none and its text, two lines."""
    if isinstance(source, (str, Path)):
        file = Path(source)
        if not file.is_file():
            raise InputError(f"no input file {str(file)!r}. Give a .jsonl, .csv or .parquet file")
        readers = {".jsonl": _jsonl, ".ndjson": _jsonl, ".csv": _csv, ".parquet": _parquet}
        reader = readers.get(file.suffix.lower())
        if reader is None:
            raise InputError(f"inputs are read from .jsonl, .csv or .parquet. Got {file.name!r}")
        try:
            yield from reader(file)
        except OSError as error:
            raise InputError(f"cannot read {file}: {error.strerror or error}") from error
    elif hasattr(source, "itertuples"):
        columns = [str(column) for column in source.columns]
        _refuse_twice(columns, "the DataFrame")
        for number, row in enumerate(source.itertuples(index=False, name=None), 1):
            yield number, dict(zip(columns, row, strict=True))
    elif isinstance(source, Iterable) and not isinstance(source, (bytes, Mapping, Iterator)):
        for number, row in enumerate(source, 1):
            yield number, row if isinstance(row, Mapping) else f"not a mapping\n{row!r}"
    else:
        raise InputError(
            f"inputs are a file, a DataFrame or a sequence of mappings. Got {type(source).__name__}: read an iterator "
            "into a list first, since rows are read more than once"
        )


def _refuse_twice(columns: Sequence[str], where: str) -> None:
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise InputError(f"{where} names a column twice. Got {', '.join(twice)} more than once: rename one")


def _jsonl(file: Path) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    with file.open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            if not raw.strip():
                continue
            try:
                row = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8"))
            except (ValueError, RecursionError) as error:  # also a number of too many digits, or too deep nesting
                yield number, f"not JSON: {error}\n{raw[:EXCERPT].decode(errors='replace')}"
                continue
            yield number, row if isinstance(row, Mapping) else f"not a JSON object\n{json.dumps(row)}"


def _csv(file: Path) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    csv.field_size_limit(LONGEST_CELL)
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines)
            header = next(reader, None)
            if header is None:
                raise InputError(f"{file.name} is empty: its first line names the columns")
            _refuse_twice(header, file.name)
            for number, cells in enumerate((cells for cells in reader if cells), 1):
                if len(cells) != len(header):
                    text = ",".join(cells)
                    yield number, f"{len(cells)} cells where the header has {len(header)}\n{text}"
                    continue
                yield number, dict(zip(header, cells, strict=True))
    except UnicodeDecodeError as error:
        raise InputError(f"{file.name} is not UTF-8 text (byte {error.start}). Save it as UTF-8") from error
    except csv.Error as error:
        raise InputError(f"{file.name} is not CSV: {error}") from error


def _parquet(file: Path) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtra("pyarrow", "distill") from error

    try:
        number = 0
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(1_024):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{file.name} is not Parquet: {error}") from error
