"""The chunked soft-label loss beside a naive one: memory of a step, and its speed, on two threads.

SmolLM2's head (49,152 ids, 576 wide, float32), cross-entropy and forward KL from a live teacher of the same size.
Memory is what one step adds to the peak of a fresh process, at sequence 1,024 and batch 8; speed is a ratio of medians
measured by turns in one process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

ONCE = Path(__file__).with_name("head_once.py")
BATCH = 8 * 1_024

Record = Callable[..., None]


def once(what: str, which: str, tokens: int, supervised: float = 1.0) -> dict[str, Any]:
    command = [sys.executable, str(ONCE), what, which, str(tokens), str(supervised)]
    said: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return said


def test_memory_beside_all_logits_at_once(benchmark: BenchmarkFixture, record: Record) -> None:
    naive = once("memory", "naive", BATCH)
    chunked = benchmark.pedantic(once, args=("memory", "chunked", BATCH), rounds=1)
    assert chunked["total"] == pytest.approx(naive["total"], rel=1e-5)
    record(f"chunked loss, {BATCH:,} tokens: peak memory of a step", chunked["step_mib"], "MiB")
    record("chunked loss: peak memory / naive's", chunked["step_mib"] / naive["step_mib"], "x", below=0.4)
    record(f"chunked loss, {BATCH:,} tokens: throughput / naive's, once", naive["seconds"] / chunked["seconds"], "x")


@pytest.mark.parametrize("supervised", [1.0, 0.1])
def test_throughput_beside_all_logits_at_once(benchmark: BenchmarkFixture, record: Record, supervised: float) -> None:
    said = benchmark.pedantic(once, args=("speed", "both", 1_024, supervised), rounds=1)
    assert said["totals"]["chunked"] == pytest.approx(said["totals"]["naive"], rel=1e-5)
    took = {name: median(seconds) for name, seconds in said["seconds"].items()}
    share = f"chunked loss, {supervised:.0%} of positions supervised"
    record(f"{share}: tokens/s", 1_024 / took["chunked"], "tokens/s")
    record(f"{share}: throughput / naive's", took["naive"] / took["chunked"], "x", at_least=0.9)
