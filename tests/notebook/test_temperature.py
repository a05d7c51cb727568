"""A distribution over tokens at a temperature."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillcalc.errors import InputError
from distillcalc.notebook.temperature import TemperaturePanel, temperature_panel, temperature_view

TOKENS = ["a", "b", "c", "d"]
LOGITS = [math.log(8), math.log(4), math.log(2), math.log(2)]  # odds 8 : 4 : 2 : 2


def test_at_one_it_is_the_softmax() -> None:
    view = temperature_view(LOGITS, TOKENS, 1.0, shown=3)
    assert view.tokens == ("a", "b", "c")
    assert view.probabilities == pytest.approx((0.5, 0.25, 0.125))
    assert view.rest == pytest.approx(0.125)
    assert view.perplexity == pytest.approx(2**1.75)  # 1/2 + 2/4 + 3/8 + 3/8 bits


def test_at_two_the_odds_are_their_roots() -> None:
    # sqrt(8) : sqrt(4) : sqrt(2) : sqrt(2) = 2.828 : 2 : 1.414 : 1.414, in all 7.657
    view = temperature_view(LOGITS, TOKENS, 2.0)
    assert view.probabilities == pytest.approx(
        (2.8284 / 7.6569, 2 / 7.6569, 1.4142 / 7.6569, 1.4142 / 7.6569), rel=1e-4
    )
    assert view.rest == 0.0


def test_the_limits_are_the_answer_alone_and_all_alike() -> None:
    assert temperature_view(LOGITS, TOKENS, 1e-3).probabilities[0] == pytest.approx(1.0)
    assert temperature_view(LOGITS, TOKENS, 1e9).perplexity == pytest.approx(4.0)


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30),
    st.floats(0.05, 50),
    st.floats(1.05, 20),
)
def test_a_higher_temperature_is_never_surer(logits: list[float], low: float, factor: float) -> None:
    tokens = [str(i) for i in range(len(logits))]
    cold, warm = (temperature_view(logits, tokens, t, shown=5) for t in (low, low * factor))
    assert warm.probabilities[0] <= cold.probabilities[0] + 1e-9
    assert warm.perplexity >= cold.perplexity - 1e-6
    assert warm.tokens == cold.tokens
    assert sum(warm.probabilities) + warm.rest == pytest.approx(1.0)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="above 0"):
        temperature_view(LOGITS, TOKENS, 0.0)
    with pytest.raises(InputError, match="4 logits"):
        temperature_view(LOGITS, TOKENS[:3])


def test_signs_in_tokens_are_no_markup() -> None:
    view = temperature_view([1.0, 0.0], ["<b>$x$\n", "y"])
    assert "<b>" not in view.picture
    assert "&lt;b&gt;$x$\\n" in view.picture


def test_the_slider_and_its_box_move_the_same_number() -> None:
    shown = temperature_panel(LOGITS, TOKENS)
    assert isinstance(shown, TemperaturePanel)
    handle = shown.children[1].children[1]
    handle.value = 4.0
    assert shown.number.value == 4.0
    assert shown.view.sentence.startswith("At temperature 4 ")
    assert "At temperature 4 " in shown.children[2].value
    shown.number.value = 0.5
    assert handle.value == pytest.approx(0.5)
    assert shown.children[3].value == shown.view.picture
