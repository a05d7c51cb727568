"""Students trained on labelled records: what they learn from, how they are trained, and how good they are.

``train(recipe)`` does all of it; ``fit.fit`` trains one student on token sequences, ``train_classifier`` a classifier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from distillcalc.lazy import lazily

if TYPE_CHECKING:
    from distillcalc.distill.training.classifier import Classifier
    from distillcalc.distill.training.classifier_fit import train_classifier
    from distillcalc.distill.training.examples import make_examples
    from distillcalc.distill.training.fit import Fitted
    from distillcalc.distill.training.four_way import FourWay
    from distillcalc.distill.training.local_labels import SoftLabels, label_locally
    from distillcalc.distill.training.local_teacher import LocalTeacher
    from distillcalc.distill.training.progress import OutOfMemory, Progress, TrainingDiverged
    from distillcalc.distill.training.recipe import Objective, Recipe, Settings, StudentStart
    from distillcalc.distill.training.run import TrainRun, train
    from distillcalc.distill.training.scores import Answers, paired_difference, score
    from distillcalc.distill.training.students import Student, start_student

_HOMES = {
    "classifier": ("Classifier",),
    "classifier_fit": ("train_classifier",),
    "examples": ("make_examples",),
    "fit": ("Fitted",),
    "four_way": ("FourWay",),
    "local_labels": ("SoftLabels", "label_locally"),
    "local_teacher": ("LocalTeacher",),
    "progress": ("OutOfMemory", "Progress", "TrainingDiverged"),
    "recipe": ("Objective", "Recipe", "Settings", "StudentStart"),
    "run": ("TrainRun", "train"),
    "scores": ("Answers", "paired_difference", "score"),
    "students": ("Student", "start_student"),
}

__all__ = [
    "Answers",
    "Classifier",
    "Fitted",
    "FourWay",
    "LocalTeacher",
    "Objective",
    "OutOfMemory",
    "Progress",
    "Recipe",
    "Settings",
    "SoftLabels",
    "Student",
    "StudentStart",
    "TrainRun",
    "TrainingDiverged",
    "label_locally",
    "make_examples",
    "paired_difference",
    "score",
    "start_student",
    "train",
    "train_classifier",
]


__getattr__, __dir__ = lazily(__name__, _HOMES)
