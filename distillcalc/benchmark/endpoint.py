"""An OpenAI-compatible endpoint as what a benchmark measures: a served student, or a hosted teacher."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np

from distillcalc.benchmark.load import Load, OpenLoop, Prompt
from distillcalc.benchmark.sse import tokens_by_chunk
from distillcalc.benchmark.traces import OK, Traces
from distillcalc.benchmark.wire import Address, Exchange, exchange
from distillcalc.distill.task import refuse_unwritable
from distillcalc.distill.teacher import host_of, is_local
from distillcalc.errors import InputError

# Fields that Endpoint itself sets: extra_body must not. More than one choice would be taken for one answer.
OWN_FIELDS = {
    "model", "messages", "prompt", "stream", "stream_options", "temperature", "max_tokens", "max_completion_tokens",
    "ignore_eos", "n", "best_of",
}  # fmt: skip
_NOTE_LENGTH = 300


@dataclass(frozen=True, eq=False)
class Endpoint:
    """Streams from an OpenAI-compatible endpoint and says when each token came.

    Parameters
    ----------
    base_url : such as http://127.0.0.1:8000/v1. A redirect is not followed, no proxy is used.
    model : the name that is sent.
    key_env : environment variable that holds the key; an endpoint on this machine needs none.
    chat : chat completions; else plain completions, which send the prompt without a chat template.
    ignore_eos : for servers that take it (vLLM, SGLang): an answer that is wanted whole does not end earlier.
    temperature : None leaves it out, for models that refuse it.
    max_tokens_field : what the server calls the limit of output.
    extra_body : other fields of every request.
    keep_texts : keep what was written.
    total_timeout_s : the longest time for one request, however lively it is [s].
    """

    base_url: str
    model: str
    key_env: str | None = field(default=None, kw_only=True)
    chat: bool = field(default=True, kw_only=True)
    ignore_eos: bool = field(default=False, kw_only=True)
    temperature: float | None = field(default=0.0, kw_only=True)
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = field(default="max_tokens", kw_only=True)
    extra_body: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), kw_only=True)
    keep_texts: bool = field(default=False, kw_only=True)
    total_timeout_s: float = field(default=3_600.0, kw_only=True)
    _notes: list[str] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        _check_url(self.base_url)
        if not self.model:
            raise InputError("model must be the name that the endpoint knows the model by. Got an empty one")
        if self.key_env is None and not is_local(host_of(self.base_url)):
            raise InputError(
                f"name the environment variable that holds the key of {host_of(self.base_url)}: key_env. Only an "
                "endpoint on this machine needs none"
            )
        if taken := sorted(OWN_FIELDS & self.extra_body.keys()):
            raise InputError(f"extra_body must not set {', '.join(taken)}: the benchmark does")
        try:
            refuse_unwritable(dict(self.extra_body), "extra_body")
        except ValueError as error:
            raise InputError(str(error)) from error
        _check_seconds("total_timeout_s", self.total_timeout_s)

    @property
    def name(self) -> str:
        """The model's name, as a record tells it."""
        return self.model

    @property
    def notes(self) -> tuple[str, ...]:
        """What the traces of the last run must be read with, such as tokens that the server did not count."""
        return tuple(self._notes)

    def run(self, prompts: Sequence[Prompt], load: Load, *, timeout_s: float = 120.0) -> Traces:
        """Send all prompts under the load, in their order, and say what was seen of each.

        Nothing that happens to a request raises: its outcome tells it ("timeout", "http 503", "connection refused",
        "connection lost", "stream ended early", "not a stream", "no output", "error in the stream: CODE", ...). A new
        connection is made when none is idle, and is part of its request's time.

        Parameters
        ----------
        timeout_s : a request is given up once it brought no output for so long [s]; comments and empty deltas are none.

        Raises
        ------
        InputError
            If there is nothing to send, not one moment for each prompt, or no key.
        MissingExtra
            If httptools is not installed.
        """
        _check_seconds("timeout_s", timeout_s)
        if not prompts:
            raise InputError("there are no prompts to send")
        if isinstance(load, OpenLoop) and len(load.due_s) != len(prompts):
            raise InputError(f"due_s must be one moment for each of {len(prompts)} prompts. Got {len(load.due_s)}")
        key = self._key()
        parts = urlsplit(self.base_url)
        tls = parts.scheme == "https"
        address = Address(parts.hostname or "", parts.port or (443 if tls else 80), tls)
        exchanges, began = exchange(
            address, [self._request(prompt, key) for prompt in prompts], load, timeout_s=timeout_s,
            total_timeout_s=self.total_timeout_s, keep_texts=self.keep_texts,
        )  # fmt: skip
        self._notes[:] = _notes(exchanges, key)
        return _traces(exchanges, began, keep_texts=self.keep_texts)

    def body(self, prompt: Prompt) -> dict[str, Any]:
        """What is sent for a prompt."""
        said: dict[str, Any] = {"messages": prompt.chat} if self.chat else {"prompt": prompt.text}
        body: dict[str, Any] = {"model": self.model, **said}
        body |= {self.max_tokens_field: prompt.output_tokens, "stream": True, "stream_options": {"include_usage": True}}
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.ignore_eos and prompt.whole:
            body["ignore_eos"] = True
        return body | dict(self.extra_body)

    def _key(self) -> str:
        if self.key_env is None:
            return ""
        key = os.environ.get(self.key_env, "").strip()
        if not key or not (key.isascii() and key.isprintable()) or " " in key:
            raise InputError(f"the environment variable {self.key_env} must hold the key of {host_of(self.base_url)}")
        return key

    def _request(self, prompt: Prompt, key: str) -> bytes:
        parts = urlsplit(self.base_url)
        body = json.dumps(self.body(prompt)).encode()
        path = parts.path.rstrip("/") + ("/chat/completions" if self.chat else "/completions")
        lines = [
            f"POST {path} HTTP/1.1", f"Host: {parts.netloc}", "Content-Type: application/json",
            "Accept: text/event-stream", "Accept-Encoding: identity", "User-Agent: distillcalc",
            f"Content-Length: {len(body)}",
        ]  # fmt: skip
        if key:
            lines.append(f"Authorization: Bearer {key}")
        return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InputError(f"base_url is written https://host/v1, with nothing after its path. Got {url!r}")
    if parts.username or parts.password:
        raise InputError("base_url must not hold a name or a key: name the key's variable in key_env")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise InputError(f"base_url must be written in ASCII, without spaces. Got {url!r}")
    try:
        _ = parts.port
    except ValueError as error:
        raise InputError(f"base_url names a port that is none. Got {url!r}") from error


def _check_seconds(name: str, seconds: float) -> None:
    if not (math.isfinite(seconds) and seconds > 0):
        raise InputError(f"{name} must be a time above 0 s. Got {seconds!r}")


def _traces(exchanges: Sequence[Exchange], began: float, *, keep_texts: bool) -> Traces:
    chunks = [tokens_by_chunk(one.answer.lengths, one.answer.output_tokens) for one in exchanges]
    ok = np.array([one.outcome == OK for one in exchanges])
    last = np.array([one.answer.chunk_s[-1] if one.answer.chunk_s else math.nan for one in exchanges])
    return Traces(
        due_s=np.array([one.due_s for one in exchanges]) - began,
        sent_s=np.array([one.sent_s for one in exchanges]) - began,
        first_s=np.array([one.answer.chunk_s[0] if one.answer.chunk_s else math.nan for one in exchanges]) - began,
        last_s=np.where(ok, last, [one.ended_s for one in exchanges]) - began,
        input_tokens=np.array([one.answer.input_tokens for one in exchanges], dtype=np.int64),
        output_tokens=np.array([piece.sum() for piece in chunks], dtype=np.int64),
        outcome=tuple(one.outcome for one in exchanges),
        chunk_s=np.concatenate([np.asarray(one.answer.chunk_s, dtype=float) for one in exchanges]) - began,
        chunk_tokens=np.concatenate(chunks),
        offsets=np.cumsum([0, *map(len, chunks)], dtype=np.int64),
        texts=tuple("".join(one.answer.pieces) for one in exchanges) if keep_texts else (),
    )


def _notes(exchanges: Sequence[Exchange], key: str) -> list[str]:
    answered = [one for one in exchanges if one.outcome == OK]
    notes = []
    if uncounted := sum(not one.answer.output_tokens for one in answered):
        notes.append(
            f"the server did not count the tokens of {uncounted:,} of {len(answered):,} answers: each event with "
            "output is taken for one token"
        )
    if hidden := sum(one.answer.hidden_tokens for one in answered):
        notes.append(
            f"{hidden:,} output tokens are thoughts that were not shown: they came before the first token that was, so "
            "that times per token are too short"
        )
    for outcome, times in Counter(one.outcome for one in exchanges if one.outcome != OK).most_common():
        said = next((text for one in exchanges if one.outcome == outcome and (text := _said(one))), "")
        if said:
            said = " ".join((said.replace(key, "***") if key else said).split())[:_NOTE_LENGTH]
            notes.append(f"{outcome} ({times:,} times); the server said: {said}")
    return notes


def _said(one: Exchange) -> str:
    """What a server said was wrong."""
    text = one.problem.decode(errors="replace")
    try:
        said = json.loads(text)
        error = said.get("error") or said
        return str(error.get("message") or error.get("detail") or text)
    except (ValueError, AttributeError):
        return one.answer.message or text
