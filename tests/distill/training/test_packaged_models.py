"""Every technique of the pages of results once, small, on the packaged models: the same code, a few rows and steps.

What the techniques bring is measured by scripts/students_banking77.py and scripts/students_arithmetic.py; here is held
that each runs through and leaves what it should.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from distillcalc.distill.packaged import minilm, smollm2
from distillcalc.distill.records import Dataset
from distillcalc.distill.rows import Rows
from distillcalc.distill.task import Task
from distillcalc.distill.training.classifier import Classifier
from distillcalc.distill.training.local_labels import label_locally
from distillcalc.distill.training.local_teacher import LocalTeacher
from distillcalc.distill.training.recipe import Recipe
from distillcalc.distill.training.run import TrainRun, train
from distillcalc.errors import DistillcalcError

pytestmark = pytest.mark.slow

LABELS = ("card_arrival", "exchange_rate")
TASK = {"name": "bank", "system": "Name the intent.", "labels": list(LABELS), "instruction": False}
TEXTS = {
    "card_arrival": ("Where is my new card?", "My card has not come", "When will it be here?", "Card still missing"),
    "exchange_rate": ("What is a dollar in euros?", "Your rate for yen?", "How do you set rates?", "Rate of today?"),
}
QUICK = {"steps": 3, "batch_size": 4, "learning_rate": 1e-3, "evaluations": 0, "checkpoints": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the packaged SmolLM2 says of a few rows, with people's labels where it finds no words of its own."""
    try:
        smollm2(), minilm()
    except DistillcalcError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    place = tmp_path_factory.mktemp("packaged")
    rows = [{"text": t, "human_label": label} for label, texts in TEXTS.items() for t in texts]
    teacher = LocalTeacher.load(smollm2(), name="smollm2-135m")
    made = label_locally(
        teacher, Task.model_validate(TASK), Rows(rows, None, "human_label"), max_new_tokens=4
    )  # fmt: skip
    assert {r.origin.teacher for r in made.records} == {"smollm2-135m"}
    # It has not learned this task, so most of its answers are no labels: people's stand in, that there is something.
    mended = [
        r.model_copy(update={"answer": r.human_label, "value": r.human_label, "problems": ()}) if r.problems else r
        for r in made.records
    ]
    Dataset(tuple(mended), made.card).save(place / "labels.jsonl")
    items = [{"text": "Has my card been sent?", "human_label": "card_arrival"},
             {"text": "How many yen is a pound?", "human_label": "exchange_rate"}]  # fmt: skip
    (place / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    return place


def recipe(folder: Path, name: str, technique: str, **more: Any) -> Recipe:
    plain: dict[str, Any] = {
        "name": name,
        "technique": technique,
        "task": TASK,
        "data": {"train": ["labels.jsonl"], "evaluation": "items.jsonl", "validation_share": 0.0},
        "teacher": {"model": str(smollm2()), "name": "smollm2-135m"},
        "student": {"layers": 2},
        "training": QUICK,
        "use": {"kind": "classifier"},
        "objective": {"max_new_tokens": 6},
    }
    return Recipe.model_validate({**plain, **more}).at(folder)


def roles(run: TrainRun) -> list[str]:
    assert run.table is not None
    return [entry.role for entry in run.table.entries]


def test_six_layers_by_soft_labels_and_hidden_states(folder: Path) -> None:
    wants = recipe(folder, "layers", "feature-based", against=[{"technique": "soft-label"}])
    run = train(wants, runs=folder)
    assert roles(run) == ["teacher", "raw", "label-only", "other", "distilled"]
    assert {len(f.losses) for f in run.trainings.values()} == {3}
    features = run.trainings["feature-based, seed 0"].losses
    assert features[-1]["features"] < features[0]["features"]  # the projections and the layers come nearer
    assert "features" not in run.trainings["label-only, seed 0"].losses[0]
    student = LocalTeacher.load(run.student)
    assert student.model.config.num_hidden_layers == 2
    assert (run.student / "README.md").is_file()


def test_two_hops_against_one(folder: Path) -> None:
    wants = recipe(folder, "hops", "chain", hops=[{"layers": 4}, {"layers": 2}], student={}, compare=False)
    run = train(wants, runs=folder)
    assert roles(run) == ["teacher", "raw", "other", "other", "distilled"]
    assert LocalTeacher.load(run.trainings["hop-1, seed 0"].folder).model.config.num_hidden_layers == 4
    assert [gain.metric for gain in run.gains.values()] == ["accuracy", "brier"]  # the last hop against one hop


def test_one_born_again_generation(folder: Path) -> None:
    run = train(recipe(folder, "born", "self-distillation"), runs=folder)
    assert roles(run) == ["teacher", "raw", "label-only", "distilled"]
    assert run.trainings["generation-1, seed 0"].losses[0]["soft"] > 0


def test_a_minilm_student_of_smollm2(folder: Path) -> None:
    training = {"epochs": 2, "batch_size": 4, "learning_rate": 5e-5, "evaluations": 0}
    wants = recipe(
        folder, "minilm", "classifier", student={"model": str(minilm()), "catalog": "minilm-l6"},
        objective={"hard": 0.5, "soft": 0.5, "max_new_tokens": 6}, training=training,
    )  # fmt: skip
    run = train(wants, runs=folder)
    assert roles(run) == ["teacher", "raw", "label-only", "distilled"]
    assert run.table is not None
    teacher, student = run.table.entry("teacher"), run.table.entry("distilled")
    assert teacher is not None
    assert student is not None
    assert student.facts.parameters == 22_565_376 + 2 * 385  # the encoder without its pooler, and a head of two labels
    assert Classifier.load(run.student).predict(["Where is my card?"])[0] in LABELS


@pytest.mark.parametrize("two_task", [True, False])
def test_chains_of_thought_on_arithmetic(folder: Path, two_task: bool) -> None:
    """Records with worked chains; the two-task form has two sequences a record, and both learn."""
    rows = [(2, 3, 4), (5, 1, 2), (7, 2, 6), (3, 3, 3)]
    task = Task(name="sums", system="Solve.")
    made = label_locally(
        LocalTeacher.load(smollm2(), name="smollm2-135m"), task,
        Rows([{"text": f"{a} + {b} + {c}"} for a, b, c in rows]), max_new_tokens=2,
    )  # fmt: skip
    worked = [
        r.model_copy(
            update={"answer": str(a + b + c), "reasoning": f"{a} + {b} = {a + b}. {a + b} + {c} is it.", "problems": ()}
        )
        for r, (a, b, c) in zip(made.records, rows, strict=True)
    ]
    Dataset(tuple(worked), made.card).save(folder / "worked.jsonl")
    (folder / "sums.jsonl").write_text('{"text": "2 + 2 + 2", "human_label": "6"}\n')
    wants = recipe(
        folder, f"chains-{two_task}", "chain-of-thought", task={"name": "sums", "system": "Solve."},
        data={"train": ["worked.jsonl"], "evaluation": "sums.jsonl", "validation_share": 0.0},
        objective={"two_task": two_task, "max_new_tokens": 6},
    )  # fmt: skip
    run = train(wants, runs=folder)
    assert roles(run) == ["teacher", "raw", "label-only", "distilled"]
    losses = run.trainings["chain-of-thought, seed 0"].losses
    assert losses[-1]["loss"] < losses[0]["loss"]
