"""The map of two inputs: its own point is the decision, and its every point is a sweep's."""

from __future__ import annotations

import numpy as np
import pytest

from distillcalc import recommend
from distillcalc.decide.boundary import boundary
from distillcalc.errors import InputError, UnknownName
from distillcalc.estimate.inputs import with_inputs
from distillcalc.workload.distributions import lognormal
from distillcalc.workload.files import load_scenario
from tests.decide.scenarios import scenario


@pytest.mark.parametrize("name", ["support-triage", "email-classification", "private-notes"])
def test_the_point_is_the_decision(name: str) -> None:
    made = load_scenario(name)
    found = boundary(made, "requests_per_day", "engineering_hours", points=9)
    assert found.point == (made.workload.requests_per_day, made.choices.distillation.engineering_hours)
    assert found.option(*found.point) == recommend(made).recommendation
    assert found.point[0] in found.x_values
    assert found.point[1] in found.y_values
    assert sum(found.shares().values()) == pytest.approx(1)


def test_every_point_is_what_recommend_says_there() -> None:
    made = load_scenario("support-triage")
    found = boundary(made, "requests_per_day", "teacher_price_factor", points=5, y_range=(0.3, 2.0))
    assert len(set(found.best.ravel().tolist())) > 1
    for row, y in enumerate(found.y_values):
        for column, x in enumerate(found.x_values):
            one = with_inputs(made, {"requests_per_day": float(x), "teacher_price_factor": float(y)})
            best = found.best[row, column]
            assert (found.options[best] if best >= 0 else None) == recommend(one).recommendation


def test_a_distribution_sets_the_range_and_stands_at_its_median() -> None:
    given = lognormal(40_000, 90_000)
    made = scenario(workload={"requests_per_day": given, "quality": {"floor": 0.9}})
    found = boundary(made, "requests_per_day", "floor", points=11)
    assert found.point[0] == given.median
    assert found.x_values[0] <= given.quantile(0.001)
    assert found.x_values[-1] >= given.quantile(0.999)
    assert np.all(np.diff(found.x_values) > 0)


def test_a_prompt_is_never_shorter_than_its_prefix() -> None:
    made = load_scenario("support-triage")
    found = boundary(made, "input_tokens", "cacheable_prefix_tokens", points=7)
    assert found.option(*found.point) == recommend(made).recommendation
    assert boundary(made, "input_tokens", "output_tokens", points=5).x_values[0] >= 1_500
    assert boundary(made, "output_tokens", "cacheable_prefix_tokens", points=5).y_values[-1] <= 1_900


def test_what_the_scenario_leaves_out_stands_where_it_is_believed_to() -> None:
    made = scenario()
    found = boundary(made, "floor", "student_retention", points=5)
    assert found.point == pytest.approx((0.9 * 0.9, 0.9))  # 0.9 of a teacher that nobody has measured; the prior
    assert boundary(made, "student_input_tokens", "escalation_rate", points=5).point == (300, 0.2)


def test_what_cannot_be_mapped_is_refused() -> None:
    made = scenario(workload={"quality": {"floor": 0.9}})
    with pytest.raises(UnknownName, match="requests_per_day"):
        boundary(made, "requests_a_day", "floor")
    with pytest.raises(InputError, match="two inputs"):
        boundary(made, "floor", "floor")
    with pytest.raises(InputError, match="must rise"):
        boundary(made, "floor", "output_tokens", x_range=(0.9, 0.5))
    with pytest.raises(InputError, match="between 0 and 1"):
        boundary(made, "floor", "output_tokens", x_range=(0.9, 1.5))
    with pytest.raises(InputError, match="points"):
        boundary(made, "floor", "output_tokens", points=1)
    with pytest.raises(InputError, match="leaves cache_ttl_s out"):
        boundary(made, "cache_ttl_s", "output_tokens")


def test_the_figure_has_its_axes_and_the_point() -> None:
    made = load_scenario("support-triage")
    found = boundary(made, "requests_per_day", "output_tokens", points=15)
    axes = found.figure().axes[0]
    assert axes.get_xlabel() == "requests_per_day [requests/day]"
    assert axes.get_xscale() == "log"
    (point,) = axes.lines
    assert (point.get_xdata()[0], point.get_ydata()[0]) == found.point
    shown = {text.get_text() for text in axes.get_legend().get_texts()}
    assert shown == set(found.shares())
