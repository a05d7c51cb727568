"""Hold the estimate against two students on this machine's CPU, and write it up.

    python scripts/validate_students.py student runs/demo    # ten layers, on the answers of the demo
    python scripts/validate_students.py measure STUDENT... [--records data/benchmarks/cpu]
    python scripts/validate_students.py page [--records data/benchmarks/cpu] [--page docs/results/validation.md]

Nothing else may run meanwhile. ``measure`` benchmarks the machine (20 s), three shapes with random weights, and each
STUDENT (a folder of a causal language model, such as runs/three-layers/student) in four rounds with other prompts, the
students in turn, so that what the machine does meanwhile meets all alike; about fifteen minutes on two cores. ``page``
computes, from the records alone:

1. the engine's row ``transformers``, fitted to the steps of the three shapes and to no student (what data/engines.toml
   ships), and how far it is off for a shape that it was not fitted to;
2. the estimate of the students by that row, against their first and third round: before the re-fit;
3. the same with the row fitted again to the students' second and fourth round: after it.
"""

from __future__ import annotations

import argparse
import json
import math
import tomllib
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import NDArray

from distillcalc.benchmark.in_process import InProcess
from distillcalc.benchmark.machine import describe_machine, measure_machine
from distillcalc.benchmark.run import benchmark
from distillcalc.benchmark.shapes import load_shape
from distillcalc.benchmark.validation import Check, Validation, validate
from distillcalc.catalog import Catalog
from distillcalc.distill.task import Task
from distillcalc.distill.training.recipe import Recipe
from distillcalc.distill.training.run import train
from distillcalc.workload import Workload

TASK = Path("data/demo/task.toml")
MACHINE = "this-machine"
ENGINE = "transformers"
# Where the fit begins: eager PyTorch on a CPU, by no measurement of ours.
START: dict[str, Any] = {
    "name": "transformers (eager PyTorch)", "mbu": 0.7, "kv_mbu": 0.5, "expert_mbu": 0.5, "mfu_bf16": 0.6,
    "mfu_fp8": 0.4, "mfu_fp4": 0.4, "expert_mfu": 0.2, "attention_mfu": 0.2, "overlap": 0.0, "fixed_s": 0.001,
    "layer_s": 0.0003, "expert_layer_s": 0.0, "quantise_s": 0.0, "sequence_s": 0.0003, "all_reduce_s": 0.0,
    "link_efficiency": 1.0, "repack": 0.7, "request_s": 0.0, "source": "assumed", "confidence": "low",
}  # fmt: skip
# Sizes around those of students that a CPU serves; none of them is a student's.
SHAPES: dict[str, dict[str, Any]] = {
    "llama-3-like-25m": {
        "params_b": 0.02493,
        "shape": {"layers": 8, "hidden": 384, "heads": 6, "kv_heads": 2, "head_dim": 64, "vocab": 32000,
                  "intermediate": 1024, "tied_embeddings": True},
    },
    "llama-3-like-126m": {
        "params_b": 0.1252,
        "shape": {"layers": 16, "hidden": 768, "heads": 12, "kv_heads": 4, "head_dim": 64, "vocab": 32000,
                  "intermediate": 2048, "tied_embeddings": True},
    },
}  # fmt: skip
CATALOG_SHAPE = "qwen3-0.6b"
CONCURRENCY = (1, 2, 4, 8)
REQUESTS = 16
ROUNDS = 4
HELD, FITTED = (1, 3), (2, 4)
SHORT = Workload(name="short", requests_per_day=1000, input_tokens={"mean": 60, "p95": 120}, output_tokens=24)
LONG = Workload(name="long", requests_per_day=1000, input_tokens={"mean": 220, "p95": 400}, output_tokens=12)


def student(demo: Path) -> None:
    """Ten of the teacher's thirty layers, trained for two epochs by the soft labels of a demo's teacher."""
    made = train(
        Recipe(
            name="ten-layers", technique="soft-label", task=Task(**tomllib.loads(TASK.read_text(encoding="utf-8"))),
            data={"train": [str(demo / "message-answers.jsonl")], "evaluation": str(demo / "test.csv"),
                  "human_label": "label", "id": "id", "validation_share": 0.0},
            teacher={"model": str(demo / "teacher"), "name": "smollm2-135m"}, student={"layers": 10}, compare=False,
            training={"epochs": 2, "learning_rate": 1e-3, "evaluations": 0, "checkpoints": 1},
            use={"kind": "classifier", "competes_with_teacher": False},
        ),
        runs="runs",
    )  # fmt: skip
    print(made)


def known(machine: dict[str, Any] | None = None) -> Catalog:
    """The shipped catalog with the shapes, the row that the fit starts from, and the machine."""
    rows: dict[str, Any] = {
        "models": {
            name: {"name": name, "provider": "none", "kind": "open", "context_window": 2048,
                   "source": "a shape made up for the fit", **row}
            for name, row in SHAPES.items()
        },
        "engines": {"start": START},
    }  # fmt: skip
    if machine is not None:
        rows["gpus"] = {MACHINE: machine}
    return Catalog.load().with_overrides(rows)


def measure(students: list[Path], folder: Path) -> None:
    """All records, those that are there left as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    row = folder / "machine.json"
    if not row.is_file():
        made = {"row": measure_machine(20).row(), "machine": describe_machine()}
        row.write_text(json.dumps(made, indent=1, default=str) + "\n", encoding="utf-8")
    for name in (*SHAPES, CATALOG_SHAPE):
        for part, workload in (("short", SHORT), ("long", LONG)):
            if not (folder / f"shape-{name}-{part}.json").is_file():
                target = load_shape(name, "fp32", "cpu", catalog=known())
                requests = REQUESTS if name in SHAPES else REQUESTS // 2
                run(target, workload, f"shape-{name}-{part}", folder, 0, requests, "random")
    for number in range(1, ROUNDS + 1):
        for student in students:
            name = student.resolve().parent.name if student.name == "student" else student.name
            target = None
            for part, workload in (("short", SHORT), ("long", LONG)):
                if not (folder / f"student-{name}-{part}-{number}.json").is_file():
                    target = target or InProcess.load(str(student), precision="fp32", device="cpu", name=name)
                    run(target, workload, f"student-{name}-{part}-{number}", folder, number, REQUESTS, "trained")


def run(target: Any, workload: Workload, name: str, folder: Path, seed: int, requests: int, weights: Any) -> None:
    """One record."""
    made = benchmark(
        target, workload, concurrency=CONCURRENCY, requests=requests, name=name, engine=ENGINE, weights=weights,
        seed=seed,
    )  # fmt: skip
    made.save(folder)
    print(made, flush=True)


def page(folder: Path) -> tuple[str, dict[str, Any]]:
    """The page, and the engine's row."""
    machine = json.loads((folder / "machine.json").read_text(encoding="utf-8"))
    catalog = known(machine["row"])
    shapes = sorted(folder.glob("shape-*.json"))
    first, again = (
        [file for number in rounds for file in sorted(folder.glob(f"student-*-{number}.json"))]
        for rounds in (HELD, FITTED)
    )

    def held(records: list[Path], fitted_to: list[Path], catalog: Catalog, engine: str) -> Validation:
        return validate(records, machine=MACHINE, engine=engine, refit_on=fitted_to, catalog=catalog)

    # A shape that the row was not fitted to.
    left_out = []
    for name in (*SHAPES, CATALOG_SHAPE):
        own = [file for file in shapes if file.stem.startswith(f"shape-{name}-")]
        left_out.append((name, held(own, [file for file in shapes if file not in own], catalog, "start")))
    factors = {
        what: math.ceil(math.exp(float(np.quantile(
            [abs(math.log(c.estimate / c.measured)) for _, v in left_out for c in v.after if c.what == what], 0.9,
            method="higher"))) * 1000) / 1000
        for what in ("TPOT", "TTFT")
    }  # fmt: skip
    fit = held(first, shapes, catalog, "start").fitted
    assert fit is not None
    row = fit.model_dump(mode="json", exclude_none=True) | {
        "tpot_factor": factors["TPOT"], "ttft_factor": factors["TTFT"], "confidence": "medium",
        "note": "Static batches in this process, eager attention of torch, fp32 on a CPU. Of a shape that it was not "
        "fitted to. On a GPU it was not fitted: refit with validate.",
        "source": f"{fit.source}, {machine['machine']['cpu']}, {machine['machine']['threads']} threads "
        "(scripts/validate_students.py)",
    }  # fmt: skip
    shipped = catalog.with_overrides({"engines": {ENGINE: row}})
    made = held(first, again, shipped, ENGINE)
    values: dict[Any, list[float]] = {}
    for check in (*made.before, *validate(again, machine=MACHINE, engine=ENGINE, catalog=shipped).before):
        if check.what == "TPOT":
            values.setdefault((case_of(check.record), check.load), []).append(check.measured)
    noise = np.array([(max(each) - min(each)) / np.mean(each) for each in values.values()])
    return text_of(machine, left_out, made, row, noise), row


def case_of(record: str) -> str:
    """A student's record without its round."""
    return record.removeprefix("student-").rsplit("-", 1)[0]


def pooled(checks: Iterable[Check]) -> dict[tuple[str, str, str], tuple[float, float]]:
    """(measured, estimate), each the mean over rounds, by student with its lengths, load and figure."""
    found: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for one in checks:
        found.setdefault((case_of(one.record), one.load, one.what), []).append((one.measured, one.estimate))
    return {key: (float(np.mean([m for m, _ in each])), float(np.mean([e for _, e in each])))
            for key, each in sorted(found.items())}  # fmt: skip


def replace_row(file: Path, row: dict[str, Any]) -> None:
    """The engine's row in the catalog's table; what stands before it stays as it is."""
    text = file.read_text(encoding="utf-8")
    start = text.find(f"[{ENGINE}]")
    others = text[:start].rstrip() if start >= 0 else text.rstrip()
    checked = date.fromisoformat(row["checked"])
    file.write_text(f"{others}\n\n{tomli_w.dumps({ENGINE: {**row, 'checked': checked}})}", encoding="utf-8")


def text_of(
    machine: dict[str, Any], left_out: list[Any], made: Validation, row: dict[str, Any], noise: NDArray[np.float64]
) -> str:
    """The page."""
    where = machine["machine"]
    lines = [
        "# The estimate, held against two students on a CPU",
        "",
        "Made by `python scripts/validate_students.py measure ...` and `... page` from the records in",
        f"`data/benchmarks/cpu`: {where['cpu']}, {where['threads']} threads, torch {where['versions'].get('torch')},",
        f"transformers {where['versions'].get('transformers')}. The machine by `distillcalc benchmark machine`: "
        f"{machine['row']['bandwidth_gb_s']} GB/s,",
        f"{machine['row']['bf16_tflops']} TFLOP/s (fp32).",
        "",
        "## Before and after the re-fit",
        "",
        "The engine's row is fitted to three shapes with random weights, to no student; then again to two rounds of",
        "the students. Both are held against two other rounds, which neither was fitted to. The students are decoders:",
        "three layers of SmolLM2's thirty, of docs/results/students.md, and ten, trained for two epochs on the demo's",
        "answers (`validate_students.py student`; 18% right: its speed is measured here, not its quality).",
        "",
        "| student | figure | mean error before | worst | mean error after | worst |",
        "|---|---|---|---|---|---|",
    ]
    before, after = pooled(made.before), pooled(made.after)
    students = sorted({case.rsplit("-", 1)[0] for case, _, _ in before})
    for student in [*students, ""]:
        for what in ("TPOT", "throughput", "TTFT", "E2E", "memory"):
            cells = []
            for found in (before, after):
                errors = [
                    abs(estimate / measured - 1)
                    for (case, _, which), (measured, estimate) in found.items()
                    if which == what and case.startswith(student)
                ]
                cells += [f"{np.mean(errors):.1%}", f"{max(errors):.1%}"]
            lines.append(f"| {student or 'both'} | {what} | {' | '.join(cells)} |")
    lines += [
        "",
        "A figure is the mean over the two rounds that were held out, for each student, length and load; errors are",
        "over those. The machine is a virtual one whose memory others use too: TPOT of the same student at the same",
        f"load lay {noise.mean():.0%} apart in the four rounds on average (largest less smallest), {noise.max():.0%}",
        "at the worst. So the rounds are taken in turn: two measurements before this one, in which the runs that were",
        "fitted to came minutes after those that were held out, had TPOT and throughput 8.4% and 8.1% off after the",
        "re-fit, and 10.5% and 12.0%.",
        "",
        "What is off by the model and not by chance: two in flight. The product of a matrix with two rows takes longer",
        "here than that with four, which no time knows that grows with the work.",
    ]
    lines += ["", "| student | load | figure | measured | before | after |", "|---|---|---|---|---|---|"]
    for (case, load, what), (measured, estimate) in before.items():
        if what in ("TPOT", "throughput"):
            fitted = after[case, load, what][1]
            scale, unit = (1e3, "ms") if what == "TPOT" else (1.0, "tokens/s")
            lines.append(
                f"| {case} | {load} | {what} | {measured * scale:.1f} {unit} | {estimate * scale:.1f} {unit} "
                f"({estimate / measured - 1:+.0%}) | {fitted * scale:.1f} {unit} ({fitted / measured - 1:+.0%}) |"
            )
    lines += [
        "",
        "## A shape that the row was not fitted to",
        "",
        "| shape | TPOT | throughput | TTFT |",
        "|---|---|---|---|",
    ]
    for name, one in left_out:
        cells = [f"{one.mean(what, after=True):.0%}" for what in ("TPOT", "throughput", "TTFT")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        f"So `tpot_factor` is {row['tpot_factor']} and `ttft_factor` {row['ttft_factor']}: nine in ten of these are",
        "within them.",
        "",
        "## The row",
        "",
        "```toml",
        tomli_w.dumps({ENGINE: row}).strip(),
        "```",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, or write up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("student", "measure", "page"))
    parser.add_argument("students", type=Path, nargs="*")
    parser.add_argument("--records", type=Path, default=Path("data/benchmarks/cpu"))
    parser.add_argument("--page", type=Path)
    parser.add_argument("--engines", type=Path, help="engines.toml whose row is replaced")
    asked = parser.parse_args()
    if asked.what == "student":
        student(*asked.students)
        return
    if asked.what == "measure":
        measure(asked.students, asked.records)
        return
    text, row = page(asked.records)
    if asked.engines:
        replace_row(asked.engines, row)
    if asked.page:
        asked.page.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
