"""Inputs that the teacher writes: what repeats is counted and left out, what came is measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from distillcalc.distill.rows import Rows
from distillcalc.distill.synthetic import save_inputs, synthesise
from distillcalc.distill.task import Task
from distillcalc.errors import InputError
from tests.distill.making_runs import CATALOG, TASK, teacher
from tests.distill.server import running

SEEDS = Rows(
    [
        {"text": "Where is the card that I ordered three weeks ago?", "truth": "yes"},
        {"text": "How do I change the address on my account?", "truth": "no"},
        {"text": "My card has not come by post, what can I do?", "truth": "yes"},
    ],
    human_label="truth",
)


def options(tmp_path: Path) -> dict[str, Any]:
    return {"budget_usd": 1, "catalog": CATALOG, "runs": tmp_path / "runs", "probe": 0}


def test_new_inputs_are_kept_and_repeats_are_counted(tmp_path: Path) -> None:
    lists = iter(
        [
            ["The post has brought no card to my new flat yet.", "Where is the card that I ordered three weeks ago?!"],
            ["Can I take money out abroad without a fee?", "Can I take money out abroad without a fee!"],
        ]
    )
    with running(answer=lambda body: json.dumps(next(lists))) as server:
        who = teacher(server, temperature=None, max_output_tokens=200)
        made = synthesise(TASK, who, SEEDS, count=4, per_call=2, concurrency=1, **options(tmp_path))
        bodies = [served.body for served in server.served]
    assert made.texts == (
        "The post has brought no card to my new flat yet.", "Can I take money out abroad without a fee?",
    )  # fmt: skip
    assert made.of == ("yes", "no")
    assert (made.written, made.repeats_of_seeds, made.repeats, made.unusable) == (4, 1, 1, 0)
    assert made.run.spent_usd > 0
    assert made.diversity.against is not None
    assert [body["temperature"] for body in bodies] == [1.0, 1.0]
    shown = [body["messages"][-1]["content"] for body in bodies]
    assert 'belong to "yes"' in shown[0]
    assert "ordered three weeks ago" in shown[0]
    assert "change the address" not in shown[0]  # seeds of its own label
    assert "Write 2 new inputs" in shown[0]
    (first, second) = save_inputs(made, tmp_path / "new.jsonl").read_text().splitlines()
    assert json.loads(first) == {"id": "synthetic-0", "text": made.texts[0], "asked_for": "yes"}
    assert Rows(tmp_path / "new.jsonl", id="id")
    assert json.loads(second)["asked_for"] == "no"
    assert "2 kept, 1 repeat a seed, 1 an earlier one" in str(made)


def test_answers_that_are_no_list_are_counted_and_none_at_all_is_told(tmp_path: Path) -> None:
    lists = iter(["Sure! Here they are", '["A question about a loan for a car"]'])
    with running(answer=lambda body: next(lists)) as server:
        made = synthesise(
            Task(name="free"), teacher(server, max_output_tokens=99), SEEDS, count=2, per_call=1, concurrency=1,
            accept_unclear_terms=True, **options(tmp_path),
        )  # fmt: skip
        assert (made.written, made.unusable) == (1, 1)
        assert made.of == (None,)
    with running(answer=lambda body: "no") as server, pytest.raises(InputError, match="wrote no usable input"):
        synthesise(
            Task(name="free"), teacher(server, max_output_tokens=99), SEEDS, count=1, accept_unclear_terms=True,
            **options(tmp_path / "other"),
        )  # fmt: skip


def test_a_prompt_with_several_fields_is_refused(tmp_path: Path) -> None:
    with running() as server, pytest.raises(InputError, match=re.escape("one field. This one has a, b")):
        synthesise(Task(prompt="{a} {b}"), teacher(server), SEEDS, count=1, **options(tmp_path))
