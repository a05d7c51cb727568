"""Learned scores: better than chance where there is something to learn, whatever the order, saved to the last bit."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load, save

from distillcalc.errors import InputError, UnknownName
from distillcalc.route.confidence import Confidence
from distillcalc.route.given import Given, UserScore
from distillcalc.route.learned import LearnedScore, log_loss
from distillcalc.route.learners import Logistic, Neighbours, both_sides, nearest
from distillcalc.route.requests import Request
from distillcalc.route.scores import Parts, score_from
from distillcalc.route.trees import Trees, main_directions

KINDS = ("logistic", "knn", "boosting")
Floats = NDArray[np.float64]


def problem(n: int = 400, d: int = 12, seed: int = 0) -> tuple[list[Request], Floats, Floats]:
    """Requests in which the student is right on one side of a plane, mostly; the teacher nearly always."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    right = (rng.random(n) < 1 / (1 + np.exp(-20 * x[:, 0]))).astype(float)
    p = np.clip(0.5 + 0.3 * right + rng.normal(size=n) * 0.1, 0.01, 0.99)
    requests = [
        Request(f"question {i}", probabilities=[p[i], 1 - p[i]], embedding=x[i].astype(np.float32)) for i in range(n)
    ]
    return requests, right, (rng.random(n) < 0.95).astype(float)


def auc(score: Floats, right: Floats) -> float:
    above = score[right == 1][:, None] - score[right == 0][None, :]
    return float((above > 0).mean() + (above == 0).mean() / 2)


@pytest.mark.parametrize("kind", KINDS)
def test_it_tells_right_from_wrong_on_other_requests(kind: Any) -> None:
    requests, right, _ = problem()
    score = LearnedScore.fit(requests[:300], right[:300], kind=kind)
    assert (score.name, score.stage, score.dimensions) == (kind, "before", 12)
    assert score.facts["rows"] == 300
    assert score.facts["log_loss"] < 0.9 * score.facts["log_loss_of_a_constant"]
    found = score.many(requests[300:])
    assert auc(found, right[300:]) > 0.85  # 0.5 is chance
    assert ((found >= 0) & (found <= 1)).all()
    assert abs(found.mean() - right[300:].mean()) < 0.15


@pytest.mark.parametrize("kind", KINDS)
def test_order_one_and_many_and_saving(kind: Any) -> None:
    requests, right, _ = problem(150)
    score = LearnedScore.fit(requests, right, kind=kind, beside=(Confidence("margin"),), seed=3)
    found = score.many(requests)
    order = np.random.default_rng(1).permutation(150)
    other = LearnedScore.fit(
        [requests[i] for i in order], right[order], kind=kind, beside=(Confidence("margin"),), seed=3
    )
    assert save(other.to_parts().arrays) == save(score.to_parts().arrays)
    assert other.facts == score.facts
    ones = [score.one(request) for request in requests]
    np.testing.assert_allclose(ones, found, rtol=0, atol=1e-5 if kind == "knn" else 0)
    parts = score.to_parts()
    again = score_from(Parts(json.loads(json.dumps(parts.about)), load(save(parts.arrays))))
    assert again.many(requests).tolist() == found.tolist()
    assert (again.name, again.stage) == (kind, "after")


def test_embeddings_alone_are_learned_alike_to_the_last_bit_in_any_order() -> None:
    requests, right, _ = problem(120)
    order = np.random.default_rng(1).permutation(120)
    for kind in KINDS:
        one = LearnedScore.fit(requests, right, kind=kind)  # type: ignore[arg-type]
        two = LearnedScore.fit([requests[i] for i in order], right[order], kind=kind)  # type: ignore[arg-type]
        assert save(one.to_parts().arrays) == save(two.to_parts().arrays)
        assert one.facts == two.facts


def test_confidence_alone_and_beside() -> None:
    requests, right, _ = problem()
    alone = LearnedScore.fit(
        requests[:300], right[:300], beside=(Confidence("max_probability"),), embedded=False, name="mine"
    )
    assert (alone.name, alone.stage, alone.dimensions) == ("mine", "after", 0)
    plain = Request(probabilities=[0.7, 0.3])  # no embedding, no text
    assert 0 < alone.one(plain) < 1
    both = LearnedScore.fit(requests[:300], right[:300], beside=(Confidence("margin"),))
    embedding = LearnedScore.fit(requests[:300], right[:300])
    scores = [auc(score.many(requests[300:]), right[300:]) for score in (both, embedding, alone)]
    assert scores[0] > max(scores[1:])  # each knows something that the other does not


def test_scores_beside_are_alike_to_the_last_bit_in_any_order() -> None:
    requests, right, _ = problem(120)
    sizes = UserScore("sizes", lambda request: float(np.exp(9 * request.embedding[1])), "before")  # type: ignore[index]
    arrays = set()
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(120)
        made = LearnedScore.fit([requests[i] for i in order], right[order], beside=(sizes,))
        arrays.add(save(made.to_parts().arrays))
    assert len(arrays) == 1


def test_teacher_gains_is_one_minus_the_chance_that_escalating_helps() -> None:
    requests, right, teacher = problem()
    gains = LearnedScore.fit(
        requests[:300], right[:300], target="teacher-gains", teacher_right=teacher[:300], kind="logistic"
    )
    assert gains.name == "logistic-gains"
    helps = np.maximum(teacher - right, 0)
    assert gains.facts["mean"] == pytest.approx(helps[:300].mean())
    assert auc(gains.many(requests[300:]), 1 - helps[300:]) > 0.85
    # A teacher that is wrong wherever the student is gains nothing.
    with pytest.raises(InputError, match="the teacher gains equally"):
        LearnedScore.fit(requests, right, target="teacher-gains", teacher_right=right)
    with pytest.raises(InputError, match="needs teacher_right"):
        LearnedScore.fit(requests, right, target="teacher-gains")


@pytest.mark.parametrize("kind", KINDS)
def test_partly_right_answers_count_by_their_share(kind: Any) -> None:
    requests, right, _ = problem(200)
    soft = LearnedScore.fit(requests, 0.25 + 0.5 * right, kind=kind)
    found = soft.many(requests)
    assert soft.facts["mean"] == pytest.approx(0.25 + 0.5 * right.mean())
    assert found.mean() == pytest.approx(0.25 + 0.5 * right.mean(), abs=0.05)
    assert auc(found, right) > 0.8


def test_requests_of_one_text_are_in_one_fold() -> None:
    # Every text ten times, with embeddings that tell only the text: neighbours would know the answer from its copies.
    rng = np.random.default_rng(0)
    x, right = rng.normal(size=(40, 6)).astype(np.float32), (np.arange(40) % 2).astype(float)
    copies = [Request(f" Text  {i} " if k % 2 else f"text {i}", embedding=x[i]) for i in range(40) for k in range(10)]
    score = LearnedScore.fit(copies, np.repeat(right, 10), kind="knn")
    assert score.facts["log_loss"] > 0.6  # as good as a constant, ln 2: nothing was learned


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"right": np.ones(30)}, r"the student is right equally \(1\) on each of the 30"),
        ({"right": np.ones(29)}, r"right is one for each of 30 requests. Got shape \(29,\)"),
        ({"right": np.full(30, 2.0)}, r"right of request 0 must be in \[0, 1\]. Got 2"),
        ({"right": np.array([0, math.nan] * 15)}, "right of request 1 must be"),
        ({"embedded": False}, "Got neither"),
        ({"beside": (Given("x"),)}, "request 0: the request holds no value 'x'"),
        ({"kind": "forest"}, "unknown kind of learned score"),
        ({"target": "teacher"}, "unknown target"),
        ({"requests": []}, "right is one for each of 0"),
        ({"requests": [], "right": []}, "20 labelled requests or more. Got 0"),
    ],
)
def test_what_cannot_be_learned_from(given: dict[str, Any], says: str) -> None:
    requests, right, _ = problem(30)
    asked = {"requests": requests, "right": right, **given}
    with pytest.raises((InputError, UnknownName), match=says):
        LearnedScore.fit(asked.pop("requests"), asked.pop("right"), **asked)


def test_constant_scores_teach_nothing() -> None:
    requests, right, _ = problem(30)
    constant = UserScore("same", lambda request: 1.0, "before")
    with pytest.raises(InputError, match="the same for every request"):
        LearnedScore.fit(requests, right, beside=(constant,), embedded=False)
    with pytest.raises(InputError, match="Are texts kept"):
        LearnedScore.fit([Request(embedding=np.ones(3, dtype=np.float32))] * 30, right)
    # Beside an embedding it does no harm.
    found = LearnedScore.fit(requests, right, beside=(constant,)).many(requests)
    np.testing.assert_allclose(found, LearnedScore.fit(requests, right).many(requests), atol=1e-6)


def test_other_lengths_and_missing_functions_when_used() -> None:
    requests, right, _ = problem(60)
    mine = UserScore("mine", lambda request: float(len(request.text)), "before")
    score = LearnedScore.fit(requests, right, beside=(mine,))
    assert score.many([]).shape == (0,)
    with pytest.raises(InputError, match=r"request 1: its embedding must have shape \(12,\). Got \(2,\)"):
        score.many([requests[0], Request(embedding=np.ones(2, dtype=np.float32))])
    with pytest.raises(InputError, match="give it again"):
        score_from(score.to_parts())
    again = score_from(score.to_parts(), functions={"mine": mine.function})
    assert again.many(requests).tolist() == score.many(requests).tolist()
    parts = score.to_parts()
    with pytest.raises(UnknownName, match="kind of learned score 'forest'"):
        score_from(Parts({**parts.about, "kind": "forest", "beside": []}, parts.arrays))
    with pytest.raises(InputError, match="reads 13 numbers of a request, and embeddings of 12 with 0 scores"):
        score_from(Parts({**parts.about, "beside": []}, parts.arrays))
    with pytest.raises(InputError, match="does not make one"):
        score_from(Parts({**parts.about, "kind": "knn", "beside": []}, parts.arrays))


def test_logistic_regression_by_hand() -> None:
    # One feature, 5 and 9, of which 1/4 and 3/4 are right; hardly held back, the log-odds rise from -ln 3 to ln 3.
    x = np.repeat([[5.0], [9.0]], 400, axis=0)
    y = np.tile([1.0, 0, 0, 0], 100), np.tile([1.0, 1, 1, 0], 100)
    made = Logistic.fit(x, np.concatenate(y), 1e3)
    assert made.weights == pytest.approx([math.log(3) / 2], rel=1e-3)
    assert made.intercept == pytest.approx([-7 * math.log(3) / 2], rel=1e-3)
    assert made.probability(np.array([[9.0], [5.0], [7.0]])) == pytest.approx([0.75, 0.25, 0.5], abs=1e-3)


def test_neighbours_by_hand() -> None:
    rows = np.array([[0.0], [1.0], [3.0]], dtype=np.float32)
    made = Neighbours.fit(rows, np.array([1.0, 0.0, 1.0]), 2)
    # At 0: squared distances 0 and 1, weights 1/0.01 = 100 and 1/1.01; the mean weight stands for the share 2/3.
    w0, w1 = 100, 1 / 1.01
    mean = (w0 + w1) / 2
    expected = (w0 + mean * 2 / 3) / (w0 + w1 + mean)
    assert made.probability(np.array([[0.0]], dtype=np.float32)) == pytest.approx([expected])
    distance, places = nearest(np.array([[2.5]], dtype=np.float32), rows, 2)
    assert places.tolist() == [[2, 1]]
    assert distance.tolist() == [[0.25, 2.25]]


def test_trees_are_those_of_scikit_learn() -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 5))
    y = (x[:, 0] * x[:, 1] > 0).astype(float)
    made = Trees.fit(x, y, 25)
    rows, side, _ = both_sides(y)
    other = HistGradientBoostingClassifier(max_iter=25, max_leaf_nodes=8, early_stopping=False).fit(x[rows], side)
    new = rng.normal(size=(3_000, 5))
    np.testing.assert_allclose(made.probability(new), other.predict_proba(new)[:, 1], atol=1e-9)
    staged = list(other.staged_predict_proba(new))
    np.testing.assert_allclose(made.staged(new, (1, 10)), [staged[0][:, 1], staged[9][:, 1]], atol=1e-9)


def test_trees_of_partly_right_answers() -> None:
    rng = np.random.default_rng(0)
    for x in (np.round(rng.normal(size=(400, 3)), 1), rng.normal(size=(3_000, 3))):  # few values, and more than bins
        right = x[:, 0] > 0.3
        found = Trees.fit(x, np.where(right, 0.75, 0.25), 50).probability(x)
        clear = np.abs(x[:, 0] - 0.3) > 0.02  # nearer than that to the cut, the same of 255 bins holds both
        assert clear.mean() > 0.9
        assert found[clear] == pytest.approx(np.where(right, 0.75, 0.25)[clear], abs=0.03)


def test_many_features_are_turned_to_their_main_directions() -> None:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(300, 10))
    x = hidden @ rng.normal(size=(10, 100))
    directions = main_directions(x)
    assert directions.shape == (100, 48)
    np.testing.assert_allclose(directions.T @ directions, np.eye(48), atol=1e-9)
    # Ten numbers made the hundred: ten directions hold all of them.
    first = directions[:, :10]
    centred = x - x.mean(axis=0)
    np.testing.assert_allclose(centred @ first @ first.T, centred, atol=1e-8)
    made = Trees.fit(x, (hidden[:, 0] > 0).astype(float), 10)
    assert made.probability(x[5:6]).tolist() == made.probability(x)[5:6].tolist()


def test_log_loss_by_hand() -> None:
    # -(ln 0.8 + ln 0.5) / 2
    assert log_loss(np.array([0.8, 0.5]), np.array([1.0, 0.0])) == pytest.approx(-(math.log(0.8) + math.log(0.5)) / 2)
    assert log_loss(np.array([0.0]), np.array([1.0])) == pytest.approx(-math.log(1e-6))
