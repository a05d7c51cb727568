"""Trainings beside others on the same model, data and machine: beside TRL on hard labels, a naive Trainer on soft ones.

Each is a fresh process; they take turns, and the ratio is of medians. ROWS are as many as the steps need, so that the
teacher's memory of what it read (:mod:`distillcalc.distill.training.live_teacher_torch`) plays no part.
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

ONCE = Path(__file__).with_name("training_once.py")
ROUNDS = 3

Record = Callable[..., None]


def once(kind: str, which: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, str(ONCE), kind, which], check=True, capture_output=True, text=True)
    said: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return said


@pytest.mark.parametrize(("kind", "other", "name"), [("hard", "trl", "TRL's SFTTrainer"), ("soft", "naive", "naive")])
def test_tokens_a_second_beside_others(
    benchmark: BenchmarkFixture, record: Record, kind: str, other: str, name: str
) -> None:
    theirs, ours = [], []
    for _ in range(ROUNDS):
        theirs.append(once(kind, other)["tokens_per_s"])
        ours.append(once(kind, "ours")["tokens_per_s"])
    benchmark.pedantic(once, args=(kind, "ours"), rounds=1)
    record(f"training, {kind} labels: tokens/s", median(ours), "tokens/s")
    record(f"training, {kind} labels: tokens/s / {name}'s", median(ours) / median(theirs), "x", at_least=1.0)
