"""Records as a CSV file that a spreadsheet can open without running what stands in its cells."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from distillcalc.distill.records import Record

# OWASP, "CSV Injection": a cell that starts so is a formula to a spreadsheet.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def safe_cell(value: Any) -> Any:
    """A cell that no spreadsheet runs.

    A text that starts like a formula gets an apostrophe in front; it stays there when the file is read back. A text
    that is a plain number, such as -5 or +1.5e3, is left as it is: spreadsheets read it as that number.
    """
    if isinstance(value, str) and value.startswith(_FORMULA) and not _NUMBER.fullmatch(value):
        return "'" + value
    return value


def usd_share(record: Record) -> float:
    """What one record cost [USD]: its share of a call whose choices are several records."""
    return float(Decimal(record.origin.usd) / record.origin.choices)


def write_csv(records: Sequence[Record], file: Path, asked: Callable[[Record], Sequence[Mapping[str, str]]]) -> None:
    """Write records flat: the student's prompt, the answer, where it came from, and the fields of the input.

    Parameters
    ----------
    records : to write, a row each.
    file : UTF-8; every cell is quoted, so that commas, quotes and new lines stay in their cells.
    asked : the prompt of a record; its system and last user messages become columns.
    """
    fields = dict.fromkeys(name for record in records for name in record.input)
    columns = [
        "id", "sample", "system", "prompt", "answer", "label", "reasoning", "human_label", "problems", "finish_reason",
        "teacher", "version", "host", "at", "usd", "input_tokens", "output_tokens", "reasoning_tokens",
        *(f"input.{name}" for name in fields),
    ]  # fmt: skip
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(columns)
        for record in records:
            writer.writerow([safe_cell(cell) for cell in _cells(record, asked(record), fields)])


def _cells(record: Record, prompt: Sequence[Mapping[str, str]], fields: Mapping[str, None]) -> list[Any]:
    said = {role: [m["content"] for m in prompt if m["role"] == role] for role in ("system", "user")}
    origin = record.origin
    return [
        record.id, record.sample, "\n\n".join(said["system"]), said["user"][-1] if said["user"] else "",
        record.answer, record.value if isinstance(record.value, str) else None, record.reasoning, record.human_label,
        "; ".join(record.problems), record.finish_reason, origin.teacher, origin.version, origin.host, origin.at,
        usd_share(record), origin.input_tokens, origin.output_tokens, origin.reasoning_tokens,
        *(_plain(record.input.get(name)) for name in fields),
    ]  # fmt: skip


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (str, int, float)) else json.dumps(value, ensure_ascii=False)
