"""Pairs of answers: what is refused, and splits that keep one text on one side."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillcalc.errors import InputError
from distillcalc.route.pairs import Pairs


def some(n: int = 60, **more: object) -> Pairs:
    rng = np.random.default_rng(0)
    given: dict[str, object] = {
        "scores": {"sure": rng.random(n)},
        "texts": [f"question {i}" for i in range(n)],
        "ids": [f"id-{i:03d}" for i in range(n)],
    } | more
    return Pairs.of(rng.random(n) < 0.7, rng.random(n) < 0.9, **given)  # type: ignore[arg-type]


def test_pairs_hold_what_each_model_answered() -> None:
    pairs = Pairs.of([1, 0, 1], [1, 1, 0], scores={"sure": [0.9, 0.2, 0.5]}, student_usd=0.001, teacher_usd=[1, 2, 3])
    assert (len(pairs), pairs.student, pairs.teacher) == (3, "student", "teacher")
    assert pairs.right.tolist() == [[1, 1], [0, 1], [1, 0]]
    assert pairs.score("sure").tolist() == [[0.9], [0.2], [0.5]]
    assert pairs.usd is not None
    assert pairs.usd.tolist() == [[0.001, 1], [0.001, 2], [0.001, 3]]
    assert pairs.is_binary
    assert not Pairs.of([0.5], [1]).is_binary


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"student_right": [2, 0], "teacher_right": [1, 1]}, r"right must be in \[0, 1\].*Got 2"),
        ({"student_right": [-1, 0], "teacher_right": [1, 1]}, "right must not be below 0"),
        ({"student_right": [np.nan, 0], "teacher_right": [1, 1]}, "right of item '0' is not a number"),
        ({"student_right": [1, 0], "teacher_right": [1, 1], "ids": ["a", "a"]}, "'a' comes twice"),
        ({"student_right": [], "teacher_right": []}, "no item that every model has answered"),
        ({"student_right": [1], "teacher_right": [1], "student": "x", "teacher": "x"}, "two different models"),
        ({"student_right": [1], "teacher_right": [1], "student_usd": 1}, "student_usd and teacher_usd, or neither"),
        ({"student_right": [1], "teacher_right": [1], "scores": {"s": [np.inf]}}, "score s of item '0'"),
        ({"student_right": [1], "teacher_right": [1], "scores": {"s": [1, 2]}}, "must have shape"),
    ],
)
def test_what_cannot_be_right_is_refused(values: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Pairs.of(**values)  # type: ignore[arg-type]


def test_a_score_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(InputError, match=r"no score 'margin'\. They hold: sure"):
        some().score("margin")


def test_a_split_deals_every_item_once_and_keeps_one_text_on_one_side() -> None:
    texts = [f"question {i // 3}" if i % 2 else f"  QUESTION   {i // 3} " for i in range(300)]
    pairs = some(300, texts=texts, ids=[str(i) for i in range(300)])
    parts = pairs.split([0.4, 0.3, 0.3])
    assert sorted(id for part in parts for id in part.ids) == sorted(pairs.ids)
    of_part = [{" ".join(text.casefold().split()) for text in part.texts} for part in parts]
    assert not of_part[0] & of_part[1]
    assert not of_part[0] & of_part[2]
    assert not of_part[1] & of_part[2]
    assert [len(part) for part in parts] == pytest.approx([120, 90, 90], abs=6)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(40)), st.integers(0, 5))
def test_a_split_does_not_depend_on_the_order_of_rows(order: list[int], seed: int) -> None:
    pairs = some(40)
    for one, other in zip(
        pairs.split([0.5, 0.5], seed=seed), pairs.take(np.array(order)).split([0.5, 0.5], seed=seed), strict=True
    ):
        assert one.ids == other.ids
        assert (one.right == other.right).all()
        assert (one.score("sure") == other.score("sure")).all()


def test_another_seed_is_another_split() -> None:
    assert some().split([0.5, 0.5], seed=0)[0].ids != some().split([0.5, 0.5], seed=1)[0].ids


def test_a_share_of_nothing_is_no_part_and_shares_sum_to_one() -> None:
    assert len(some().split([0, 0.5, 0.5])) == 2
    with pytest.raises(InputError, match="sum to 1"):
        some().split([0.5, 0.6])
    with pytest.raises(InputError, match="too few"):
        some(2).split([0.1, 0.1, 0.8])


def test_the_key_of_an_item_is_its_text_and_of_one_without_text_its_id() -> None:
    pairs = some(4, texts=["a b", "A  B", "", ""], ids=["1", "2", "3", "4"])
    keys = pairs.keys()
    assert keys[0] == keys[1]
    assert len(set(keys.tolist())) == 3
    assert pairs.distinct().ids == ("1", "3", "4")
    # Row numbers alone do not make two items the same.
    other = Pairs.of([1, 0], [0, 1], ids=["3", "4"])
    assert not set(other.keys().tolist()) & set(keys.tolist())
