"""Handing a labelled dataset on: OpenAI's chat fine-tuning JSONL, Hugging Face datasets, CSV, Parquet and JSONL.

A file is written beside its place and moved there when it is whole. What the student is asked may differ from what the
teacher was: see ``system``, ``prompt`` and ``student_prompt`` of :func:`export`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

from distillcalc.distill.exports_csv import write_csv
from distillcalc.distill.exports_huggingface import Examples, write_huggingface
from distillcalc.distill.records import Dataset, Record, card_file
from distillcalc.distill.task import Task, template_fields
from distillcalc.errors import InputError, UnknownName

Messages: TypeAlias = Sequence[Mapping[str, str]]
StudentPrompt: TypeAlias = Callable[[Record], Messages]
Format = Literal["openai", "huggingface", "csv", "parquet", "jsonl"]

FORMATS = ("openai", "huggingface", "csv", "parquet", "jsonl")
_ENDINGS = {"openai": ".jsonl", "huggingface": "", "csv": ".csv", "parquet": ".parquet", "jsonl": ".jsonl"}
THINK = "<think>\n{reasoning}\n</think>\n\n{answer}"  # as DeepSeek R1, Qwen3 and the templates after them write it
# Line ends to some readers, though not to JSON.
_LINE_ENDS = {ord(c): f"\\u{ord(c):04x}" for c in "\u0085\u2028\u2029"}


@dataclass(frozen=True)
class Exported:
    """What was written.

    Parameters
    ----------
    files : by split; the split of a dataset without any is "all". Hugging Face's splits share one folder, which
        leaves out those without records.
    rows : records written, by split.
    left_out : records with problems that were not, by split.
    """

    files: dict[str, Path]
    rows: dict[str, int]
    left_out: dict[str, int]


def export(
    data: Dataset | Iterable[Record] | Mapping[str, Iterable[Record]],
    path: str | Path,
    format: Format | None = None,
    *,
    system: str | None = None,
    prompt: str | None = None,
    student_prompt: StudentPrompt | None = None,
    reasoning: Literal["drop", "inline"] = "drop",
    keep_invalid: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Write a dataset for whoever trains on it.

    Parameters
    ----------
    data : a dataset, records, or records by split ({"train": ..., "validation": ..., "test": ...}), which go to
        ``NAME.train.jsonl`` and so on side by side, or to one Hugging Face folder.
    path : the file, or the folder for "huggingface".
    format : "openai" (chat fine-tuning JSONL), "huggingface" (a folder for ``load_from_disk``), "csv", "parquet" or
        "jsonl" (all that a record holds, for :meth:`Dataset.load`); left out, what the path's ending says.
    system : the student's system message instead of the teacher's; "" for none.
    prompt : template of the student's user message, such as "{text}", instead of all that the teacher was sent after
        its system message.
    student_prompt : the student's whole prompt for a record; instead of the two above.
    reasoning : "inline" puts the chain of thought into the assistant's message, in a <think> block before the answer.
    keep_invalid : also write records with problems.
    overwrite : replace what is there.

    Returns
    -------
    Exported

    Raises
    ------
    InputError
        If nothing is left to write, the place is taken, or the options do not go together.
    """
    name = _format(format, Path(path))
    if reasoning not in ("drop", "inline"):
        raise InputError(f'reasoning must be "drop" or "inline". Got {reasoning!r}')
    if name in ("parquet", "jsonl") and (system, prompt, student_prompt, reasoning) != (None, None, None, "drop"):
        raise InputError(
            f"{name} holds records as they are. Leave system, prompt, student_prompt and reasoning out, or export as "
            "openai, csv or huggingface"
        )
    asked = _asker(system, prompt, student_prompt)
    splits = {split: tuple(records) for split, records in _splits(data).items()}
    kept = {split: [r for r in records if keep_invalid or not r.problems] for split, records in splits.items()}
    if not any(kept.values()):
        total = sum(map(len, splits.values()))
        why = "all have problems; keep_invalid=True writes them too" if total else "give at least one"
        raise InputError(f"nothing to export: {total:,} records, {why}")
    files = _files(Path(path), name, tuple(splits), isinstance(data, Mapping))
    _refuse_taken(files.values(), name, overwrite)
    card = data.card if isinstance(data, Dataset) else {}
    examples = partial(_example, asked=asked, inline=reasoning == "inline")
    parent = Path(path).absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=parent) as scratch:
            room = Path(scratch)
            if name == "huggingface":
                write_huggingface(kept, isinstance(data, Mapping), room / "new", examples)
                _replace_folder(room / "new", Path(path), room / "old")
            else:
                written = []
                for split, records in kept.items():
                    target = files[split]
                    _write_file(name, records, room / target.name, card, examples)
                    written.append((room / target.name, target))
                    if name in ("parquet", "jsonl"):
                        written.append((card_file(room / target.name), card_file(target)))
                for new, target in written:
                    os.replace(new, target)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    return Exported(
        files,
        {split: len(records) for split, records in kept.items()},
        {split: len(splits[split]) - len(records) for split, records in kept.items()},
    )


def training_messages(
    record: Record,
    *,
    system: str | None = None,
    prompt: str | None = None,
    student_prompt: StudentPrompt | None = None,
    reasoning: Literal["drop", "inline"] = "drop",
) -> tuple[list[dict[str, str]], dict[str, str]]:
    """What a student is asked and what it should say to one record: prompt and assistant's message.

    The options are those of :func:`export`; so are the errors.
    """
    return _example(record, asked=_asker(system, prompt, student_prompt), inline=reasoning == "inline")


def _format(format: str | None, path: Path) -> str:
    if format is None:
        by_ending = {".csv": "csv", ".parquet": "parquet"}
        if path.suffix not in by_ending:
            raise InputError(
                f"{path.name!r} does not say in which format to write. Give one of: {', '.join(FORMATS)} "
                "(.jsonl may be openai or jsonl)"
            )
        return by_ending[path.suffix]
    if format not in FORMATS:
        raise UnknownName("format", format, FORMATS, f"There are: {', '.join(FORMATS)}.")
    ending = _ENDINGS[format]
    if ending and path.suffix and path.suffix != ending:
        raise InputError(f"{format} goes to a file whose name ends in {ending}. Got {path.name!r}")
    return format


def _splits(data: Dataset | Iterable[Record] | Mapping[str, Iterable[Record]]) -> Mapping[str, Iterable[Record]]:
    if not isinstance(data, Mapping):
        return {"all": data}
    for split in data:
        if not re.fullmatch(r"\w+(-\w+)*", split, re.ASCII):
            raise InputError(f"a split is named in letters, digits and -, such as train. Got {split!r}")
    return data


def _files(path: Path, format: str, splits: Sequence[str], named: bool) -> dict[str, Path]:
    if format == "huggingface":
        return dict.fromkeys(splits, path)
    whole = path if path.suffix else path.with_name(path.name + _ENDINGS[format])
    if not named:
        return {splits[0]: whole}
    return {split: whole.with_name(f"{whole.stem}.{split}{whole.suffix}") for split in splits}


def _refuse_taken(files: Iterable[Path], format: str, overwrite: bool) -> None:
    for file in files:
        if not file.exists():
            continue
        if not overwrite:
            raise InputError(
                f"{file} is there already. Give another path, or replace it: overwrite=True, or --overwrite"
            )
        if file.is_dir() != (format == "huggingface"):
            raise InputError(f"{file} is {'a folder' if file.is_dir() else 'a file'}, and {format} would replace it")
        if file.is_dir() and any(file.iterdir()) and not _is_saved_dataset(file):
            raise InputError(f"{file} holds other things than a saved dataset. Give a folder of its own")


def _is_saved_dataset(folder: Path) -> bool:
    return (folder / "dataset_dict.json").is_file() or (folder / "dataset_info.json").is_file()


def _asker(system: str | None, prompt: str | None, student_prompt: StudentPrompt | None) -> StudentPrompt:
    """The student's prompt for a record, by the options given."""
    if student_prompt is not None:
        if system is not None or prompt is not None:
            raise InputError("give student_prompt, or system and prompt, not both: student_prompt is the whole prompt")
        return student_prompt
    task: Task | None = None
    if prompt is not None:
        try:
            template_fields(prompt)
        except ValueError as error:
            raise InputError(str(error)) from error
        task = Task(prompt=prompt, instruction=False)

    def asked(record: Record) -> Messages:
        head = [m for m in record.messages if m.get("role") == "system"]
        if system is not None:
            head = [{"role": "system", "content": system}] if system else []
        if task is not None:
            return [*head, {"role": "user", "content": task.render(record.input)}]
        return [*head, *(m for m in record.messages if m.get("role") != "system")]

    return asked


def _example(record: Record, *, asked: StudentPrompt, inline: bool) -> tuple[list[dict[str, str]], dict[str, str]]:
    messages = [dict(message) for message in asked(record)]
    if not messages:
        raise InputError(f"the student's prompt for record {record.id!r} is empty. It must have a user's message")
    answer = record.answer
    if inline and record.reasoning:
        answer = THINK.format(reasoning=record.reasoning.strip("\n"), answer=answer)
    return messages, {"role": "assistant", "content": answer}


def _write_file(name: str, records: Sequence[Record], file: Path, card: dict[str, Any], examples: Examples) -> None:
    if name == "openai":
        with file.open("w", encoding="utf-8", newline="\n") as out:
            for record in records:
                prompt, answer = examples(record)
                out.write(json.dumps({"messages": [*prompt, answer]}, ensure_ascii=False).translate(_LINE_ENDS) + "\n")
    elif name == "csv":
        write_csv(records, file, lambda record: examples(record)[0])
    else:
        Dataset(tuple(records), card).save(file)


def _replace_folder(new: Path, target: Path, old: Path) -> None:
    """Move a folder to its place; what was there goes first, and comes back where that fails."""
    if not target.exists():
        os.replace(new, target)
        return
    os.replace(target, old)
    try:
        os.replace(new, target)
    except OSError:
        os.replace(old, target)
        raise
    shutil.rmtree(old)
