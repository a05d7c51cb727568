"""The urns behind the tests of drift are fair whatever the scores, however few were calibrated, and with ties."""

from __future__ import annotations

import numpy as np
import pytest

from distillcalc.route.urn import Failures, Scores, luck


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values.mean(axis=0), values.std(axis=0) / np.sqrt(len(values))


@pytest.mark.parametrize("digits", [None, 1, 0])
def test_bets_on_scores_are_fair_after_a_calibration_of_forty(digits: int | None) -> None:
    rng = np.random.default_rng(5)
    worth = []
    for i in range(3000):
        drawn = rng.beta(3, 1.2, 70)
        drawn = drawn if digits is None else np.round(drawn, digits)
        urn = Scores.calibrate(drawn[:40], seed=i)
        cells = urn.cells(drawn[40:], luck(np.arange(30), i, 101))
        worth.append(np.exp(urn.bets(cells).sum(axis=0)))
    mean, error = mean_and_error(np.array(worth))
    assert (abs(mean - 1) < 4.5 * error).all()  # a product of 30 factors, each fair given those before it


@pytest.mark.parametrize("graded", [False, True])
def test_bets_on_failures_are_fair_after_a_calibration_of_forty(graded: bool) -> None:
    rng = np.random.default_rng(6)
    worth = []
    for i in range(4000):
        score = rng.random(60)
        failed = (rng.random(60) < 0.15).astype(float)
        if graded:
            failed = np.round(rng.random(60) ** 3, 1)
        urn = Failures.calibrate(score[:40], failed[:40], i, 11)
        worth.append(np.exp(urn.bets(urn.levels(score[40:]), failed[40:], luck(np.arange(20), i, 111)).sum(axis=0)))
    mean, error = mean_and_error(np.array(worth)[:, :4])  # the largest tilt has too wild a mean for so few draws
    assert (abs(mean - 1) < 4.5 * error).all()


def test_cells_of_hand_made_ranks() -> None:
    urn = Scores(np.array([1.0, 2.0, 2.0, 3.0]), np.array([0.5, 0.2, 0.6, 0.5]), np.ones(5), np.zeros(5))
    scores = np.array([0.0, 1.0, 1.0, 1.5, 2.0, 2.0, 2.0, 2.5, 3.0, np.inf, -np.inf])
    ties = np.array([0.9, 0.4, 0.6, 0.9, 0.1, 0.3, 0.7, 0.0, 0.9, 0.0, 0.9])
    assert urn.cells(scores, ties).tolist() == [0, 0, 1, 1, 1, 2, 3, 3, 4, 4, 0]


def test_a_bet_of_hand_made_ranks() -> None:
    # two cells of two gaps each: the lower half of the ranks has 2u - 1 of -1/2 and 6u^2 - 6u + 1 of 0 on average
    urn = Scores(np.array([0.0]), np.array([0.5]), np.array([2.0, 2.0]), np.zeros(2))
    found = np.exp(urn.bets(np.array([0, 0])))
    assert found[0, [0, 3, 6]] == pytest.approx([1 - 0.1 / 2, 1 + 0.1 / 2, 1.0])
    # then the lower cell holds 3 of 5: 2u - 1 is -2/5 on average; 2 (3/5)^2 - 3 x 3/5 + 1 = -2/25
    assert found[1, [0, 6]] == pytest.approx([1 - 0.1 * 0.4, 1 - 0.1 * 0.08])
    assert urn.live.tolist() == [2, 0]


def test_failures_of_a_shifted_mix_of_scores_are_expected_by_level() -> None:
    score = np.repeat([0.2, 0.8], 100)
    failed = np.concatenate([np.tile([1.0, 0.0], 50), np.tile([1.0, 0.0, 0.0, 0.0], 25)])
    urn = Failures.calibrate(score, failed, 0, 11)
    assert urn.expected(urn.levels(np.array([0.2, 0.8, 0.9]))) == pytest.approx([0.5, 0.25, 0.25])
    assert urn.items.sum() == 200


def test_luck_is_even_and_the_same_again() -> None:
    rows = np.arange(100_000)
    drawn = luck(rows, 3, 1)
    assert (drawn == np.concatenate([luck(rows[:7], 3, 1), luck(rows[7:], 3, 1)])).all()
    assert np.histogram(drawn, bins=10, range=(0, 1))[0] == pytest.approx(np.full(10, 10_000), abs=450)  # 4.7 sd
    assert abs(np.corrcoef(drawn, luck(rows, 4, 1))[0, 1]) < 0.015
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.015
