"""What labelling adds to a bare loop of the openai client, and how its memory grows with the rows.

The server is the one of the tests, in a process of its own; the client in another. Both share two cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from pytest_benchmark.fixture import BenchmarkFixture

ONCE = Path(__file__).with_name("labelling_once.py")
ROOT = Path(__file__).resolve().parents[1]
IN_FLIGHT = 256
ROWS = 6_000
ROUNDS = 3

Record = Callable[..., None]


@contextmanager
def served(folder: Path, latency_s: float) -> Iterator[str]:
    """The tests' server with a latency; the address."""
    file = folder / f"port-{latency_s}"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.distill.server", str(file), str(latency_s)], cwd=ROOT, stdin=subprocess.PIPE
    )
    try:
        while not file.exists():
            assert process.poll() is None
            time.sleep(0.02)
        yield f"http://127.0.0.1:{file.read_text()}/v1"
    finally:
        process.kill()
        process.communicate()


def once(what: str, url: str, file: Path, in_flight: int = IN_FLIGHT) -> dict[str, Any]:
    command = [sys.executable, str(ONCE), what, url, str(file), str(in_flight)]
    said: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return said


def inputs(folder: Path, rows: int) -> Path:
    file = folder / f"inputs-{rows}.jsonl"
    with file.open("w") as out:
        for i in range(rows):
            out.write(json.dumps({"text": f"why was I charged for card payment number {i} of last month?"}) + "\n")
    return file


def test_throughput_beside_a_bare_loop(benchmark: BenchmarkFixture, record: Record, tmp_path: Path) -> None:
    file = inputs(tmp_path, ROWS)
    with served(tmp_path, 0.05) as url:
        took: dict[str, list[float]] = {"bare": [], "label": []}
        for _ in range(ROUNDS):  # by turns
            for what in took:
                found = once(what, url, file)
                assert found["rows"] == ROWS
                took[what].append(found["seconds"])
        benchmark.pedantic(once, args=("label", url, file), rounds=1)
    record(f"labelling at {IN_FLIGHT} in flight, 50 ms server", ROWS / median(took["label"]), "rows/s")
    record(
        "labelling: throughput / bare openai loop's", median(took["bare"]) / median(took["label"]), "x", at_least=0.95
    )


def test_memory_from_1_000_to_100_000_rows(benchmark: BenchmarkFixture, record: Record, tmp_path: Path) -> None:
    with served(tmp_path, 0.0) as url:
        few = once("label", url, inputs(tmp_path, 1_000), 64)
        many = benchmark.pedantic(once, args=("label", url, inputs(tmp_path, 100_000), 64), rounds=1)
    assert many["rows"] == 100_000
    record("labelling 100,000 rows: peak memory", many["peak_mib"], "MiB")
    record("labelling 100,000 rows: peak memory / 1,000 rows'", many["peak_mib"] / few["peak_mib"], "x", below=1.1)
