"""How fast logs become a workload, and in how much memory, beside DuckDB and tiktoken in the same run.

Every reading runs in a process of its own (``logs_once.py``), so that its peak memory is its own and DuckDB has
nothing of it cached but the file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from distillcalc.workload.logs.tokens import token_counter

ONCE = Path(__file__).with_name("logs_once.py")
ROUNDS = 3
PEAK_MIB = 1_536.0

Record = Callable[..., None]


def once(what: str, file: Path, *more: str) -> dict[str, Any]:
    """What a fresh process that does one thing says of it."""
    command = [sys.executable, str(ONCE), what, str(file), *more]
    said: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return said


def readings(what: str, file: Path) -> dict[str, Any]:
    """Median seconds and highest peak of several fresh processes."""
    found = [once(what, file) for _ in range(ROUNDS)]
    return {
        "rows": found[0]["rows"],
        "seconds": median(one["seconds"] for one in found),
        "peak_mib": max(one["peak_mib"] for one in found),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.mark.parametrize(("name", "rows"), [("log.parquet", 20_000_000), ("log.jsonl", 5_000_000)])
def test_profile(benchmark: BenchmarkFixture, record: Record, folder: Path, name: str, rows: int) -> None:
    file, small = folder / name, folder / f"small-{name}"
    once("write", file, str(rows))
    once("write", small, str(rows // 10))
    try:
        took = {what: readings(what, file) for what in ("aggregate", "statistics")}
        less = readings("profile", small)
        took["profile"] = benchmark.pedantic(readings, args=("profile", file), rounds=1)
    finally:
        file.unlink()
        small.unlink()
    assert {one["rows"] for one in took.values()} == {rows}
    assert less["rows"] == rows // 10
    seconds = took["profile"]["seconds"]
    log = f"{file.suffix[1:]} of {rows:,} rows"
    record(f"profile of {log}", seconds, "s")
    record(f"{log}: rows a second", rows / seconds, "rows/s")
    record(f"{log}: speed / bare aggregate's", took["aggregate"]["seconds"] / seconds, "x")
    record(f"{log}: speed / hand-written statistics'", took["statistics"]["seconds"] / seconds, "x", at_least=0.6)
    record(f"{log}: peak memory", took["profile"]["peak_mib"], "MiB", below=PEAK_MIB)
    record(f"{log}: peak memory / a tenth's", took["profile"]["peak_mib"] / less["peak_mib"], "x", below=1.1)


def test_token_counting(benchmark: BenchmarkFixture, record: Record) -> None:
    """Against tiktoken's own batches on as many threads, by turns, over texts of 40 to 4,000 words.

    The encoding is one of this benchmark: tiktoken's own vocabularies have to be downloaded, and how fast a batch is
    handed over does not depend on the vocabulary.
    """
    import numpy as np
    import tiktoken

    ranks = {bytes([i]): i for i in range(256)}
    for word in (b"th", b"in", b"er", b"an", b"on", b" t", b" a", b" s", b" w", b"at", b"en", b"re"):
        ranks[word] = len(ranks)
    encoding = tiktoken.Encoding("small", pat_str=r"\s?\w+|\s+|[^\s\w]+", mergeable_ranks=ranks, special_tokens={})
    random = np.random.default_rng(7)
    words = np.array(
        ["the", "another", "there", "where", "on", "water", "heat", "when", "rest", "sent", "tower", "ten"]
    )
    sizes = np.exp(random.uniform(np.log(40), np.log(4_000), 2_000)).astype(int)
    texts = [" ".join(random.choice(words, size)) for size in sizes]
    threads = os.cpu_count() or 1
    counter = token_counter(encoding, threads)
    assert counter is not None
    ours, theirs = [], []
    for _ in range(5):
        start = time.perf_counter()
        counts = counter[0](texts)
        middle = time.perf_counter()
        tokens = encoding.encode_ordinary_batch(texts, num_threads=threads)
        theirs.append(time.perf_counter() - middle)
        ours.append(middle - start)
    assert counts == [len(one) for one in tokens]
    benchmark.pedantic(counter[0], args=(texts,), rounds=3)
    record("token counting: rate / tiktoken's own", median(theirs) / median(ours), "x", at_least=0.8)
