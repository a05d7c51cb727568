"""A request on its way through a chain of models: asked, judged, kept or sent on, and what happens where one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from distillcalc.errors import InputError
from distillcalc.route.calls import Model, Trip, described, request_of
from distillcalc.route.deciding_live import Decider
from distillcalc.route.requests import Request, Route
from distillcalc.route.streams import Metered, RoutedStream

if TYPE_CHECKING:
    from distillcalc.route.router import Router

T = TypeVar("T")
Messages: TypeAlias = Sequence[Mapping[str, Any]]
Options: TypeAlias = Mapping[str, Any]
OnTeacherFailure: TypeAlias = Literal["raise", "student"]

NOT_SAMPLED = ("stream", "stream_options", "n", "logprobs", "top_logprobs")
REFUSALS = (400, 422)  # of several choices at once


class NoChoices(Exception):
    """An answer without anything in it."""


@dataclass(frozen=True)
class Settings:
    """How models are asked; see :class:`.RoutedClient`."""

    samples: int = 5
    sample_temperature: float = 1.0
    student_timeout_s: float | None = None
    on_teacher_failure: OnTeacherFailure = "raise"
    stream_usage: bool = True

    def __post_init__(self) -> None:
        if self.on_teacher_failure not in ("raise", "student"):
            raise InputError(f'on_teacher_failure is "raise" or "student". Got {self.on_teacher_failure!r}')
        if self.samples < 2:
            raise InputError(f"samples must be 2 or more. Got {self.samples}")
        if self.student_timeout_s is not None and not self.student_timeout_s > 0:
            raise InputError(f"student_timeout_s must be above 0. Got {self.student_timeout_s}")


class Chain:
    """The models of a router and how they are asked.

    Parameters
    ----------
    decider : the router.
    models : by their names.
    settings : how they are asked.
    """

    def __init__(self, decider: Decider, models: Mapping[str, Model], settings: Settings) -> None:
        self.decider, self.models, self.settings = decider, models, settings

    @property
    def router(self) -> Router:
        """Which decides."""
        return self.decider.router

    @property
    def teacher(self) -> Model:
        """The last model."""
        return self.models[self.router.models[-1]]

    async def answer(
        self, trip: Trip, text: str, messages: Messages, options: Options, *, stream: bool
    ) -> tuple[Route, Any]:
        """Who answers, and the answer: a ``ChatCompletion``, or a stream that is passed through.

        Raises
        ------
        Exception
            The teacher's own error, where nothing may stand in for its answer.
        """
        if self.router.stage == "before":
            route = await self.decider.choose(Request(text))
            return await self._unjudged(trip, route, messages, options, stream, None)
        ruled = await self.decider.ruled(Request(text))
        if ruled is not None:
            return await self._unjudged(trip, ruled, messages, options, stream, None)
        spare: tuple[str, Any] | None = None
        whole = {name: value for name, value in options.items() if name != "stream_options"}
        names = self.router.models
        route = Route(names[0], "", float("nan"))
        for at, name in enumerate(names[:-1]):
            route, completion = await self._tried(trip, at, text, messages, whole)
            if route.model == name:
                return route, completion
            if completion is not None:
                spare = (name, completion)
        return await self._unjudged(trip, route, messages, options, stream, spare)

    async def _tried(self, trip: Trip, at: int, text: str, messages: Messages, options: Options) -> tuple[Route, Any]:
        """The route after one model's answer, and the answer if it gave any."""
        name, following = self.router.models[at : at + 2]
        try:
            asked = self.judgeable(trip, self.models[name], text, messages, options)
            completion, request = await self._in_time(self.models[name], asked)
        except Exception as failure:  # noqa: BLE001 - whatever a student does, the caller gets an answer
            return Route(following, f"{name} failed ({described(failure)})", float("nan")), None
        try:
            return await self.decider.decide(request, at), completion
        except Exception as failure:  # noqa: BLE001
            why = str(failure) if isinstance(failure, InputError) else described(failure)
            return Route(following, f"{name}'s answer could not be judged: {why}", float("nan")), completion

    async def _unjudged(
        self, trip: Trip, route: Route, messages: Messages, options: Options, stream: bool,
        spare: tuple[str, Any] | None,
    ) -> tuple[Route, Any]:  # fmt: skip
        """The answer of the model that a route names; if it fails the teacher's, if that fails the spare one."""
        model = self.models[route.model]
        try:
            if stream and not model.is_local:
                return route, await self._in_time(model, self.opened(trip, model, messages, options))
            completion, _ = await self._in_time(model, trip.ask(model, messages, options))
            if not completion.choices and model is not self.teacher:
                raise NoChoices
            return route, completion
        except Exception as failure:
            reason = f"{route.reason}; {model.name} failed ({described(failure)})"
            if model is not self.teacher:
                other = replace(route, model=self.teacher.name, reason=reason)
                return await self._unjudged(trip, other, messages, options, stream, None)
            if spare is None or self.settings.on_teacher_failure == "raise":
                raise
            return replace(route, model=spare[0], reason=f"{reason}, so the answer of {spare[0]} is served"), spare[1]

    async def judgeable(
        self, trip: Trip, model: Model, text: str, messages: Messages, options: Options
    ) -> tuple[Any, Request]:
        """A model's answer with what the router's score needs, which the caller does not see unless it asked."""
        needs = self.decider.needs
        asked = dict(options)
        if "logprobs" in needs and not model.is_local:
            asked["logprobs"] = True
        samples: list[str] = []
        if "samples" in needs and not model.is_local:
            try:
                async with asyncio.TaskGroup() as group:
                    sampling = group.create_task(self.sampled(trip, model, messages, options))
                    answering = group.create_task(trip.ask(model, messages, asked))
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from None
            (completion, said), samples = answering.result(), sampling.result()
        else:
            completion, said = await trip.ask(model, messages, asked)
            if "samples" in needs and (said is None or said.samples is None):
                samples = await self.sampled(trip, model, messages, options)
        if not completion.choices:
            raise NoChoices
        request = request_of(text, completion, said, samples or None)
        if not options.get("logprobs"):
            for choice in completion.choices:
                choice.logprobs = None
        return completion, request

    async def sampled(self, trip: Trip, model: Model, messages: Messages, options: Options) -> list[str]:
        """Several answers: all at once, and one by one what a server that does not know ``n`` leaves out."""
        count = self.settings.samples
        asked = {name: value for name, value in options.items() if name not in NOT_SAMPLED}
        asked["temperature"] = self.settings.sample_temperature

        async def some(**more: Any) -> list[str]:
            completion, _ = await trip.ask(model, messages, {**asked, **more}, "sample")
            return [choice.message.content or "" for choice in completion.choices]

        async def one() -> list[str]:
            try:
                return await some()
            except Exception:  # noqa: BLE001 - noted as an attempt; the others still say something
                return []

        found: list[str] = []
        if not model.is_local:
            try:
                found = await some(n=count)
            except Exception as failure:  # noqa: BLE001
                if getattr(failure, "status_code", None) not in REFUSALS:
                    return []
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one()) for _ in range(count - len(found))]
        return found[:count] + [answer for task in tasks for answer in task.result()]

    async def opened(self, trip: Trip, model: Model, messages: Messages, options: Options) -> RoutedStream:
        """A stream of a model's answer, counted when it ends."""
        wanted = options.get("stream_options") or {}
        asks = self.settings.stream_usage and not wanted.get("include_usage")
        asked = {**options, "stream": True}
        if asks:
            asked["stream_options"] = {**wanted, "include_usage": True}
        meter = Metered(trip, model, asks=asks)
        try:
            stream = await model.client.chat.completions.create(model=model.id, messages=messages, **asked)
        except BaseException as failure:
            meter.end(described(failure))
            raise
        return RoutedStream(stream, dict, on_chunk=meter.chunk, on_end=meter.end, hide=meter.hides)

    async def _in_time(self, model: Model, asked: Awaitable[T]) -> T:
        """Within the time that any model but the teacher may take."""
        async with asyncio.timeout(None if model is self.teacher else self.settings.student_timeout_s):
            return await asked
