"""Sequences as batches: padded or packed, with what each position predicts and what the teacher says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from distillcalc.distill.training.examples import IGNORED
from distillcalc.errors import InputError

# Token ids and log-probabilities (T, K), mass of the rest (T,); and, where not all of them are, which are soft (T,).
Targets = tuple[np.ndarray, ...]

GROUPS = 2  # tasks that have a mean of their own
SOFT, ALL = GROUPS, GROUPS + 1  # where the counts of soft and of all positions stand


@dataclass(frozen=True)
class Collator:
    """Make tensors of a few sequences.

    Parameters
    ----------
    pad : id that fills a batch; masked by place, never by this id.
    soft_on : where the teacher's distribution counts: "answer", or "all" positions that have a next token.
    packing : the sequences stand in one row, each with positions of its own, without padding.
    targets : gives a sequence's stored soft labels by its number; None where the teacher is live or not asked.
    multiple : padded lengths are multiples of this.

    Returns (called)
    ----------------
    input_ids (B, S); attention_mask (B, S) or, packed, position_ids (1, S); shift_labels (B, S): the token that a
    position predicts where it is supervised, -100 elsewhere; soft (B, S): whether the teacher counts there; real
    (B, S): no padding; group (B, S); sample (sequences); counts (4): supervised positions of each group, soft ones,
    and all. With stored soft labels, teacher_ids and teacher_logprobs (N, K) and teacher_tail (N), in the order of the
    soft positions.

    Raises (called)
    ---------------
    InputError
        If stored soft labels are not of as many positions as count.
    """

    pad: int
    soft_on: Literal["answer", "all"] = "answer"
    packing: bool = False
    targets: Callable[[int], Targets] | None = None
    multiple: int = 8

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        import torch

        made = [self._arrays(row) for row in rows]
        stored: list[Targets] = []
        for one, row in zip(made, rows, strict=True):
            if self.targets is None:
                break
            found = self.targets(int(row["sample"]))
            if len(found) > 3:  # of an API, which does not speak of every position
                one["soft"][one["soft"]] = found[3]
                found = tuple(part[found[3]] for part in found[:3])
            if len(found[0]) != one["soft"].sum():
                raise InputError(
                    f"the stored soft labels of sequence {int(row['sample'])} are of {len(found[0])} positions, and "
                    f"{int(one['soft'].sum())} count in it: they are of another text or another soft_on"
                )
            stored.append(found)
        if self.packing:
            batch = {name: np.concatenate([one[name] for one in made])[None] for name in made[0]}
            del batch["attention_mask"]  # positions that start anew tell the sequences apart
        else:
            longest = max(len(one["input_ids"]) for one in made)
            longest = -(-longest // self.multiple) * self.multiple
            batch = {name: _padded([one[name] for one in made], longest, self._fill(name)) for name in made[0]}
            del batch["position_ids"]
        supervised = batch["shift_labels"] != IGNORED
        counts = [int((supervised & (batch["group"] == group)).sum()) for group in range(GROUPS)]
        counts += [int(batch["soft"].sum()), int(batch["real"].sum())]
        batch["counts"] = np.array(counts)
        batch["sample"] = np.array([int(row["sample"]) for row in rows])
        tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
        if self.targets is not None:
            for place, name in enumerate(("teacher_ids", "teacher_logprobs", "teacher_tail")):
                tensors[name] = torch.from_numpy(np.concatenate([one[place] for one in stored]))
        return tensors

    def _arrays(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        ids = np.asarray(row["input_ids"], dtype=np.int64)
        labels = np.asarray(row["labels"], dtype=np.int64)
        predicted = np.append(labels[1:], IGNORED)
        has_next = np.arange(len(ids)) < len(ids) - 1
        return {
            "input_ids": ids,
            "attention_mask": np.ones(len(ids), dtype=np.int64),
            "position_ids": np.arange(len(ids), dtype=np.int64),
            "shift_labels": predicted,
            "soft": has_next if self.soft_on == "all" else predicted != IGNORED,
            "real": np.ones(len(ids), dtype=bool),
            "group": np.full(len(ids), int(row["group"]), dtype=np.int64),
        }

    def _fill(self, name: str) -> int:
        return {"input_ids": self.pad, "shift_labels": IGNORED}.get(name, 0)


def _padded(rows: Sequence[np.ndarray], length: int, fill: int) -> np.ndarray:
    whole = np.full((len(rows), length), fill, dtype=rows[0].dtype)
    for place, row in enumerate(rows):
        whole[place, : len(row)] = row
    return whole
