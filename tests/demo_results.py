"""Results of the demo for tests of its report: of the library's own objects, with made-up measurements."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import distillcalc.distill.training.scores as scores
from distillcalc.benchmark.record import Level, Measured, Record, plain
from distillcalc.benchmark.summary import summarise
from distillcalc.benchmark.validation import Check, Validation
from distillcalc.catalog import Catalog
from distillcalc.demo_result import DemoResult
from distillcalc.demo_routing import Routed, decide_again, fitted_to, goal_of
from distillcalc.demo_steps import data
from distillcalc.distill.training.four_way import Facts, FourWay, four_way
from distillcalc.distill.training.four_way import Measured as Judged
from distillcalc.distill.training.result import TrainRun
from distillcalc.distill.training.scores import Answers, paired_difference
from distillcalc.route.pairs import Pairs
from distillcalc.route.requests import Request
from distillcalc.workload import Scenario
from distillcalc.workload.logs import profile_logs
from distillcalc.workload.logs.profile import WorkloadProfile
from tests.benchmark.queues import traces_of

ITEMS = 336
VERDICTS = {  # right answers of the teacher and of the student, and how well the student knows which
    "router": (320, 280, 3.0),
    "student": (255, 246, 1.0),
    "teacher": (320, 280, 0.0),
    "more-data": (320, 270, 0.6),
}
LABELS = ["delivery", "return", "damage", "change", "payment", "account", "product", "feedback"] * 42
SHAPE = {
    "layers": 6, "hidden": 384, "heads": 12, "kv_heads": 12, "head_dim": 32, "vocab": 30522, "intermediate": 1536,
    "tied_embeddings": True,
}  # fmt: skip
MACHINE = {
    "cpu": "Intel(R) Xeon(R) Processor @ 2.60GHz", "cores": 2, "memory_gb": 8.2, "system": "Linux",
    "architecture": "x86_64", "python": "3.12.1", "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
    "commit": "0123abc", "gpu": "", "gpus": 0, "driver": "", "cuda": "", "threads": 2,
}  # fmt: skip
STAND_IN = (
    "No key, no cloud: openai/gpt-6-sol is played by a small model on this machine (SmolLM2, 135 million parameters, "
    "trained for this task by the project). Traffic, prices and the arithmetic are the big model's; how good the "
    "teacher is, and what was measured, are the small one's."
)
SECONDS = {
    "read the log": 1.9, "decide": 2.2, "start the teacher": 14.0, "label": 96.5, "train the student": 151.0,
    "measure the teacher": 44.0, "measure the student": 3.1, "measure this machine": 16.0, "validate": 2.0,
    "route": 2.6, "decide again": 3.4,
}  # fmt: skip


@cache
def log() -> WorkloadProfile:
    """The shipped log, profiled."""
    return profile_logs(data() / "requests.parquet")


def scenario(**workload: Any) -> Scenario:
    """The demo's, but for what is given of the workload."""
    choices = tomllib.loads((data() / "choices.toml").read_text(encoding="utf-8"))
    made = log().workload(**{**choices.pop("workload"), **workload})
    choices["choices"].pop("serving", None)
    choices["overrides"]["models"] = {"minilm-l6": {"shape": SHAPE}}
    return Scenario.from_dict({"workload": made.model_dump(exclude_unset=True), **choices})


def answers(right: int, start: int = 0, s: float | None = 0.01, seed: int | None = None) -> Answers:
    """336 answers, of which so many are right, those from ``start`` on."""
    hit = np.roll(np.arange(ITEMS) < right, start)
    said = tuple(label if one else "none" for label, one in zip(LABELS, hit, strict=True))
    return Answers(said, hit.astype(float), np.full(ITEMS, 0.7), None if s is None else np.array([s]), seed)


def trained(teacher: int, student: int) -> TrainRun:
    """A run of training with these many right answers."""
    draws, scores.DRAWS = scores.DRAWS, 300
    try:
        big, small = Facts(parameters=134_515_008, bytes=538_060_032), Facts(parameters=22_713_216, bytes=90_852_864)
        learnt = small.model_copy(update={"training_hours": 0.02, "training_on": "CPU", "labels_usd": 0.42})
        ours, alone = answers(student, s=0.0061, seed=0), answers(max(student - 9, 0), 4, s=0.0062, seed=0)
        table: FourWay = four_way(
            [
                Judged("teacher", answers(teacher, 8, s=0.31), facts=big),
                Judged("raw student", answers(121, 100, s=0.006), facts=small),
                Judged("label-only student", alone, facts=learnt),
                Judged("distilled student", ours, facts=learnt),
            ],
            labels=LABELS, task="customer messages",
        )  # fmt: skip
        gain = paired_difference(ours, alone)
    finally:
        scores.DRAWS = draws
    return TrainRun(
        Path("runs/x"), Path("runs/x/student"), table, {}, {"distilled student against label-only student": gain},
        {"train": 288, "left_out": {"no label of the task": 3}}, ("One seed: others may turn out otherwise.",),
    )  # fmt: skip


def record(name: str, seconds: float, model: str, first: float = 1.0) -> Record:
    """A run at two loads in which requests take about so long; the first token after a share ``first`` of it."""
    rng = np.random.default_rng(0)
    levels = []
    for concurrency in (1, 4):
        takes = seconds * concurrency**0.8 * rng.lognormal(0, 0.15, 64)
        due = np.repeat(np.cumsum(takes[::concurrency]), concurrency)
        traces = traces_of(
            due, due + takes, first_s=due + first * takes, output_tokens=np.full(64, 3 if first < 1 else 1)
        )
        summary = plain(summarise(traces).to_dict())
        levels.append(
            Level(load={"kind": "closed", "concurrency": concurrency}, summary=summary, peak_memory_bytes=10**9)
        )
    measured = Measured(name=model, kind="in-process", weights="trained", engine="transformers", precision="fp32")
    asked = {"mean_input_tokens": 34.2, "mean_output_tokens": 3.0, "counted_by": "tokenizer"}
    return Record(
        name=name, created="2026-11-28T21:40:00+00:00", measured=measured, machine=MACHINE, workload=asked,
        settings={"requests": 64}, levels=tuple(levels),
    )  # fmt: skip


def validation(refit: bool = True) -> Validation:
    """Estimates that are off, and off by less after the re-fit."""
    rng = np.random.default_rng(1)
    truth = {"TTFT": 0.11, "TPOT": 0.05, "E2E": 0.31, "throughput": 9.0, "memory": 9.2e8}
    before, after = [], []
    for name, kinds in (("teacher", list(truth)), ("student", ["TTFT", "E2E", "throughput", "memory"])):
        for load in ("1 in flight", "4 in flight"):
            for what in kinds:
                factor = 1.6 if what in ("TTFT", "TPOT", "E2E") else 0.7 if what == "throughput" else 0.95
                off, less = factor * float(np.exp(rng.normal(0, 0.15))), float(np.exp(rng.normal(0, 0.06)))
                spread = 1.3 if what != "TTFT" else 4.2
                before.append(Check(name, load, what, truth[what] * off, truth[what], spread))
                now = off if what == "memory" else less
                after.append(Check(name, load, what, truth[what] * now, truth[what], spread))
    if not refit:
        return Validation("cloud-vcpu-2", "transformers", tuple(before))
    fitted = Catalog.load().engine("llama-cpp").model_copy(update={"source": "fitted to 812 measured steps"})
    return Validation(
        "cloud-vcpu-2", "transformers", tuple(before), tuple(after), fitted, ("teacher-again", "student-again")
    )


def pairs(teacher: int, student: int, knows: float = 1.0, items: int = ITEMS) -> Pairs:
    """What both answered to 336 messages, these many right, and how sure the student was.

    Parameters
    ----------
    knows : how much surer it is where it is right, in standard deviations.
    """
    rng = np.random.default_rng(0)
    ours, theirs = (rng.permutation(np.arange(items) < right).astype(float) for right in (student, teacher))
    logit = rng.normal(1.0, 1.0, items) + knows * (ours - 0.5)
    likeliest = 1 / 8 + 7 / 8 / (1 + np.exp(-logit))
    probabilities = np.column_stack([likeliest, *[(1 - likeliest) / 7] * 7])
    found = Pairs.of(
        ours, theirs, texts=[f"message {i}" for i in range(items)], student="minilm-l6", teacher="openai/gpt-6-sol"
    )
    requests = (Request(f"message {i}", "delivery", list(map(float, row))) for i, row in enumerate(probabilities))
    return replace(found, requests=tuple(requests))


def routed(pairs: Pairs, **workload: Any) -> Routed:
    """A router of these pairs for what the demo asks, or for what is given of the workload."""
    return Routed(fitted_to(pairs, goal_of(scenario(**workload))), Path("runs/x/router"))


def made(
    teacher: int = 255, student: int = 246, *, knows: float = 1.0, refit: bool = True, small: bool = False,
    **workload: Any,
) -> DemoResult:  # fmt: skip
    """A result of these many right answers of 336, with what is given of the workload instead of the demo's own."""
    router = routed(pairs(teacher, student, knows), **workload)
    again = decide_again(
        scenario(**workload), router.fitted.router,
        evaluations={"teacher": (teacher, ITEMS), "minilm-l6": (student, ITEMS)}, actual_usd={"labels": 0.4188},
    )  # fmt: skip
    checked = validation(refit)
    return DemoResult(
        created="2026-11-28T21:47:12+00:00", small=small, machine=MACHINE,
        teacher={"name": "openai/gpt-6-sol", "played_by": "smollm2-135m", "sentence": STAND_IN}, seconds=SECONDS,
        traffic=plain(log().to_dict()), decision=plain(again.before.to_dict()),
        labelling={
            "rows": 320, "valid": 317, "right": 241, "of": 317, "calls": 320, "price": "openai/gpt-6-sol",
            "seconds": 96.5, "forecast_usd": 0.4461, "actual_usd": 0.4188,
        },
        training=plain(trained(teacher, student).to_dict()),
        quality={"teacher": (teacher, ITEMS), "student": (student, ITEMS)},
        benchmarks={
            "teacher": record("teacher", 0.31, "smollm2-135m (teacher)", 0.4).model_dump(mode="json"),
            "student": record("student", 0.0061, "minilm-l6 (student)").model_dump(mode="json"),
        },
        validation=plain(checked.to_dict() | {"sentences": checked.sentences}), routing=plain(router.to_dict()),
        redecision=plain(again.to_dict()), after=plain(again.after.to_dict()),
    )  # fmt: skip


@cache
def flips() -> DemoResult:
    """The big model was recommended; a student that is measured to be good enough takes its place."""
    return made()


@cache
def stands() -> DemoResult:
    """The student is not good enough: the big model stays."""
    return made(student=150, knows=0.0)


@cache
def none_may() -> DemoResult:
    """No option meets the quality that is asked for."""
    return made(quality={"metric": "accuracy", "floor": 0.95})
