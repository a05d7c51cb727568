from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from distillcalc.benchmark.decoding import ROUNDED_TO, Decoder, StepLog, Steps
from distillcalc.errors import InputError
from tests.benchmark.models import gemma, generated, llama, qwen


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Of models this small, more cost more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


PROMPTS = ([5, 6, 7], [11] * 9, [3, 1, 4, 1, 5])


def written(decoder: Decoder, steps: int, **more: int) -> list[list[int]]:
    """What each row got."""
    return np.array([step.chosen for step in decoder.run(PROMPTS, steps, **more)]).T.tolist()


@pytest.mark.parametrize("build", [llama, gemma, qwen])
@pytest.mark.parametrize("cache", ["static", "dynamic"])
def test_each_row_gets_what_generate_gives_it(build: Any, cache: Any) -> None:
    model = build()
    made = written(Decoder(model, cache=cache), 14)
    assert made == generated(model, PROMPTS, 14)
    assert len({tuple(row) for row in made}) == 3


def test_steps_by_hand() -> None:
    # Prompts of 3, 9 and 5 tokens: three rows of nine are read, then a token of each is.
    static = list(Decoder(llama(), cache="static").run(PROMPTS, 3))
    assert [step.tokens for step in static] == [27, 3, 3]
    assert [step.slots for step in static] == [3 * 64] * 3  # 9 + 3 rounded up, read to its end
    dynamic = list(Decoder(llama(), cache="dynamic").run(PROMPTS, 3))
    assert [step.tokens for step in dynamic] == [27, 3, 3]
    assert [step.slots for step in dynamic] == [3 * 9, 3 * 10, 3 * 11]
    for one, following in pairwise(static):
        assert one.began < one.ended <= following.began


def test_who_has_enough_stops_earlier() -> None:
    decoder = Decoder(llama())
    whole = written(decoder, 6)
    run = decoder.run(PROMPTS, 6)
    assert [next(run).chosen[0], next(run).chosen[0]] == whole[0][:2]
    run.close()
    assert written(decoder, 6) == whole  # what it left in the cache is not seen


def test_one_cache_is_kept_and_used_again() -> None:
    decoder = Decoder(llama(), cache="static")
    assert decoder.held_bytes() == 0
    list(decoder.run(PROMPTS, 3))
    kept = next(iter(decoder._kept.values()))
    # 2 (keys, values) x 2 layers x 2 KV heads x 8 numbers of 4 bytes = 256 bytes a slot
    assert decoder.held_bytes() == pytest.approx(256 * 3 * ROUNDED_TO, rel=0.01)
    list(decoder.run(PROMPTS, ROUNDED_TO - 9))  # the longest that is rounded to the same
    assert list(decoder._kept.values()) == [kept]
    list(decoder.run(PROMPTS, ROUNDED_TO - 8))
    assert list(decoder._kept) == [(3, 2 * ROUNDED_TO)]
    decoder.release()
    assert decoder.held_bytes() == 0


def test_a_growing_cache_is_kept_by_nobody() -> None:
    decoder = Decoder(llama(), cache="dynamic")
    list(decoder.run(PROMPTS, 3))
    assert decoder.held_bytes() == 0


def test_rows_without_a_request_compute_for_nothing() -> None:
    decoder = Decoder(llama())
    alone = [step.chosen for step in decoder.run([[5, 6, 7]], 4)]
    padded = list(decoder.run([[5, 6, 7]], 4, rows=3, capacity=40))
    assert [step.chosen[:1] for step in padded] == alone
    assert [step.tokens for step in padded] == [9, 3, 3, 3]
    assert [step.slots for step in padded] == [120] * 4


def test_steps_must_be_told_in_full() -> None:
    assert len(StepLog().steps()) == 0
    none = {"read": {"steps": 0}, "write": {"steps": 0}}
    assert StepLog().steps().summary() == none
    arrays = StepLog().steps().arrays()
    with pytest.raises(InputError, match="one for each step"):
        Steps(**{**arrays, "seconds": np.ones(2)})


def test_steps_are_told_as_they_were_noted() -> None:
    log = StepLog()
    log.add(began_s=0.5, seconds=0.2, sequences=2, tokens=10, context=0, pairs=17.0, padding=2, slots=128)
    log.add(began_s=0.75, seconds=0.1, sequences=2, tokens=2, context=10, pairs=0.0, padding=0, slots=128)
    log.add(began_s=0.9, seconds=0.3, sequences=1, tokens=2, context=5, pairs=0.0, padding=1, slots=128)
    steps = log.steps()
    assert steps.reads.tolist() == [True, False, False]
    assert (steps.tokens.dtype, steps.seconds.dtype) == (np.int64, np.float64)
    assert steps.take(~steps.reads).began_s.tolist() == [0.75, 0.9]
    said = steps.summary()
    assert said["read"] == {
        "steps": 1, "seconds": 0.2, "sequences": 2.0, "tokens": 10.0, "context": 0.0, "pairs": 17.0, "padding": 2.0,
        "slots": 128.0, "median_s": 0.2,
    }  # fmt: skip
    assert said["write"]["seconds"] == pytest.approx(0.2)
    assert (said["write"]["context"], said["write"]["padding"]) == (7.5, 0.5)
