"""What a teacher's message says, however odd the server that sent it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillcalc.distill.answers import Parsed, folded, parse, whole_text
from distillcalc.distill.task import Task

TEXT = Task()
LABELS = Task(labels=("billing", "not-billing", "Other stuff"))
SHOWN = Task(reasoning="visible")
JSON = Task(
    output_schema={
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/n"}},
        "required": ["a"],
        "$defs": {"n": {"type": "number"}},
    }
)


def said(content: Any, task: Task = TEXT, finish: str = "stop", **fields: Any) -> Parsed:
    return parse({"content": content, **fields}, finish, task)


@pytest.mark.parametrize(
    "content",
    ["billing", " Billing.\n", "**billing**", '"BILLING"', "`billing`", "“billing”", "\u2018billing’",
     "<think>a</think>billing"],
)  # fmt: skip
def test_a_label_however_it_is_dressed(content: str) -> None:
    found = said(content, LABELS)
    assert (found.answer, found.value, found.problems) == ("billing", "billing", ())


def test_spaces_hyphens_and_underscores_are_alike() -> None:
    assert said("not_billing", LABELS).value == "not-billing"
    assert said("OTHER-STUFF", LABELS).value == "Other stuff"


@pytest.mark.parametrize("content", ["billing, I think", "bill", "billing other stuff", "...", "<b>billing</b>"])
def test_what_is_no_label_is_told(content: str) -> None:
    found = said(content, LABELS)
    assert found.value is None
    assert found.answer == content
    assert found.problems[0].startswith("not one of the labels: ")


def test_labels_that_fold_to_the_same_are_told_apart_by_their_spelling() -> None:
    task = Task(labels=("re-open", "re open", "closed"))
    assert said("Re-open", task).value == "re-open"
    assert said("re open", task).value == "re open"
    assert said("re_open", task).value is None  # which one?
    assert said("Closed.", task).value == "closed"


def test_labels_of_marks_alone() -> None:
    stars = Task(labels=("*", "**", "***"))
    assert [said(s, stars).value for s in ("*", "**", "***", "****")] == ["*", "**", "***", None]


def test_a_label_in_another_normal_form() -> None:
    assert said("cafe\u0301", Task(labels=("café", "bar"))).value == "café"


@given(labels=st.lists(st.text(min_size=1, max_size=6), min_size=2, max_size=6))
def test_every_label_is_understood_as_itself(labels: list[str]) -> None:
    keys = {label.strip().casefold() for label in labels}
    if "" in keys or len(keys) < len(labels):
        return
    task = Task(labels=tuple(labels))
    for label in labels:
        assert said(label, task).value == label


@given(st.text(max_size=30))
def test_folding_twice_is_folding_once_for_labels_of_letters(text: str) -> None:
    letters = "".join(c for c in text if c.isascii() and c.isalnum())
    assert folded(folded(letters)) == folded(letters) == letters.casefold()


@pytest.mark.parametrize(
    ("content", "reasoning", "answer"),
    [
        ("<think>a b</think>\n\nyes", "a b", "yes"),
        ("\n<THINK>\na\n</THINK>yes", "a", "yes"),
        ("<thinking>a</thinking>yes", "a", "yes"),
        ("<reasoning>a</reasoning>yes", "a", "yes"),
        ("a\n</think>\nyes", "a", "yes"),  # the template opened the block
        ("<think></think>yes", None, "yes"),
        ("yes", None, "yes"),
        ("<thinker>yes", None, "<thinker>yes"),
    ],
)
def test_thoughts_are_kept_apart(content: str, reasoning: str | None, answer: str) -> None:
    found = said(content)
    assert (found.reasoning, found.answer, found.problems) == (reasoning, answer, ())


def test_thoughts_that_were_not_finished() -> None:
    found = said("<think>on and on", finish="length")
    assert (found.answer, found.problems) == ("", ("the chain of thought was not finished",))
    assert found.reasoning == "<think>on and on"
    assert said("<think>all</think>  ").problems == ("empty answer",)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thoughts_in_a_field_of_their_own(name: str) -> None:
    assert said("yes", **{name: "hm"}).reasoning == "hm"
    assert said("<think>b</think>yes", **{name: "a"}).reasoning == "a\nb"
    empty = said("", **{name: "hm"})
    assert (empty.answer, empty.reasoning, empty.problems) == ("", "hm", ("empty answer",))
    assert said(None, finish="length", **{name: "hm"}).problems == ("empty answer (it ran out of tokens)",)
    assert said("yes", **{name: {"odd": 1}}).reasoning is None


@pytest.mark.parametrize(
    ("content", "answer", "reasoning"),
    [
        ("So.\nAnswer: 4", "4", "So."),
        ("Answer: 3? No.\nANSWER: 4", "4", "Answer: 3? No."),
        ("So.\n**Answer:** 4", "4", "So."),
        ("So.\n**Answer: 4**", "4**", "So.\n**"),
        ("İİİİ İstanbul.\nAnswer: 4", "4", "İİİİ İstanbul."),  # lower-cased, each İ is two characters
        ("<think>a</think>So. Answer: 4", "4", "a\nSo."),
    ],
)
def test_what_stands_after_the_marker_is_the_answer(content: str, answer: str, reasoning: str) -> None:
    found = said(content, SHOWN)
    assert (found.answer, found.reasoning, found.problems) == (answer, reasoning, ())


def test_a_marker_that_is_not_there_or_at_the_end() -> None:
    assert said("It is 4", SHOWN).problems == ("no 'Answer:' before an answer",)
    assert said("It is 4. Answer:", SHOWN).problems == ("empty answer",)


@pytest.mark.parametrize(
    "content", ['{"a": 1}', '```json\n{"a": 1}\n```', '```\n{"a": 1}\n```', ' ```JSON\n\n{"a": 1}```\n']
)
def test_json_in_a_fence_or_not(content: str) -> None:
    assert said(content, JSON).value == {"a": 1}
    assert said(content, JSON).problems == ()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"a": ', "not JSON: Expecting value at character 5"),
        ('Here: {"a": 1}', "not JSON: Expecting value at character 0"),
        ('{"a": "x"}', "does not fit the schema: a: 'x' is not of type 'number'"),
        ("{}", "does not fit the schema: the answer: 'a' is a required property"),
        ('{"a": NaN}', "not JSON: NaN is no number of JSON"),
        ('{"a": -Infinity}', "not JSON: -Infinity is no number of JSON"),
        ('{"a": 1e999}', "not JSON: 1e999 is no number of JSON"),
        ('{"a": ' + "1" * 5_000 + "}", "not JSON: Exceeds the limit"),
        ("[" * 100_000, "not JSON: nested too deep"),
        ('{"a": 1, "b": "\\ud83d"}', "not JSON: half of a character (a lone surrogate)"),
    ],
)
def test_json_that_cannot_be_used(content: str, problem: str) -> None:
    found = said(content, JSON)
    assert found.value is None
    assert found.problems[0].startswith(problem)


def test_a_schema_that_goes_round_in_circles() -> None:
    assert said("1", Task(output_schema={"$ref": "#"})).problems == (
        "does not fit the schema: nested too deep to be checked",
    )


def test_answers_that_are_no_answers() -> None:
    assert said(None, refusal="No.") == Parsed("No.", None, None, ("refused",))
    assert said("a", finish="content_filter").problems == ("stopped by a content filter",)
    assert said("billing", LABELS, finish="length").problems == ("cut off at the most tokens",)
    for content in (None, "", " \n", 3, {}, [], [None, 1], [{"text": None}]):
        assert said(content).problems == ("empty answer",)
    assert parse({}, "stop", TEXT).problems == ("empty answer",)


def test_content_in_parts() -> None:
    parts = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "bil"}, "odd", {"text": "ling"}]
    assert said(parts, LABELS).value == "billing"


def test_halves_of_characters_can_be_written_to_a_file() -> None:
    found = said("cut \ud83d", reasoning_content="\udc00")
    assert (found.answer, found.reasoning) == ("cut \ufffd", "\ufffd")
    assert whole_text("ok \ud83d\ude00 é") == "ok 😀 é"


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(exclude_categories=()))),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["text", "a"]), inner)),
    max_leaves=5,
)


@given(
    message=st.dictionaries(st.sampled_from(["content", "reasoning_content", "reasoning", "refusal"]), anything),
    task=st.sampled_from([TEXT, LABELS, SHOWN, JSON]),
    finish=st.sampled_from(["stop", "length", "content_filter", "odd"]),
)
def test_no_message_stops_the_reading(message: dict[str, Any], task: Task, finish: str) -> None:
    found = parse(message, finish, task)
    told = [found.answer, found.value, found.reasoning, found.problems]
    json.dumps(told, ensure_ascii=False, allow_nan=False).encode()
