"""Records as token sequences: which tokens are asked, which are supervised, and under which name.

The chat template of the student's tokenizer makes the text; the answer ends with the token that ends a turn, and what
a template writes after it is left out. Positions are masked by where the answer begins, never by a token's id: many
tokenizers pad with the token that ends a turn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from distillcalc.distill.exports import THINK, training_messages
from distillcalc.distill.records import Record
from distillcalc.distill.training.prompting import Messages, end_of_turn, prompt_ids
from distillcalc.errors import InputError

IGNORED = -100  # the label of a position that is not supervised
PREDICT, EXPLAIN = 0, 1  # the two tasks of Distilling step-by-step
EXPLAIN_PROMPT = "Explain how to get to the answer of this, then stop.\n\n"
Chain = Literal["none", "target", "two-task"]


@dataclass(frozen=True)
class Sequence_:
    """One sequence to learn from.

    Parameters
    ----------
    sample : its name, the same in every run over the same data: "record id:sample:task".
    ids : token ids, prompt and answer.
    start : where the answer begins; the tokens from there on are supervised.
    group : which task of several it belongs to; each has a weight and a mean of its own.
    """

    sample: str
    ids: tuple[int, ...]
    start: int
    group: int = PREDICT

    @property
    def labels(self) -> list[int]:
        """Token ids where they are supervised, -100 elsewhere."""
        return [IGNORED] * self.start + list(self.ids[self.start :])


@dataclass(frozen=True)
class Examples:
    """Sequences in an order that does not change, and what was left out.

    Parameters
    ----------
    sequences : to learn from. left_out : how many were not taken, by reason.
    """

    sequences: tuple[Sequence_, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def tokens(self) -> int:
        """Tokens of all sequences."""
        return sum(len(s.ids) for s in self.sequences)

    @property
    def supervised(self) -> int:
        """Tokens of all answers."""
        return sum(len(s.ids) - s.start for s in self.sequences)

    def fingerprint(self) -> str:
        """Of the samples, their tokens and what of them is supervised; in any order."""
        from distillcalc.distill.training.logit_cache import data_fingerprint

        return data_fingerprint(
            (s.sample, s.ids, [place >= s.start for place in range(len(s.ids))]) for s in self.sequences
        )

    def dataset(self) -> Any:
        """A ``datasets.Dataset`` with the columns input_ids, labels, group, sample (its number) and length."""
        import datasets

        return datasets.Dataset.from_dict(
            {
                "input_ids": [list(s.ids) for s in self.sequences],
                "labels": [s.labels for s in self.sequences],
                "group": [s.group for s in self.sequences],
                "sample": list(range(len(self.sequences))),
                "length": [len(s.ids) for s in self.sequences],
            }
        )


def ids_of(*parts: Examples | None) -> frozenset[int]:
    """Every token id in some examples."""
    return frozenset(i for part in parts if part is not None for s in part.sequences for i in s.ids)


def make_examples(
    records: Iterable[Record],
    tokenizer: Any,
    *,
    system: str | None = None,
    prompt: str | None = None,
    chain: Chain = "none",
    max_length: int = 1_024,
    human: bool = False,
) -> Examples:
    """Turn records into sequences.

    Parameters
    ----------
    system, prompt : what the student is asked instead of what the teacher was, see :func:`.exports.export`.
    chain : "target" puts the teacher's reasoning before the answer; "two-task" makes two sequences of a record, one
        that predicts the answer and one that explains it.
    max_length : sequences of more tokens are left out, and counted: cut ones would teach to stop in the middle.
    human : learn what people said instead of what the teacher did; records without it are left out.

    Raises
    ------
    InputError
        If nothing is left to learn from; it says why.
    """
    made: list[Sequence_] = []
    left_out: Counter[str] = Counter()
    total = 0
    for record in records:
        total += 1
        if record.problems and not human:
            left_out[f"the teacher's answer has a problem ({record.problems[0].split(':')[0]})"] += 1
            continue
        if human and record.human_label is None:
            left_out["nobody has labelled it"] += 1
            continue
        if chain != "none" and not record.reasoning:
            left_out["it has no chain of thought"] += 1
            continue
        if chain == "target" and "</think>" in str(record.reasoning).casefold():
            left_out["its chain of thought ends in the middle (</think>)"] += 1
            continue
        for sequence in _of_record(record, tokenizer, system, prompt, chain, human):
            if len(sequence.ids) > max_length:
                left_out[f"longer than {max_length} tokens"] += 1
            elif sequence.start >= len(sequence.ids):
                left_out["the answer has no tokens"] += 1
            else:
                made.append(sequence)
    if not made:
        why = "; ".join(f"{count:,} x {reason}" for reason, count in left_out.most_common()) or "there are no records"
        raise InputError(f"nothing to learn from in {total:,} records: {why}")
    return Examples(tuple(made), dict(left_out))


def _of_record(
    record: Record, tokenizer: Any, system: str | None, prompt: str | None, chain: Chain, human: bool
) -> Iterable[Sequence_]:
    asked, said = training_messages(record, system=system, prompt=prompt)
    answer = str(record.human_label) if human else said["content"]
    name = f"{record.id}:{record.sample}"
    if chain == "target":
        answer = THINK.format(reasoning=str(record.reasoning).strip("\n"), answer=answer)
    yield Sequence_(f"{name}:0", *tokens_of(tokenizer, asked, answer), PREDICT)
    if chain == "two-task":
        last = {**asked[-1], "content": EXPLAIN_PROMPT + asked[-1]["content"]}
        yield Sequence_(f"{name}:1", *tokens_of(tokenizer, [*asked[:-1], last], str(record.reasoning)), EXPLAIN)


def tokens_of(tokenizer: Any, prompt: Messages, answer: str) -> tuple[tuple[int, ...], int]:
    """Token ids of a prompt and its answer, and where the answer begins.

    The prompt is tokenised as it will be when the student is asked; the answer and the end of the turn follow it.
    """
    asked = prompt_ids(tokenizer, prompt)
    said = tokenizer(answer, add_special_tokens=False)["input_ids"]
    end = end_of_turn(tokenizer, prompt, answer)
    return (*asked, *said, end), len(asked)
