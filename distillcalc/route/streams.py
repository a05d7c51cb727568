"""Streams of a routed answer: one passed through and counted, or a held-back answer replayed as chunks."""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from distillcalc.errors import MissingExtra
from distillcalc.route.calls import Model, Trip, described


class RoutedStream:
    """Chunks of a routed answer, with what an ``openai.AsyncStream`` is used for.

    Parameters
    ----------
    chunks : where they come from: an open stream, or an iterator.
    told : what ``distillcalc_route`` says, asked when it is read.
    on_chunk : is shown every chunk.
    on_end : is told once that the stream has ended, and why where it was not its end.
    hide : whether a chunk is kept from the reader.
    """

    def __init__(
        self,
        chunks: Any,
        told: Callable[[], dict[str, Any]],
        *,
        on_chunk: Callable[[Any], None] | None = None,
        on_end: Callable[[str | None], None] | None = None,
        hide: Callable[[Any], bool] | None = None,
    ) -> None:
        self._stream, self.tell = chunks, told
        self._chunks = chunks.__aiter__()
        self._on_chunk, self._on_end, self._hide = on_chunk, on_end, hide
        self._ended = False

    @property
    def distillcalc_route(self) -> dict[str, Any]:
        """Which model answers, why, and every call by now."""
        return self.tell()

    @property
    def response(self) -> Any:
        """The HTTP response of a stream that is passed through; None of one that is replayed."""
        return getattr(self._stream, "response", None)

    def __aiter__(self) -> RoutedStream:
        return self

    async def __anext__(self) -> Any:
        while True:
            try:
                chunk = await self._chunks.__anext__()
            except StopAsyncIteration:
                self._end(None)
                raise
            except Exception as failure:
                self._end(described(failure))
                raise
            except BaseException:
                self._end("cancelled")
                await self.close()
                raise
            if self._on_chunk is not None:
                self._on_chunk(chunk)
            if self._hide is None or not self._hide(chunk):
                return chunk

    def _end(self, why: str | None) -> None:
        if not self._ended:
            self._ended = True
            if self._on_end is not None:
                self._on_end(why)

    async def close(self) -> None:
        """Leave off; what the server has written by then may be billed."""
        self._end("left before its end")
        closing = getattr(self._stream, "aclose", None) or getattr(self._stream, "close", None)
        done = closing() if closing is not None else None
        if inspect.isawaitable(done):  # not of every library's streams
            await done

    async def __aenter__(self) -> RoutedStream:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.close()


class Metered:
    """The usage of a stream, which its last chunk tells, noted when it ends.

    Parameters
    ----------
    trip, model : which call it is.
    asks : whether the usage was asked for here and not by the reader, who then never sees that chunk.
    """

    def __init__(self, trip: Trip, model: Model, *, asks: bool) -> None:
        self._trip, self._model, self._asks = trip, model, asks
        self._started = time.perf_counter()
        self._usage: Any = None

    def chunk(self, chunk: Any) -> None:
        """Read a chunk."""
        self._usage = getattr(chunk, "usage", None) or self._usage

    def hides(self, chunk: Any) -> bool:
        """Whether a chunk holds the usage alone, and nobody asked for it."""
        return self._asks and not chunk.choices and getattr(chunk, "usage", None) is not None

    def end(self, why: str | None) -> None:
        """Note the call."""
        self._trip.note(self._model, "answer", self._usage, why, time.perf_counter() - self._started)


async def replayed(completion: Any, *, usage: bool) -> AsyncIterator[Any]:
    """A whole answer as the chunks that a stream of it would have: role, content, end, and the usage if asked for."""
    try:
        from openai.types.chat import ChatCompletionChunk
    except ImportError:
        raise MissingExtra("openai", "route") from None
    base = {
        "id": completion.id, "object": "chat.completion.chunk", "created": completion.created,
        "model": completion.model, "service_tier": completion.service_tier,
        "system_fingerprint": completion.system_fingerprint,
    }  # fmt: skip

    def chunk(index: int, delta: dict[str, Any], finish_reason: str | None = None, logprobs: Any = None) -> Any:
        choice = {"index": index, "delta": delta, "finish_reason": finish_reason, "logprobs": logprobs}
        return ChatCompletionChunk.model_validate({**base, "choices": [choice]})

    for choice in completion.choices:
        said = choice.message.model_dump(exclude_none=True, exclude={"role"})
        calls = said.pop("tool_calls", [])
        if calls:
            said["tool_calls"] = [{**call, "index": place} for place, call in enumerate(calls)]
        yield chunk(choice.index, {"role": "assistant", "content": ""})
        if said:
            logprobs = None if choice.logprobs is None else choice.logprobs.model_dump()
            yield chunk(choice.index, said, logprobs=logprobs)
        yield chunk(choice.index, {}, choice.finish_reason)
    if usage and completion.usage is not None:
        told = completion.usage.model_dump()
        yield ChatCompletionChunk.model_validate({**base, "choices": [], "usage": told})
