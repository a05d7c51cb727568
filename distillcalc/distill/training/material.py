"""What a recipe's students learn from and are judged by: records, validation records, evaluation items, terms.

Records come from labelled datasets, or are made here by a teacher whose weights are on this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillcalc.distill.records import Dataset, Record
from distillcalc.distill.rows import Rows
from distillcalc.distill.task import Task
from distillcalc.distill.training.evaluation import Items, read_items
from distillcalc.distill.training.recipe import Recipe
from distillcalc.errors import InputError, UnknownName

if TYPE_CHECKING:
    from distillcalc.catalog import Catalog
    from distillcalc.distill.training.local_teacher import LocalTeacher, SoftLabels

FEWEST = 2  # records to learn from


@dataclass(frozen=True)
class Material:
    """Everything that is read before anything is trained.

    Parameters
    ----------
    train, validation : records to learn from; to choose when to stop.
    items : held-out and labelled by people; None where the recipe names none.
    soft_labels : the teacher's probabilities of the labels, where they were taken here.
    left_out : records that are not learnt from, by reason.
    labels_usd : what the labels cost; None where no dataset says.
    terms : rows of terms that apply, with verdicts. verdict : the strictest, and why.
    cards : of the datasets.
    notes : what a person should know.
    """

    train: tuple[Record, ...]
    validation: tuple[Record, ...]
    items: Items | None
    soft_labels: SoftLabels | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    labels_usd: float | None = None
    terms: tuple[dict[str, Any], ...] = ()
    verdict: tuple[str, str] = ("unknown", "")
    cards: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def teachers(self) -> list[str]:
        """Who answered."""
        return sorted({record.origin.teacher for record in (*self.train, *self.validation)})


def gather(
    recipe: Recipe,
    task: Task,
    *,
    folder: Path,
    teacher: LocalTeacher | None,
    catalog: Catalog,
    soft: bool = False,
    report: Callable[[str, int, int], None] | None = None,
) -> Material:
    """Read, label, filter and split.

    Parameters
    ----------
    folder : of the run; what is labelled here is kept there.
    teacher : labels ``recipe.data.inputs``.
    soft : also take its probabilities of the labels.
    report : told what is done, how much of it, and of how much.

    Raises
    ------
    InputError
        If nothing is left to learn from, or it is of another task.
    TermsProhibited, TermsUnclear
        If the teacher's terms forbid it, or do not say and nobody has accepted that.
    """
    data = recipe.data
    items = None
    if data.evaluation is not None:
        items = read_items(data.evaluation, task, human_label=data.human_label, id=data.id, limit=data.evaluation_limit)
    records: list[Record] = []
    spent: Decimal | None = None
    cards: list[dict[str, Any]] = []
    for file in data.train:
        found = Dataset.load(file)
        cards += [found.card] if found.card.get("name") else []
        records += found.records
        usd = found.card.get("spend", {}).get("actual_usd")
        if usd is not None:
            spent = (spent or Decimal(0)) + Decimal(str(usd))
    soft_labels: SoftLabels | None = None
    for number, file in enumerate(data.inputs):
        if teacher is None:
            raise InputError("inputs are labelled by a teacher on this machine: give [teacher] model")
        made, soft_labels = _labelled_here(
            file, recipe, task, teacher, folder / f"labels-{number}.jsonl", soft, soft_labels, report
        )
        cards += [made.card] if made.card.get("name") else []
        records += [r.model_copy(update={"id": f"{number}/{r.id}"}) if number else r for r in made.records]
    if data.limit is not None:
        records = records[: data.limit]
    _refuse_other_task(records, task)
    verdict, terms = _terms(recipe, records, catalog)
    left_out: dict[str, int] = {}
    kept = [r for r in records if not r.problems]
    if len(kept) < len(records):
        left_out["the teacher's answer has a problem"] = len(records) - len(kept)
    if items is not None and data.drop_evaluation_items:
        kept = _without_items(kept, items, left_out)
    if len(kept) < FEWEST:
        why = "; ".join(f"{count:,} x {reason}" for reason, count in left_out.items()) or "there are no more"
        raise InputError(f"{len(kept)} records are left to learn from, of {len(records):,}: {why}")
    train, validation = _split(kept, data.validation_share)
    usd_given = recipe.costs.labels_usd
    return Material(
        tuple(train), tuple(validation), items, soft_labels, left_out,
        usd_given if usd_given is not None else None if spent is None else float(spent), terms, verdict, tuple(cards),
    )  # fmt: skip


def _labelled_here(
    file: str, recipe: Recipe, task: Task, teacher: LocalTeacher, kept: Path, soft: bool, before: SoftLabels | None,
    report: Callable[[str, int, int], None] | None,
) -> tuple[Dataset, SoftLabels | None]:  # fmt: skip
    """Answers of the teacher here to a file's rows, from the run's folder where they are there already."""
    from distillcalc.distill.training.local_teacher import SoftLabels, label_locally

    beside = kept.with_suffix(".npz")
    if kept.is_file() and (not soft or beside.is_file()):
        return Dataset.load(kept), SoftLabels.load(beside) if soft else before
    rows = Rows(file, recipe.data.id, None)
    told = None if report is None else (lambda done, total: report("the teacher labels", done, total))
    longest = recipe.objective.max_new_tokens
    if soft:
        made, found = label_locally(teacher, task, rows, max_new_tokens=longest, soft=True, progress=told)
        found.save(beside)
        made.save(kept)
        return made, found
    made = label_locally(teacher, task, rows, max_new_tokens=longest, progress=told)
    made.save(kept)
    return made, before


def _refuse_other_task(records: Sequence[Record], task: Task) -> None:
    """Answers that are valid labels, but not of this task, are those of another one."""
    if task.labels is None:
        return
    known = set(task.labels)
    alien = [r for r in records if not r.problems and r.answer not in known]
    if alien:
        raise InputError(
            f"the data is of another task: {len(alien):,} of {len(records):,} answers are no label of {task.name} "
            f"(the first: {alien[0].answer[:60]!r} of record {alien[0].id!r}), whose labels are "
            f"{', '.join(task.labels[:5])}, ..."
        )


def _without_items(records: list[Record], items: Items, left_out: dict[str, int]) -> list[Record]:
    from distillcalc.distill.decontaminate import decontaminated

    found = decontaminated(records, evaluation={item.id: item.text for item in items.records}, ratio=0.95)
    for reason, count in found.report.by_reason.items():
        left_out[f"gives an evaluation item away: {reason}"] = count
    return list(found.kept)


def _split(records: list[Record], share: float) -> tuple[Sequence[Record], Sequence[Record]]:
    from distillcalc.distill.splits import split

    if not share or len(records) < 10:
        return records, ()
    parts = split(records, shares={"train": 1 - share, "validation": share})
    return (parts["train"], parts["validation"]) if parts["train"] else (records, ())


def _terms(
    recipe: Recipe, records: Sequence[Record], catalog: Catalog
) -> tuple[tuple[str, str], tuple[dict[str, Any], ...]]:
    """What the terms of whoever answered say of training on it; the strictest counts."""
    from distillcalc.distill.terms import judge_teacher

    names = {r.origin.teacher for r in records}
    if recipe.teacher is not None and recipe.teacher.name:
        local = {Path(recipe.teacher.model).name, recipe.teacher.name}
        names = {name for name in names if name not in local} | {recipe.teacher.name}
    applying: list[dict[str, Any]] = []
    worst, why = "pass", ""
    for name in sorted(names):
        try:
            judged = judge_teacher(catalog, name, recipe.asked.use)
        except UnknownName as error:
            verdict, detail = "unknown", f"the catalog does not know the teacher {name!r}: {error}"
        else:
            if judged.verdict == "fail":
                judged.require()
            verdict, detail = judged.verdict, judged.detail
            applying += judged.applying
        if verdict == "unknown":
            worst, why = "unknown", detail
        elif not why:
            why = detail
    if worst == "unknown" and not recipe.accept_unclear_terms:
        from distillcalc.distill.terms import TermsUnclear

        raise TermsUnclear(
            f"the teacher's terms are unclear: {why}. Read them; if they allow it, set accept_unclear_terms = true in "
            "the recipe"
        )
    return (worst, why), tuple(applying)
