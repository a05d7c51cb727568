"""A training that is killed goes on as if nothing had been, and never from a checkpoint that is half."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distillcalc.distill.training import checkpoints
from distillcalc.distill.training.recipe import Objective
from tests.distill.training import killed, tiny
from tests.distill.training.tiny import one_thread  # noqa: F401

ROOT = Path(__file__).parents[3]
# Where each is taken up again: the last checkpoint before it died.
AFTER = {"features": 3, "border": 4, "adapters": 3, "on-policy": 3, "marking": 3, "writing": 3, "impatient": 6}


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What trainings left that were killed, a folder each."""
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run(
        [sys.executable, "-m", "tests.distill.training.killed", str(folder), *killed.CASES],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split("\n")[:-1] == [f"{name} -9" for name in killed.CASES], done.stderr
    return folder


@pytest.mark.parametrize("name", list(killed.CASES))
def test_a_killed_training_goes_on_as_if_it_had_not_been(left: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(left / name, tmp_path / "killed")
    assert not (folder / "training.json").exists()
    steps: list[int] = []
    resumed = killed.training(name, folder, lambda told: steps.append(told.step))
    whole = killed.training(name, tmp_path / "whole")
    assert steps == list(range(AFTER[name] + 1, whole.steps + 1)) if name in AFTER else steps == []
    assert [told["step"] for told in resumed.losses] == [told["step"] for told in whole.losses]
    for term in ("loss", "hard", "soft", "features", "grad_norm", "learning_rate"):
        if term in whole.losses[0]:
            assert tiny.curve(resumed, term) == pytest.approx(tiny.curve(whole, term), abs=1e-6)
    assert len(resumed.evaluations) == len(whole.evaluations)
    for ours, theirs in zip(resumed.evaluations, whole.evaluations, strict=True):
        assert ours["eval_loss"] == pytest.approx(theirs["eval_loss"], abs=1e-6)
    assert (resumed.steps, resumed.tokens, resumed.best_step) == (whole.steps, whole.tokens, whole.best_step)
    assert resumed.seconds > 0
    one, other = (load_file(fitted.folder / "model.safetensors") for fitted in (resumed, whole))
    assert all(torch.allclose(one[part], other[part], atol=1e-6) for part in one)
    assert not list(folder.glob("checkpoint-*"))


def test_what_was_left_half_is_not_gone_on_from(left: Path) -> None:
    for name in ("marking", "writing"):
        assert {path.name for path in (left / name).glob("checkpoint-*")} == {"checkpoint-3", "checkpoint-6"}
        assert not (left / name / "checkpoint-6" / checkpoints.MARK).exists()
        assert checkpoints.last_whole(left / name) == left / name / "checkpoint-3"
    assert checkpoints.last_whole(left / "finished") == left / "finished" / "checkpoint-7"


@pytest.mark.parametrize("harm", ["a file less", "a file shorter", "no mark", "a mark that is half"])
def test_a_harmed_checkpoint_is_not_gone_on_from(left: Path, tmp_path: Path, harm: str) -> None:
    folder = shutil.copytree(left / "finished", tmp_path / "killed")
    newest = folder / "checkpoint-7"
    if harm == "a file less":
        (newest / "scheduler.pt").unlink()
    elif harm == "a file shorter":
        with (newest / "model.safetensors").open("r+b") as file:
            file.truncate(1_000)
    elif harm == "no mark":
        (newest / checkpoints.MARK).unlink()
    else:
        (newest / checkpoints.MARK).write_text('{"files": {"model.saf')
    assert checkpoints.last_whole(folder) == folder / "checkpoint-6"
    steps: list[int] = []
    resumed = killed.training("finished", folder, lambda told: steps.append(told.step))
    assert steps == [7]
    assert tiny.curve(resumed) == pytest.approx(tiny.curve(killed.training("finished", tmp_path / "w")), abs=1e-6)


def test_nothing_whole_means_from_the_start(left: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(left / "features", tmp_path / "killed")
    (folder / "checkpoint-3" / checkpoints.MARK).unlink()
    steps: list[int] = []
    killed.training("features", folder, lambda told: steps.append(told.step))
    assert steps == list(range(1, 8))


def test_a_mark_of_before_does_not_stand_beside_files_written_anew(left: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(left / "finished", tmp_path / "killed")
    (folder / "checkpoint-7" / "scheduler.pt").unlink()
    (folder / "checkpoint-old").mkdir()
    checkpoints.clear_broken(folder)
    assert {path.name for path in folder.glob("checkpoint-*")} == {"checkpoint-6"}


def test_how_it_is_run_may_change_when_it_is_taken_up_again(left: Path, tmp_path: Path) -> None:
    """An answer to a device that ran out of memory: half as much at once, and the training goes on."""
    folder = shutil.copytree(left / "marking", tmp_path / "killed")
    wants = killed.MID | {"micro_batch": 1, "gradient_checkpointing": True}
    resumed = tiny.train(tiny.llama(), tiny.examples(12), folder, settings=wants)
    assert resumed.accumulation == 8
    whole = killed.training("marking", tmp_path / "whole")
    assert tiny.curve(resumed) == pytest.approx(tiny.curve(whole), abs=1e-5)


def test_a_folder_that_was_moved_keeps_its_best_weights(left: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(left / "patience", tmp_path / "elsewhere")
    hidden = left / "patience"
    hidden.rename(left / "hidden")
    try:
        fitted = killed.training("patience", moved)
    finally:
        (left / "hidden").rename(hidden)
    assert fitted.best_step == killed.training("patience", tmp_path / "whole").best_step


# the mark


def test_a_mark_holds_sizes_seconds_and_tokens(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "a.bin").write_bytes(b"12345")
    (tmp_path / "b.txt").write_text("")
    assert not checkpoints.is_whole(tmp_path)
    checkpoints.mark_whole(tmp_path, 12.5, 340)
    written = json.loads((tmp_path / checkpoints.MARK).read_text())
    assert written["files"] == {"part/a.bin": 5, "b.txt": 0}
    assert checkpoints.is_whole(tmp_path)
    assert checkpoints.seconds_before(tmp_path) == (12.5, 340)
    assert checkpoints.seconds_before(None) == (0.0, 0)
    (tmp_path / "more.txt").write_text("what is added later harms nothing")
    assert checkpoints.is_whole(tmp_path)
    (tmp_path / "part" / "a.bin").write_bytes(b"1234")
    assert not checkpoints.is_whole(tmp_path)


def test_the_newest_is_by_number_not_by_name(tmp_path: Path) -> None:
    for name in ("checkpoint-9", "checkpoint-10", "checkpoint-11", "checkpoint-x"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
        if name != "checkpoint-11":
            checkpoints.mark_whole(tmp_path / name)
    assert checkpoints.last_whole(tmp_path) == tmp_path / "checkpoint-10"
    assert checkpoints.last_whole(tmp_path / "checkpoint-9") is None


def test_a_checkpoint_keeps_the_projections(tmp_path: Path) -> None:
    fitted = tiny.train(
        tiny.llama(), tiny.examples(), tmp_path, settings={"checkpoints": 1}, keep_checkpoints=True,
        objective=Objective(features=1.0), teacher=(tiny.llama(seed=1, hidden=48), tiny.tokenizer()),
    )  # fmt: skip
    held = load_file(tmp_path / "checkpoint-5" / checkpoints.PROJECTIONS_FILE)
    assert {name: tuple(part.shape) for name, part in held.items()} == {"0.weight": (48, 32), "1.weight": (48, 32)}
    # Orthonormal columns at the start; what they have learnt since is kept.
    grams = [part.T @ part for part in held.values()]
    assert all((gram - torch.eye(32)).abs().max() > 1e-2 for gram in grams)
    assert fitted.steps == 5
