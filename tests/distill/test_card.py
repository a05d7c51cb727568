"""The card says what a dataset is, and no text of others becomes markup in it."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from distillcalc.distill.card import dataset_card
from distillcalc.distill.card_markdown import card_markdown, fenced, plain, yaml_text
from distillcalc.distill.filtered import FilterReport, Removal
from distillcalc.distill.records import Origin, Record
from distillcalc.distill.task import Task
from distillcalc.errors import InputError

TASK = Task(name="mood", prompt="Mood of: {text}", system="Be brief.", labels=("good", "bad", "neither"))
TERM = {
    "id": "openai-api", "says": "No competing models.", "requirements": "Keep it private.",
    "source": "OpenAI Services Agreement", "checked": date(2026, 10, 8), "verdict": "pass",
}  # fmt: skip


def record(number: int, value: str = "good", at: str = "2026-11-20T10:00:00Z", **changes: Any) -> Record:
    origin = Origin(
        run="r", call=str(number), teacher="openai/gpt-4.1", version="gpt-4.1-2025-04-14", host="api.openai.com",
        temperature=0.0, max_output_tokens=16, input_tokens=100, output_tokens=4, choices=2, usd="0.01", at=at,
    )  # fmt: skip
    given = {
        "id": f"i{number // 2}", "sample": number % 2, "input": {"text": "t"}, "answer": value, "value": value,
        "messages": ({"role": "user", "content": "t"},), "origin": origin,
    }  # fmt: skip
    return Record(**{**given, **changes})


RECORDS = [
    record(0, human_label="good"),
    record(1, at="2026-11-19T10:00:00Z", human_label="bad"),
    record(2, "bad", at="2026-11-21T10:00:00Z", reasoning="so", human_label="bad"),
    record(3, problems=("not a label",)),
]


def test_a_card_counts_what_the_records_hold() -> None:
    card = dataset_card(iter(RECORDS), task=TASK, forecast_usd=Decimal("0.05"), actual_usd=0.04)
    assert card["name"] == "mood"
    assert card["records"] == {
        "total": 4, "inputs": 2, "valid": 3, "with_reasoning": 1, "with_logprobs": 0, "finish_reasons": {"stop": 4},
    }  # fmt: skip
    assert card["classes"] == {"good": 2, "bad": 1, "neither": 0}
    assert (card["from"], card["to"]) == ("2026-11-19T10:00:00Z", "2026-11-21T10:00:00Z")
    assert card["teachers"] == [
        {"teacher": "openai/gpt-4.1", "version": "gpt-4.1-2025-04-14", "host": "api.openai.com",
         "processing": "standard", "records": 4}
    ]  # fmt: skip
    assert card["sampling"][0]["temperature"] == 0.0
    # two choices share a call: 4 x 100 / 2 and 4 x 0.01 / 2
    assert card["tokens"] == {"input": 200, "cached": 0, "output": 8, "reasoning": 0}
    assert card["spend"] == {"forecast_usd": 0.05, "actual_usd": 0.04, "of_these_records_usd": 0.02}
    assert card["human_agreement"] == {"judged": 3, "right": 2, "share": 2 / 3}
    json.dumps(card, allow_nan=False)


def test_a_page_says_it_all() -> None:
    class Filter:
        def to_dict(self) -> dict[str, Any]:
            return {"filter": "duplicates", "removed": 3}

    card = dataset_card(
        {"train": RECORDS[:3], "test": iter(RECORDS[3:])},
        task=TASK,
        name="Moods",
        description="Moods of texts.",
        filters=[Filter(), {"filter": "length"}],
        forecast_usd=12.5,
        terms=[TERM],
        limits=["English only."],
        licence="cc-by-4.0",
        redacted={"email": 1_200},
    )
    assert card["splits"] == {"train": 3, "test": 1}
    assert card["terms"][0]["checked"] == "2026-10-08"
    page = card_markdown(card)
    front = yaml.safe_load(page.split("---\n")[1])
    assert front == {
        "pretty_name": "Moods",
        "license": "cc-by-4.0",
        "task_categories": ["text-classification"],
        "size_categories": ["n<1K"],
        "tags": ["distillcalc", "synthetic"],
    }
    for words in (
        "# Moods\n\nMoods of texts.",
        "| records | 4 answers to 2 inputs, 3 valid |",
        "| forecast spend | 12.50 USD |",
        "| masked before sending | email 1,200 |",
        "| good | 2 |",
        "| train | 3 |",
        '"removed": 3',
        "openai-api: **allowed**. No competing models. Required: Keep it private.",
        "checked 2026-10-08",
        "Of these records, people agreed with the teacher on 2 of 3 (66.7%).",
        "- English only.",
        "```\nMood of: {text}\n```",
    ):
        assert words in page


def test_filters_are_a_table_that_does_not_list_every_removal() -> None:
    removed = tuple(Removal(f"secret-{i}", 0, "no label | of the task") for i in range(3_000))
    report = FilterReport("near_duplicates", {"threshold": 0.8, "most": None}, 4_000, 1_000, removed, {"pairs": 1_234})
    page = card_markdown(dataset_card([], task=Task(prompt="{text}"), filters=[report]))
    assert "| near duplicates | threshold: 0.8 | 4,000 | 1,000 |" in page
    assert "- near duplicates: 3,000 x no label \\| of the task" in page
    assert "- near duplicates: pairs: 1,234" in page
    assert "secret-" not in page
    assert "json" not in page


def test_small_spends_are_not_rounded_to_nothing() -> None:
    page = card_markdown(dataset_card([], task=Task(prompt="{text}"), forecast_usd=0.0058, actual_usd=0.0036))
    assert "| forecast spend | 0.0058 USD |" in page
    assert "| actual spend | 0.0036 USD |" in page


def test_an_empty_dataset_has_a_card() -> None:
    card = dataset_card([], task=Task(prompt="{text}"))
    assert card["records"]["total"] == 0
    assert (card["from"], card["classes"], card["splits"], card["terms"]) == (None, {}, {}, [])
    page = card_markdown(card)
    assert "No records." in page
    assert "None are known." in page
    assert "None is stated." in page
    assert yaml.safe_load(page.split("---\n")[1])["license"] == "other"


def test_a_term_without_a_source_is_refused() -> None:
    with pytest.raises(InputError, match="openai-api has no source, checked"):
        dataset_card([], task=TASK, terms=[{k: v for k, v in TERM.items() if k not in ("source", "checked")}])


def test_texts_of_others_do_not_become_markup() -> None:
    hostile = "x | y\n# <img src=a onerror=b> [a](javascript:b) `c` **d** ---\nlicense: mit\n1. https://e.example www.e"
    task = Task(prompt="{text}\n```\n# out", labels=(hostile, "b"), system="````")
    card = dataset_card([record(0, hostile)], task=task, name=hostile, licence=hostile, limits=[hostile])
    page = card_markdown(card)
    front, body = page.split("\n---\n", 1)
    assert yaml.safe_load(front.removeprefix("---\n"))["pretty_name"] == hostile
    assert yaml.safe_load(front.removeprefix("---\n"))["license"] == "other"
    assert "<img" not in body
    assert "[a](" not in body
    assert "https://" not in body
    assert [line for line in body.split("\n") if line.startswith("# ")][1:] == ["# out"]  # in its code block
    row = next(line for line in body.split("\n") if line.startswith("| x "))
    assert row.replace("\\|", "").count("|") == 3
    assert "````\n{text}\n```\n# out\n````" in body
    assert "`````\n````\n`````" in body


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("gpt-4.1 (2025-04-14)", "gpt-4.1 (2025-04-14)"),
        ("- a", "\\- a"),
        ("100. a", "100\\. a"),
        ("12.50 USD", "12.50 USD"),
        ("_a_b|c*d_", "\\_a_b\\|c\\*d\\_"),
        ("<b> & \u202ec\r\nd", "&lt;b&gt; &amp; c d"),
        ("http://x", "http:/\\/x"),
    ],
)
def test_markup_is_escaped_and_the_rest_left_as_it_is(text: str, shown: str) -> None:
    assert plain(text) == shown


@given(st.text())
def test_any_text_stays_one_line(text: str) -> None:
    shown = plain(text)
    assert len(shown.splitlines()) <= 1
    assert "<" not in shown
    assert "|" not in shown.replace("\\|", "").replace("\\\\", "")


@given(st.text())
def test_any_text_is_the_same_in_yaml(text: str) -> None:
    assert yaml.safe_load(f"a: {yaml_text(text)}\nb: 1") == {"a": text, "b": 1}


@given(st.text())
def test_a_code_block_ends_where_it_should(text: str) -> None:
    lines = fenced(text).split("\n")
    assert lines[0] == lines[-1]
    assert not any(line.strip().startswith(lines[0]) for line in lines[1:-1])
