"""Batches: what a position predicts, what is padding, and sequences that share a row without seeing each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distillcalc.distill.training.batches import ALL, SOFT, Collator
from distillcalc.errors import InputError
from tests.distill.training import tiny
from tests.distill.training.tiny import one_thread  # noqa: F401

ROW = {"input_ids": [7, 8, 9, 5, 2], "labels": [-100, -100, 9, 5, 2], "sample": 3, "group": 0}
SHORT = {"input_ids": [4, 2], "labels": [-100, 2], "sample": 0, "group": 1}


def rows(count: int) -> list[dict[str, Any]]:
    return list(tiny.examples(count).dataset())


def test_a_position_predicts_the_next_token() -> None:
    batch = Collator(pad=2)([ROW, SHORT])
    assert batch["input_ids"].tolist() == [[7, 8, 9, 5, 2, 2, 2, 2], [4, 2, 2, 2, 2, 2, 2, 2]]
    assert batch["attention_mask"].tolist() == [[1] * 5 + [0] * 3, [1] * 2 + [0] * 6]
    # The answer 9, 5, 2 is predicted at the places before it; the last token, which ends the turn, is not hidden though
    # it is the padding's id; nothing follows it.
    assert batch["shift_labels"].tolist() == [[-100, 9, 5, 2, -100, -100, -100, -100], [2] + [-100] * 7]
    assert batch["soft"].tolist() == [[False, True, True, True] + [False] * 4, [True] + [False] * 7]
    assert batch["real"].tolist() == [[True] * 5 + [False] * 3, [True] * 2 + [False] * 6]
    assert batch["counts"].tolist() == [3, 1, 4, 7]  # of each group, soft, real
    assert batch["sample"].tolist() == [3, 0]


def test_soft_on_all_is_every_position_that_has_a_next_token() -> None:
    batch = Collator(pad=0, soft_on="all")([ROW, SHORT])
    assert batch["soft"].sum(1).tolist() == [4, 1]
    assert batch["counts"].tolist() == [3, 1, 5, 7]


def test_packed_sequences_stand_in_a_row_with_positions_of_their_own() -> None:
    batch = Collator(pad=0, packing=True)([ROW, SHORT])
    assert batch["input_ids"].tolist() == [[7, 8, 9, 5, 2, 4, 2]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 0, 1]]
    assert batch["shift_labels"].tolist() == [[-100, 9, 5, 2, -100, 2, -100]]  # the 2 does not predict the 4
    assert batch["group"].tolist() == [[0] * 5 + [1] * 2]
    assert "attention_mask" not in batch
    assert batch["counts"].tolist() == [3, 1, 4, 7]


def test_a_sequence_that_fills_its_batch_is_not_padded() -> None:
    batch = Collator(pad=0, multiple=5)([ROW])
    assert batch["input_ids"].shape == (1, 5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_sequences_do_not_see_each_other(attention: str) -> None:
    model = tiny.llama(attn_implementation=attention).eval()
    some = rows(4)
    other = [some[0], some[1] | {"input_ids": [11] * len(some[1]["input_ids"])}, *some[2:]]
    names = ("input_ids", "position_ids")
    with torch.no_grad():
        first, second = (
            model.get_decoder()(
                **{n: Collator(0, packing=True)(part)[n] for n in names}, use_cache=False
            ).last_hidden_state[0]
            for part in (some, other)
        )  # fmt: skip
        alone = [model.get_decoder()(torch.tensor([row["input_ids"]])).last_hidden_state[0] for row in some]
    ends = np.cumsum([row["length"] for row in some])
    whole = torch.cat(alone)
    assert torch.allclose(first, whole, atol=1e-5)
    changed = slice(ends[0], ends[1])
    assert (first[changed] - second[changed]).abs().max() > 0.1  # the text that is another, is
    assert torch.allclose(first[: ends[0]], second[: ends[0]], atol=1e-6)
    assert torch.allclose(first[ends[1] :], second[ends[1] :], atol=1e-6)


@given(
    lengths=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 12)), min_size=1, max_size=6),
    soft_on=st.sampled_from(["answer", "all"]), multiple=st.sampled_from([1, 8]),
)  # fmt: skip
def test_counts_do_not_depend_on_how_sequences_are_batched(
    lengths: list[tuple[int, int]], soft_on: Any, multiple: int
) -> None:
    made = [
        {"input_ids": [5] * (asked + said), "labels": [-100] * asked + [5] * said, "sample": n, "group": n % 2}
        for n, (asked, said) in enumerate(lengths)
    ]
    one_by_one = sum(Collator(0, soft_on)([row])["counts"] for row in made)
    padded = Collator(0, soft_on, multiple=multiple)(made)
    packed = Collator(0, soft_on, packing=True)(made)
    assert padded["counts"].tolist() == packed["counts"].tolist() == one_by_one.tolist()
    assert int(padded["counts"][:2].sum()) == sum(said for _, said in lengths)
    assert int(padded["counts"][ALL]) == sum(asked + said for asked, said in lengths)
    if soft_on == "answer":
        assert int(padded["counts"][SOFT]) == sum(said for _, said in lengths)
    kept = padded["input_ids"][padded["real"]]
    assert kept.tolist() == packed["input_ids"][0].tolist()
    assert padded["shift_labels"][padded["real"]].tolist() == packed["shift_labels"][0].tolist()


def targets(count: int) -> tuple[np.ndarray, ...]:
    return np.full((count, 2), count), np.full((count, 2), -1.0, np.float32), np.full(count, 0.1, np.float32)


def test_stored_soft_labels_are_found_by_the_sequences_number() -> None:
    known = {3: targets(3), 0: targets(1)}
    for packing in (False, True):
        batch = Collator(0, packing=packing, targets=known.__getitem__)([SHORT, ROW])
        assert batch["teacher_ids"].tolist() == [[1, 1], [3, 3], [3, 3], [3, 3]]  # in the order of the soft positions
        assert batch["teacher_logprobs"].shape == (4, 2)
        assert batch["teacher_tail"].shape == (4,)


def test_where_the_teacher_says_nothing_no_position_is_soft() -> None:
    said = (*targets(3), np.array([True, False, True]))
    batch = Collator(0, targets=lambda number: said)([ROW])
    assert batch["soft"].tolist() == [[False, True, False, True, False, False, False, False]]
    assert batch["teacher_ids"].shape == (2, 2)
    assert batch["counts"].tolist() == [3, 0, 2, 5]  # the hard label stays


def test_soft_labels_of_another_text_are_refused() -> None:
    with pytest.raises(InputError, match="of sequence 3 are of 2 positions, and 3 count in it"):
        Collator(0, targets=lambda number: targets(2))([ROW])
    with pytest.raises(InputError, match="another soft_on"):
        Collator(0, "all", targets=lambda number: targets(3))([ROW])
