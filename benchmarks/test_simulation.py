"""How many requests a second the simulation serves, beside the same loop in plain Python in the same run.

The lengths and gaps are those of Azure's code trace of 2023 (AzureLLMInferenceTrace_code.csv of
https://github.com/Azure/AzurePublicDataset), where AZURE_CODE_TRACE names the file; else log-normal ones with about
its means and spread.
"""

from __future__ import annotations

import os
import runpy
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from distillcalc.estimate.fleet_search import least_replicas
from distillcalc.estimate.simulation import Engine, Requests, Simulation, Traffic, replicate, simulate
from distillcalc.estimate.step_time import StepTime

PLAIN = Path(__file__).parents[1] / "tests" / "estimate" / "plain_simulation.py"
# About 7 billion parameters on an H100: 5 ms to read the weights, 15 us to compute a token.
ENGINE = Engine(StepTime(2e-3, 2e-5, 5e-3, 0, 1, 5e-8, 1.5e-5, 1e-10, 1), kv_tokens=400_000)
COUNT, SEEDS, THREADS = 100_000, range(8), 2

Record = Callable[..., None]


@pytest.fixture(scope="module")
def trace() -> Requests:
    file = os.environ.get("AZURE_CODE_TRACE")
    if file:
        table = pd.read_csv(file, parse_dates=["TIMESTAMP"])
        seconds = (table["TIMESTAMP"] - table["TIMESTAMP"].iloc[0]).dt.total_seconds()
        return Requests(seconds, table["ContextTokens"], table["GeneratedTokens"])
    random = np.random.default_rng(1)
    inputs = np.clip(random.lognormal(7.2, 1.0, 8819), 3, 7437).astype(int)
    outputs = np.clip(random.lognormal(2.7, 0.9, 8819), 6, 1899).astype(int)
    return Requests(np.cumsum(random.exponential(0.39, 8819)), inputs, outputs)


def traffic(trace: Requests, rate_per_s: float) -> Traffic:
    return Traffic(rate_per_s, trace.input_tokens, trace.output_tokens)


def chats(rate_per_s: float) -> Traffic:
    """Longer answers: log-normal, 650 tokens in and 270 out on average."""
    random = np.random.default_rng(2)
    inputs, outputs = (np.clip(random.lognormal(mean, 1.0, 10_000), 1, 8_000).astype(int) for mean in (6.0, 5.1))
    return Traffic(rate_per_s, inputs, outputs)


def plain_loop(requests: Requests) -> tuple[float, list[Any]]:
    """Seconds that the plain loop takes for the same requests, and what became of them."""
    fixed, sequence, weights, _, _, kv, token, pair, overlap, _ = ENGINE.constants.tolist()

    def step(sequences: int, tokens: int, context: int, pairs: float) -> float:
        read, compute = weights + kv * context, token * tokens + pair * pairs
        return float(fixed + sequence * sequences + max(read, compute) + (1 - overlap) * min(read, compute))

    module = runpy.run_path(str(PLAIN))
    columns = (requests.arrival_s, requests.input_tokens, requests.output_tokens, requests.thinking_tokens)
    loose = [module["Request"](*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
    start = time.perf_counter()
    module["plain_simulation"](step, loose, kv=int(ENGINE.kv_tokens), slots=256, chunk=2048)
    return time.perf_counter() - start, loose


@pytest.mark.parametrize(("name", "rate"), [("code", 4.0), ("code", 17.0), ("chats", 15.0)])
def test_requests_a_second(
    benchmark: BenchmarkFixture, record: Record, trace: Requests, name: str, rate: float
) -> None:
    """Eight seeds on two threads, warm; the plain loop serves 5,000 requests of the first seed."""
    asked = traffic(trace, rate) if name == "code" else chats(rate)
    few = asked.draw(5_000, 0)
    loop_s, loose = plain_loop(few)
    ours = simulate(ENGINE, few)
    np.testing.assert_allclose(ours.finish_s, [one.finish for one in loose], rtol=1e-9)
    alone_s = []
    for _ in range(5):
        start = time.perf_counter()
        simulate(ENGINE, few)
        alone_s.append(time.perf_counter() - start)

    found: tuple[Simulation, ...] = benchmark.pedantic(
        replicate, (ENGINE, asked, COUNT, SEEDS), {"warm_up": 0.1, "threads": THREADS}, rounds=5, warmup_rounds=1
    )
    assert all(one.completed == COUNT and not one.queue_grew for one in found)
    seconds = benchmark.stats.stats.median if benchmark.stats else float("nan")
    what = f"{name} at {rate:g}/s"
    limit = {"at_least": 200_000} if name == "code" else {}
    record(f"{what}: utilisation", float(np.mean([one.utilisation for one in found])), "")
    record(f"{what}: mean batch", float(np.mean([one.mean_batch for one in found])), "")
    record(f"{what}: simulated on {THREADS} threads", COUNT * len(SEEDS) / seconds, "requests/s", **limit)
    record(f"{what}: plain loop", len(few) / loop_s, "requests/s")
    record(f"{what}: times faster than the loop, one thread each", loop_s / median(alone_s), "x")


def test_the_trace_replayed(benchmark: BenchmarkFixture, record: Record, trace: Requests) -> None:
    """The trace as it was, once."""
    found = benchmark.pedantic(simulate, (ENGINE, trace), rounds=20, warmup_rounds=1)
    assert found.completed == len(trace)
    record("the trace once", (benchmark.stats.stats.median if benchmark.stats else float("nan")) * 1000, "ms")


def test_least_replicas(benchmark: BenchmarkFixture, record: Record, trace: Requests) -> None:
    """The fleet for 300 requests/s with TTFT p99 below 0.5 s and TPOT p95 below 30 ms."""
    objectives = [("ttft", 0.99, 0.5), ("tpot", 0.95, 0.03)]
    found = benchmark.pedantic(least_replicas, (ENGINE, traffic(trace, 300.0), objectives), rounds=5, warmup_rounds=1)
    assert found.at.meets(objectives)
    assert found.one_fewer is not None
    assert not found.one_fewer.meets(objectives)
    record("least fleet: replicas", found.replicas, "")
    record("least fleet: simulations", len(found.tried), "")
    record("least fleet: requests in each", len(found.at.requests), "")
    record("least fleet: whole search", benchmark.stats.stats.median if benchmark.stats else float("nan"), "s")
