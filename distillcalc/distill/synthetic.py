"""Inputs that the teacher writes from seeds, with how varied they are and how often they repeat a seed or each other.

Asking is a labelling like any other, with the same plan, budget and journal: its rows are handfuls of seeds, and its
answers are lists of new inputs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from distillcalc.distill.diversity import Diversity, diversity
from distillcalc.distill.duplicates import Near
from distillcalc.distill.labelling import LabelRun, label
from distillcalc.distill.rows import Reject, Rows
from distillcalc.distill.task import Task
from distillcalc.distill.teacher import Teacher
from distillcalc.errors import InputError

SYSTEM = (
    "You write inputs for a task, as different people would write them. You are given real ones. Write new ones of the "
    "same kind that ask about other things in other words; copy none."
)
PROMPT = "The task: {task}\n\nReal inputs:\n{seeds}\n\nWrite {wanted}, as a JSON list of texts."


@dataclass(frozen=True)
class Synthetic:
    """What the teacher wrote.

    Parameters
    ----------
    texts : new inputs, in the order in which they were written; those that repeat a seed or an earlier one are left
        out.
    of : the label that each was asked for, where there are labels.
    written, repeats_of_seeds, repeats : texts that came, that repeat a seed, that repeat an earlier one.
    unusable : answers that are no list of texts.
    diversity : of all that were written, repeats included, and against the seeds.
    run : the labelling that paid for them.
    """

    texts: tuple[str, ...]
    of: tuple[str | None, ...]
    written: int
    repeats_of_seeds: int
    repeats: int
    unusable: int
    diversity: Diversity
    run: LabelRun

    def rows(self) -> Rows:
        """The new inputs as rows to be labelled; what they were asked for is not taken for their label."""
        return Rows([{"id": f"synthetic-{i}", "text": text} for i, text in enumerate(self.texts)], id="id")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "written": self.written, "kept": len(self.texts), "repeats_of_seeds": self.repeats_of_seeds,
            "repeats": self.repeats, "unusable": self.unusable, "spent_usd": str(self.run.spent_usd),
            "diversity": self.diversity.to_dict(),
        }  # fmt: skip

    def __str__(self) -> str:
        return (
            f"{self.written:,} new inputs for ${self.run.spent_usd:f}: {len(self.texts):,} kept, "
            f"{self.repeats_of_seeds:,} repeat a seed, {self.repeats:,} an earlier one; {self.unusable:,} answers are "
            f"no list of texts\n{self.diversity}"
        )


def synthesise(
    task: Task,
    teacher: Teacher,
    seeds: Rows,
    *,
    count: int,
    budget_usd: Decimal | str | float,
    about: str = "",
    seeds_shown: int = 5,
    per_call: int = 10,
    threshold: float = 0.8,
    seed: int = 0,
    **options: Any,
) -> Synthetic:
    """Have the teacher write new inputs for a task from real ones.

    Parameters
    ----------
    task : that the inputs are for; of one text field. Where it has labels, the calls take turns with them.
    teacher : who writes; a temperature of 1 is taken where it states none.
    seeds : real inputs; a few are shown in each call. Their human labels, if any, tell which label they are shown for.
    count : new inputs to ask for.
    about : what the task is, in words; left out, its system prompt.
    seeds_shown, per_call : real inputs shown, and new ones asked for, in each call.
    threshold : Jaccard similarity from which two inputs are the same.
    seed : of which seeds are shown together.
    options : budget and the like, as :func:`.labelling.label` takes them.

    Raises
    ------
    InputError
        If the task's prompt has several fields, or no seed can be used.
    """
    if len(task.fields) != 1:
        raise InputError(f"new inputs are written for prompts with one field. This one has {', '.join(task.fields)}")
    (name,) = task.fields
    found = [row for row in seeds.read(task) if not isinstance(row, Reject)]
    if not found:
        raise InputError(f"no row of {seeds.name} can be used as a seed")
    texts = [str(row.values[name]) for row in found]
    rows = _calls(task, texts, [row.human_label for row in found], about or task.system or task.name,
                  count=count, shown=seeds_shown, per_call=per_call, seed=seed)  # fmt: skip
    asking = Task(
        name=f"{task.name} inputs",
        system=SYSTEM,
        prompt=PROMPT,
        output_schema={"type": "array", "items": {"type": "string"}},
        instruction=False,
        student=task.student,
        student_host=task.student_host,
        use=task.use,
    )
    # A list is no root that OpenAI's structured outputs take: it is asked for in words and checked here.
    changed: dict[str, Any] = {"structured": "none"}
    if teacher.temperature is None:
        changed["temperature"] = 1.0
    run = label(asking, teacher.model_copy(update=changed), Rows(rows, id="id"), budget_usd=budget_usd, **options)
    labels = {row["id"]: row["label"] for row in rows}
    return _kept(run, labels, texts, threshold)


def _calls(
    task: Task, texts: Sequence[str], labels: Sequence[str | None], about: str, *, count: int, shown: int,
    per_call: int, seed: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """The rows of the asking: which seeds each call shows, and for which label."""
    chance = np.random.default_rng(seed)
    of_label: dict[str | None, list[str]] = {}
    for text, own in zip(texts, labels, strict=True):
        of_label.setdefault(own if task.labels and own in task.labels else None, []).append(text)
    turns: Sequence[str | None] = task.labels or (None,)
    rows = []
    for place in range(-(-count // per_call)):
        wanted = turns[place % len(turns)]
        pool = of_label.get(wanted) or list(texts)
        chosen = [pool[i] for i in chance.choice(len(pool), min(shown, len(pool)), replace=False)]
        digest = hashlib.sha256(json.dumps([place, wanted, chosen]).encode()).hexdigest()[:8]
        rows.append({
            "id": f"{place}-{digest}", "task": about, "seeds": "\n".join(f"- {text}" for text in chosen),
            "wanted": f"{min(per_call, count - place * per_call)} new inputs"
            + (f' that belong to "{wanted}"' if wanted else ""),
            "label": wanted,
        })  # fmt: skip
    return rows


def _kept(run: LabelRun, labels: Mapping[str, str | None], seeds: Sequence[str], threshold: float) -> Synthetic:
    written: list[str] = []
    of: list[str | None] = []
    unusable = 0
    for record in run.dataset():
        if record.problems:
            unusable += 1
            continue
        for text in record.value:
            if text.strip():
                written.append(text.strip())
                of.append(labels[record.id])
    if not written:
        raise InputError(
            f"the teacher wrote no usable input: {unusable} answers are no JSON list of texts (see {run.file}). Try "
            "fewer per call, or a larger max_output_tokens"
        )
    near = Near([*seeds, *written], threshold=threshold)
    leaders, seed_texts = near.leaders(), set(near.number[: len(seeds)])
    seen: set[int] = set()
    kept, of_kept, of_seeds, repeats = [], [], 0, 0
    for text, asked_for, number in zip(written, of, near.number[len(seeds) :], strict=True):
        if number in seed_texts or leaders[number] in seed_texts:
            of_seeds += 1
        elif leaders[number] != number or number in seen:
            repeats += 1
        else:
            kept.append(text)
            of_kept.append(asked_for)
        seen.add(number)
    return Synthetic(
        tuple(kept), tuple(of_kept), len(written), of_seeds, repeats, unusable,
        diversity(written, seeds, threshold=threshold), run,
    )  # fmt: skip


def save_inputs(made: Synthetic, path: str | Path) -> Path:
    """Write new inputs as JSONL for ``[inputs]``: id, text, and the label that was asked for as ``asked_for``."""
    file = Path(path)
    with file.open("w", encoding="utf-8") as out:
        for i, (text, of) in enumerate(zip(made.texts, made.of, strict=True)):
            row = {"id": f"synthetic-{i}", "text": text} | ({"asked_for": of} if of else {})
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    return file
