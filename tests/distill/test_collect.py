"""From a journaled response to a record: whatever is in it was paid for, and must not be in the way of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillcalc.catalog import Catalog
from distillcalc.distill.collect import record
from distillcalc.distill.planning import LabelPlan, plan_labels
from distillcalc.distill.records import Record, line, read_records, write_records
from distillcalc.distill.rows import Rows
from distillcalc.distill.task import Task
from distillcalc.distill.teacher import Privacy, Teacher

CATALOG = Catalog.load().with_overrides(
    {"token_prices": {"local/m": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}}}
)


def planned(task: Task, privacy: Privacy | None = None, text: str = "hi", **teacher: Any) -> LabelPlan:
    asked = Teacher(model="local/m", base_url="http://localhost:1/v1", top_logprobs=2, **teacher)
    return plan_labels(task, asked, Rows([{"text": text}]), privacy=privacy, catalog=CATALOG)


def recorded(plan: LabelPlan, sample: int = 0, **body: Any) -> Record:
    ((_, row),) = plan.used_rows()
    tokens = dict.fromkeys(("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"), 0)
    entry = {"call": "0.0:0", "samples": [sample], "usd": "0", "tokens": tokens, "body": body}
    return record(plan, row, entry, sample, 0, "")


PLANS = [planned(Task()), planned(Task(labels=("a", "b"))), planned(Task(output_schema={}))]


@pytest.mark.parametrize("choice", [None, "yes", [], {}, {"message": None}, {"message": "yes"}, {"message": []}])
def test_a_choice_that_is_none_is_an_empty_answer(choice: Any) -> None:
    assert recorded(PLANS[0], choices=[choice]).problems == ("empty answer",)


def test_an_answer_with_half_a_character_is_written_and_read(tmp_path: Path) -> None:
    message = {"content": "cut \ud83d", "reasoning_content": "\udc00"}
    made = recorded(PLANS[0], choices=[{"message": message}], model="m\ud800", id="\ud800", system_fingerprint="\ud800")
    file = tmp_path / "d.jsonl"
    write_records([made], file)
    assert list(read_records(file)) == [made]
    assert (made.answer, made.origin.version) == ("cut \ufffd", "m\ufffd")


@pytest.mark.parametrize("content", ["NaN", "[Infinity]", "1e999", "-1e999", '"\\ud83d"'])
def test_json_that_no_file_can_hold_is_a_problem_and_not_a_value(tmp_path: Path, content: str) -> None:
    made = recorded(PLANS[2], choices=[{"message": {"content": content}}])
    assert made.value is None
    assert made.problems
    write_records([made], tmp_path / "d.jsonl")
    assert list(read_records(tmp_path / "d.jsonl")) == [made]


def test_what_was_masked_is_put_back() -> None:
    plan = planned(Task(), Privacy(redact=("email",)), text="write to jane.doe@example.com")
    made = recorded(plan, choices=[{"message": {"content": "To [EMAIL_1].", "reasoning": "[email_1]?"}}])
    assert (made.answer, made.reasoning) == ("To jane.doe@example.com.", "jane.doe@example.com?")
    assert made.messages[-1]["content"] == "write to jane.doe@example.com"


def test_the_seed_is_that_of_the_call() -> None:
    assert recorded(planned(Task(), seed=7, samples=3), sample=2, choices=[{}]).origin.seed == 9
    assert recorded(PLANS[0], choices=[{}]).origin.seed is None


words = st.sampled_from(
    ["message", "content", "reasoning", "refusal", "text", "logprobs", "token", "logprob", "top_logprobs", "model"]
)
anything = st.recursive(
    st.one_of(st.none(), st.integers(), st.floats(), st.text(st.characters(exclude_categories=()), max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner)),
    max_leaves=8,
)


@given(choice=anything, message=anything, logprobs=anything, name=anything, plan=st.sampled_from(PLANS))
def test_no_response_is_in_the_way_of_the_others(
    choice: Any, message: Any, logprobs: Any, name: Any, plan: LabelPlan
) -> None:
    whole = {"message": {"content": message}, "logprobs": {"content": [logprobs]}, "finish_reason": name}
    for odd in (choice, {"message": message, "logprobs": logprobs}, whole):
        made = recorded(plan, choices=[odd], model=name, id=name, system_fingerprint=name)
        assert Record.model_validate_json(line(made)) == made
