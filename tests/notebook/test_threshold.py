"""A router's threshold: the numbers beside the slider are the certificate's and the curve's own."""

from __future__ import annotations

import numpy as np
import pytest

from distillcalc.errors import InputError
from distillcalc.notebook.threshold import ThresholdPanel, threshold_panel, threshold_view
from distillcalc.route import Bands, Goal, certify, fit_router
from distillcalc.route.pairs import Pairs

SCORES = np.repeat([0.1, 0.2, 0.3, 0.4], 10)
# Of ten of each score the student gets 2, 5, 8 and 10 right; the teacher 9 of any ten.
STUDENT = np.concatenate([np.arange(10) < right for right in (2, 5, 8, 10)]).astype(float)
TEACHER = np.tile(np.arange(10) < 9, 4).astype(float)
THRESHOLDS = np.array([[0.0], [0.2], [0.3], [0.4], [1.0]])


def pairs(name: str, *, priced: bool = True) -> Pairs:
    money = {"student_usd": 0.001, "teacher_usd": 0.01} if priced else {}
    ids = [f"{name}-{i}" for i in range(40)]
    return Pairs.of(STUDENT, TEACHER, scores={"sure": SCORES}, ids=ids, **money)


@pytest.fixture(scope="module")
def made():
    certificate = certify(pairs("tuning"), pairs("new"), "sure", THRESHOLDS, Goal(retention=0.5))
    return Bands.of(pairs("new"), "sure", resamples=200), certificate


def test_a_quarter_is_sent_on(made) -> None:
    view = threshold_view(*made, 0.25, requests_per_month=1_000)
    assert view.rate == 0.25
    assert view.threshold == 0.2  # below it the ten of 0.1
    assert view.quality == pytest.approx((9 + 5 + 8 + 10) / 40)  # 0.8
    assert view.retention == pytest.approx(0.8 / 0.9)
    assert view.at_random == pytest.approx(0.625 + 0.25 * (0.9 - 0.625))  # the student alone is right in 25 of 40
    assert view.usd_per_month == pytest.approx(1_000 * (0.001 + 0.25 * 0.01))  # every request pays the student: $3.50
    assert view.teacher_usd_per_month == pytest.approx(10.0)
    assert view.random_usd_per_month == pytest.approx(
        1_000 * (0.75 * 0.001 + 0.25 * 0.01)
    )  # who asks at random pays one
    assert view.low < view.quality < view.high
    assert "25.0% sent on: 80.0% right, 88.9% of the teacher’s; $3.50 a month instead of $10.00" in view.sentence


def test_the_threshold_that_was_tried_nearest_is_taken(made) -> None:
    assert [threshold_view(*made, rate, 1).rate for rate in (0.0, 0.12, 0.13, 0.6, 0.9, 1.0)] == [
        0.0, 0.0, 0.25, 0.5, 1.0, 1.0,
    ]  # fmt: skip


def test_the_ends_are_the_student_and_the_teacher(made) -> None:
    none, every = (threshold_view(*made, rate, 10) for rate in (0.0, 1.0))
    assert (none.quality, every.quality) == (0.625, 0.9)
    assert none.usd_per_month == pytest.approx(none.student_usd_per_month)
    assert every.retention == pytest.approx(1.0)


def test_what_is_certified_is_what_the_certificate_says(made) -> None:
    bands, certificate = made
    found = [threshold_view(bands, certificate, rate, 1).certified for rate in (0, 0.25, 0.5, 0.75, 1)]
    assert found == certificate.certified.tolist()
    assert certificate.certified[-1]
    chosen = threshold_view(bands, certificate, float(certificate.certifying.escalation_rate[certificate.chosen]), 1)
    assert chosen.chosen
    assert chosen.certified


def test_without_dollars_the_month_has_no_price() -> None:
    certificate = certify(pairs("a", priced=False), pairs("b", priced=False), "sure", THRESHOLDS, Goal(retention=0.5))
    view = threshold_view(Bands.of(pairs("b", priced=False), "sure", resamples=50), certificate, 0.5, 1_000)
    assert np.isnan(view.usd_per_month)
    assert "$" not in view.sentence + view.table
    assert "sent on to the teacher [%]" in view.picture


@pytest.mark.parametrize(("rate", "requests"), [(-0.1, 1), (1.1, 1), (0.5, 0), (0.5, float("inf"))])
def test_what_cannot_be_is_refused(made, rate: float, requests: float) -> None:
    with pytest.raises(InputError):
        threshold_view(*made, rate, requests)


def test_the_picture_has_no_colour_of_its_own_where_the_theme_has_one(made) -> None:
    picture = threshold_view(*made, 0.5, 1).picture
    assert "var(--dc-ink)" in picture
    assert 'role="img"' in picture


def test_the_slider_and_its_box_move_the_same_number() -> None:
    rng = np.random.default_rng(0)
    sure = rng.random(400)
    right = (rng.random(400) < sure).astype(float)
    known = Pairs.of(
        right, (rng.random(400) < 0.9).astype(float), scores={"sure": sure}, student_usd=0.0, teacher_usd=1.0
    )
    fitted = fit_router(known, Goal(retention=0.7), scores=["sure"])
    shown = threshold_panel(fitted, 100)
    assert isinstance(shown, ThresholdPanel)
    assert shown.view.chosen
    handle = shown.children[1].children[1]
    shown.number.value = 30.0
    assert handle.value == 30.0
    assert shown.view.rate == pytest.approx(0.3, abs=0.02)
    assert shown.view.sentence.split(":")[0] in shown.children[2].value
    handle.value = 75.0
    assert shown.number.value == 75.0
    assert shown.view.rate == pytest.approx(0.75, abs=0.02)
    shown.number.value = 12.34  # a typed number stays as it was typed
    assert shown.number.value == 12.34
