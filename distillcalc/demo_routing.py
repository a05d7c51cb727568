"""The demo's step that routes: which answers of the small model to keep, and which messages to send on to the big one.

The router goes by how sure the student is of its own answer. One half of the test messages tunes it, the other half
certifies it; the same messages are counted for the quality of both models. What was measured of the router stands in
the second decision whatever the verdict: there the calculator prices each of its thresholds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillcalc.demo_steps import STUDENT

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from distillcalc.benchmark.redeciding import Redecision
    from distillcalc.distill.records import Record
    from distillcalc.route.fit import Fitted
    from distillcalc.route.goal import Goal
    from distillcalc.route.pairs import Pairs
    from distillcalc.route.router import Router
    from distillcalc.workload import Scenario

FOLDER = "router"
SCORES = (
    "max_probability",
    "margin",
    "entropy",
)  # of the student's probabilities; the best on the tuning half is taken
SOURCE = "the demo's test messages"


@dataclass(frozen=True, eq=False)
class Routed:
    """A router that was made, and where it lies.

    Parameters
    ----------
    fitted : the router, its certificate and the verdict.
    folder : that :meth:`distillcalc.route.router.Router.load` reads.
    """

    fitted: Fitted
    folder: Path

    def __str__(self) -> str:
        made, (_, tuned, certified) = self.fitted, self.fitted.parts
        return (
            f"{made.verdict}\n"
            f"It goes by the student's {made.router.score_name}: tuned on {tuned:,} test messages, certified on "
            f"{certified:,} others. Kept in {self.folder}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: those of the fit, the verdict in words, and the certifying items one by one."""
        from distillcalc.route.fit import COLUMN

        made = self.fitted
        return made.to_dict() | {
            "verdict": str(made.verdict),
            "goal": str(made.certificate.goal),
            "folder": self.folder.name,
            "certifying": {
                "score": made.certifying.score(COLUMN)[:, 0].tolist(),
                "student_right": made.certifying.right[:, 0].tolist(),
                "teacher_right": made.certifying.right[:, 1].tolist(),
            },
        }


def route(folder: Path, student: Path, teacher: str, scenario: Scenario) -> Routed:
    """Make a router between a trained student and its teacher.

    The student's answers are kept; the router is fitted again whenever the demo is run again, for that takes less than
    a second and comes out the same.

    Parameters
    ----------
    folder : of the demo, with the teacher's answers to the test messages.
    student : folder of the classifier.
    teacher : provider/model, as the scenario names it.
    scenario : says what quality is asked for.
    """
    fitted = fitted_to(pairs_in(folder, student, teacher), goal_of(scenario))
    return Routed(fitted, fitted.router.save(folder / FOLDER))


def fitted_to(pairs: Pairs, goal: Goal) -> Fitted:
    """A router by the student's own confidence: one half of the pairs tunes it, the other certifies it."""
    from distillcalc.route.fit import fit_router

    return fit_router(pairs, goal, scores=SCORES, kind="cascade", source=SOURCE)


def goal_of(scenario: Scenario) -> Goal:
    """What the workload asks of quality, as surely as it asks for it."""
    from distillcalc.route.goal import Goal

    asked = scenario.workload.quality
    least = {"floor": asked.floor} if asked.floor is not None else {"retention": asked.retention_floor}
    return Goal.of(**least, confidence=asked.confidence)


def pairs_in(folder: Path, student: Path, teacher: str) -> Pairs:
    """What student and teacher answered to the test messages: read where it was kept of these very answers.

    The file's name tells student and answers: after another training, or other labels, it is another file.
    """
    from distillcalc.route.reading import read_pairs, write_pairs

    answers = folder / "test-answers.jsonl"
    digest = hashlib.sha256()
    for file in (*sorted(student.glob("*.safetensors")), answers):
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    kept = folder / f"pairs-{digest.hexdigest()[:8]}.jsonl"
    if not kept.is_file():
        from distillcalc.distill.records import Dataset
        from distillcalc.distill.training.classifier import Classifier

        classifier, records = Classifier.load(student), Dataset.load(answers).records
        probabilities = classifier.probabilities([record.text for record in records])
        write_pairs(pairs_of(records, classifier.labels, probabilities, teacher), kept)
    return read_pairs(kept, names={"student": STUDENT, "teacher": teacher})


def pairs_of(records: Sequence[Record], labels: Sequence[str], probabilities: ArrayLike, teacher: str) -> Pairs:
    """Pairs of the teacher's answers and the student's probabilities.

    Parameters
    ----------
    records : the teacher's answers, with what people say is right.
    labels : of the student.
    probabilities : of the student's labels, shape (records, labels), each row summing to 1.
    teacher : its name in the scenario.
    """
    import numpy as np

    from distillcalc.route.pairs import Pairs
    from distillcalc.route.requests import Request

    rows = np.asarray(probabilities, dtype=float)
    rows = rows / rows.sum(axis=1, keepdims=True)
    said = [labels[place] for place in rows.argmax(axis=1)]
    texts = [record.text for record in records]
    pairs = Pairs.of(
        [float(answer == record.human_label) for answer, record in zip(said, records, strict=True)],
        [float(bool(record.is_right)) for record in records],
        texts=texts, ids=[record.id for record in records], student=STUDENT, teacher=teacher, source=SOURCE,
    )  # fmt: skip
    return replace(
        pairs,
        agreement=np.array([float(a == record.answer) for a, record in zip(said, records, strict=True)]),
        requests=tuple(Request(t, a, list(map(float, p))) for t, a, p in zip(texts, said, rows, strict=True)),
    )


def decide_again(scenario: Scenario, router: Router, **measured: Any) -> Redecision:
    """The decision again with what was measured, the router included; the first one knows of none of it.

    Parameters
    ----------
    scenario : that the first decision was made of.
    router : of its student and its teacher.
    measured : as :func:`distillcalc.benchmark.redeciding.redecide` takes it.
    """
    from distillcalc.benchmark.redeciding import redecide
    from distillcalc.route.deciding import with_router

    plain = redecide(scenario, **measured)
    routed = redecide(with_router(scenario, router), **measured)
    return replace(routed, before=plain.before, qualities=plain.qualities)
