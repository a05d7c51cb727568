"""A benchmark from end to end: a tiny model in this process, and the no-op server behind HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distillcalc.benchmark.endpoint import Endpoint
from distillcalc.benchmark.in_process import InProcess
from distillcalc.benchmark.noop_server import served
from distillcalc.benchmark.record import Record, Samples
from distillcalc.benchmark.run import Benchmark, benchmark, fewest_for
from distillcalc.benchmark.told import lines_of
from distillcalc.errors import InputError
from distillcalc.workload import Workload
from tests.distill.training.tiny import llama, one_thread, tokenizer  # noqa: F401

TRAFFIC: dict[str, Any] = {
    "name": "tiny", "requests_per_day": 1000, "input_tokens": {"mean": 40, "p95": 60}, "output_tokens": 6,
}  # fmt: skip


@pytest.fixture(scope="module")
def inside() -> Benchmark:
    target = InProcess(llama(), tokenizer(), "tiny-llama")
    told: list[str] = []
    made = benchmark(
        target, Workload(**TRAFFIC), concurrency=[1, 3], rates_per_s=[40.0], requests=9, usd_per_hour=3.6,
        slo=Workload(**TRAFFIC, slo={"e2e_p95_s": 30.0}).slo, report=told.append,
    )  # fmt: skip
    assert told == [f"tiny-llama: {what}" for what in ("warming up", "1 in flight", "3 in flight", "40 a second")]
    return made


def test_a_model_in_this_process(inside: Benchmark) -> None:
    record = inside.record
    assert [level.name for level in record.levels] == ["1 in flight", "3 in flight", "40 a second"]
    for level, summary in zip(record.levels, inside.summaries, strict=True):
        assert level.summary["outcomes"] == {"ok": 9}
        assert level.summary["verdict"] == "undecided"  # nine requests bound no p95 from above
        assert level.summary["ttft"]["p50"]["value"] == pytest.approx(summary.ttft.p50.value)
        assert level.peak_memory_bytes
        # 3.6 dollars an hour are a tenth of a cent a second.
        assert level.usd_per_mtok["output"] == pytest.approx(1e-3 / summary.output_tokens_per_s * 1e6)
        assert level.power is None or not level.power["valid"] or level.power["joules"] > 0
    measured = record.measured
    assert (measured.kind, measured.engine, measured.precision) == ("in-process", "transformers", "fp32")
    assert measured.details["catalog_row"]["shape"]["layers"] == 2
    assert record.workload["counted_by"] == "tokenizer"
    assert record.workload["mean_output_tokens"] == 6
    assert record.client is None
    assert record.machine["versions"]["torch"]


def test_its_samples_are_what_the_summaries_are_of(inside: Benchmark, tmp_path: Path) -> None:
    file = inside.save(tmp_path)
    held = Samples.of(file).arrays
    assert Record.load(file).levels == inside.record.levels
    for place, summary in enumerate(inside.summaries):
        ttft = held[f"{place}.first_s"] - held[f"{place}.due_s"]
        assert np.median(ttft) == pytest.approx(summary.ttft.p50.value)
        assert held[f"{place}.output_tokens"].tolist() == [6] * 9
        assert held[f"{place}.step.seconds"].sum() <= held[f"{place}.last_s"].max()
    # Three in flight in lockstep: three batches, each read once and written five times.
    assert len(held["1.step.seconds"]) == 3 * 6
    assert len(held["0.step.seconds"]) == 9 * 6


def test_it_is_told_as_a_table(inside: Benchmark) -> None:
    from rich.console import Console

    lines = lines_of(inside.record)
    assert lines[0].startswith("tiny-llama, in-process, transformers, fp32 on ")
    assert lines[1].split()[:3] == ["load", "requests", "failed"]
    assert lines[2].startswith("1 in flight")
    assert len({len(line) for line in lines[1:5]}) == 1
    assert "E2E p95" in str(inside)
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(inside)
    assert "3 in flight" in console.export_text()
    console.file.close()


def test_an_endpoint_with_what_the_client_itself_takes() -> None:
    with served(tokens=8) as url:
        made = benchmark(
            Endpoint(f"{url}/v1", "noop"), Workload(**TRAFFIC), concurrency=[4], requests=40, engine="vllm",
            model="smollm2-135m", name="noop",
        )  # fmt: skip
    record = made.record
    assert record.levels[0].summary["outcomes"] == {"ok": 40}
    assert (record.name, record.measured.kind, record.measured.engine) == ("noop", "endpoint", "vllm")
    assert record.client is not None
    assert record.client["requests_per_s"] > 0
    assert record.levels[0].peak_memory_bytes is None
    said = str(made)
    assert "the client itself: up to" in said
    assert "lengths are words: no tokenizer was given" in said
    assert "memory" not in said.splitlines()[1]


def test_the_highest_load_is_searched_for() -> None:
    with served(tokens=2) as url:
        made = benchmark(
            Endpoint(f"{url}/v1", "noop"), Workload(**TRAFFIC, slo={"e2e_p50_s": 1e-7}), concurrency=[2], requests=20,
            search=True, overhead=False,
        )  # fmt: skip
    assert made.record.highest_load is not None
    assert made.record.highest_load["met"] is None  # nothing is so fast
    assert "highest load that meets the objectives: no rate" in str(made)


def test_how_many_requests_can_bound_a_quantile() -> None:
    # .95^71 = .0262 and .95^72 = .0249; .99^367 = .0250 and a bit, .99^368 = .0248; .5^6 = .0156.
    assert [fewest_for(level) for level in (0.5, 0.95, 0.99)] == [6, 72, 368]


def test_what_cannot_be_measured_is_refused() -> None:
    traffic = Workload(**TRAFFIC)
    nobody = Endpoint("http://127.0.0.1:9/v1", "nobody")
    with pytest.raises(InputError, match="answers nothing: connection refused"):
        benchmark(nobody, traffic)
    with pytest.raises(InputError, match="name a load at least"):
        benchmark(nobody, traffic, concurrency=[])
    with pytest.raises(InputError, match=r"\[workload.slo\] has none"):
        benchmark(nobody, traffic, search=True)
