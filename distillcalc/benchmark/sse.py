"""What one streamed answer says, as its bytes come: moments of output, tokens as counted, its end, an error.

The bytes are server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) that hold chunks of
OpenAI's chat or text completions. How they travel is the business of :mod:`distillcalc.benchmark.wire`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.benchmark.traces import OK

NOT_A_STREAM = "not a stream"
ENDED_EARLY = "stream ended early"
NO_OUTPUT = "no output"
UNREADABLE = "unreadable event"
_MOST = 2**31  # tokens of a request
_PLAIN = re.compile(r"[\w.-]{1,40}")


class Answer:
    """One answer, read as it comes.

    Attributes
    ----------
    chunk_s : moment of each event that brought output, as given to :meth:`read`. A role alone, an empty delta and a
        comment are no output; a thought (``reasoning_content``), a refusal and the arguments of a tool call are.
    lengths : characters that each of them brought.
    pieces : the answer's text, thoughts left out, if it is kept.
    input_tokens, output_tokens : as the server counted them at last; 0 where it did not say.
    hidden_tokens : of output_tokens, those of thoughts that were never shown.
    spoke : an event came, of whatever kind.
    done : ``[DONE]`` came, after which nothing follows.
    error : an error object came, or what cannot be read; empty otherwise.
    message : what the error object said.
    """

    __slots__ = (
        "_data", "_finish_s", "_kept", "_left", "_reasoning_tokens", "_thought", "chunk_s", "done", "error",
        "input_tokens", "lengths", "message", "output_tokens", "pieces", "spoke",
    )  # fmt: skip

    def __init__(self, *, keep_text: bool = False) -> None:
        self.chunk_s: list[float] = []
        self.lengths: list[int] = []
        self.pieces: list[str] = []
        self.input_tokens = self.output_tokens = 0
        self.done = False
        self.error = self.message = ""
        self._kept = keep_text
        self._left = b""  # a line that has not ended yet
        self._data: list[bytes] = []  # of an event that has not ended yet
        self._finish_s = math.nan
        self._reasoning_tokens = 0
        self.spoke = self._thought = False

    @property
    def is_over(self) -> bool:
        """Nothing of interest can follow."""
        return self.done or bool(self.error)

    @property
    def hidden_tokens(self) -> int:
        """Output tokens of thoughts that were counted but not shown: they came before the first that was."""
        return 0 if self._thought else min(self._reasoning_tokens, self.output_tokens)

    def read(self, data: bytes, at: float) -> None:
        """Read what came next; it may end anywhere, within a character even."""
        *lines, self._left = (self._left + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:])
            elif self._data and line in (b"", b"\r"):
                self._event(at)

    def end(self, at: float) -> str:
        """The response has ended as it should: the outcome.

        Servers may leave out ``[DONE]``, or the empty line after the last event; but an answer that neither says that
        it is done nor why it finished was broken off.
        """
        if not self.is_over:
            self.read(b"\n\n", at)
            if self.error == UNREADABLE:  # broken off within an event
                self.error = ""
        if self.error:
            return self.error
        if not self.spoke:
            return NOT_A_STREAM
        if not self.done and math.isnan(self._finish_s):
            return ENDED_EARLY
        if not self.chunk_s and self.output_tokens and not math.isnan(self._finish_s):
            # Tokens without text (a lone byte of a character, an end mark): they had come when it finished.
            self.chunk_s.append(self._finish_s)
            self.lengths.append(1)
        return OK if self.chunk_s else NO_OUTPUT

    def _event(self, at: float) -> None:
        raw, self._data = b"\n".join(self._data).strip(), []
        if self.is_over:
            return
        self.spoke = True
        if raw == b"[DONE]":
            self.done = True
            return
        try:
            self._said(json.loads(raw.decode()), at)
        except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError):
            self.error = UNREADABLE

    def _said(self, said: dict[str, Any], at: float) -> None:
        if (error := said.get("error")) or said.get("object") == "error":
            details = error if isinstance(error, dict) else said | {"message": error or said.get("message")}
            self.message = str(details.get("message") or "")
            kinds = (str(details.get(name) or "") for name in ("code", "type"))
            kind = next((kind for kind in kinds if _PLAIN.fullmatch(kind)), "")
            self.error = f"error in the stream{': ' + kind if kind else ''}"
            return
        if usage := said.get("usage"):
            self.input_tokens = _count(usage.get("prompt_tokens"))
            self.output_tokens = _count(usage.get("completion_tokens"))
            self._reasoning_tokens = _count((usage.get("completion_tokens_details") or {}).get("reasoning_tokens"))
        for choice in said.get("choices") or ():
            delta = choice.get("delta") or choice  # plain completions have their text in the choice itself
            text = delta.get("content") or delta.get("text") or ""
            thought = delta.get("reasoning_content") or delta.get("reasoning") or ""
            length = len(text) + len(thought) + len(delta.get("refusal") or "")
            if tools := delta.get("tool_calls"):
                length += len(json.dumps(tools))
            if thought:
                self._thought = True
            if length:
                self.chunk_s.append(at)
                self.lengths.append(length)
                if self._kept and isinstance(text, str):
                    self.pieces.append(text)
            if choice.get("finish_reason"):
                self._finish_s = at


def _count(number: Any) -> int:
    count = int(number or 0)
    if not 0 <= count <= _MOST:
        raise ValueError(f"no count of tokens: {count}")
    return count


def tokens_by_chunk(lengths: Sequence[int], counted: int) -> NDArray[np.int64]:
    """How many tokens each chunk brought, by the number that the server counted in all.

    One each if there are as many, or if the server counted none; else in proportion to their characters, in whole
    numbers: at least one each where there are enough.

    Parameters
    ----------
    lengths : characters of each chunk, shape (chunks,).
    counted : tokens of all chunks together; 0 if that is not known.

    Returns
    -------
    Tokens, shape (chunks,); their sum is ``counted``, if that is known. The first chunk has at least one.
    """
    chunks = len(lengths)
    if counted <= 0 or chunks in (0, counted):
        return np.ones(chunks, dtype=np.int64)
    reached = np.cumsum(np.asarray(lengths, dtype=np.int64))
    if counted > chunks:
        i = np.arange(chunks)
        so_far = np.maximum.accumulate(np.maximum(counted * reached // reached[-1] - i, 1)) + i  # at least one each,
        so_far = np.minimum(so_far, counted - chunks + 1 + i)  # for those to come, too
    else:
        so_far = -(-counted * reached // reached[-1])
    return np.asarray(np.diff(so_far, prepend=0), dtype=np.int64)
