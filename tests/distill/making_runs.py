"""Tasks, teachers and prices for tests that label against the server on loopback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distillcalc.catalog import Catalog
from distillcalc.distill.labelling import LabelRun, label
from distillcalc.distill.rows import Rows
from distillcalc.distill.task import Task
from distillcalc.distill.teacher import Teacher
from distillcalc.workload.scenario import Use
from tests.distill.server import Server

PRICE = {
    "input_usd_per_mtok": 1.0,
    "output_usd_per_mtok": 2.0,
    "batch_input_usd_per_mtok": 0.5,
    "batch_output_usd_per_mtok": 1.0,
}
CATALOG = Catalog.load().with_overrides(
    {
        "token_prices": {"test/model": PRICE},
        "terms": {
            "ours": {
                "provider": "test", "surface": "api", "says": "Ours: all is allowed.", "position": "allowed",
                "private_classifier": "pass", "not_competing": "pass", "competing": "pass",
            }
        },
    }
)  # fmt: skip
TASK = Task(name="mail", labels=("yes", "no"), use=Use(kind="classifier", competes_with_teacher=False))


def rows(count: int, label_of: Any = None) -> Rows:
    """So many inputs, with what people say where ``label_of`` says it."""
    found = [{"text": f"question number {i}"} | ({"truth": label_of(i)} if label_of else {}) for i in range(count)]
    return Rows(found, human_label="truth" if label_of else None)


def teacher(server: Server, **settings: Any) -> Teacher:
    """A teacher at the server; temperature 0 unless told otherwise."""
    return Teacher(
        **{"model": "test/model", "base_url": server.base_url, "temperature": 0.0, "max_output_tokens": 8} | settings
    )


def run(server: Server, tmp_path: Path, count: int = 20, **options: Any) -> LabelRun:
    """Label some rows at the server."""
    asked = options.pop("task", TASK)
    given = options.pop("rows", None) or rows(count)
    who = options.pop("teacher", None) or teacher(server)
    settings: dict[str, Any] = {
        "budget_usd": "1", "catalog": CATALOG, "runs": tmp_path / "runs", "probe": 0, "concurrency": 8,
        "patience_s": 20.0, "poll_s": 0.01,
    }  # fmt: skip
    return label(asked, who, given, **settings | options)
