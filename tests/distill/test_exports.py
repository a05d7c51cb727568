"""What is exported is read back by those it is for, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillcalc.distill.exports import export, training_messages
from distillcalc.distill.exports_csv import safe_cell
from distillcalc.distill.records import Dataset, Origin, Record, card_file
from distillcalc.distill.training_file import check_training_file
from distillcalc.errors import InputError, UnknownName


def record(number: int = 0, **changes: Any) -> Record:
    given = {
        "id": f"r{number}",
        "input": {"text": f"Text {number}"},
        "messages": (
            {"role": "system", "content": "A long system prompt."},
            {"role": "user", "content": "Example"},
            {"role": "assistant", "content": "yes"},
            {"role": "user", "content": f"Classify: Text {number}"},
        ),
        "answer": "yes",
        "value": "yes",
        "reasoning": "It is so.",
        "origin": Origin(
            run="run", call=f"c{number}", teacher="openai/gpt-4.1", version="gpt-4.1-2025-04-14", usd="0.003",
            choices=2, host="api.openai.com", input_tokens=40, output_tokens=2,
        ),
    }  # fmt: skip
    return Record(**{**given, **changes})


def records(count: int) -> tuple[Record, ...]:
    return tuple(record(n) for n in range(count))


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


def test_a_training_file_is_what_the_teacher_was_asked_and_said(tmp_path: Path) -> None:
    done = export(records(10), tmp_path / "out" / "a.jsonl", "openai")
    assert done.files == {"all": tmp_path / "out" / "a.jsonl"}
    assert (done.rows, done.left_out) == ({"all": 10}, {"all": 0})
    first = read(done.files["all"])[0]
    assert first == {"messages": [*record().messages, {"role": "assistant", "content": "yes"}]}
    report = check_training_file(done.files["all"])
    assert (report.ok, report.warnings) == (True, ())


@pytest.mark.parametrize(
    ("options", "prompt"),
    [
        ({"system": "Short."}, [("system", "Short."), *((m["role"], m["content"]) for m in record().messages[1:])]),
        ({"system": "", "prompt": "{text}"}, [("user", "Text 0")]),
        ({"prompt": "Say: {text}"}, [("system", "A long system prompt."), ("user", "Say: Text 0")]),
        ({"system": "S", "prompt": "{text}"}, [("system", "S"), ("user", "Text 0")]),
        ({"student_prompt": lambda r: [{"role": "user", "content": r.id}]}, [("user", "r0")]),
    ],
)
def test_the_student_may_be_asked_in_another_way(options: dict[str, Any], prompt: list[tuple[str, str]]) -> None:
    messages, answer = training_messages(record(), **options)
    assert [(m["role"], m["content"]) for m in messages] == prompt
    assert answer == {"role": "assistant", "content": "yes"}


def test_reasoning_stands_before_the_answer_where_asked_for() -> None:
    assert training_messages(record(), reasoning="inline")[1]["content"] == "<think>\nIt is so.\n</think>\n\nyes"
    assert training_messages(record(reasoning=None), reasoning="inline")[1]["content"] == "yes"
    braces = record(reasoning="{x} {answer}", answer="{y}")
    assert training_messages(braces, reasoning="inline")[1]["content"] == "<think>\n{x} {answer}\n</think>\n\n{y}"


def test_records_with_problems_are_left_out_and_counted(tmp_path: Path) -> None:
    mixed = [record(0), record(1, problems=("not a label",))]
    done = export(mixed, tmp_path / "a.jsonl", "openai")
    assert (done.rows, done.left_out) == ({"all": 1}, {"all": 1})
    done = export(mixed, tmp_path / "b.csv", keep_invalid=True)
    assert (done.rows, done.left_out) == ({"all": 2}, {"all": 0})
    with pytest.raises(InputError, match="nothing to export: 1 records, all have problems"):
        export(mixed[1:], tmp_path / "c.csv")
    with pytest.raises(InputError, match="nothing to export: 0 records"):
        export([], tmp_path / "c.csv")
    assert not (tmp_path / "c.csv").exists()


def test_odd_characters_keep_to_their_line(tmp_path: Path) -> None:
    odd = 'line\u2028two\u0085three\nfour "five" 😀 \x00'
    file = export([record(answer=odd)], tmp_path / "a.jsonl", "openai").files["all"]
    assert len(file.read_text(encoding="utf-8").splitlines()) == 1
    assert read(file)[0]["messages"][-1]["content"] == odd


def test_splits_lie_side_by_side(tmp_path: Path) -> None:
    splits = {"train": records(3), "validation": records(1), "test": ()}
    done = export(splits, tmp_path / "a.jsonl", "openai")
    assert {split: file.name for split, file in done.files.items()} == {
        "train": "a.train.jsonl",
        "validation": "a.validation.jsonl",
        "test": "a.test.jsonl",
    }
    assert [len(read(file)) for file in done.files.values()] == [3, 1, 0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.test.jsonl", "a.train.jsonl", "a.validation.jsonl"]
    with pytest.raises(InputError, match="a split is named in letters"):
        export({"../train": records(1)}, tmp_path / "b.jsonl", "openai")


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl"])
def test_whole_datasets_pass_through(tmp_path: Path, name: str) -> None:
    dataset = Dataset(records(3), {"name": "mine"})
    done = export(dataset, tmp_path / name, "parquet" if "parquet" in name else "jsonl")
    assert Dataset.load(done.files["all"]) == dataset
    assert card_file(done.files["all"]).is_file()
    with pytest.raises(InputError, match="holds records as they are"):
        export(dataset, tmp_path / ("b" + name[1:]), "parquet" if "parquet" in name else "jsonl", system="S")


def test_a_hugging_face_dataset_is_loaded_back_equal(tmp_path: Path) -> None:
    import datasets

    done = export(records(3), tmp_path / "hf", "huggingface", system="S", prompt="{text}")
    loaded = datasets.load_from_disk(str(done.files["all"]))
    prompt = [{"role": "system", "content": "S"}, {"role": "user", "content": "Text 1"}]
    completion = [{"role": "assistant", "content": "yes"}]
    assert loaded[1] == {
        "id": "r1", "sample": 0, "messages": prompt + completion, "prompt": prompt, "completion": completion,
        "answer": "yes", "reasoning": "It is so.", "label": "yes", "human_label": None, "input": '{"text": "Text 1"}',
        "problems": "", "finish_reason": "stop", "teacher": "openai/gpt-4.1", "host": "api.openai.com",
        "version": "gpt-4.1-2025-04-14", "at": "", "usd": 0.0015, "input_tokens": 40, "output_tokens": 2,
        "reasoning_tokens": 0,
    }  # fmt: skip
    assert len(loaded) == 3
    again = export({"train": records(2), "test": ()}, tmp_path / "hf", "huggingface", overwrite=True)
    both = datasets.load_from_disk(str(again.files["train"]))
    assert {split: len(rows) for split, rows in both.items()} == {"train": 2}
    assert both["train"].features == loaded.features
    assert [p.name for p in tmp_path.iterdir()] == ["hf"]


def test_a_folder_with_other_things_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "a.x.csv").mkdir()
    (tmp_path / "hf" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other things"):
        export(records(1), tmp_path / "hf", "huggingface", overwrite=True)
    with pytest.raises(InputError, match="is a folder"):
        export({"x": records(1)}, tmp_path / "a.csv", overwrite=True)
    assert (tmp_path / "hf" / "thesis.txt").read_text() == "mine"


def test_what_is_there_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("mine")
    with pytest.raises(InputError, match=r"is there already. Give another path, or replace it: overwrite=True"):
        export(records(1), file)
    assert file.read_text() == "mine"
    export(records(1), file, overwrite=True)
    assert len(pd.read_csv(file)) == 1


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("old")
    with pytest.raises(InputError, match="the student's prompt for record 'r0' is empty"):
        export(records(1), file, "openai", student_prompt=lambda r: [], overwrite=True)
    with pytest.raises(InputError, match=r"the prompt uses \{body\}"):
        export(records(1), file, "openai", prompt="{body}", overwrite=True)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_csv_is_read_back(tmp_path: Path) -> None:
    texts = ["=1+1", "+SUM(A1)", "-2+3", "@x", "\tx", "-5", "+1.5e3", 'a "b", c\nd\r\ne', "", "ü 😀", "'x", "007"]
    rows = [record(n, answer=text, input={"text": text, "n": -n, "tags": ["a"]}) for n, text in enumerate(texts)]
    file = export(rows, tmp_path / "a.csv").files["all"]
    table = pd.read_csv(file, dtype={"answer": str}, keep_default_na=False)
    assert table["answer"].tolist() == ["'=1+1", "'+SUM(A1)", "'-2+3", "'@x", "'\tx", *texts[5:]]
    assert table["input.n"].tolist() == [-n for n in range(len(texts))]
    assert table["input.tags"][0] == '["a"]'
    assert table["usd"][0] == 0.0015
    assert table["system"][0] == "A long system prompt."
    assert table["prompt"][3] == "Classify: Text 3"


@given(st.text())
def test_no_cell_is_a_formula(text: str) -> None:
    cell = safe_cell(text)
    assert cell in (text, "'" + text)
    if cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        float(cell)


@pytest.mark.parametrize(
    ("path", "options", "words"),
    [
        ("a", {}, "does not say in which format"),
        ("a.jsonl", {}, "may be openai or jsonl"),
        ("a.csv", {"format": "openai"}, r"ends in .jsonl. Got 'a.csv'"),
        ("a.csv", {"reasoning": "keep"}, "reasoning must be"),
        ("a.csv", {"prompt": "no field"}, "must use at least one field"),
        ("a.csv", {"system": "", "student_prompt": lambda r: []}, "not both"),
    ],
)
def test_options_that_cannot_be_right(tmp_path: Path, path: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        export(records(1), tmp_path / path, **options)
    with pytest.raises(UnknownName, match="unknown format 'hugging'"):
        export(records(1), tmp_path / path, "hugging")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
