"""Rows that the teacher on this machine labels for a run: once, and kept in the run's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from distillcalc.distill.records import Dataset, card_file
from distillcalc.distill.rows import Rows
from distillcalc.distill.task import Task
from distillcalc.distill.training.claim import digest, signature
from distillcalc.distill.training.recipe import Recipe

if TYPE_CHECKING:
    from distillcalc.distill.training.local_teacher import LocalTeacher


def labelled_here(
    file: str, recipe: Recipe, task: Task, teacher: LocalTeacher, kept: Path, limit: int | None,
    report: Callable[[str, int, int], None] | None,
) -> Dataset:  # fmt: skip
    """Answers of the teacher here to a file's rows, from the run's folder where they are there already.

    Parameters
    ----------
    kept : file of the answers.
    limit : only so many rows from the start.
    report : told what is done, how much of it, and of how much.
    """
    from distillcalc.distill.training.local_labels import label_locally

    mark = _mark(file, recipe, task, limit)
    if kept.is_file() and card_file(kept).is_file():
        known = Dataset.load(kept)
        if known.card.get("made_of", mark) == mark:  # else of other rows, or by another teacher
            return known
    rows = Rows(file, recipe.data.id, None, limit)
    told = None if report is None else (lambda done, total: report("the teacher labels", done, total))
    made = label_locally(teacher, task, rows, max_new_tokens=recipe.objective.max_new_tokens, progress=told)
    made = Dataset(made.records, {**made.card, "made_of": mark})
    made.save(kept)
    return made


def _mark(file: str, recipe: Recipe, task: Task, limit: int | None) -> str:
    """Of the rows, of what is asked of them and of whom."""
    assert recipe.teacher is not None
    who = [recipe.teacher.model, recipe.teacher.adapter]
    asked = task.model_dump(mode="json", exclude={"use", "student", "student_host"})
    plain = [signature(file), recipe.data.id, limit, [signature(name) for name in who if name], recipe.teacher.name]
    return digest([*plain, asked, recipe.objective.max_new_tokens])
