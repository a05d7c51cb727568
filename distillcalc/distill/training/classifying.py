"""A recipe whose student is a classifier: an encoder, or a small decoder with a classification head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distillcalc.distill.training.run import TrainRun


def classifier_run(work: Any) -> TrainRun:
    """Train and judge the classifiers of a recipe."""
    raise NotImplementedError
