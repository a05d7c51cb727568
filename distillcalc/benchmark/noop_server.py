"""A server that answers at once and always the same: what is measured against it is the client's own overhead.

It knows nothing of models: as soon as a request is read in full, it writes a stream of server-sent events, as an
OpenAI-compatible server would, in one piece. The first token's text is how long it held the request [s], from reading
it to writing: what a client measures above that, the client (with the kernel below it) has added.

    python -m distillcalc.benchmark.noop_server [--tokens 8] [--hold-s 0]

writes its port as a line to stdout, and ends when stdin does, so that it never outlives who started it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from time import perf_counter
from typing import Any

from distillcalc.errors import InputError

TOKENS = 8
_HELD = b"000.0000000"  # what stands in the template where the time goes: of one width, so that no length changes
_HEADERS_END = b"\r\n\r\n"
_GOLDEN = 0.6180339887498949


@contextmanager
def served(*, tokens: int = TOKENS, hold_s: float = 0.0) -> Iterator[str]:
    """The no-op server in a process of its own on 127.0.0.1, for as long as the block lasts.

    Parameters
    ----------
    tokens : of each answer.
    hold_s : how long requests to the address with ``/held`` before ``/v1`` are held before they are answered [s],
        spread evenly from half to one and a half times that: held for the same time each, requests of a closed loop
        would go on arriving all at once.

    Yields
    ------
    The address without its path, such as ``http://127.0.0.1:40123``.

    Raises
    ------
    InputError
        If the numbers cannot be right, or the process does not start.
    """
    if tokens < 1 or not 0 <= hold_s <= 600:
        raise InputError(f"an answer has 1 token or more, after 0 to 600 s. Got {tokens!r} tokens, {hold_s!r} s")
    command = [sys.executable, "-m", __name__, "--tokens", str(tokens), "--hold-s", repr(hold_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            if not port.isdigit():
                raise InputError("the no-op server, which the client's own overhead is measured against, did not start")
            yield f"http://127.0.0.1:{int(port)}"
        finally:
            process.kill()


def answer(tokens: int) -> tuple[bytes, bytes]:
    """The answer to every request, as it goes over the wire, cut where the time of holding belongs."""
    said = [{"role": "assistant", "content": ""}, {"content": _HELD.decode()}, *({"content": " x"},) * (tokens - 1)]
    events = [_event([{"index": 0, "delta": delta, "finish_reason": None}]) for delta in said]
    events.append(_event([{"index": 0, "delta": {}, "finish_reason": "length"}]))
    usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
    events += [_event([], usage=usage), b"data: [DONE]\n\n"]
    body = b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events) + b"0\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
    before, _, after = (head + body).partition(_HELD)
    return before, after


def _event(choices: list[dict[str, Any]], **more: Any) -> bytes:
    said = {"id": "noop-1", "object": "chat.completion.chunk", "created": 0, "model": "noop", "choices": choices} | more
    return b"data: " + json.dumps(said, separators=(",", ":")).encode() + b"\n\n"


class _Connection(asyncio.Protocol):
    """One client's connection; its requests come one after the other, each with a Content-Length."""

    def __init__(self, template: tuple[bytes, bytes], hold_s: float, numbers: Iterator[int]) -> None:
        self.before, self.after = template
        self.hold_s, self.numbers = hold_s, numbers
        self.read = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        began = perf_counter()
        self.read += data
        head, found, body = self.read.partition(_HEADERS_END)
        if not found:
            return
        _, named, value = head.lower().partition(b"content-length:")
        if len(body) < (int(value.split(b"\r\n", 1)[0]) if named else 0):
            return
        self.read = b""
        if head.startswith(b"POST /held/"):
            spread = 0.5 + next(self.numbers) * _GOLDEN % 1  # equidistributed, and the same in every run
            asyncio.get_running_loop().call_later(self.hold_s * spread, self._answer, began)
        else:
            self._answer(began)

    def _answer(self, began: float) -> None:
        if not self.transport.is_closing():
            self.transport.write(self.before + b"%011.7f" % (perf_counter() - began) + self.after)


async def _serve(tokens: int, hold_s: float) -> None:
    loop = asyncio.get_running_loop()
    template, numbers = answer(tokens), count()
    server = await loop.create_server(lambda: _Connection(template, hold_s, numbers), "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    server.close()


def main() -> None:
    """Serve until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--hold-s", type=float, default=0.0)
    given = parser.parse_args()
    asyncio.run(_serve(given.tokens, given.hold_s))


if __name__ == "__main__":
    main()
