"""What a model says about held-out items that people labelled: its answers, how sure it is, and how long it takes."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distillcalc.distill.answers import Parsed, parse
from distillcalc.distill.comparing import said_by, vote_of
from distillcalc.distill.exports import training_messages
from distillcalc.distill.records import Dataset, Origin, Record
from distillcalc.distill.rows import Reject, Rows
from distillcalc.distill.task import Task
from distillcalc.distill.training.prompting import prompt_ids
from distillcalc.distill.training.scores import Answers
from distillcalc.errors import InputError

if TYPE_CHECKING:
    from distillcalc.distill.training.local_teacher import LocalTeacher, Spoken

TIMED = 16  # items that are asked one at a time, for the latency


@dataclass(frozen=True)
class Items:
    """Held-out items and what people said of them.

    Parameters
    ----------
    records : one an item; ``human_label`` is what people said, ``messages`` what a teacher is asked.
    rejected : rows that could not be used, by reason.
    """

    records: tuple[Record, ...]
    rejected: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    @property
    def labels(self) -> list[str]:
        """What people said, in the items' order."""
        return [str(record.human_label) for record in self.records]

    def prompts(self, system: str | None = None, prompt: str | None = None) -> list[list[dict[str, str]]]:
        """What a student is asked, see :func:`.exports.export`."""
        return [training_messages(record, system=system, prompt=prompt)[0] for record in self.records]


def read_items(
    source: Any, task: Task, *, human_label: str = "human_label", id: str | None = None, limit: int | None = None
) -> Items:
    """Read the items of an evaluation file.

    Raises
    ------
    InputError
        If none can be used, or what people said is no answer of the task: the data of another one.
    """
    made, rejected = [], []
    for row in Rows(source, id, human_label, limit).read(task):
        if isinstance(row, Reject):
            rejected.append(row.reason)
        elif row.human_label is None:
            rejected.append("nobody has labelled it")
        else:
            made.append(
                Record(
                    id=row.id, input=row.values, messages=task.messages(row.values), answer=row.human_label,
                    value=row.human_label, human_label=row.human_label,
                    origin=Origin(run="evaluation", call="", teacher="people"),
                )
            )  # fmt: skip
    if not made:
        why = f"{len(rejected):,} rows were rejected; the first: {rejected[0]}" if rejected else "there are no rows"
        raise InputError(f"no evaluation item can be used: {why}")
    if task.labels is not None:
        alien = sorted({str(r.human_label) for r in made} - set(task.labels))
        if alien:
            raise InputError(
                f"the evaluation items are of another task: {', '.join(map(repr, alien[:3]))} is no label of "
                f"{task.name}, whose labels are {', '.join(task.labels[:5])}, ..."
            )
    return Items(tuple(made), tuple(rejected))


def answers_of(
    model: LocalTeacher,
    items: Items,
    prompts: Sequence[Sequence[dict[str, str]]],
    task: Task,
    *,
    max_new_tokens: int,
    seed: int | None = None,
    marked: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Answers:
    """Ask a model about every item, at temperature 0; an answer that is none of the task's counts as wrong.

    Parameters
    ----------
    prompts : what it is asked, by item.
    max_new_tokens : of an answer; fewer where its context ends before.
    seed : of its training, for the table.
    marked : whether an answer must stand behind the task's marker where it asks for visible reasoning. A teacher is
        told so; a student learns the answer alone, or behind a <think> block.
    """
    longest = max(len(prompt_ids(model.tokenizer, prompt)) for prompt in prompts)
    context = getattr(model.model.config.get_text_config(), "max_position_embeddings", None)
    if context:
        max_new_tokens = max(1, min(max_new_tokens, context - longest))
    spoken = model.answers(prompts, max_new_tokens=max_new_tokens, progress=progress)
    said, right = [], []
    for item, one in zip(items.records, spoken, strict=True):
        parsed = _read(one, task, marked)
        answered = item.model_copy(update={"answer": parsed.answer, "value": parsed.value, "problems": parsed.problems})
        said.append(_says(answered, task))
        right.append(bool(answered.is_right))
    sure = np.exp([one.mean_logprob * one.output_tokens for one in spoken]).clip(0, 1)
    seconds = np.array([latency_s(model, prompts, max_new_tokens)])
    return Answers(tuple(said), np.array(right, float), sure, seconds, seed)


def _read(one: Spoken, task: Task, marked: bool) -> Parsed:
    """What an answer says; of one who was never taught the marker, without it."""
    if task.reasoning == "visible" and not marked and task.answer_marker.casefold() not in one.text.casefold():
        task = task.model_copy(update={"reasoning": "none"})
    return parse({"content": one.text}, one.finish_reason, task)


def _says(record: Record, task: Task) -> str:
    """An answer as a text that is equal for those that say the same: a label as it is spelt, a number by its value."""
    return said_by(record) if task.labels is not None else vote_of(record)


def latency_s(model: LocalTeacher, prompts: Sequence[Sequence[dict[str, str]]], max_new_tokens: int) -> float:
    """Median time of an answer, asked one at a time [s]."""
    times = []
    for prompt in prompts[:TIMED]:
        began = time.perf_counter()
        model.answers([prompt], max_new_tokens=max_new_tokens)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def answers_in(file: str | Path, items: Items, task: Task) -> Answers:
    """A teacher's answers to the items from a dataset that was labelled elsewhere, matched by id, then by text.

    Raises
    ------
    InputError
        If it lacks an item.
    """
    said, right, seconds = [], [], []
    for item, found in _matched(file, items):
        answered = found.model_copy(update={"human_label": item.human_label})
        said.append(_says(answered, task))
        right.append(bool(answered.is_right))
        seconds.append(found.origin.latency_s)
    known = [one for one in seconds if one is not None]
    return Answers(
        tuple(said), np.array(right, float),
        seconds_per_item=np.array(known) if len(known) == len(seconds) else None,
    )  # fmt: skip


def usd_per_1000_in(file: str | Path, items: Items) -> float | None:
    """What a thousand of a teacher's answers in a dataset cost [USD]; None where they were not paid for."""
    paid = [Decimal(found.origin.usd) / found.origin.choices for _, found in _matched(file, items)]
    return float(1000 * sum(paid) / len(paid)) if any(paid) else None


def _matched(file: str | Path, items: Items) -> Iterator[tuple[Record, Record]]:
    """Each item and the answer to it."""
    by_id: dict[str, Record] = {}
    by_text: dict[str, Record] = {}
    for record in Dataset.load(file):
        by_id.setdefault(record.id, record)
        by_text.setdefault(record.text, record)
    for item in items.records:
        found = by_id.get(item.id)
        if found is None or found.text != item.text:
            found = by_text.get(item.text)
        if found is None:
            raise InputError(
                f"{Path(file).name} has no answer of the teacher to the evaluation item {item.id!r}. Label the "
                "evaluation file with `distillcalc label` and name that dataset"
            )
        yield item, found


def save_answers(answers: Answers, file: Path) -> None:
    """Keep answers as JSON."""
    plain = {
        "schema_version": 1,
        "said": list(answers.said),
        "right": answers.right.tolist(),
        "confidence": None if answers.confidence is None else answers.confidence.tolist(),
        "seconds_per_item": None if answers.seconds_per_item is None else answers.seconds_per_item.tolist(),
        "seed": answers.seed,
    }
    part = file.with_name(file.name + ".part")
    part.write_text(json.dumps(plain, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(file)


def load_answers(file: Path) -> Answers | None:
    """Read what :func:`save_answers` kept; None where there is nothing."""
    if not file.is_file():
        return None
    plain = json.loads(file.read_text(encoding="utf-8"))
    if plain.pop("schema_version") != 1:
        raise InputError(f"{file} was written by another version of distillcalc. Delete it to ask again")
    return Answers(**plain)
