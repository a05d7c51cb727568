"""Labelled records with their provenance, and the dataset that holds them.

A record is one answer of the teacher to one prompt. A dataset is records and a card that says how they were made.
How they are made (:mod:`.labelling`), thrown out (:mod:`.filters`) and handed on (:mod:`.exports`) is told elsewhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from distillcalc.errors import InputError

SCHEMA_VERSION = 1
PARQUET_ABOVE = 100_000  # records; below, one JSON object a line


class Strict(BaseModel):
    """Immutable, no unknown fields, finite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class TopLogprobs(Strict):
    """The teacher's most likely tokens at each position of an answer, stored sparse.

    Parameters
    ----------
    tokens : the token that was written, by position.
    logprobs : its log-probability [nats], by position.
    top : token and log-probability of the most likely ones, best first, by position.
    tail_mass : probability that is left for all other tokens, by position; in [0, 1].
    tokenizer : fingerprint of the vocabulary that these tokens are of.
    """

    tokens: tuple[str, ...]
    logprobs: tuple[float, ...]
    top: tuple[tuple[tuple[str, float], ...], ...]
    tail_mass: tuple[float, ...]
    tokenizer: str


class Origin(Strict):
    """Who gave an answer, when, how it was asked, and what it cost.

    Parameters
    ----------
    run, call : the run that paid for it, and the call in the run's journal.
    teacher : provider/model that was asked; ``version`` as the server named it; ``fingerprint`` of its back end.
    host : the server's host name.
    response_id : the server's id of the response.
    temperature, top_p, seed, max_output_tokens, reasoning_effort : how it was asked.
    input_tokens, cached_tokens, output_tokens, reasoning_tokens : as billed for the call, all choices of it.
    usd : price of the call, a decimal as text; ``choices`` answers share it.
    price : where the price came from.
    latency_s : from sending to the last byte [s]; None from a batch.
    at : when the answer was read (ISO 8601, UTC).
    """

    run: str
    call: str
    teacher: str
    version: str = ""
    fingerprint: str = ""
    host: str = ""
    response_id: str = ""
    processing: Literal["standard", "batch"] = "standard"
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_output_tokens: int | None = None
    reasoning_effort: str | None = None
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    choices: int = 1
    usd: str = "0"
    price: str = ""
    latency_s: float | None = None
    at: str = ""


class Record(Strict):
    """One answer of the teacher to one input.

    Parameters
    ----------
    id : of the input row; the samples of one row share it.
    sample : which of the row's samples, from 0.
    input : the row's fields that the prompt uses.
    messages : the prompt, as it was sent (redacted texts put back).
    answer : the answer alone, without the chain of thought; the label as it is spelt, where there are labels.
    value : the answer as a label or as the JSON value of the schema; None where it is neither or is plain text.
    reasoning : the chain of thought, if there was one.
    problems : what is wrong with the answer; empty where it is valid.
    finish_reason : why the teacher stopped, as the server says.
    human_label : what a person says is right, where somebody has.
    logprobs : of the answer's tokens, where they were asked for and given.
    origin : where it came from.
    """

    id: str
    sample: int = 0
    input: dict[str, Any]
    messages: tuple[dict[str, str], ...]
    answer: str
    value: Any = None
    reasoning: str | None = None
    problems: tuple[str, ...] = ()
    finish_reason: str = "stop"
    human_label: str | None = None
    logprobs: TopLogprobs | None = None
    origin: Origin

    @property
    def key(self) -> tuple[str, int]:
        """The row and the sample of it."""
        return self.id, self.sample

    @property
    def text(self) -> str:
        """The input as one text: its fields in their order, a line each."""
        return "\n".join(str(value) for value in self.input.values())

    @property
    def is_right(self) -> bool | None:
        """Whether the answer says what a person says is right; None where nobody has said.

        Numbers compare by value, JSON by its content, the rest by its wording (:mod:`.comparing`).
        """
        if self.human_label is None:
            return None
        if self.problems:
            return False
        from distillcalc.distill.comparing import said_by, same_answer

        if self.value is not None and not isinstance(self.value, str):
            try:
                return bool(json.loads(self.human_label) == self.value)
            except ValueError:
                return False
        return same_answer(said_by(self), self.human_label)


@dataclass(frozen=True)
class Dataset:
    """Records in an order that does not change, and the card that says how they were made.

    Parameters
    ----------
    records : the answers.
    card : name, task, teacher, terms that apply, prices, counts, filters: plain values, see :mod:`.card`.
    """

    records: tuple[Record, ...]
    card: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def with_records(self, records: Iterable[Record]) -> Dataset:
        """The same card over other records."""
        return replace(self, records=tuple(records))

    def save(self, path: str | Path) -> Path:
        """Write the records (JSONL, or Parquet where the name ends so) and ``NAME.card.json`` beside them.

        A path without an ending gets ``.jsonl`` up to 100,000 records and ``.parquet`` above.
        """
        file = Path(path)
        if not file.suffix:
            file = file.with_suffix(".parquet" if len(self.records) > PARQUET_ABOVE else ".jsonl")
        try:
            write_records(self.records, file)
            card_file(file).write_text(
                json.dumps({"schema_version": SCHEMA_VERSION, **self.card}, indent=2, ensure_ascii=False) + "\n",
                encoding="utf-8",
            )
        except OSError as error:
            raise InputError(f"cannot write the dataset to {file}: {error.strerror}") from error
        return file

    @classmethod
    def load(cls, path: str | Path) -> Dataset:
        """Read what :meth:`save` wrote; raises :class:`InputError` naming the line that cannot be read."""
        file = Path(path)
        card: dict[str, Any] = {}
        if card_file(file).is_file():
            card = json.loads(card_file(file).read_text(encoding="utf-8"))
            version = card.pop("schema_version", SCHEMA_VERSION)
            if version != SCHEMA_VERSION:
                raise InputError(
                    f"{card_file(file)} has schema_version {version}; this distillcalc reads {SCHEMA_VERSION}. "
                    "Read it with the release that wrote it, or a newer one"
                )
        return cls(tuple(read_records(file)), card)


def card_file(file: Path) -> Path:
    """Where the card of a dataset file lies."""
    return file.with_name(file.stem + ".card.json")


def line(record: Record) -> str:
    """A record as one line of JSON, defaults left out."""
    return json.dumps(record.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False)


def read_records(path: str | Path) -> Iterator[Record]:
    """The records of a dataset file, one after the other, without holding them all.

    Raises
    ------
    InputError
        If the file cannot be read, or a line is not a record; it names the line.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"no dataset {str(file)!r}. `distillcalc label TASK.toml` writes one to runs/<name>/")
    lines = _parquet_lines(file) if file.suffix == ".parquet" else _jsonl_lines(file)
    for number, text in lines:
        try:
            yield Record.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "line"
            raise InputError(f"{file.name} line {number} is not a record. {where}: {first['msg']}") from error


def _jsonl_lines(file: Path) -> Iterator[tuple[int, str]]:
    with file.open(encoding="utf-8") as lines:
        for number, text in enumerate(lines, 1):
            if text.strip():
                yield number, text


def write_records(records: Iterable[Record], file: Path) -> int:
    """Write records one after the other, without holding them all; the file is whole or not there at all.

    Returns
    -------
    How many there were.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    try:
        count = _write_parquet(records, part) if file.suffix == ".parquet" else _write_jsonl(records, part)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return count


def _write_jsonl(records: Iterable[Record], file: Path) -> int:
    count = 0
    with file.open("w", encoding="utf-8") as out:
        for record in records:
            out.write(line(record) + "\n")
            count += 1
        out.flush()
        os.fsync(out.fileno())
    return count


def _write_parquet(records: Iterable[Record], file: Path) -> int:
    """One row a record: what is searched as columns, the whole as JSON beside it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [("id", pa.string()), ("sample", pa.int32()), ("text", pa.string()), ("answer", pa.string()),
         ("human_label", pa.string()), ("record", pa.string())]
    )  # fmt: skip
    count, remaining = 0, iter(records)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while part := list(islice(remaining, 10_000)):
            rows = [
                {"id": r.id, "sample": r.sample, "text": r.text, "answer": r.answer, "human_label": r.human_label,
                 "record": line(r)} for r in part
            ]  # fmt: skip
            writer.write_table(pa.Table.from_pylist(rows, schema))
            count += len(part)
    return count


def _parquet_lines(file: Path) -> Iterator[tuple[int, str]]:
    import pyarrow.parquet as pq

    number = 0
    for batch in pq.ParquetFile(file).iter_batches(10_000, columns=["record"]):
        for text in batch.column("record").to_pylist():
            number += 1
            yield number, text
