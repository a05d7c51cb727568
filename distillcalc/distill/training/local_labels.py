"""Rows labelled by a teacher on this machine: records like paid ones, and the probabilities of labels beside them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from distillcalc.distill.answers import parse
from distillcalc.distill.card import dataset_card
from distillcalc.distill.records import Dataset, Origin, Record
from distillcalc.distill.rows import Reject, Row, Rows
from distillcalc.distill.task import Task
from distillcalc.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from distillcalc.distill.training.local_teacher import LocalTeacher, Spoken

NOT_SUMMING = 1e-3  # how far from 1 the probabilities of a row may sum


@dataclass(frozen=True)
class SoftLabels:
    """A teacher's probabilities of the labels, row by row; kept beside the dataset of its answers.

    Parameters
    ----------
    ids : of the records, each once.
    labels : in the order of the columns.
    probabilities : shape (ids, labels); each row sums to 1.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    probabilities: NDArray[np.float32]

    def __post_init__(self) -> None:
        import numpy as np

        if self.probabilities.shape != (len(self.ids), len(self.labels)):
            raise InputError(
                f"soft labels of {len(self.ids)} records and {len(self.labels)} labels have a row for each record and "
                f"a column for each label. Got {self.probabilities.shape}"
            )
        for what, names in (("record", self.ids), ("label", self.labels)):
            if len(set(names)) < len(names):
                raise InputError(f"soft labels name a {what} twice: {next(n for n in names if names.count(n) > 1)!r}")
        off = np.abs(self.probabilities.sum(axis=1, dtype=np.float64) - 1)
        if not (off <= NOT_SUMMING).all() or (self.probabilities < 0).any():
            row = int(np.argmax(~(off <= NOT_SUMMING) | (self.probabilities < 0).any(axis=1)))
            raise InputError(
                f"probabilities must be 0 or above and sum to 1. Got a sum of {self.probabilities[row].sum():.6g} for "
                f"record {self.ids[row]!r}"
            )

    def targets(self, ids: Sequence[str], labels: Sequence[str]) -> NDArray[np.float32]:
        """The probabilities of some records, columns in the order of ``labels``; a record without any gets NaN.

        Raises
        ------
        InputError
            If these are not the labels.
        """
        import numpy as np

        if set(labels) != set(self.labels) or len(labels) != len(self.labels):
            odd = sorted(set(labels) ^ set(self.labels))
            raise InputError(
                f"soft labels of another task: {', '.join(odd[:5])} are labels of one and not of the other"
            )
        columns = [self.labels.index(label) for label in labels]
        place = {id: row for row, id in enumerate(self.ids)}
        found = np.full((len(ids), len(labels)), np.nan, dtype=np.float32)
        for row, id in enumerate(ids):
            if id in place:
                found[row] = self.probabilities[place[id], columns]
        return found

    def save(self, path: str | Path) -> Path:
        """Write them to a .npz file, which is whole or not there at all."""
        import numpy as np

        file = Path(path)
        if file.suffix != ".npz":
            raise InputError(f"soft labels go to a file whose name ends in .npz. Got {file.name!r}")
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(file.name + ".part")
        with part.open("wb") as out:
            np.savez(
                out, ids=np.array(self.ids, dtype=np.str_), labels=np.array(self.labels, dtype=np.str_),
                probabilities=self.probabilities,
            )  # fmt: skip
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
        return file

    @classmethod
    def load(cls, path: str | Path) -> SoftLabels:
        """Read what :meth:`save` wrote.

        Raises
        ------
        InputError
            If there is no such file, or it holds something else.
        """
        import zipfile

        import numpy as np

        file = Path(path)
        if not file.is_file():
            raise InputError(
                f"no soft labels {str(file)!r}. label_locally(..., soft=True) makes them; save() writes them"
            )
        try:
            with np.load(file, allow_pickle=False) as held:
                ids, labels = (tuple(map(str, held[name].tolist())) for name in ("ids", "labels"))
                probabilities = held["probabilities"].astype(np.float32)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(f"{file.name} does not hold soft labels: {error}") from error
        return cls(ids, labels, probabilities)


@overload
def label_locally(
    teacher: LocalTeacher, task: Task, rows: Rows, *, max_new_tokens: int = 32, soft: Literal[False] = False,
    batch_size: int | None = None, progress: Callable[[int, int], None] | None = None,
) -> Dataset:  # fmt: skip
    """The answers alone."""


@overload
def label_locally(
    teacher: LocalTeacher, task: Task, rows: Rows, *, max_new_tokens: int = 32, soft: Literal[True],
    batch_size: int | None = None, progress: Callable[[int, int], None] | None = None,
) -> tuple[Dataset, SoftLabels]:  # fmt: skip
    """The answers, and the teacher's probabilities of the labels."""


def label_locally(
    teacher: LocalTeacher,
    task: Task,
    rows: Rows,
    *,
    max_new_tokens: int = 32,
    soft: bool = False,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset | tuple[Dataset, SoftLabels]:
    """Label rows with a teacher on this machine, at temperature 0.

    Parameters
    ----------
    task : what is asked; answers are read as paid ones are (:func:`distillcalc.distill.answers.parse`).
    rows : for what; those that cannot be used stand in the card under ``rejected``, with their reasons.
    max_new_tokens, batch_size : see :meth:`LocalTeacher.answers`.
    soft : also take the teacher's probability of every label; the answers are the same without.
    progress : called with how many rows are done, and how many there are; with ``soft`` every row counts twice.

    Returns
    -------
    The dataset; with ``soft``, the dataset and the soft labels of its records.

    Raises
    ------
    InputError
        If no row can be used, or soft labels are asked of a task without labels, or after a chain of thought.
    """
    if soft and task.labels is None:
        raise InputError(
            f"soft labels are probabilities of labels, and the task {task.name!r} has none. Give it labels"
        )
    if soft and task.reasoning == "visible":
        raise InputError(
            "soft labels are read right after the prompt, without a chain of thought: set reasoning = 'none'"
        )
    read: list[Row] = []
    rejected: list[dict[str, Any]] = []
    for found in rows.read(task):
        if isinstance(found, Reject):
            rejected.append(found.to_dict())
        else:
            read.append(found)
    if not read:
        why = f"; the first: {rejected[0]['reason']}" if rejected else ""
        raise InputError(f"no row of {rows.name} can be labelled: {len(rejected):,} were rejected{why}")
    prompts = [task.messages(row.values) for row in read]
    total = len(read) * (2 if soft else 1)
    spoken = teacher.answers(
        prompts, max_new_tokens=max_new_tokens, batch_size=batch_size,
        progress=None if progress is None else lambda done, _: progress(done, total),
    )  # fmt: skip
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    records = tuple(
        _record(teacher, task, row, said, max_new_tokens, at) for row, said in zip(read, spoken, strict=True)
    )
    card = {**dataset_card(records, task=task), "rejected": rejected}
    data = Dataset(records, card)
    if not soft or task.labels is None:
        return data
    probabilities = teacher.label_distribution(
        prompts, task.labels, progress=None if progress is None else lambda done, _: progress(len(read) + done, total)
    )
    return data, SoftLabels(tuple(row.id for row in read), task.labels, probabilities)


def _record(teacher: LocalTeacher, task: Task, row: Row, said: Spoken, max_new_tokens: int, at: str) -> Record:
    parsed = parse({"content": said.text}, said.finish_reason, task)
    return Record(
        id=row.id, input=row.values, messages=task.messages(row.values), answer=parsed.answer, value=parsed.value,
        reasoning=parsed.reasoning, problems=parsed.problems, finish_reason=said.finish_reason,
        human_label=row.human_label,
        origin=Origin(
            run=f"{task.name}-local", call=f"row-{row.place}", teacher=teacher.name, host="localhost", temperature=0.0,
            max_output_tokens=max_new_tokens, input_tokens=said.input_tokens, output_tokens=said.output_tokens,
            price="a model on this machine: its tokens have no price, its time has", latency_s=said.seconds, at=at,
        ),
    )  # fmt: skip
