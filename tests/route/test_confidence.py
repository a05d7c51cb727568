"""Confidence scores: worked out by hand, one and many alike, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillcalc.errors import InputError, UnknownName
from distillcalc.route.confidence import CONFIDENCE, Confidence, from_logprobs, from_probabilities, needs
from distillcalc.route.requests import Request
from distillcalc.route.scores import score_from

ANSWERED = Request(
    probabilities=[0.5, 0.25, 0.25],
    logprobs=[-0.1, -0.2, -0.6],
    samples=["Paris", " paris ", "Lyon", "Nice"],
    answer="PARIS",
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("max_probability", 0.5),
        ("margin", 0.25),
        # H = 0.5 ln 2 + 2 x 0.25 ln 4 = 1.5 ln 2; 1 - 1.5 ln 2 / ln 3
        ("entropy", 1 - 1.5 * math.log(2) / math.log(3)),
        ("mean_logprob", -0.3),
        ("self_consistency", 0.5),  # two of four are Paris
    ],
)
def test_each_score_by_hand(name: str, expected: float) -> None:
    assert Confidence(name).one(ANSWERED) == pytest.approx(expected, abs=1e-12)
    assert Confidence(name).stage == "after"
    assert getattr(ANSWERED, needs(name))


def test_without_an_answer_samples_are_compared_with_each_other() -> None:
    # the most frequent is "a b", three of five
    request = Request(samples=["A  b", "a b", "c", "a b\n", "d"])
    assert Confidence("self_consistency").one(request) == 0.6
    assert Confidence("self_consistency").one(Request(samples=["a"], answer="b")) == 0


def test_certain_and_ignorant_are_the_ends() -> None:
    for labels in (2, 5, 200):
        certain, ignorant = np.eye(labels)[0], np.full(labels, 1 / labels)
        for name in ("max_probability", "margin", "entropy"):
            assert Confidence(name).one(Request(probabilities=certain)) == 1
        assert Confidence("margin").one(Request(probabilities=ignorant)) == 0
        assert Confidence("entropy").one(Request(probabilities=ignorant)) == pytest.approx(0, abs=1e-12)


probabilities = st.lists(st.floats(0, 1), min_size=2, max_size=12).filter(lambda p: sum(p) > 0.01)


@given(st.lists(probabilities, min_size=1, max_size=5))
def test_one_many_and_the_matrix_agree(rows: list[list[float]]) -> None:
    labels = max(map(len, rows))
    matrix = np.array([row + [0.0] * (labels - len(row)) for row in rows])
    matrix /= matrix.sum(axis=1, keepdims=True)
    requests = [Request(probabilities=row) for row in matrix]
    by_name = from_probabilities(matrix)
    for name in ("max_probability", "margin", "entropy"):
        score = Confidence(name)
        ones = [score.one(request) for request in requests]
        assert score.many(requests).tolist() == ones
        assert ones == [score.one(Request(probabilities=row.tolist())) for row in matrix]
        assert all(0 <= one <= 1 for one in ones)
        np.testing.assert_allclose(by_name[name], ones, atol=1e-12)
        if name != "entropy":
            assert by_name[name].tolist() == ones


def test_ragged_logprobs() -> None:
    assert from_logprobs([[-1.0], [-0.5, -1.5, -1.0], [0.0, -4.0]]).tolist() == [-1, -1, -2]
    with pytest.raises(InputError, match=r"request 1: .*log-probabilities"):
        from_logprobs([[-1.0], []])


@pytest.mark.parametrize(
    ("request_", "name", "says"),
    [
        (Request(), "margin", "has none"),
        (Request(), "mean_logprob", "has none"),
        (Request(samples=[]), "self_consistency", "no samples"),
        (Request(probabilities=[0.5, 0.4]), "entropy", "sum to 1 .*sum to 0.9"),
        (Request(probabilities=[1.5, -0.5]), "max_probability", "0 or above"),
        (Request(probabilities=[1.0]), "margin", "2 labels or more"),
        (Request(probabilities=[0.5, math.nan]), "max_probability", "sum to nan"),
        (Request(logprobs=[-1.0, math.nan]), "mean_logprob", "finite number. Got nan"),
        (Request(logprobs=[-math.inf]), "mean_logprob", "finite number. Got -inf"),
        (Request(logprobs=[0.9, 0.8]), "mean_logprob", "0 or below. Got 0.9"),
    ],
)
def test_what_is_refused_names_its_place(request_: Request, name: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Confidence(name).one(request_)
    with pytest.raises(InputError, match=f"^request 1: .*{says}"):
        Confidence(name).many([ANSWERED, request_])


def test_wrong_matrices_are_refused() -> None:
    with pytest.raises(InputError, match=r"request 1: .*sum to 1"):
        from_probabilities([[0.5, 0.5], [0.5, 0.6]])
    with pytest.raises(InputError, match=r"request 0: .*nan"):
        from_probabilities([[math.nan, 0.5]])
    with pytest.raises(InputError, match=r"shape \(answers, 2 labels or more\). Got \(3,\)"):
        from_probabilities([0.2, 0.3, 0.5])


def test_saved_and_loaded_by_name() -> None:
    for name in CONFIDENCE:
        parts = Confidence(name).to_parts()
        assert score_from(parts) == Confidence(name)
        assert not parts.arrays
    with pytest.raises(UnknownName, match="Did you mean margin"):
        Confidence("margins")


def test_no_requests_no_scores() -> None:
    assert Confidence("margin").many([]).shape == (0,)
