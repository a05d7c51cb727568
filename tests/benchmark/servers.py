"""A server on loopback, in a process of its own, that answers each request as the request's own prompt orders.

    with programmed() as server:
        Prompt(Program(tokens=3, ttft_s=0.1).text, ...)
        server.record()  # when each request came and each chunk left, on the clock that all processes share

It writes HTTP by hand, so that it can be as wrong as it is told to be. It stops when its stdin ends.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NEVER_S = 60.0  # longer than any test waits


@dataclass(frozen=True)
class Program:
    """What the server does with a request; ``id`` finds it again in the record.

    ``tokens`` come ``per_chunk`` at a time, ``gap_s`` after one another, the first after ``ttft_s``. After so many
    chunks it stalls, cuts the connection, ends the response properly, or sends an error object and ends.
    """

    id: int = 0
    tokens: int = 3
    per_chunk: int = 1
    ttft_s: float = 0.0
    gap_s: float = 0.0
    status: int = 200
    problem: str = '{"error": {"message": "the server said no"}}'
    location: str = ""
    role_first: bool = True
    empty: int = 0  # deltas with nothing in them, between the role and the first token
    thoughts: int = 0  # of the tokens, the first so many are reasoning_content
    hidden: int = 0  # tokens that are counted as thoughts and never sent
    usage: bool = True
    finish: bool = True
    done: bool = True
    stall_after: int | None = None
    cut_after: int | None = None
    end_after: int | None = None
    error_after: int | None = None
    error: str = '{"error": {"message": "out of memory", "type": "server_error", "code": 500}}'
    raw: str = ""  # instead of the events
    crlf: bool = False
    comments: bool = False  # a keep-alive comment before each event, and while it stalls
    split: int = 0  # bytes that are written at a time; 0 for whole events
    framing: str = "chunked"  # or "length", or "close": until the connection ends
    keep_alive: bool = True
    lingers_s: float = 0.0  # between [DONE] and the end of the response
    hint: bool = False  # a response 103 before the real one

    @property
    def text(self) -> str:
        """As a prompt orders it."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Server:
    """Where the server is, and what it says of what it did."""

    base_url: str

    def record(self) -> dict[str, Any]:
        """Since the last record: requests by the id of their program, with ``received``, ``sent`` (moment of each chunk
        with output), ``headers`` and ``body``; ``most_in_flight``; ``connections``.
        """
        with urllib.request.urlopen(self.base_url.removesuffix("/v1") + "/record", timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
        found["requests"] = {int(one): what for one, what in found["requests"].items()}
        return found


@contextmanager
def programmed() -> Iterator[Server]:
    """The server, for as long as the block lasts."""
    command = [sys.executable, "-m", "tests.benchmark.servers"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield Server(f"http://127.0.0.1:{int(process.stdout.readline())}/v1")
        finally:
            process.kill()


class Serving:
    """The server's side."""

    def __init__(self) -> None:
        self.requests: dict[int, dict[str, Any]] = {}
        self.in_flight = self.most_in_flight = self.connections = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self.one(reader, writer):
                pass
        with suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; whether another may follow."""
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        received = time.perf_counter()
        if first.startswith("GET /record"):
            said = {"requests": self.requests, "most_in_flight": self.most_in_flight, "connections": self.connections}
            body = json.dumps(said).encode()
            self.requests, self.most_in_flight, self.connections = {}, self.in_flight, 0
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
            return False
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        prompt = body["prompt"] if first.startswith("POST /v1/completions") else body["messages"][-1]["content"]
        program = Program(**json.loads(prompt))
        record: dict[str, Any] = {"received": received, "sent": [], "headers": headers, "body": body, "path": first}
        self.requests[program.id] = record
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await Answering(program, record, writer, "prompt" in body).all()
        finally:
            self.in_flight -= 1


class Answering:
    """One answer."""

    def __init__(self, program: Program, record: dict[str, Any], writer: asyncio.StreamWriter, plain: bool) -> None:
        self.program, self.record, self.writer, self.plain = program, record, writer, plain

    async def all(self) -> bool:
        program = self.program
        await asyncio.sleep(program.ttft_s)
        if program.hint:
            self.writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n")
        if program.status != 200:
            where = f"Location: {program.location}\r\n" if program.location else ""
            self.head(f"Content-Length: {len(program.problem)}\r\n{where}")
            self.writer.write(program.problem.encode())
            return program.keep_alive
        if program.framing == "length":  # all at once: its length must be known
            whole = "".join([event async for event in self.events()]).encode()
            self.head(f"Content-Length: {len(whole)}\r\n")
            await self.write(whole)
            return program.keep_alive
        chunked = program.framing == "chunked"
        self.head("Transfer-Encoding: chunked\r\n" if chunked else "")
        async for event in self.events():
            data = event.encode()
            await self.write(b"%x\r\n%s\r\n" % (len(data), data) if chunked else data)
        await asyncio.sleep(program.lingers_s)
        if chunked:
            self.writer.write(b"0\r\n\r\n")
        return chunked and program.keep_alive

    def head(self, more: str) -> None:
        keep = "keep-alive" if self.program.keep_alive and self.program.framing != "close" else "close"
        head = f"HTTP/1.1 {self.program.status} X\r\nContent-Type: text/event-stream\r\nConnection: {keep}\r\n"
        self.writer.write(f"{head}{more}\r\n".encode())

    async def write(self, data: bytes) -> None:
        step = self.program.split or len(data)
        for start in range(0, len(data), step):
            self.writer.write(data[start : start + step])
            await self.writer.drain()
            if self.program.split:
                await asyncio.sleep(0.0005)  # so that pieces leave one by one

    async def events(self) -> Any:
        """The events' text, each at its time."""
        program = self.program
        if program.raw:
            yield program.raw
            return
        if program.role_first and not self.plain:
            yield self.event([{"delta": {"role": "assistant", "content": ""}}])
        for _ in range(program.empty):
            yield self.event([self.choice("")])
        chunks = -(-program.tokens // program.per_chunk)
        began = time.perf_counter()
        for i in range(chunks):
            await self.misbehave(i)
            if i == program.end_after:
                return
            if i == program.error_after:
                yield self.line(program.error)
                return
            await asyncio.sleep(max(0.0, began + i * program.gap_s - time.perf_counter()))
            count = min(program.per_chunk, program.tokens - i * program.per_chunk)
            choice = self.choice(" word" * count, thought=i < program.thoughts)
            self.record["sent"].append(time.perf_counter())
            yield self.event([choice])
        await self.misbehave(chunks)
        if program.finish:
            yield self.event([{**self.choice(""), "finish_reason": "length"}])
        if program.usage:
            tokens = program.tokens + program.hidden
            details = {"completion_tokens_details": {"reasoning_tokens": program.hidden}} if program.hidden else {}
            yield self.event([], usage={"prompt_tokens": 11, "completion_tokens": tokens, **details})
        if program.done:
            yield self.line("[DONE]")

    async def misbehave(self, i: int) -> None:
        if i == self.program.cut_after:
            await self.writer.drain()
            self.writer.transport.abort()
            raise ConnectionError
        if i == self.program.stall_after:
            until = time.perf_counter() + NEVER_S
            while time.perf_counter() < until and not self.writer.is_closing():
                if self.program.comments:
                    comment = b": waiting\n\n"
                    await self.write(b"%x\r\n%s\r\n" % (len(comment), comment))
                await asyncio.sleep(0.02)
            raise ConnectionError

    def choice(self, text: str, *, thought: bool = False) -> dict[str, Any]:
        if self.plain:
            return {"index": 0, "text": text, "finish_reason": None}
        return {"index": 0, "delta": {"reasoning_content" if thought else "content": text}, "finish_reason": None}

    def event(self, choices: list[dict[str, Any]], **more: Any) -> str:
        return self.line(json.dumps({"id": "x", "choices": choices, **more}))

    def line(self, data: str) -> str:
        end = "\r\n" if self.program.crlf else "\n"
        comment = f": keep-alive{end}{end}" if self.program.comments else ""
        return f"{comment}data: {data}{end}{end}"


async def main() -> None:
    serving = Serving()
    server = await asyncio.start_server(serving.connected, "127.0.0.1", 0, backlog=1024, limit=1 << 20)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)


if __name__ == "__main__":
    asyncio.run(main())
