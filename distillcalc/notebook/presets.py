"""Scenarios to start from: five that many teams have, and a file of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distillcalc.errors import UnknownName
from distillcalc.workload.files import samples
from distillcalc.workload.scenario import Scenario

_RAG: dict[str, Any] = {
    "workload": {
        "name": "RAG answers",
        "requests_per_day": 12_000,
        "growth_per_month": 0.04,
        "hour_of_week": "business-hours",
        "input_tokens": {"mean": 3_600, "p95": 6_500},
        "output_tokens": {"mean": 240, "p95": 520},
        "student_input_tokens": {"mean": 2_900, "p95": 5_600},
        "cacheable_prefix_tokens": 700,
        "slo": {"ttft_p95_s": 2.0, "e2e_p95_s": 15.0},
        "quality": {"metric": "rubric score", "floor_relative_to_teacher": 0.93},
        "start": "2026-12-01",
    },
    "choices": {"teacher": "openai/gpt-6-sol", "students": ["qwen3-8b", "qwen3-14b"], "student_retention": 0.96},
    "use": {"kind": "generative", "competes_with_teacher": False},
}
_EXTRACTION: dict[str, Any] = {
    "workload": {
        "name": "batch extraction",
        "requests_per_day": 300_000,
        "input_tokens": {"mean": 1_400, "p95": 3_200},
        "output_tokens": {"mean": 180, "p95": 360},
        "student_input_tokens": {"mean": 900, "p95": 2_400},
        "cacheable_prefix_tokens": 500,
        "batchable_share": 1.0,
        "quality": {"metric": "field accuracy", "floor": 0.92},
        "start": "2026-12-01",
    },
    "choices": {
        "teacher": "openai/gpt-6-sol",
        "students": ["qwen3-4b", "qwen3-8b"],
        "evaluations": {
            "teacher": {"correct": 962, "total": 1_000},
            "qwen3-4b": {"correct": 931, "total": 1_000},
            "qwen3-8b": {"correct": 948, "total": 1_000},
        },
    },
    "use": {"kind": "generative", "competes_with_teacher": False},
}
_ON_DEVICE: dict[str, Any] = {
    "workload": {
        "name": "on-device replies",
        "requests_per_day": 60,
        "input_tokens": {"mean": 220, "p95": 480},
        "output_tokens": {"mean": 24, "p95": 60},
        "private": True,
        "slo": {"e2e_p95_s": 6.0},
        "quality": {"metric": "acceptance rate", "floor_relative_to_teacher": 0.85},
        "start": "2026-12-01",
    },
    "choices": {
        "teacher": "deepseek-r1",
        "students": ["qwen3-0.6b", "qwen3-1.7b"],
        "student_retention": 0.9,
        "gpus": ["snapdragon-8-elite"],
        "serving": {
            "precision": "int4",
            "commitment": "owned",
            "capex_usd_per_gpu": 800,
            "spare_replicas": 0,
            "operations_hours_per_month": 2,
        },
        "distillation": {"inputs": "synthetic"},
    },
    "use": {"kind": "generative", "competes_with_teacher": False, "distributed": True},
}

PRESETS: dict[str, str] = {
    "support-triage": "Support triage",
    "code-completion": "Code completion",
    "rag-answers": "RAG answers",
    "batch-extraction": "Batch extraction",
    "on-device": "On-device replies",
}
_OWN = {"rag-answers": _RAG, "batch-extraction": _EXTRACTION, "on-device": _ON_DEVICE}


def preset(name: str) -> Scenario:
    """A scenario to start from, by its id.

    Parameters
    ----------
    name : a key of ``PRESETS``, or a shipped sample.

    Raises
    ------
    UnknownName
        If there is none of this name; the nearest are told.
    """
    if name in _OWN:
        return Scenario.from_dict(_OWN[name])
    if name in samples():
        return Scenario.load(name)
    raise UnknownName("preset", name, [*PRESETS, *samples()], f"Presets: {', '.join(PRESETS)}.")


def opened(start: str | Path | Scenario) -> Scenario:
    """The scenario of a preset's id, of a scenario file, or itself.

    Raises
    ------
    UnknownName, InputError
        If there is no such preset or file, or the file cannot be right.
    """
    if isinstance(start, Scenario):
        return start
    text = str(start)
    if not Path(text).is_file() and "/" not in text and not text.endswith(".toml"):
        return preset(text)
    return Scenario.load(start)
