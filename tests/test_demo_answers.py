"""The stored answers of the demo are those of its messages, and as often right as the README says."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from distillcalc.distill import Dataset
from distillcalc.route import read_pairs

DATA = Path(__file__).resolve().parents[1] / "data" / "demo"
TEACHER_RIGHT, STUDENT_RIGHT = 282, 273  # of 336: 83.9% and 81.2%


@pytest.mark.parametrize("part", ["messages", "test"])
def test_every_message_has_its_answer(part: str) -> None:
    messages = pd.read_csv(DATA / f"{part}.csv")
    records = Dataset.load(DATA / "answers" / f"{part}.jsonl").records
    assert [r.id for r in records] == messages["id"].tolist()
    assert [r.text for r in records] == messages["text"].tolist()
    assert [r.human_label for r in records] == messages["label"].tolist()
    assert not any(r.problems for r in records)


def test_pairs_are_of_the_same_answers() -> None:
    pairs = read_pairs(DATA / "pairs.jsonl", id="id", label="label")
    records = Dataset.load(DATA / "answers" / "test.jsonl").records
    assert list(pairs.ids) == [r.id for r in records]
    assert list(pairs.texts) == [r.text for r in records]
    assert pairs.right[:, 1].tolist() == [r.answer == r.human_label for r in records]
    assert pairs.right.sum(axis=0).tolist() == [STUDENT_RIGHT, TEACHER_RIGHT]


def test_nothing_tells_of_the_machine_that_made_them() -> None:
    for file in (DATA / "answers").iterdir():
        text = file.read_text(encoding="utf-8")
        assert "/home/" not in text
        assert "/work/" not in text
        assert "response_id" not in text
