"""A folder is one recipe's, on the same data; a slip, a move or a newer version is no other recipe."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from distillcalc.distill.training.claim import BLOCK, BLOCKS, FILE, claim, digest, signature
from distillcalc.distill.training.recipe import Recipe
from distillcalc.errors import InputError


def recipe(folder: Path, **changed: Any) -> Recipe:
    made: dict[str, Any] = {
        "name": "r", "technique": "soft-label", "task": {"labels": ["yes", "no"]}, "teacher": {"model": "big"},
        "data": {"train": ["a.jsonl"], "evaluation": "t.csv"},
    }  # fmt: skip
    return Recipe.model_validate(made | changed).at(folder)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "a.jsonl").write_text("one")
    (tmp_path / "t.csv").write_text("two")
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "config.json").write_text("{}")
    (tmp_path / "big" / "model.safetensors").write_bytes(os.urandom(1_000))
    claim(tmp_path / "run", recipe(tmp_path))
    (tmp_path / "run" / "label-only" / "seed-0").mkdir(parents=True)  # from here on it is taken
    return tmp_path


def test_the_same_recipe_goes_on(place: Path) -> None:
    before = (place / "run" / FILE).read_text()
    claim(place / "run", recipe(place))
    claim(place / "run", recipe(place, costs={"usd_per_hour": 1.0}, use={"kind": "classifier"}))
    claim(place / "run", recipe(place, accept_unclear_terms=True))
    # What the out-of-memory message advises makes the same student.
    claim(place / "run", recipe(place, training={"micro_batch": 2, "gradient_checkpointing": True}))
    assert (place / "run" / FILE).read_text() == before


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"objective": {"soft": 0.7}}, r"objective\.soft differs"),
        ({"training": {"seeds": [1]}, "student": {"layers": 3}}, r"student\.layers, training\.seeds differ\."),
        ({"task": {"labels": ["yes", "nope"]}}, r"task\.labels differs"),
        ({"teacher": {"model": "owner/other"}}, r"teacher\.model differs"),
        ({"technique": "on-policy"}, "objective"),
    ],
)
def test_another_recipe_is_refused_with_what_differs(place: Path, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        claim(place / "run", recipe(place, **changed))


@pytest.mark.parametrize(
    ("file", "field"),
    [("a.jsonl", "data.train"), ("t.csv", "data.evaluation"), ("big/config.json", "teacher.model"),
     ("big/model.safetensors", "teacher.model")],
)  # fmt: skip
def test_other_data_or_weights_under_the_same_names_are_refused(place: Path, file: str, field: str) -> None:
    held = (place / file).read_bytes()
    (place / file).write_bytes(held[:-1] + bytes([held[-1] ^ 1]))
    with pytest.raises(InputError, match=f"of other data: {field} differs"):
        claim(place / "run", recipe(place))
    (place / file).write_bytes(held)
    (place / "big" / "README.md").write_text("what a card says is no weight")
    claim(place / "run", recipe(place))


def test_a_folder_in_which_nothing_was_trained_can_be_taken(place: Path) -> None:
    (place / "run" / "label-only" / "seed-0").rmdir()
    (place / "run" / "labels-0.jsonl").write_text("")
    claim(place / "run", recipe(place, student={"layers": 3}))
    (place / "run" / "label-only" / "seed-0").mkdir()
    with pytest.raises(InputError, match=r"student\.layers differs"):
        claim(place / "run", recipe(place))


def test_a_field_that_an_older_version_did_not_know_is_at_its_default(place: Path) -> None:
    file = place / "run" / FILE
    known = json.loads(file.read_text())
    del known["asked"]["training"]["packing"]
    known["asked"]["training"]["gradient_checkpointing"] = True  # was asked once
    file.write_text(json.dumps(known))
    claim(place / "run", recipe(place))
    claim(place / "run", recipe(place, training={"packing": False}))
    with pytest.raises(InputError, match=r"training\.packing differs"):
        claim(place / "run", recipe(place, training={"packing": True}))


def test_runs_from_before_the_data_were_looked_at(place: Path) -> None:
    file = place / "run" / FILE
    plain = recipe(place).model_dump(mode="json", exclude={"costs", "accept_unclear_terms"})
    file.write_text(json.dumps({"fingerprint": "x", "recipe": plain}))
    claim(place / "run", recipe(place, use={"distributed": True}))
    with pytest.raises(InputError, match=r"training\.steps differs"):
        claim(place / "run", recipe(place, training={"steps": 3}))


def test_a_folder_that_cannot_be_made(place: Path) -> None:
    with pytest.raises(InputError, match=r"cannot make the folder .*a\.jsonl.run of the run"):
        claim(place / "a.jsonl" / "run", recipe(place))


def test_a_large_file_is_read_in_blocks_all_over_it(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    weights = folder / "model.safetensors"
    size = BLOCKS * BLOCK + 10_000_000
    held = bytearray(size)
    seen = set()
    for place in (0, size // 2, size - 1):  # none, the first byte, one in the middle block, and the last
        weights.write_bytes(held)
        seen.add(signature(folder))
        held[place] ^= 1
    weights.write_bytes(held)
    seen.add(signature(folder))
    assert len(seen) >= 3
    weights.write_bytes(bytes(size - 1))
    assert signature(folder) not in seen


def test_a_name_that_is_no_file_stands_for_itself(tmp_path: Path) -> None:
    assert signature("owner/model") == "owner/model"
    (tmp_path / "x").write_text("a")
    (tmp_path / "y").write_text("a")
    assert signature(tmp_path / "x") == signature(tmp_path / "y") != digest("a")
