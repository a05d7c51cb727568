"""Train what a recipe asks for, judge all of it on the same items, and write down what came of it.

A run lives in ``runs/<name>/``: a folder for each student and seed (checkpoints, then the student and its answers),
``four_way.json``, ``run.json`` and ``student/``, the one that the recipe is about, with its card. Killed at any point,
the same recipe goes on where it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from distillcalc.distill.training.claim import claim
from distillcalc.distill.training.recipe import Recipe
from distillcalc.distill.training.result import TrainRun
from distillcalc.distill.training.work import Report, Work, gains_of, is_main_process, process
from distillcalc.errors import MissingExtra

if TYPE_CHECKING:
    from distillcalc.catalog import Catalog

RUNS = Path("runs")

__all__ = ["RUNS", "Report", "TrainRun", "Work", "gains_of", "is_main_process", "train"]


def train(
    recipe: Recipe | str | Path,
    *,
    runs: str | Path = RUNS,
    report: Report | None = None,
    catalog: Catalog | None = None,
) -> TrainRun:
    """Train the students of a recipe and compare them.

    Parameters
    ----------
    recipe : or its file.
    runs : folder of run folders.
    report : told how far it is.
    catalog : for terms, sizes and prices; left out, the shipped one.

    Returns
    -------
    TrainRun

    Raises
    ------
    InputError
        If what is asked for does not go together, or a run of that name has another recipe or other data.
    TrainingDiverged, OutOfMemory
        See :func:`.fit.fit`; what was trained before is kept.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtra("torch", "distill") from error

    from distillcalc.catalog import Catalog

    asked = Recipe.load(recipe) if isinstance(recipe, (str, Path)) else recipe
    folder = Path(runs) / asked.name.replace(" ", "-")
    claim(folder, asked, process())
    work = Work(asked, folder, report, catalog or Catalog.load())
    if asked.technique == "classifier":
        from distillcalc.distill.training.classifying import classifier_run

        return classifier_run(work)
    return work.carry_out()
