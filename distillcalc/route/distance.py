"""How far a request is from those that the student was tried on: minus a distance, so that higher is nearer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import InputError, MissingExtra, UnknownName
from distillcalc.route.embedding import embeddings_of, same_encoder
from distillcalc.route.learners import nearest, one_thread
from distillcalc.route.requests import Request, Stage
from distillcalc.route.scores import Parts, all_checked

if TYPE_CHECKING:
    from distillcalc.route.embedding import Embedder

Floats = NDArray[np.float64]
Kind: TypeAlias = Literal["neighbours", "mahalanobis"]

NEIGHBOURS = 10
MOST_KEPT = 20_000
ROWS_AT_ONCE = 1_024


@dataclass(frozen=True, eq=False)
class OutOfDistribution:
    """Minus the distance of a request's embedding from those that were seen.

    - ``neighbours``, the default: the mean cosine distance to the nearest that were seen, in [0, 2] (Sun et al. 2022,
      arXiv:2204.06507). It supposes no shape: a task's requests lie in many clusters, between which nothing is.
    - ``mahalanobis``: sqrt((x - m)' S^-1 (x - m)), S shrunk as by Ledoit & Wolf 2004 (Lee et al. 2018,
      arXiv:1807.03888). A few hundred times faster, for one cloud of requests.

    Parameters
    ----------
    name : what it is called.
    kind : "neighbours" or "mahalanobis".
    embedder : of texts; None where requests hold their embeddings.
    rows : embeddings that were seen, of length 1, shape (seen, dimensions); of mahalanobis their mean, (1, dimensions).
    whitening : of mahalanobis W with W W' = S^-1, shape (dimensions, dimensions); else shape (0, 0).
    neighbours : how many nearest are averaged.
    """

    name: str
    kind: Kind
    embedder: Embedder | None
    rows: NDArray[np.float32]
    whitening: Floats
    neighbours: int = NEIGHBOURS

    @property
    def stage(self) -> Stage:
        """The request is enough."""
        return "before"

    @classmethod
    def fit(
        cls,
        requests: Sequence[Request],
        *,
        kind: Kind = "neighbours",
        embedder: Embedder | None = None,
        neighbours: int = NEIGHBOURS,
        most: int = MOST_KEPT,
        name: str = "in_distribution",
    ) -> OutOfDistribution:
        """Keep what was seen; the order of requests does not matter. Equal embeddings are kept once.

        Parameters
        ----------
        requests : that the student was trained or tried on; those that the router is tuned on must be others, for each
            would be its own neighbour.
        kind : of distance.
        embedder : of the texts of requests that hold no embedding.
        neighbours : how many nearest are averaged.
        most : how many embeddings neighbours are looked for among; of more, some are drawn.
        name : of the score.

        Raises
        ------
        InputError
            For fewer different requests than neighbours.
        """
        if kind not in get_args(Kind):
            raise UnknownName("kind of distance", kind, get_args(Kind), "There are: neighbours, mahalanobis.")
        if neighbours < 1 or most < neighbours:
            raise InputError(f"neighbours must be 1 or more, and at most {most:,}. Got {neighbours}")
        least = neighbours if kind == "neighbours" else 2
        seen = _normalised(embeddings_of(requests, embedder))
        # In an order that looks random and depends on content alone, so that the first are a sample.
        drawn = sorted({row.tobytes() for row in seen}, key=lambda row: hashlib.blake2b(row, digest_size=8).digest())
        if len(drawn) < least:
            raise InputError(f"distances need {least} different requests or more. Got {len(drawn)}")
        if kind == "neighbours":
            rows = np.frombuffer(b"".join(drawn[:most]), dtype=np.float32).reshape(-1, seen.shape[1])
            return cls(name, kind, embedder, rows, np.zeros((0, 0)), neighbours)
        every = np.frombuffer(b"".join(drawn), dtype=np.float32).reshape(-1, seen.shape[1]).astype(float)
        mean, whitening = _whitening(every)
        return cls(name, kind, embedder, mean.astype(np.float32)[None, :], whitening, neighbours)

    def one(self, request: Request) -> float:
        """The score of a request; raises :class:`.InputError` where it has no embedding and nothing makes one."""
        return float(self.many([request])[0])

    def many(self, requests: Sequence[Request]) -> Floats:
        """The scores of requests, shape (requests,): as of each within about 1e-6, for matrix products round."""
        x = _normalised(embeddings_of(requests, self.embedder, self.rows.shape[1]))
        found = np.empty(len(x))
        for start in range(0, len(x), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            if self.kind == "neighbours":
                squared, _ = nearest(x[part], self.rows, self.neighbours)
                found[part] = -squared.mean(axis=1) / 2  # of vectors of length 1: |a - b|^2 = 2 (1 - cosine)
            else:
                found[part] = -np.linalg.norm((x[part] - self.rows).astype(float) @ self.whitening, axis=1)
        return all_checked(found, self.name)

    def to_parts(self) -> Parts:
        """What is kept of it; the encoder by its name."""
        about = {
            "score": "distance",
            "name": self.name,
            "kind": self.kind,
            "encoder": self.embedder.name if self.embedder else None,
            "neighbours": self.neighbours,
        }
        return Parts(about, {"rows": self.rows, "whitening": self.whitening})

    @classmethod
    def from_parts(cls, parts: Parts, *, embedder: Embedder | None = None) -> OutOfDistribution:
        """The score from what was kept; see :func:`.scores.score_from`."""
        about, arrays = parts.about, parts.arrays
        encoder = same_encoder(about["encoder"], embedder)
        return cls(about["name"], about["kind"], encoder, arrays["rows"], arrays["whitening"], about["neighbours"])


def _normalised(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; what has no direction stays 0."""
    length = np.sqrt((x * x).sum(axis=1, keepdims=True))
    return np.asarray(x / np.where(length > 0, length, 1), dtype=np.float32)


def _whitening(x: Floats) -> tuple[Floats, Floats]:
    try:
        from sklearn.covariance import ledoit_wolf
    except ImportError as error:
        raise MissingExtra("sklearn", "route") from error
    with one_thread():
        covariance, _ = ledoit_wolf(x)
        variances, directions = np.linalg.eigh(covariance)
    return x.mean(axis=0), np.ascontiguousarray(directions / np.sqrt(variances))
