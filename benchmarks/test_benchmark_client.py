"""What the benchmark's client can stream, beside a bare loop of the openai client, against a server that does nothing.

Client and server are two processes; both share this machine with whatever else runs on it, so that processor time is
told, too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from statistics import median

from pytest_benchmark.fixture import BenchmarkFixture

from distillcalc.benchmark.endpoint import Endpoint
from distillcalc.benchmark.load import ClosedLoop, Prompt
from distillcalc.benchmark.noop_server import TOKENS, served
from distillcalc.benchmark.overhead import client_overhead

IN_FLIGHT = 64
REQUESTS = 4_000
BARE_REQUESTS = 300
ROUNDS = 5
PROMPT = Prompt("why was I charged for a card payment of last month? " * 8, 100, TOKENS)

Record = Callable[..., None]


def ours(url: str, requests: int) -> int:
    traces = Endpoint(url, "noop").run([PROMPT] * requests, ClosedLoop(IN_FLIGHT))
    assert traces.ok.all()
    return int(traces.output_tokens.sum())


def bare(url: str, requests: int) -> int:
    """What a careful user writes: so many workers, the moment of each token, the usage at the end."""
    import openai

    tokens = 0

    async def work(client: openai.AsyncOpenAI, left: object) -> None:
        nonlocal tokens
        for _ in left:  # type: ignore[attr-defined]
            moments = []
            stream = await client.chat.completions.create(
                model="noop", messages=[{"role": "user", "content": PROMPT.text}], max_tokens=TOKENS, temperature=0,
                stream=True, stream_options={"include_usage": True},
            )  # fmt: skip
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    moments.append(time.perf_counter())
                if chunk.usage:
                    tokens += chunk.usage.completion_tokens

    async def all_of_them() -> None:
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            left = iter(range(requests))
            await asyncio.gather(*(work(client, left) for _ in range(IN_FLIGHT)))

    asyncio.run(all_of_them())
    return tokens


def test_streamed_requests_per_second(benchmark: BenchmarkFixture, record: Record) -> None:
    sizes = {ours: REQUESTS, bare: BARE_REQUESTS}
    with served() as address:
        url = f"{address}/v1"
        per_s: dict[Callable[[str, int], int], list[float]] = {client: [] for client in sizes}
        per_cpu_s: dict[Callable[[str, int], int], list[float]] = {client: [] for client in sizes}
        for client in sizes:
            client(url, IN_FLIGHT)  # imports, and the server's first connections
        for _ in range(ROUNDS):  # by turns
            for client, requests in sizes.items():
                began, cpu = time.perf_counter(), time.process_time()
                assert client(url, requests) == requests * TOKENS
                per_s[client].append(requests / (time.perf_counter() - began))
                per_cpu_s[client].append(requests / (time.process_time() - cpu))
        benchmark.pedantic(ours, args=(url, REQUESTS), rounds=1)
    record("streamed requests, our client", median(per_s[ours]), "1/s", at_least=1_500)
    record("streamed requests, bare openai loop", median(per_s[bare]), "1/s")
    record("streamed requests: ours / bare openai loop's", median(per_s[ours]) / median(per_s[bare]), "x")
    record("streamed requests a second of processor time, our client", median(per_cpu_s[ours]), "1/s")
    record("streamed requests a second of processor time, bare openai loop", median(per_cpu_s[bare]), "1/s")


def test_what_the_client_adds(benchmark: BenchmarkFixture, record: Record) -> None:
    found = benchmark.pedantic(client_overhead, kwargs={"concurrency": 32}, rounds=1)
    record("client: TTFT added at 32 in flight, p50", found.ttft_p50_s * 1e3, "ms")
    record("client: TTFT added at 32 in flight, p99", found.ttft_p99_s * 1e3, "ms")
