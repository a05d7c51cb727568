"""What was said about evaluation items, read as the task reads it, and each metric of it by item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from distillcalc.benchmark.rouge import rouge_l
from distillcalc.benchmark.traces import OK
from distillcalc.distill.answers import parse
from distillcalc.distill.comparing import said_by, vote_of
from distillcalc.distill.records import Record
from distillcalc.distill.rows import Rows
from distillcalc.distill.task import Task
from distillcalc.distill.training.evaluation import Items, read_items
from distillcalc.distill.training.scores import Answers, exact_match
from distillcalc.errors import InputError

Floats: TypeAlias = NDArray[np.float64]
Metric: TypeAlias = Literal["accuracy", "exact_match", "rouge_l"]


@dataclass(frozen=True)
class Heard:
    """What was said about each item.

    Parameters
    ----------
    said : as the task reads it; empty where it cannot, or nothing came.
    whole : the answer as it was written, thoughts left out; empty where nothing came.
    right : 1 where it is right, and as the task wants it; shape (items,).
    problems : what is wrong with an answer that came; empty where nothing is.
    """

    said: tuple[str, ...]
    whole: tuple[str, ...]
    right: Floats
    problems: tuple[str, ...]


def hear(texts: Sequence[str], outcomes: Sequence[str], records: Sequence[Record], task: Task, marked: bool) -> Heard:
    """Read what was written about each record; ``marked`` as in :func:`.quality.measure_quality`."""
    said, whole, right, problems = [], [], [], []
    for text, outcome, record in zip(texts, outcomes, records, strict=True):
        if outcome != OK:
            said.append("")
            whole.append("")
            right.append(False)
            problems.append("")
            continue
        read = task
        if task.reasoning == "visible" and not marked and task.answer_marker.casefold() not in text.casefold():
            read = task.model_copy(update={"reasoning": "none"})
        parsed = parse({"content": text}, "stop", read)
        found = record.model_copy(
            update={"answer": parsed.answer, "value": parsed.value, "problems": parsed.problems}
        )  # fmt: skip
        said.append("" if parsed.problems else vote_of(found) if task.kind == "json" else said_by(found))
        whole.append(parsed.answer)
        right.append(bool(found.is_right))
        problems.append(parsed.problems[0] if parsed.problems else "")
    return Heard(tuple(said), tuple(whole), np.array(right, float), tuple(problems))


def metrics_of(heard: Heard, labels: Sequence[str], task: Task, metric: Metric) -> dict[str, Floats]:
    """Each metric by item, in [0, 1]; what was not said is not right."""
    spoke = np.array([bool(text) for text in heard.whole], dtype=float)
    exact = heard.right if task.kind == "json" else exact_match(heard.whole, labels) * spoke
    found = {"accuracy": heard.right, "exact_match": exact}
    if task.kind == "text" or metric == "rouge_l":
        found["rouge_l"] = rouge_l(heard.whole, labels)
    return found


def teacher_of(given: Answers | Sequence[str] | None, items: Items, task: Task, metric: Metric) -> Answers | None:
    """The teacher's answers with the same metric."""
    if given is None:
        return None
    if not isinstance(given, Answers):
        heard = hear(given, [OK] * len(items), items.records, task, marked=True)
        return Answers(heard.said, metrics_of(heard, items.labels, task, metric)[metric])
    if metric == "accuracy":
        return given
    spoke = np.array([bool(text) for text in given.said], dtype=float)
    values = rouge_l(given.said, items.labels) if metric == "rouge_l" else exact_match(given.said, items.labels) * spoke
    return Answers(given.said, values)


def items_of(items: Items | Rows | Sequence[Record], task: Task) -> Items:
    """Evaluation items, each with what people said.

    Raises
    ------
    InputError
        If there are none, or nobody has labelled one that is given as a record.
    """
    if isinstance(items, Items):
        return items
    if isinstance(items, Rows):
        label = items.human_label or "human_label"
        return read_items(items.source, task, human_label=label, id=items.id, limit=items.limit)
    made = Items(tuple(items))
    if not len(made):
        raise InputError("there are no evaluation items. Give at least one")
    unlabelled = next((record.id for record in made.records if record.human_label is None), None)
    if unlabelled is not None:
        raise InputError(f"nobody has labelled the evaluation item {unlabelled!r}: each needs a human_label")
    return made
