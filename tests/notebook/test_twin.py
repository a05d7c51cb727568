"""A slider and its number box: a typed number stays as it was typed, a step of the slider moves the box."""

from __future__ import annotations

import pytest

from distillcalc.notebook.twin import labelled_slider


def test_a_step_of_the_slider_moves_the_box() -> None:
    box, number = labelled_slider("Sent on [%]", 20, 0, 100, 0.5)
    handle = box.children[1]
    handle.value = 20.5
    assert number.value == 20.5


def test_a_typed_number_moves_the_slider_and_is_not_given_back_rounded() -> None:
    box, number = labelled_slider("Temperature", 1.0, 0.25, 16.0, 0.02, log=True)
    handle = box.children[1]
    number.value = 4.0
    assert handle.value == pytest.approx(4.0)
    handle.value = 10**0.598  # the browser's nearest step, 3.96, told a moment later
    assert number.value == 4.0
    handle.value = 10**0.618  # the next step, which somebody made: 4.1495
    assert number.value == 4.15


def test_the_box_is_labelled_and_bounded() -> None:
    _, number = labelled_slider("Sent on [%]", 20, 0, 100, 0.5)
    assert number.description == "Sent on [%]"
    number.value = 140
    assert number.value == 100
