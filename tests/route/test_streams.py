"""An answer replayed as chunks is the answer: openai's own accumulator puts it together again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion

from distillcalc.catalog.prices import TokenPriceOverride
from distillcalc.route.calls import Answer, Model, Trip
from distillcalc.route.requests import Route
from distillcalc.route.streams import RoutedStream, replayed

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"a": 1}'}}


def completion(*choices: dict[str, Any], **more: Any) -> ChatCompletion:
    told = [
        {"index": i, "finish_reason": "stop", "message": {"role": "assistant", **message}}
        for i, message in enumerate(choices)
    ]
    base = {"id": "x", "object": "chat.completion", "created": 7, "model": "m", "usage": USAGE}
    return ChatCompletion.model_validate({**base, "choices": told, **more})


def chunks(whole: ChatCompletion, usage: bool) -> list[Any]:
    async def main() -> list[Any]:
        return [chunk async for chunk in RoutedStream(replayed(whole, usage=usage), dict)]

    return asyncio.run(main())


@pytest.mark.parametrize(
    "choices",
    [
        [{"content": "one two"}],
        [{"content": "one"}, {"content": "two"}],
        [{"content": None, "tool_calls": [CALL, {**CALL, "id": "c2"}]}],
        [{"content": None, "refusal": "no"}],
        [{"content": ""}],
    ],
)
def test_the_accumulator_of_openai_puts_it_together_again(choices: list[dict[str, Any]]) -> None:
    whole = completion(*choices, system_fingerprint="fp")
    state = ChatCompletionStreamState()
    for chunk in chunks(whole, usage=True):
        state.handle_chunk(chunk)
    again = state.get_final_completion()
    assert again.usage is not None
    assert again.usage.total_tokens == 5
    assert (again.id, again.model, again.created, again.system_fingerprint) == ("x", "m", 7, "fp")
    for one, other in zip(again.choices, whole.choices, strict=True):
        assert (one.message.content or "") == (other.message.content or "")
        assert one.message.refusal == other.message.refusal
        assert one.finish_reason == other.finish_reason
        calls = [call.function.arguments for call in one.message.tool_calls or []]  # type: ignore[union-attr]
        assert calls == [call.function.arguments for call in other.message.tool_calls or []]  # type: ignore[union-attr]


def test_the_usage_is_told_to_who_asked() -> None:
    assert all(chunk.usage is None for chunk in chunks(completion({"content": "x"}), usage=False))
    assert chunks(completion({"content": "x"}, usage=None), usage=True)[-1].choices[0].finish_reason == "stop"


def test_cached_input_has_its_own_price() -> None:
    async def nobody(messages: Any, options: Any) -> Answer:
        raise AssertionError

    def usd(price: TokenPriceOverride | None, **usage: Any) -> float | None:
        found = completion(usage={**USAGE, "prompt_tokens": 1_000_000, **usage}).usage
        return Model.of("m", nobody, price).usd(found)

    # A million tokens in, 400,000 of them cached: 0.6 x 10 + 0.4 x 1, and two tokens out at 20 a million.
    cached = {"prompt_tokens_details": {"cached_tokens": 400_000}}
    price = TokenPriceOverride(input_usd_per_mtok=10, output_usd_per_mtok=20, cached_input_usd_per_mtok=1)
    assert usd(price, **cached) == pytest.approx(6.4 + 40e-6)
    assert usd(price.model_copy(update={"cached_input_usd_per_mtok": None}), **cached) == pytest.approx(10 + 40e-6)
    assert usd(None) is None
    assert Model.of("m", nobody, price).usd(None) is None


def test_what_is_told_of_a_trip_holds_no_nan() -> None:
    told = Trip({}).told(Route("m", "why", float("nan")), "v")
    assert (told["score"], told["probability"], told["usd"], told["attempts"]) == (None, None, 0, [])
