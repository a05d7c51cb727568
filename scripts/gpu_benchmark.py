"""Measure one GPU unattended, within a time limit and without a network; the records go to data/benchmarks.

    scripts/gpu_benchmark.sh                      # 8 minutes on a GPU
    scripts/gpu_benchmark.sh --device cpu --small --out runs/records     # a minute, to see that all of it runs

Steps (:mod:`gpu_benchmark_steps`) go in the order of what they are worth. Each is a process of its own, so that one
that runs out of memory or is killed takes no other with it. It is begun where its estimate fits into the time left, and
ended when the time is up or three times the estimate has passed. A summary says of every step what it brought, or why
it was skipped or failed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from gpu_benchmark_steps import Step, plan, slug, tell, why_not, write
from pydantic import Field

from distillcalc.benchmark.record import now
from distillcalc.distill.records import Strict

OUT = Path(__file__).resolve().parents[1] / "data/benchmarks"
MINUTES = 8.0
DESCRIBE = "import json; from distillcalc.benchmark.machine import describe_machine as d; print(json.dumps(d()))"
TO_SAVE_S = 5.0  # that a step leaves of its time, to write what it has
PATIENCE = 3.0  # times its estimate that a step may take: one that hangs leaves the others their time
SHOWN = 300  # characters of an error


class Done(Strict):
    """What became of a step: ``said`` is its result in words, or why there is none."""

    step: str
    outcome: Literal["done", "failed", "skipped"]
    said: str
    estimate_s: float
    seconds: float = 0.0
    files: tuple[str, ...] = ()
    numbers: dict[str, Any] = Field(default_factory=dict)


class Summary(Strict):
    """The whole run; ``minutes`` was its limit."""

    schema_version: Literal[1] = 1
    kind: Literal["gpu-benchmark"] = "gpu-benchmark"
    created: str
    device: str
    small: bool
    minutes: float
    seconds: float
    machine: dict[str, Any]
    steps: tuple[Done, ...]


def described(device: str | None) -> dict[str, Any]:
    """What the machine is, asked of another process: this one takes nothing of a GPU that may serve one at a time."""
    done = subprocess.run(
        [sys.executable, "-c", DESCRIBE], stdout=subprocess.PIPE, text=True, check=True, env=environment(device)
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def environment(device: str | None) -> dict[str, str]:
    """Of the steps: on a CPU they see no GPU."""
    return os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {})


def run(steps: Sequence[Step], asked: argparse.Namespace, machine: Mapping[str, Any]) -> Summary:
    """Do the steps that fit into the time, each in a process of its own; the summary is on disk after each."""
    began = time.monotonic()
    ends = began + 60 * asked.minutes
    done: list[Done] = []
    while True:
        summary = Summary(
            created=now(), device=asked.device, small=asked.small, minutes=asked.minutes,
            seconds=round(time.monotonic() - began, 1), machine=dict(machine), steps=tuple(done),
        )  # fmt: skip
        write(asked.out / f"gpu-benchmark-{slug(asked.device, machine)}.json", summary.model_dump(mode="json"))
        if len(done) == len(steps):
            return summary
        step, left = steps[len(done)], ends - time.monotonic()
        why = why_not(step, asked.device)
        if not why and step.estimate_s > left:
            why = f"takes about {step.estimate_s:.0f} s, and {max(left, 0):.0f} s are left of {asked.minutes:g} minutes"
        if why:
            done.append(Done(step=step.name, outcome="skipped", said=why, estimate_s=step.estimate_s))
        else:
            tell(f"{step.name}: about {step.estimate_s:.0f} s, {left:.0f} s are left")
            room = left if asked.small else min(left, PATIENCE * step.estimate_s)  # a busy CPU is no step that hangs
            command = [
                sys.executable, str(Path(__file__).with_name("gpu_benchmark_steps.py")), step.name,
                "--device", asked.device, "--out", str(asked.out), "--seconds", str(room - TO_SAVE_S),
            ]  # fmt: skip
            done.append(
                attempt(step, [*command, "--small"] if asked.small else command, room, environment(asked.device))
            )
        tell(f"{step.name}: {done[-1].outcome}; {done[-1].said}")


def attempt(step: Step, command: Sequence[str], seconds: float, variables: Mapping[str, str] | None = None) -> Done:
    """Run a step's process to its end, or end it when the time is up.

    Parameters
    ----------
    command : prints its result as a line of JSON at the end, or its error as the last line of stderr.
    seconds : that it may take.
    """
    began = time.monotonic()
    late = False
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables, start_new_session=True
    )
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        late = True
        os.killpg(process.pid, signal.SIGKILL)  # what it started ends with it
        out, err = process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    took: dict[str, Any] = {
        "step": step.name, "estimate_s": step.estimate_s, "seconds": round(time.monotonic() - began, 1)
    }  # fmt: skip
    if process.returncode == 0:
        return Done(outcome="done", **took, **json.loads(out.strip().splitlines()[-1]))
    last = next((line.strip()[:SHOWN] for line in reversed(err.splitlines()) if line.strip()), "it said nothing")
    if late:
        last = f"it did not end in the {seconds:.0f} s that it had"
    elif process.returncode < 0:
        last = f"ended by {signal.Signals(-process.returncode).name}; its last words: {last}"
    print(err[-4000:], file=sys.stderr)
    return Done(outcome="failed", said=last, **took)


def table(summary: Summary) -> str:
    """A line for each step."""
    rows = [("step", "outcome", "s", "result")]
    rows += [(one.step, one.outcome, f"{one.seconds:.0f}", one.said) for one in summary.steps]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}" for row in rows)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the records")
    parser.add_argument("--device", choices=("cuda", "cpu"), help="left out: cuda if there is one")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time limit of the whole run (default: 8)")
    parser.add_argument("--small", action="store_true", help="tiny shapes, to see that all of it runs")
    parser.add_argument("--only", action="append", metavar="STEP", help="do this step alone; repeatable")
    asked = parser.parse_args(given)
    if not 0 <= asked.minutes < float("inf"):
        parser.error(f"--minutes must be 0 or more. Got {asked.minutes:g}")
    return asked


def main(given: Sequence[str] | None = None) -> int:
    """0 where something was measured, or nothing was begun."""
    asked = arguments(given)
    steps = {step.name: step for step in plan(asked.small)}
    unknown = [name for name in asked.only or () if name not in steps]
    if unknown:
        tell(f"there is no step {unknown[0]!r}. There are: {', '.join(steps)}")
        return 2
    machine = described(asked.device)
    asked.device = asked.device or ("cuda" if machine["gpu"] else "cpu")
    if asked.device == "cuda" and not machine["gpu"]:
        tell("there is no CUDA device here, or torch is built without CUDA. To see that it runs: --device cpu --small")
        return 2
    chosen = [one for name, one in steps.items() if not asked.only or name in asked.only]
    summary = run(chosen, asked, machine)
    print(table(summary))
    print(f"{summary.seconds:.0f} s; the records are in {asked.out}")
    outcomes = {one.outcome for one in summary.steps}
    return 1 if "failed" in outcomes and "done" not in outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
