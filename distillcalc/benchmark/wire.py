"""Requests sent over HTTP/1.1 when a load wants them, and the moments at which their answers' bytes came.

One event loop, no task for each request: a moment is taken as soon as the kernel's bytes are in hand, before anything
of them is read. Nothing is retried and no redirect is followed. Connections are kept for the next request, as many as
the load needs; a new one is part of its request's time. No proxy is used.
"""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from distillcalc.benchmark.load import ClosedLoop, Load, OpenLoop
from distillcalc.benchmark.sse import Answer
from distillcalc.benchmark.traces import TIMEOUT
from distillcalc.errors import MissingExtra

CONNECTION_LOST = "connection lost"
# Servers close idle connections after some seconds (uvicorn after 5): ours are closed before, since a request on one
# that is just being closed is lost.
IDLE_S = 3.0
DRAIN_S = 1.0  # for the end of a response whose outcome is known
SPIN_S = 1.5e-3  # a selector wakes up to a millisecond late: ours is woken earlier, and asks again until it is time
AT_ONCE = 32  # requests that are sent before answers are looked at again
_PROBLEM = 4096  # bytes kept of a response that is no stream


@dataclass(frozen=True)
class Address:
    """Where requests go: a host, its port, and whether the connection is encrypted."""

    host: str
    port: int
    tls: bool


@dataclass(eq=False)
class Exchange:
    """One request and what became of it. Moments are those of ``time.perf_counter``.

    Parameters
    ----------
    due_s, sent_s : when it was to be sent and when it was; a connection that had to be made first comes after.
    ended_s : when its outcome was known.
    outcome : "ok" or what went wrong; empty while that is open.
    answer : what was read.
    problem : the beginning of a response that is no stream.
    """

    payload: bytes = field(repr=False)
    answer: Answer = field(repr=False)
    due_s: float = math.nan
    sent_s: float = math.nan
    ended_s: float = math.nan
    outcome: str = ""
    problem: bytes = b""
    _connection: _Connection | None = field(default=None, repr=False)
    _connecting: asyncio.Task[None] | None = field(default=None, repr=False)
    _timer: asyncio.TimerHandle | None = field(default=None, repr=False)


def exchange(
    address: Address, payloads: Sequence[bytes], load: Load, *, timeout_s: float, total_timeout_s: float,
    keep_texts: bool = False,
) -> tuple[list[Exchange], float]:  # fmt: skip
    """Send requests under a load and read their answers.

    In a closed loop the next request is sent when one has ended, so that ``concurrency`` are in flight. In an open loop
    each is sent when it is due, on a connection of its own if none is idle.

    Parameters
    ----------
    payloads : whole HTTP requests, in the order in which they are sent.
    timeout_s : the longest time without any output, and from sending to the first [s].
    total_timeout_s : the longest time from sending to the end [s].

    Returns
    -------
    The exchanges, in the order of the payloads, and the moment at which the run began.

    Raises
    ------
    MissingExtra
        If httptools is not installed.
    """
    try:
        import httptools
    except ImportError as error:
        raise MissingExtra("httptools", "distill") from error
    run = _Run(
        address, [Exchange(payload, Answer(keep_text=keep_texts)) for payload in payloads], load, timeout_s,
        total_timeout_s, httptools.HttpResponseParser, httptools.HttpParserError,
    )  # fmt: skip
    _run_anywhere(run)
    return run.exchanges, run.began


def _run_anywhere(run: _Run) -> None:
    """Here, or in a thread of its own where a loop is running here already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(run.everything())
        return
    failed: list[BaseException] = []
    finished = threading.Event()

    def work() -> None:
        try:
            asyncio.run(run.everything())
        except BaseException as error:  # noqa: BLE001  # raised again where it is waited for
            failed.append(error)
        finally:
            finished.set()

    thread = threading.Thread(target=work, name="distillcalc benchmark", daemon=True)
    thread.start()
    try:
        finished.wait()  # a join that is interrupted takes the thread for ended
    except BaseException:  # interrupted: nothing more is sent
        run.stop_from_outside()
        finished.wait()
        raise
    finally:
        thread.join()
    if failed:
        raise failed[0]


class _Run:
    """All exchanges of one run, and the connections they share."""

    def __init__(
        self, address: Address, exchanges: list[Exchange], load: Load, timeout_s: float, total_timeout_s: float,
        parser: Callable[[Any], Any], parser_error: type[Exception],
    ) -> None:  # fmt: skip
        self.address, self.exchanges, self.load = address, exchanges, load
        self.timeout_s, self.total_timeout_s = timeout_s, total_timeout_s
        self.parser, self.parser_error = parser, parser_error
        self.began = math.nan
        self.sent = self.ended = 0
        self.open: set[_Connection] = set()
        self.idle: list[tuple[_Connection, float]] = []
        self.hosts: list[str] = []
        self.tls: ssl.SSLContext | None = None
        self.loop: asyncio.AbstractEventLoop
        self.over: asyncio.Future[None]

    async def everything(self) -> None:
        """Send all and wait for the last."""
        self.loop = asyncio.get_running_loop()
        self.over = self.loop.create_future()
        if self.address.tls:
            self.tls = ssl.create_default_context()
            self.tls.set_alpn_protocols(["http/1.1"])
        # Asked once: asyncio would ask in a thread for each connection.
        with suppress(OSError):
            found = await self.loop.getaddrinfo(self.address.host, self.address.port, type=socket.SOCK_STREAM)
            self.hosts = list(dict.fromkeys(str(one[4][0]) for one in found))
        self.began = perf_counter()
        if isinstance(self.load, OpenLoop):
            self._tick(self.load.due_s.tolist())
        else:
            for _ in range(min(self.load.concurrency, len(self.exchanges))):
                self._next()
        try:
            await self.over
        finally:
            for connection in list(self.open):
                connection.transport.abort()
            await asyncio.sleep(0)  # transports are closed in the loop's next turn

    def stop_from_outside(self) -> None:
        """End the run from another thread."""
        with suppress(AttributeError, RuntimeError):  # not begun, or over
            self.loop.call_soon_threadsafe(self.over.cancel)

    def _tick(self, due_s: list[float]) -> None:
        """Send what is due, and come back when the next is."""
        for _ in range(AT_ONCE):
            if self.sent == len(due_s):
                return
            due = self.began + due_s[self.sent]
            wait = due - perf_counter()
            if wait > SPIN_S:
                self.loop.call_later(wait - SPIN_S, self._tick, due_s)
                return
            if wait > 0:
                break
            self._send(due)
        self.loop.call_soon(self._tick, due_s)

    def _next(self) -> None:
        if self.sent < len(self.exchanges):
            self._send(None)

    def _send(self, due: float | None) -> None:
        one = self.exchanges[self.sent]
        self.sent += 1
        one.sent_s = perf_counter()
        one.due_s = one.sent_s if due is None else due
        one._timer = self.loop.call_later(min(self.timeout_s, self.total_timeout_s), self._look, one)
        while self.idle:
            connection, since = self.idle.pop()
            if one.sent_s - since < IDLE_S and not connection.transport.is_closing():
                connection.begin(one)
                return
            connection.transport.abort()
        one._connecting = self.loop.create_task(self._connect(one))

    async def _connect(self, one: Exchange) -> None:
        problem = "host not found"
        for host in self.hosts:
            try:
                _, connection = await self.loop.create_connection(
                    lambda: _Connection(self), host, self.address.port, ssl=self.tls,
                    server_hostname=self.address.host if self.tls else None,
                )  # fmt: skip
            except ConnectionRefusedError:
                problem = "connection refused"
            except ssl.SSLError as error:
                problem = f"cannot connect: {error.reason or 'TLS'}"
            except OSError as error:
                problem = f"cannot connect: {error.strerror or type(error).__name__}"
            else:
                self.hosts = [host]  # the others are not tried again
                connection.begin(one)
                return
        self.end(one, problem, perf_counter())

    def _look(self, one: Exchange) -> None:
        """Give up an exchange whose time is over, or look again when it may be."""
        heard = one.answer.chunk_s[-1] if one.answer.chunk_s else one.sent_s
        left = min(heard + self.timeout_s, one.sent_s + self.total_timeout_s) - perf_counter()
        if left > 0:
            one._timer = self.loop.call_later(left, self._look, one)
            return
        self._abandon(one, TIMEOUT)

    def drain(self, one: Exchange, outcome: str, at: float) -> None:
        """The outcome is known, though the response has not ended: it gets a moment for that."""
        one.outcome, one.ended_s = outcome, at
        if one._timer is not None:
            one._timer.cancel()
        one._timer = self.loop.call_later(DRAIN_S, self._abandon, one, outcome)

    def _abandon(self, one: Exchange, outcome: str) -> None:
        connection = one._connection
        if one._connecting is not None:
            one._connecting.cancel()
        self.end(one, outcome, perf_counter())
        if connection is not None:
            connection.transport.abort()

    def end(self, one: Exchange, outcome: str, at: float) -> None:
        """The exchange is over; in a closed loop the next one is sent."""
        if not one.outcome:
            one.outcome, one.ended_s = outcome, at
        if one._timer is not None:
            one._timer.cancel()
        if one._connection is not None:
            one._connection.exchange = None
        one._connection = one._connecting = one._timer = None
        one.payload = b""
        self.ended += 1
        if self.ended == len(self.exchanges):
            if not self.over.done():
                self.over.set_result(None)
        elif isinstance(self.load, ClosedLoop) and not self.over.done():  # it is when the run was interrupted
            self._next()


class _Connection(asyncio.Protocol):
    """One connection and the exchange that has it now. httptools calls the methods named on_... ."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.exchange: Exchange | None = None
        self.transport: asyncio.Transport
        self.at = math.nan
        self.status = 0
        self.ends_with_connection = self.complete = self.keep = False
        self.parser: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.run.open.add(self)

    def begin(self, one: Exchange) -> None:
        """Send a request."""
        self.exchange, one._connection, one._connecting = one, self, None
        self.status, self.complete, self.keep, self.ends_with_connection = 0, False, False, True
        self.parser = self.run.parser(self)
        self.transport.write(one.payload)

    def data_received(self, data: bytes) -> None:
        self.at = perf_counter()
        one = self.exchange
        if one is None:  # nobody asked
            self.transport.abort()
            return
        try:
            self.parser.feed_data(data)
        except self.run.parser_error:
            self.transport.abort()
            self.run.end(one, "not HTTP", self.at)
            return
        if self.complete:
            self.exchange = one._connection = None
            if self.keep:
                self.run.idle.append((self, self.at))
            else:
                self.transport.abort()
            self.run.end(one, self._outcome(one), self.at)
        elif not one.outcome:
            if self.status >= 300:
                self.run.drain(one, self._outcome(one), self.at)
            elif one.answer.is_over:
                self.run.drain(one, one.answer.end(self.at), self.at)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self.ends_with_connection = False

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        one = self.exchange
        assert one is not None
        if self.status < 300:
            one.answer.read(data, self.at)
        if (self.status >= 300 or not one.answer.spoke) and len(one.problem) < _PROBLEM:
            one.problem += data[: _PROBLEM - len(one.problem)]

    def on_message_complete(self) -> None:
        self.complete = self.status >= 200  # below, it is "go on" or a hint
        self.keep = self.parser.should_keep_alive()  # afterwards it has forgotten

    def connection_lost(self, exc: Exception | None) -> None:
        run, one = self.run, self.exchange
        run.open.discard(self)
        run.idle = [pair for pair in run.idle if pair[0] is not self]
        self.parser = None  # it holds this object, too
        if one is None:
            return
        ended = exc is None and self.status >= 200 and self.ends_with_connection
        known = ended or self.status >= 300 or one.answer.is_over
        run.end(one, self._outcome(one) if known else CONNECTION_LOST, perf_counter())

    def _outcome(self, one: Exchange) -> str:
        return f"http {self.status}" if self.status >= 300 else one.answer.end(self.at)
