"""Calibration of scores to probabilities against numbers worked out by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from distillcalc.errors import InputError, UnknownName
from distillcalc.route.probability import Calibration


def test_isotonic_by_hand() -> None:
    # Scores 1, 2, 3, 4 were right 0, 1, 0, 1: the rising fit pools 2 and 3 to 1/2.
    made = Calibration.fit([4, 2, 3, 1], [1, 1, 0, 0])
    assert (made.x, made.y) == ((1, 2, 3, 4), (0, 0.5, 0.5, 1))
    # Between 1 and 2 a straight line; beyond the ends it stays.
    assert made.many([1.5, 2.5, -9, 9]).tolist() == [0.25, 0.5, 0, 1]


def test_equal_scores_are_one_knot_and_level_stretches_two() -> None:
    # Score 0 was right in 1 of 4, scores 1, 2 and 3 in 1 of 2 each.
    made = Calibration.fit([0, 0, 0, 0, 1, 1, 2, 2, 3, 3], [1, 0, 0, 0, 1, 0, 1, 0, 0, 1])
    assert (made.x, made.y) == ((0, 1, 3), (0.25, 0.5, 0.5))


def test_platt_finds_the_line_that_outcomes_came_from() -> None:
    # P(right) = 1 / (1 + exp(-(2 s - 1))), outcomes given as shares: only Platt's softening is between.
    s = np.linspace(-3, 3, 2_001)
    made = Calibration.fit(s, 1 / (1 + np.exp(-(2 * s - 1))), "platt")
    assert made.slope == pytest.approx(2, rel=0.02)
    assert made.intercept == pytest.approx(-1, rel=0.02)
    assert not made.log_odds


def test_platt_by_hand_with_two_scores() -> None:
    # Of scores -1, 1 of 4 is right; of scores 2, 3 of 4. 4 right, 4 wrong: they count as 5/6 and 1/6.
    # A line through two points fits both: at -1 the mean is (5/6 + 3/6) / 4 = 1/3, at 2 it is (15/6 + 1/6) / 4 = 2/3.
    # Log-odds -ln 2 at -1 and ln 2 at 2: slope 2 ln 2 / 3, intercept -ln 2 + slope.
    made = Calibration.fit([-1, -1, -1, -1, 2, 2, 2, 2], [1, 0, 0, 0, 1, 1, 1, 0], "platt")
    assert made.slope == pytest.approx(2 * math.log(2) / 3, rel=1e-9)
    assert made.intercept == pytest.approx(-math.log(2) / 3, rel=1e-9)
    assert made.one(2) == pytest.approx(2 / 3)


def test_a_temperature_of_two_is_found() -> None:
    p = np.linspace(0.02, 0.98, 1_001)
    outcome = 1 / (1 + np.exp(-np.log(p / (1 - p)) / 2))
    made = Calibration.fit(p, outcome, "temperature")
    assert made.slope == pytest.approx(0.5, rel=0.01)
    assert made.one(0.5) == 0.5
    assert 0 < made.one(0.0) < made.one(1.0) < 1


def test_a_score_that_is_upside_down_calibrates_to_the_mean() -> None:
    s, y = np.arange(100) / 100, (np.arange(100) < 40).astype(float)
    for kind in ("isotonic", "platt"):
        assert Calibration.fit(s, y, kind).many(s) == pytest.approx(np.full(100, 0.4), abs=0.01)  # type: ignore[arg-type]


def test_scores_that_tell_all_apart_stay_finite() -> None:
    made = Calibration.fit(np.repeat([0.0, 1.0], 50), np.repeat([0.0, 1.0], 50), "platt")
    # 50 right and 50 wrong count as 51/52 and 1/52
    assert made.many([0, 1]) == pytest.approx([1 / 52, 51 / 52], abs=1e-6)


samples = st.integers(3, 60).flatmap(
    lambda n: st.tuples(
        npst.arrays(float, n, elements=st.floats(-50, 50).map(lambda v: round(v, 1))),
        npst.arrays(float, n, elements=st.sampled_from([0.0, 0.5, 1.0])),
    )
)


@given(samples, st.sampled_from(["isotonic", "platt"]), st.randoms(use_true_random=False))
def test_probabilities_rise_with_the_score_whatever_the_order(sample: tuple[Any, Any], kind: Any, random: Any) -> None:
    s, y = sample
    if np.ptp(s) == 0 or np.ptp(y) == 0:
        return
    made = Calibration.fit(s, y, kind)
    order = list(range(len(s)))
    random.shuffle(order)
    assert Calibration.fit(s[order], y[order], kind) == made
    at = np.linspace(-60, 60, 201)
    p = made.many(at)
    assert (np.diff(p) >= -1e-12).all()
    assert p.min() >= 0
    assert p.max() <= 1
    np.testing.assert_allclose([made.one(v) for v in at], p, rtol=0, atol=1e-15)
    again = Calibration.from_dict(json.loads(json.dumps(made.to_dict())))
    assert again.many(s).tolist() == made.many(s).tolist()
    if kind == "isotonic":
        assert made.many(s).mean() == pytest.approx(y.mean())  # pooling keeps sums


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Calibration.fit([0.5, 0.5], [0, 1]), "0.5 for every item cannot be calibrated"),
        (lambda: Calibration.fit([0.1, 0.5], [1, 1]), "outcomes are all 1"),
        (lambda: Calibration.fit([], []), "1 item or more"),
        (lambda: Calibration.fit([1, 2], [1]), r"Got shapes \(2,\) and \(1,\)"),
        (lambda: Calibration.fit([0.1, math.nan], [0, 1]), "scores of item 1 is not a number"),
        (lambda: Calibration.fit([0.1, 0.2], [0, 2]), r"right must be in \[0, 1\]"),
        (lambda: Calibration.fit([-1, 2], [0, 1], "temperature"), "Got -1 to 2"),
        (lambda: Calibration.from_dict({"kind": "isotonic", "z": 1}), "no calibration"),
    ],
)
def test_what_is_refused(call: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        call()


def test_a_kind_that_is_not_known() -> None:
    with pytest.raises(UnknownName, match="Did you mean isotonic"):
        Calibration.fit([0, 1], [0, 1], "isotone")  # type: ignore[arg-type]
