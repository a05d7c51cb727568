"""Calibration of scores to probabilities, and how far probabilities are off, against numbers worked out by hand."""

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
from distillcalc.route.probability import Calibration, Reliability, brier_score, expected_calibration_error


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


def test_expected_calibration_error_by_hand() -> None:
    p, y = [0.1, 0.3, 0.6, 0.9], [0, 1, 1, 1]
    # Two bins of equal mass: (0.1, 0.3) mean 0.2, right 0.5; (0.6, 0.9) mean 0.75, right 1: 0.5 x 0.3 + 0.5 x 0.25
    assert expected_calibration_error(p, y, 2) == pytest.approx(0.275)
    # Two of equal width: the same here. Four of equal width: 0.1 | 0.3 | 0.6 | 0.9 each alone:
    # (0.1 + 0.7 + 0.4 + 0.1) / 4
    assert expected_calibration_error(p, y, 2, by="width") == pytest.approx(0.275)
    assert expected_calibration_error(p, y, 4, by="width") == pytest.approx(0.325)
    # (0.01 + 0.49 + 0.16 + 0.01) / 4
    assert brier_score(p, y) == pytest.approx(0.1675)


def test_bins_of_mass_and_of_width_differ() -> None:
    # Nine items at 0.05 to 0.09, one at 1.0: width puts the nine together, mass five and five.
    p, y = np.array([0.05] * 4 + [0.09] * 5 + [1.0]), np.array([0] * 8 + [1, 1.0])
    width, mass = Reliability.of(p, y, bins=2, by="width"), Reliability.of(p, y, bins=2)
    assert width.count.tolist() == [9, 1]
    assert mass.count.tolist() == [4, 6]  # equal probabilities stay together
    assert width.observed == pytest.approx([1 / 9, 1])
    assert (mass.items, width.items) == (10, 10)


def test_the_reliability_of_perfect_probabilities() -> None:
    # 100 items at 0.2 of which 20 are right, 100 at 0.7 of which 70 are.
    p = np.repeat([0.2, 0.7], 100)
    y = np.concatenate([np.arange(100) < 20, np.arange(100) < 70])
    made = Reliability.of(p, y)
    assert made.ece == pytest.approx(0, abs=1e-12)
    # Wilson's interval of 20 in 100: 0.1334 to 0.2888
    assert (made.low[0], made.high[0]) == pytest.approx((0.1334, 0.2888), abs=5e-5)
    # 0.2 x 0.8 and 0.7 x 0.3
    assert made.brier == pytest.approx((0.16 + 0.21) / 2)


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 1.0])), min_size=1, max_size=40), st.integers(1, 20))
def test_bins_lose_nothing(items: list[tuple[float, float]], bins: int) -> None:
    p, y = map(np.array, zip(*items, strict=True))
    for by in ("mass", "width"):
        made = Reliability.of(p, y, bins=bins, by=by)  # type: ignore[arg-type]
        assert made.items == len(items)
        assert len(made.count) <= bins
        assert made.count @ made.predicted == pytest.approx(p.sum())
        assert (made.low <= made.observed + 1e-12).all()
        assert (made.observed <= made.high + 1e-12).all()
        assert abs(p.mean() - y.mean()) - 1e-9 <= made.ece <= 1
        back = Reliability.of(p[::-1], y[::-1], bins=bins, by=by)  # type: ignore[arg-type]
        assert back.count.tolist() == made.count.tolist()


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
        (lambda: Reliability.of([1.2], [1]), r"probability must be in \[0, 1\]"),
        (lambda: Reliability.of([0.2], [1], bins=0), "bins must be 1 or more"),
        (lambda: Calibration.from_dict({"kind": "isotonic", "z": 1}), "no calibration"),
    ],
)
def test_what_is_refused(call: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        call()


def test_a_kind_that_is_not_known() -> None:
    with pytest.raises(UnknownName, match="Did you mean isotonic"):
        Calibration.fit([0, 1], [0, 1], "isotone")  # type: ignore[arg-type]
