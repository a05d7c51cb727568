"""What a recipe's students learn from and are judged by: records, validation records, evaluation items, terms.

Records come from labelled datasets, or are made here by a teacher whose weights are on this machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillcalc.distill.records import Dataset, Record
from distillcalc.distill.task import Task
from distillcalc.distill.training.evaluation import Items, read_items
from distillcalc.distill.training.labelled_here import labelled_here
from distillcalc.distill.training.recipe import Recipe, TeacherWeights
from distillcalc.errors import InputError, UnknownName

if TYPE_CHECKING:
    from distillcalc.catalog import Catalog
    from distillcalc.distill.training.local_teacher import LocalTeacher

FEWEST = 2  # records to learn from
FEWEST_TO_SPLIT = 10  # below, none are set aside for validation


@dataclass(frozen=True)
class Material:
    """Everything that is read before anything is trained.

    Parameters
    ----------
    train, validation : records to learn from; to choose when to stop.
    items : held-out and labelled by people; None where the recipe names none.
    left_out : records that are not learnt from, by reason.
    labels_usd : what the labels cost; None where no dataset says.
    terms : rows of terms that apply, with verdicts. verdict : the strictest, and why.
    cards : of the datasets.
    notes : what a person should know.
    """

    train: tuple[Record, ...]
    validation: tuple[Record, ...]
    items: Items | None
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
    report: Callable[[str, int, int], None] | None = None,
) -> Material:
    """Read, label, filter and split.

    Parameters
    ----------
    folder : of the run; what is labelled here is kept there.
    teacher : labels ``recipe.data.inputs``.
    report : told what is done, how much of it, and of how much.

    Raises
    ------
    InputError
        If nothing is left to learn from, or it is of another task.
    TermsProhibited, TermsUnclear
        If the teacher's terms forbid it, or do not say and nobody has accepted that.
    """
    data = recipe.data
    items, notes = None, []
    if data.evaluation is not None:
        items = read_items(data.evaluation, task, human_label=data.human_label, id=data.id, limit=data.evaluation_limit)
        notes += _rejected(f"rows of {Path(data.evaluation).name} are not judged", items.rejected)
    sources: list[list[Record]] = []
    cards: list[dict[str, Any]] = []
    for file in data.train:
        found = Dataset.load(file)
        cards.append(found.card)
        sources.append(list(found.records))
    for number, file in enumerate(data.inputs):
        if teacher is None:
            raise InputError("inputs are labelled by a teacher on this machine: give [teacher] model")
        room = None if data.limit is None else data.limit - sum(map(len, sources))
        if room is not None and room <= 0:
            break
        kept = folder / f"labels-{number}.jsonl"
        made = labelled_here(file, recipe, task, teacher, kept, room, report)
        cards.append(made.card)
        notes += _rejected(f"rows of {Path(file).name} were not labelled", [r["reason"] for r in _of(made.card)])
        sources.append(list(made.records))
    records = _named_apart(sources)[: data.limit]
    _refuse_other_task(records, task)
    verdict, terms = _terms(recipe, records, catalog)
    left_out: dict[str, int] = {}
    valid = [r for r in records if not r.problems]
    if len(valid) < len(records):
        left_out["the teacher's answer has a problem"] = len(records) - len(valid)
    if items is not None and data.drop_evaluation_items:
        valid = _without_items(valid, items, left_out)
    if len(valid) < FEWEST:
        why = "; ".join(f"{count:,} x {reason}" for reason, count in left_out.items()) or "there are no more"
        raise InputError(f"{len(valid)} records are left to learn from, of {len(records):,}: {why}")
    train, validation = _split(valid, data.validation_share, notes)
    if recipe.training.patience is not None and not validation:
        raise InputError(
            f"patience counts evaluations on validation records, and of {len(valid):,} records none can be set aside. "
            "Give more records, or leave patience out"
        )
    return Material(
        tuple(train), tuple(validation), items, left_out, _spent(recipe, cards, notes), terms,
        verdict, tuple(card for card in cards if card.get("name")), tuple(notes),
    )  # fmt: skip


def _of(card: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = card.get("rejected", [])
    return found


def _rejected(what: str, reasons: Sequence[str]) -> list[str]:
    """A note of rows that could not be used."""
    counts = Counter(reasons)
    why = "; ".join(f"{count:,} x {reason}" for reason, count in counts.most_common(3))
    return [f"{len(reasons):,} {what}: {why}"] if reasons else []


def _named_apart(sources: Sequence[Sequence[Record]]) -> list[Record]:
    """All records, each with a name of its own: files number their rows from 1, all of them."""
    made: list[Record] = []
    seen: set[tuple[str, int]] = set()
    for number, records in enumerate(sources):
        for record in records:
            name = _name(number, record.id)
            copies = 1
            while (name, record.sample) in seen:
                copies += 1
                name = f"{_name(number, record.id)}#{copies}"
            seen.add((name, record.sample))
            made.append(record if name == record.id else record.model_copy(update={"id": name}))
    return made


def _name(source: int, id: str) -> str:
    return f"{source}/{id}" if source else id


def _spent(recipe: Recipe, cards: Sequence[dict[str, Any]], notes: list[str]) -> float | None:
    """What the labels cost [USD]: what the recipe says, or what the datasets' cards do."""
    if recipe.costs.labels_usd is not None:
        return recipe.costs.labels_usd
    told = [card.get("spend", {}).get("actual_usd") for card in cards]
    known = [Decimal(str(usd)) for usd in told if usd is not None]
    if known and len(known) < len(recipe.data.train):
        notes.append(f"what the labels cost is known of {len(known)} of {len(cards)} datasets: the rest counts as free")
    return float(sum(known)) if known else None


def _refuse_other_task(records: Sequence[Record], task: Task) -> None:
    """Answers that are valid labels, but not of this task, are those of another one."""
    if task.kind == "json":
        alien = [r for r in records if not r.problems and r.value is None]
        wanted = "fit the schema"
    elif task.labels is not None:
        known = set(task.labels)
        alien = [r for r in records if not r.problems and r.answer not in known]
        wanted = f"are labels: {', '.join(task.labels[:5])}, ..."
    else:
        return
    if alien:
        raise InputError(
            f"the data is of another task: {len(alien):,} of {len(records):,} answers are none of {task.name} (the "
            f"first: {alien[0].answer[:60]!r} of record {alien[0].id!r}), whose answers {wanted}"
        )


def _without_items(records: list[Record], items: Items, left_out: dict[str, int]) -> list[Record]:
    from distillcalc.distill.decontaminate import decontaminated

    found = decontaminated(records, evaluation={item.id: item.text for item in items.records}, ratio=0.95)
    for reason, count in found.report.by_reason.items():
        left_out[f"gives an evaluation item away: {reason}"] = count
    return list(found.kept)


def _split(records: list[Record], share: float, notes: list[str]) -> tuple[Sequence[Record], Sequence[Record]]:
    from distillcalc.distill.splits import split

    if not share:
        return records, ()
    if len(records) < FEWEST_TO_SPLIT:
        notes.append(f"{len(records)} records are too few to set some aside for validation")
        return records, ()
    parts = split(records, shares={"train": 1 - share, "validation": share})
    if len(parts["train"]) < FEWEST or not parts["validation"]:
        notes.append("no records are set aside for validation: near-duplicates stay together")
        return records, ()
    return parts["train"], parts["validation"]


def teacher_name(teacher: TeacherWeights) -> str:
    """The name that a teacher's answers carry: its own, or the last parts of its folders' names."""
    parts = (teacher.model, teacher.adapter)
    return teacher.name or "+".join(Path(part).name for part in parts if part)


def _terms(
    recipe: Recipe, records: Sequence[Record], catalog: Catalog
) -> tuple[tuple[str, str], tuple[dict[str, Any], ...]]:
    """What the terms of whoever answered say of training on it; the strictest counts."""
    from distillcalc.distill.terms import judge_teacher

    names = {r.origin.teacher for r in records}
    if recipe.teacher is not None:  # its weights teach, or are cut, whoever wrote the answers
        own = teacher_name(recipe.teacher)
        nameless = recipe.teacher.model_copy(update={"name": ""})
        here = {teacher_name(nameless), teacher_name(nameless.model_copy(update={"adapter": None}))}
        names = (names - here) | {own}
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
        if verdict == "unknown" and worst != "unknown":
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
