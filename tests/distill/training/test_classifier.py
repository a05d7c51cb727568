"""Classifier students: their loss against numbers worked out by hand, their data, and how they come back from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig

from distillcalc.distill.training.classifier import Classifier, ClassifierData, new_classifier, tokens_of
from distillcalc.distill.training.classifier_torch import Mixture, Pooled, probe
from distillcalc.distill.training.local_teacher import SoftLabels, quiet
from distillcalc.errors import InputError
from tests.distill.making import record
from tests.distill.training.classifiers import KINDS, LABELS, rows, saved, texts_of, train, word_tokenizer


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("starts")
    return {kind: saved(folder / kind, kind) for kind in KINDS}


def test_the_loss_mixes_cross_entropy_and_divergence_row_by_row() -> None:
    # p = [.7, .2, .1] teacher, q = [.4, .4, .2] student: KL(p | q) = .7 ln(.7/.4) + .2 ln(.2/.4) + .1 ln(.1/.2)
    # = .3917 - .1386 - .0693 = .1837869 (shared/FACTS.md); CE with label 0 is -ln .4 = .9162907.
    p, q = torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.4, 0.4, 0.2]]).log()
    label = torch.tensor([0])
    assert float(Mixture(0, 1, 1)(q, label, p)) == pytest.approx(0.1837869, abs=1e-6)
    assert float(Mixture(1, 0, 1)(q, label, None)) == pytest.approx(0.9162907, abs=1e-6)
    assert float(Mixture(0.25, 2, 1)(q, label, p)) == pytest.approx(0.25 * 0.9162907 + 2 * 0.1837869, abs=1e-6)


def test_soft_targets_at_a_temperature_are_powers_of_the_probabilities() -> None:
    # T^2 KL of softmax(zt / T) and softmax(zs / T) with zt = [3, 1, 0], zs = [1, 1, 0] is .44472 at T = 1000, and tends
    # to 4/9 (Hinton et al., arXiv:1503.02531; shared/FACTS.md). p^(1/T) of p = softmax(zt) is softmax(zt / T).
    p, zs = torch.softmax(torch.tensor([[3.0, 1.0, 0.0]]).double(), -1), torch.tensor([[1.0, 1.0, 0.0]]).double()
    assert float(Mixture(0, 1, 1000)(zs, torch.tensor([0]), p)) == pytest.approx(0.44472, abs=1e-5)
    # By hand at T = 2: p = [.64, .32, .04] gives roots .8, .5657, .2, so p_T = [.5110, .3613, .1277]; q is uniform:
    # 4 x (ln 3 - H(p_T)) = 4 x (1.098612 - .973752) = .49944.
    p = torch.tensor([[0.64, 0.32, 0.04]])
    root = p.sqrt() / p.sqrt().sum()
    by_hand = 4 * float(np.log(3) + (root * root.log()).sum())
    assert by_hand == pytest.approx(0.4994, abs=5e-4)
    assert float(Mixture(0, 1, 2)(torch.zeros(1, 3), torch.tensor([0]), p)) == pytest.approx(by_hand, abs=1e-5)


def test_a_teacher_that_is_certain_gives_a_finite_loss_and_gradient() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5]], requires_grad=True)
    loss = Mixture(0, 1, 2)(logits, torch.tensor([0]), torch.tensor([[1.0, 0.0, 0.0]])).sum()
    loss.backward()
    # KL with a certain teacher is a cross-entropy: 4 x -log softmax([1, -.5, .25])_0.
    assert loss.item() == pytest.approx(-4 * float(torch.log_softmax(torch.tensor([1.0, -0.5, 0.25]), -1)[0]), abs=1e-5)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_the_first_head_is_the_logistic_regression_of_scikit_learn() -> None:
    # scikit-learn minimises C sum CE + |W|^2 / 2 over N rows; ours is mean CE + penalty |W|^2: penalty = 1 / (2 C N).
    from sklearn.linear_model import LogisticRegression

    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(90, 6, generator=generator) + 1
    numbers = torch.arange(90) % 3
    vectors[:, 0] += numbers
    scaled = (vectors / vectors.norm(dim=1).mean()).numpy()
    theirs = LogisticRegression(C=10.0, tol=1e-8, max_iter=2000).fit(scaled, numbers.numpy()).predict_proba(scaled)

    class Encoder(torch.nn.Module):
        config = BertConfig(hidden_size=6)

    model = Pooled(Encoder(), 3)
    probe(model, vectors, torch.nn.functional.one_hot(numbers).float(), 1 / (2 * 10.0 * 90))
    ours = torch.softmax(model.head(vectors), -1).detach().numpy()
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


def test_targets_come_by_name_and_from_records() -> None:
    data = ClassifierData.of(["a", "b", "c"], ["fee", None, "card"], LABELS)
    assert data.targets.tolist() == [1, -1, 0]
    assert data.present.tolist() == [True, False, True]
    found = [
        record("1", "my fee", "fee", human_label="card"), record("2", "what?", "dunno", problems=("not one",)),
        record("3", "loan", "loan"),
    ]  # fmt: skip
    assert ClassifierData.of_records(found, LABELS).targets.tolist() == [1, -1, 2]
    assert ClassifierData.of_records(found, LABELS, human=True).targets.tolist() == [0, -1, -1]
    soft = SoftLabels(("2", "1"), ("fee", "card", "loan"), np.array([[0.5, 0.2, 0.3], [0.1, 0.8, 0.1]], np.float32))
    taught = ClassifierData.of_records(found, LABELS, soft=soft, text=lambda r: r.text.upper())
    np.testing.assert_allclose(taught.targets[:2], [[0.8, 0.1, 0.1], [0.2, 0.5, 0.3]], atol=1e-6)
    assert taught.present.tolist() == [True, True, False]
    assert taught.hard.tolist() == [0, 1, -1]
    assert taught.texts[0] == "MY FEE"


@pytest.mark.parametrize(
    ("labels", "targets", "says"),
    [
        (("card",), np.array([0, 0]), "two different labels or more. Got"),
        (("card", "card"), np.array([0, 0]), "two different labels or more"),
        (LABELS, np.array([-1, -1]), "the targets of all 2 texts are missing"),
        (LABELS, np.full((2, 3), np.nan), "the targets of all 2 texts are missing"),
        (LABELS, np.array([0, 3]), "numbers of labels, 0 to 2, or -1. Got 3"),
        (LABELS, np.array([[0.5, 0.5, 0.0], [0.5, 0.4, 0.0]]), r"sum to 1. Got \[0.5, 0.4, 0.0\] in row 1"),
        (LABELS, np.array([[1.5, -0.5, 0.0], [1.0, 0.0, 0.0]]), "in row 0"),
        (LABELS, np.array([[0.5, 0.5, np.nan], [1.0, 0.0, 0.0]]), "in row 0"),
        (LABELS, np.array([0.0, 1.0]), "Got float64 of shape"),
        (LABELS, np.array([[1.0, 0.0], [0.0, 1.0]]), r"shape \(2, 3\). Got"),
        (LABELS, np.array([0]), r"of shape \(2,\)"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_right_are_refused(labels: tuple[str, ...], targets: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        ClassifierData(("a", "b"), labels, targets)


def test_labels_of_another_task_are_refused(starts: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"'fees' is a label of another task.*Did you mean fee\?"):
        ClassifierData.of(["a"], ["fees"], LABELS)
    with pytest.raises(InputError, match="labels of another task: house, loan are in one"):
        train(starts["mean"], evaluation=ClassifierData.of(["a"], ["fee"], ("card", "fee", "house")))
    with pytest.raises(InputError, match="their order differs"):
        train(starts["mean"], evaluation=ClassifierData.of(["a"], ["fee"], ("fee", "card", "loan")))
    with pytest.raises(InputError, match="is a label of another task"):
        new_classifier(starts["mean"], LABELS, max_length=16).data(["a"], ["house"])


def test_a_start_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot start a classifier from"):
        train(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"it has no classifier\.json"):
        Classifier.load(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_and_comes_back_from_disk_the_same(
    starts: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    texts, answers = texts_of(45, seed=9)
    run = train(starts[kind], rows(150), folder=tmp_path, learning_rate=5e-3)
    found = run.classifier.probabilities(texts)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    assert np.mean([a == b for a, b in zip(run.classifier.predict(texts), answers, strict=True)]) > 0.9
    assert isinstance(run.classifier.model, Pooled) == (kind in ("mean", "cls"))
    assert run.folder == tmp_path / "student"
    again = Classifier.load(run.folder, "cpu")
    assert (again.labels, again.max_length, again.start) == (LABELS, 16, kind)
    np.testing.assert_allclose(again.probabilities(texts), found, atol=1e-6)
    one_at_a_time = np.concatenate([again.probabilities([text]) for text in texts])
    np.testing.assert_allclose(one_at_a_time, found, atol=1e-5)
    assert not [file for file in tmp_path.rglob("*") if file.suffix in (".bin", ".pt", ".pth", ".pkl")]
    assert again.probabilities([]).shape == (0, 3)


def test_a_standard_classifier_is_loaded_by_transformers_alone(starts: dict[str, Path], tmp_path: Path) -> None:
    run = train(starts["decoder"], folder=tmp_path)
    with quiet():
        theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student")
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "student")
    assert theirs.config.id2label == {0: "card", 1: "fee", 2: "loan"}
    with torch.no_grad():
        logits = theirs(**tokenizer("where is my chip", return_tensors="pt")).logits
    np.testing.assert_allclose(
        torch.softmax(logits, -1).numpy(), run.classifier.probabilities(["where is my chip"]), atol=1e-5
    )


def test_pooling_is_the_mean_of_real_tokens_or_the_first(starts: dict[str, Path]) -> None:
    for kind in ("mean", "cls"):
        model = new_classifier(starts[kind], LABELS, max_length=16).model.eval()
        ids, mask = torch.tensor([[2, 5, 13, 3, 0, 0]]), torch.tensor([[1, 1, 1, 1, 0, 0]])
        with torch.no_grad():
            hidden = model.encoder(input_ids=ids[:, :4]).last_hidden_state[0]
            found = model.embed(ids, mask)[0]
        torch.testing.assert_close(found, hidden.mean(0) if kind == "mean" else hidden[0], atol=1e-5, rtol=1e-4)


def test_an_empty_text_is_one_token_of_padding() -> None:
    bare = word_tokenizer()
    bare.backend_tokenizer.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    assert tokens_of(bare, ["", "my card"], 8)[0] == [[0], [5, 12]]
