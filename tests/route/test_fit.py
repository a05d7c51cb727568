"""From pairs to a router: what is tried, what is certified, what is refused, and what a decision makes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distillcalc.decide.recommend import recommend
from distillcalc.errors import InputError, UnknownName
from distillcalc.route.confidence import Confidence
from distillcalc.route.cross_fit import cross_fit
from distillcalc.route.deciding import with_router
from distillcalc.route.evaluate import evaluate_router
from distillcalc.route.fit import Fitted, fit_router
from distillcalc.route.given import Given
from distillcalc.route.goal import Goal
from distillcalc.route.learned import LearnedScore
from distillcalc.route.pairs import Pairs, Rejected
from distillcalc.route.requests import Request
from distillcalc.route.router import Router
from distillcalc.route.rules import Rules
from distillcalc.route.watch import Watch
from distillcalc.workload.scenario import Scenario

GOAL = Goal(retention=0.95)


def drawn(n: int = 3_000, seed: int = 0, teacher: float = 0.93, **more: object) -> Pairs:
    """A student that knows how sure it may be, and says something else too, that is worth nothing."""
    rng = np.random.default_rng(seed)
    chance = rng.beta(3, 1.2, n)
    given: dict[str, object] = {
        "scores": {"noise": rng.random(n), "max_probability": chance}, "ids": [f"{seed}-{i}" for i in range(n)],
        "student": "qwen3-4b", "teacher": "openai/gpt-6-sol", "student_usd": 1e-5, "teacher_usd": 1e-3,
    } | more  # fmt: skip
    return Pairs.of(rng.random(n) < chance, rng.random(n) < teacher, **given)  # type: ignore[arg-type]


def embedded(n: int, seed: int) -> Pairs:
    """Questions on which the student fails where the first number of their embedding is high."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, 8)).astype(np.float32)
    right = rng.random(n) < 1 / (1 + np.exp(2.5 * vectors[:, 0] - 1))
    pairs = Pairs.of(right, rng.random(n) < 0.95, ids=[f"{seed}-{i}" for i in range(n)])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return replace(pairs, requests=tuple(Request(embedding=vector) for vector in vectors))


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return fit_router(drawn(), GOAL)


def test_the_score_with_the_larger_lift_is_taken(fitted: Fitted) -> None:
    assert fitted.router.score_name == "max_probability"
    assert [one.name for one in fitted.tried] == ["max_probability", "noise"]
    assert fitted.tried[0].lift.value > fitted.tried[1].lift.value
    assert fitted.verdict.advice == "router"
    assert fitted.parts == (0, 1_500, 1_500)


def test_its_threshold_is_the_certified_one_and_its_probabilities_are_honest(fitted: Fitted) -> None:
    assert fitted.certificate.thresholds is not None
    assert fitted.router.thresholds == (float(fitted.certificate.thresholds[0]),)
    assert fitted.reliability().ece < 0.05
    assert fitted.beside is not None
    assert fitted.beside.rows[2].escalation_rate == pytest.approx(
        float(fitted.certificate.certifying.escalation_rate[fitted.certificate.chosen or 0])
    )


def test_the_order_of_rows_does_not_matter(fitted: Fitted) -> None:
    pairs = drawn()
    again = fit_router(pairs.take(np.random.default_rng(1).permutation(len(pairs))), GOAL)
    assert again.router.version == fitted.router.version
    assert again.to_dict() == fitted.to_dict()


def asking(router: Router, retention: float) -> Router:
    """The same router, had another retention been asked of it."""
    return replace(router, facts={**router.facts, "goal": {"retention": retention}})


def test_new_pairs_confirm_it(fitted: Fitted) -> None:
    fresh = drawn(seed=1, n=40_000)
    assert evaluate_router(asking(fitted.router, 0.98), fresh).holds is False
    found = evaluate_router(asking(fitted.router, 0.93), fresh)
    assert found.holds
    assert found.shares["qwen3-4b"] + found.shares["openai/gpt-6-sol"] == pytest.approx(1)
    assert evaluate_router(fitted.router, drawn(seed=1, n=200)).holds is None
    assert found.quality == pytest.approx(fitted.certificate.quality.value, abs=0.03)  # type: ignore[union-attr]
    assert found.reliability is not None
    assert found.reliability.ece < 0.05
    assert "is certified by these pairs too" in " ".join(found.sentences)
    assert np.isnan(found.seconds["p50"])
    timed = replace(drawn(seed=1), seconds=np.tile([0.1, 1.0], (3_000, 1)))
    seconds = evaluate_router(fitted.router, timed).seconds
    assert seconds["p50"] in (pytest.approx(0.1), pytest.approx(1.1))
    assert seconds["p99"] == pytest.approx(1.1)  # a cascade takes both


def test_a_router_knows_what_live_traffic_is_compared_with(fitted: Fitted, tmp_path: Path) -> None:
    again = Router.load(fitted.router.save(tmp_path / "router"))
    assert again.reference is not None
    assert again.reference.items == fitted.parts[2]
    assert again.reference.escalation_rate == pytest.approx(fitted.certificate.escalation_rate.value)  # type: ignore[union-attr]
    quiet, moved = Watch(again.reference), Watch(again.reference)
    rng = np.random.default_rng(0)
    for watch, scores in ((quiet, rng.beta(3, 1.2, 3_000)), (moved, rng.beta(1.5, 1.5, 3_000))):
        sent = scores < again.thresholds[0]
        right = rng.random(3_000) < np.where(sent, 0.93, scores)  # of the answer that users get
        watch.extend(scores, sent, right=right.astype(float))
    assert quiet.report().advice == "nothing"
    assert moved.report().advice == "recalibrate"


def test_a_student_that_got_worse_is_seen(fitted: Fitted) -> None:
    worse = drawn(seed=2)
    rng = np.random.default_rng(0)
    right = worse.right.copy()
    right[:, 0] *= rng.random(len(worse)) < 0.8
    assert evaluate_router(fitted.router, replace(worse, right=right)).holds is False


def test_pairs_that_it_was_made_from_are_refused(fitted: Fitted) -> None:
    with pytest.raises(InputError, match=r"3,000 of 3,000 certifying pairs are among the router's own pairs"):
        evaluate_router(fitted.router, drawn())
    with pytest.raises(InputError, match="another student needs a router of its own"):
        evaluate_router(fitted.router, drawn(seed=1, student="qwen3-8b"))


def test_a_learned_score_beats_random_and_is_kept(tmp_path: Path) -> None:
    pairs = embedded(3_000, 0)
    found = fit_router(pairs, Goal(retention=0.85), scores=["logistic", "knn", "logistic-gains"])
    assert found.verdict.advice == "router"
    assert found.router.kind == "router"
    assert found.parts[0] > 1_000
    assert found.bands is not None
    assert found.bands.apgr.low > 0.6
    again = Router.load(found.router.save(tmp_path / "router"))
    fresh = embedded(1_000, 1)
    assert (again.scored(fresh) == found.router.scored(fresh)).all()
    assert evaluate_router(again, fresh).beside is not None


def test_out_of_fold_scores_are_of_models_that_never_saw_them() -> None:
    pairs = embedded(600, 2)
    seen: list[set[str]] = []

    def learn(part: Pairs) -> LearnedScore:
        seen.append(set(part.ids))
        return LearnedScore.fit(part.asked(), part.right[:, 0], kind="logistic")

    found = cross_fit(pairs, learn)
    assert np.isfinite(found).all()
    left_out = [set(pairs.ids) - ids for ids in seen]
    assert sorted(id for ids in left_out for id in ids) == sorted(pairs.ids)
    noise = replace(pairs, right=np.column_stack([np.random.default_rng(0).random(600) < 0.5, np.ones(600)]))
    scored = noise.with_scores(s=cross_fit(noise, learn))
    auc = np.mean(
        [
            a > b
            for a in scored.score("s")[noise.right[:, 0] == 1, 0]
            for b in scored.score("s")[noise.right[:, 0] == 0, 0]
        ]
    )
    assert auc < 0.6  # nothing to learn, nothing learned
    with pytest.raises(InputError, match="2 or more"):
        cross_fit(pairs, learn, folds=1)


def test_rules_are_part_of_what_is_certified() -> None:
    pairs = drawn(texts=[f"{'refund' if i % 3 == 0 else 'other'} {i}" for i in range(3_000)])
    rules = Rules.model_validate({"rules": [{"kind": "topic", "words": ["refund"]}]})
    found = fit_router(pairs, GOAL, rules=rules)
    assert found.certificate.escalation_rate is not None
    assert found.certificate.escalation_rate.value > 0.3
    assert float(found.certificate.tuning.escalation_rate.min()) == pytest.approx(1 / 3, abs=0.03)
    assert np.abs(found.router.thresholds[0]) < 100


def test_a_chain_of_three_is_fitted() -> None:
    rng = np.random.default_rng(3)
    n = 3_000
    skill = rng.random((n, 1))
    right = (rng.random((n, 3)) < np.clip(skill + np.array([0.0, 0.2, 0.6]), 0, 1)).astype(float)
    sure = np.clip(skill + rng.normal(0, 0.1, (n, 2)), 0, 1)
    ids = tuple(map(str, range(n)))
    chain = Pairs(ids, ("",) * n, ("a", "b", "c"), right, {"s": sure}, np.tile([1e-5, 1e-4, 1e-3], (n, 1)))
    found = fit_router(chain, Goal(retention=0.9))
    assert found.verdict.advice == "router"
    assert len(found.router.thresholds) == 2
    assert found.bands is None
    with pytest.raises(InputError, match="a student and a teacher"):
        with_router(Scenario.load("support-triage"), found.router)


def test_a_decision_takes_its_escalation_rate_from_the_router(fitted: Fitted) -> None:
    scenario = Scenario.load("support-triage")
    made = with_router(scenario, fitted.router)
    assert made.choices.routing.measured is not None
    assert made.choices.routing.measured.student == "qwen3-4b"
    cascade = recommend(made).options["cascade"]
    measured = made.choices.routing.measured
    assert cascade.facts["threshold"] in measured.threshold
    place = measured.threshold.index(cascade.facts["threshold"])
    counts = measured.certifying
    assert cascade.facts["escalation_rate"] == pytest.approx(
        (counts.escalated[place] + 1) / (counts.items + 2), abs=0.01
    )
    with pytest.raises(InputError, match=r"measured on qwen3-4b\. Got the student qwen3-8b"):
        with_router(scenario, fitted.router, student="qwen3-8b")
    unnamed = replace(fitted.router, measured=measured.model_copy(update={"student": "ours"}))
    assert with_router(scenario, unnamed, student="qwen3-4b") == made
    with pytest.raises(InputError, match="Got a router of ours") as told:
        with_router(scenario, unnamed)
    assert 'names={"student": ...} of read_pairs or student=... of with_router' in str(told.value)  # Python
    assert "--student" in str(told.value)  # and a terminal


def test_what_cannot_be_fitted_is_told() -> None:
    with pytest.raises(UnknownName, match=r"max_probabilty.*Did you mean max_probability"):
        fit_router(drawn(100), GOAL, scores=["max_probabilty"])
    with pytest.raises(InputError, match=r"is 0\.5 for every item"):
        fit_router(drawn(100, scores={"s": np.full(100, 0.5)}), GOAL, calibration=None)
    with pytest.raises(InputError, match="give an embedder"):
        fit_router(drawn(100, scores={}), GOAL)
    with pytest.raises(InputError, match="shares are three"):
        fit_router(drawn(100), GOAL, shares=[0.5, 0.5])
    with pytest.raises(InputError, match="too few"):
        fit_router(drawn(1), GOAL)


def test_a_teacher_weaker_than_its_student_is_told() -> None:
    assert fit_router(drawn(teacher=0.5), GOAL).verdict.advice == "student"


def test_nothing_certified_sends_everything_on() -> None:
    found = fit_router(drawn(200), Goal(floor=0.995))
    assert found.verdict.advice == "teacher"
    assert found.certificate.chosen is None
    fresh = drawn(500, seed=5)
    assert (found.router.scored(fresh)[:, 0] < found.router.thresholds[0]).all()


def test_repeated_texts_count_once_and_a_frequent_one_is_named() -> None:
    """Half of the traffic is one text, which the student gets wrong: no promise can come of its repeats."""
    rng = np.random.default_rng(4)
    n = 4_000
    often = rng.random(n) < 0.5
    chance = np.where(often, 0.99, rng.beta(3, 1.2, n))
    right = np.where(often, 0.0, rng.random(n) < chance)
    texts = ["the frequent one" if one else f"text {i}" for i, one in enumerate(often)]
    pairs = Pairs.of(right, rng.random(n) < 0.93, scores={"sure": chance}, texts=texts, ids=[str(i) for i in range(n)])
    both = [fit_router(pairs, GOAL, seed=seed) for seed in range(4)]
    for one in both:  # the frequent text is on one side of each split
        assert len(set(one.certifying.texts)) == one.parts[2]
        among = "the frequent one" in one.certifying.texts
        assert among == any("each text counts once, and one text is" in note for note in one.notes)
    assert any("the frequent one" in one.certifying.texts for one in both)


def test_rows_that_were_lost_are_told_first_and_too_many_are_refused() -> None:
    pairs = drawn(600)
    few = replace(pairs, rejected=tuple(Rejected(i, "teacher_right is missing") for i in range(5)))
    assert fit_router(few, GOAL).notes == ("5 of 605 rows are no pairs (5 x teacher_right is missing).",)
    some = replace(pairs, rejected=tuple(Rejected(i, "teacher_right is missing") for i in range(100)))
    assert "nothing that is promised holds" in fit_router(some, GOAL).notes[0]
    most = replace(pairs, rejected=tuple(Rejected(i, "teacher_right is missing") for i in range(700)))
    with pytest.raises(InputError, match="700 of 1,300 rows are no pairs"):
        fit_router(most, GOAL)


def test_a_chain_that_nothing_is_certified_of_sends_everything_on() -> None:
    rng = np.random.default_rng(3)
    n = 400
    right = (rng.random((n, 3)) < np.array([0.4, 0.95, 0.9])).astype(float)
    ids = tuple(map(str, range(n)))
    chain = Pairs(ids, ("",) * n, ("a", "b", "c"), right, {"s": rng.random((n, 2))})
    found = fit_router(chain, Goal(floor=0.99))
    assert found.certificate.chosen is None
    assert found.verdict.advice in ("teacher", "more-data")
    assert (found.router.scored(chain) < np.array(found.router.thresholds)).all()


def test_a_column_named_like_a_confidence_is_one_only_where_the_probabilities_give_it() -> None:
    rng = np.random.default_rng(5)
    sure = 0.34 + 0.66 * rng.beta(3, 1.2, 800)
    pairs = Pairs.of(rng.random(800) < sure, rng.random(800) < 0.95, scores={"max_probability": sure})
    asked = tuple(Request(probabilities=[p, (1 - p) / 2, (1 - p) / 2]) for p in sure)
    known = replace(pairs, requests=asked)
    assert isinstance(fit_router(known, Goal(retention=0.9)).router.scores[0], Confidence)
    other = replace(pairs.with_scores(max_probability=5 * sure), requests=asked)
    assert isinstance(fit_router(other, Goal(retention=0.9)).router.scores[0], Given)
    assert isinstance(fit_router(pairs, Goal(retention=0.9)).router.scores[0], Given)
    bare = replace(pairs, scores={}, requests=asked)  # nothing is named: the probabilities are what there is
    tried = {one.name for one in fit_router(bare, Goal(retention=0.9)).tried}
    assert tried == {"max_probability", "margin", "entropy"}


def test_a_student_that_is_always_right_needs_no_calibration_and_no_router() -> None:
    pairs = drawn(600)
    perfect = replace(pairs, right=np.column_stack([np.ones(600), pairs.right[:, 1]]))
    found = fit_router(perfect, GOAL)
    assert found.verdict.advice == "student"
    assert found.router.calibrations == (None,)
    with pytest.raises(InputError, match="no calibration"):
        found.reliability()


def test_amounts_that_cannot_be_are_refused() -> None:
    for wrong in ({"extra_usd": -1.0}, {"extra_usd": float("nan")}, {"overhead_ms": -5.0}):
        with pytest.raises(InputError, match="must be a number of 0 or more"):
            fit_router(drawn(100), GOAL, **wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="below 1e"):
        fit_router(drawn(100, scores={"s": np.linspace(-1, 1, 100) * 1e308}), GOAL)
    with pytest.raises(InputError, match="shares are three"):
        fit_router(drawn(100), GOAL, shares=[float("nan"), 0.5, 0.5])


def test_what_judging_costs_goes_on_into_evaluation_and_scenario() -> None:
    found = fit_router(drawn(), GOAL, extra_usd=2e-4)
    fresh = drawn(seed=1)
    usd = evaluate_router(found.router, fresh).usd
    assert usd == pytest.approx(evaluate_router(found.router, fresh, extra_usd=0.0).usd + 2e-4)
    made = with_router(Scenario.load("support-triage"), found.router)
    assert made.choices.routing.verifier_usd_per_request == 2e-4


def test_a_scenario_takes_the_counts_and_refuses_another_teacher(fitted: Fitted) -> None:
    plain = Scenario.load("support-triage").to_dict()
    del plain["choices"]["evaluations"]
    made = with_router(Scenario.from_dict(plain), fitted.router)
    right = fitted.certifying.right.sum(axis=0)
    assert made.choices.evaluations["teacher"].correct == right[1]
    assert made.choices.evaluations["qwen3-4b"].correct == right[0]
    kept = with_router(Scenario.load("support-triage"), fitted.router)
    assert kept.choices.evaluations["teacher"].total == 500  # its own counts stand
    measured = fitted.router.measured
    assert measured is not None
    unnamed = replace(fitted.router, measured=measured.model_copy(update={"teacher": "teacher"}))
    with pytest.raises(InputError, match=r"the scenario's teacher is openai/gpt-6-sol\. Got a router before teacher"):
        with_router(Scenario.load("support-triage"), unnamed)
    assert with_router(Scenario.load("support-triage"), unnamed, teacher="openai/gpt-6-sol") == kept


def test_a_budget_is_told_apart_from_quality_when_it_is_evaluated() -> None:
    goal = Goal(retention=0.9, usd_per_month=600, requests_per_month=1_000_000)
    found = fit_router(drawn(), goal)
    fresh = drawn(seed=1)
    dearer = replace(fresh, usd=fresh.usd * 10)  # type: ignore[operator]
    said = " ".join(evaluate_router(found.router, dearer).sentences)
    assert "ABOVE its budget of $600" in said
    assert "within its budget" in " ".join(evaluate_router(found.router, fresh).sentences)
