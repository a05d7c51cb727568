"""The server's state, the order book of its misdeeds, and a thread that runs it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

MODEL_VERSION = "fake-model-2026-11-01"


@dataclass
class Fault:
    """One misdeed: what, how often, and of which requests (those whose body contains ``of``)."""

    kind: str
    times: int = 1
    retry_after: str | None = None
    seconds: float = 0.0
    of: str = ""

    def takes(self, body: str) -> bool:
        return self.times > 0 and self.of in body


@dataclass
class Served:
    """One answer that a provider would bill."""

    id: str
    body: dict[str, Any]
    usage: dict[str, Any]
    fault: str | None = None


def echo(body: dict[str, Any]) -> str:
    """The last user message, as the answer."""
    return str(body["messages"][-1]["content"])


@dataclass
class Server:
    """What the server knows and does; set its fields before or while it runs.

    ``answer`` makes the content from the request's body. ``served`` are the answers that were billed, also where the
    client never got them.
    """

    answer: Callable[[dict[str, Any]], str] = echo
    latency_s: float = 0.0
    reasoning: str = ""
    honours_n: bool = True
    honours_logprobs: bool = True
    keeps_bodies: bool = True
    polls: int = 2  # of a batch, until it is done
    port: int = 0
    faults: list[Fault] = field(default_factory=list)
    served: list[Served] = field(default_factory=list)
    requests: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    _count: int = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def order(self, kind: str, times: int = 1, **options: Any) -> None:
        """Misbehave so the next ``times`` times."""
        self.faults.append(Fault(kind, times, **options))

    def fault(self, body: str, *kinds: str) -> Fault | None:
        """The next misdeed that is due for a request, of these kinds if any are named."""
        with self.lock:
            for fault in self.faults:
                if fault.takes(body) and (not kinds or fault.kind in kinds):
                    fault.times -= 1
                    return fault
        return None

    def next_id(self, prefix: str) -> str:
        with self.lock:
            self._count += 1
            return f"{prefix}-{self._count:08d}"

    def app(self) -> Starlette:
        from tests.distill.server import batches, chat, files

        routes = [*chat.routes(self), *files.routes(self), *batches.routes(self)]
        try:
            from tests.distill.server import jobs
        except ImportError:
            pass
        else:
            routes += jobs.routes(self)
        return Starlette(routes=routes)


def error(status: int, message: str, *, code: str | None = None, kind: str = "invalid_request_error") -> JSONResponse:
    """An error in OpenAI's form."""
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": code}}, status_code=status)


def failing(server: Server, fault: Fault) -> Response | None:
    """The answer to a request that fails before any work is done; None where the fault is of another kind."""
    headers = {} if fault.retry_after is None else {"retry-after": fault.retry_after}
    answers = {
        "429": (429, "Rate limit reached", "rate_limit_exceeded"),
        "quota": (429, "You exceeded your current quota", "insufficient_quota"),
        "500": (500, "The server had an error", None),
        "502": (502, "Bad gateway", None),
        "503": (503, "Overloaded", None),
        "400": (400, "This model's maximum context length is 16 tokens", "context_length_exceeded"),
        "401": (401, "Incorrect API key provided", "invalid_api_key"),
        "404": (404, "The model does not exist", "model_not_found"),
    }
    if fault.kind not in answers:
        return None
    status, message, code = answers[fault.kind]
    response = error(status, message, code=code)
    response.headers.update(headers)
    return response


def cut_short(payload: bytes) -> Response:
    """A body that ends before its declared length."""

    class Cut(Response):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            start = [(b"content-type", b"application/json"), (b"content-length", str(len(payload)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": start})
            await send({"type": "http.response.body", "body": payload[: len(payload) // 2], "more_body": True})
            raise ConnectionResetError("cut on order")

    return Cut()


async def body_of(request: Request) -> tuple[str, dict[str, Any]]:
    raw = (await request.body()).decode()
    return raw, json.loads(raw or "{}")


class _Quiet(uvicorn.Server):
    def install_signal_handlers(self) -> None:  # pragma: no cover
        pass


@contextmanager
def running(server: Server | None = None, **settings: Any) -> Iterator[Server]:
    """Serve on a free port of 127.0.0.1 in a thread until the block ends."""
    server = server or Server(**settings)
    # With the protocol named asyncio turns TCP_NODELAY on; without, a call on a kept connection costs 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", server.port))
    server.port = listener.getsockname()[1]
    config = uvicorn.Config(server.app(), log_level="critical", access_log=False, lifespan="off", backlog=2048)
    web = _Quiet(config)

    def serve() -> None:
        asyncio.run(web.serve(sockets=[listener]))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    while not web.started:
        threading.Event().wait(0.005)
    try:
        yield server
    finally:
        web.should_exit = True
        web.force_exit = True
        thread.join(timeout=10)
        listener.close()
