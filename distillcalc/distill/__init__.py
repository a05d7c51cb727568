"""Carrying the decision out: label with the teacher, filter, split, export, and have students trained.

``plan(decision, task, rows)`` or ``plan_labels(task, teacher, rows)`` says what a labelling takes;
``label(task, teacher, rows, budget_usd=...)`` carries it out; ``prepare(dataset, task)`` makes a training set of it;
``train(recipe)`` trains students here, and ``finetune.run`` has a provider train and serve one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from distillcalc.lazy import lazily

if TYPE_CHECKING:
    from distillcalc.distill.exports import export
    from distillcalc.distill.filtered import apply_filters
    from distillcalc.distill.labelling import LabelRun, label, run_plan
    from distillcalc.distill.planning import LabelPlan, plan, plan_labels
    from distillcalc.distill.recipe import Filters, prepare
    from distillcalc.distill.records import Dataset, Record
    from distillcalc.distill.rows import Rows
    from distillcalc.distill.spec import LabelSpec
    from distillcalc.distill.splits import split
    from distillcalc.distill.synthetic import synthesise
    from distillcalc.distill.task import Example, Task
    from distillcalc.distill.teacher import Privacy, Teacher
    from distillcalc.distill.training.recipe import Recipe
    from distillcalc.distill.training.run import TrainRun, train
    from distillcalc.distill.training_file import check_training_file

_HOMES = {
    "exports": ("export",),
    "filtered": ("apply_filters",),
    "labelling": ("LabelRun", "label", "run_plan"),
    "planning": ("LabelPlan", "plan", "plan_labels"),
    "recipe": ("Filters", "prepare"),
    "records": ("Dataset", "Record"),
    "rows": ("Rows",),
    "spec": ("LabelSpec",),
    "splits": ("split",),
    "synthetic": ("synthesise",),
    "task": ("Example", "Task"),
    "teacher": ("Privacy", "Teacher"),
    "training.recipe": ("Recipe",),
    "training.run": ("TrainRun", "train"),
    "training_file": ("check_training_file",),
}

__all__ = [
    "Dataset",
    "Example",
    "Filters",
    "LabelPlan",
    "LabelRun",
    "LabelSpec",
    "Privacy",
    "Recipe",
    "Record",
    "Rows",
    "Task",
    "Teacher",
    "TrainRun",
    "apply_filters",
    "check_training_file",
    "export",
    "label",
    "plan",
    "plan_labels",
    "prepare",
    "run_plan",
    "split",
    "synthesise",
    "train",
]


__getattr__, __dir__ = lazily(__name__, _HOMES)
