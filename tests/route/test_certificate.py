"""What a certificate promises, and how often it holds: a thousand calibrations of a router whose quality is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, binom

from distillcalc.errors import InputError
from distillcalc.route.certificate import certify
from distillcalc.route.goal import Goal
from distillcalc.route.mixing import candidates
from distillcalc.route.pairs import Pairs
from distillcalc.workload.scenario import Routing

STUDENT = beta(3, 1.2)  # how likely the student is right, which is its score; right in 0.714 on average
TEACHER = 0.9


def drawn(n: int, rng: np.random.Generator, name: str, **usd: float) -> Pairs:
    chance = STUDENT.rvs(n, random_state=rng)
    return Pairs.of(
        rng.random(n) < chance, rng.random(n) < TEACHER, scores={"s": chance}, ids=[f"{name} {i}" for i in range(n)],
        **usd,  # type: ignore[arg-type]
    )  # fmt: skip


def escalated(threshold: float) -> float:
    return float(STUDENT.cdf(threshold))


def true_quality(threshold: float) -> float:
    """E[right]: TEACHER where the score is below the threshold, the score itself above it."""
    if threshold >= 1:
        return TEACHER
    mean_above = float(STUDENT.mean()) * float(beta(4, 1.2).sf(threshold))  # x f(x) of Beta(3) is m f of Beta(4)
    return TEACHER * escalated(threshold) + mean_above


def both(n: int, seed: int, **usd: float) -> tuple[Pairs, Pairs]:
    rng = np.random.default_rng(seed)
    return drawn(n, rng, "tuning", **usd), drawn(n, rng, "certifying", **usd)


def test_the_known_quality_is_that_of_many_items() -> None:
    pairs = drawn(200_000, np.random.default_rng(0), "many")
    sure = pairs.score("s")[:, 0]
    for threshold in (0.0, 0.5, 0.8, 1.0):
        right = np.where(sure < threshold, pairs.right[:, 1], pairs.right[:, 0])
        assert right.mean() == pytest.approx(true_quality(threshold), abs=0.004)


@pytest.mark.parametrize("goal", [Goal(retention=0.95, confidence=0.9), Goal(floor=0.85, confidence=0.9)], ids=str)
def test_the_guarantee_holds_in_a_thousand_calibrations(goal: Goal) -> None:
    calibrations, broken, certified = 1_000, 0, 0
    least = goal.floor if goal.floor is not None else goal.retention * TEACHER  # type: ignore[operator]
    rng = np.random.default_rng(11)
    for _ in range(calibrations):
        tuning, certifying = drawn(150, rng, "t"), drawn(150, rng, "c")
        found = certify(tuning, certifying, "s", candidates(tuning, "s", steps=13), goal)
        if found.chosen is None or found.thresholds is None:
            continue
        certified += 1
        broken += true_quality(float(found.thresholds[0])) < least
    assert certified > 500  # a certificate that is never given would keep every promise
    # At most one in ten on average; 130 of 1,000 come by chance once in a thousand.
    assert broken <= binom.ppf(0.999, calibrations, 1 - goal.confidence)


def test_a_budget_is_kept_in_nine_calibrations_of_ten() -> None:
    goal = Goal(usd_per_month=400, requests_per_month=1_000_000, confidence=0.9)
    most = (400e-6 - 1e-5) / 1e-3  # dollars of a request are 1e-5 + rate x 1e-3
    broken, within = 0, []
    rng = np.random.default_rng(12)
    for _ in range(300):
        usd = {"student_usd": 1e-5, "teacher_usd": 1e-3}
        tuning, certifying = drawn(150, rng, "t", **usd), drawn(150, rng, "c", **usd)
        found = certify(tuning, certifying, "s", candidates(tuning, "s", steps=13), goal)
        assert found.thresholds is not None
        within.append(escalated(float(found.thresholds[0])))
        broken += within[-1] > most
    assert broken <= binom.ppf(0.999, 300, 0.1)
    assert np.mean(within) > 0.6 * most  # and most of it is used


def test_the_cheapest_certified_threshold_is_chosen() -> None:
    tuning, certifying = both(2_000, 1, student_usd=1e-5, teacher_usd=1e-3)
    found = certify(tuning, certifying, "s", candidates(tuning, "s"), Goal(retention=0.95))
    assert found.chosen is not None
    cheaper = found.tuning.usd < found.tuning.usd[found.chosen]
    assert not found.certified[cheaper].any()
    assert found.certified[found.chosen]
    assert found.usd == pytest.approx(1e-5 + found.certifying.escalation_rate[found.chosen] * 1e-3)
    assert found.retention is not None
    assert found.retention.low < found.retention.value < found.retention.high
    assert found.more_items == 0


def test_a_tighter_goal_never_sends_less_on() -> None:
    tuning, certifying = both(3_000, 2)
    rates = []
    for retention in (0.8, 0.85, 0.9, 0.95, 0.98):
        found = certify(tuning, certifying, "s", candidates(tuning, "s"), Goal(retention=retention))
        assert found.chosen is not None
        rates.append(found.certifying.escalation_rate[found.chosen])
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]


def test_too_few_pairs_say_how_many_more() -> None:
    few_tuning, few = both(40, 3)
    grid = candidates(few_tuning, "s", steps=9)
    goal = Goal(floor=0.85)
    found = certify(few_tuning, few, "s", grid, goal)
    assert found.chosen is None
    assert found.more_items is not None
    assert found.more_items > 20
    assert "Not enough data: about" in " ".join(found.sentences)


def test_what_no_threshold_reaches_is_told_and_no_data_is_asked_for() -> None:
    tuning, certifying = both(500, 4)
    found = certify(tuning, certifying, "s", candidates(tuning, "s"), Goal(floor=0.99))
    assert found.chosen is None
    assert found.more_items is None
    assert "more labelled pairs would not help" in " ".join(found.sentences)


def test_a_budget_below_the_students_price_is_not_certified_and_one_without_prices_refused() -> None:
    goal = Goal(usd_per_month=1, requests_per_month=1_000_000)
    tuning, certifying = both(200, 5, student_usd=1e-3, teacher_usd=1e-2)
    assert certify(tuning, certifying, "s", candidates(tuning, "s"), goal).chosen is None
    tuning, certifying = both(200, 5)
    with pytest.raises(InputError, match="a budget takes dollars"):
        certify(tuning, certifying, "s", candidates(tuning, "s"), goal)


def test_quality_and_a_budget_are_promised_together() -> None:
    usd = {"student_usd": 1e-5, "teacher_usd": 1e-3}
    tuning, certifying = both(3_000, 6, **usd)
    dear = Goal(retention=0.93, usd_per_month=600, requests_per_month=1_000_000)
    cheap = Goal(retention=0.93, usd_per_month=100, requests_per_month=1_000_000)
    assert certify(tuning, certifying, "s", candidates(tuning, "s"), dear).chosen is not None
    assert certify(tuning, certifying, "s", candidates(tuning, "s"), cheap).chosen is None


def test_pairs_on_both_sides_are_refused() -> None:
    tuning, _ = both(100, 7)
    with pytest.raises(InputError, match="100 of 100 certifying pairs are among the tuning pairs too"):
        certify(tuning, tuning, "s", candidates(tuning, "s"), Goal(retention=0.9))
    other = Pairs.of([1], [1], scores={"s": [1]}, student="another")
    with pytest.raises(InputError, match="another"):
        certify(tuning, other, "s", candidates(tuning, "s"), Goal(retention=0.9))


def test_the_order_of_rows_does_not_matter() -> None:
    tuning, certifying = both(400, 8)
    order = np.random.default_rng(0).permutation(400)
    goal = Goal(retention=0.95)
    grid = candidates(tuning, "s")
    one = certify(tuning, certifying, "s", grid, goal)
    other = certify(tuning.take(order), certifying.take(order), "s", candidates(tuning.take(order), "s"), goal)
    assert one.chosen == other.chosen
    assert (one.certified == other.certified).all()


def test_shares_of_rightness_are_certified_by_bets() -> None:
    rng = np.random.default_rng(9)
    made = []
    for name in ("t", "c"):
        sure = rng.random(3_000)
        student = np.clip(sure + rng.normal(0, 0.1, 3_000), 0, 1)
        teacher = np.clip(0.9 + rng.normal(0, 0.05, 3_000), 0, 1)
        ids = [f"{name}{i}" for i in range(3_000)]
        made.append(Pairs.of(student, teacher, scores={"s": sure}, ids=ids))
    found = certify(made[0], made[1], "s", candidates(made[0], "s"), Goal(retention=0.9))
    assert found.measured is None
    assert found.chosen is not None
    assert 0.9 <= found.certifying.quality[found.chosen] / made[1].right[:, 1].mean() < 0.95
    assert certify(made[0], made[1], "s", candidates(made[0], "s"), Goal(floor=0.97)).chosen is None


def test_a_chain_of_three_is_certified_too() -> None:
    rng = np.random.default_rng(10)
    made = []
    for name in ("t", "c"):
        n = 1_500
        skill = rng.random((n, 1))
        right = (rng.random((n, 3)) < np.clip(skill + np.array([0.0, 0.2, 0.6]), 0, 1)).astype(float)
        ids = tuple(f"{name}{i}" for i in range(n))
        usd = np.tile([1e-5, 1e-4, 1e-3], (n, 1))
        sure = np.clip(skill + rng.normal(0, 0.1, (n, 2)), 0, 1)
        made.append(Pairs(ids, ("",) * n, ("small", "middle", "big"), right, {"s": sure}, usd))
    grid = candidates(made[0], "s")
    found = certify(made[0], made[1], "s", grid, Goal(retention=0.9))
    assert found.chosen is not None
    assert found.thresholds is not None
    assert found.thresholds.shape == (2,)
    assert found.usd < 1.11e-3  # all three models for everybody


def test_the_counts_stand_in_a_scenario() -> None:
    tuning, certifying = both(300, 13)
    found = certify(tuning, certifying, "s", candidates(tuning, "s"), Goal(retention=0.95), source="a test")
    assert found.measured is not None
    assert found.measured.certifying.items == 300
    assert found.measured.student_right == int(certifying.right[:, 0].sum())
    assert Routing(measured=found.measured).measured == found.measured
    assert found.to_dict()["items"] == {"tuning": 300, "certifying": 300}


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({}, "ask for retention, floor or usd_per_month"),
        ({"retention": 0.9, "floor": 0.8}, "not for both"),
        ({"usd_per_month": 10}, "go together"),
        ({"retention": 1.2}, "less than or equal to 1|at most 1"),
    ],
)
def test_a_goal_that_asks_nothing_or_too_much_is_refused(asked: dict[str, float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Goal.of(**asked)


def test_a_goal_says_what_it_asks() -> None:
    assert str(Goal(retention=0.92)) == "quality at least 0.92 of the teacher's, with 95% confidence"
    most = Goal(usd_per_month=1_500, requests_per_month=1e6)
    assert str(most) == "the most quality for at most $1,500 a month, with 95% confidence"


def dear_when_hard(n: int, rng: np.random.Generator, name: str) -> Pairs:
    """Hard questions have long answers: the less sure the student, the dearer both models."""
    chance = STUDENT.rvs(n, random_state=rng)
    length = 1 + 8 * (1 - chance) ** 2
    return Pairs.of(
        rng.random(n) < chance, rng.random(n) < TEACHER, scores={"s": chance}, ids=[f"{name} {i}" for i in range(n)],
        student_usd=1e-5 * length, teacher_usd=1e-3 * length,
    )  # fmt: skip


def test_a_budget_holds_where_the_dear_requests_are_those_sent_on() -> None:
    goal = Goal(usd_per_month=1_000, requests_per_month=1_000_000, confidence=0.9)
    many = dear_when_hard(400_000, np.random.default_rng(0), "many")
    sure, usd = many.score("s")[:, 0], many.usd
    assert usd is not None
    rng, broken, used = np.random.default_rng(1), 0, []
    for _ in range(150):
        tuning, certifying = dear_when_hard(400, rng, "t"), dear_when_hard(400, rng, "c")
        found = certify(tuning, certifying, "s", candidates(tuning, "s", steps=13), goal)
        assert found.thresholds is not None
        month = 1e6 * (usd[:, 0].mean() + (usd[:, 1] * (sure < found.thresholds[0])).mean())
        used.append(month)
        broken += month > 1_000
    assert broken <= binom.ppf(0.999, 150, 0.1)
    assert np.mean(used) > 500


def test_what_no_budget_pays_for_is_told_in_dollars() -> None:
    tuning, certifying = both(300, 20, student_usd=1e-3, teacher_usd=1e-2)
    goal = Goal(usd_per_month=500, requests_per_month=1_000_000)
    said = " ".join(certify(tuning, certifying, "s", candidates(tuning, "s"), goal).sentences)
    assert "The cheapest that there is costs $1,000 a month" in said


def test_a_budget_that_the_student_keeps_surely_is_certified_however_few_the_pairs() -> None:
    tuning, certifying = both(60, 21, student_usd=1e-3, teacher_usd=1.0)
    goal = Goal(usd_per_month=1_010, requests_per_month=1_000_000)
    found = certify(tuning, certifying, "s", candidates(tuning, "s"), goal)
    assert found.chosen is not None
    assert found.certifying.escalation_rate[found.chosen] == 0


def test_more_pairs_are_not_asked_for_where_the_budget_stands_in_the_way() -> None:
    tuning, certifying = both(2_000, 22, student_usd=1e-5, teacher_usd=1e-3)
    goal = Goal(retention=0.97, usd_per_month=50, requests_per_month=1_000_000)
    found = certify(tuning, certifying, "s", candidates(tuning, "s"), goal)
    assert found.chosen is None
    assert found.more_items is None
    assert "within the budget" in " ".join(found.sentences)


def test_shares_of_rightness_say_how_many_more_pairs_it_takes() -> None:
    rng = np.random.default_rng(23)
    made = []
    for name in ("t", "c"):
        sure = rng.random(60)
        ids = [f"{name}{i}" for i in range(60)]
        student, teacher = np.clip(sure + 0.3, 0, 1), np.full(60, 0.9)
        made.append(Pairs.of(student, teacher, scores={"s": sure}, ids=ids))
    found = certify(made[0], made[1], "s", candidates(made[0], "s"), Goal(retention=0.97))
    assert found.chosen is None
    assert found.more_items is not None
    assert found.more_items > 50


def test_a_confidence_is_told_to_its_last_digit() -> None:
    assert str(Goal(floor=0.9, confidence=0.995)).endswith("with 99.5% confidence")
