"""Log-probabilities as servers send them, whole or not at all."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillcalc.distill.logprobs import LEAST, fingerprint, top_logprobs


def entry(token: str, p: float) -> dict[str, Any]:
    return {"token": token, "logprob": math.log(p) if p else -math.inf}


def choice(*places: dict[str, Any]) -> dict[str, Any]:
    return {"logprobs": {"content": list(places)}}


def test_tail_mass_is_what_the_listed_ones_leave() -> None:
    found = top_logprobs(
        choice(
            {**entry("yes", 0.5), "top_logprobs": [entry("yes", 0.5), entry("no", 0.3)]},  # 1 - 0.8
            {**entry("!", 0.1), "top_logprobs": [entry(".", 0.7)]},  # written, and not among the most likely: 1 - 0.8
            entry("?", 0.25),  # none asked for: 1 - 0.25
        ),
        "tok",
    )
    assert found is not None
    assert found.tokens == ("yes", "!", "?")
    assert found.tail_mass == pytest.approx((0.2, 0.2, 0.75))
    assert [[token for token, _ in place] for place in found.top] == [["yes", "no"], [".", "!"], ["?"]]
    assert found.tokenizer == "tok"


@pytest.mark.parametrize(
    "given",
    [
        {}, {"logprobs": None}, {"logprobs": {}}, {"logprobs": []}, {"logprobs": "no"},
        {"logprobs": {"content": None}}, {"logprobs": {"content": []}}, {"logprobs": {"content": {"a": 1}}},
        {"logprobs": {"tokens": ["a"], "token_logprobs": [-0.1]}},  # of another API
        choice({"token": "a"}), choice({"logprob": -0.1}), choice({"token": "a", "logprob": None}),
        choice({"token": None, "logprob": -0.1}), choice({"token": "a", "logprob": "x"}),
        {"logprobs": {"content": ["a", None]}}, choice(entry("a", 0.5), {"token": "b"}),
    ],
)  # fmt: skip
def test_what_is_not_whole_is_none(given: dict[str, Any]) -> None:
    assert top_logprobs(given, "tok") is None


def test_entries_that_are_not_whole_are_left_out() -> None:
    others = [entry("a", 0.5), {"token": "b"}, {"logprob": -1}, None, 3, {"token": "c", "logprob": None}]
    found = top_logprobs(choice({**entry("a", 0.5), "top_logprobs": others}), "tok")
    assert found is not None
    assert found.top == ((("a", math.log(0.5)),),)
    assert found.tail_mass == (0.5,)


def test_a_probability_of_zero_is_finite() -> None:
    for zero in (-math.inf, math.nan, -9999.0):
        found = top_logprobs(choice({"token": "a", "logprob": zero}), "tok")
        assert found is not None
        assert found.logprobs == (LEAST,)
        assert found.tail_mass == (1.0,)


@given(
    logprobs=st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=5),
    own=st.floats(allow_nan=True, allow_infinity=True),
)
def test_masses_are_probabilities_whatever_a_server_says(logprobs: list[float], own: float) -> None:
    others = [{"token": str(i), "logprob": logprob} for i, logprob in enumerate(logprobs)]
    found = top_logprobs(choice({"token": "x", "logprob": own, "top_logprobs": others}), "tok")
    assert found is not None
    (tail,), (top,) = found.tail_mass, found.top
    assert 0 <= tail <= 1
    assert [p for _, p in top] == sorted((p for _, p in top), reverse=True)
    assert all(math.isfinite(p) and p <= 0 for _, p in top)


def test_half_a_character_is_replaced() -> None:
    found = top_logprobs(choice(entry("\ud83d", 0.5)), "tok")
    assert found is not None
    assert found.tokens == ("\ufffd",)


def test_a_fingerprint_is_of_model_version_and_system() -> None:
    known = {fingerprint("a/b"), fingerprint("a/b", "b-1"), fingerprint("a/b", "b-1", "fp"), fingerprint("a/c", "b-1")}
    assert len(known) == 4
    assert fingerprint("a/b", "b-1").startswith("b-1#")
    assert fingerprint("a/b").startswith("a/b#")
