"""What is run on a GPU unattended, run here for real on a CPU with tiny shapes."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distillcalc.benchmark.record import Record, Samples
from distillcalc.benchmark.shapes import shape_config
from distillcalc.benchmark.training_record import TECHNIQUES, TrainingStep
from distillcalc.catalog import Catalog
from distillcalc.distill.packaged import NAME
from distillcalc.workload.files import read_rows

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts/gpu_benchmark.sh"


def command(out: Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(SCRIPT), "--device", "cpu", "--small", "--minutes", "30", "--out", str(out), *more],
        capture_output=True, text=True, timeout=900, cwd=out.parent,
        env=os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"} | environment,
    )  # fmt: skip


def summary_of(out: Path) -> dict[str, Any]:
    (file,) = out.glob("gpu-benchmark-*.json")
    plain: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    assert (plain["schema_version"], plain["kind"]) == (1, "gpu-benchmark")
    return plain


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    """The script as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        yield importlib.import_module("gpu_benchmark")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The whole small run, in which SmolLM2's weights are broken."""
    place = tmp_path_factory.mktemp("gpu")
    broken = place / "cache" / NAME
    broken.mkdir(parents=True)
    (broken / "config.json").write_text("{}")
    out = place / "records"
    return out, command(out, DISTILLCALC_CACHE=str(place / "cache"))


@pytest.mark.slow
def test_an_error_in_one_step_loses_no_other(whole: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, done = whole
    assert done.returncode == 0, done.stderr
    steps = {one["step"]: one for one in summary_of(out)["steps"]}
    outcomes = {name: one["outcome"] for name, one in steps.items()}
    assert outcomes == {
        "machine": "done", "shape:qwen3-tiny": "done", **{f"training:{one}": "done" for one in TECHNIQUES},
        "shape:qwen3-tiny:int8": "skipped", "smollm2": "failed",
    }  # fmt: skip
    assert "cannot load the model" in steps["smollm2"]["said"]
    assert "Traceback" not in done.stderr
    assert "CUDA device" in steps["shape:qwen3-tiny:int8"]["said"]
    for name in steps:
        assert name in done.stdout


@pytest.mark.slow
def test_every_result_is_a_record(whole: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = whole
    summary = summary_of(out)
    steps = {one["step"]: one for one in summary["steps"]}
    assert summary["machine"]["versions"].keys() >= {"torch", "transformers"}
    (file,) = steps["shape:qwen3-tiny"]["files"]
    record = Record.load(out / file)
    assert (record.measured.weights, record.measured.model, record.measured.precision) == ("random", "", "fp32")
    assert record.workload["mean_input_tokens"] == 16
    assert record.workload["mean_output_tokens"] == 4
    told = steps["shape:qwen3-tiny"]["numbers"]["levels"]
    assert [one["concurrency"] for one in told] == [level.load["concurrency"] for level in record.levels]
    assert told[0]["output_tokens_per_s"] == record.levels[0].summary["output_tokens_per_s"]
    assert (Samples.of(out / file).arrays["0.output_tokens"] == 4).all()
    for technique in TECHNIQUES:
        one = steps[f"training:{technique}"]
        step = TrainingStep.load(out / one["files"][0])
        assert (step.technique, step.student) == (technique, "qwen3-tiny")
        assert one["numbers"]["tokens_per_s"] == pytest.approx(step.tokens_per_s)
    machine, rows = (out / file for file in steps["machine"]["files"])
    row = Catalog.load().with_overrides(read_rows(rows)).gpu("this-machine")
    assert row.bandwidth_gb_s == json.loads(machine.read_text())["row"]["bandwidth_gb_s"]
    written = {file for one in summary["steps"] for file in one["files"]}
    beside = {file.name for file in out.iterdir()} - written
    assert {name for name in beside if not name.endswith(".samples.npz")} == {
        file.name for file in out.glob("gpu-benchmark-*.json")
    }


@pytest.mark.slow
def test_smollm2_with_its_weights(tmp_path: Path) -> None:
    done = command(tmp_path / "records", "--only", "smollm2")
    assert done.returncode == 0, done.stderr
    (step,) = summary_of(tmp_path / "records")["steps"]
    record = Record.load(tmp_path / "records" / step["files"][0])
    assert (record.measured.weights, record.measured.model) == ("trained", "smollm2-135m")


def test_without_time_everything_is_skipped_and_says_why(tmp_path: Path) -> None:
    done = command(tmp_path / "records", "--minutes", "0")
    assert done.returncode == 0, done.stderr
    steps = summary_of(tmp_path / "records")["steps"]
    assert len(steps) == 8
    for one in steps:
        assert (one["outcome"], one["files"], one["seconds"]) == ("skipped", [], 0.0)
        assert "0 s are left of 0 minutes" in one["said"] or "int8 products" in one["said"]


def test_what_is_asked_wrongly(tmp_path: Path) -> None:
    done = command(tmp_path / "records", "--only", "shape:nothing")
    assert done.returncode == 2
    assert "there is no step 'shape:nothing'. There are: machine, shape:qwen3-tiny" in done.stderr
    assert not (tmp_path / "records").exists()


def test_a_python_that_lacks_packages_is_told_which(tmp_path: Path) -> None:
    # -S leaves site-packages out, -E the variables that would bring them back
    bare = tmp_path / "python"
    bare.write_text(f'#!/usr/bin/env bash\nexec "{sys._base_executable}" -S -E "$@"\n')  # type: ignore[attr-defined]
    bare.chmod(0o755)
    done = command(tmp_path / "records", PYTHON=str(bare))
    assert done.returncode == 1
    assert "lacks torch, transformers, accelerate" in done.stderr
    assert "-m pip install torch transformers" in done.stderr
    assert "Traceback" not in done.stderr


SAYS = "import json; print('noise'); print(json.dumps({'said': 'well', 'files': ['a.json'], 'numbers': {'x': 1}}))"
FULL_MEMORY = "raise MemoryError('CUDA out of memory. Tried to allocate 2 GiB')"
KILLED = "import os, sys; sys.stderr.write('loading\\n'); sys.stderr.flush(); os.kill(os.getpid(), 9)"


def test_however_a_step_ends_it_is_told(script: Any) -> None:
    step = script.Step("one", "shape", 1.0)

    def attempt(code: str, seconds: float = 60.0) -> Any:
        return script.attempt(step, [sys.executable, "-c", code], seconds)

    made = attempt(SAYS)
    assert (made.outcome, made.said, made.files, made.numbers) == ("done", "well", ("a.json",), {"x": 1})
    made = attempt(FULL_MEMORY)
    assert (made.outcome, made.said) == ("failed", "MemoryError: CUDA out of memory. Tried to allocate 2 GiB")
    made = attempt(KILLED)
    assert (made.outcome, made.said) == ("failed", "ended by SIGKILL; its last words: loading")
    # What a step has started must end with it, too: it would hold the GPU's memory.
    began = time.monotonic()
    made = attempt("import subprocess; subprocess.run(['sleep', '50'])", 1.0)
    assert (made.outcome, made.said) == ("failed", "it did not end in the 1 s that it had")
    assert time.monotonic() - began < 40


def test_what_fits_into_the_time_goes_on_after_what_does_not(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    def attempt(step: Any, command: list[str], seconds: float, environment: Any) -> Any:
        assert 0 < seconds <= min(60.0, 3 * step.estimate_s)
        assert environment["CUDA_VISIBLE_DEVICES"] == ""
        begun.append(step.name)
        return script.Done(step=step.name, outcome="done", said="", estimate_s=step.estimate_s)

    monkeypatch.setattr(script, "attempt", attempt)
    asked = script.arguments(["--device", "cpu", "--minutes", "1", "--out", str(tmp_path)])
    steps = [script.Step(name, "shape", s) for name, s in (("long", 70.0), ("short", 50.0), ("last", 59.0))]
    made = script.run(steps, asked, {"cpu": "A (R) Processor", "gpu": ""})
    assert [file.name for file in tmp_path.iterdir()] == ["gpu-benchmark-a-r-processor.json"]
    assert begun == ["short", "last"]
    assert "takes about 70 s, and" in made.steps[0].said
    assert [one["outcome"] for one in summary_of(tmp_path)["steps"]] == ["skipped", "done", "done"]


def test_what_is_planned_for_a_gpu_is_in_the_catalog(script: Any) -> None:
    steps, full = script.plan(small=False), importlib.import_module("gpu_benchmark_steps").FULL
    names = [one.name for one in steps]
    assert len(set(names)) == len(names)
    assert names[0] == "machine"
    models = {one.model for one in steps if one.kind == "shape"} | {full.student, full.teacher}
    sizes = sorted(Catalog.load().model(one).params_b or 0.0 for one in models)
    assert (round(sizes[0], 1), round(sizes[-1])) == (0.6, 15)
    for one in models:
        assert shape_config(one).get_text_config().max_position_embeddings >= 288
    # 8 bits, all techniques and 0.6B to 14B come before the time is up, if the estimates hold
    until, seconds = [], 0.0
    for one in steps:
        seconds += one.estimate_s
        if seconds <= 60 * script.MINUTES:
            until.append(one)
    assert {one.name for one in until if one.kind == "training"} == {f"training:{each}" for each in TECHNIQUES}
    assert {"bf16", "int8", "fp8"} <= {one.precision for one in until}
    assert {"qwen3-0.6b", "deepseek-r1-distill-qwen-14b"} <= {one.model for one in until}
