"""Reliability, calibration error, Brier score and Wilson's interval, against numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from distillcalc.calibration_measures import By, Reliability, brier_score, expected_calibration_error, wilson
from distillcalc.errors import InputError

BOTH: tuple[By, By] = ("mass", "width")


def test_two_bins_by_hand() -> None:
    # (0, .5]: probabilities .4, .2 (mean .3), right 1 and 0 (.5): gap .2, weight 2/5
    # (.5, 1]: .8, .9, 1.0 (mean .9), right 1, 1, 0 (2/3): gap .7/3, weight 3/5; .4 x .2 + .6 x .7/3 = .22
    p, right = [0.4, 0.2, 0.8, 0.9, 1.0], [1, 0, 1, 1, 0]
    assert expected_calibration_error(p, right, bins=2, by="width") == pytest.approx(0.22)
    # of two equally full bins (3 and 2): .2, .4, .8 (mean 1.4/3), right 0, 1, 1 (2/3): gap .2, weight .6
    # .9, 1.0 (mean .95), right 1, 0: gap .45, weight .4; .12 + .18 = .3
    assert expected_calibration_error(p, right, bins=2, by="mass") == pytest.approx(0.3)


def test_four_bins_and_the_brier_score_by_hand() -> None:
    p, y = [0.1, 0.3, 0.6, 0.9], [0, 1, 1, 1]
    # Two bins either way: (0.1, 0.3) mean 0.2, right 0.5; (0.6, 0.9) mean 0.75, right 1: 0.5 x 0.3 + 0.5 x 0.25
    for by in BOTH:
        assert expected_calibration_error(p, y, bins=2, by=by) == pytest.approx(0.275)
    # Four: each alone: (0.1 + 0.7 + 0.4 + 0.1) / 4
    assert expected_calibration_error(p, y, bins=4, by="width") == pytest.approx(0.325)
    # (0.01 + 0.49 + 0.16 + 0.01) / 4
    assert brier_score(p, y) == pytest.approx(0.1675)
    # (.8 - 1)^2 = .04, (.6 - 0)^2 = .36: mean .2
    assert brier_score([0.8, 0.6], [1, 0]) == pytest.approx(0.2)


def test_fifteen_bins_by_hand() -> None:
    # .90 and .92 share the bin (13/15, 14/15] = (.867, .933]: mean .91, both right: gap .09, weight 2/4
    # .95 is alone in the last: right, gap .05, weight 1/4; .10 in (1/15, 2/15]: wrong, gap .10, weight 1/4
    found = expected_calibration_error([0.9, 0.92, 0.95, 0.1], [1, 1, 1, 0], by="width")
    assert found == pytest.approx(0.045 + 0.0125 + 0.025)


@pytest.mark.parametrize("bins", [5, 10, 15, 20])
def test_a_bin_of_width_holds_its_upper_edge_and_not_its_lower_one(bins: int) -> None:
    edges = [k / bins for k in range(1, bins + 1)]
    assert Reliability.of(edges, [1] * bins, bins=bins, by="width").predicted.tolist() == edges
    at = [0.0, 1 / bins, np.nextafter(1 / bins, 1)]
    assert Reliability.of(at, [1, 1, 1], bins=bins, by="width").count.tolist() == [2, 1]


def test_bins_of_mass_and_of_width_differ() -> None:
    # Nine items at 0.05 to 0.09, one at 1.0: width puts the nine together, mass five and five.
    p, y = np.array([0.05] * 4 + [0.09] * 5 + [1.0]), np.array([0] * 8 + [1, 1.0])
    width, mass = Reliability.of(p, y, bins=2, by="width"), Reliability.of(p, y, bins=2, by="mass")
    assert width.count.tolist() == [9, 1]
    assert width.observed == pytest.approx([1 / 9, 1])
    assert mass.count.tolist() == [5, 5]
    # The five at 0.09 are right in one: 0.2 each, one of them in the first bin and four beside the last item.
    assert mass.observed == pytest.approx([0.2 / 5, (4 * 0.2 + 1) / 5])
    assert (mass.items, width.items) == (10, 10)


def test_bins_of_one_and_the_same_probability_are_one() -> None:
    # Of ten bins of ten items 0.2 fills four, 0.7 fills three; 0.9 fills one and shares one.
    p = np.repeat([0.2, 0.7, 0.9, 0.95, 1.0], [40, 30, 15, 5, 10])
    y = (np.arange(100) % 2).astype(float)
    made = Reliability.of(p, y, bins=10, by="mass")
    assert made.count.tolist() == [40, 30, 10, 10, 10]
    assert made.predicted == pytest.approx([0.2, 0.7, 0.9, 0.925, 1.0])
    assert made.low[0] == pytest.approx(wilson(20, 40)[0])


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


@pytest.mark.parametrize("by", BOTH)
def test_sure_and_always_right_is_perfect_and_sure_and_always_wrong_the_worst(by: By) -> None:
    assert expected_calibration_error([1, 1], [1, 1], by=by) == 0
    assert expected_calibration_error([1, 1], [0, 0], by=by) == 1


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 1.0])), min_size=1, max_size=40), st.integers(1, 20))
def test_bins_lose_nothing(items: list[tuple[float, float]], bins: int) -> None:
    p, y = map(np.array, zip(*items, strict=True))
    for by in BOTH:
        made = Reliability.of(p, y, bins=bins, by=by)
        assert made.items == len(items)
        assert len(made.count) <= bins
        assert made.count @ made.predicted == pytest.approx(p.sum())
        assert made.count @ made.observed == pytest.approx(y.sum())
        assert (np.diff(made.predicted) >= 0).all()
        assert (made.low <= made.observed + 1e-12).all()
        assert (made.observed <= made.high + 1e-12).all()
        assert abs(p.mean() - y.mean()) - 1e-9 <= made.ece <= 1


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.3, 0.35, 0.9]), st.booleans()), min_size=1), st.randoms())
def test_the_order_of_items_does_not_matter(items: list[tuple[float, bool]], random: Any) -> None:
    mixed = random.sample(items, len(items))
    for by in BOTH:
        before, after = (
            Reliability.of([p for p, _ in some], [float(r) for _, r in some], bins=4, by=by) for some in (items, mixed)
        )
        assert after.count.tolist() == before.count.tolist()
        assert after.ece == pytest.approx(before.ece, abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=60), st.integers(1, 15))
def test_merged_bins_have_the_calibration_error_of_equally_full_ones(items: list[tuple[int, bool]], bins: int) -> None:
    # Nixon et al.: items by rising probability, dealt evenly; equal ones count with their common mean.
    p, y = np.array([k / 12 for k, _ in items]), np.array([float(r) for _, r in items])
    common = np.array([y[p == one].mean() for one in p])
    parts = np.array_split(np.argsort(p), min(bins, len(p)))
    wanted = sum(len(part) * abs(common[part].mean() - p[part].mean()) for part in parts) / len(p)
    assert expected_calibration_error(p, y, bins=bins, by="mass") == pytest.approx(wanted, abs=1e-12)


def test_wilson_as_published() -> None:
    # Newcombe, Stat. Med. 17, 1998, table I: 81 of 263 is .2553 to .3662
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@given(st.integers(1, 500), st.data())
def test_wilson_is_scipys(items: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, items))
    expected = binomtest(right, items).proportion_ci(0.95, method="wilson")
    assert wilson(right, items) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Reliability.of([1.2], [1]), r"probability must be in \[0, 1\]"),
        (lambda: Reliability.of([0.2], [1], bins=0), "bins must be 1 or more"),
        (lambda: Reliability.of([0.2], [1], by="rank"), "by 'rank'"),  # type: ignore[arg-type]
        (lambda: brier_score([], []), "1 item or more"),
        (lambda: brier_score([0.1, math.nan], [0, 1]), "probability of item 1 is not a number"),
        (lambda: brier_score([0.1, 0.2], [0, 2]), r"right must be in \[0, 1\]"),
        (lambda: expected_calibration_error([0.1], [0, 1], by="mass"), r"Got shapes \(1,\) and \(2,\)"),
    ],
)
def test_what_is_refused(call: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        call()
