"""The demo's step that routes: pairs of what was answered, a verdict of each kind, and the decision that knows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distillcalc.distill.training.classifier as classifier
from distillcalc.demo_routing import FOLDER, Routed, decide_again, goal_of, pairs_in, pairs_of, route
from distillcalc.distill.records import Dataset
from distillcalc.route.router import Router
from tests.demo_results import ITEMS, VERDICTS, pairs, routed, scenario
from tests.distill.making import record

BIG = "openai/gpt-6-sol"


def test_pairs_hold_what_both_said_and_how_sure_the_student_was() -> None:
    records = [
        record("test-1", "one", "a", human_label="a"),
        record("test-2", "two", "b", human_label="a"),
        record("test-3", "three", "neither", value=None, human_label="b", problems=("no label",)),
    ]
    made = pairs_of(records, ("a", "b"), np.array([[0.7, 0.3], [0.6, 0.4], [0.2, 0.8]], dtype=np.float32), BIG)
    assert made.models == ("minilm-l6", BIG)
    assert made.right.tolist() == [[1, 1], [1, 0], [1, 0]]  # the last: no label of the task is no right answer
    assert [request.answer for request in made.requests] == ["a", "a", "b"]
    assert made.requests[0].probabilities == pytest.approx([0.7, 0.3])
    assert all(sum(request.probabilities or ()) == pytest.approx(1, abs=1e-12) for request in made.requests)
    assert made.agreement is not None
    assert made.agreement.tolist() == [1, 0, 0]


def test_the_goal_is_what_the_workload_asks_of_quality() -> None:
    assert goal_of(scenario()).model_dump(exclude_none=True) == {"retention": 0.9, "confidence": 0.9}
    asked = {"metric": "accuracy", "floor": 0.8, "confidence": 0.95}
    assert goal_of(scenario(quality=asked)).model_dump(exclude_none=True) == {"floor": 0.8, "confidence": 0.95}


@pytest.mark.parametrize("advice", VERDICTS)
def test_the_decision_prices_the_measured_router_whatever_its_verdict(advice: str) -> None:
    teacher, student, knows = VERDICTS[advice]
    made = routed(pairs(teacher, student, knows))
    assert made.fitted.verdict.advice == advice
    lines = str(made).split("\n")
    assert lines[0] == str(made.fitted.verdict)
    assert lines[1].startswith("It goes by the student's max_probability: tuned on 168 test messages, certified on 168")
    counts = {"teacher": (teacher, ITEMS), "minilm-l6": (student, ITEMS)}
    again = decide_again(scenario(), made.fitted.router, evaluations=counts)
    before, after = again.before.options["cascade"], again.after.options["cascade"]
    assert before.provenance["escalations"].kind != "measured"
    assert "threshold" not in before.facts
    assert again.before.recommendation == "call-teacher"  # the first decision knows nothing of what was measured
    assert after.provenance["escalation_rate"].kind == "measured"
    seen = made.fitted.router.measured
    assert seen is not None
    place = seen.threshold.index(after.facts["threshold"])
    assert after.facts["escalation_rate"] == pytest.approx((1 + seen.certifying.escalated[place]) / (2 + 168))
    # The counts of all test messages stand, not those of the half that certifies; and what was believed is the old.
    assert {name: (one.correct, one.total) for name, one in again.after.scenario.choices.evaluations.items()} == counts
    assert [(one.right, one.of) for one in again.qualities] == list(counts.values())
    assert again.qualities[0].estimate == pytest.approx(again.before.options["call-teacher"].quality_mean)


def test_plain_values_hold_the_messages_that_certify() -> None:
    made = routed(pairs(*VERDICTS["router"]))
    plain = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    held, certificate = plain["certifying"], made.fitted.certificate
    score, student, teacher = (np.array(held[name]) for name in ("score", "student_right", "teacher_right"))
    assert plain["advice"] == "router"
    assert plain["verdict"] == str(made.fitted.verdict)
    assert plain["folder"] == "router"
    below = score < plain["thresholds"][0]
    assert certificate.escalation_rate is not None
    assert certificate.quality is not None
    assert below.mean() == pytest.approx(certificate.escalation_rate.value)
    assert np.where(below, teacher, student).mean() == pytest.approx(certificate.quality.value)


class Sure:
    """A classifier that says "a", surer from message to message."""

    labels = ("a", "b")
    asked = 0

    def probabilities(self, texts: list[str]) -> Any:
        Sure.asked += 1
        high = np.linspace(0.55, 0.95, len(texts))
        return np.column_stack([high, 1 - high])


def test_run_again_it_asks_nobody_and_comes_out_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sure, "asked", 0)
    monkeypatch.setattr(classifier.Classifier, "load", lambda _: Sure())
    student = tmp_path / "student"
    student.mkdir()
    (student / "model.safetensors").write_bytes(b"weights")
    records = [
        record(f"test-{i}", f"text {i}", "a", human_label="b" if i < 20 and i % 2 else "a") for i in range(60)
    ]  # fmt: skip
    Dataset(tuple(records)).save(tmp_path / "test-answers.jsonl")
    first = route(tmp_path, student, BIG, scenario())
    assert isinstance(first, Routed)
    again = route(tmp_path, student, BIG, scenario())
    assert Sure.asked == 1
    assert again.to_dict() == first.to_dict()
    assert Router.load(tmp_path / FOLDER, student="minilm-l6").version == first.fitted.router.version
    # Another student, or other answers, are other pairs.
    (student / "model.safetensors").write_bytes(b"other weights")
    route(tmp_path, student, BIG, scenario())
    assert Sure.asked == 2
    Dataset((record("test-0", "text 0", "b", human_label="b"), *records[1:])).save(tmp_path / "test-answers.jsonl")
    assert pairs_in(tmp_path, student, BIG).right[0].tolist() == [0, 1]
    assert Sure.asked == 3
    assert len(list(tmp_path.glob("pairs-*.jsonl"))) == 3
