"""Which students a recipe trains, in which order, and who teaches whom."""

from __future__ import annotations

from typing import Any

import pytest

from distillcalc.distill.training.arms import Arm, arms_of, taught_before
from distillcalc.distill.training.recipe import DEFAULTS, Objective, Recipe, StudentStart

LABELS = Objective(hard=1.0, soft=0.0)


def arms(technique: str, **changed: Any) -> tuple[Arm, ...]:
    made = {
        "name": "r", "technique": technique, "task": {"labels": ["yes", "no"]}, "data": {"train": ["a"]},
        "teacher": {"model": "big"}, "student": {"layers": 2}, **changed,
    }  # fmt: skip
    return arms_of(Recipe.model_validate({name: value for name, value in made.items() if value is not None}))


def told(found: tuple[Arm, ...]) -> list[tuple[str, str, str]]:
    return [(arm.name, arm.role, arm.title) for arm in found]


@pytest.mark.parametrize(
    ("technique", "words"),
    [
        ("soft-label", "soft labels"),
        ("feature-based", "soft labels and hidden states"),
        ("on-policy", "on its own texts"),
        ("chain-of-thought", "two-task chain of thought"),
    ],
)
def test_labels_alone_stand_beside_a_technique(technique: str, words: str) -> None:
    found = arms(technique)
    assert told(found) == [
        ("label-only", "label-only", "student trained on labels alone"),
        (technique, "distilled", f"student: {words}"),
    ]
    assert found[0].objective == LABELS
    assert found[1].objective == Objective(**DEFAULTS[technique])
    assert found[0].start == found[1].start == StudentStart(layers=2)
    assert told(arms(technique, compare=False)) == told(found)[1:]


def test_a_title_says_what_is_compared() -> None:
    for weights, words in (
        ({"soft": 0.0}, "hidden states"),
        ({"soft": 0.0, "features": 0.0, "attention": 1.0}, "attention"),
        ({"attention": 1.0}, "soft labels and hidden states and attention"),
    ):
        assert arms("feature-based", objective=weights)[-1].title == f"student: {words}"


def test_hard_labels_are_labels_alone() -> None:
    assert told(arms("hard-label")) == [("hard-label", "distilled", "student trained on the teacher's text")]


def test_what_it_is_held_against_comes_before_it() -> None:
    against = [{"technique": "hard-label"}, {"technique": "feature-based", "name": "with features"}]
    found = arms("soft-label", against=against)
    assert told(found) == [
        ("label-only", "label-only", "student trained on labels alone"),
        ("hard-label", "compared", "student: hard labels"),
        ("with-features", "compared", "student: with features"),
        ("soft-label", "distilled", "student: soft labels"),
    ]
    assert found[2].objective.features == 1.0
    found = arms("hard-label", against=[{"technique": "soft-label"}])
    assert [arm.role for arm in found] == ["compared", "distilled"]


def test_a_chain_of_thought_is_two_tasks_or_a_target() -> None:
    against = [{"technique": "chain-of-thought", "name": "target", "objective": {"two_task": False}}]
    found = arms("chain-of-thought", against=against)
    assert [arm.chain for arm in found] == ["none", "target", "two-task"]
    alone = arms("chain-of-thought", objective={"two_task": False})[-1]
    assert (alone.chain, alone.title) == ("target", "student: chain of thought before the answer")


def test_only_on_policy_writes_itself() -> None:
    found = arms("on-policy", objective={"on_policy": 0.25}, against=[{"technique": "soft-label"}])
    assert [arm.on_policy for arm in found] == [0.0, 0.0, 0.25]


def test_a_chain_goes_from_hop_to_hop_with_one_hop_beside() -> None:
    found = arms("chain", student=None, hops=[{"layers": 6}, {"start": {"model": "small"}}, {"layers": 2}])
    assert told(found) == [
        ("label-only", "label-only", "student trained on labels alone"),
        ("one-hop", "compared", "student taught by the teacher itself, one hop"),
        ("hop-1", "compared", "assistant 1"),
        ("hop-2", "compared", "assistant 2"),
        ("hop-3", "distilled", "student after 3 hops"),
    ]
    assert [arm.taught_by for arm in found] == ["", "", "", "hop-1", "hop-2"]
    # Layers are cut from the assistant; another model is what it is.
    assert [arm.cut_from_taught for arm in found] == [False, False, False, False, True]
    assert [arm.start.layers for arm in found] == [2, 2, 6, None, 2]
    assert taught_before(found[-1], found) == ("hop-2", "hop-1")
    assert taught_before(found[1], found) == ()
    assert [arm.name for arm in arms("chain", student=None, compare=False, hops=[{"layers": 6}, {"layers": 2}])] == [
        "one-hop", "hop-1", "hop-2",
    ]  # fmt: skip


def test_generations_teach_each_other_from_the_same_start() -> None:
    found = arms("self-distillation", generations=2)
    assert told(found) == [
        ("generation-0", "label-only", "generation 0, on the teacher's labels"),
        ("generation-1", "compared", "generation 1, taught by generation 0"),
        ("generation-2", "distilled", "generation 2, taught by generation 1"),
    ]
    assert [arm.taught_by for arm in found] == ["", "generation-0", "generation-1"]
    assert not any(arm.cut_from_taught for arm in found)
    assert found[0].objective == LABELS
    assert taught_before(found[2], found) == ("generation-1", "generation-0")
