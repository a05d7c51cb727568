"""The workload: defaults, what is refused, means and points, round trips."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from pydantic import ValidationError

from distillcalc import Quality, Scenario, Slo, TokenLengths, Workload
from distillcalc.errors import InputError
from distillcalc.workload.workload import DEFAULT_RETENTION_FLOOR
from tests.workload.strategies import workloads


def workload(**values: Any) -> Workload:
    needed = {"requests_per_day": 10_000, "input_tokens": 900, "output_tokens": 60, "start": date(2026, 12, 1)}
    if "length_sample" in values:
        del needed["input_tokens"], needed["output_tokens"]
    return Workload(**{**needed, **values})


# Defaults


def test_what_is_left_out_costs_nothing_and_asks_for_nothing() -> None:
    plain = workload()
    assert plain.growth_per_month == 0
    assert plain.interarrival_cv == 1  # Poisson
    assert plain.batchable_share == 0
    assert plain.wrong_answer_usd == 0
    assert plain.slo.objectives() == []
    assert plain.private is False
    assert plain.profile.peak == 1
    assert plain.hour_weights is None


def test_a_workload_begins_with_the_first_of_a_month_to_come() -> None:
    start = Workload(requests_per_day=1, input_tokens=1, output_tokens=1).start
    assert start.day == 1
    assert 0 < (start - date.today()).days <= 31


# What is refused, and in which words


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"requests_per_day": 0}, "greater than 0"),
        ({"requests_per_day": -5}, "greater than 0"),
        ({"requests_per_day": 1e12}, "less than or equal to 100000000000"),
        ({"requests_per_day": math.inf}, "finite number"),
        ({"requests_per_day": math.nan}, "requests_per_day"),
        ({"growth_per_month": -1}, "greater than or equal to -0.99"),
        ({"growth_per_month": 3}, "less than or equal to 2"),
        ({"growth_per_month": 2, "horizon_months": 120}, "nobody has 10^12"),
        ({"horizon_months": 0}, "greater than or equal to 1"),
        ({"horizon_months": 121}, "less than or equal to 120"),
        ({"horizon_months": 1.5}, "valid integer"),
        ({"batchable_share": 1.4}, "less than or equal to 1"),
        ({"length_correlation": -1.1}, "greater than or equal to -1"),
        ({"interarrival_cv": -1}, "greater than or equal to 0"),
        ({"distinct_prefixes": 0.5}, "greater than or equal to 1"),
        ({"cache_ttl_s": 0}, "greater than 0"),
        ({"reasoning_tokens": 1e7}, "less than or equal to 1000000"),
        ({"wrong_answer_usd": -1}, "greater than or equal to 0"),
        ({"network_rtt_s": 11}, "less than or equal to 10"),
        ({"discount_rate": -1}, "greater than or equal to -0.99"),
        ({"cacheable_prefix_tokens": 901}, "cacheable_prefix_tokens must not exceed the mean input. Got 901 of 900"),
        ({"input_tokens": None}, "input_tokens is missing"),
        ({"output_tokens": None}, "output_tokens is missing"),
        ({"hour_of_week": (1.0,) * 167}, "hour_of_week needs 168 hourly rates, Monday 00:00 first. Got 167"),
        ({"hour_of_week": (0.0,) * 168}, "must be at least 0 and not all 0"),
        ({"hour_of_week": (1.0,) * 167 + (-1.0,)}, "must be at least 0 and not all 0"),
        ({"hour_of_week": "office"}, "'flat' or 'business-hours'"),
        ({"length_sample": []}, "length_sample needs at least one row"),
        ({"length_sample": [(1,)]}, "length_sample holds [input, output] or [input, output, weight]"),
        ({"length_sample": [(1, 2), (3, -4)]}, "Got [3.0, -4.0] in place 1"),
        ({"length_sample": [(1, 2), (3, 4, 5)]}, "all of the same length"),
        ({"length_sample": [(1, 2, 0)]}, "every weight is 0"),
        ({"length_sample": [(1, 2)], "input_tokens": 5}, "not both"),
        ({"slo": {"e2e_p95_s": 0}}, "greater than 0"),
        ({"slo": {"e2e_p90_s": 1}}, "Extra inputs"),
        ({"quality": {"floor": 1.2}}, "less than or equal to 1"),
        ({"quality": {"floor": 0.9, "floor_relative_to_teacher": 0.9}}, "not both"),
        ({"quality": {"confidence": 0.5}}, "greater than 0.5"),
        ({"request_per_day": 5}, "Extra inputs"),
        ({"start": "soon"}, "valid date"),
        ({"start": date(1999, 12, 31)}, "greater than or equal to 2000-01-01"),
        ({"start": date(2100, 1, 2)}, "less than or equal to 2100-01-01"),
        ({"requests_per_day": True}, "requests_per_day is a number or a table, not yes or no. Got true"),
        ({"input_tokens": False}, "input_tokens is a number or a table, not yes or no. Got false"),
    ],
)
def test_what_cannot_be_is_refused_and_named(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as error:
        workload(**values)
    assert says in str(error.value)


def test_growth_is_counted_to_the_last_month_only() -> None:
    # 10^10 a day that triple reach 3^4 x 10^10 = 8.1 x 10^11 in month 5 and 2.43 x 10^12 in month 6.
    workload(requests_per_day=1e10, growth_per_month=2, horizon_months=5)
    with pytest.raises(ValidationError, match=r"2\.43e\+12 requests a day by month 6"):
        workload(requests_per_day=1e10, growth_per_month=2, horizon_months=6)


def test_the_whole_prompt_may_be_cacheable() -> None:
    assert workload(cacheable_prefix_tokens=900).cacheable_prefix_tokens == 900


def test_workloads_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        workload().requests_per_day = 5  # type: ignore[misc]


# Objectives and quality


def test_objectives_in_seconds_with_their_percentile() -> None:
    slo = Slo(ttft_p95_s=0.5, tpot_p50_ms=40, e2e_p99_s=2)
    assert slo.objectives() == [("ttft", 0.95, 0.5), ("tpot", 0.5, 0.04), ("e2e", 0.99, 2)]


@pytest.mark.parametrize("name", list(Slo.model_fields))
def test_every_objective_reads_back(name: str) -> None:
    what, percentile, unit = name.split("_")
    [(found, level, limit)] = Slo(**{name: 3}).objectives()
    assert found == what
    assert level == pytest.approx(int(percentile[1:]) / 100)
    assert limit == (3 if unit == "s" else 0.003)


def test_retention_floor() -> None:
    assert Quality().retention_floor == DEFAULT_RETENTION_FLOOR == 0.9
    assert Quality(floor_relative_to_teacher=0.8).retention_floor == 0.8
    assert Quality(floor_relative_to_teacher=0).retention_floor == 0
    assert Quality(floor=0.7).retention_floor is None
    assert Quality(floor=0).retention_floor is None


# Hours


def test_hour_weights_of_business_hours_by_hand() -> None:
    # 09:00 is office on five days of seven: (5 x 2.688 + 2 x 0.284746) / 168 = 0.083390;
    # 03:00 on none: 7 x 0.284746 / 168 = 0.011864
    weights = workload(hour_of_week="business-hours").hour_weights
    assert weights is not None
    assert len(weights) == 24
    assert sum(weights) == pytest.approx(1)
    assert weights[9] == pytest.approx(0.083390, abs=1e-6)
    assert weights[3] == pytest.approx(0.011864, abs=1e-6)


def test_hour_weights_sum_the_same_hour_of_each_day() -> None:
    only_noon = tuple(1.0 if hour % 24 == 12 else 0.0 for hour in range(168))
    weights = workload(hour_of_week=only_noon).hour_weights
    assert weights is not None
    assert weights[12] == 1
    assert workload(hour_of_week=only_noon).profile.peak == pytest.approx(24)


# Means and points


def test_lognormal_lengths_need_no_points() -> None:
    stated = workload(input_tokens=TokenLengths(mean=900, p95=2100), output_tokens=60)
    assert stated.points is None
    assert (stated.mean_input_tokens, stated.mean_output_tokens) == (900, 60)


def test_a_length_sample_by_hand() -> None:
    # Weights 1 and 3: (100 + 3 x 200) / 4 = 175 in, (10 + 3 x 30) / 4 = 25 out
    stated = workload(length_sample=[(100, 10, 1), (200, 30, 3)])
    assert stated.mean_input_tokens == pytest.approx(175)
    assert stated.mean_output_tokens == pytest.approx(25)


def test_a_length_sample_keeps_its_pairs() -> None:
    points = workload(length_sample=[(300, 1), (100, 3), (200, 2)]).points
    assert points is not None
    assert list(zip(points.inputs, points.outputs, strict=True)) == [(100, 3), (200, 2), (300, 1)]


def test_quantiles_on_one_side_make_points() -> None:
    stated = workload(input_tokens={"p50": 700, "p95": 2100}, output_tokens=60)
    assert stated.points is not None
    assert stated.mean_output_tokens == pytest.approx(60)
    assert 700 < stated.mean_input_tokens < 2100


def test_a_student_reads_the_teachers_prompt_unless_it_has_its_own() -> None:
    assert workload().mean_student_input_tokens == 900
    shorter = workload(student_input_tokens={"mean": 350, "p95": 900})
    assert shorter.mean_student_input_tokens == 350
    assert shorter.mean_input_tokens == 900
    assert shorter.student_points is None


def test_a_students_prompt_stays_with_its_request() -> None:
    # The longest prompt stays the longest: its answer of 1 token goes with the student's 30.
    stated = workload(length_sample=[(300, 1), (100, 3), (200, 2)], student_input_tokens=[20, 30, 10])
    points = stated.student_points
    assert points is not None
    assert list(zip(points.inputs, points.outputs, strict=True)) == [(10, 3), (20, 2), (30, 1)]
    assert stated.mean_student_input_tokens == pytest.approx(20)


def test_a_fixed_student_prompt_beside_a_sample() -> None:
    stated = workload(length_sample=[(300, 1), (100, 3)], student_input_tokens=50)
    assert stated.mean_student_input_tokens == pytest.approx(50)
    points = stated.student_points
    assert points is not None
    assert sorted(points.outputs) == [1, 3]


# Round trips


def test_workloads_are_compared_by_what_was_stated_not_by_what_was_computed() -> None:
    one, other = (workload(length_sample=[(100, 10), (200, 30)], hour_of_week="business-hours") for _ in range(2))
    assert one.points is not other.points
    assert one.profile.peak == other.profile.peak
    assert one == other
    assert one != workload(length_sample=[(100, 10), (200, 31)], hour_of_week="business-hours")


@given(stated=workloads())
def test_a_workload_survives_its_dump(stated: Workload) -> None:
    assert Workload.model_validate(stated.model_dump()) == stated


@given(stated=workloads())
def test_a_workload_survives_its_plain_values(stated: Workload) -> None:
    assert Workload.from_dict(stated.to_dict()) == stated


def test_plain_values_leave_out_defaults_but_not_the_start() -> None:
    assert workload().to_dict() == {
        "requests_per_day": 10_000,
        "input_tokens": 900,
        "output_tokens": 60,
        "start": date(2026, 12, 1),
    }


def test_a_wrong_plain_value_is_named() -> None:
    with pytest.raises(InputError, match=r"requests_per_day should be greater than 0\. Got 0"):
        Workload.from_dict({**workload().to_dict(), "requests_per_day": 0})


@given(stated=workloads())
def test_a_workload_survives_its_repr(stated: Workload) -> None:
    import datetime

    names = {"Workload": Workload, "TokenLengths": TokenLengths, "Slo": Slo, "Quality": Quality, "datetime": datetime}
    assert eval(repr(stated), names) == stated


def test_the_repr_is_what_a_user_would_write() -> None:
    assert repr(workload(slo=Slo(e2e_p95_s=2.0))) == (
        "Workload(requests_per_day=10000.0, input_tokens=TokenLengths(mean=900.0), "
        "output_tokens=TokenLengths(mean=60.0), slo=Slo(e2e_p95_s=2.0), start=datetime.date(2026, 12, 1))"
    )


@given(stated=workloads())
def test_means_are_finite_and_hours_whole(stated: Workload) -> None:
    for mean in (stated.mean_input_tokens, stated.mean_output_tokens, stated.mean_student_input_tokens):
        assert math.isfinite(mean)
        assert mean >= 0
    assert np.sum(stated.profile.requests) == pytest.approx(1)
    assert stated.hour_weights is None or sum(stated.hour_weights) == pytest.approx(1)


def test_a_workload_round_trips_through_a_dict_and_a_file_of_its_own(tmp_path: Path) -> None:
    one = Workload(
        requests_per_day=40_000,
        hour_of_week="business-hours",
        input_tokens={"mean": 900, "p95": 2100},
        output_tokens={"quantiles": {"p50": 40, "p95": 140}},
        slo={"ttft_p99_s": 0.5, "tpot_p95_ms": 30},
        start=date(2026, 12, 1),
    )
    assert Workload.from_dict(one.to_dict()) == one
    assert Workload.load(one.save(tmp_path / "w.toml")) == one


def test_a_workload_is_read_out_of_a_scenario_file_and_errors_name_the_line(tmp_path: Path) -> None:
    assert Workload.load("support-triage") == Scenario.load("support-triage").workload
    bad = tmp_path / "bad.toml"
    bad.write_text("[choices]\nteacher = 3\n[workload]\nrequests_per_day = -1\ninput_tokens = 1\noutput_tokens = 1\n")
    with pytest.raises(InputError, match=r"workload\.requests_per_day.*line 4 of bad\.toml"):
        Workload.load(bad)
