"""What a teacher's terms say, before anything is paid for."""

from __future__ import annotations

from typing import Any

import pytest

from distillcalc.catalog import Catalog
from distillcalc.distill.task import Task
from distillcalc.distill.terms import TermsProhibited, TermsUnclear, TermsVerdict, check_terms
from distillcalc.errors import InputError
from distillcalc.workload.scenario import Use

CATALOG = Catalog.load()


def verdict(teacher: str, **use: Any) -> TermsVerdict:
    return check_terms(CATALOG, teacher, Task(use=Use(**use)))


def test_a_competing_student_of_openai_is_prohibited_whatever_is_accepted() -> None:
    found = verdict("openai/gpt-6-sol", competes_with_teacher=True)
    assert found.verdict == "fail"
    with pytest.raises(TermsProhibited, match="prohibit"):
        found.require(accept_unclear=True)


def test_what_is_not_said_must_be_accepted_by_a_person() -> None:
    found = verdict("openai/gpt-6-sol")
    assert found.verdict == "unknown"
    with pytest.raises(TermsUnclear, match=r"competes_with_teacher.*accept_unclear_terms=True"):
        found.require()
    found.require(accept_unclear=True)


def test_a_classifier_that_stays_at_home_is_allowed() -> None:
    found = verdict("openai/gpt-6-sol", kind="classifier", distributed=False, competes_with_teacher=False)
    found.require()
    assert found.verdict == "pass"


def test_a_teacher_of_which_nothing_is_known_is_unclear() -> None:
    found = verdict("local/m")
    assert (found.verdict, found.applying, found.source) == ("unknown", (), "")
    with pytest.raises(TermsUnclear, match=r"the catalog has no terms for local/m.*\[overrides.terms\]") as error:
        found.require()
    assert "()" not in str(error.value)
    assert isinstance(error.value, InputError)


def test_the_rows_that_apply_are_carried_whole() -> None:
    (row,) = verdict("openai/gpt-6-sol").applying
    assert set(row) == {"id", "provider", "case", "verdict", "says", "requirements", "source", "checked"}
    assert row["provider"] == "openai"
    assert "OpenAI Services Agreement" in row["source"]
    assert len(row["checked"]) == len("2026-11-24")


def test_open_weights_are_judged_by_their_licence() -> None:
    assert verdict("qwen3-4b", competes_with_teacher=True, distributed=True).verdict == "pass"


def test_where_the_student_stays_counts() -> None:
    use = {"kind": "classifier", "competes_with_teacher": False}
    stays = check_terms(CATALOG, "openai/gpt-6-sol", Task(use=Use(**use), student_host="openai"))
    leaves = check_terms(CATALOG, "openai/gpt-6-sol", Task(use=Use(**use)))
    assert [row["id"] for row in leaves.applying] != [] != [row["id"] for row in stays.applying]
