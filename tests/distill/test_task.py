"""What is asked: templates, labels, schemas, and the messages that come of them."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from distillcalc.distill.task import Example, Task, template_fields
from distillcalc.errors import InputError


def test_fields_stand_in_the_order_of_the_prompt_each_once() -> None:
    assert template_fields("{b} {a} {b}") == ("b", "a")


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("no field", "at least one field"),
        ("{", "not a template"),
        ("{text} }", "not a template"),
        ("{}", r"Got \{\}"),
        ("{text!r}", r"Got \{text!r\}"),
        ("{text:>10}", r"Got \{text:>10\}"),
        ("{{text}}", "at least one field"),
    ],
)
def test_a_prompt_that_is_no_template(prompt: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Task(prompt=prompt)


@given(text=st.text(max_size=50))
def test_a_row_stands_in_the_prompt_as_it_is(text: str) -> None:
    task = Task(prompt='{{"q": {text}}}')
    assert task.render({"text": text}) == '{"q": ' + text + "}"


def test_braces_and_names_in_a_row_are_not_expanded() -> None:
    assert Task(prompt="{a}").render({"a": "{b} {a.__class__} {", "b": "no"}) == "{b} {a.__class__} {"


@pytest.mark.parametrize(
    ("value", "sent"),
    [(3, "3"), (0.5, "0.5"), (True, "true"), (["ä", 1], '["ä", 1]'), ({"k": date(2026, 1, 2)}, '{"k": "2026-01-02"}')],
)
def test_what_is_no_text_is_sent_as_json(value: Any, sent: str) -> None:
    assert Task().render({"text": value}) == sent


def test_attributes_cannot_be_reached() -> None:
    with pytest.raises(InputError, match=r"uses \{text.__class__\}"):
        Task(prompt="{text.__class__}").render({"text": "a"})


def test_a_missing_field_names_the_near_one() -> None:
    with pytest.raises(InputError, match=r"Did you mean \{message\}"):
        Task(prompt="{mesage}").render({"message": "a", "id": 1})
    with pytest.raises(InputError, match="no fields"):
        Task().render({})


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (("a",), "at least 2"),
        (("a", " A "), "more than case and spaces"),
        (("straße", "STRASSE"), "more than case and spaces"),
        (("a", " "), "must not be empty"),
    ],
)
def test_labels_that_cannot_be_told_apart(labels: tuple[str, ...], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Task(labels=labels)


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "objekt"}, "not a JSON schema"),
        ({"type": "string", "pattern": "("}, "not a JSON schema"),
        ({"properties": {"a": {"$ref": "#/$defs/b"}}}, "'#/\\$defs/b', which is not inside it"),
        ({"properties": {"a": {"$ref": "https://example.com/s.json"}}}, "which is not inside it"),
        ({"items": [1]}, "not a JSON schema"),
        ({"const": date(2026, 1, 2)}, "plain JSON"),
        ({"maximum": float("inf")}, "plain JSON"),
    ],
)
def test_a_schema_that_would_cost_every_answer(schema: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Task(output_schema=schema)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}},
        {"$id": "https://example.com/mine", "$defs": {"a": {}}, "items": {"$ref": "#/$defs/a"}},
        {"properties": {"$ref": {"type": "string"}}},  # a property of that name
    ],
)
def test_a_schema_that_holds_what_it_refers_to(schema: dict[str, Any]) -> None:
    assert Task(output_schema=schema).kind == "json"


def test_one_kind_of_answer() -> None:
    with pytest.raises(ValidationError, match="not both"):
        Task(labels=("a", "b"), output_schema={})
    assert Task().kind == "text"
    assert Task(labels=("a", "b")).kind == "label"


def test_examples_must_fit() -> None:
    with pytest.raises(ValidationError, match="example 1 has no text"):
        Task(examples=(Example(input={"txt": "a"}, answer="b"),))
    with pytest.raises(ValidationError, match=r"one of the labels. Got 'c'"):
        Task(labels=("a", "b"), examples=(Example(input={"text": "x"}, answer="c"),))
    with pytest.raises(ValidationError, match="example 1 must be plain JSON"):
        Task(examples=(Example(input={"text": "x"}, answer={"day": date(2026, 1, 2)}),))


@pytest.mark.parametrize("name", ["", " a", "../up", "a/b", ".hidden", "x" * 101, "a\n"])
def test_a_name_is_that_of_a_folder(name: str) -> None:
    with pytest.raises(ValidationError):
        Task(name=name)


@pytest.mark.parametrize("marker", ["", " ", "\n"])
def test_a_marker_is_something_to_look_for(marker: str) -> None:
    with pytest.raises(ValidationError):
        Task(answer_marker=marker)


def test_the_whole_prompt() -> None:
    task = Task(
        prompt="Mail: {text}",
        system="You sort mail.",
        labels=("bill", "other"),
        examples=(Example(input={"text": "pay"}, answer="bill"),),
    )
    assert task.messages({"text": "hi"}) == (
        {
            "role": "system",
            "content": "You sort mail.\n\nThe answer is one of these labels, spelt exactly so: bill, other\n"
            "Write the label alone.",
        },
        {"role": "user", "content": "Mail: pay"},
        {"role": "assistant", "content": "bill"},
        {"role": "user", "content": "Mail: hi"},
    )


def test_a_visible_chain_of_thought_is_shown_in_the_examples() -> None:
    task = Task(
        reasoning="visible",
        instruction=False,
        examples=(
            Example(input={"text": "1+1"}, answer="2", reasoning="One more than one."),
            Example(input={"text": "0"}, answer="0"),
        ),
    )
    assert [m["content"] for m in task.head] == ["1+1", "One more than one.\nAnswer: 2", "0", "Answer: 0"]


def test_a_schema_and_an_answer_are_shown_as_a_person_writes_them() -> None:
    task = Task(output_schema={"enum": ["größer"]}, examples=(Example(input={"text": "x"}, answer={"wort": "größer"}),))
    system, _, assistant = (message["content"] for message in task.head)
    assert '{"enum": ["größer"]}' in system
    assert assistant == '{"wort": "größer"}'
    assert json.loads(assistant) == {"wort": "größer"}


def test_without_instruction_nothing_is_added() -> None:
    assert Task(labels=("a", "b"), instruction=False).head == ()
