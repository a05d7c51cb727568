"""The demo's messages: three parts that give nothing of one another away, and that a rule of words does not sort."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from distillcalc.distill.decontaminate import decontaminated
from distillcalc.distill.task import Task
from tests.distill.making import record

DATA = Path(__file__).resolve().parents[1] / "data" / "demo"
PARTS = {"teacher": 105, "messages": 40, "test": 42}  # of each label


@pytest.fixture(scope="module")
def parts() -> dict[str, pd.DataFrame]:
    return {name: pd.read_csv(DATA / f"{name}.csv") for name in PARTS}


def test_every_label_is_as_frequent(parts: dict[str, pd.DataFrame]) -> None:
    task = Task(**tomllib.loads((DATA / "task.toml").read_text(encoding="utf-8")))
    assert task.labels is not None
    for name, count in PARTS.items():
        assert list(parts[name].columns) == ["id", "text", "label"]
        assert Counter(parts[name]["label"]) == dict.fromkeys(task.labels, count)
        assert parts[name]["id"].is_unique
        assert not parts[name]["text"].str.strip().duplicated().any()


def test_no_part_gives_the_test_part_away(parts: dict[str, pd.DataFrame]) -> None:
    evaluation = dict(zip(parts["test"]["id"], parts["test"]["text"], strict=True))
    for name in ("teacher", "messages"):
        held = [record(row.id, row.text) for row in parts[name].itertuples()]
        found = decontaminated(held, evaluation=evaluation, ratio=0.8)
        assert [(one.id, one.of) for one in found.report.removed] == []


def test_messages_name_nobody(parts: dict[str, pd.DataFrame]) -> None:
    for part in parts.values():
        assert not part["text"].str.contains(r"@|https?:|\+\d{6,}").any()


def test_a_rule_of_words_does_not_sort_them(parts: dict[str, pd.DataFrame]) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(ngram_range=(1, 2))
    rule = LogisticRegression(C=10, max_iter=1000).fit(
        words.fit_transform(parts["teacher"]["text"]), parts["teacher"]["label"]
    )
    share = float((rule.predict(words.transform(parts["test"]["text"])) == parts["test"]["label"]).mean())
    assert (
        0.5 < share < 0.75
    )  # better than chance (0.125): the labels are there; far from a reader: words are not enough
