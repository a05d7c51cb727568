"""Measured routers that the tests of several rooms share; helpers, no tests."""

from __future__ import annotations

from typing import Any

import numpy as np


def counts(items: int, teacher_right: int, *points: tuple[int, int, int]) -> dict[str, Any]:
    """Each point is (escalated, gained, lost)."""
    sent, gained, lost = (list(column) for column in zip(*points, strict=True))
    return {"items": items, "teacher_right": teacher_right, "escalated": sent, "gained": gained, "lost": lost}


def router(certifying: dict[str, Any], tuning: dict[str, Any] | None = None, **changed: Any) -> dict[str, Any]:
    """A router of the tiny catalog, its thresholds falling from 0.9 to 0.1 unless they are given."""
    n = len(certifying["escalated"])
    return {
        "student": "tiny",
        "teacher": "acme/big",
        "score": "margin",
        "threshold": np.round(np.linspace(0.9, 0.1, n), 6).tolist() if n > 1 else [0.5],
        "tuning": tuning or certifying,
        "certifying": certifying,
        "student_right": certifying["teacher_right"] + certifying["gained"][-1] - certifying["lost"][-1],
        **changed,
    }


def drawn(items: int, seed: int, thresholds: tuple[float, ...], teacher: float = 0.95) -> tuple[dict[str, Any], int]:
    """Counts of a score s, even on (0, 1), of a student that is right with probability 0.6 + 0.4 s; its right items."""
    rng = np.random.default_rng(seed)
    s = rng.random(items)
    student, big = rng.random(items) < 0.6 + 0.4 * s, rng.random(items) < teacher
    kept = s[None] >= np.array(thresholds)[:, None]
    gained, lost = (kept & student & ~big).sum(axis=1), (kept & big & ~student).sum(axis=1)
    points = np.stack([(~kept).sum(axis=1), gained, lost], axis=1)
    return counts(items, int(big.sum()), *points.tolist()), int(student.sum())
