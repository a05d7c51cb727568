"""Who answers what at which thresholds, by hand and by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillcalc.errors import InputError
from distillcalc.route.mixing import answering, billed, candidates, counts_of, mixtures, pareto, seconds_of
from distillcalc.route.pairs import Pairs

FOUR = Pairs.of(
    [0, 1, 0, 1], [1, 1, 1, 0], scores={"sure": [0.1, 0.2, 0.3, 0.4]}, student_usd=1, teacher_usd=10, student_s=0.1,
    teacher_s=[1, 2, 3, 4],
)  # fmt: skip


def chain(n: int = 400, seed: int = 0) -> Pairs:
    rng = np.random.default_rng(seed)
    skill = rng.random((n, 1))
    right = (rng.random((n, 3)) < np.clip(skill + np.array([-0.1, 0.1, 0.35]), 0, 1)).astype(float)
    sure = np.clip(skill + rng.normal(0, 0.15, (n, 2)), 0, 1)
    ids = tuple(map(str, range(n)))
    return Pairs(ids, ("",) * n, ("small", "middle", "big"), right, {"sure": sure}, np.tile([1.0, 4.0, 20.0], (n, 1)))


def test_the_first_model_whose_score_reaches_its_threshold_answers() -> None:
    scores = np.array([[0.9, 0.9], [0.5, 0.9], [0.5, 0.5], [0.7, 0.1]])
    assert answering(scores, np.array([0.7, 0.8])).tolist() == [0, 1, 2, 0]


def test_a_mixture_by_hand() -> None:
    # Below 0.3 go items 1 and 2: right are then the teacher's 1, 1 and the student's 0, 1.
    found = mixtures(FOUR, "sure", np.array([[0.3]]))
    assert found.escalation_rate.tolist() == [0.5]
    assert found.quality.tolist() == [0.75]
    assert found.usd.tolist() == [1 + 0.5 * 10]  # a cascade pays the student for all
    assert mixtures(FOUR, "sure", np.array([[0.3]]), "router").usd.tolist() == [0.5 * 1 + 0.5 * 10]
    assert mixtures(FOUR, "sure", np.array([[0.3]]), "router", extra_usd=0.25).usd.tolist() == [5.75]


def test_every_attempt_and_every_judging_is_billed() -> None:
    # 1, then 1 + 4, then 1 + 4 + 20; judged once, twice, and twice: the teacher's answer is not judged.
    assert billed(chain(2), "cascade", 0.5)[0].tolist() == [1.5, 6.0, 26.0]
    assert billed(chain(2), "router", 0.5)[0].tolist() == [1.5, 4.5, 20.5]


def test_counts_by_hand() -> None:
    found = counts_of(FOUR, "sure", np.array([[0.1], [0.2], [0.3], [0.4], [1.0]]))
    assert (found.items, found.teacher_right) == (4, 3)
    assert found.escalated == (0, 1, 2, 3, 4)
    assert found.lost == (2, 1, 1, 0, 0)  # items 1 and 3, then 3 alone
    assert found.gained == (1, 1, 1, 1, 0)  # item 4, until it too is sent on
    assert [found.right(i) for i in range(5)] == [2, 3, 3, 4, 3]


def test_shares_of_rightness_cannot_be_counted() -> None:
    with pytest.raises(InputError, match="right or wrong"):
        counts_of(Pairs.of([0.5, 1], [1, 1], scores={"s": [1, 2]}), "s", np.array([[1.5]]))


def test_items_of_equal_score_move_together() -> None:
    pairs = Pairs.of([0, 0, 1, 1], [1, 1, 1, 1], scores={"s": [0.5, 0.5, 0.5, 0.9]})
    rates = mixtures(pairs, "s", candidates(pairs, "s")).escalation_rate
    assert set(rates.tolist()) == {0, 0.75, 1}


def test_candidates_go_from_keeping_all_to_sending_all_on() -> None:
    rng = np.random.default_rng(0)
    pairs = Pairs.of(rng.random(500) < 0.5, rng.random(500) < 0.9, scores={"s": rng.random(500)})
    rates = mixtures(pairs, "s", candidates(pairs, "s")).escalation_rate
    assert rates[0] == 0
    assert rates[-1] == 1
    assert (np.diff(rates) > 0).all()
    assert np.diff(rates).max() <= 1 / 32 + 2 / 500


def test_a_constant_score_is_refused() -> None:
    with pytest.raises(InputError, match=r"is 0\.5 for every item"):
        candidates(Pairs.of([0, 1], [1, 1], scores={"s": [0.5, 0.5]}), "s")


def test_a_chain_is_the_front_of_all_combinations() -> None:
    pairs = chain()
    tried = candidates(pairs, "sure")
    found = mixtures(pairs, "sure", tried)
    assert found.escalation_rate[-1] == 1  # the last one sends everything on
    found = found.take(np.arange(len(found) - 1))
    assert (np.diff(found.usd) > 0).all()
    assert (np.diff(found.quality) > 0).all()
    # No vector of a coarse grid of its own is cheaper and better than the front by more than its steps.
    grid = np.linspace(0, 1, 7)
    own = mixtures(pairs, "sure", np.array([(a, b) for a in grid for b in grid]))
    for usd, quality in zip(own.usd, own.quality, strict=True):
        assert np.interp(usd, found.usd, found.quality) >= quality - 0.03


def test_a_chain_of_two_is_the_pair() -> None:
    n = 200
    pair, three = chain(n).take(np.arange(n)), chain(n)
    two = Pairs(pair.ids, pair.texts, ("small", "big"), pair.right[:, [0, 2]], {"sure": pair.score("sure")[:, :1]})
    thresholds = np.array([[0.3], [0.6]])
    never = np.column_stack([thresholds, [9.0, 9.0]])  # the middle model keeps nothing
    a, b = mixtures(two, "sure", thresholds), mixtures(three, "sure", never)
    assert np.allclose(a.quality, b.quality)
    assert np.allclose(a.escalation_rate, b.escalation_rate)
    assert np.allclose(b.shares[:, 1], 0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 40))
def test_one_sort_says_the_same_as_item_by_item(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    usd = rng.random((n, 2))
    score = rng.integers(0, 5, n) / 4
    pairs = Pairs.of(
        rng.random(n), rng.random(n), scores={"s": score}, student_usd=usd[:, 0], teacher_usd=usd[:, 1]
    )  # fmt: skip
    thresholds = np.array([[-1.0], [0.25], [0.5], [0.6], [2.0]])
    found = mixtures(pairs, "s", thresholds)
    for i, (threshold,) in enumerate(thresholds):
        sent = score < threshold
        assert found.quality[i] == pytest.approx(np.where(sent, pairs.right[:, 1], pairs.right[:, 0]).mean())
        assert found.escalation_rate[i] == pytest.approx(sent.mean())
        assert found.usd[i] == pytest.approx((usd[:, 0] + sent * usd[:, 1]).mean())


def test_the_front_drops_what_is_dearer_and_no_better() -> None:
    assert pareto(np.array([3.0, 1.0, 2.0, 2.0, 4.0]), np.array([0.9, 0.5, 0.8, 0.7, 0.85])).tolist() == [1, 2, 0]


def test_attempts_take_their_time_one_after_the_other() -> None:
    who = np.array([1, 1, 0, 0])
    assert seconds_of(FOUR, who, "cascade", [0.0, 1.0], 0.01).tolist() == pytest.approx([0.11, 2.11])
    assert seconds_of(FOUR, who, "router", [1.0]).tolist() == pytest.approx([2.0])
