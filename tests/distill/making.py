"""Records for tests, and the real tasks where they are at hand."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from distillcalc.distill.records import Origin, Record

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "tasks"


def record(id: str, text: str = "Where is my card?", answer: str = "card", **fields: Any) -> Record:
    """A record of one text; its value is the answer, unless the test says otherwise."""
    return Record(
        id=id,
        input={"text": text},
        messages=({"role": "user", "content": text},),
        answer=answer,
        value=fields.pop("value", answer),
        origin=Origin(run="run", call="call", teacher="big/model"),
        **fields,
    )


def task_rows(name: str) -> list[Record]:
    """The rows of a real task as records that a perfect teacher labelled; skips the test where they are not here."""
    file = DATA / name
    if not file.is_file():
        pytest.skip(f"needs {name} of the shared task data, which is not in the repository")
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return [record(f"{file.stem}-{i}", row["text"], row["label"]) for i, row in enumerate(rows)]
