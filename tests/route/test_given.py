"""Scores from outside: values of a request, and the user's own functions, which are not saved."""

from __future__ import annotations

import math

import pytest

from distillcalc.errors import InputError, UnknownName
from distillcalc.route.given import Given, UserScore
from distillcalc.route.requests import Request
from distillcalc.route.scores import Parts, all_checked, score_from


def length(request: Request) -> float:
    return -len(request.text)


def test_a_value_of_the_request() -> None:
    score = Given("verifier", "after")
    assert score.one(Request(values={"verifier": 0.25})) == 0.25
    assert score.many([Request(values={"verifier": v}) for v in (1, 2)]).tolist() == [1, 2]
    assert score_from(score.to_parts()) == score
    with pytest.raises(InputError, match=r"request 1: the request holds no value 'verifier'. It holds: other"):
        score.many([Request(values={"verifier": 1}), Request(values={"other": 1})])
    with pytest.raises(InputError, match=r"request 0: score 'verifier' must be a finite number. Got nan"):
        score.many([Request(values={"verifier": math.nan})])


def test_a_function_of_the_users() -> None:
    score = UserScore("short", length, "before")
    assert score.one(Request("four")) == -4
    assert score.many([Request("a"), Request("bb")]).tolist() == [-1, -2]
    again = score_from(score.to_parts(), functions={"short": length})
    assert again == score
    with pytest.raises(InputError, match=r"give it again, functions=\{'short': function\}. Got functions: other"):
        score_from(score.to_parts(), functions={"other": length})


def test_a_function_that_gives_no_number() -> None:
    for gives, says in (
        ("high", "Its function gave 'high'"),
        (None, "gave None"),
        (math.inf, "finite number. Got inf"),
    ):
        with pytest.raises(InputError, match=f"request 0: .*{says}"):
            UserScore("mine", lambda request, gives=gives: gives, "after").many([Request()])


def test_stages_are_two() -> None:
    with pytest.raises(InputError, match=r"before.*Got 'during'"):
        Given("x", "during")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="needs a function"):
        UserScore("x", 3, "after")  # type: ignore[arg-type]


def test_parts_share_a_file_and_part_again() -> None:
    import numpy as np

    one, two = Parts({"a": 1}, {"x": np.ones(2)}), Parts({"b": 2}, {"x": np.zeros(2)})
    whole = Parts({}, {**one.under("one"), **two.under("two")})
    assert sorted(whole.arrays) == ["one.x", "two.x"]
    assert whole.within(two.about, "two").arrays["x"].tolist() == [0, 0]
    assert whole.within(two.about, "two").about == {"b": 2}


def test_what_is_no_score() -> None:
    import numpy as np

    with pytest.raises(UnknownName, match=r"kind of score 'confident'. Did you mean confidence"):
        score_from(Parts({"score": "confident"}))
    with pytest.raises(InputError, match="given score lacks 'stage'"):
        score_from(Parts({"score": "given", "name": "x"}))
    with pytest.raises(InputError, match="request 1: score 'x'"):
        all_checked(np.array([1.0, math.nan]), "x")
