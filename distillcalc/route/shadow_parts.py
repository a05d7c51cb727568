"""What a shadow counts, hears of a stream, and writes of each answer."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from distillcalc.route.calls import Answer, Model, Trip, completion_of, described


class NoText(Exception):
    """An answer without text, such as a call of a tool: there is nothing to compare."""


@dataclass
class Counts:
    """What became of the requests that a shadow saw.

    Parameters
    ----------
    requests : all.
    written : pairs that are in the file.
    skipped : left out because as many as may be were in flight.
    unfinished : streams that the caller left, or that broke off.
    failed : pairs that did not come about, by the kind of error.
    """

    requests: int = 0
    written: int = 0
    skipped: int = 0
    unfinished: int = 0
    failed: Counter[str] = field(default_factory=Counter)


class Heard:
    """A served stream put together again; nothing that goes wrong here reaches its reader.

    Parameters
    ----------
    trip, model, started : which call it is, since when.
    begin : is given the whole answer at its end.
    counts : where streams without an end are counted.
    """

    def __init__(
        self, trip: Trip, model: Model, started: float, begin: Callable[[Any, Answer | None], None], counts: Counts
    ) -> None:
        self._trip, self._model, self._started, self._begin, self._counts = trip, model, started, begin, counts
        self._text: list[str] = []
        self._logprobs: list[float] = []
        self._usage: Any = None

    def chunk(self, chunk: Any) -> None:
        """Hear a chunk."""
        try:
            self._usage = getattr(chunk, "usage", None) or self._usage
            for choice in chunk.choices:
                if choice.index == 0:
                    self._text.append(choice.delta.content or "")
                    content = getattr(choice.logprobs, "content", None) or ()
                    self._logprobs.extend(token.logprob for token in content)
        except Exception as failure:  # noqa: BLE001
            self._counts.failed[described(failure)] += 1

    def end(self, why: str | None) -> None:
        """Note the call, and begin a shadow of a whole answer."""
        self._trip.note(self._model, "answer", self._usage, why, time.perf_counter() - self._started)
        if why is not None:
            self._counts.unfinished += 1
            return
        try:
            answer = Answer("".join(self._text), logprobs=self._logprobs or None)
            self._begin(completion_of(self._model.id, answer), answer)
        except Exception as failure:  # noqa: BLE001
            self._counts.failed[described(failure)] += 1


def text_of(completion: Any) -> str:
    """The text of an answer; raises :class:`NoText` where there is none."""
    content = completion.choices[0].message.content if completion.choices else None
    if not content:
        raise NoText
    return str(content)


def folded(answer: str) -> str:
    """An answer without case and spaces, as agreement is told by."""
    return " ".join(answer.casefold().split())


def hashed(text: str) -> str:
    """The SHA-256 of a text."""
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()


def took(trip: Trip, prefix: str, model: str) -> dict[str, Any]:
    """Tokens, dollars and seconds of a model's calls; None where one is not known. Samples run beside the answer."""
    own = [attempt for attempt in trip.attempts if attempt.model == model]

    def summed(name: str) -> Any:
        values = [getattr(attempt, name) for attempt in own]
        return None if None in values else sum(values)

    return {
        f"{prefix}_prompt_tokens": summed("prompt_tokens"),
        f"{prefix}_completion_tokens": summed("completion_tokens"),
        f"{prefix}_usd": summed("usd"),
        f"{prefix}_s": max(attempt.seconds for attempt in own),
    }
