"""From the journal of a run to records: every answer that was paid for, with where it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from distillcalc.distill.answers import parse, whole_text
from distillcalc.distill.journal import entry_at
from distillcalc.distill.logprobs import fingerprint, top_logprobs
from distillcalc.distill.planning import LabelPlan
from distillcalc.distill.records import Origin, Record
from distillcalc.distill.rows import Row
from distillcalc.distill.state import State
from distillcalc.distill.teacher import host_of


def records(plan: LabelPlan, state: State, journal: Path, price: str) -> Iterator[Record]:
    """The answers of a run in the order of its rows and samples; those that are not there yet are passed over.

    Parameters
    ----------
    state : of the journal's end.
    price : where the prices came from, in words.
    """
    with journal.open("rb") as stream:
        for index, row in plan.used_rows():
            first = index * state.samples
            for sample in range(state.samples):
                place = state.places[first + sample]
                if place >= 0:
                    entry = entry_at(stream, place)
                    yield record(plan, row, entry, sample, state.choices[first + sample], price)


def record(plan: LabelPlan, row: Row, entry: Mapping[str, Any], sample: int, choice: int, price: str) -> Record:
    """One choice of one journaled response as a record; what was masked is put back."""
    body, teacher, prompts = entry["body"], plan.teacher, plan.prompts
    messages, originals = prompts.prompt(row.values)
    said = _mapping(body["choices"][choice])
    finish = whole_text(str(said.get("finish_reason") or "stop"))
    message = _mapping(said.get("message"))
    if originals:
        message = {
            name: prompts.restored(value, originals) if isinstance(value, str) else value
            for name, value in message.items()
        }
        messages = plan.task.messages(row.values)
    parsed = parse(message, finish, plan.task)
    version, system, name = (
        whole_text(str(body.get(key) or "")) for key in ("model", "system_fingerprint", "id")
    )  # fmt: skip
    tokens = entry["tokens"]
    return Record(
        id=row.id,
        sample=sample,
        input=row.values,
        messages=messages,
        answer=parsed.answer,
        value=parsed.value,
        reasoning=parsed.reasoning,
        problems=parsed.problems,
        finish_reason=finish,
        human_label=row.human_label,
        logprobs=top_logprobs(said, plan.vocabulary or fingerprint(teacher.model, version, system))
        if teacher.top_logprobs
        else None,
        origin=Origin(
            run=plan.run_name,
            call=entry["call"],
            teacher=teacher.model,
            version=version,
            fingerprint=system,
            host=host_of(plan.url),
            response_id=name,
            processing=entry.get("processing", "standard"),
            temperature=teacher.temperature,
            top_p=teacher.top_p,
            seed=None if teacher.seed is None else teacher.seed + entry["samples"][0],
            max_output_tokens=teacher.max_output_tokens,
            reasoning_effort=teacher.reasoning_effort,
            input_tokens=tokens["input_tokens"],
            cached_tokens=tokens["cached_tokens"],
            output_tokens=tokens["output_tokens"],
            reasoning_tokens=tokens["reasoning_tokens"],
            choices=len(entry["samples"]),
            usd=entry["usd"],
            price=price,
            latency_s=entry.get("latency_s"),
            at=entry.get("at", ""),
        ),
    )


def _mapping(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}
