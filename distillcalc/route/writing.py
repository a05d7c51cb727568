"""Pairs and rejected rows as files: what :func:`.reading.read_pairs` reads again, and what it could not use."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distillcalc.errors import InputError, MissingExtra
from distillcalc.route.pairs import Pairs

FIELDS = ("answer", "probabilities", "logprobs", "samples")


def write_pairs(pairs: Pairs, path: str | Path) -> Path:
    """Write pairs as :func:`.reading.read_pairs` reads them, whole or not at all.

    Parameters
    ----------
    pairs : texts are written as they are.
    path : .csv, .jsonl or .parquet. Columns of two models begin with ``student_`` and ``teacher_``, of more with the
        models' names: read them again with ``names={"student": ..., "teacher": ...}`` or with ``models=pairs.models``.

    Raises
    ------
    InputError
        For another ending.
    MissingExtra
        For Parquet without pyarrow.

    Notes
    -----
    Of ``Pairs.requests`` answers, probabilities, logprobs and samples are written, not embeddings and other values. A
    CSV cannot tell an empty answer from none.
    """
    file = Path(path)
    columns = _columns(pairs)
    writers = {".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines, ".parquet": _parquet}
    if file.suffix.lower() not in writers:
        raise InputError(f"pairs are written as .csv, .jsonl, .ndjson or .parquet. Got {file.name}")
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        writers[file.suffix.lower()](columns, part)
        part.replace(file)
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    return file


def write_rejects(pairs: Pairs, path: str | Path) -> Path:
    """Write the rows that are no pairs, one JSON object a line with ``row`` (1 is the first) and ``reason``."""
    file = Path(path)
    lines = (json.dumps({"row": one.row, "reason": one.reason}) + "\n" for one in pairs.rejected)
    try:
        file.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror or error}") from error
    return file


def _columns(pairs: Pairs) -> dict[str, Sequence[Any]]:
    two = len(pairs.models) == 2
    prefixes = ("student", "teacher") if two else pairs.models
    columns: dict[str, Sequence[Any]] = {"id": pairs.ids, "text": pairs.texts}
    for name, values in (("right", pairs.right), ("usd", pairs.usd), ("s", pairs.seconds)):
        if values is not None:
            columns |= {f"{prefix}_{name}": values[:, i].tolist() for i, prefix in enumerate(prefixes)}
    for name, score in pairs.scores.items():
        for i, prefix in enumerate(prefixes[:-1]):
            columns[f"score_{name}" if two else f"{prefix}_score_{name}"] = score[:, i].tolist()
    if pairs.agreement is not None:
        columns["agreement"] = [None if np.isnan(one) else one for one in pairs.agreement.tolist()]
    for field in FIELDS:
        cells = [_plain(getattr(request, field)) for request in pairs.requests]
        if any(cell is not None for cell in cells):
            columns[f"{prefixes[0]}_{field}"] = cells
    return columns


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    return value.tolist() if isinstance(value, np.ndarray) else list(value)


def _csv(columns: dict[str, Sequence[Any]], file: Path) -> None:
    with file.open("w", encoding="utf-8", errors="surrogatepass", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            writer.writerow([json.dumps(cell) if isinstance(cell, list) else cell for cell in row])


def _json_lines(columns: dict[str, Sequence[Any]], file: Path) -> None:
    with file.open("w", encoding="ascii") as out:
        for row in zip(*columns.values(), strict=True):
            out.write(json.dumps(dict(zip(columns, row, strict=True))) + "\n")


def _parquet(columns: dict[str, Sequence[Any]], file: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtra("pyarrow", "route") from None
    pq.write_table(pa.table({name: list(cells) for name, cells in columns.items()}), file)
