"""What does not go together in a recipe: each problem with the field that it is told at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from distillcalc.distill.training.recipe import Hop, Objective, Recipe

Problem: TypeAlias = tuple[tuple[str | int, ...], str]

NEEDS_WEIGHTS = ("feature-based", "on-policy", "chain")  # of the teacher: its answers alone do not do
NEEDS_SOFT = ("soft-label", "on-policy")
OF_SEVERAL = ("chain", "self-distillation", "classifier")  # that have comparisons of their own
RESERVED = ("student", "student.part", "soft-labels")  # folders and files of a run that are no arm's


def problems_of(recipe: Recipe) -> Iterator[Problem]:
    """Everything in a recipe that cannot be carried out together, or would be left unread.

    Returns
    -------
    Places (names of fields and numbers in lists) and sentences.
    """
    yield from _inputs(recipe)
    yield from _objective(recipe, recipe.technique, recipe.objective, ())
    yield from _several(recipe)
    yield from _against(recipe)
    if recipe.training.patience is not None and not recipe.data.validation_share:
        yield (
            ("training", "patience"),
            "patience counts evaluations on validation records: set data.validation_share above 0",
        )


def _inputs(recipe: Recipe) -> Iterator[Problem]:
    data, technique = recipe.data, recipe.technique
    if not data.train and not data.inputs:
        yield ("data",), "data needs train (labelled datasets) or inputs (rows that the teacher here labels)"
    if (recipe.task is None) == (recipe.task_file is None):
        at = () if recipe.task is None else ("task_file",)
        yield at, "give task (a table) or task_file (the file that was labelled), one of them"
    if technique == "classifier" and recipe.task is not None and recipe.task.labels is None:
        yield ("task",), f"a classifier needs the labels that there are. The task {recipe.task.name!r} has none"
    if recipe.teacher is not None:
        return
    if technique in NEEDS_WEIGHTS:
        yield (
            ("technique",),
            f"{technique} reads the teacher's distributions or hidden states, so its weights must be here: give "
            "[teacher] model. With an API's answers alone: hard-label, chain-of-thought, classifier, or soft-label "
            "where it gave log-probabilities",
        )
    if data.inputs:
        yield ("data", "inputs"), "inputs are labelled by a teacher on this machine: give [teacher] model"
    if recipe.student.model is None and technique not in NEEDS_WEIGHTS:
        yield ("student",), "student needs a model to start from, as there is no teacher on this machine to cut"


def _objective(recipe: Recipe, technique: str, wants: Objective, above: tuple[str | int, ...]) -> Iterator[Problem]:
    """What is wrong with what one technique minimises; ``above`` is where it stands."""
    at = (*above, "objective")
    if technique in NEEDS_SOFT and not wants.soft:
        yield (*at, "soft"), f"{technique} learns from the teacher's distributions: give soft a weight above 0"
    elif technique == "feature-based" and not (wants.features or wants.attention):
        yield (*at, "features"), "feature-based needs a weight for features or attention"
    elif technique in ("chain", "self-distillation") and not wants.needs_teacher:
        yield (*at, "soft"), f"in {technique} one student teaches the next: give soft or features a weight above 0"
    elif technique == "hard-label" and wants.needs_teacher:
        yield (*at, "soft"), "hard-label learns from texts alone: for soft take soft-label, for features feature-based"
    elif not (wants.hard or wants.needs_teacher):
        yield (*at, "hard"), "nothing would be learnt: give hard, soft, features or attention a weight above 0"
    if recipe.teacher is None:
        yield from _without_weights(technique, wants, at)
    elif recipe.teacher.top_k:
        if wants.features or wants.attention or technique == "on-policy":
            yield (
                ("teacher", "top_k"),
                "a cache (top_k) holds no hidden states, no attention and no scores of new texts: leave top_k out",
            )
        if wants.divergence == "uld" and wants.soft:
            yield ("teacher", "top_k"), "uld sorts the teacher's whole distribution: leave top_k out"
    far = wants.divergence == "uld" and bool(wants.soft)
    if recipe.training.packing and (far or technique == "on-policy"):
        what = "uld" if far else "on-policy"
        yield ("training", "packing"), f"packing and {what} do not go together: set packing = false"
    if far and technique == "on-policy" and wants.hard:
        yield (*at, "hard"), "on-policy with uld has no hard labels: set hard = 0"


def _without_weights(technique: str, wants: Objective, at: tuple[str | int, ...]) -> Iterator[Problem]:
    """What an API's answers and log-probabilities cannot give."""
    if technique in NEEDS_WEIGHTS or technique in ("self-distillation", "hard-label"):
        return
    if wants.features or wants.attention:
        what = "features" if wants.features else "attention"
        yield (*at, what), "features and attention are read from the teacher's weights: give [teacher] model"
    if not wants.soft or technique == "classifier":
        return
    if technique == "chain-of-thought":
        yield (
            (*at, "soft"),
            "an API's log-probabilities are of its answers, not of its chains of thought: set soft = 0, or give "
            "[teacher] model",
        )
        return
    if wants.temperature != 1 or wants.soft_on != "answer":
        what = "temperature" if wants.temperature != 1 else "soft_on"
        yield (
            (*at, what),
            "an API's log-probabilities are of its answers, at temperature 1. Set temperature = 1 and soft_on = "
            f'"answer". Got {wants.temperature:g} and {wants.soft_on!r}',
        )
    if wants.divergence == "uld":
        yield (
            (*at, "divergence"),
            "uld sorts the teacher's whole distribution, and an API gives the top of it: take another divergence",
        )


def _several(recipe: Recipe) -> Iterator[Problem]:
    """Techniques that train one student after the other."""
    hops, technique = recipe.hops, recipe.technique
    if technique != "self-distillation" and recipe.generations != 1:
        yield ("generations",), f"generations belong to self-distillation. Got {recipe.generations} with {technique}"
    if technique != "chain":
        if hops:
            yield ("hops",), f"hops belong to the technique chain. Got them with {technique}"
        return
    if len(hops) < 2:
        yield ("hops",), f"a chain has an assistant and a student, two hops at least. Got {len(hops)}"
    if recipe.student.model_fields_set:
        yield ("student",), "a chain's students stand in hops, the last of them being the student: leave student out"
    for number, (before, after) in enumerate(pairwise(hops), 1):
        larger, smaller = _layers(before), _layers(after)
        if larger is not None and smaller is not None and after.student.model is None and smaller > larger:
            yield (
                ("hops", number, "layers"),
                f"each hop is cut from the one before, so layers must not rise. Got {larger}, then {smaller}",
            )


def _layers(hop: Hop) -> int | None:
    layers = hop.student.layers
    return len(layers) if isinstance(layers, tuple) else layers


def _against(recipe: Recipe) -> Iterator[Problem]:
    if not recipe.against:
        return
    if recipe.technique in OF_SEVERAL:
        yield (
            ("against",),
            f"against is for techniques of one training; {recipe.technique} has comparisons of its own",
        )
        return
    for number, other in enumerate(recipe.against):
        above = ("against", number)
        if recipe.teacher is None and other.technique in NEEDS_WEIGHTS:
            yield (*above, "technique"), f"{other.technique} needs the teacher's weights: give [teacher] model"
        yield from _objective(recipe, other.technique, other.objective, above)
    from distillcalc.distill.training.arms import arms_of

    arms = arms_of(recipe)
    for what, names in (("name", [arm.name.casefold() for arm in arms]), ("title", [arm.title for arm in arms])):
        twice = [name for name, count in Counter(names).items() if count > 1]
        taken = [name for name in names if what == "name" and name in RESERVED]
        if twice or taken:
            yield (
                ("against",),
                f"each technique of against needs a {what} of its own. Got {', '.join(names)}"
                + (f"; {', '.join(RESERVED)} are the run's" if taken else ""),
            )
            return
