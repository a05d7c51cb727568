"""Shadow mode: the caller gets today's model, the other one is asked in the background, and pairs are written down.

A shadow never makes a caller wait and never fails one. What it writes are answers side by side and whether they agree:
agreement is not quality. Which answer is right only a person can say, or a label that answers are compared with.
"""

from __future__ import annotations

import asyncio
import copy
import math
import random
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from distillcalc.catalog.prices import TokenPriceOverride
from distillcalc.errors import InputError
from distillcalc.route.attempting import Chain, Messages, Settings
from distillcalc.route.calls import Answer, Model, Total, Trip, described, last_user_message, request_of
from distillcalc.route.client import Chat
from distillcalc.route.deciding_live import Decider
from distillcalc.route.requests import Request
from distillcalc.route.shadow_log import ShadowLog
from distillcalc.route.shadow_parts import Counts, Heard, folded, hashed, text_of, took
from distillcalc.route.streams import RoutedStream, replayed

if TYPE_CHECKING:
    from distillcalc.route.router import Router


@dataclass(frozen=True)
class _Served:
    """What the caller got, and what was asked."""

    time: str
    text: str
    messages: Messages
    options: Mapping[str, Any]
    completion: Any
    said: Answer | None
    trip: Trip


class ShadowClient:
    """Answer with today's model, and ask the other one of the pair in the background.

    It has the interface of ``AsyncOpenAI``, as :class:`.RoutedClient` has. Each pair is one line of JSON in ``file``,
    on disk before the next one: ``time``, ``id``, ``text`` or its hash, ``student_answer``, ``teacher_answer``,
    ``agreement``, ``score`` (None where a rule decides), ``escalated`` (what the router would have done), and of each
    model tokens, dollars and seconds. :func:`.reading.read_pairs` reads it once a column says what is right
    (``label``, or ``student_right`` and ``teacher_right``), the live log of :mod:`.drift` as it is.

    Parameters
    ----------
    router : of a student and a teacher; it decides nothing here, what it would have done is written down.
    clients, prices, text, samples, also_needs : as of :class:`.RoutedClient`.
    file : .jsonl, appended to; readable by its owner alone.
    serves : name of the model that answers the caller; left out, the teacher.
    share : of the requests that are shadowed, in [0, 1].
    seed : of that choice.
    most_in_flight : shadows at once; a request above them is not shadowed.
    timeout_s : longest that a shadow may take [s].
    keep_texts : whether requests are written, and not only their SHA-256, which a short text can be guessed from.
    keep_answers : whether answers are written, which may repeat requests; without them nothing can be labelled later.

    Raises
    ------
    InputError
        For a router of more than two models, a file that cannot be written, or settings outside their range.

    Notes
    -----
    Where the student is served, its log-probabilities are not asked for, so as to change nothing for the caller: a
    score that reads them is known only where the caller's own call asks. Failures of the student leave no pair and are
    counted in ``counts``: in a router such requests would have been sent on.
    """

    def __init__(
        self,
        router: Router,
        clients: Mapping[str, Any],
        file: str | Path,
        *,
        serves: str | None = None,
        share: float = 1.0,
        seed: int = 0,
        most_in_flight: int = 8,
        timeout_s: float = 60.0,
        keep_texts: bool = False,
        keep_answers: bool = True,
        prices: Mapping[str, TokenPriceOverride] | None = None,
        text: Callable[[Messages], str] = last_user_message,
        samples: int = 5,
        also_needs: Collection[str] = (),
    ) -> None:
        if len(router.models) != 2:
            raise InputError(f"a shadow is of a student and a teacher. Got {', '.join(router.models)}")
        if set(clients) != set(router.models):
            raise InputError(f"clients are of {', '.join(router.models)}. Got {', '.join(clients) or 'none'}")
        served = serves or router.models[-1]
        if served not in router.models:
            raise InputError(f"serves is one of {', '.join(router.models)}. Got {served!r}")
        if not 0 <= share <= 1 or most_in_flight < 1 or not timeout_s > 0:
            raise InputError(
                "share is in [0, 1], most_in_flight 1 or more and timeout_s above 0. "
                f"Got {share}, {most_in_flight} and {timeout_s}"
            )
        self.router, self.counts = router, Counts()
        self.totals: dict[str, Total] = {name: Total() for name in router.models}
        models = {name: Model.of(name, clients[name], (prices or {}).get(name)) for name in router.models}
        self._chain = Chain(Decider(router, also_needs), models, Settings(samples))
        self._served = models[served]
        self._share, self._random = share, random.Random(seed)
        self._most, self._timeout_s = most_in_flight, timeout_s
        self._keep_texts, self._keep_answers, self._text = keep_texts, keep_answers, text
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = ShadowLog(Path(file))
        self.chat = Chat(self)

    @property
    def passes_to(self) -> Any:
        """The client of the model that answers, for all that is not a chat completion."""
        return self._served.client

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.passes_to, name)

    async def create(self, messages: Messages, options: dict[str, Any]) -> Any:
        """What ``chat.completions.create`` does: today's model answers, as it would without a shadow."""
        self.counts.requests += 1
        chosen = self._random.random() < self._share
        asked_at, trip = datetime.now(UTC).isoformat(), Trip(self.totals)
        if options.get("stream") and not self._served.is_local:
            started = time.perf_counter()
            stream = await self.passes_to.chat.completions.create(model=self._served.id, messages=messages, **options)
            if not chosen:
                return stream
            begin = self._beginning(asked_at, messages, options, trip)
            heard = Heard(trip, self._served, started, begin, self.counts)
            return RoutedStream(stream, dict, on_chunk=heard.chunk, on_end=heard.end)
        completion, said = await trip.ask(self._served, messages, options)
        if chosen:
            self._beginning(asked_at, messages, options, trip)(completion, said)
        return RoutedStream(replayed(completion, usage=False), dict) if options.get("stream") else completion

    def _beginning(
        self, asked_at: str, messages: Messages, options: Mapping[str, Any], trip: Trip
    ) -> Callable[[Any, Answer | None], None]:
        """What begins a shadow once the answer is there; the messages are those of now, whatever the caller does."""
        try:
            kept = copy.deepcopy(list(messages))
            plain = {name: value for name, value in options.items() if name not in ("stream", "stream_options")}
            text = self._text(kept)
        except Exception as failure:  # noqa: BLE001 - nothing of a shadow reaches the caller
            self.counts.failed[described(failure)] += 1
            return lambda completion, said: None

        def begin(completion: Any, said: Answer | None) -> None:
            if len(self._tasks) >= self._most:
                self.counts.skipped += 1
                return
            served = _Served(asked_at, text, kept, plain, completion, said, trip)
            task = asyncio.get_running_loop().create_task(self._shadow(served))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return begin

    async def _shadow(self, served: _Served) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                line = await self._line(served)
            await self._log.append(line)
            self.counts.written += 1
        except Exception as failure:  # noqa: BLE001
            self.counts.failed[described(failure)] += 1

    async def _line(self, served: _Served) -> dict[str, Any]:
        """Ask the other model, and put both side by side."""
        chain, trip = self._chain, served.trip
        student, teacher = (chain.models[name] for name in self.router.models)
        text, messages, options = served.text, served.messages, served.options
        if self._served is teacher:
            completion, request = await chain.judgeable(trip, student, text, messages, options)
            answers = (text_of(completion), text_of(served.completion))
        else:
            completion, _ = await trip.ask(teacher, messages, options)
            samples = await chain.sampled(trip, student, messages, options) if self._samples_missing(served) else None
            request = request_of(text, served.completion, served.said, samples)
            answers = (text_of(served.completion), text_of(completion))
        escalated, score = await self._would(request)
        own = await chain.decider.score(request)
        return {
            "time": served.time,
            "id": uuid.uuid4().hex,
            **({"text": text} if self._keep_texts else {"text_sha256": hashed(text)}),
            **({"student_answer": answers[0], "teacher_answer": answers[1]} if self._keep_answers else {}),
            "agreement": int(folded(answers[0]) == folded(answers[1])),
            "score": score,
            f"score_{self.router.score_name}": own,
            "escalated": escalated,
            "served": self._served.name,
            "router": self.router.version,
            **self._facts(request),
            **took(trip, "student", student.name),
            **took(trip, "teacher", teacher.name),
        }

    def _samples_missing(self, served: _Served) -> bool:
        return "samples" in self._chain.decider.needs and (served.said is None or served.said.samples is None)

    async def _would(self, request: Request) -> tuple[bool, float | None]:
        """Whether the router would have sent the request on, and by which score; None where a rule would have."""
        decider = self._chain.decider
        route = None
        try:
            if self.router.stage == "after":
                route = await decider.ruled(request)
            route = route or await decider.decide(request)
        except Exception:  # noqa: BLE001 - what cannot be judged is sent on
            return True, None
        return route.model != self.router.models[0], None if math.isnan(route.score) else route.score

    def _facts(self, request: Request) -> dict[str, Any]:
        """What scores are worked out of, so that others can be tried on the same pairs."""
        found: dict[str, Any] = {}
        for name in ("probabilities", "logprobs"):
            values = getattr(request, name)
            if values is not None:
                found[f"student_{name}"] = [float(value) for value in values]
        if request.samples is not None and self._keep_answers:
            found["student_samples"] = list(request.samples)
        return found

    async def drain(self) -> None:
        """Wait for the shadows that are under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Wait for the shadows, then close the file and the clients."""
        await self.drain()
        self._log.close()
        self._chain.decider.close()
        remote = {id(model.client): model.client for model in self._chain.models.values() if not model.is_local}
        for client in remote.values():
            await client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.close()
