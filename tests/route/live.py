"""A student and a teacher on loopback for the tests of what runs live."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai

from distillcalc.catalog.prices import TokenPriceOverride
from distillcalc.route.client import RoutedClient
from distillcalc.route.confidence import Confidence
from distillcalc.route.given import UserScore
from distillcalc.route.requests import Request
from distillcalc.route.router import Router
from tests.distill.server import running
from tests.route.streaming_server import StreamingServer

STUDENT, TEACHER = "student", "teacher"
# 1 and 10 dollars a million input tokens, 2 and 20 of output; the servers' tokens are words.
PRICES = {
    STUDENT: TokenPriceOverride(input_usd_per_mtok=1, output_usd_per_mtok=2),
    TEACHER: TokenPriceOverride(input_usd_per_mtok=10, output_usd_per_mtok=20),
}


def by_answer(request: Request) -> float:
    """The student is sure of an answer that does not say that it guesses."""
    return 0.0 if "guess" in (request.answer or "") else 1.0


def cascade(
    score: Any = None, threshold: float = 0.5, models: tuple[str, ...] = (STUDENT, TEACHER), **more: Any
) -> Router:
    one = score or UserScore("sure", by_answer, "after")
    k = len(models) - 1
    return Router(models=models, kind="cascade", scores=(one,) * k, thresholds=(threshold,) * k, **more)


def logprob_cascade(threshold: float) -> Router:
    """The server gives every token 0.7: mean log-probability -0.357."""
    return cascade(Confidence("mean_logprob"), threshold)


def short_router() -> Router:
    """Chooses before anybody answers: up to four words go to the student."""
    score = UserScore("short", lambda request: -float(len(request.text.split())), "before")
    return Router(models=(STUDENT, TEACHER), kind="router", scores=(score,), thresholds=(-4,))


@contextlib.contextmanager
def pair() -> Iterator[tuple[StreamingServer, StreamingServer]]:
    """A student that guesses where it is asked something hard, and a teacher that knows."""

    def student(body: dict[str, Any]) -> str:
        text = str(body["messages"][-1]["content"])
        return f"I guess {text}" if "hard" in text else "from the student"

    small, big = StreamingServer(answer=student), StreamingServer(answer=lambda body: "from the teacher")
    with running(small), running(big):
        yield small, big


def api(server: StreamingServer, **options: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key="k", base_url=server.base_url, **{"max_retries": 0, **options})


@contextlib.asynccontextmanager
async def routed(
    router: Router, small: StreamingServer, big: StreamingServer, **options: Any
) -> AsyncIterator[RoutedClient]:
    clients = {STUDENT: (api(small), "student-1"), TEACHER: (api(big), "teacher-1")}
    async with RoutedClient(router, clients, **{"prices": PRICES, **options}) as client:
        yield client
    for _ in range(100):  # the openai client leaves the generators of a stream for the loop to close, one by one
        if len(asyncio.all_tasks()) == 1:
            break
        await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left behind"


def fresh(servers: tuple[StreamingServer, StreamingServer]) -> None:
    """Forget what was asked and ordered."""
    for server in servers:
        server.faults.clear()
        server.served.clear()
        server.requests, server.latency_s = 0, 0.0
        server.honours_n = server.honours_logprobs = True


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]
