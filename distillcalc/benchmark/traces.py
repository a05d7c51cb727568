"""What was seen of each request of a benchmark: when it was due, sent, answered, and token by token."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

OK = "ok"
TIMEOUT = "timeout"  # nothing came for as long as the caller waits


@dataclass(frozen=True, eq=False)
class Traces:
    """What was seen of n requests, in the order of the prompts. Moments are seconds from the start of the run.

    Parameters
    ----------
    due_s : when each was to be sent, shape (n,); in a closed loop the moment before it was sent.
    sent_s : when it was, shape (n,).
    first_s : first output token, shape (n,); nan where none came.
    last_s : last output token, or the moment at which the request failed, shape (n,).
    input_tokens : as the target counted them, shape (n,); 0 where it did not say.
    output_tokens : as the target counted them, or else as they were seen, shape (n,).
    outcome : "ok", "timeout", or what went wrong ("http 503", "connection lost", "stream ended early"), n of them.
    chunk_s : moments at which output came, all requests one after the other, shape (chunks,).
    chunk_tokens : tokens that came then, shape (chunks,): a server may send several at a time.
    offsets : the chunks of request i are offsets[i] to offsets[i + 1], shape (n + 1,).
    texts : what was written, n of them; empty where it is not kept.
    """

    due_s: Floats
    sent_s: Floats
    first_s: Floats
    last_s: Floats
    input_tokens: Ints
    output_tokens: Ints
    outcome: tuple[str, ...]
    chunk_s: Floats
    chunk_tokens: Ints
    offsets: Ints
    texts: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        n = len(self.outcome)
        sizes = {
            name: len(getattr(self, name))
            for name in ("due_s", "sent_s", "first_s", "last_s", "input_tokens", "output_tokens")
        }
        if set(sizes.values()) != {n} or len(self.offsets) != n + 1 or len(self.chunk_s) != len(self.chunk_tokens):
            raise InputError(f"traces of {n} requests must have so many of each. Got {sizes}")
        if self.texts and len(self.texts) != n:
            raise InputError(f"texts must be one for each of {n} requests, or none. Got {len(self.texts)}")

    def __len__(self) -> int:
        return len(self.outcome)

    @property
    def ok(self) -> Bools:
        """Which were answered in full, shape (n,)."""
        return np.array([one == OK for one in self.outcome], dtype=bool)

    @property
    def ttft_s(self) -> Floats:
        """First token - due [s], shape (n,): what a request waited because the client was late counts as its wait.

        Measured from the moment of sending, a slow server or client would hide its own queue ("coordinated omission",
        Tene, How NOT to Measure Latency, 2015).
        """
        return self.first_s - self.due_s

    @property
    def e2e_s(self) -> Floats:
        """Last token - due [s], shape (n,); of a request that failed, until it did."""
        return self.last_s - self.due_s

    @property
    def tpot_s(self) -> Floats:
        """(Last - first token) / (output tokens - 1) [s], shape (n,); nan below two tokens."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found = (self.last_s - self.first_s) / (self.output_tokens - 1)
        return np.where(self.output_tokens > 1, found, np.nan)

    @property
    def late_s(self) -> Floats:
        """Sent - due [s], shape (n,): how far the client was behind."""
        return self.sent_s - self.due_s

    def itl_s(self) -> Floats:
        """Times between neighbouring chunks of one request [s], all requests one after the other."""
        gaps = np.diff(self.chunk_s)
        starts = self.offsets[1:-1]  # the gap before a request's first chunk is no gap of its own
        inner = np.ones(len(gaps), dtype=bool)
        inner[starts[(starts > 0) & (starts <= len(gaps))] - 1] = False
        return np.asarray(gaps[inner], dtype=float)

    def take(self, which: Any) -> Traces:
        """Some of the requests: a mask, a slice or positions."""
        rows = np.arange(len(self))[which]
        pieces = [np.arange(self.offsets[i], self.offsets[i + 1]) for i in rows]
        chunks = np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int64)
        return Traces(
            due_s=self.due_s[rows],
            sent_s=self.sent_s[rows],
            first_s=self.first_s[rows],
            last_s=self.last_s[rows],
            input_tokens=self.input_tokens[rows],
            output_tokens=self.output_tokens[rows],
            outcome=tuple(self.outcome[i] for i in rows),
            chunk_s=self.chunk_s[chunks],
            chunk_tokens=self.chunk_tokens[chunks],
            offsets=np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]).astype(np.int64),
            texts=tuple(self.texts[i] for i in rows) if self.texts else (),
        )
