"""A box and a slider that move one number."""

from __future__ import annotations

import re

import pytest

from distillcalc.notebook.controls import CONTROLS
from distillcalc.notebook.sliders import Slider


class Told:
    """A slider, and what it told of being moved."""

    def __init__(self, name: str, value: float, said: str = "", *, fixed: bool = False) -> None:
        self.moves: list[tuple[str, float]] = []
        self.slider = Slider(CONTROLS[name], lambda name, value: self.moves.append((name, value)))
        self.slider.show(value, said, fixed=fixed)

    @property
    def note(self) -> str:
        return re.sub("<[^>]*>", "", self.slider.note.value)


def test_the_box_is_labelled_with_its_unit() -> None:
    assert Told("growth_per_month", 0.05).slider.number.description == "Growth [% a month]"


def test_a_drag_moves_the_box_and_tells_three_digits() -> None:
    told = Told("requests_per_day", 40_000)
    told.slider.handle.value = 12_345.678
    assert told.slider.number.value == 12_300
    assert told.moves == [("requests_per_day", 12_300)]


def test_a_typed_number_moves_the_slider_and_keeps_its_digits() -> None:
    told = Told("requests_per_day", 40_000)
    told.slider.number.value = 12_345.678
    assert told.slider.handle.value == pytest.approx(12_345.678)
    assert told.moves == [("requests_per_day", 12_345.678)]


def test_a_percentage_is_shown_and_a_share_is_told() -> None:
    told = Told("growth_per_month", 0.05)
    assert told.slider.number.value == 5
    told.slider.number.value = -1.5
    assert told.moves == [("growth_per_month", pytest.approx(-0.015))]
    told.slider.handle.value = 10
    assert told.moves[-1] == ("growth_per_month", pytest.approx(0.1))


def test_whole_months_only() -> None:
    told = Told("horizon_months", 24)
    told.slider.number.value = 17.6
    assert told.slider.number.value == 18
    assert told.moves == [("horizon_months", 18.0)]


def test_showing_a_value_tells_nobody() -> None:
    told = Told("requests_per_day", 40_000)
    told.slider.show(6_200)
    assert told.moves == []
    assert told.slider.number.value == 6_200


def test_a_page_that_repeats_the_sliders_place_is_not_a_move() -> None:
    told = Told("requests_per_day", 40_000)
    told.slider.handle.value = 39_810.717  # the nearest of its steps of a hundredth of a decade
    assert told.moves == []
    assert told.slider.number.value == 40_000
    told.slider.handle.value = 10**4.61  # one step further
    assert told.moves == [("requests_per_day", 40_700)]


def test_beyond_the_slider_a_number_may_be_typed() -> None:
    told = Told("requests_per_day", 40_000)
    told.slider.number.value = 5e7
    assert told.moves == [("requests_per_day", 5e7)]
    assert told.slider.handle.value == 1e7
    assert told.note == "the slider ends here; type up to 100,000,000,000"


def test_a_number_that_cannot_be_is_kept_at_its_bound_and_that_is_said() -> None:
    told = Told("requests_per_day", 40_000)
    told.slider.number.value = -3
    assert told.moves == [("requests_per_day", 1.0)]
    assert told.slider.number.value == 1
    assert told.note == "only 1 to 100,000,000,000: 1 is taken"
    told.slider.number.value = 500
    assert told.note == ""


def test_an_end_that_is_the_last_is_said_to_be() -> None:
    told = Told("floor", 0.9, "mean accuracy")
    assert told.note == "mean accuracy"
    told.slider.handle.value = 1.0
    assert told.note == "mean accuracy; no more can be asked for"


def test_an_end_is_told_when_it_is_hit_and_not_before() -> None:
    told = Told("cacheable_prefix_tokens", 0)
    assert told.note == ""
    told.slider.handle.value = 50
    told.slider.handle.value = 0
    assert told.note == "no less can be asked for"


def test_what_a_number_stands_for_is_escaped() -> None:
    told = Told("floor", 0.9, "mean <b>accuracy</b>")
    assert "&lt;b&gt;" in told.slider.note.value


def test_a_measured_number_cannot_be_moved() -> None:
    told = Told("escalation_rate", 0.2, "measured: the decision picks it", fixed=True)
    assert told.slider.number.disabled
    assert told.slider.handle.disabled
    assert told.note == "measured: the decision picks it"


def test_a_measured_number_is_shown_rounded_and_kept_whole() -> None:
    slider = Slider(CONTROLS["requests_per_day"], lambda *_: None)
    slider.show(743.824232)
    assert slider.number.value == 743.82
    assert slider.value == 743.824232
