"""The scenario: defaults, what is refused, plain values that leave defaults out, round trips."""

from __future__ import annotations

import datetime
from datetime import date
from typing import Any, get_args

import pytest
from hypothesis import given
from pydantic import ValidationError

from distillcalc import (
    Choices,
    Quality,
    Scenario,
    Slo,
    TokenLengths,
    Use,
    Workload,
)
from distillcalc.errors import InputError
from distillcalc.workload import OPTION_IDS, Distillation, Evaluation, Routing, Serving
from distillcalc.workload.scenario import OptionId
from tests.workload.strategies import scenarios

WORKLOAD: dict[str, Any] = {
    "requests_per_day": 10_000,
    "input_tokens": 900,
    "output_tokens": 60,
    "start": date(2026, 12, 1),
}


def scenario(**sections: Any) -> Scenario:
    return Scenario.from_dict({"workload": WORKLOAD, "choices": {"teacher": "openai/gpt-6-sol"}, **sections})


def test_the_option_ids_are_the_option_type() -> None:
    assert get_args(OptionId) == OPTION_IDS


# Choices


@pytest.mark.parametrize("name", ["small", "students", "hosted", "fine_tunes", "gpus"])
def test_one_name_is_a_list_of_one(name: str) -> None:
    assert getattr(Choices(**{"teacher": "a/b", name: "x"}), name) == ("x",)
    assert getattr(Choices(**{"teacher": "a/b", name: ["x", "y"]}), name) == ("x", "y")


def test_what_is_left_out_is_chosen_later() -> None:
    choices = Choices(teacher="a/b")
    assert choices.small is choices.hosted is choices.fine_tunes is choices.gpus is choices.options is None


def test_an_empty_list_is_not_the_default() -> None:
    assert Choices.model_validate(Choices(teacher="a/b", small=()).model_dump()).small == ()
    assert scenario(choices={"teacher": "a/b", "small": []}).to_dict()["choices"]["small"] == ()


@pytest.mark.parametrize(
    ("section", "values", "says"),
    [
        ("choices", {"teacher": "a/b", "options": ["self-hots"]}, "choices.options.0"),
        (
            "choices",
            {"teacher": "a/b", "teacher_quality": 1},
            "choices.teacher_quality should be less than or equal to 0.999. Got 1",
        ),
        ("choices", {"teacher": "a/b", "student_retention": 0}, "choices.student_retention should be greater than 0"),
        ("choices", {"teacher": "a/b", "student_retention": 1.1}, "less than or equal to 1. Got 1.1"),
        ("choices", {"teacher": "a/b", "student_retention": {"x": 2}}, "choices.student_retention.x should be less"),
        ("choices", {"teacher": "a/b", "student_retention": "most"}, "should be a valid number"),
        ("choices", {"teacher": "a/b", "students": []}, "choices.students"),
        ("choices", {"teacher": "a/b", "options": []}, "choices.options"),
        ("choices", {"teacher": "a/b", "on_retirement": True}, "on_retirement is a number or a table, not yes or no"),
        ("choices", {"teacher": "a/b", "serving": {"min_replicas": 0}}, "greater than or equal to 1. Got 0"),
        (
            "choices",
            {"teacher": "a/b", "serving": {"autoscaling": True, "commitment": "reserved-1y"}},
            "autoscaling needs machines that are paid by the hour (on-demand or spot). Got reserved-1y",
        ),
        ("choices", {"teacher": "a/b", "teacher_price_factor": 0}, "choices.teacher_price_factor"),
        ("choices", {"teacher": "a/b", "gpu_price_change_per_year": -1}, "greater than or equal to -0.99"),
        ("choices", {"teacher": "a/b", "on_retirement": "ignore"}, "'refuse' or 'migrate'"),
        ("choices", {"teacher": "a/b", "evaluations": {"x": {"correct": 6, "total": 5}}}, "Got 6 of 5"),
        ("choices", {"teacher": "a/b", "evaluations": {"x": {"correct": 0, "total": 0}}}, "evaluations.x.total"),
        ("choices", {"teacher": "a/b", "distillation": {"filter_yield": 0}}, "choices.distillation.filter_yield"),
        ("choices", {"teacher": "a/b", "distillation": {"epochs": 0}}, "choices.distillation.epochs"),
        ("choices", {"teacher": "a/b", "serving": {"precision": "fp16"}}, "choices.serving.precision"),
        ("choices", {"teacher": "a/b", "serving": {"memory_margin": 1}}, "less than 1. Got 1"),
        ("choices", {"teacher": "a/b", "routing": {"escalation_rate": 1.4}}, "choices.routing.escalation_rate"),
        ("choices", {"teacher": "a/b", "routing": {"apgr": 1}}, "choices.routing.apgr"),
        ("choices", {}, "choices.teacher is missing"),
        ("use", {"kind": "chat"}, "use.kind"),
        ("use", {"distributes": True}, "unknown field use.distributes. Did you mean distributed?"),
        ("overrides", {"gpus": 3}, "overrides.gpus"),
    ],
)
def test_what_cannot_be_is_refused_and_named(section: str, values: Any, says: str) -> None:
    with pytest.raises(InputError) as error:
        scenario(**{section: values})
    assert says in str(error.value)


def test_a_value_of_several_kinds_is_judged_as_the_kind_that_it_is() -> None:
    for value, says in (
        (2, "choices.student_retention should be less than or equal to 1. Got 2"),
        ({"x": 2}, "choices.student_retention.x should be less than or equal to 1. Got 2"),
    ):
        with pytest.raises(InputError) as error:
            scenario(choices={"teacher": "a/b", "student_retention": value})
        assert str(error.value) == says


@pytest.mark.parametrize(
    ("commitment", "stays"),
    [("on-demand", False), ("spot", False), ("reserved-1y", True), ("reserved-3y", True), ("owned", True)],
)
def test_machines_that_are_reserved_or_owned_stay(commitment: Any, stays: bool) -> None:
    assert Serving(commitment=commitment).stays is stays


@pytest.mark.parametrize("values", [{"options": ["self-hots"]}, {"students": [5]}, {"students": [5, "qwen3-8b"]}])
def test_a_wrong_name_in_a_list_is_one_problem(values: dict[str, Any]) -> None:
    with pytest.raises(InputError) as error:
        scenario(choices={"teacher": "a/b", **values})
    assert len(str(error.value).splitlines()) == 1


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(InputError) as error:
        scenario(choices={"teacher": "a/b", "student_retention": 2}, use={"kind": "chat"})
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize("missing", ["workload", "choices"])
def test_a_missing_section_is_named(missing: str) -> None:
    sections: dict[str, Any] = {"workload": WORKLOAD, "choices": {"teacher": "a/b"}}
    del sections[missing]
    with pytest.raises(InputError, match=f"{missing} is missing"):
        Scenario.from_dict(sections)


def test_a_missing_field_says_what_it_is() -> None:
    with pytest.raises(InputError, match=r"choices\.teacher is missing\. It is provider/model"):
        scenario(choices={})


@pytest.mark.parametrize("part", ["workload", "choices", "use"])
def test_scenarios_are_frozen(part: str) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(scenario(), part, None)


# Plain values


def test_defaults_are_left_out_but_the_start_is_not() -> None:
    # The default start depends on the day; a file that left it out would mean another horizon next month.
    assert scenario().to_dict() == {"workload": WORKLOAD, "choices": {"teacher": "openai/gpt-6-sol"}}


def test_nested_defaults_are_left_out() -> None:
    stated = scenario(choices={"teacher": "a/b", "serving": {"precision": "fp8", "memory_margin": 0.1}, "routing": {}})
    assert stated.to_dict()["choices"] == {"teacher": "a/b", "serving": {"precision": "fp8"}}


def test_what_was_decided_against_is_kept() -> None:
    assert scenario(use={"competes_with_teacher": False}).to_dict()["use"] == {"competes_with_teacher": False}


@given(stated=scenarios())
def test_a_scenario_survives_its_plain_values(stated: Scenario) -> None:
    assert Scenario.from_dict(stated.to_dict()) == stated


@given(stated=scenarios())
def test_a_scenario_survives_its_repr(stated: Scenario) -> None:
    classes = (
        Choices,
        Distillation,
        Evaluation,
        Quality,
        Routing,
        Scenario,
        Serving,
        Slo,
        TokenLengths,
        Use,
        Workload,
    )
    assert eval(repr(stated), {"datetime": datetime} | {kind.__name__: kind for kind in classes}) == stated
