from __future__ import annotations

import math

import pytest

from distillcalc.benchmark.redeciding import redecide
from distillcalc.errors import InputError
from distillcalc.workload.scenario import Scenario

TRIAGE = Scenario.load("support-triage")
ENGINE = {"source": "measured", "checked": "2026-11-28"}


def test_nothing_new_changes_nothing() -> None:
    found = redecide(TRIAGE)
    assert found.stands
    assert found.regret_usd == 0
    assert found.recommendation == found.before.recommendation == found.after.recommendation
    assert found.sentences[0] == f"The recommendation stands: {found.recommendation}."
    for name, estimate in found.after.options.items():
        assert found.present_value_usd[name] == pytest.approx(estimate.present_value_usd, nan_ok=True)


def test_a_student_that_is_not_good_enough_is_not_kept_and_the_old_choice_is_priced() -> None:
    students = dict.fromkeys(TRIAGE.choices.students, (120, 300))
    found = redecide(TRIAGE, evaluations={**students, "teacher": (285, 300)})
    assert found.before.recommendation == "self-host"
    assert not found.stands
    assert found.after.options["self-host"].status in ("ruled-out", "unproven")
    assert found.recommendation is not None
    new, old = (found.present_value_usd[name] for name in (found.recommendation, "self-host"))
    assert found.regret_usd == pytest.approx(old - new)
    assert any(sentence.startswith("self-host was ") for sentence in found.sentences)
    assert found.to_dict()["after"] == found.recommendation


def test_a_slower_engine_costs_more_machines() -> None:
    found = redecide(TRIAGE, overrides={"engines": {"vllm": {**ENGINE, "mfu_bf16": 0.02, "mfu_fp8": 0.02}}})
    before = found.before.options["self-host"].present_value_usd
    assert found.present_value_usd["self-host"] > before
    # A scenario's own row of the engine, stated before anything was measured, does not stand over what was measured.
    stated = TRIAGE.with_overrides({"engines": {"vllm": {**ENGINE, "mfu_bf16": 0.9, "mfu_fp8": 0.9}}})
    again = redecide(stated, overrides={"engines": {"vllm": {**ENGINE, "mfu_bf16": 0.02, "mfu_fp8": 0.02}}})
    assert again.present_value_usd["self-host"] == pytest.approx(found.present_value_usd["self-host"])


def test_dollars_that_were_paid_stand_in_place_of_the_forecast() -> None:
    forecast = redecide(TRIAGE).before.options["self-host"].one_off_usd
    found = redecide(TRIAGE, actual_usd={"labels": forecast["labels"] + 1000.0, "engineering": 0.0})
    wanted = found.after.options["self-host"].present_value_usd + 1000.0 - forecast["engineering"]
    assert found.present_value_usd["self-host"] == pytest.approx(wanted)
    # Calling the teacher pays for neither.
    teacher = found.after.options["call-teacher"].present_value_usd
    assert found.present_value_usd["call-teacher"] == pytest.approx(teacher)
    assert found.dollars[0] == ("labels", pytest.approx(forecast["labels"]), pytest.approx(forecast["labels"] + 1000))
    # So dear that the teacher is the cheaper one, while the decision without actual dollars is as it was.
    dear = redecide(TRIAGE, actual_usd={"labels": 1e6})
    assert dear.after.recommendation == "self-host"
    assert dear.recommendation not in ("self-host", None)
    assert dear.regret_usd > 0
    assert math.isfinite(dear.regret_usd)


def test_what_nobody_pays_for_is_refused() -> None:
    with pytest.raises(InputError, match=r"no option of this scenario pays for coffee. Items: .*labels"):
        redecide(TRIAGE, actual_usd={"coffee": 1.0})
    with pytest.raises(InputError, match=r"at least 0\. Got -1\.0 for labels"):
        redecide(TRIAGE, actual_usd={"labels": -1.0})


def test_what_was_believed_of_a_quality_stands_beside_what_was_counted() -> None:
    (student,) = list(TRIAGE.choices.students)[:1]
    found = redecide(TRIAGE, evaluations={"teacher": (285, 300), student: (120, 300)})
    teacher, own = found.qualities
    assert (teacher.name, own.name) == ("teacher", student)
    believed = found.before.options["call-teacher"]
    assert teacher.estimate == believed.quality_mean
    # The variance of the belief and that of 300 items; the middle nine tenths are about 1.645 sd to each side.
    mean, sd = believed.quality_mean, believed.quality_sd
    whole = math.sqrt(sd**2 + mean * (1 - mean) / 300)
    assert teacher.high - teacher.low == pytest.approx(2 * 1.645 * whole, rel=0.1)
    assert teacher.low < teacher.estimate < teacher.high
    assert own.measured == pytest.approx(0.4)
    assert not own.inside
    assert f"accuracy of {student}: " in "\n".join(found.sentences)
    assert "measured 0.40 (120 of 300): outside." in "\n".join(found.sentences)
    assert found.to_dict()["qualities"][1]["inside"] is False


def test_a_student_that_one_option_cannot_price_is_told_of_by_another() -> None:
    # Of minilm-l6 no host has a price, so hosted-open-student believes nothing of it; self-host does.
    case = TRIAGE.to_dict()
    case["choices"] = {**case["choices"], "students": ["minilm-l6"], "evaluations": {}}
    (own,) = redecide(Scenario.from_dict(case), evaluations={"minilm-l6": (80, 100)}).qualities
    assert (own.name, own.right, own.of) == ("minilm-l6", 80, 100)
    assert 0 < own.low < own.estimate < own.high < 1
