"""Rules before any score: what each holds for, in which words, and what is no rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillcalc.errors import InputError
from distillcalc.route.requests import Request
from distillcalc.route.rules import Language, Length, Nearest, Rules, Script, Topic, language_of, script_of

ENGLISH = "My card did not arrive, what should I do now?"
GERMAN = "Meine Karte ist nicht angekommen, was soll ich jetzt tun?"


def reason(rule: Any, text: str, **tools: Any) -> str | None:
    verdict = Rules(rules=(rule,)).first(Request(text), **tools)
    return verdict and verdict.reason


@pytest.mark.parametrize(
    ("rule", "holds", "says", "does_not"),
    [
        (Length(above=3), "one two  three four", "4 words are more than 3", "one two three"),
        (Length(below=2), "one", "1 words are fewer than 2", "one two"),
        (Length(unit="characters", above=3), "four", "4 characters are more than 3", "one"),
        (
            Topic(words=("credit card",), name="cards"),
            "my CREDIT\n card!",
            "of the topic cards",
            "credit cards, accredit card",
        ),
        (Topic(words=("c++",)), "is C++ fast?", "it has 'C++'", "c+ c#"),
        (Topic(patterns=(r"\bIBAN\b", r"\d{10,}")), "to 1234567890", "it has '1234567890'", "iban 12345"),
        (Script(), "где card", "3 of 7 letters are CYRILLIC", "Größe 100% — naïve"),
        (Script(allowed=("LATIN", "CJK"), share=0.5), "카드 x", "2 of 3 letters are HANGUL", "卡 abc"),
        (Language(allowed=("en", "fr")), GERMAN, "its language is 'de', not en, fr", ENGLISH),
        (Language(allowed=("en",), unknown=True), "12345", "cannot be told", ENGLISH),
        (Language(allowed=("en",)), GERMAN, "'de'", "12345"),
    ],
)
def test_what_each_holds_for(rule: Any, holds: str, says: str, does_not: str) -> None:
    found = reason(rule, holds)
    assert found is not None
    assert says in found
    assert reason(rule, does_not) is None


def test_the_first_that_holds_decides() -> None:
    rules = Rules(rules=(Topic(words=("hello",), then="student"), Length(above=2)))
    assert rules.first(Request("hello to all of you")) == ("student", "it has 'hello'")
    assert rules.first(Request("good day to you")) == ("teacher", "4 words are more than 2")
    assert rules.first(Request("good day")) is None
    assert rules
    assert not Rules()
    assert Rules().first(Request("x")) is None


class Letters:
    """An encoder whose vectors are counts of a, b and c."""

    name = "letters"
    asked = 0

    def embed(self, texts: Sequence[str]) -> Any:
        self.asked += len(texts)
        x = np.array([[text.count(letter) for letter in "abc"] for text in texts], dtype=np.float32)
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1)


def test_nearest_examples() -> None:
    encoder = Letters()
    rule = Nearest(examples={"a's": ("a", "aab"), "c's": ("c",)}, topics=("a's",), at_least=0.9)
    # aaab: cosines with a: 3/sqrt(10) = 0.949, with aab: (6 + 1)/sqrt(50) = 0.990, with c: 0
    assert reason(rule, "aaab", embedder=encoder) == "it is near 'aab' of the topic a's (cosine 0.99)"
    assert reason(rule, "ac", embedder=encoder) is None  # cosine with a: 0.71
    assert reason(rule, "ccca", embedder=encoder) is None  # nearer to c
    assert encoder.asked == 3 + 3  # examples once
    assert reason(rule, "", embedder=encoder) is None
    with pytest.raises(InputError, match="needs an encoder: embedder="):
        reason(rule, "aaab")


def test_tokens_need_a_function_that_counts_them() -> None:
    rule = Length(unit="tokens", above=2)
    assert reason(rule, "abcdefgh", count_tokens=lambda text: len(text) // 2) == "4 tokens are more than 2"
    with pytest.raises(InputError, match="count_tokens="):
        reason(rule, "abc")


def test_json_and_back() -> None:
    rules = Rules(
        rules=(
            Length(unit="tokens", above=500),
            Topic(words=("a",), patterns=("b+",), then="student"),
            Language(allowed=("en",)),
            Script(),
            Nearest(examples={"x": ("y",)}, topics=("x",)),
        )
    )
    again = Rules.model_validate_json(rules.model_dump_json())
    assert again == rules
    assert Rules.read(rules.model_dump(mode="json")) == rules
    assert again.first(Request("is it bbb?"), count_tokens=len) == ("student", "it has 'bbb'")


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"kind": "length"}, "needs above, below or both"),
        ({"kind": "length", "above": 3, "below": 9}, "holds for every request"),
        ({"kind": "length", "above": -1}, "greater than or equal to 0|at least 0|0 or"),
        ({"kind": "topic"}, "needs words or patterns"),
        ({"kind": "topic", "words": [" "]}, "must not be empty"),
        ({"kind": "topic", "patterns": ["("]}, "no regular expression"),
        ({"kind": "language", "allowed": ["English"]}, "ISO 639-1.*Got 'English'"),
        ({"kind": "nearest", "examples": {"a": []}, "topics": ["a"]}, "topic 'a' has no examples"),
        ({"kind": "weather"}, "length"),
        ({"kind": "script", "scripts": ["LATIN"]}, "scripts"),
    ],
)
def test_what_is_no_rule(rule: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Rules.read({"rules": [rule]})


@given(st.text(max_size=60), st.integers(0, 20))
def test_a_rule_on_length_splits_texts_in_two(text: str, words: int) -> None:
    longer = reason(Length(above=words), text) is not None
    shorter = reason(Length(below=words + 1), text) is not None
    assert longer != shorter


@given(st.text(max_size=30))
def test_any_text_has_an_answer(text: str) -> None:
    found = reason(Script(allowed=("LATIN",), share=0), text)
    assert (found is None) == all(script_of(letter) == "LATIN" for letter in text if letter.isalpha())
    language = language_of(text)
    assert language is None or len(language) == 2
