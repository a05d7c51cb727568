"""A router beside its baselines, when it is not worth having, and the figure of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distillcalc.errors import InputError
from distillcalc.route.bands import Bands, Metric
from distillcalc.route.beside import Beside, Verdict, judge, judge_chain, pairs_to_show
from distillcalc.route.certificate import certify
from distillcalc.route.figures import curve_figure
from distillcalc.route.goal import Goal
from distillcalc.route.mixing import Kind, candidates
from distillcalc.route.pairs import Pairs

FOUR = Pairs.of([0, 1, 0, 1], [1, 1, 1, 0], scores={"s": [0.1, 0.2, 0.3, 0.4]}, student_usd=1, teacher_usd=10)


def drawn(n: int, seed: int, teacher: float = 0.9, *, informed: bool = True, **usd: float) -> Pairs:
    rng = np.random.default_rng(seed)
    chance = rng.beta(3, 1.2, n)
    sure = chance if informed else rng.random(n)
    return Pairs.of(
        rng.random(n) < chance, rng.random(n) < teacher, scores={"s": sure}, ids=[f"{seed}-{i}" for i in range(n)],
        **usd,  # type: ignore[arg-type]
    )  # fmt: skip


def verdict(
    goal: Goal, n: int = 2_000, teacher: float = 0.9, kind: Kind = "cascade", *, informed: bool = True, **usd: float
) -> Verdict:
    tuning, certifying = (drawn(n, seed, teacher, informed=informed, **usd) for seed in (1, 2))
    found = certify(tuning, certifying, "s", candidates(tuning, "s"), goal, kind=kind)
    return judge(found, Bands.of(certifying, "s", kind, resamples=300))


def test_the_rows_by_hand() -> None:
    beside = Beside.of(Bands.of(FOUR, "s", resamples=50), 0.5)
    assert [row.name for row in beside.rows] == [
        "always the student", "always the teacher", "this router", "random, for as many dollars", "random, as good",
        "oracle, as good",
    ]  # fmt: skip
    # A cascade: 1 + 0.5 x 10 = 6. At random that pays for (6 - 1) / 9 = 5/9 of the requests: 0.5 + 5/9 x 0.25.
    assert [row.quality.value for row in beside.rows] == pytest.approx([0.5, 0.75, 0.75, 0.5 + 5 / 36, 0.75, 0.75])
    # Random is as good where the teacher answers all; the oracle sends one on.
    assert [row.usd_per_1000 for row in beside.rows] == pytest.approx([1e3, 1e4, 6e3, 6e3, 1e4, 3.5e3])
    unpriced = Beside.of(Bands.of(Pairs.of(*FOUR.right.T, scores={"s": FOUR.score("s")[:, 0]}), "s", resamples=50), 0.5)
    assert unpriced.rows[3].name == "random, as many sent on"
    assert unpriced.rows[3].quality.value == pytest.approx(0.625)
    assert beside.lines()[2][-1] == "+40%"
    assert beside.over_random is not None
    assert beside.over_random.value == pytest.approx(0.25 - 5 / 36)


def test_a_router_that_is_worth_having() -> None:
    found = verdict(Goal(retention=0.95), student_usd=1e-5, teacher_usd=1e-3)
    assert found.advice == "router"
    assert "per 1,000 requests against $1 for the teacher alone" in str(found)
    assert "The same dollars spent at random would have a quality" in str(found)
    assert ", surely so;" in str(found)


def test_a_teacher_that_is_weaker_than_its_student_is_told() -> None:
    found = verdict(Goal(retention=0.95), teacher=0.5)
    assert found.advice == "student"
    assert "The teacher is surely not better than the student" in str(found)


def complementary(n: int, seed: int) -> Pairs:
    """Both right in about 0.8, hardly ever wrong together, and a score that knows which."""
    rng = np.random.default_rng(seed)
    which = rng.random(n)
    student, teacher = which > 0.2, (which < 0.8) | (rng.random(n) < 0.02)
    ids = [f"{seed}-{i}" for i in range(n)]
    return Pairs.of(student, teacher, scores={"s": which}, ids=ids, student_usd=1e-5, teacher_usd=1e-3)


def test_a_teacher_that_is_no_better_but_wrong_elsewhere_is_worth_routing_to() -> None:
    tuning, certifying = complementary(2_000, 1), complementary(2_000, 2)
    found = certify(tuning, certifying, "s", candidates(tuning, "s"), Goal(floor=0.9))
    said = judge(found, Bands.of(certifying, "s", resamples=300))
    assert said.advice == "router"
    assert found.quality is not None
    assert found.quality.value > 0.9


def test_a_student_that_is_dearer_and_no_better_is_not_taken() -> None:
    found = verdict(Goal(retention=0.7), student_usd=2e-2, teacher_usd=1e-3)
    assert found.advice == "teacher"
    assert "the teacher is better for less" in str(found)


def test_a_score_that_is_upside_down_is_named() -> None:
    tuning, certifying = (drawn(1_500, seed) for seed in (1, 2))
    flipped = [one.with_scores(s=-one.score("s")[:, 0]) for one in (tuning, certifying)]
    found = certify(flipped[0], flipped[1], "s", candidates(flipped[0], "s"), Goal(retention=0.95))
    said = judge(found, Bands.of(flipped[1], "s", resamples=300))
    assert said.advice == "teacher"
    assert "upside down" in str(said)


def test_random_for_the_same_dollars_is_what_a_dear_student_has_to_beat() -> None:
    """The student takes six tenths of the teacher's price: sending on at random pays it for fewer requests."""
    found = verdict(Goal(retention=0.93), student_usd=6e-4, teacher_usd=1e-3)
    assert found.advice == "teacher"
    assert "The same dollars spent at random would have a quality" in str(found)
    assert "higher" in str(found)


def test_a_budget_that_the_teacher_breaks_leaves_the_student() -> None:
    goal = Goal(usd_per_month=500, requests_per_month=1_000_000)
    found = verdict(goal, informed=False, student_usd=1e-5, teacher_usd=1e-3)
    assert found.advice == "student"


def test_a_chain_that_one_of_its_models_matches_for_less_is_none() -> None:
    rng = np.random.default_rng(0)
    made = []
    for name in ("t", "c"):
        n = 1_000
        right = (rng.random((n, 3)) < np.array([0.5, 0.93, 0.95])).astype(float)
        ids, usd = tuple(f"{name}{i}" for i in range(n)), np.tile([1e-3, 2e-3, 1e-1], (n, 1))
        made.append(Pairs(ids, ("",) * n, ("a", "b", "c"), right, {"s": rng.random((n, 2))}, usd))
    # Scores of noise: any mixture pays b's price more than once, or c's, and is hardly better than b.
    found = certify(made[0], made[1], "s", candidates(made[0], "s"), Goal(retention=0.8))
    said = judge_chain(found, made[1])
    assert said.advice == "one-model"
    assert str(said).startswith("Do not route: one model of the chain. b alone is right in 0.9")
    assert found.chosen is not None
    quality, usd = found.certifying.quality[found.chosen], found.certifying.usd[found.chosen]
    beside = Beside.of_chain(made[1], found.certifying.shares[found.chosen], float(quality), float(usd))
    assert [row.name for row in beside.rows] == ["always a", "always b", "always c", "this router"]
    assert [row.usd_per_1000 for row in beside.rows[:3]] == pytest.approx([1, 2, 100])
    assert beside.over_random is None
    assert len(beside.lines()) == 4


def test_a_student_that_does_by_itself_needs_no_router() -> None:
    assert verdict(Goal(retention=0.7)).advice == "student"


def test_a_score_that_says_nothing_is_no_router() -> None:
    found = verdict(Goal(retention=0.95), informed=False)
    assert found.advice == "teacher"
    assert "not shown to beat sending on as many at random" in str(found)


def test_how_many_pairs_a_lift_takes_to_show() -> None:
    # An interval of +-0.0196 is a standard error of 0.01: (2.8 x 0.01 / 0.014)^2 - 1 = 3 times the 100 pairs more.
    assert pairs_to_show(Metric(0.014, 0.014 - 0.0196, 0.014 + 0.0196), 100) == pytest.approx(300, abs=10)
    assert pairs_to_show(Metric(0.001, 0.001 - 0.0196, 0.001 + 0.0196), 100) is None
    assert pairs_to_show(Metric(-0.01, -0.03, 0.01), 100) is None


def test_too_few_pairs_are_told_with_how_many_more() -> None:
    found = verdict(Goal(floor=0.86), n=120)
    assert found.advice == "more-data"
    assert "more labelled pairs would tell" in str(found)


def test_a_cascade_dearer_than_its_teacher_is_not_worth_it() -> None:
    found = verdict(Goal(retention=0.97), student_usd=0.9e-3, teacher_usd=1e-3)
    assert found.advice == "teacher"
    assert "for the teacher" in str(found)


def test_a_goal_that_nothing_reaches_leaves_the_teacher() -> None:
    assert verdict(Goal(floor=0.99)).advice == "teacher"


def test_the_figure_shows_dollars_where_they_are_known(tmp_path: Path) -> None:
    tuning, certifying = (drawn(500, seed, student_usd=1e-5, teacher_usd=1e-3) for seed in (1, 2))
    found = certify(tuning, certifying, "s", candidates(tuning, "s"), Goal(retention=0.9))
    bands = Bands.of(certifying, "s", resamples=50)
    figure = curve_figure(bands, found)
    (axes,) = figure.axes
    assert "USD" in axes.get_xlabel()
    assert any("sent on" in text.get_text() for text in axes.get_legend().get_texts())
    figure.savefig(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000
    assert "[%]" in curve_figure(bands, over="calls").axes[0].get_xlabel()
    unpriced = Bands.of(drawn(100, 3), "s", resamples=20)
    assert "[%]" in curve_figure(unpriced).axes[0].get_xlabel()
    with pytest.raises(InputError, match="dollars are not known"):
        curve_figure(unpriced, over="usd")
