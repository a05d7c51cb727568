"""Figures by what they draw: bars, their order, units, and that each saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from distillcalc import Scenario, recommend
from distillcalc.decide.figures import cost_figure, odds_figure, tornado_figure, value_figure
from distillcalc.decide.uncertainty import Uncertainty
from tests.decide.test_uncertainty import drawn, near

FIGURES: dict[str, Any] = {
    "odds": odds_figure,
    "cost": cost_figure,
    "tornado": tornado_figure,
    "value": value_figure,
}


@pytest.mark.parametrize("name", FIGURES)
def test_each_saves_and_draws_on_given_axes(name: str, tmp_path: Path) -> None:
    figure = FIGURES[name](drawn())
    figure.savefig(tmp_path / "f.png")
    assert (tmp_path / "f.png").stat().st_size > 5_000
    own = Figure()
    axes = own.subplots()
    assert FIGURES[name](drawn(), axes) is own
    assert "[" in figure.axes[0].get_xlabel() or figure.axes[0].get_xlabel() == "month"


def test_odds_are_bars_in_order_that_add_to_a_hundred() -> None:
    widths = [bar.get_width() for bar in odds_figure(drawn()).axes[0].patches]
    assert widths == sorted(widths)
    assert sum(widths) == pytest.approx(100)


def test_costs_are_the_percentiles_by_month() -> None:
    axes = cost_figure(drawn()).axes[0]
    lines = {line.get_label(): np.asarray(line.get_ydata()) for line in axes.lines}
    for option in ("call-teacher", "self-host"):
        np.testing.assert_allclose(lines[option], drawn().monthly_usd(option)[1])
    assert len(axes.collections) == 2


def test_the_tornado_is_widest_on_top_and_marks_where_it_flips() -> None:
    u = drawn()
    axes = tornado_figure(u).axes[0]
    moved = [swing for swing in u.tornado if swing.width_usd > 0][:10]
    bars = [bar.get_x() + bar.get_width() for bar in axes.patches if hasattr(bar, "get_width")]
    assert len(bars) == 2 * len(moved)
    assert sorted(bars[-2:]) == pytest.approx(sorted(moved[0].lead_usd))
    assert any(np.allclose(line.get_xdata(), 0) for line in axes.lines)


def test_what_is_worth_nothing_is_left_out() -> None:
    u = drawn()
    bars = [bar.get_width() for bar in value_figure(u).axes[0].patches]
    assert bars == pytest.approx(sorted(v for v in u.evpi_by_input.values() if v > u.negligible_usd))


def test_a_decision_that_nothing_moves_says_so(tmp_path: Path) -> None:
    plain = near(floor=0.999).to_dict()
    nothing = Uncertainty.of(Scenario.from_dict(plain), draws=64)
    assert nothing.chosen is None
    for figure in (odds_figure(nothing), tornado_figure(nothing), value_figure(nothing)):
        figure.savefig(tmp_path / "f.png")
    sure = recommend(Scenario.from_dict(near(floor=0.8).to_dict()), draws=64).uncertainty
    value_figure(sure).savefig(tmp_path / "f.png")
