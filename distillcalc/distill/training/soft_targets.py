"""Stored soft labels of sequences: computed once by a teacher on this machine, or given by an API with its answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillcalc.distill.records import Record
from distillcalc.distill.training.api_targets import collect_targets
from distillcalc.distill.training.batches import Collator, Targets
from distillcalc.distill.training.examples import Examples, ids_of
from distillcalc.distill.training.logit_cache import LogitCache, top_k, weights_fingerprint
from distillcalc.distill.training.logit_cache_writer import LogitCacheWriter
from distillcalc.distill.training.prompting import padding_id
from distillcalc.distill.training.recipe import Objective
from distillcalc.distill.training.vocabulary import align, vocabulary_fingerprint

ROWS = 8  # sequences that the teacher reads at once


@dataclass(frozen=True)
class StoredTargets:
    """Soft labels of some sequences, by the sequences' numbers.

    Parameters
    ----------
    cache : by sample id, never by step. samples : ids by number.
    """

    cache: LogitCache
    samples: tuple[str, ...]

    def __call__(self, number: int) -> Targets:
        found: Targets = self.cache[self.samples[number]]
        return found

    @property
    def rest(self) -> float:
        """Mean probability of the tokens that were not kept; in [0, 1]."""
        return float(self.cache.batch(self.samples)[2].mean())


def stored(
    examples: Examples,
    student: Any,
    teacher: tuple[Any, Any],
    folder: Path,
    *,
    objective: Objective,
    k: int,
    report: Callable[[int, int], None] | None = None,
) -> StoredTargets:
    """The teacher's soft labels of sequences, from a cache in a folder; what it lacks is computed.

    Parameters
    ----------
    examples : the sequences. student : whose tokens they are (a :class:`.students.Student`).
    teacher : model and tokenizer.
    objective : its temperature and where soft labels count. k : tokens kept of each distribution.
    report : told how many sequences are done, and how many there are.

    Raises
    ------
    InputError
        If the tokenizers do not read the same ids, or the cache is of other data, tokens, weights or temperature.
    """
    import torch

    from distillcalc.distill.training.pairing import refuse_unread, vocabulary_rows

    model, tokenizer = teacher
    own_rows, rows = vocabulary_rows(student.model), vocabulary_rows(model)
    alignment = align(student.tokenizer, tokenizer, own_rows, rows).require("stored soft labels")
    refuse_unread(alignment, ids_of(examples))
    shared = alignment.vocabulary
    about: dict[str, Any] = {
        "tokenizer": vocabulary_fingerprint(student.tokenizer), "data": f"{objective.soft_on}:{examples.fingerprint()}",
        "temperature": objective.temperature, "weights": weights_fingerprint(model),
    }  # fmt: skip
    names = tuple(s.sample for s in examples.sequences)
    if not LogitCache.is_whole(folder):
        collator = Collator(padding_id(student.tokenizer), objective.soft_on)
        data = examples.dataset()
        with LogitCacheWriter(folder, k=k, vocabulary=shared, teacher=type(model).__name__, **about) as writer:
            wanted = sorted((n for n in range(len(names)) if names[n] not in writer), key=lambda n: -data[n]["length"])
            model.eval()
            for first in range(0, len(wanted), ROWS):
                numbers = wanted[first : first + ROWS]
                batch = collator([data[n] for n in numbers])
                with torch.inference_mode():
                    _add(writer, model, batch, [names[n] for n in numbers], k, objective.temperature, shared)
                if report is not None:
                    report(first + len(numbers), len(wanted))
            writer.finish(names)
    return StoredTargets(LogitCache.open(folder, k=k, vocabulary=shared, **about), names)


def _add(
    writer: LogitCacheWriter, model: Any, batch: dict[str, Any], names: Sequence[str], k: int, temperature: float,
    vocabulary: int,
) -> None:  # fmt: skip
    from distillcalc.distill.training.lesson_torch import head_of, logits_of

    device = model.device
    hidden = model.get_decoder()(
        input_ids=batch["input_ids"].to(device), attention_mask=batch["attention_mask"].to(device), use_cache=False
    ).last_hidden_state
    for row, name in enumerate(names):
        logits = logits_of(hidden[row][batch["soft"][row].to(device)], head_of(model))
        writer.add(name, *top_k(logits, k, temperature, vocabulary))


def from_records(examples: Examples, records: Sequence[Record], tokenizer: Any) -> Callable[[int], Targets]:
    """Soft labels of sequences from the log-probabilities that an API gave with its answers.

    Parameters
    ----------
    examples : made of these records, one sequence each. tokenizer : the student's.

    Raises
    ------
    InputError
        If fewer than half of the records have them.
    """
    by_name = {f"{record.id}:{record.sample}:0": record for record in records}
    found = collect_targets(((s.sample, by_name[s.sample], s.ids[s.start :]) for s in examples.sequences), tokenizer)
    sequences = examples.sequences

    def of(number: int) -> Targets:
        sequence = sequences[number]
        made = found.of(sequence.sample, len(sequence.ids) - sequence.start)
        return (*made.arrays, made.soft)

    return of
