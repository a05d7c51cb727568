"""One model asked once, over HTTP or in this process: what it answered, and what that took. Nothing asked is lost."""

from __future__ import annotations

import inspect
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from distillcalc.catalog.prices import TokenPriceOverride
from distillcalc.errors import InputError, MissingExtra
from distillcalc.route.requests import Request, Route


@dataclass(frozen=True)
class Answer:
    """What a student in this process answers.

    Parameters
    ----------
    text : the answer.
    probabilities : of its labels, shape (labels,), summing to 1.
    logprobs : natural logarithms of the probabilities of the answer's tokens.
    samples : several answers to the same request.
    values : scores that it works out itself, by name.
    prompt_tokens, completion_tokens : where it counts them.
    """

    text: str
    probabilities: Sequence[float] | None = None
    logprobs: Sequence[float] | None = None
    samples: Sequence[str] | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


LocalModel: TypeAlias = Callable[[Sequence[Mapping[str, Any]], Mapping[str, Any]], Awaitable[Answer]]


@dataclass(frozen=True)
class Attempt:
    """One call of one model.

    Parameters
    ----------
    model : its name in the router.
    purpose : "answer", or "sample" of several for self-consistency.
    error : None, or what went wrong: the kind of error alone, for messages may repeat the prompt. A call that failed
        may have been billed.
    prompt_tokens, completion_tokens : as the server counts them; None where it does not say.
    usd : at the given prices; None where a price or a count is not known.
    seconds : until the answer, or until the stream's end, was there.
    """

    model: str
    purpose: str
    error: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    usd: float | None
    seconds: float


@dataclass
class Total:
    """All calls of one model.

    Parameters
    ----------
    calls : the failed ones too.
    failed : of them; they may have been billed.
    prompt_tokens, completion_tokens : of the calls whose answer says so.
    usd : of the calls whose price is known.
    unpriced : calls whose price is not known.
    """

    calls: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    unpriced: int = 0

    def add(self, attempt: Attempt) -> None:
        """Count one more."""
        self.calls += 1
        self.failed += attempt.error is not None
        self.prompt_tokens += attempt.prompt_tokens or 0
        self.completion_tokens += attempt.completion_tokens or 0
        self.usd += attempt.usd or 0.0
        self.unpriced += attempt.usd is None


@dataclass(frozen=True)
class Model:
    """A model of the chain and where it is asked.

    Parameters
    ----------
    name : in the router.
    client : an ``AsyncOpenAI`` or what has its ``chat.completions.create``, or a function of this process.
    id : the model's name at that client.
    price : of its tokens [USD a million]; None where it is not known.
    """

    name: str
    client: Any
    id: str
    price: TokenPriceOverride | None = None

    @property
    def is_local(self) -> bool:
        """Whether it is a function of this process."""
        return not hasattr(self.client, "chat")

    @classmethod
    def of(cls, name: str, given: Any, price: TokenPriceOverride | None = None) -> Model:
        """A client, (client, model id there), or a function."""
        client, id = given if isinstance(given, tuple) else (given, name)
        is_async = inspect.iscoroutinefunction(client) or inspect.iscoroutinefunction(type(client).__call__)
        if not hasattr(client, "chat") and not is_async:
            raise InputError(f"{name} needs an AsyncOpenAI client or an async function. Got {type(client).__name__}")
        return cls(name, client, id, price)

    def usd(self, usage: Any) -> float | None:
        """What an answer's tokens cost at list price; cached input at its own price where there is one."""
        if self.price is None or usage is None or usage.prompt_tokens is None or usage.completion_tokens is None:
            return None
        details = getattr(usage, "prompt_tokens_details", None)
        cached = getattr(details, "cached_tokens", None) or 0
        of_cached = self.price.cached_input_usd_per_mtok
        of_input = self.price.input_usd_per_mtok
        tokens = (usage.prompt_tokens - cached) * of_input + cached * (of_input if of_cached is None else of_cached)
        return float(tokens + usage.completion_tokens * self.price.output_usd_per_mtok) / 1e6


class Trip:
    """One request on its way: every call it made, counted in the totals as it ends."""

    def __init__(self, totals: dict[str, Total]) -> None:
        self.attempts: list[Attempt] = []
        self._totals = totals

    def note(self, model: Model, purpose: str, usage: Any, error: str | None, seconds: float) -> None:
        """Write down a call that has ended."""
        attempt = Attempt(
            model.name, purpose, error, getattr(usage, "prompt_tokens", None),
            getattr(usage, "completion_tokens", None), model.usd(usage), seconds,
        )  # fmt: skip
        self.attempts.append(attempt)
        self._totals.setdefault(model.name, Total()).add(attempt)

    async def ask(
        self, model: Model, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any], purpose: str = "answer"
    ) -> tuple[Any, Answer | None]:
        """A model's ``ChatCompletion``, and of a function of this process what it said besides."""
        started = time.perf_counter()
        completion, error = None, "cancelled"
        said: Answer | None = None
        try:
            if model.is_local:
                said = await model.client(messages, options)
                completion = completion_of(model.id, said)
            else:
                completion = await model.client.chat.completions.create(model=model.id, messages=messages, **options)
            error = ""
        except Exception as failure:
            error = described(failure)
            raise
        finally:
            usage = getattr(completion, "usage", None)
            self.note(model, purpose, usage, error or None, time.perf_counter() - started)
        return completion, said

    def told(self, route: Route, version: str) -> dict[str, Any]:
        """The route as plain values that JSON can hold."""
        known = [attempt.usd for attempt in self.attempts if attempt.usd is not None]
        return {
            "model": route.model,
            "reason": route.reason,
            "score": route.score if route.score == route.score else None,
            "probability": route.probability if route.probability == route.probability else None,
            "attempts": [asdict(attempt) for attempt in self.attempts],
            "usd": sum(known) if len(known) == len(self.attempts) else None,
            "router": version,
        }


def described(failure: BaseException) -> str:
    """The kind of an error and its HTTP status: never its message, which may repeat what was asked."""
    status = getattr(failure, "status_code", None)
    return f"{type(failure).__name__}{f' {status}' if isinstance(status, int) else ''}"


def completion_of(model: str, answer: Answer) -> Any:
    """The ``ChatCompletion`` of an answer of this process."""
    try:
        from openai.types.chat import ChatCompletion
    except ImportError:
        raise MissingExtra("openai", "route") from None
    usage = None
    if answer.prompt_tokens is not None and answer.completion_tokens is not None:
        total = answer.prompt_tokens + answer.completion_tokens
        usage = {
            "prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.completion_tokens, "total_tokens": total,
        }  # fmt: skip
    return ChatCompletion.model_validate(
        {
            "id": f"local-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer.text}}
            ],
            "usage": usage,
        }
    )


def request_of(text: str, completion: Any, said: Answer | None, samples: Sequence[str] | None) -> Request:
    """What a score may be worked out of: the request and what the student made of it."""
    if said is not None:
        given = samples if said.samples is None else said.samples
        return Request(
            text, answer=said.text, probabilities=said.probabilities, logprobs=said.logprobs, samples=given,
            values=said.values,
        )  # fmt: skip
    choice = completion.choices[0]
    content = getattr(choice.logprobs, "content", None) if choice.logprobs is not None else None
    logprobs = [token.logprob for token in content] if content else None
    return Request(text, answer=choice.message.content or "", logprobs=logprobs, samples=samples)


def last_user_message(messages: Sequence[Mapping[str, Any]]) -> str:
    """The text of the last message of the user; of one in parts, its parts of text."""
    for message in reversed(messages):
        if message.get("role") == "user":
            content = message.get("content") or ""
            if isinstance(content, str):
                return content
            parts = (part.get("text", "") for part in content if part.get("type") == "text")
            return "\n".join(part for part in parts if part)
    return ""
