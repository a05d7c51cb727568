"""From a router to a decision: a scenario that knows what was measured of it."""

from __future__ import annotations

from distillcalc.catalog import Catalog
from distillcalc.errors import InputError
from distillcalc.route.router import Router
from distillcalc.workload.scenario import Scenario


def with_router(scenario: Scenario, router: Router, *, student: str | None = None) -> Scenario:
    """The scenario with what was measured of a router; whatever was stated of one is left out.

    Parameters
    ----------
    scenario : traffic, choices and prices.
    router : of one of its students and of its teacher.
    student : catalog id of the student, where the router knows it by a name that is none.

    Raises
    ------
    InputError
        If the router was not certified by counts, is of more than two models, of another student, or of one that the
        scenario does not choose from.
    """
    measured = router.measured
    if measured is None:
        raise InputError(
            "nothing was counted of this router: its answers are neither right nor wrong, or it is not certified"
        )
    if len(router.models) != 2:
        raise InputError(f"a scenario's cascade is of a student and a teacher. Got {len(router.models)} models")
    name = student or measured.student
    if name != measured.student and measured.student in Catalog.load().with_overrides(scenario.overrides).models:
        raise InputError(
            f"the router was measured on {measured.student}. Got the student {name}: its confidence means something "
            "else. Fit a router on its own pairs"
        )
    if name not in scenario.choices.students:
        raise InputError(
            f"the scenario chooses from {', '.join(scenario.choices.students)}. Got a router of {name}: name its "
            "catalog id (--student), and the student in [choices] students"
        )
    plain = scenario.to_dict()
    routing = {k: v for k, v in plain["choices"].get("routing", {}).items() if k not in ("escalation_rate", "apgr")}
    routing["measured"] = measured.model_copy(update={"student": name}).model_dump(mode="python", exclude_defaults=True)
    plain["choices"] = {**plain["choices"], "routing": routing}
    return Scenario.from_dict(plain)
