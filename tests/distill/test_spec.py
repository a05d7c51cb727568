"""The file of a labelling: what is wrong in it is told with its line."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from distillcalc.distill.spec import LabelSpec
from distillcalc.errors import DistillcalcError, InputError

GOOD = """\
[task]
name = "mails"
labels = ["bill", "other"]

[inputs]
file = "rows.jsonl"

[teacher]
model = "local/m"
base_url = "http://localhost:8000/v1"

[labelling]
budget_usd = 0.1
"""


def load(folder: Path, text: str | bytes = GOOD) -> LabelSpec:
    file = folder / "task.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return LabelSpec.load(file)


def test_a_file_as_it_should_be(tmp_path: Path) -> None:
    spec = load(tmp_path)
    assert spec.labelling.budget_usd == Decimal("0.1")  # and not 0.1000000000000000055
    assert spec.rows.source == str(tmp_path / "rows.jsonl")
    assert (spec.labelling.engine, spec.use, spec.privacy.private) == ("live", None, False)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('labels = ["bill", "other"]', 'labels = ["bill"]', "line 3 of task.toml"),
        ('labels = ["bill", "other"]', 'labels = ["a", "A"]', r"labels must differ.*\(line 3 of task.toml\)"),
        ('labels = ["bill", "other"]', 'labels = "bill"', r"Got 'bill' \(line 3 of task.toml\)"),
        ('labels = ["bill", "other"]', 'lables = ["a", "b"]', r"unknown field task.lables \(line 3.*mean labels"),
        ('labels = ["bill", "other"]', 'prompt = "{text"', r"not a template.*\(line 3 of task.toml\)"),
        ('labels = ["bill", "other"]', 'output_schema = { const = 2026-01-02 }', r"plain JSON.*\(line 3 of"),
        ('name = "mails"', 'name = "../mails"', r"task.name.*\(line 2 of task.toml\)"),
        ('file = "rows.jsonl"', 'file = 3', r"Got 3 \(line 6 of task.toml\)"),
        ('file = "rows.jsonl"', 'limit = 3', r"inputs.file is missing \(line 5 of task.toml\)"),
        ('file = "rows.jsonl"', 'file = "r"\nlimit = 0', r"Got 0 \(line 7 of task.toml\)"),
        ('model = "local/m"', 'model = "local/m"\nsamples = 0', r"Got 0 \(line 10 of task.toml\)"),
        ('model = "local/m"', 'model = "local/m"\nextra_body = { n = 2 }', r"must not set n.*\(line 10 of task.toml\)"),
        ("http://localhost:8000/v1", "localhost:8000", r"is written https://host/v1.*\(line 10 of task.toml\)"),
        ("budget_usd = 0.1", "budget_usd = -1", r"Got -1 \(line 13 of task.toml\)"),
        ("budget_usd = 0.1", "budget_usd = inf", "finite number.*line 13 of task.toml"),
        ("budget_usd = 0.1", "budget_usd = nan", "finite number.*line 13 of task.toml"),
        ("budget_usd = 0.1", "budget_usd = true", r"line 13 of task.toml"),
        ("budget_usd = 0.1", 'budget_usd = "a lot"', r"Got 'a lot' \(line 13 of task.toml\)"),
        ("budget_usd = 0.1", "", r"labelling.budget_usd is missing.*It is ceiling of the run"),
        ("budget_usd = 0.1", 'budget_usd = 1\nengine = "fast"', r"Got 'fast' \(line 14 of task.toml\)"),
        ("budget_usd = 0.1", "budget_usd = 1\nconcurrency = 0", r"Got 0 \(line 14 of task.toml\)"),
        ("[labelling]", "[labeling]", r"unknown field labeling \(line 12 of task.toml\). Did you mean labelling"),
        ("budget_usd = 0.1", "budget_usd = ", "not valid TOML.*line 13"),
        ("budget_usd = 0.1", 'budget_usd = 1\n[privacy]\nredact = ["mail"]', "line 15 of task.toml"),
        ("budget_usd = 0.1", "budget_usd = 1\n[filters]\nconsistency = 2", r"Got 2 \(line 15 of task.toml\)"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(InputError, match=says):
        load(tmp_path, GOOD.replace(old, new))


@pytest.mark.parametrize("text", ["", "[task]\n", "x = 1\n", b"\xff\xfe"])
def test_files_that_are_nothing_of_the_kind(tmp_path: Path, text: Any) -> None:
    with pytest.raises(InputError, match=r"missing|unknown field|not UTF-8"):
        load(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.toml"):
        with pytest.raises(InputError, match="no task file"):
            LabelSpec.load(path)


@pytest.mark.parametrize(
    "overrides",
    [
        "[overrides.token_prices.'local/m']\ninput_usd_per_mtok = 1\n",
        "[overrides.token_prices.'local/m']\ninput_usd_per_mtok = -1\noutput_usd_per_mtok = 1\n",
        "[overrides.prices.'local/m']\ninput_usd_per_mtok = 1\n",
        "[overrides]\ntoken_prices = 3\n",
    ],
)
def test_prices_that_cannot_be_right(tmp_path: Path, overrides: str) -> None:
    with pytest.raises(DistillcalcError):
        load(tmp_path, GOOD + overrides).catalog()


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "tok.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "deep")
    text = GOOD.replace("rows.jsonl", "sub/rows.csv") + 'tokenizer = "tok.json"\n'
    spec = load(tmp_path, text)
    assert spec.inputs.file == str(tmp_path / "sub" / "rows.csv")
    assert spec.labelling.tokenizer == str(tmp_path / "tok.json")
    assert load(tmp_path, GOOD.replace("rows.jsonl", "/data/rows.csv")).inputs.file == "/data/rows.csv"
    assert load(tmp_path, GOOD + 'tokenizer = "o200k_base"\n').labelling.tokenizer == "o200k_base"


def test_the_use_of_the_file_is_that_of_the_task(tmp_path: Path) -> None:
    spec = load(tmp_path, GOOD + '[use]\nkind = "classifier"\n')
    assert spec.task.use.kind == "classifier"


def test_a_plan_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "hi"}\n')
    price = '[overrides.token_prices."local/m"]\ninput_usd_per_mtok = 1\noutput_usd_per_mtok = 1\n'
    found = load(tmp_path, GOOD + "concurrency = 3\n" + price).plan()
    assert (found.rows_used, found.concurrency, found.rows.name) == (1, 3, "rows.jsonl")
    with pytest.raises(DistillcalcError, match="no token price known for local/m"):
        load(tmp_path, GOOD).plan()
