"""From answers to a training set, through the server, the filters and the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distillcalc.distill.recipe import Filters, prepare
from distillcalc.distill.rows import Rows
from distillcalc.errors import InputError
from tests.distill.making_runs import TASK, run, teacher
from tests.distill.server import running

TEXTS = [
    "Where is the card that I ordered three weeks ago?",
    "where is the card that i ordered three weeks ago",  # the first again
    "How do I change the address on my account?",
    "My brother wants to open an account with you, can he?",
    "Is there a fee for taking money out in Japan?",
    "The machine kept my card and I am abroad until May",
]


def labelled(tmp_path: Path, answer: Any, **settings: Any) -> Any:
    found = Rows([{"text": text, "truth": "yes"} for text in TEXTS], human_label="truth")
    with running(answer=answer) as server:
        return run(server, tmp_path, rows=found, teacher=teacher(server, **settings)).dataset()


def test_filters_run_in_order_and_each_says_what_it_removed(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> str:
        return "perhaps" if "brother" in body["messages"][-1]["content"] else "yes"

    (tmp_path / "eval.jsonl").write_text(json.dumps({"text": "Is there a fee for taking money out in Japan?"}) + "\n")
    dataset = labelled(tmp_path, answer)
    made = prepare(dataset, TASK, Filters(evaluation="eval.jsonl"), folder=tmp_path, shares={})
    removed = {report.name: report.read - report.kept for report in made.reports}
    assert removed == {
        "valid": 1, "no_refusals": 0, "length": 0, "exact_duplicates": 0, "near_duplicates": 1, "decontaminated": 1,
    }  # fmt: skip
    assert [record.id for record in made.records] == ["1", "3", "6"]
    assert made.reports[0].removed[0].id == "4"
    assert "not one of the labels" in str(made)
    assert made.card["records"]["total"] == 3
    assert [f["name"] for f in made.card["filters"]] == list(removed)
    assert made.card["terms"][0]["id"] == "ours"


def test_samples_are_voted_on_before_invalid_ones_are_thrown_out(tmp_path: Path) -> None:
    replies = iter(["yes", "perhaps", "perhaps", "no"] * 6)
    dataset = labelled(tmp_path, lambda body: next(replies), samples=4, one_call=True, temperature=1.0)
    assert len(dataset) == 24
    made = prepare(dataset, TASK, Filters(consistency=0.5), shares={})
    # A yes and a no of four: neither has half of the votes, and two of four are no answer at all.
    assert made.reports[0].name == "self_consistency"
    assert made.records == ()


def test_the_training_files_are_written_with_card_and_reports(tmp_path: Path) -> None:
    dataset = labelled(tmp_path, lambda body: "yes")
    made = prepare(dataset, TASK, shares={"train": 0.5, "test": 0.5})
    written = made.save(tmp_path / "out", system="Sort it.", prompt="{text}")
    assert sum(written.rows.values()) == 5
    rows = [json.loads(line) for file in written.files.values() for line in file.read_text().splitlines()]
    assert all([m["role"] for m in row["messages"]] == ["system", "user", "assistant"] for row in rows)
    assert {row["messages"][0]["content"] for row in rows} == {"Sort it."}
    assert "mail" in (tmp_path / "out" / "README.md").read_text()
    assert json.loads((tmp_path / "out" / "filters.json").read_text())["kept"] == 5
    with pytest.raises(InputError):
        made.save(tmp_path / "out")  # nothing is overwritten unasked
    made.save(tmp_path / "out", overwrite=True)


def test_bad_filters_and_files_say_what_would_be_right(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="easy = false needs student_answers"):
        Filters(easy=False)
    dataset = labelled(tmp_path, lambda body: "yes")
    for file, said in (("none.jsonl", "no file of a student's answers"), ("bad.jsonl", "line 1 is not")):
        (tmp_path / "bad.jsonl").write_text("[]\n")
        with pytest.raises(InputError, match=said):
            prepare(dataset, TASK, Filters(student_answers=file), folder=tmp_path)
    with pytest.raises(InputError, match="exported as"):
        prepare(dataset, TASK, shares={}).save(tmp_path / "x", format="xml")  # type: ignore[arg-type]


def test_what_the_student_gets_right_and_the_teacher_wrong_goes(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> str:
        return "no" if "Japan" in body["messages"][-1]["content"] else "yes"

    dataset = labelled(tmp_path, answer)
    lines = [json.dumps({"id": str(i), "answer": "yes"}) for i in range(1, 7)]
    (tmp_path / "student.jsonl").write_text("\n".join(lines))
    made = prepare(dataset, TASK, Filters(student_answers="student.jsonl"), folder=tmp_path, shares={})
    assert [record.id for record in made.records] == ["1", "3", "4", "6"]
