"""Scenarios that the decide tests share; helpers, no tests."""

from __future__ import annotations

from typing import Any

from distillcalc import Scenario

TEACHER = "openai/gpt-6-sol"  # 2 USD in, 0.20 cached, 10 out per million tokens; batch at half


def scenario(
    *, workload: dict[str, Any] | None = None, choices: dict[str, Any] | None = None, use: dict[str, Any] | None = None
) -> Scenario:
    """A plain email classification of one year, changed as asked."""
    return Scenario.from_dict(
        {
            "workload": {
                "requests_per_day": 10_000,
                "input_tokens": 300,
                "output_tokens": 2,
                "horizon_months": 12,
                "start": "2026-12-01",
                "quality": {"floor_relative_to_teacher": 0.9},
                **(workload or {}),
            },
            "choices": {"teacher": TEACHER, "students": ["qwen3-4b"], "gpus": ["rtx-4090"], **(choices or {})},
            "use": {"kind": "classifier", "competes_with_teacher": False, **(use or {})},
        }
    )
