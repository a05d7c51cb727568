"""From a router to a decision: a scenario that knows what was measured of it."""

from __future__ import annotations

from typing import Any

from distillcalc.catalog import Catalog
from distillcalc.errors import InputError
from distillcalc.route.router import Router
from distillcalc.workload.routing import MeasuredRouting
from distillcalc.workload.scenario import Scenario


def with_router(
    scenario: Scenario, router: Router, *, student: str | None = None, teacher: str | None = None
) -> Scenario:
    """The scenario with what was measured of a router; whatever was stated of one is left out.

    The certifying items are labelled items of this task: where the scenario has no counts of the student or the
    teacher, theirs are put there too.

    Parameters
    ----------
    scenario : traffic, choices and prices.
    router : of one of its students and of its teacher.
    student : catalog id of the student, or provider/model of one that is called as it is published; where the router
        knows it by a name that is neither.
    teacher : provider/model of the teacher; where the router knows it by a name that is none.

    Raises
    ------
    InputError
        If the router was not certified by counts, is of more than two models, of another student or teacher, or of a
        student that the scenario does not choose from.
    """
    measured = router.measured
    if measured is None:
        raise InputError(
            "nothing was counted of this router: a scenario takes answers that are right or wrong, and some of its "
            "pairs' are between"
        )
    if len(router.models) != 2:
        raise InputError(f"a scenario's cascade is of a student and a teacher. Got {len(router.models)} models")
    catalog = Catalog.load().with_overrides(scenario.overrides)
    first = _named(catalog, "student", measured.student, student)
    last = _named(catalog, "teacher", measured.teacher, teacher)
    choices = scenario.choices
    if "/" not in first and first not in choices.students:
        raise InputError(
            f"the scenario chooses from {', '.join(choices.students)}. Got a router of {first}: put that student into "
            "the scenario (students of [choices]); or, where it is one of these under another name, name its catalog "
            'id, in Python as names={"student": ...} of read_pairs or student=... of with_router, in a terminal as '
            "--student"
        )
    if not _same_model(catalog, last, choices.teacher):
        raise InputError(
            f"the scenario's teacher is {choices.teacher}. Got a router before {last}: where it is the same model, "
            'name it as the scenario does, in Python as names={"teacher": ...} of read_pairs or teacher=... of '
            "with_router, in a terminal as --teacher; else choose it as the teacher of the scenario"
        )
    plain = scenario.to_dict()
    own = plain["choices"]
    routing = {k: v for k, v in own.get("routing", {}).items() if k not in ("escalation_rate", "apgr")}
    named = measured.model_copy(update={"student": first, "teacher": choices.teacher})
    routing["measured"] = named.model_dump(mode="python", exclude_defaults=True)
    if router.facts.get("judge_usd"):
        routing["verifier_usd_per_request"] = router.facts["judge_usd"]
    evaluations = {**_counts(named, first), **own.get("evaluations", {})}
    plain["choices"] = {**own, "routing": routing, "evaluations": evaluations}
    return Scenario.from_dict(plain)


def _counts(measured: MeasuredRouting, student: str) -> dict[str, Any]:
    """Right answers of both models on the certifying items."""
    counts = measured.certifying
    return {
        "teacher": {"correct": counts.teacher_right, "total": counts.items},
        student: {"correct": measured.student_right, "total": counts.items},
    }


def _named(catalog: Catalog, what: str, measured: str, given: str | None) -> str:
    """The name by which a scenario knows a model of a router; another known model is refused."""
    if given is None or given == measured:
        return measured
    if catalog.model_of(measured) is not None and not _same_model(catalog, measured, given):
        why = ": its confidence means something else" if what == "student" else ""
        raise InputError(
            f"the router was measured on {measured}. Got the {what} {given}{why}. Fit a router on its own pairs"
        )
    return given


def _same_model(catalog: Catalog, one: str, other: str) -> bool:
    if one == other:
        return True
    found = [catalog.model_of(name) for name in (one, other)]
    return found[0] is not None and found[1] is not None and found[0][0] == found[1][0]
