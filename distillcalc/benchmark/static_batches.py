"""Serves a run's requests in batches that start and end together, and keeps what was seen of each.

Whenever the engine is free it takes the requests that are due; those that become due meanwhile wait for the batch to
end, and a row whose request has ended computes on for nothing until then.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from distillcalc.benchmark.decoding import Step, StepLog
from distillcalc.benchmark.load import ClosedLoop, Load, OpenLoop, Prompt
from distillcalc.benchmark.memory import free_bytes, is_out_of_memory
from distillcalc.benchmark.traces import OK, TIMEOUT, Traces
from distillcalc.errors import InputError

OUT_OF_MEMORY = "out of memory"
SAFE = 0.85  # share of the free memory that advice plans with


class Batches(Protocol):
    """What makes the steps of a batch: :class:`distillcalc.benchmark.decoding.Decoder`, or what stands in its place."""

    def run(self, prompts: Sequence[Sequence[int]], steps: int, *, rows: int = 0, capacity: int = 0) -> Iterator[Step]:
        """A batch step by step, the first of which reads the prompts."""

    def capacity(self, longest: int, steps: int) -> int:
        """Tokens that a row's cache comes to hold."""

    def held_bytes(self) -> int:
        """Memory of caches that are kept for later batches [bytes]."""

    def release(self) -> None:
        """Give the memory of caches back."""


class Engine(Protocol):
    """What serving needs of :class:`distillcalc.benchmark.in_process.InProcess` and of a classifier."""

    model: Any
    max_batch: int

    @property
    def decoder(self) -> Batches:
        """What makes the steps."""

    def ends(self) -> set[int]:
        """Tokens after which the model has said all."""

    def context_window(self) -> int:
        """Tokens that the model can see at once; 0 where it does not say."""

    def text_of(self, ids: Sequence[int], /) -> str:
        """What a model wrote."""

    def row_bytes(self, read: int, capacity: int) -> float:
        """About what one sequence takes [bytes]."""


@dataclass(eq=False)
class Asked:
    """A request on its way.

    Parameters
    ----------
    index : in the order of sending. ids : tokens of its prompt.
    """

    index: int
    ids: list[int]
    prompt: Prompt

    def __post_init__(self) -> None:
        self.due = self.ended = float("nan")
        self.outcome = ""
        self.written: list[int] = []
        self.came: list[float] = []

    @property
    def most(self) -> int:
        return self.prompt.output_tokens

    @property
    def tokens(self) -> int:
        return len(self.ids) + self.most

    def end(self, outcome: str, at: float) -> None:
        self.outcome, self.ended = outcome, at


def lacks(engine: Engine, needed: float) -> bool:
    """Whether a host has less memory than is needed [bytes], the cache that is used again or freed included.

    Its system ends processes that take too much, so that nothing could be told afterwards; a GPU says so itself.
    """
    device = engine.model.device
    return bool(device.type == "cpu" and needed > free_bytes(device) + engine.decoder.held_bytes())


class _Queue:
    """Which requests are due: at their moments, or as a client of a closed loop gets its answer and asks again."""

    def __init__(self, asked: list[Asked], load: Load) -> None:
        self._left = iter(asked)
        self._count = len(asked)
        self._closed = isinstance(load, ClosedLoop)
        # A closed loop's clients by the moment from which they are free; moments of an open loop are in order already.
        self._due = [0.0] * load.concurrency if isinstance(load, ClosedLoop) else list(map(float, load.due_s))
        self._started = time.perf_counter()

    def now(self) -> float:
        return time.perf_counter() - self._started

    def moment(self, counter: float) -> float:
        """A reading of ``time.perf_counter`` as seconds from the start."""
        return counter - self._started

    def answered(self, at: float) -> None:
        if self._closed:
            heapq.heappush(self._due, at)

    def take(self, most: int) -> list[Asked]:
        """Those that are due, waiting for the first one; none when all have been sent."""
        taken: list[Asked] = []
        while self._count and self._due and len(taken) < most:
            wait = self._due[0] - self.now()
            if wait > 0:
                if taken:
                    break
                time.sleep(wait)
                continue
            one = next(self._left)
            one.due = heapq.heappop(self._due)
            self._count -= 1
            taken.append(one)
        return taken


class Serving:
    """Serves the requests of one run.

    Parameters
    ----------
    asked : requests, in the order in which they are sent.
    rows, capacity : of every batch and its cache, where they must not change; 0: as each batch needs.

    Raises
    ------
    InputError
        If an open loop has not one moment for each request.
    """

    def __init__(
        self, engine: Engine, asked: list[Asked], load: Load, timeout_s: float, rows: int = 0, capacity: int = 0
    ) -> None:
        if isinstance(load, OpenLoop) and len(load.due_s) != len(asked):
            raise InputError(f"an open loop needs a moment for each of {len(asked)} prompts. Got {len(load.due_s)}")
        self.engine, self.asked, self.timeout_s = engine, asked, timeout_s
        self.rows, self.capacity = rows, capacity
        self.ends, self.window = engine.ends(), engine.context_window()
        self.log, self.out_of_memory = StepLog(), ""
        self.queue = _Queue(asked, load)

    def serve(self) -> None:
        """All of them."""
        while taken := self.queue.take(self.rows or self.engine.max_batch):
            batch = [one for one in taken if not self._refused(one)]
            if batch:
                self._batch(batch)

    def _refused(self, one: Asked) -> bool:
        if self.window and one.tokens > self.window:
            one.end(f"longer than the model's {self.window} tokens", one.due)
        elif self.queue.now() - one.due > self.timeout_s:  # in the queue
            one.end(TIMEOUT, one.due + self.timeout_s)
        else:
            return False
        self.queue.answered(one.ended)
        return True

    def _batch(self, batch: list[Asked]) -> None:
        live = list(range(len(batch)))
        steps = max(one.most for one in batch)
        try:
            if lacks(self.engine, self._needed(batch, steps)):
                raise MemoryError
            for step in self._steps(batch, steps):
                at, began = self.queue.moment(step.ended), self.queue.moment(step.began)
                self._note(batch, live, step.tokens, step.slots, began, at - began)
                for row in live:
                    self._took(batch[row], step.chosen[row], at)
                live = [row for row in live if not batch[row].outcome]
                if not live:
                    return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Only here, where the error is gone, is what its frames held free again.
        self._ran_out(batch, steps)
        for row in live:
            batch[row].end(OUT_OF_MEMORY, self.queue.now())
            self.queue.answered(batch[row].ended)

    def _steps(self, batch: list[Asked], steps: int) -> Iterator[Step]:
        return self.engine.decoder.run([one.ids for one in batch], steps, rows=self.rows, capacity=self.capacity)

    def _note(self, batch: list[Asked], live: list[int], tokens: int, slots: int, began: float, seconds: float) -> None:
        """The facts of a step, before its tokens are handed out."""
        reads = not batch[live[0]].written
        prompt = [len(batch[row].ids) for row in live]
        useful = sum(prompt) if reads else len(live)
        self.log.add(
            began_s=began,
            seconds=seconds,
            sequences=len(live),
            tokens=tokens,
            context=0 if reads else sum(prompt) + sum(len(batch[row].written) for row in live),
            pairs=sum(one**2 for one in prompt) / 2 if reads else 0.0,
            padding=tokens - useful,
            slots=slots,
        )

    def _took(self, one: Asked, token: int, at: float) -> None:
        """A token for a request, unless its client has gone."""
        last = one.came[-1] if one.came else one.due
        if at - last > self.timeout_s:
            one.end(TIMEOUT, last + self.timeout_s)
        else:
            one.written.append(token)
            one.came.append(at)
            if len(one.written) >= one.most or (not one.prompt.whole and token in self.ends):
                one.end(OK, at)
        if one.outcome:
            self.queue.answered(one.ended)

    def _needed(self, batch: list[Asked], steps: int) -> float:
        longest = max(len(one.ids) for one in batch)
        capacity = self.capacity or self.engine.decoder.capacity(longest, steps)
        return self._rows(batch) * self.engine.row_bytes(longest, capacity)

    def _rows(self, batch: list[Asked]) -> int:
        return self.rows or len(batch)

    def _ran_out(self, batch: list[Asked], steps: int) -> None:
        engine, gib = self.engine, 2.0**30
        engine.decoder.release()
        if engine.model.device.type == "cuda":
            import torch

            torch.cuda.empty_cache()
        free, needed, rows = free_bytes(engine.model.device), self._needed(batch, steps), self._rows(batch)
        longest = max(len(one.ids) for one in batch) + steps
        fits = min(int(SAFE * free * rows / needed), rows // 2)
        self.out_of_memory = (
            f"the device ran out of memory with {rows} sequences of up to {longest:,} tokens at once: about "
            f"{needed / gib:.1f} GiB beside the weights, and {free / gib:.1f} GiB were free. "
            + (
                f"What would fit: max_batch = {fits}"
                if fits
                else "What would fit: shorter sequences, or a smaller model"
            )
        )

    def traces(self) -> Traces:
        """What was seen of each request."""
        asked = self.asked
        counts = [len(one.came) for one in asked]
        due = np.array([one.due for one in asked], dtype=float)
        return Traces(
            due_s=due,
            sent_s=due.copy(),  # there is no client that could be late
            first_s=np.array([one.came[0] if one.came else np.nan for one in asked], dtype=float),
            last_s=np.array([one.ended for one in asked], dtype=float),
            input_tokens=np.array([len(one.ids) for one in asked], dtype=np.int64),
            output_tokens=np.array(counts, dtype=np.int64),
            outcome=tuple(one.outcome for one in asked),
            chunk_s=np.array([moment for one in asked for moment in one.came], dtype=float),
            chunk_tokens=np.ones(sum(counts), dtype=np.int64),
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            texts=tuple(self.engine.text_of(one.written) for one in asked),
        )
