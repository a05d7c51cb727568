"""What a dataset is, as plain values: the task, who answered, when, what it cost, which terms apply, what it lacks.

:mod:`.card_markdown` makes a page of it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Protocol

from distillcalc.distill.records import Record
from distillcalc.distill.task import Task
from distillcalc.errors import InputError

TERM_KEYS = ("id", "says", "requirements", "source", "checked", "verdict")


class Report(Protocol):
    """A filter's report, or any other that gives itself as plain values."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""


def dataset_card(
    records: Iterable[Record] | Mapping[str, Iterable[Record]],
    *,
    task: Task,
    name: str = "",
    description: str = "",
    filters: Iterable[Report | Mapping[str, Any]] = (),
    forecast_usd: Decimal | float | None = None,
    actual_usd: Decimal | float | None = None,
    terms: Iterable[Mapping[str, Any]] = (),
    limits: Iterable[str] = (),
    licence: str = "",
    redacted: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Describe a dataset in one pass over its records.

    Parameters
    ----------
    records : all of them, or by split; they are not held.
    task : what the teacher was asked.
    name : of the dataset; left out, the task's.
    description : in a few sentences.
    filters : reports of what threw records out, in the order in which they ran.
    forecast_usd, actual_usd : what labelling was to cost, and what it did, answers that were thrown out included [USD].
    terms : that govern training on these answers, each with id, says, requirements, source, checked and verdict.
    limits : known limits, a sentence each; how often people agreed with the teacher is counted from the records.
    licence : of the dataset: an id that Hugging Face knows ("cc-by-4.0"), or words.
    redacted : places masked before the prompts left, by kind.

    Returns
    -------
    dict
        Plain values, fit for JSON.

    Raises
    ------
    InputError
        If a term lacks one of its keys.
    """
    splits = records if isinstance(records, Mapping) else {"": records}
    counted = _Counts(task)
    by_split = {split: sum(counted.add(record) for record in part) for split, part in splits.items()}
    return {
        "name": name or task.name,
        "description": description,
        "task": {
            "kind": task.kind,
            "labels": None if task.labels is None else list(task.labels),
            "output_schema": task.output_schema,
            "system": task.system,
            "prompt": task.prompt,
            "examples": len(task.examples),
            "reasoning": task.reasoning,
            "student": task.student,
            "use": task.use.model_dump(mode="json"),
        },
        **counted.to_dict(),
        "splits": by_split if isinstance(records, Mapping) else {},
        "filters": [_plain(f if isinstance(f, Mapping) else f.to_dict()) for f in filters],
        "spend": {
            "forecast_usd": None if forecast_usd is None else float(forecast_usd),
            "actual_usd": None if actual_usd is None else float(actual_usd),
            "of_these_records_usd": float(counted.usd),
        },
        "terms": list(_terms(terms)),
        "limits": list(limits),
        "licence": licence,
        "redacted": dict(redacted or {}),
    }


class _Counts:
    """What is counted over the records, one at a time."""

    def __init__(self, task: Task) -> None:
        self.labels = task.labels
        self.classes: Counter[str] = Counter(dict.fromkeys(task.labels or (), 0))
        self.numbers: Counter[str] = Counter()
        self.teachers: Counter[tuple[Any, ...]] = Counter()
        self.sampling: Counter[tuple[Any, ...]] = Counter()
        self.finishes: Counter[str] = Counter()
        self.ids: set[int] = set()  # hashes: the texts themselves are not held
        self.tokens: Counter[str] = Counter()
        self.usd = Decimal(0)
        self.first = self.last = ""

    def add(self, record: Record) -> bool:
        """Count a record; True, so that counting can be summed."""
        origin = record.origin
        self.ids.add(hash(record.id))
        self.numbers["total"] += 1
        self.numbers["valid"] += not record.problems
        self.numbers["with_reasoning"] += record.reasoning is not None
        self.numbers["with_logprobs"] += record.logprobs is not None
        right = record.is_right
        self.numbers["judged"] += right is not None
        self.numbers["right"] += right is True
        if self.labels is not None and not record.problems:
            self.classes[record.value if isinstance(record.value, str) else record.answer] += 1
        self.finishes[record.finish_reason] += 1
        self.teachers[origin.teacher, origin.version, origin.host, origin.processing] += 1
        self.sampling[
            origin.temperature, origin.top_p, origin.max_output_tokens, origin.reasoning_effort, origin.seed is not None
        ] += 1
        for kind in ("input", "cached", "output", "reasoning"):  # of the call, which its choices share
            self.tokens[kind] += getattr(origin, f"{kind}_tokens") / origin.choices
        self.usd += Decimal(origin.usd) / origin.choices
        if origin.at:
            self.first = min(self.first or origin.at, origin.at)
            self.last = max(self.last, origin.at)
        return True

    def to_dict(self) -> dict[str, Any]:
        judged = self.numbers["judged"]
        return {
            "teachers": _tabled(self.teachers, "teacher", "version", "host", "processing"),
            "sampling": _tabled(
                self.sampling, "temperature", "top_p", "max_output_tokens", "reasoning_effort", "seeded"
            ),
            "from": self.first or None,
            "to": self.last or None,
            "records": {
                "total": self.numbers["total"],
                "inputs": len(self.ids),
                "valid": self.numbers["valid"],
                "with_reasoning": self.numbers["with_reasoning"],
                "with_logprobs": self.numbers["with_logprobs"],
                "finish_reasons": dict(self.finishes.most_common()),
            },
            "classes": dict(self.classes),
            "tokens": {kind: round(count) for kind, count in self.tokens.items()},
            "human_agreement": {
                "judged": judged,
                "right": self.numbers["right"],
                "share": self.numbers["right"] / judged if judged else None,
            },
        }


def _tabled(counts: Counter[tuple[Any, ...]], *names: str) -> list[dict[str, Any]]:
    return [{**dict(zip(names, values, strict=True)), "records": n} for values, n in counts.most_common()]


def _terms(terms: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for term in terms:
        if missing := [key for key in TERM_KEYS if key not in term]:
            raise InputError(
                f"a term needs {', '.join(TERM_KEYS)}. {term.get('id', 'One')} has no {', '.join(missing)}"
            )
        yield _plain(term)


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """JSON values: dates and decimals become texts."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(value), default=str, ensure_ascii=False))
    return plain
