"""Rows of a CSV, JSONL or Parquet file, or of a DataFrame, as columns of plain cells; broken rows are told apart."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distillcalc.errors import InputError, MissingExtra
from distillcalc.route.pairs import Rejected

if TYPE_CHECKING:
    import pandas as pd

LONGEST_CELL = 16 * 1024 * 1024  # characters


@dataclass(frozen=True)
class Table:
    """Columns of a source.

    Parameters
    ----------
    source : where they come from, in words.
    rows : number of each row in the source, 1 is the first.
    columns : cells by name, one for each row; None where there is nothing.
    rejected : rows that could not be read at all.
    is_text : whether cells are text that nobody has typed, as in a CSV, so that nothing and an empty text are one.
    """

    source: str
    rows: Sequence[int]
    columns: dict[str, Sequence[Any]]
    rejected: tuple[Rejected, ...] = ()
    is_text: bool = False


def read_table(source: str | Path | pd.DataFrame, limit: int | None = None) -> Table:
    """Read a .csv, .jsonl, .ndjson or .parquet file, or a DataFrame.

    Parameters
    ----------
    source : the file or the DataFrame.
    limit : only so many rows from the start.

    Raises
    ------
    InputError
        If it cannot be read, has no such ending, or names a column twice.
    MissingExtra
        For Parquet without pyarrow.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit must be 1 or more. Got {limit}")
    if not isinstance(source, (str, Path)):
        return _of_frame(source, "a DataFrame", limit)
    file = Path(source)
    kind = file.suffix.lower()
    if kind not in (".csv", ".jsonl", ".ndjson", ".parquet"):
        raise InputError(f"pairs are read from .csv, .jsonl, .ndjson or .parquet. Got {file.name}")
    try:
        if kind == ".parquet":
            return _parquet(file, limit)
        return _csv(file, limit) if kind == ".csv" else _json_lines(file, limit)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file.name} is not UTF-8: byte {error.object[error.start]:#04x} at {error.start}") from error


def _csv(file: Path, limit: int | None) -> Table:
    numbers: list[int] = []
    kept: list[list[str]] = []
    rejected = []
    before = csv.field_size_limit(LONGEST_CELL)
    try:
        # utf-8-sig takes no halves of characters, which write_pairs may have written: strip the mark by hand.
        with file.open(encoding="utf-8", errors="surrogatepass", newline="") as lines:
            reader = csv.reader(lines)
            header = next(reader, None)
            if header is None:
                raise InputError(f"{file.name} is empty: its first line names the columns")
            header = [name.removeprefix("\ufeff").strip() for name in header]
            number = 0
            while limit is None or number < limit:
                try:
                    cells = next(reader)
                except StopIteration:
                    break
                except csv.Error as error:
                    number += 1
                    rejected.append(Rejected(number, f"no CSV: {error}"))
                    continue
                if not cells:
                    continue
                number += 1
                if len(cells) == len(header):
                    numbers.append(number)
                    kept.append(cells)
                else:
                    reason = f"it has {len(cells)} cells, the header {len(header)}"
                    rejected.append(Rejected(number, reason))
    finally:
        csv.field_size_limit(before)
    _refuse_twice(header, file.name)
    columns: dict[str, Sequence[Any]] = dict.fromkeys(header, ())
    if kept:
        columns = dict(zip(header, zip(*kept, strict=True), strict=True))
    return Table(file.name, numbers, columns, tuple(rejected), is_text=True)


def _json_lines(file: Path, limit: int | None) -> Table:
    numbers: list[int] = []
    kept: list[dict[str, Any]] = []
    rejected = []
    number = 0
    with file.open("rb") as lines:
        for line in lines:
            if not line.strip():
                continue
            if limit is not None and number == limit:
                break
            number += 1
            try:
                row = json.loads(line.decode("utf-8-sig", errors="surrogatepass") if number == 1 else line)
            except (ValueError, RecursionError):
                rejected.append(Rejected(number, "it is no JSON"))
                continue
            if isinstance(row, dict):
                numbers.append(number)
                kept.append(row)
            else:
                rejected.append(Rejected(number, "it is no JSON object"))
    names = dict.fromkeys(name for row in kept for name in row)
    return Table(file.name, numbers, {name: [row.get(name) for row in kept] for name in names}, tuple(rejected))


def _parquet(file: Path, limit: int | None) -> Table:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtra("pyarrow", "route") from None
    try:
        found = pq.ParquetFile(file).read(use_threads=False)
    except pa.ArrowInvalid as error:
        raise InputError(f"{file.name} is no Parquet file: {error}") from error
    found = found if limit is None else found.slice(0, limit)
    names = list(found.column_names)
    _refuse_twice(names, file.name)
    columns = {name: found.column(name).to_pylist() for name in names}
    return Table(file.name, range(1, found.num_rows + 1), columns)


def _of_frame(frame: pd.DataFrame, source: str, limit: int | None) -> Table:
    part = frame if limit is None else frame.iloc[:limit]
    names = [str(name) for name in part.columns]
    _refuse_twice(names, source)
    columns: dict[str, Sequence[Any]] = {}
    for place, name in enumerate(names):
        column = part.iloc[:, place]
        # tolist() makes plain numbers of numpy's; what is not there becomes None.
        cells = column.astype(object).tolist()
        gone = column.isna().to_numpy()
        if gone.any():
            cells = [None if missing else cell for cell, missing in zip(cells, gone, strict=True)]
        columns[name] = cells
    return Table(source, range(1, len(part) + 1), columns)


def _refuse_twice(names: Sequence[str], source: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"{source} has the column {twice[0]!r} twice")


def is_missing(cell: Any) -> bool:
    """Whether a cell holds nothing: None, nan, or a text without characters or that says so."""
    if cell is None:
        return True
    if isinstance(cell, str):
        word = cell.strip()
        return not word or (len(word) <= 4 and word.lower() in ("nan", "null", "none", "n/a"))
    return isinstance(cell, (float, np.floating)) and math.isnan(cell)
