"""Which students a recipe trains: the one it is about, one on labels alone, and those it is held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from distillcalc.distill.training.examples import Chain
from distillcalc.distill.training.recipe import Objective, Recipe, StudentStart

Role = Literal["label-only", "distilled", "compared"]
LABEL_ONLY = "label-only"


@dataclass(frozen=True)
class Arm:
    """One student to train, once for each seed.

    Parameters
    ----------
    name : of its folder.
    role : what it is in the four-way table.
    title : in words.
    objective : what is minimised.
    start : what it is before it learns.
    chain : how a chain of thought is learnt.
    taught_by : name of the arm whose student, of the same seed, is its teacher; empty for the teacher itself.
    cut_from_taught : whether layers are cut from that student, and not from the teacher.
    on_policy : share of batches that it writes itself.
    """

    name: str
    role: Role
    title: str
    objective: Objective
    start: StudentStart
    chain: Chain = "none"
    taught_by: str = ""
    cut_from_taught: bool = False
    on_policy: float = 0.0


def arms_of(recipe: Recipe) -> tuple[Arm, ...]:
    """The students that a recipe trains, each after those that teach it.

    All of them learn from the same records for as long as ``training`` says; on labels alone means from the teacher's
    texts as hard labels, from the same start. A technique that makes two sequences of a record learns from more tokens
    in an epoch than the others: ``training.tokens`` gives all as many.
    """
    wants, start = recipe.objective, recipe.student
    labels = Objective(hard=1.0, soft=0.0)
    technique = recipe.technique
    made: list[Arm] = []
    if technique == "hard-label":
        made = [_arm(o.technique, o.name, "compared", o.objective, start) for o in recipe.against]
        return (*made, Arm("hard-label", "distilled", "student trained on the teacher's text", wants, start))
    if technique == "chain":
        last = recipe.hops[-1].student
        if recipe.compare:
            made.append(Arm(LABEL_ONLY, "label-only", "student trained on labels alone", labels, last))
        made.append(Arm("one-hop", "compared", "student taught by the teacher itself, one hop", wants, last))
        previous = ""
        for number, hop in enumerate(recipe.hops, 1):
            is_last = number == len(recipe.hops)
            title = f"student after {number} hops" if is_last else f"assistant {number}"
            made.append(
                Arm(
                    f"hop-{number}", "distilled" if is_last else "compared", title, wants, hop.student,
                    taught_by=previous, cut_from_taught=bool(previous) and hop.student.model is None,
                )
            )  # fmt: skip
            previous = f"hop-{number}"
        return tuple(made)
    if technique == "self-distillation":
        made.append(Arm("generation-0", "label-only", "generation 0, on the teacher's labels", labels, start))
        for number in range(1, recipe.generations + 1):
            role: Role = "distilled" if number == recipe.generations else "compared"
            title = f"generation {number}, taught by generation {number - 1}"
            made.append(
                Arm(f"generation-{number}", role, title, wants, start,
                    taught_by=f"generation-{number - 1}")
            )  # fmt: skip
        return tuple(made)
    if recipe.compare:
        made.append(Arm(LABEL_ONLY, "label-only", "student trained on labels alone", labels, start))
    for other in recipe.against:
        made.append(_arm(other.technique, other.name, "compared", other.objective, start))
    made.append(_arm(technique, "", "distilled", wants, start))
    return tuple(made)


def taught_before(arm: Arm, arms: Sequence[Arm]) -> tuple[str, ...]:
    """Names of the students that taught an arm's, and those that taught them."""
    by_name = {one.name: one for one in arms}
    found: list[str] = []
    while arm.taught_by:
        found.append(arm.taught_by)
        arm = by_name[arm.taught_by]
    return tuple(found)


TITLES = {
    "hard-label": "hard labels", "soft-label": "soft labels", "on-policy": "on its own texts",
}  # fmt: skip


def _arm(technique: str, name: str, role: Role, wants: Objective, start: StudentStart) -> Arm:
    chain: Chain = "none"
    words = TITLES.get(technique, technique)
    if technique == "chain-of-thought":
        chain = "two-task" if wants.two_task else "target"
        words = "two-task chain of thought" if wants.two_task else "chain of thought before the answer"
    if technique == "feature-based":
        parts = {"soft labels": wants.soft, "hidden states": wants.features, "attention": wants.attention}
        words = " and ".join(part for part, weight in parts.items() if weight)
    return Arm(
        name.replace(" ", "-") or technique, role, f"student: {name or words}", wants, start, chain,
        on_policy=wants.on_policy if technique == "on-policy" else 0.0,
    )  # fmt: skip
