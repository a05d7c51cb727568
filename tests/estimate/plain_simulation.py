"""Continuous batching the slow way: every step and every sequence, in plain Python. What the compiled loop must equal.

It shares nothing with the library: ``seconds`` is the time of a step from sequences, tokens, context and pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Request:
    """One request and what became of it."""

    arrival: float
    inputs: int
    outputs: int
    thinking: int
    replica: int = -1
    prompt_done: int = 0
    produced: int = 0
    start: float = math.nan
    first: float = math.nan
    finish: float = math.nan

    @property
    def tokens(self) -> int:
        return self.inputs + self.thinking + self.outputs


@dataclass
class Replica:
    """One replica: what it holds, and the step under way."""

    queue: list[Request]
    prompts: list[Request] = field(default_factory=list)
    decoding: list[Request] = field(default_factory=list)
    stepping: list[Request] = field(default_factory=list)
    end: float = math.inf
    steps: int = 0
    busy: float = 0.0

    def held(self) -> list[Request]:
        return self.prompts + self.decoding

    def begin(self, now: float, number: int, e: dict[str, Any]) -> None:
        """Choose the tokens of the next step."""
        chunk = e["chunk"]
        room = math.inf if chunk is None else chunk - len(self.decoding)
        read: list[tuple[Request, int]] = []
        for request in self.prompts:
            read.append((request, min(room, request.inputs - request.prompt_done)))
            room -= read[-1][1]
        while room > 0 and self.queue:
            request = self.queue[0]
            if len(self.held()) == e["slots"] or sum(r.tokens for r in self.held()) + request.tokens > e["kv"]:
                break
            self.queue.pop(0)
            self.prompts.append(request)
            request.start, request.replica = now, number
            read.append((request, min(room, request.inputs)))
            room -= read[-1][1]
        decodes = [] if chunk is None and read else self.decoding
        pairs = 0.0
        for request, take in read:
            pairs += ((request.prompt_done + take) ** 2 - request.prompt_done**2) / 2
            request.prompt_done += take
        whole = [request for request, _ in read if request.prompt_done == request.inputs]
        self.stepping = decodes + whole
        if not decodes and not read:
            self.end = math.inf
            return
        duration = e["seconds"](
            len(self.stepping),
            len(decodes) + sum(take for _, take in read),
            sum(r.inputs + r.produced for r in decodes),
            pairs,
        )
        self.end = now + duration
        self.steps += 1
        self.busy += duration

    def finish(self, now: float) -> None:
        """Hand out the tokens of the step that ends."""
        for request in self.stepping:
            if request in self.prompts:
                self.prompts.remove(request)
                self.decoding.append(request)
            request.produced += 1
            if request.produced == request.thinking + 1:
                request.first = now
            if request.produced == request.thinking + request.outputs:
                request.finish = now
        self.decoding = [request for request in self.decoding if math.isnan(request.finish)]
        self.stepping = []


def plain_simulation(
    seconds: Callable[[int, int, int, float], float],
    requests: Sequence[Request],
    *,
    kv: int,
    slots: int,
    chunk: int | None,
    replicas: int = 1,
    central: bool = False,
    until: float = math.inf,
) -> list[Replica]:
    """Serve the requests, which are changed in place; returns the replicas."""
    engine = {"seconds": seconds, "kv": kv, "slots": slots, "chunk": chunk}
    shared: list[Request] = []
    fleet = [Replica(shared if central else []) for _ in range(replicas)]
    coming = list(requests)
    while True:
        now = min([coming[0].arrival if coming else math.inf, *(replica.end for replica in fleet)])
        if now == math.inf or now > until:
            return fleet
        between = [replica for replica in fleet if replica.end == math.inf]
        for replica in fleet:
            if replica.end == now:
                replica.finish(now)
                between.append(replica)
        while coming and coming[0].arrival == now:
            request = coming.pop(0)
            if central:
                shared.append(request)
            else:
                shortest = min(fleet, key=lambda replica: len(replica.queue) + len(replica.held()))
                shortest.queue.append(request)
                request.replica = fleet.index(shortest)
        for number, replica in enumerate(fleet):
            if any(replica is other for other in between):
                replica.begin(now, number, engine)
