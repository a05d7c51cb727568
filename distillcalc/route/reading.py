"""Pairs out of a table: what several models answered, one row a request; what is no pair is told with its reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import InputError, near_matches
from distillcalc.route.cells import (
    SHOWN,
    BadCell,
    amount,
    as_text,
    listed,
    logprobs,
    number,
    probabilities,
    samples,
    share,
    shown,
)  # fmt: skip
from distillcalc.route.pairs import Pairs, Rejected
from distillcalc.route.requests import Request
from distillcalc.route.tables import Table, is_missing, read_table
from distillcalc.route.writing import write_pairs, write_rejects

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_pairs", "write_pairs", "write_rejects"]

Floats = NDArray[np.float64]


def read_pairs(
    source: str | Path | pd.DataFrame,
    *,
    models: Sequence[str] = ("student", "teacher"),
    names: Mapping[str, str] | None = None,
    text: str = "text",
    id: str | None = None,
    label: str | None = None,
    limit: int | None = None,
) -> Pairs:
    """Read what several models answered to the same requests.

    Parameters
    ----------
    source : a .csv, .jsonl, .ndjson or .parquet file, or a DataFrame. Of each model, by its prefix ``p``:
        ``p_right`` (0 or 1, true or false, yes or no, or a share in [0, 1]) or else ``p_answer``, which is compared
        with the label, case and spaces apart. Where there are: ``p_usd`` [USD] and ``p_s`` [s], of every model or of
        none; ``score_NAME`` of two models, ``p_score_NAME`` of each but the last; of the first model
        ``p_probabilities``, ``p_logprobs`` and ``p_samples``, as lists or JSON; and ``agreement`` of the first model
        with the teacher, worked out of their answers where it is left out.
    models : the prefixes, from the first that is asked to the teacher.
    names : of the models by their prefixes; left out, the prefixes.
    text : column of what was asked. Without a column ``text`` the texts are empty; another name must be there.
    id : column that names a row, each once; left out, ``id`` where there is one, else the row's number.
    label : column of what people say is right; left out, ``label`` where there is one.
    limit : only so many rows from the start.

    Returns
    -------
    Pairs. Rows that are none are in ``Pairs.rejected``; :func:`write_rejects` writes them down. A column that holds
    nothing at all counts as not there; where it holds something, a row without a value is rejected.

    Raises
    ------
    InputError
        If columns are missing, or no row is a pair.
    """
    prefixes = tuple(models)
    if len(prefixes) < 2:
        raise InputError(f"models are two prefixes of columns or more, the teacher's last. Got {list(prefixes)}")
    if unknown := set(names or {}) - set(prefixes):
        raise InputError(f"names are of {', '.join(prefixes)}. Got {', '.join(sorted(unknown))}")
    reader = _Reader(read_table(source, limit), prefixes)
    ids = reader.ids(id)
    texts = reader.texts(text)
    right = np.column_stack(reader.right(label))
    usd, seconds = reader.of_every_model("usd"), reader.of_every_model("s")
    scores = reader.scores()
    agreement = reader.agreement()
    requests = reader.requests(texts)
    reader.refuse_twins(ids)
    kept = np.flatnonzero([reason is None for reason in reader.reasons])
    told = [Rejected(row, why) for row, why in zip(reader.table.rows, reader.reasons, strict=True) if why is not None]
    rejected = sorted([*reader.table.rejected, *told], key=lambda one: one.row)
    return Pairs(
        tuple(ids[i] for i in kept),
        tuple(texts[i] for i in kept),
        tuple((names or {}).get(prefix, prefix) for prefix in prefixes),
        right[kept],
        {name: values[kept] for name, values in scores.items()},
        None if usd is None else usd[kept],
        None if seconds is None else seconds[kept],
        agreement=None if agreement is None else agreement[kept],
        requests=tuple(requests[i] for i in kept) if requests else (),
        rejected=tuple(rejected),
        source=reader.table.source,
    )


class _Reader:
    """A table on its way to pairs; ``reasons`` says of each row why it is none, the first reason found."""

    def __init__(self, table: Table, prefixes: tuple[str, ...]) -> None:
        self.table, self.prefixes = table, prefixes
        self.reasons: list[str | None] = [None] * len(table.rows)

    def has(self, name: str) -> bool:
        """Whether a column is there and holds anything."""
        return not all(is_missing(cell) for cell in self.table.columns.get(name, ()))

    def cells(self, name: str) -> Sequence[Any]:
        return self.table.columns[name]

    def reject(self, row: int, reason: str) -> None:
        if self.reasons[row] is None:
            self.reasons[row] = reason

    def lacking(self, needed: str, wanted: Iterable[str], hint: str = "") -> InputError:
        there = list(self.table.columns)
        near = list(dict.fromkeys(one for name in wanted for one in near_matches(name, there)))[:3]
        did_you_mean = f" Did you mean {', '.join(near)}?" if near else ""
        return InputError(
            f"{self.table.source} has no {needed}.{did_you_mean} It has: {', '.join(there) or 'no columns'}.{hint}"
        )

    def numbers(self, name: str, convert: Callable[[Any], float], *, needed: bool = True) -> Floats:
        """A column as numbers, equal cells looked at once; a row without one is rejected, unless none is needed."""
        seen: dict[Any, float | str] = {}
        found = np.zeros(len(self.table.rows))
        for row, cell in enumerate(self.cells(name)):
            try:
                value = seen.get(cell)
            except TypeError:  # a list or an object
                value = f"{name} must be a number. Got {shown(cell)}"
            if value is None:
                try:
                    value = float("nan") if is_missing(cell) else convert(cell)
                    value = f"{name} is missing" if needed and math.isnan(value) else value
                except BadCell as error:
                    value = f"{name} {error}. Got {shown(cell)}"
                seen[cell] = value
            if isinstance(value, str):
                self.reject(row, value)
            else:
                found[row] = value
        return found

    def ids(self, id: str | None) -> list[str]:
        if id is None and "id" not in self.table.columns:
            return [str(row) for row in self.table.rows]
        name = id or "id"
        if name not in self.table.columns:
            raise self.lacking(f"column {name}", [name])
        cells = self.cells(name)
        for row, cell in enumerate(cells):
            if not as_text(cell).strip():
                self.reject(row, f"{name} is missing")
        return [as_text(cell) for cell in cells]

    def refuse_twins(self, ids: Sequence[str]) -> None:
        """Reject the second of two rows of one id; a row that is no pair takes no id away from one that is."""
        seen = set()
        for row, id in enumerate(ids):
            if self.reasons[row] is None:
                if id in seen:
                    self.reject(row, f"another row has the id {id[:SHOWN]!r}")
                seen.add(id)

    def texts(self, text: str) -> list[str]:
        if text not in self.table.columns:
            if text != "text":
                raise self.lacking(f"column {text}", [text])
            return [""] * len(self.table.rows)
        return [cell if isinstance(cell, str) else as_text(cell) for cell in self.cells(text)]

    def right(self, label: str | None) -> list[Floats]:
        """How right each model is; all that is missing is told at once."""
        rights = [f"{prefix}_right" for prefix in self.prefixes]
        answers = [f"{prefix}_answer" for prefix in self.prefixes]
        there = self.table.columns
        without = [(r, a) for r, a in zip(rights, answers, strict=True) if r not in there and a not in there]
        if without:
            needed = " and no ".join(f"{r} (or {a} and a label)" for r, a in without)
            raise self.lacking(needed, [name for pair in without for name in pair])
        column = "label" if label is None else label
        compared = [a for r, a in zip(rights, answers, strict=True) if r not in there]
        if compared and column not in there:
            hint = f" {' and '.join(compared)} must be compared with what people say is right: label='its column'."
            raise self.lacking(f"column {column}", [column], hint)
        labels = self.answers(column) if compared else []
        for row, one in enumerate(labels):
            if not one:
                self.reject(row, f"{column} is missing")
        found = []
        for r, a in zip(rights, answers, strict=True):
            if r in there:
                found.append(self.numbers(r, share))
            else:
                same = [x == y for x, y in zip(self._needed(a), labels, strict=True)]
                found.append(np.array(same, dtype=float))
        return found

    def answers(self, name: str) -> list[str | None]:
        """Answers without case and spaces; an empty text is one where nothing would be written otherwise."""
        found: list[str | None] = []
        for cell in self.cells(name):
            answer = " ".join(as_text(cell).casefold().split())
            found.append(answer if answer or (isinstance(cell, str) and not self.table.is_text) else None)
        return found

    def _needed(self, name: str) -> list[str | None]:
        found = self.answers(name)
        for row, answer in enumerate(found):
            if answer is None:
                self.reject(row, f"{name} is missing")
        return found

    def agreement(self) -> Floats | None:
        """Of the first model and the teacher: as it is told, else by their answers; nan where one is not known."""
        if self.has("agreement"):
            return self.numbers("agreement", share, needed=False)
        first, last = (f"{prefix}_answer" for prefix in (self.prefixes[0], self.prefixes[-1]))
        if not (self.has(first) and self.has(last)):
            return None
        pairs = zip(self.answers(first), self.answers(last), strict=True)
        return np.array([float(x == y) if x is not None and y is not None else np.nan for x, y in pairs])

    def of_every_model(self, what: str) -> Floats | None:
        columns = [f"{prefix}_{what}" for prefix in self.prefixes]
        there = [name for name in columns if self.has(name)]
        if not there:
            return None
        if without := [name for name in columns if name not in there]:
            raise self.lacking(f"{' and '.join(without)} beside {' and '.join(there)}", without)
        return np.column_stack([self.numbers(name, amount) for name in columns])

    def scores(self) -> dict[str, Floats]:
        """By name, in the order of the columns, shape (rows, models - 1)."""
        first = self.prefixes[:-1]
        found: dict[str, list[str]] = {}
        for column in self.table.columns:
            for prefix in first:
                if column.startswith(f"{prefix}_score_"):
                    found.setdefault(column.removeprefix(f"{prefix}_score_"), [])
            if len(first) == 1 and column.startswith("score_"):
                found.setdefault(column.removeprefix("score_"), [])
        scores = {}
        for name in found:
            short = f"score_{name}"
            columns = [short] if len(first) == 1 and short in self.table.columns else []
            columns = columns or [f"{prefix}_{short}" for prefix in first]
            there = [column for column in columns if self.has(column)]
            if not there:
                continue
            if without := [column for column in columns if column not in there]:
                raise self.lacking(f"{' and '.join(without)} beside {' and '.join(there)}", without)
            scores[name] = np.column_stack([self.numbers(column, number) for column in columns])
        return scores

    def requests(self, texts: Sequence[str]) -> list[Request]:
        """What the first model made of each request; none where the table says nothing of it."""
        prefix = self.prefixes[0]
        kinds = {"probabilities": probabilities, "logprobs": logprobs, "samples": samples}
        read = {kind: self._lists(f"{prefix}_{kind}", check) for kind, check in kinds.items()}
        answer = f"{prefix}_answer"
        if self.has(answer):
            read["answer"] = [
                None if cell is None or (self.table.is_text and cell == "") else as_text(cell)
                for cell in self.cells(answer)
            ]
        given = {kind: values for kind, values in read.items() if values is not None}
        if not given:
            return []
        rows = zip(*given.values(), strict=True)
        return [Request(text, **dict(zip(given, row, strict=True))) for text, row in zip(texts, rows, strict=True)]

    def _lists(self, name: str, check: Callable[[list[Any]], Any]) -> list[Any] | None:
        if not self.has(name):
            return None
        found: list[Any] = []
        for row, cell in enumerate(self.cells(name)):
            value = None
            if is_missing(cell):
                self.reject(row, f"{name} is missing")
            else:
                try:
                    value = check(listed(cell))
                except BadCell as error:
                    self.reject(row, f"{name} {error}")
            found.append(value)
        return found
