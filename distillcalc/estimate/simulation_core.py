"""The compiled loop of :mod:`.simulation`: replicas, their queues and their steps, one event after another.

Nothing here loops over the sequences of a batch. A replica keeps their number and the sum of their contexts, and a
heap of the steps at which one of them shows its first token or ends; steps between two such events differ only in
the context, which grows by one token a sequence, so that their total is a closed form. A run of steps is cut short
where an arrival can join.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NOBODY = -1
ANY_TOKENS = 1 << 62
LAST_TICK = 1 << 35  # an event is one whole number: tick, request, and whether the request ends
EVENT_BITS = 28


def compiled(function: F) -> F:
    """Compile to machine code on the first call, keep that beside the source, and let other threads run meanwhile."""
    return cast(F, numba.njit(cache=True, nogil=True)(function))


class Work(NamedTuple):
    """The requests, in order of arrival, and what becomes of each; shape (requests,).

    ``output_tokens`` holds the thinking tokens too; ``behind`` is the next one in the same queue.
    """

    arrival_s: Floats
    input_tokens: Ints
    output_tokens: Ints
    thinking_tokens: Ints
    start_s: Floats
    first_s: Floats
    finish_s: Floats
    replica: Ints
    waiting: Ints
    behind: Ints


class Replicas(NamedTuple):
    """The state of each replica, shape (replicas,); the heap's is (replicas, events)."""

    decoding: Ints  # sequences that have their first token and not their last
    context: Ints  # tokens that their next step reads
    admitted: Ints
    kv_used: Ints
    in_system: Ints
    partial: Ints  # the request whose prompt is not whole yet
    partial_done: Ints
    ticks: Ints  # steps that gave every decoding sequence a token
    heap: Ints
    heap_size: Ints
    ready: NDArray[np.bool_]  # between two steps
    # the run of steps under way
    start_s: Floats
    end_s: Floats
    duration_s: Floats
    steps: Ints
    sequences: Ints  # that get a token in each step
    batch: Ints  # requests that are worked on in each step
    advances: Ints
    joining: Ints
    joining_context: Ints
    # sums
    all_steps: Ints
    busy_s: Floats
    roofline_s: Floats
    window_busy_s: Floats
    window_batch_s: Floats


def empty_replicas(replicas: int, max_sequences: int) -> Replicas:
    """Idle replicas."""

    def ints() -> Ints:
        return np.zeros(replicas, dtype=np.int64)

    def floats() -> Floats:
        return np.zeros(replicas)

    state: dict[str, Any] = {name: ints() for name in Replicas._fields} | {
        name: floats() for name in Replicas._fields if name.endswith("_s")
    }
    state["partial"] = np.full(replicas, NOBODY, dtype=np.int64)
    state["end_s"] = np.full(replicas, np.inf)
    state["heap"] = np.zeros((replicas, 2 * max_sequences), dtype=np.int64)
    return Replicas(**state | {"ready": np.zeros(replicas, dtype=np.bool_)})


@compiled
def step_seconds(c: Floats, sequences: int, tokens: int, context: int, pairs: float) -> float:
    """Duration of one step [s]: StepTime.seconds on scalars, its constants in ``c`` in the order of its fields."""
    touched = 1.0 - c[4] ** tokens if c[3] > 0 else 0.0
    read = c[2] + c[3] * touched + c[5] * context + (c[10] if tokens > 1 else 0.0)
    compute = c[6] * tokens + c[7] * pairs
    return float(c[0] + c[1] * sequences + c[9] * tokens + max(read, compute) + (1 - c[8]) * min(read, compute))


@compiled
def run_seconds(c: Floats, sequences: int, context: int, steps: int) -> float:
    """Duration of steps in a row [s] that only decode, the first at ``context``: each reads ``sequences`` tokens more.

    Reading grows, computing does not: the sum over the steps before reading takes longer, and over those after.
    """
    touched = 1.0 - c[4] ** sequences if c[3] > 0 else 0.0
    read = c[2] + c[3] * touched + c[5] * context + (c[10] if sequences > 1 else 0.0)
    compute = c[6] * sequences
    growth = c[5] * sequences
    before = 0
    if read < compute:
        before = steps
        if growth > 0 and (compute - read) < growth * steps:
            before = min(steps, math.ceil((compute - read) / growth))
    after = steps - before
    read_before = before * read + growth * before * (before - 1) / 2
    read_after = after * (read + growth * before) + growth * after * (after - 1) / 2
    hidden = 1 - c[8]
    reading = hidden * read_before + read_after
    computing = before * compute + hidden * after * compute
    return float(steps * (c[0] + (c[1] + c[9]) * sequences) + reading + computing)


@compiled
def steps_until(c: Floats, sequences: int, context: int, most: int, start_s: float, at_s: float) -> int:
    """The fewest steps of a run, one at least, that end at or after a moment; no more than ``most``."""
    first = run_seconds(c, sequences, context, 1)
    if start_s + first >= at_s or most == 1:
        return 1
    low = 2
    high = int(min(float(most), math.ceil((at_s - start_s) / first) + 1))  # no step is shorter than the first
    while low < high:
        middle = (low + high) // 2
        if start_s + run_seconds(c, sequences, context, middle) >= at_s:
            high = middle
        else:
            low = middle + 1
    return low


@compiled
def push(heap: Ints, size: int, event: int) -> None:
    """Put an event on a binary heap of ``size`` events, smallest first."""
    at = size
    while at > 0:
        above = (at - 1) >> 1
        if heap[above] <= event:
            break
        heap[at] = heap[above]
        at = above
    heap[at] = event


@compiled
def pop(heap: Ints, size: int) -> int:
    """Take the smallest of ``size`` events off a binary heap."""
    smallest = heap[0]
    last = heap[size - 1]
    at, below, end = 0, 1, size - 1
    while below < end:
        if below + 1 < end and heap[below + 1] < heap[below]:
            below += 1
        if last <= heap[below]:
            break
        heap[at] = heap[below]
        at, below = below, 2 * below + 1
    heap[at] = last
    return int(smallest)


@compiled
def begin(
    c: Floats, chunk: int, max_sequences: int, kv_tokens: int, w: Work, f: Replicas, r: int, head: Ints, q: int
) -> int:
    """Start the next run of steps of a replica at ``f.start_s[r]``; returns how many requests left the queue."""
    now = f.start_s[r]
    decoding = f.decoding[r]
    whole = chunk == 0
    room = ANY_TOKENS if whole else chunk - decoding
    tick = f.ticks[r] + (0 if whole else 1)  # at the end of this step, if it reads a prompt
    prompts, tokens, joining, joining_context, left, pairs = 0, 0, 0, 0, 0, 0.0
    while room > 0:
        i = f.partial[r]
        done = f.partial_done[r]
        if i == NOBODY:
            i = head[q]
            if i == NOBODY or f.admitted[r] >= max_sequences:
                break
            needs = w.input_tokens[i] + w.output_tokens[i]
            if f.kv_used[r] + needs > kv_tokens:
                break
            head[q] = w.behind[i]
            left += 1
            f.kv_used[r] += needs
            f.admitted[r] += 1
            w.start_s[i] = now
            w.replica[i] = r
            done = 0
        take = min(room, w.input_tokens[i] - done)
        room -= take
        tokens += take
        prompts += 1
        pairs += take * (2.0 * done + take) / 2
        if done + take < w.input_tokens[i]:
            f.partial[r] = i
            f.partial_done[r] = done + take
            break
        f.partial[r] = NOBODY
        joining += 1
        joining_context += w.input_tokens[i] + 1
        push(f.heap[r], f.heap_size[r], ((tick + w.thinking_tokens[i]) << EVENT_BITS) | (i << 1))
        push(f.heap[r], f.heap_size[r] + 1, ((tick + w.output_tokens[i] - 1) << EVENT_BITS) | (i << 1) | 1)
        f.heap_size[r] += 2
    f.joining[r], f.joining_context[r] = joining, joining_context
    if prompts > 0:
        stalled = whole
        f.sequences[r] = joining + (0 if stalled else decoding)
        f.batch[r] = prompts + (0 if stalled else decoding)
        f.advances[r] = 0 if stalled else 1
        f.steps[r] = 1
        f.duration_s[r] = step_seconds(
            c, f.sequences[r], tokens + (0 if stalled else decoding), 0 if stalled else f.context[r], pairs
        )
    elif decoding > 0:
        f.sequences[r] = f.batch[r] = decoding
        f.advances[r] = 1
        f.steps[r] = (f.heap[r, 0] >> EVENT_BITS) - f.ticks[r]
        f.duration_s[r] = run_seconds(c, decoding, f.context[r], f.steps[r])
    else:
        f.steps[r] = 0
        f.end_s[r] = np.inf
        return left
    f.end_s[r] = now + f.duration_s[r]
    return left


@compiled
def cut(c: Floats, f: Replicas, r: int, at_s: float) -> None:
    """End a run of steps that only decodes with the step under way at a moment."""
    steps = steps_until(c, f.decoding[r], f.context[r], f.steps[r], f.start_s[r], at_s)
    if steps < f.steps[r]:
        f.steps[r] = steps
        f.duration_s[r] = run_seconds(c, f.decoding[r], f.context[r], steps)
        f.end_s[r] = f.start_s[r] + f.duration_s[r]


@compiled
def may_cut(max_sequences: int, kv_tokens: int, w: Work, f: Replicas, r: int, i: int) -> bool:
    """Whether a request could join at the end of the step under way, and the run is longer than that."""
    return bool(
        f.steps[r] > 1
        and f.admitted[r] < max_sequences
        and f.kv_used[r] + w.input_tokens[i] + w.output_tokens[i] <= kv_tokens
    )


@compiled
def account(c: Floats, f: Replicas, r: int, until_s: float, from_s: float, to_s: float) -> None:
    """Add a run of steps, as far as it went, to the sums; the window from ``from_s`` to ``to_s`` has its own."""
    end = min(f.end_s[r], until_s)
    spent = end - f.start_s[r]
    steps = f.steps[r]
    share = 1.0
    if f.end_s[r] > until_s:
        share = spent / f.duration_s[r]
        if steps > 1:
            steps = steps_until(c, f.decoding[r], f.context[r], steps, f.start_s[r], until_s)
    f.all_steps[r] += steps
    f.busy_s[r] += spent
    f.roofline_s[r] += share * (f.duration_s[r] - f.steps[r] * (c[0] + c[1] * f.sequences[r]))
    inside = min(end, to_s) - max(f.start_s[r], from_s)
    if inside > 0:
        f.window_busy_s[r] += inside
        f.window_batch_s[r] += inside * f.batch[r]


@compiled
def finish(w: Work, f: Replicas, r: int) -> int:
    """Take the tokens of a run that has ended; returns how many requests it completed."""
    now = f.end_s[r]
    if f.advances[r]:
        f.ticks[r] += f.steps[r]
        f.context[r] += f.steps[r] * f.decoding[r]
    f.decoding[r] += f.joining[r]
    f.context[r] += f.joining_context[r]
    completed = 0
    while f.heap_size[r] > 0 and (f.heap[r, 0] >> EVENT_BITS) <= f.ticks[r]:
        event = pop(f.heap[r], f.heap_size[r])
        f.heap_size[r] -= 1
        i = (event & ((1 << EVENT_BITS) - 1)) >> 1
        if event & 1 == 0:
            w.first_s[i] = now
            continue
        held = w.input_tokens[i] + w.output_tokens[i]
        w.finish_s[i] = now
        f.decoding[r] -= 1
        f.context[r] -= held
        f.kv_used[r] -= held
        f.admitted[r] -= 1
        completed += 1
    f.in_system[r] -= completed
    return completed


@compiled
def run(
    c: Floats,
    chunk: int,
    max_sequences: int,
    kv_tokens: int,
    central: bool,
    until_s: float,
    from_s: float,
    to_s: float,
    w: Work,
    f: Replicas,
) -> tuple[float, float]:
    """Simulate until every request is served, or until ``until_s``.

    Returns
    -------
    The moment at which it ended [s] and the requests in the system, summed over time [s].

    Notes
    -----
    At one moment first the steps that end, then the arrivals, then the steps that start, in order of replicas.
    """
    n, replicas = len(w.arrival_s), len(f.decoding)
    queues = 1 if central else replicas
    head, tail = np.full(queues, NOBODY, dtype=np.int64), np.full(queues, NOBODY, dtype=np.int64)
    now = w.arrival_s[0]
    area, in_system, waiting, following = 0.0, 0, 0, 0
    while True:
        at = w.arrival_s[following] if following < n else np.inf
        for r in range(replicas):
            at = min(at, f.end_s[r])
        if at == np.inf:
            break
        if at > until_s:
            area += in_system * (until_s - now)
            now = until_s
            for r in range(replicas):
                if f.end_s[r] < np.inf:
                    account(c, f, r, until_s, from_s, to_s)
            break
        area += in_system * (at - now)
        now = at
        for r in range(replicas):
            if f.end_s[r] == now:
                account(c, f, r, now, from_s, to_s)
                in_system -= finish(w, f, r)
                f.ready[r] = True
                f.steps[r] = 0
        while following < n and w.arrival_s[following] == now:
            i = following
            following += 1
            w.waiting[i] = waiting
            waiting += 1
            in_system += 1
            q = 0
            if central:
                for r in range(replicas):
                    if f.steps[r] == 0 and not f.ready[r]:
                        f.ready[r] = True
                        break
            else:
                for r in range(1, replicas):
                    if f.in_system[r] < f.in_system[q]:
                        q = r
                f.in_system[q] += 1
                w.replica[i] = q
                if f.steps[q] == 0:
                    f.ready[q] = True
            if head[q] == NOBODY:
                head[q] = i
                for r in range(0 if central else q, replicas if central else q + 1):
                    if may_cut(max_sequences, kv_tokens, w, f, r, i):
                        cut(c, f, r, now)
            else:
                w.behind[tail[q]] = i
            tail[q] = i
        for r in range(replicas):
            if f.ready[r]:
                f.ready[r] = False
                f.start_s[r] = now
                q = 0 if central else r
                left = begin(c, chunk, max_sequences, kv_tokens, w, f, r, head, q)
                waiting -= left
                if central:
                    f.in_system[r] += left
                if central and left > 0 and head[q] != NOBODY:  # the next in line may fit where the last did not
                    for other in range(replicas):
                        if may_cut(max_sequences, kv_tokens, w, f, other, head[q]):
                            cut(c, f, other, now)
    return now, area
