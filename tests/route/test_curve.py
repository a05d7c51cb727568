"""Curves and their figures: by hand, by RouteLLM's own definitions, and how wide their bands are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillcalc.errors import InputError
from distillcalc.route.bands import Bands
from distillcalc.route.curve import Curve, upper_hull
from distillcalc.route.pairs import Pairs

# Student 2 of 4, teacher 3 of 4. Sending on one more item each, from the least sure: gains of +1, 0, +1 and -1.
FOUR = Pairs.of([0, 1, 0, 1], [1, 1, 1, 0], scores={"s": [0.1, 0.2, 0.3, 0.4]}, student_usd=1, teacher_usd=10)


def drawn(n: int, seed: int, *, told: float = 1.0, digits: int | None = None) -> Pairs:
    """A student that knows how sure it may be, by ``told``; a teacher right in nine of ten."""
    rng = np.random.default_rng(seed)
    chance = rng.beta(2, 1, n)
    sure = told * chance + (1 - told) * rng.random(n)
    return Pairs.of(
        rng.random(n) < chance, rng.random(n) < 0.9, scores={"s": sure if digits is None else sure.round(digits)}
    )  # fmt: skip


def test_a_curve_by_hand() -> None:
    curve = Curve.of(FOUR, "s")
    assert curve.escalation_rate.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve.quality.tolist() == [0.5, 0.75, 0.75, 1.0, 0.75]
    assert curve.pgr.tolist() == [0, 1, 1, 2, 1]
    # Trapezoids of width 0.25: (0 + 1)/2 + (1 + 1)/2 + (1 + 2)/2 + (2 + 1)/2 = 4.5.
    assert curve.apgr == pytest.approx(4.5 * 0.25)
    assert curve.cpt(0.5) == pytest.approx(0.125)
    assert curve.cpt(0.8) == pytest.approx(0.2)
    # Corners (0, .5), (.25, .75), (.75, 1), flat to 1: (.5 + .75)/2 x .25 + (.75 + 1)/2 x .5 + 1 x .25.
    assert [x.tolist() for x in curve.hull("calls")] == [[0, 0.25, 0.75], [0.5, 0.75, 1.0]]
    assert curve.aiq("calls") == pytest.approx(0.84375)
    assert curve.usd.tolist() == [1, 3.5, 6, 8.5, 11]
    assert curve.aiq("usd") == pytest.approx(0.84375)  # dollars are a line over calls
    # The oracle sends on the two that gain first: +1, +1, 0, -1.
    assert curve.oracle_quality.tolist() == [0.5, 0.75, 1.0, 1.0, 0.75]
    assert curve.oracle_apgr == pytest.approx((0.5 + 1.5 + 2 + 1.5) * 0.25)


def test_random_pays_one_model_each_and_judges_nothing() -> None:
    curve = Curve.of(FOUR, "s")
    assert curve.random_quality(0.5) == pytest.approx(0.625)
    assert curve.random_usd(0.5) == pytest.approx(5.5)
    assert curve.random_rate_for(0.625) == pytest.approx(0.5)
    assert curve.random_rate_for(0.4) == 0
    assert np.isnan(curve.random_rate_for(0.8))
    assert curve.rate_for(0.9) == pytest.approx(0.65)  # between 0.5 (0.75) and 0.75 (1.0)
    assert np.isnan(curve.rate_for(1.01))


def of_routellm(strong_win_rate: np.ndarray, weak: np.ndarray, strong: np.ndarray, results: int) -> tuple[float, list]:
    """APGR and CPT(50, 80) as the evaluation of RouteLLM defines them (routellm/evals, Apache-2.0), written anew."""
    edges = pd.qcut(strong_win_rate, results, retbins=True)[1]
    share, accuracy = [], []
    for i, edge in enumerate(edges):
        chosen = strong_win_rate >= edge if i < len(edges) - 1 else strong_win_rate > edge
        share.append(chosen.mean())
        accuracy.append(np.where(chosen, strong, weak).mean())
    x, y = np.array(share)[::-1], np.array(accuracy)[::-1]
    area = float(np.trapezoid(y, x))
    apgr = (area - weak.mean()) / (strong.mean() - weak.mean())
    return apgr, [np.interp(weak.mean() + p * (strong.mean() - weak.mean()), y, x) for p in (0.5, 0.8)]


def test_apgr_and_cpt_are_those_of_routellm() -> None:
    pairs = drawn(300, 1)
    rate = 1 - pairs.score("s")[:, 0]
    curve = Curve.of(pairs, "s")
    apgr, _ = of_routellm(rate, pairs.right[:, 0], pairs.right[:, 1], 300)  # every item is a threshold
    assert curve.apgr == pytest.approx(apgr, abs=1e-12)
    coarse, _ = of_routellm(rate, pairs.right[:, 0], pairs.right[:, 1], 10)  # their default
    assert curve.apgr == pytest.approx(coarse, abs=0.02)


def test_cpt_is_routellms_where_quality_only_rises() -> None:
    n = 200  # the teacher is right always, so that sending on never harms
    rng = np.random.default_rng(3)
    pairs = Pairs.of(rng.random(n) < 0.6, np.ones(n), scores={"s": rng.permutation(n) / n})
    curve = Curve.of(pairs, "s")
    _, (half, most) = of_routellm(1 - pairs.score("s")[:, 0], pairs.right[:, 0], pairs.right[:, 1], n)
    # np.interp takes the last of equal qualities, the definition the first: at most the longest run of no gain apart.
    assert half - 12 / n <= curve.cpt(0.5) <= half + 1e-12
    assert most - 12 / n <= curve.cpt(0.8) <= most + 1e-12


def test_a_score_that_says_nothing_is_the_random_line() -> None:
    pairs = Pairs.of([0, 1] * 5_000, np.ones(10_000), scores={"s": np.random.default_rng(0).random(10_000)})
    assert Curve.of(pairs, "s").apgr == pytest.approx(0.5, abs=0.02)


def test_where_the_teacher_is_no_better_there_is_no_gap_to_recover() -> None:
    curve = Curve.of(Pairs.of([1, 1, 0], [1, 0, 0], scores={"s": [3, 2, 1]}), "s")
    assert curve.gap < 0
    assert np.isnan(curve.apgr)
    assert np.isnan(curve.cpt(0.5))
    assert np.isfinite(Bands.of(Pairs.of([1, 1, 0], [1, 0, 0], scores={"s": [3, 2, 1]}), "s").lift.value)


def test_a_curve_refuses_a_share_above_one_and_chains() -> None:
    with pytest.raises(InputError, match="above 0 and at most 1"):
        Curve.of(FOUR, "s").cpt(1.5)
    three = Pairs(("1",), ("",), ("a", "b", "c"), np.ones((1, 3)), {"s": np.zeros((1, 2))})
    with pytest.raises(InputError, match=r"two models\. Got 3"):
        Curve.of(three, "s")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 8))
def test_what_holds_of_every_curve(seed: int, n: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = Pairs.of(rng.random(n) < 0.5, rng.random(n) < 0.7, scores={"s": rng.integers(0, levels, n)})
    curve = Curve.of(pairs, "s")
    assert curve.escalation_rate[0] == 0
    assert curve.escalation_rate[-1] == pytest.approx(1)
    assert curve.quality[-1] == pytest.approx(pairs.right[:, 1].mean())
    best = np.interp(curve.escalation_rate, curve.oracle_rate, curve.oracle_quality)
    assert (curve.quality <= best + 1e-9).all()  # by its definition; of the baselines nothing is taken for granted
    order = rng.permutation(n)
    other = Curve.of(pairs.take(order), "s")
    assert np.allclose(curve.quality, other.quality)
    shifted = Curve.of(pairs.with_scores(s=np.exp(pairs.score("s")[:, 0])), "s")
    assert np.allclose(curve.quality, shifted.quality)  # only the order of scores counts


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=25))
def test_the_hull_lies_above_every_point_and_bends_down(points: list[tuple[int, int]]) -> None:
    x, y = np.array(points, dtype=float).T
    corners, height = upper_hull(x, y)
    assert (np.diff(corners) > 0).all()
    assert (np.diff(height) > 0).all()
    assert (np.interp(x, corners, height) >= y - 1e-9).all()
    slopes = np.diff(height) / np.diff(corners)
    assert (np.diff(slopes) < 1e-9).all()


def test_bands_are_those_of_resampled_items() -> None:
    pairs = drawn(400, 5, digits=2)
    bands = Bands.of(pairs, "s", resamples=1_500)
    rng = np.random.default_rng(7)
    own = [Curve.of(pairs_of(pairs, rng.integers(0, 400, 400)), "s").apgr for _ in range(400)]
    assert np.std(bands._apgr) == pytest.approx(np.std(own), rel=0.15)
    assert bands.apgr.low == pytest.approx(np.quantile(own, 0.025), abs=0.02)
    assert bands.apgr.high == pytest.approx(np.quantile(own, 0.975), abs=0.02)


def pairs_of(pairs: Pairs, rows: np.ndarray) -> Pairs:
    """Items drawn with repeats, under names of their own."""
    right = pairs.right[rows]
    return Pairs.of(right[:, 0], right[:, 1], scores={"s": pairs.score("s")[rows, 0]})


def test_bands_hold_the_truth_about_as_often_as_they_say() -> None:
    truth = Curve.of(drawn(400_000, 0, digits=3), "s")
    inside = [
        (b.apgr.low <= truth.apgr <= b.apgr.high, b.teacher_lead.low <= truth.gap <= b.teacher_lead.high)
        for b in (Bands.of(drawn(300, seed, digits=3), "s", resamples=300, seed=seed) for seed in range(1, 201))
    ]
    share = np.mean(inside, axis=0)
    assert (share >= 0.90).all()
    assert (share <= 0.99).all()


def test_many_scores_are_banded_in_groups_and_figures_stay_exact() -> None:
    pairs = drawn(5_000, 2)
    bands = Bands.of(pairs, "s", resamples=200)
    assert bands.rate.shape == (200, 257)
    assert bands.apgr.value == Curve.of(pairs, "s").apgr
    assert bands.apgr.low < bands.apgr.value < bands.apgr.high
    assert bands.apgr.high - bands.apgr.low < 0.1
    assert (bands.quality_band[0] <= bands.quality_band[1]).all()


def test_the_lift_is_apgr_above_random_times_the_gap() -> None:
    bands = Bands.of(FOUR, "s", resamples=50)
    assert bands.lift.value == pytest.approx((bands.curve.apgr - 0.5) * bands.curve.gap)
    # One sent on costs 1 + 0.25 x 10 = 3.5, for which at random (3.5 - 1) / 9 go to the teacher.
    assert bands.over_random(0.25).value == pytest.approx(0.75 - (0.5 + 2.5 / 9 * 0.25))
    same = Bands.of(FOUR, "s", resamples=50)
    assert (bands.quality == same.quality).all()
