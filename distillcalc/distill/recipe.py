"""From raw answers to a training set: which filters run in which order, the splits, and the files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from distillcalc.distill.card import dataset_card
from distillcalc.distill.card_markdown import card_markdown
from distillcalc.distill.decontaminate import decontaminated
from distillcalc.distill.duplicates import exact_duplicates, near_duplicates
from distillcalc.distill.export import Exported, Format, export
from distillcalc.distill.filtered import Filtered, FilterReport, apply_filters
from distillcalc.distill.filters import (
    balanced,
    length,
    no_refusals,
    self_consistency,
    teacher_fails_student_passes,
    valid,
    verified_chain,
)
from distillcalc.distill.records import Dataset, Record, Strict
from distillcalc.distill.rows import Reject, Rows
from distillcalc.distill.splits import Splits, split
from distillcalc.distill.task import Task
from distillcalc.errors import InputError

Filter = Callable[[Sequence[Record]], Filtered]
SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


class Filters(Strict):
    """Which filters run, in this order; ``[filters]`` of a task file.

    Parameters
    ----------
    refusals : throw out refusals in words.
    consistency : share of a row's samples that must agree; used where there are several, then one record a row stays.
    verify : throw out chains of thought whose answer is not the people's; the effect is reported either way.
    least_characters, most_characters : of an answer.
    most_reasoning_characters : of a chain of thought.
    near_duplicates : Jaccard similarity from which inputs are the same; 0 keeps all but exact ones.
    evaluation : file of evaluation inputs (as ``[inputs]``); what gives one away is thrown out.
    evaluation_ratio : likeness from which two short texts are the same; left out, only shared words count.
    student_answers : JSONL of a student's answers ({"id": ..., "answer": ...}).
    student_passes : what to do with rows that the student gets right and the teacher wrong, by the people's labels.
    easy : keep rows that both get right.
    most_per_class : records of one class at the most; ``ratio`` of the smallest class at the most.
    """

    refusals: bool = True
    consistency: float = Field(0.5, ge=0, le=1)
    verify: bool = False
    least_characters: int = Field(1, ge=0)
    most_characters: int | None = Field(None, ge=1)
    most_reasoning_characters: int | None = Field(None, ge=1)
    near_duplicates: float = Field(0.8, ge=0, le=1)
    evaluation: str | None = None
    evaluation_ratio: float | None = Field(0.95, gt=0, le=1)
    student_answers: str | None = None
    student_passes: Literal["others", "only"] = "others"
    easy: bool = True
    most_per_class: int | None = Field(None, ge=1)
    ratio: float | None = Field(None, ge=1)
    seed: int = 0

    @model_validator(mode="after")
    def _of_something(self) -> Filters:
        if self.student_answers is None and not self.easy:
            raise ValueError("easy = false needs student_answers: what is easy is what the student gets right already")
        return self

    def of(self, task: Task, records: Sequence[Record], folder: Path = Path()) -> list[Filter]:
        """The filters in their order, for records of a task; files are relative to ``folder``."""
        chain: list[Filter] = [valid]
        if self.refusals:
            chain.append(no_refusals)
        chain.append(
            partial(
                length, least=self.least_characters, most=self.most_characters,
                most_reasoning=self.most_reasoning_characters,
            )
        )  # fmt: skip
        chain.append(partial(verified_chain, on=self.verify))
        if any(record.sample for record in records):
            # Invalid answers were votes for nothing: they are counted before they are thrown out.
            chain.insert(0, partial(self_consistency, threshold=self.consistency))
        chain.append(exact_duplicates)
        if self.near_duplicates:
            chain.append(partial(near_duplicates, threshold=self.near_duplicates))
        if self.evaluation is not None:
            items = evaluation_items(folder / self.evaluation, task)
            chain.append(partial(decontaminated, evaluation=items, ratio=self.evaluation_ratio))
        if self.student_answers is not None:
            answers = _student_answers(folder / self.student_answers)
            chain.append(
                partial(
                    teacher_fails_student_passes, student_answers=answers, keep=self.student_passes, easy=self.easy
                )
            )  # fmt: skip
        if self.most_per_class is not None or self.ratio is not None:
            chain.append(partial(balanced, most_per_class=self.most_per_class, ratio=self.ratio, seed=self.seed))
        return chain


def evaluation_items(file: Path, task: Task) -> dict[str, str]:
    """The inputs of an evaluation file by id, as texts, read as a task's inputs are."""
    found: dict[str, str] = {}
    for row in Rows(file).read(task):
        if not isinstance(row, Reject):
            found[row.id] = "\n".join(str(value) for value in row.values.values())
    if not found:
        raise InputError(f"no row of {file.name} can be used as an evaluation item of this task")
    return found


def _student_answers(file: Path) -> dict[str, str]:
    if not file.is_file():
        raise InputError(f"no file of a student's answers {str(file)!r}: JSONL with id and answer")
    found: dict[str, str] = {}
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                found[str(row["id"])] = str(row["answer"])
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f'{file.name} line {number} is not {{"id": ..., "answer": ...}}') from error
    return found


@dataclass(frozen=True)
class Prepared:
    """A training set: what stays, why the rest does not, and its splits."""

    records: tuple[Record, ...]
    reports: tuple[FilterReport, ...]
    splits: Splits | None
    card: dict[str, Any]

    def __str__(self) -> str:
        lines = [str(report) for report in self.reports]
        if self.splits is not None:
            lines.append(str(self.splits))
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the removals one by one among them."""
        return {
            "kept": len(self.records),
            "filters": [report.to_dict() for report in self.reports],
            "splits": self.splits.to_dict() if self.splits is not None else None,
        }

    def save(
        self, folder: str | Path, *, format: Format = "openai", overwrite: bool = False, **options: Any
    ) -> Exported:
        """Write the splits for training, ``README.md``, ``card.json`` and ``filters.json`` into a folder.

        Parameters
        ----------
        format : openai, jsonl, csv, parquet or huggingface; ``options`` as :func:`.export.export` takes them.
        """
        target = Path(folder)
        parts: Any = self.splits.parts if self.splits is not None else self.records
        ending = {"openai": ".jsonl", "jsonl": ".jsonl", "csv": ".csv", "parquet": ".parquet", "huggingface": ""}
        if format not in ending:
            raise InputError(f"a dataset is exported as {', '.join(ending)}. Got {format!r}")
        try:
            target.mkdir(parents=True, exist_ok=True)
            written = export(parts, target / f"data{ending[format]}", format, overwrite=overwrite, **options)
            (target / "README.md").write_text(card_markdown(self.card), encoding="utf-8")
            for name, value in (("card.json", self.card), ("filters.json", self.to_dict())):
                (target / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write the dataset to {target}: {error.strerror}") from error
        return written


def prepare(
    dataset: Dataset,
    task: Task,
    filters: Filters | None = None,
    *,
    folder: str | Path = ".",
    shares: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Prepared:
    """Filter and split a labelled dataset.

    Parameters
    ----------
    filters : which; left out, those of :class:`Filters` by default.
    folder : that the files named in ``filters`` are relative to.
    shares : of the splits, near-duplicates together; left out, 80, 10 and 10%; empty, no splits.
    """
    filters = filters or Filters()
    chain = filters.of(task, dataset.records, Path(folder))
    kept, reports = apply_filters(dataset.records, chain)
    shares = SHARES if shares is None else shares
    splits = split(kept, shares=dict(shares), seed=seed) if shares and kept else None
    about = dataset.card
    card = dataset_card(
        splits.parts if splits is not None else kept,
        task=task,
        name=about.get("name", task.name),
        filters=reports,
        forecast_usd=about.get("spend", {}).get("forecast_usd"),
        actual_usd=about.get("spend", {}).get("actual_usd"),
        terms=about.get("terms", ()),
        limits=about.get("limits", ()),
    )
    return Prepared(kept, tuple(reports), splits, card)
