"""The whole loop on a shipped task: decide, label, train, measure, hold the estimate against it, route, decide again.

:func:`run_demo` reads top to bottom as the loop does; each step takes what those before it made. A web shop sorts its
customers' messages with a big model. Without a key the big model is played by a small one (:mod:`.demo_steps`),
behind the API that the big one has; with an endpoint and a key the big model answers itself, under a budget.

Everything lives in one folder. Killed at any point, the same call goes on: labels are journaled, trainings have their
checkpoints, measurements their records.
"""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillcalc.demo_result import DemoResult
from distillcalc.demo_steps import (
    BIG,
    BUDGET_USD,
    ENGINE,
    FULL,
    MACHINE,
    SMALL,
    STUDENT,
    Demo,
    Nobody,
    Watcher,
    data,
)
from distillcalc.errors import DistillcalcError

if TYPE_CHECKING:
    from distillcalc.catalog import Catalog
    from distillcalc.distill.labelling import LabelRun
    from distillcalc.distill.teacher import Teacher
    from distillcalc.distill.training.result import TrainRun
    from distillcalc.workload import Scenario
    from distillcalc.workload.logs import WorkloadProfile

RESULT, REPORT = "demo.json", "report.html"


def run_demo(
    folder: str | Path,
    *,
    small: bool = False,
    teacher: Teacher | None = None,
    budget_usd: Decimal | str = BUDGET_USD,
    accept_unclear_terms: bool = False,
    watcher: Watcher | None = None,
    catalog: Catalog | None = None,
) -> DemoResult:
    """Carry out the loop; the same call goes on where an earlier one stopped.

    Parameters
    ----------
    folder : of everything that it makes: ``demo.json``, ``report.html``, and the steps' own folders.
    small : few messages and short measurements, for tests: its numbers say little.
    teacher : a big model that answers itself, at an endpoint; left out, the packaged small one plays it.
    budget_usd : the most that the labelling and the benchmark of a paid teacher may cost together.
    accept_unclear_terms : go on where the teacher's terms do not say whether a student may be trained.
    watcher : told how far it is.

    Returns
    -------
    :class:`~distillcalc.demo_result.DemoResult`, saved as ``demo.json`` with its report beside it.

    Raises
    ------
    InputError
        If the folder holds a demo of other settings, or a budget does not cover the measuring of a paid teacher.
    TermsProhibited, TermsUnclear
        Before anything is sent.
    MissingExtra
        If torch or transformers is not installed.
    DistillcalcError
        If the labelling ended before all was labelled: interrupted, the budget spent, or no endpoint there.
    """
    from distillcalc.benchmark.machine import describe_machine, measure_machine
    from distillcalc.benchmark.record import now, plain
    from distillcalc.benchmark.validation import validate
    from distillcalc.catalog import Catalog
    from distillcalc.decide.recommend import recommend
    from distillcalc.demo_report import write_report
    from distillcalc.demo_routing import decide_again, route
    from distillcalc.distill.labelling import label
    from distillcalc.distill.training.run import train
    from distillcalc.workload.logs import profile_logs

    known = catalog or Catalog.load()
    demo = Demo(Path(folder), SMALL if small else FULL, teacher, Decimal(budget_usd), watcher or Nobody(), known)

    with demo.step("read the log"):
        traffic = demo.show(profile_logs(data() / "requests.parquet"))
        scenario = scenario_of(traffic, demo.priced_as)
    with demo.step("decide"):
        decision = demo.show(recommend(scenario, catalog=known))
    with demo.step("start the teacher"):
        answering = demo.teacher_at_an_endpoint()
    with answering as asked:
        with demo.step("label"):
            labels = label(
                demo.task, asked, demo.rows(), budget_usd=demo.labelling_budget(asked), catalog=demo.priced,
                runs=demo.folder, concurrency=demo.in_flight, probe=0, progress=demo.labelled,
                accept_unclear_terms=accept_unclear_terms,
            )  # fmt: skip
            demo.show(labels)
            if not labels.is_done:  # nothing may be trained on a part: the rest would be other data
                raise DistillcalcError(
                    f"labelling stopped with {labels.answers:,} of {labels.wanted:,} answers "
                    f"({labels.stopped or 'calls failed'}). What is there is kept: run the same command again, with a "
                    "larger --budget if it was spent"
                )
        with demo.step("train the student"):
            trained = demo.show(train(demo.recipe(labels), runs=demo.folder, report=demo.trained, catalog=demo.priced))
        with demo.step("measure the teacher"):
            of_teacher = demo.measured("teacher", lambda: demo.teacher_target(asked), demo.teacher_workload)
    with demo.step("measure the student"):
        of_student = demo.measured("student", lambda: demo.student_target(trained.student), demo.student_workload)
    with demo.step("measure this machine"):
        machine = demo.kept("machine.json", lambda: measure_machine(demo.size.machine_s).row())
    with demo.step("validate"):
        held = [of_teacher, of_student] if demo.plays else [of_student]  # of an endpoint no step can be told
        validation = validate(
            [run.first for run in held], machine=MACHINE, engine=ENGINE, refit_on=[run.again for run in held],
            catalog=known.with_overrides({"gpus": {MACHINE: machine}}),
        )  # fmt: skip
        demo.show(validation)
    with demo.step("route"):
        routed = demo.show(route(demo.folder, trained.student, demo.priced_as, scenario))
    with demo.step("decide again"):
        counts = counts_of(trained)
        again = decide_again(
            scenario, routed.fitted.router, catalog=known,
            evaluations={"teacher": counts["teacher"], STUDENT: counts["student"]},
            overrides={"gpus": {MACHINE: machine}, **validation.overrides},
            actual_usd=None if demo.plays else {"labels": float(labels.spent_usd)},  # short prompts, and nobody's bill
        )  # fmt: skip
        demo.show(again)
    result = DemoResult(
        created=now(), small=small, machine=plain(describe_machine()), teacher=demo.who, seconds=demo.seconds,
        traffic=plain(facts_of_traffic(traffic)), decision=plain(decision.to_dict()),
        labelling=facts_of(labels, demo.priced_as), training=plain(trained.to_dict()), quality=counts,
        benchmarks={"teacher": of_teacher.record(), "student": of_student.record()},
        validation=plain(validation.to_dict() | {"sentences": validation.sentences}),
        routing=plain(routed.to_dict()), redecision=plain(again.to_dict()), after=plain(again.after.to_dict()),
    )  # fmt: skip
    result.save(demo.folder / RESULT)
    write_report(result, demo.folder / REPORT)
    return result


def scenario_of(traffic: WorkloadProfile, teacher: str = BIG) -> Scenario:
    """The log's traffic with the shipped choices: objectives, quality, models, machine, prices."""
    from distillcalc.workload import Scenario

    choices = tomllib.loads((data() / "choices.toml").read_text(encoding="utf-8"))
    workload = traffic.workload(**choices.pop("workload"))
    choices["choices"]["teacher"] = teacher
    return Scenario.from_dict({"workload": workload.model_dump(exclude_unset=True), **choices})


def facts_of_traffic(traffic: WorkloadProfile) -> dict[str, Any]:
    """What the report tells of the traffic: what was measured, and what the file of choices gives in its place."""
    given = tomllib.loads((data() / "choices.toml").read_text(encoding="utf-8"))["workload"]
    origins = traffic.provenance_of(**given)
    return traffic.to_dict() | {"provenance": {name: origin.to_dict() for name, origin in origins.items()}}


def counts_of(trained: TrainRun) -> dict[str, tuple[int, int]]:
    """(right, of how many) test messages by "teacher" and "student"."""
    assert trained.table is not None
    found = {}
    for entry in trained.table.entries:
        name = {"teacher": "teacher", "distilled": "student"}.get(entry.role)
        if name is not None:
            found[name] = (round(entry.score.accuracy * entry.score.items), entry.score.items)
    return found


def facts_of(labels: LabelRun, price: str) -> dict[str, Any]:
    """What the report tells of the labelling; ``price`` is whose list price was booked."""
    return {
        "rows": labels.wanted, "valid": labels.valid.count, "right": labels.accuracy.count,
        "of": labels.accuracy.total, "calls": labels.calls, "price": price, "seconds": labels.seconds,
        "forecast_usd": float(labels.plan.forecast.standard_usd), "actual_usd": float(labels.spent_usd),
    }  # fmt: skip
