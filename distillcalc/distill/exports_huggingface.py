"""Records as a Hugging Face dataset whose prompt, completion and messages trainers take as they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from distillcalc.distill.exports_csv import usd_share
from distillcalc.distill.records import Record
from distillcalc.errors import MissingExtra

Examples: TypeAlias = Callable[[Record], tuple[list[dict[str, str]], dict[str, str]]]


def write_huggingface(kept: Mapping[str, Sequence[Record]], named: bool, folder: Path, examples: Examples) -> None:
    """Save records where ``datasets.load_from_disk`` reads them: one dataset, or one by split where splits are named.

    Parameters
    ----------
    kept : records by split; a single one where ``named`` is false.
    named : whether the folder holds splits.
    folder : to write; it must not be there.
    examples : prompt and assistant's message of a record.

    Raises
    ------
    MissingExtra
        If the datasets library is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra("datasets", "distill") from error

    text, number = datasets.Value("string"), datasets.Value("int64")
    messages = [{"role": text, "content": text}]
    features = datasets.Features(
        {
            "id": text, "sample": datasets.Value("int32"),
            "messages": messages, "prompt": messages, "completion": messages,
            **dict.fromkeys(("answer", "reasoning", "label", "human_label", "input", "problems"), text),
            **dict.fromkeys(("finish_reason", "teacher", "version", "host", "at"), text),
            "usd": datasets.Value("float64"),
            **dict.fromkeys(("input_tokens", "output_tokens", "reasoning_tokens"), number),
        }
    )  # fmt: skip

    def saved(records: Sequence[Record]) -> Any:
        return datasets.Dataset.from_list(list(_rows(records, examples)), features=features)

    was_shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        if named:
            # The library saves a split without records, but does not load it.
            filled = {split: saved(records) for split, records in kept.items() if records}
            datasets.DatasetDict(filled).save_to_disk(folder)
        else:
            saved(next(iter(kept.values()))).save_to_disk(folder)
    finally:
        if was_shown:
            datasets.enable_progress_bars()


def _rows(records: Iterable[Record], examples: Examples) -> Iterator[dict[str, Any]]:
    """Records as rows of a Hugging Face dataset, whose prompt and completion trainers take as they are."""
    for record in records:
        prompt, answer = examples(record)
        said = [{"role": m["role"], "content": m["content"]} for m in prompt]
        origin = record.origin
        yield {
            "id": record.id, "sample": record.sample,
            "messages": [*said, answer], "prompt": said, "completion": [answer],
            "answer": record.answer, "reasoning": record.reasoning,
            "label": record.value if isinstance(record.value, str) else None, "human_label": record.human_label,
            "input": json.dumps(record.input, ensure_ascii=False), "problems": "; ".join(record.problems),
            "finish_reason": record.finish_reason,
            "teacher": origin.teacher, "version": origin.version, "host": origin.host, "at": origin.at,
            "usd": usd_share(record), "input_tokens": origin.input_tokens,
            "output_tokens": origin.output_tokens, "reasoning_tokens": origin.reasoning_tokens,
        }  # fmt: skip
