"""A server, a spec for it, and a clock that nobody waits for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from distillcalc.distill.finetune import FineTuned, FineTuneProvider, FineTuneSpec, Progress, connect, finetune
from tests.distill.server import Server

APIS = ("openai", "together")
KEY = "FINETUNE_TEST_KEY"
SECRET = "sk-test-not-a-real-key"
TODAY = date(2026, 11, 24)
ROWS = 12
MODELS = {"openai": "gpt-4o-mini", "together": "meta-llama/Meta-Llama-3.1-8B-Instruct-Reference"}


@dataclass(frozen=True)
class Facts:
    rows: int
    billed_tokens: int
    ok: bool = True
    problems: tuple[str, ...] = ()


def words(path: Path, *, epochs: int) -> Facts:
    """A check that counts words, as the server does."""
    text = path.read_text()
    return Facts(len(text.splitlines()), len(text.split()) * epochs)


@dataclass
class Clock:
    """Time passes only by sleeping."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def time(self) -> float:
        return self.now


def training_file(folder: Path, rows: int = ROWS) -> Path:
    file = folder / "train.jsonl"
    chat = [{"role": "user", "content": "good day"}, {"role": "assistant", "content": "yes"}]
    file.write_text("".join(json.dumps({"messages": chat}) + "\n" for _ in range(rows)))
    return file


def spec(server: Server, folder: Path, api: str = "openai", **given: Any) -> FineTuneSpec:
    values: dict[str, Any] = {
        "name": "one",
        "provider": api,
        "base_url": server.base_url,
        "key_env": KEY,
        "model": MODELS[api],
        "training_file": training_file(folder),
        "fine_tunes_before": True,
        "seed": 7,
    }
    if api == "together":
        values["params_b"] = 8
    return FineTuneSpec.of(values | given)


@contextmanager
def service(made: FineTuneSpec, clock: Clock | None = None) -> Iterator[FineTuneProvider]:
    with closing(connect(made, sleep=(clock or Clock()).sleep)) as found:
        yield found


def tune(
    made: FineTuneSpec, folder: Path, *, steps: list[Progress] | None = None, clock: Clock | None = None, **given: Any
) -> FineTuned:
    """finetune() on a clock of its own."""
    clock = clock or Clock()
    options: dict[str, Any] = {
        "folder": folder / "runs", "check": words, "today": TODAY, "sleep": clock.sleep, "clock": clock.time,
        "progress": None if steps is None else steps.append,
    }  # fmt: skip
    with service(made, clock) as found:
        return finetune(made, **{"provider": found, **options, **given})


def journal(folder: Path, name: str = "one") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "runs" / name / "journal.jsonl").read_text().splitlines()]


def events_of(folder: Path, name: str = "one") -> list[str]:
    return [line["event"] for line in journal(folder, name)]
