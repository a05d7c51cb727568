"""What a benchmark sends, and when: a number of requests in flight, or moments at which they are due."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import InputError

if TYPE_CHECKING:
    from distillcalc.benchmark.traces import Traces

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Prompt:
    """One request of a benchmark.

    Parameters
    ----------
    text : what the user says.
    input_tokens : that the text was made to have with the model's tokenizer, its chat template included; what the
        target counted stands in the traces.
    output_tokens : the most that may be written.
    whole : all of them are wanted: the target is asked not to stop earlier.
    messages : of a chat, system and examples included; they stand instead of the text, which is then for targets that
        know no chat.
    """

    text: str
    input_tokens: int
    output_tokens: int
    whole: bool = True
    messages: tuple[Mapping[str, str], ...] = ()

    @property
    def chat(self) -> list[dict[str, str]]:
        """What a chat is sent: the messages, or the text as the user's."""
        return [dict(one) for one in self.messages] or [{"role": "user", "content": self.text}]


@dataclass(frozen=True)
class ClosedLoop:
    """So many requests in flight: as one ends, the next is sent.

    Parameters
    ----------
    concurrency : requests in flight, at least 1.
    """

    concurrency: int

    def __post_init__(self) -> None:
        if self.concurrency < 1 or int(self.concurrency) != self.concurrency:
            raise InputError(f"concurrency must be a whole number, 1 or more. Got {self.concurrency!r}")


@dataclass(frozen=True, eq=False)
class OpenLoop:
    """Requests are sent when they are due, whatever became of those before.

    Parameters
    ----------
    due_s : moments from the start [s], not falling, one for each prompt.
    """

    due_s: Floats

    def __post_init__(self) -> None:
        due = np.asarray(self.due_s, dtype=float)
        if due.ndim != 1 or not due.size or not np.isfinite(due).all() or due[0] < 0 or (np.diff(due) < 0).any():
            raise InputError("due_s must be finite moments from 0 on that do not fall, at least one")
        object.__setattr__(self, "due_s", due)

    @property
    def rate_per_s(self) -> float:
        """Requests per second that are asked for: gaps / time between the first and the last; infinite for a burst."""
        span = float(self.due_s[-1] - self.due_s[0])
        return (len(self.due_s) - 1) / span if span > 0 else math.inf


Load = ClosedLoop | OpenLoop


class Target(Protocol):
    """What a benchmark measures: a model in this process, or an endpoint."""

    @property
    def name(self) -> str:
        """The model's name, as a record tells it."""

    def run(self, prompts: Sequence[Prompt], load: Load, *, timeout_s: float = 120.0) -> Traces:
        """Send all prompts under the load, in their order, and say what was seen of each.

        Nothing that happens to a request raises: it is told in its trace.

        Parameters
        ----------
        timeout_s : a request of which nothing came for so long is given up and counted.
        """
