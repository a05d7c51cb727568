"""A drop-in for ``AsyncOpenAI`` that tries the student and sends on to the teacher, as a router says.

``client.chat.completions.create`` takes and returns what openai's does. What is not routed (``models``, ``embeddings``,
``chat.completions.parse``, raw responses) is the teacher's own client, and is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, Self

from distillcalc.catalog.prices import TokenPriceOverride
from distillcalc.errors import InputError
from distillcalc.route.attempting import Chain, Messages, OnTeacherFailure, Settings
from distillcalc.route.calls import Answer, Model, Total, Trip, last_user_message
from distillcalc.route.deciding_live import Decider
from distillcalc.route.streams import RoutedStream, replayed

if TYPE_CHECKING:
    from distillcalc.route.router import Router

__all__ = ["Answer", "RoutedClient"]


class RoutedClient:
    """Ask a student first and its teacher where the router says so, with the interface of ``AsyncOpenAI``.

    Every answer carries ``distillcalc_route``: the model, the reason, the score, every attempt with its tokens, seconds
    and dollars, and their sum. ``model=`` of a call is not looked at: the router chooses. Prompts are never logged.

    Parameters
    ----------
    router : which decides.
    clients : of each model of the router, by its name: an ``AsyncOpenAI``, (``AsyncOpenAI``, the model's name there),
        or an async function (messages, options) -> :class:`.Answer`. Retries are those clients' own.
    prices : of each model's tokens, by its name; what has none is not taken to be free.
    text : what of the messages the router reads; left out, the last message of the user.
    samples : how many to ask for, where the score is of several samples.
    sample_temperature : with which they are asked for.
    student_timeout_s : longest that any model but the teacher may take, its samples included [s].
    on_teacher_failure : "raise", or "student": the last answer that there is, although it was sent on.
    also_needs : "logprobs" or "samples", where a score of the user's own reads them.
    stream_usage : whether streams are asked for their usage, which is kept from a reader who did not; without it their
        tokens are not known.

    Raises
    ------
    InputError
        If the clients are not those of the router's models.

    Notes
    -----
    A cascade's stream is held back until the student's answer is judged, then replayed, or the teacher's is passed
    through: its first token comes later than without a router. Where a student fails, is late or cannot be judged, the
    request is sent on, with the reason told. A stream that breaks off after its first chunk raises. Of several choices
    (``n``) the first is judged. Use it from one event loop; ``async with`` closes the clients that it was given.
    """

    def __init__(
        self,
        router: Router,
        clients: Mapping[str, Any],
        *,
        prices: Mapping[str, TokenPriceOverride] | None = None,
        text: Callable[[Messages], str] = last_user_message,
        samples: int = 5,
        sample_temperature: float = 1.0,
        student_timeout_s: float | None = None,
        on_teacher_failure: OnTeacherFailure = "raise",
        also_needs: Collection[str] = (),
        stream_usage: bool = True,
    ) -> None:
        if set(clients) != set(router.models):
            raise InputError(f"clients are of {', '.join(router.models)}. Got {', '.join(clients) or 'none'}")
        if unknown := set(prices or {}) - set(router.models):
            raise InputError(f"prices are of {', '.join(router.models)}. Got {', '.join(sorted(unknown))}")
        models = {name: Model.of(name, clients[name], (prices or {}).get(name)) for name in router.models}
        self.router = router
        self.totals: dict[str, Total] = {name: Total() for name in router.models}
        self._text, self._version = text, router.version
        settings = Settings(samples, sample_temperature, student_timeout_s, on_teacher_failure, stream_usage)
        self._chain = Chain(Decider(router, also_needs), models, settings)
        self.chat = Chat(self)

    @property
    def passes_to(self) -> Any:
        """The teacher's client, for all that is not routed."""
        return self._chain.teacher.client

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "_chain" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.passes_to, name)

    def with_options(self, **options: Any) -> RoutedClient:
        """The same with other options of all clients (``timeout``, ``max_retries``, ...); the totals are shared."""
        if one := {"api_key", "base_url", "http_client", "organization", "project"} & set(options):
            raise InputError(f"{min(one)} belongs to one client: give it to that client")
        other = object.__new__(RoutedClient)
        other.__dict__.update(self.__dict__)
        models = {
            name: m if m.is_local else replace(m, client=m.client.with_options(**options))
            for name, m in self._chain.models.items()
        }
        other._chain = Chain(self._chain.decider, models, self._chain.settings)
        other.chat = Chat(other)
        return other

    copy = with_options

    async def close(self) -> None:
        """Close the clients that it was given."""
        self._chain.decider.close()
        remote = {id(model.client): model.client for model in self._chain.models.values() if not model.is_local}
        for client in remote.values():
            await client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.close()

    async def create(self, messages: Messages, options: dict[str, Any]) -> Any:
        """What ``chat.completions.create`` does."""
        trip = Trip(self.totals)
        stream = bool(options.pop("stream", False))
        usage = bool((options.get("stream_options") or {}).get("include_usage"))
        messages = list(messages)
        if not stream:
            options.pop("stream_options", None)
        route, answer = await self._chain.answer(trip, self._text(messages), messages, options, stream=stream)

        def told() -> dict[str, Any]:
            return trip.told(route, self._version)

        if isinstance(answer, RoutedStream):
            answer.tell = told
            return answer
        if stream:
            return RoutedStream(replayed(answer, usage=usage), told)
        answer.distillcalc_route = told()
        return answer


class Asked(Protocol):
    """A client whose chat completions are its own and whose everything else is another client's."""

    @property
    def passes_to(self) -> Any:
        """The client of everything else."""
        ...

    async def create(self, messages: Messages, options: dict[str, Any]) -> Any:
        """A chat completion, or a stream."""
        ...


class Chat:
    """``client.chat``: its completions are the client's own, the rest is passed on."""

    def __init__(self, client: Asked) -> None:
        self._client = client
        self.completions = _Completions(client)

    def __getattr__(self, name: str) -> Any:
        return _passed_on(self._client, "chat", name)


class _Completions:
    def __init__(self, client: Asked) -> None:
        self._client = client

    async def create(self, *, messages: Messages, model: str | None = None, **options: Any) -> Any:
        """As ``AsyncOpenAI().chat.completions.create``; ``model`` is not looked at."""
        return await self._client.create(messages, options)

    def __getattr__(self, name: str) -> Any:
        return _passed_on(self._client, "chat.completions", name)


def _passed_on(client: Asked, path: str, name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    found = client.passes_to
    for part in path.split("."):
        found = getattr(found, part)
    return getattr(found, name)
