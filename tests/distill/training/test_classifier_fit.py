"""Trainings of classifiers: repeated, killed and resumed, stopped early, and of a real encoder on a real task."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertModel

from distillcalc.distill.packaged import minilm
from distillcalc.distill.training.classifier import ClassifierData
from distillcalc.distill.training.classifier_fit import train_classifier
from distillcalc.distill.training.local_teacher import quiet
from distillcalc.distill.training.progress import Progress, TrainingDiverged
from distillcalc.errors import DistillcalcError, InputError
from tests.distill.making import DATA
from tests.distill.training.classifiers import (
    FILLERS,
    LABELS,
    VOCABULARY,
    contradicting,
    rows,
    saved,
    texts_of,
    train,
    weights,
)


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("starts")
    return {kind: saved(folder / kind, kind) for kind in ("mean", "encoder")}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be above 0. Got 0"),
        ({"epochs": float("inf")}, "epochs must be above 0"),
        ({"hard_weight": 0.0}, "both 0"),
        ({"hard_weight": -1.0}, "hard_weight must be 0 or above"),
        ({"soft_weight": 1.0}, "needs probabilities as targets"),
        ({"patience": 2}, "give evaluation rows"),
        ({"max_length": 64}, "max_length must be at most 32"),
    ],
)
def test_settings_that_cannot_be_right_are_refused(starts: dict[str, Path], settings: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        train(starts["mean"], **settings)


def test_the_same_seed_gives_the_same_weights(starts: dict[str, Path]) -> None:
    first, again, other = (train(starts["mean"], epochs=2, probe=False, seed=seed) for seed in (5, 5, 6))
    assert first.losses == again.losses
    assert all(torch.equal(weights(first)[name], tensor) for name, tensor in weights(again).items())
    assert first.losses != other.losses


def test_progress_and_counts_are_exact_to_the_token(starts: dict[str, Path]) -> None:
    texts, answers = texts_of(20)
    data = ClassifierData.of([*texts, "the " * 20 + "card", "my fee"], [*answers, "card", None], LABELS)
    told: list[Progress] = []
    run = train(starts["encoder"], data, epochs=2, batch_size=6, progress=told.append)
    # 21 rows with targets are 4 steps of at most 6; [CLS] and [SEP] stand around each text; the long one is cut to 16.
    assert [at.step for at in told] == list(range(1, 9))
    assert {at.steps for at in told} == {8}
    assert told[-1].seconds_left == 0
    assert told[-1].loss == run.losses[-1]
    assert (run.steps, run.truncated, run.left_out, run.best_step) == (8, 1, 1, 8)
    assert run.tokens == 2 * (sum(len(text.split()) + 2 for text in texts) + 16)
    assert run.precision == "fp32" or torch.cuda.is_available()
    assert run.classifier.truncated(["the " * 14, "the " * 15]) == 1


def test_the_best_weights_are_kept_and_patience_ends_the_training(starts: dict[str, Path]) -> None:
    held = contradicting(30)
    run = train(
        starts["mean"], evaluation=held, eval_every=2, patience=3, epochs=40, probe=False, learning_rate=1e-3
    )  # fmt: skip
    best = max(run.evaluations, key=lambda found: (found["accuracy"], -found["loss"]))
    assert run.best_step == best["step"]
    assert run.steps == run.best_step + 3 * 2  # three evaluations without a gain, of two steps each
    assert run.steps < 320
    probabilities = run.classifier.probabilities(held.texts)
    assert np.mean(probabilities.argmax(1) == held.targets) == pytest.approx(best["accuracy"], abs=1e-6)
    entropy = -np.log(probabilities[np.arange(30), held.targets]).mean()
    assert entropy == pytest.approx(best["loss"], abs=1e-4)


def test_soft_labels_teach_what_hard_ones_cannot(starts: dict[str, Path]) -> None:
    # A teacher that says .5 card, .5 fee to every text with a filler alone: the student learns the doubt.
    texts, answers = texts_of(60)
    soft = np.eye(3, dtype=np.float32)[[LABELS.index(answer) for answer in answers]]
    doubt = [f"{a} {b}" for a in FILLERS for b in FILLERS[:4]]
    data = ClassifierData(
        (*texts, *doubt), LABELS, np.concatenate([soft, np.tile(np.float32([0.5, 0.5, 0.0]), (len(doubt), 1))])
    )
    run = train(starts["mean"], data, hard_weight=0, soft_weight=1, temperature=1.0, epochs=12)
    found = run.classifier.probabilities(doubt).mean(0)
    np.testing.assert_allclose(found, [0.5, 0.5, 0.0], atol=0.1)
    assert run.classifier.probabilities(["my card please"])[0, 0] > 0.8


def test_a_loss_that_is_no_number_names_the_step_and_the_rows(starts: dict[str, Path], tmp_path: Path) -> None:
    poisoned = tmp_path / "poisoned"
    shutil.copytree(starts["mean"], poisoned)
    with quiet():
        model = BertModel.from_pretrained(poisoned)
        with torch.no_grad():
            model.embeddings.word_embeddings.weight[VOCABULARY.index("poison")] = float("nan")
        model.save_pretrained(poisoned)
    texts, answers = texts_of(8)
    data = ClassifierData.of([*texts[:5], "poison fee", *texts[5:]], [*answers[:5], "fee", *answers[5:]], LABELS)
    with pytest.raises(TrainingDiverged, match=r"step 1 is no number \(loss nan\), in the batch of rows 5 \(counted"):
        train(poisoned, data, batch_size=16, probe=False)
    with pytest.raises(TrainingDiverged, match=r"in the batch of rows .*, all 8 of it"):
        train(starts["mean"], learning_rate=1e30, probe=False)


KILLED = textwrap.dedent(
    """
    import os, signal, sys
    import torch
    torch.set_num_threads(1)
    from pathlib import Path
    from tests.distill.training.classifiers import contradicting, train

    def kill(at):
        if at.step == 13:  # in the second epoch, after the checkpoint of step 12
            os.kill(os.getpid(), signal.SIGKILL)

    train(Path(sys.argv[1]), evaluation=contradicting(12), eval_every=4, folder=sys.argv[2], progress=kill)
    """
)


def test_a_killed_training_goes_on_as_if_it_had_not_been(starts: dict[str, Path], tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        settings: dict[str, Any] = {"evaluation": contradicting(12), "eval_every": 4}
        whole = train(starts["mean"], **settings)
        done = subprocess.run(
            [sys.executable, "-c", KILLED, starts["mean"], tmp_path / "run"], cwd=Path(__file__).parents[3],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL, done.stderr
        kept = sorted(found.name for found in (tmp_path / "run" / "checkpoints").iterdir())
        assert kept == ["checkpoint-12", "checkpoint-8"]
        half = tmp_path / "run" / "checkpoints" / "checkpoint-16"  # killed while it was written: not marked as whole
        shutil.copytree(tmp_path / "run" / "checkpoints" / "checkpoint-8", half)
        (half / "whole.json").unlink()
        told: list[Progress] = []
        resumed = train(starts["mean"], folder=tmp_path / "run", progress=told.append, **settings)
    finally:
        torch.set_num_threads(threads)
    assert told[0].step == 13
    assert resumed.losses == whole.losses
    assert resumed.evaluations == whole.evaluations
    assert (resumed.steps, resumed.tokens, resumed.best_step) == (whole.steps, whole.tokens, whole.best_step)
    assert all(torch.equal(weights(whole)[name], tensor) for name, tensor in weights(resumed).items())
    assert sorted(found.name for found in (tmp_path / "run").iterdir()) == ["plan.json", "student", "training.json"]


def test_a_finished_training_is_read_and_another_is_not_mixed_with_it(starts: dict[str, Path], tmp_path: Path) -> None:
    first = train(starts["mean"], folder=tmp_path / "run", epochs=1)
    told: list[Progress] = []
    again = train(starts["mean"], folder=tmp_path / "run", epochs=1, progress=told.append)
    assert not told
    assert (again.losses, again.seconds, again.folder) == (first.losses, first.seconds, first.folder)
    assert again.classifier.predict(["my loan"]) == first.classifier.predict(["my loan"])
    with pytest.raises(InputError, match="a training with other data or settings"):
        train(starts["mean"], folder=tmp_path / "run", epochs=2)
    with pytest.raises(InputError, match="a training with other data or settings"):
        train(starts["mean"], rows(30), folder=tmp_path / "run", epochs=1)
    fresh = train(starts["mean"], folder=tmp_path / "run", epochs=2, resume=False)
    assert fresh.steps == 2 * first.steps
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="holds other things than a training"):
        train(starts["mean"], folder=tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").is_file()


SIX = ("activate_my_card", "age_limit", "card_arrival", "exchange_rate", "lost_or_stolen_card", "top_up_failed")


@pytest.fixture(scope="module")
def banking() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Thirty texts of each of six intents to learn from, and twenty others to judge by; all of the training file."""
    file = DATA / "banking77" / "train.csv"
    if not file.is_file():
        pytest.skip("needs banking77 of the shared task data, which is not in the repository")
    with file.open(encoding="utf-8", newline="") as lines:
        found = list(csv.DictReader(lines))
    by_label = {label: [row["text"] for row in found if row["label"] == label] for label in SIX}
    teach = [(text, label) for label in SIX for text in by_label[label][:30]]
    judge = [(text, label) for label in SIX for text in by_label[label][30:50]]
    return teach, judge


@pytest.fixture(scope="module")
def encoder() -> Path:
    try:
        return minilm()
    except DistillcalcError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.parametrize("targets", ["hard", "soft"])
def test_minilm_learns_six_intents(banking: Any, encoder: Path, targets: str) -> None:
    teach, judge = banking
    texts, answers = [text for text, _ in teach], [label for _, label in teach]
    right = np.array([SIX.index(label) for label in answers])
    data = ClassifierData.of(texts, answers, SIX)
    teacher_accuracy = 1.0
    if targets == "soft":  # a teacher that is wrong in a fourth of the rows, and then knows it half
        random = np.random.default_rng(0)
        wrong = random.random(len(right)) < 0.25
        other = (right + random.integers(1, 6, len(right))) % 6
        soft = np.full((len(right), 6), 0.02, dtype=np.float32)
        soft[np.arange(len(right)), other] = np.where(wrong, 0.5, 0.1)
        soft[np.arange(len(right)), right] = 0
        soft[np.arange(len(right)), right] = 1 - soft.sum(1)
        teacher_accuracy = float(np.mean(soft.argmax(1) == right))
        data = ClassifierData(tuple(texts), SIX, soft)
    run = train_classifier(encoder, data, epochs=1, batch_size=16)
    found = run.classifier.predict([text for text, _ in judge])
    accuracy = np.mean([said == label for said, (_, label) in zip(found, judge, strict=True)])
    assert accuracy > 0.85  # chance is 1/6
    if targets == "soft":
        assert teacher_accuracy < 0.8 < accuracy  # what the teacher gets wrong by chance does not repeat itself
