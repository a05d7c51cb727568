"""Distances from what was seen: by hand, in any order, saved to the last bit."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load, save

from distillcalc.errors import InputError, UnknownName
from distillcalc.route.distance import OutOfDistribution
from distillcalc.route.requests import Request
from distillcalc.route.scores import Parts, score_from


def at(*rows: list[float]) -> list[Request]:
    return [Request(embedding=np.array(row, dtype=np.float32)) for row in rows]


def clusters(n: int = 300, seed: int = 0) -> NDArray[np.float64]:
    """Four clouds on the corners of a square, in eight dimensions."""
    rng = np.random.default_rng(seed)
    middle = np.concatenate([np.eye(8)[:2], -np.eye(8)[:2]])[np.arange(n) % 4]
    return np.asarray(middle + 0.1 * rng.normal(size=(n, 8)))


def test_neighbours_by_hand() -> None:
    score = OutOfDistribution.fit(at([1, 0], [0, 2], [-3, 0]), neighbours=2)
    # Of (5, 0) the cosines are 1, 0 and -1: the two nearest are 0 and 1 away.
    assert score.one(at([5, 0])[0]) == pytest.approx(-0.5)
    # Of (1, 1): 1 - sqrt(1/2) twice.
    assert score.one(at([1, 1])[0]) == pytest.approx(-(1 - np.sqrt(0.5)))
    assert (score.name, score.stage) == ("in_distribution", "before")


def test_mahalanobis_is_that_of_the_shrunk_covariance() -> None:
    from sklearn.covariance import LedoitWolf

    rows = clusters()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows.astype(np.float32).astype(float)
    score = OutOfDistribution.fit(at(*rows.tolist()), kind="mahalanobis")
    new = np.eye(8)[2]
    expected = np.sqrt(LedoitWolf().fit(rows).mahalanobis(new[None, :]))[0]
    assert score.one(at(new.tolist())[0]) == pytest.approx(-expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["neighbours", "mahalanobis"])
def test_order_one_and_many_and_saving(kind: Any) -> None:
    seen, new = at(*clusters().tolist()), at(*clusters(100, seed=1).tolist(), *np.eye(8)[4:].tolist())
    score = OutOfDistribution.fit(seen, kind=kind, neighbours=5)
    found = score.many(new)
    assert found[100:].max() < found[:100].min()  # what is like nothing that was seen is furthest
    np.testing.assert_allclose([score.one(request) for request in new], found, atol=1e-5)
    other = OutOfDistribution.fit([*seen[::-1], *seen[:10]], kind=kind, neighbours=5)
    assert save(other.to_parts().arrays) == save(score.to_parts().arrays)
    parts = score.to_parts()
    again = score_from(Parts(json.loads(json.dumps(parts.about)), load(save(parts.arrays))))
    assert again.many(new).tolist() == found.tolist()
    assert score.many([]).shape == (0,)


def test_neighbours_see_the_gap_between_two_clusters() -> None:
    between = at((np.eye(8)[0] + np.eye(8)[1]).tolist())[0]
    inside = at(np.eye(8)[0].tolist())[0]
    seen = at(*clusters().tolist())
    by_neighbours = OutOfDistribution.fit(seen)
    by_one_cloud = OutOfDistribution.fit(seen, kind="mahalanobis")
    assert by_neighbours.one(between) < 5 * by_neighbours.one(inside)
    # The covariance of a square is that of a circle: one cloud cannot tell, and is not the default.
    assert by_one_cloud.one(between) == pytest.approx(by_one_cloud.one(inside), rel=0.1)


def test_no_more_are_kept_than_asked_for() -> None:
    rows = clusters()
    score = OutOfDistribution.fit(at(*rows.tolist()), most=50)
    assert score.rows.shape == (50, 8)
    known = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    assert np.abs(score.rows[:, None] - known[None]).max(axis=2).min(axis=1).max() < 1e-6


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match=r"10 different requests or more. Got 1"):
        OutOfDistribution.fit(at([1, 0]) * 20)
    with pytest.raises(InputError, match=r"2 different requests or more. Got 0"):
        OutOfDistribution.fit([], kind="mahalanobis")
    with pytest.raises(InputError, match="neighbours must be 1 or more"):
        OutOfDistribution.fit(at([1, 0]), neighbours=0)
    with pytest.raises(UnknownName, match="Did you mean mahalanobis"):
        OutOfDistribution.fit(at([1, 0]), kind="mahalanobi")  # type: ignore[arg-type]
    score = OutOfDistribution.fit(at([1, 0], [0, 1]), neighbours=1)
    with pytest.raises(InputError, match="request 0: it holds no embedding"):
        score.many([Request("text")])
    with pytest.raises(InputError, match=r"request 1: its embedding must have shape \(2,\)"):
        score.many(at([1, 0], [1, 0, 0]))
