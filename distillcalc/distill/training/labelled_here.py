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
    from distillcalc.distill.training.local_teacher import LocalTeacher, SoftLabels


def labelled_here(
    file: str, recipe: Recipe, task: Task, teacher: LocalTeacher, kept: Path, soft: bool, limit: int | None,
    report: Callable[[str, int, int], None] | None,
) -> tuple[Dataset, SoftLabels | None]:  # fmt: skip
    """Answers of the teacher here to a file's rows, from the run's folder where they are there already.

    Parameters
    ----------
    kept : file of the answers; their probabilities lie beside it.
    soft : also take the teacher's probabilities of the labels.
    limit : only so many rows from the start.
    report : told what is done, how much of it, and of how much.
    """
    from distillcalc.distill.training.local_teacher import SoftLabels, label_locally

    beside, longest = kept.with_suffix(".npz"), recipe.objective.max_new_tokens
    mark = _mark(file, recipe, task, limit)
    if kept.is_file() and card_file(kept).is_file() and (not soft or beside.is_file()):
        known = Dataset.load(kept)
        if known.card.get("made_of", mark) == mark:  # else of other rows, or by another teacher
            return known, SoftLabels.load(beside) if soft else None
    rows = Rows(file, recipe.data.id, None, limit)
    told = None if report is None else (lambda done, total: report("the teacher labels", done, total))
    found: SoftLabels | None = None
    if soft:
        made, found = label_locally(teacher, task, rows, max_new_tokens=longest, soft=True, progress=told)
        found.save(beside)
    else:
        made = label_locally(teacher, task, rows, max_new_tokens=longest, progress=told)
    made = Dataset(made.records, {**made.card, "made_of": mark})
    made.save(kept)
    return made, found


def _mark(file: str, recipe: Recipe, task: Task, limit: int | None) -> str:
    """Of the rows, of what is asked of them and of whom."""
    assert recipe.teacher is not None
    who = [recipe.teacher.model, recipe.teacher.adapter]
    asked = task.model_dump(mode="json", exclude={"use", "student", "student_host"})
    plain = [signature(file), recipe.data.id, limit, [signature(name) for name in who if name], recipe.teacher.name]
    return digest([*plain, asked, recipe.objective.max_new_tokens])
