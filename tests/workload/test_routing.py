"""A measured router in a scenario: counts that add up, a round trip through a file, nothing stated beside it."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from distillcalc import Scenario
from distillcalc.decide.priors import with_priors
from distillcalc.errors import InputError

TUNING = {"items": 100, "teacher_right": 90, "escalated": [60, 20], "gained": [1, 2], "lost": [0, 5]}
CERTIFYING = {"items": 200, "teacher_right": 182, "escalated": [118, 43], "gained": [1, 3], "lost": [1, 9]}


def measured(**changed: Any) -> dict[str, Any]:
    return {
        "student": "qwen3-4b",
        "teacher": "openai/gpt-6-sol",
        "score": "max_probability",
        "threshold": [0.9, 0.7],
        "tuning": TUNING,
        "certifying": CERTIFYING,
        "student_right": 170,
        **changed,
    }


def scenario(router: dict[str, Any], **routing: Any) -> Scenario:
    return Scenario.from_dict(
        {
            "workload": {
                "requests_per_day": 1000,
                "input_tokens": 900,
                "output_tokens": 60,
                "start": date(2026, 12, 1),
            },
            "choices": {"teacher": "openai/gpt-6-sol", "routing": {"measured": router, **routing}},
        }
    )


@pytest.mark.parametrize("changed", [{}, {"kind": "router", "overhead_ms": 3.5, "source": "router.json of 2026-11-29"}])
def test_a_measured_router_comes_back_from_its_file(tmp_path: Path, changed: dict[str, Any]) -> None:
    made = scenario(measured(**changed))
    file = made.save(tmp_path / "scenario.toml")
    assert "[choices.routing.measured.certifying]" in file.read_text(encoding="utf-8")
    assert Scenario.load(file) == made
    found = Scenario.load(file).choices.routing.measured
    assert found is not None
    # 182 right by the teacher, 3 more and 9 fewer by the mixture.
    assert found.certifying.right(1) == 176


@pytest.mark.parametrize("stated", [{"escalation_rate": 0.2}, {"apgr": 0.7}, {"escalation_rate": 0.1, "apgr": 0.7}])
def test_nothing_is_stated_beside_what_was_measured(stated: dict[str, float]) -> None:
    with pytest.raises(InputError, match=rf"the router is measured.*Leave {' and '.join(stated)} out"):
        scenario(measured(), **stated)


def test_priors_of_an_unmeasured_router_are_left_out() -> None:
    made = with_priors(scenario(measured()))
    assert made.choices.routing.escalation_rate is None
    assert not {"escalation_rate", "apgr"} & set(made.priors)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"teacher_right": 201}, r"teacher_right must be at most items. Got 201 of 200"),
        ({"gained": [1]}, r"one count for each threshold. Got 2, 1 and 2"),
        # 43 sent on leave 157: 18 of the teacher's errors could be gained there, not 19.
        ({"gained": [1, 19]}, r"19 gained"),
        ({"escalated": [118, 190]}, r"190 cannot be escalated, 3 gained and 9 lost"),
        ({"lost": [1, -1]}, r"-1 lost"),
    ],
)
def test_counts_that_cannot_be_are_refused(counts: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        scenario(measured(certifying=CERTIFYING | counts))


def test_every_threshold_has_its_counts() -> None:
    with pytest.raises(InputError, match=r"tuning holds one count for each of 1 thresholds. Got 2"):
        scenario(measured(threshold=[0.9]))
    with pytest.raises(InputError, match=r"student_right must be at most the certifying items \(200\). Got 300"):
        scenario(measured(student_right=300))
