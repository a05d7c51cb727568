"""A recipe whose student is a classifier: an encoder, or a small decoder with a classification head.

The teacher writes; its answers are the hard labels, and its probabilities of the labels, where its weights are on this
machine, the soft ones.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distillcalc.distill.exports import training_messages
from distillcalc.distill.records import Record
from distillcalc.distill.training import devices
from distillcalc.distill.training.arms import LABEL_ONLY, Arm
from distillcalc.distill.training.classifier import Classifier, ClassifierData, new_classifier
from distillcalc.distill.training.evaluation import TIMED, Items, load_answers, save_answers
from distillcalc.distill.training.fit import Fitted
from distillcalc.distill.training.four_way import Facts
from distillcalc.distill.training.local_labels import SoftLabels
from distillcalc.distill.training.recipe import Objective
from distillcalc.distill.training.scores import Answers
from distillcalc.errors import InputError

if TYPE_CHECKING:
    from distillcalc.distill.training.classifier_fit import ClassifierRun
    from distillcalc.distill.training.local_teacher import LocalTeacher
    from distillcalc.distill.training.run import TrainRun, Work

SOFT_FILE = "soft-labels.npz"


def classifier_run(work: Work) -> TrainRun:
    """Train and judge the classifiers of a recipe: on hard labels alone, and on what its objective says.

    Raises
    ------
    InputError
        If the task has no labels, soft labels are asked of a teacher whose weights are elsewhere, or the start is a
        shape of its own.
    """
    from distillcalc.distill.training.run import gains_of

    recipe, task = work.recipe, work.recipe.asked
    labels = task.labels
    if labels is None:
        raise InputError(f"a classifier chooses among labels, and the task {task.name!r} has none. Give it labels")
    if recipe.student.model is None:
        raise InputError("a classifier starts from a model: give student.model, an encoder or a small decoder")
    for name in ("layers", "fresh", "lora"):
        if getattr(recipe.student, name) is not None:
            raise InputError(f"a classifier starts from a model as it is. Leave student.{name} out")
    if work.processes > 1:
        raise InputError("a classifier is small: train it with one process")
    teacher = work.load_teacher()
    material = work.gather(task, teacher)
    wants = recipe.objective
    soft = soft_labels(work, material.train + material.validation, labels, teacher) if wants.soft else None
    arms = [_arm("classifier", "distilled", wants, work)]
    if wants.soft and recipe.compare:
        arms.insert(0, _arm(LABEL_ONLY, "label-only", Objective(hard=1.0, soft=0.0), work))
    trainings: dict[str, Fitted] = {}
    answers: dict[str, list[Answers]] = {}
    sizes: dict[str, Facts] = {}
    for arm in arms:
        for seed in recipe.training.seeds:
            made = _trained(work, arm, seed, material.train, material.validation, labels, soft)
            trainings[f"{arm.name}, seed {seed}"] = _as_fitted(made, work)
            sizes.setdefault(arm.name, _facts(made.classifier))
            if material.items is not None:
                answers.setdefault(arm.name, []).append(_judged(work, made, seed, material.items))
    table, gains = None, {}
    if material.items is not None:
        said = max(len(label) for label in labels)  # a token is a character at least
        row = work.teacher_answers(teacher, material.items, task, said)
        raw = _raw_answers(work, material.items, labels)
        table = work.table(arms, answers, sizes, trainings, teacher, row, raw, material, task)
        gains = gains_of(arms, answers)
    notes = list(material.notes)
    if not wants.soft:
        notes.append("the student learned from labels alone, so no student of labels alone stands beside it")
    return work.finish(arms, trainings, table, gains, material, notes)


def soft_labels(
    work: Work, records: Sequence[Record], labels: Sequence[str], teacher: LocalTeacher | None
) -> SoftLabels:
    """The teacher's probabilities of the labels for records, kept in the run's folder.

    Raises
    ------
    InputError
        If there is no teacher on this machine.
    """
    if teacher is None:
        raise InputError(
            "soft labels of a classifier are the teacher's probabilities of the labels, so its weights must be here: "
            "give [teacher] model, or set objective.soft = 0"
        )
    names = tuple(_name(record) for record in records)
    file = work.folder / SOFT_FILE
    if file.is_file():
        found = SoftLabels.load(file)
        if set(found.ids) >= set(names):
            return found
    made = teacher.label_distribution(
        [record.messages for record in records], labels,
        progress=lambda done, total: work.tell("the teacher's soft labels", done, total),
    )  # fmt: skip
    found = SoftLabels(names, tuple(labels), made)
    found.save(file)
    return found


def _name(record: Record) -> str:
    return f"{record.id}:{record.sample}"


def _arm(name: str, role: Any, wants: Objective, work: Work) -> Arm:
    titles = {LABEL_ONLY: "student trained on labels alone"}
    kind = Path(str(work.recipe.student.model)).name
    kind = work.recipe.student.catalog or kind
    soft = f"{kind} on soft labels" if wants.soft else f"{kind} on hard labels"
    return Arm(name, role, titles.get(name, f"distilled student ({soft})"), wants, work.recipe.student)


def _text(work: Work, record: Record) -> str:
    """What the student reads: the input, or the recipe's own prompt of it."""
    if work.recipe.data.prompt is None:
        return record.text
    return training_messages(record, prompt=work.recipe.data.prompt)[0][-1]["content"]


def _data(work: Work, records: Sequence[Record], labels: Sequence[str], soft: SoftLabels | None) -> ClassifierData:
    texts = [_text(work, record) for record in records]
    if soft is None:
        return ClassifierData.of(texts, [str(record.value) for record in records], labels)
    targets = soft.targets([_name(record) for record in records], labels)
    return ClassifierData(tuple(texts), tuple(labels), targets)


def _trained(
    work: Work, arm: Arm, seed: int, train: Sequence[Record], validation: Sequence[Record], labels: Sequence[str],
    soft: SoftLabels | None,
) -> ClassifierRun:  # fmt: skip
    from distillcalc.distill.training.classifier_fit import train_classifier

    wants, settings = arm.objective, work.recipe.training
    own = soft if wants.soft else None
    if settings.steps is not None or settings.tokens is not None:
        raise InputError("a classifier is trained for epochs: leave training.steps and training.tokens out")
    steps = -(-len(train) // settings.batch_size) * settings.epochs
    told = work.telling(f"{arm.title}, seed {seed}") if work.report is not None else None
    return train_classifier(
        str(arm.start.model), _data(work, train, labels, own),
        evaluation=_data(work, validation, labels, own) if validation and settings.evaluations else None,
        hard_weight=wants.hard, soft_weight=wants.soft, temperature=wants.temperature, epochs=settings.epochs,
        batch_size=settings.batch_size, learning_rate=settings.learning_rate,
        max_length=min(settings.max_length, 128), seed=seed,
        eval_every=max(1, round(steps / settings.evaluations)) if settings.evaluations else None,
        patience=settings.patience, progress=told, folder=work.folder / arm.name / f"seed-{seed}",
    )  # fmt: skip


def _as_fitted(made: ClassifierRun, work: Work) -> Fitted:
    assert made.folder is not None
    return Fitted(
        folder=made.folder, losses=tuple({"step": n, "loss": loss} for n, loss in enumerate(made.losses, 1)),
        evaluations=tuple({"step": e["step"], "eval_loss": e["loss"]} for e in made.evaluations),
        steps=made.steps, tokens=made.tokens, seconds=made.seconds, supervised=0, best_step=made.best_step,
        micro_batch=work.recipe.training.batch_size, accumulation=1,
        machine=replace(devices.machine(), precision=made.precision).to_dict(),  # type: ignore[arg-type]
    )  # fmt: skip


def _facts(classifier: Classifier) -> Facts:
    held = list(classifier.model.parameters())
    return Facts(parameters=sum(p.numel() for p in held), bytes=sum(p.numel() * p.element_size() for p in held))


def _judged(work: Work, made: ClassifierRun, seed: int, items: Items) -> Answers:
    assert made.folder is not None
    kept = made.folder.parent / "answers.json"
    found = load_answers(kept)
    if found is None:
        found = _answers(work, made.classifier, items, seed)
        save_answers(found, kept)
    return found


def _answers(work: Work, classifier: Classifier, items: Items, seed: int | None) -> Answers:
    texts = [_text(work, record) for record in items.records]
    probabilities = classifier.probabilities(texts)
    said = [classifier.labels[n] for n in probabilities.argmax(axis=1)]
    right = np.array([one == human for one, human in zip(said, items.labels, strict=True)], float)
    times = []
    for text in texts[:TIMED]:
        began = time.perf_counter()
        classifier.probabilities([text])
        times.append(time.perf_counter() - began)
    seconds = np.array([statistics.median(times)])
    return Answers(tuple(said), right, probabilities.max(axis=1).astype(float).clip(0, 1), seconds, seed)


def _raw_answers(work: Work, items: Items, labels: Sequence[str]) -> Answers:
    """The encoder before it learnt anything, under a random head: chance."""
    kept = work.folder / "raw-answers.json"
    found = load_answers(kept)
    if found is None:
        raw = new_classifier(str(work.recipe.student.model), labels, seed=work.recipe.training.seeds[0])
        raw.model.eval()
        found = _answers(work, raw, items, None)
        save_answers(found, kept)
    return found
