"""A score that is learned from requests on which the student was right or wrong: from their embeddings, from the
student's confidence, or from both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distillcalc.errors import InputError, UnknownName
from distillcalc.route.embedding import embeddings_of, same_encoder
from distillcalc.route.learners import COUNTS, STRENGTHS, Learner, Logistic, Matrix, Neighbours
from distillcalc.route.requests import Request, Stage
from distillcalc.route.scores import Parts, Score, UserFunction, all_checked, score_from
from distillcalc.route.trees import ITERATIONS, Trees

if TYPE_CHECKING:
    from distillcalc.route.embedding import Embedder

Floats = NDArray[np.float64]
Kind: TypeAlias = Literal["logistic", "knn", "boosting"]
Target: TypeAlias = Literal["student-right", "teacher-gains"]

FOLDS = 3
LEAST_ROWS = 20
CHOSEN_ON = {"logistic": 20_000, "knn": 10_000, "boosting": 5_000}  # rows; the setting hardly moves with more
MOST_KEPT = 5_000  # rows that neighbours are looked for among: 8 MB of 384 dimensions, a millisecond a request
LOWEST = 1e-6  # probability that a log loss takes for never


@dataclass(frozen=True, eq=False)
class LearnedScore:
    """P(the student is right), or 1 - P(the teacher would be better), as learned from labelled requests.

    Parameters
    ----------
    name : what it is called.
    kind : "logistic", "knn" or "boosting".
    target : what was learned.
    learner : numbers in, probability out.
    embedder : of texts; None where requests hold their embeddings, or none are read.
    dimensions : of the embeddings; 0 where none are read.
    beside : scores that are read beside the embedding.
    centre, scale : of those, mean and standard deviation, shape (len(beside),).
    facts : rows, mean outcome, the setting that cross-validation chose, and its log loss beside that of a constant.
    """

    name: str
    kind: Kind
    target: Target
    learner: Learner
    embedder: Embedder | None
    dimensions: int
    beside: tuple[Score, ...]
    centre: Floats
    scale: Floats
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stage(self) -> Stage:
        """After the student answers, where it reads a score that is known only then."""
        return "after" if any(score.stage == "after" for score in self.beside) else "before"

    @classmethod
    def fit(
        cls,
        requests: Sequence[Request],
        right: ArrayLike,
        *,
        kind: Kind = "logistic",
        target: Target = "student-right",
        teacher_right: ArrayLike | None = None,
        embedder: Embedder | None = None,
        beside: Sequence[Score] = (),
        embedded: bool = True,
        seed: int = 0,
        name: str | None = None,
    ) -> LearnedScore:
        """Learn it; the order of rows does not matter. What it says of these rows themselves is too sure.

        How strongly weights are held back, how many neighbours or how many trees is chosen by the log loss of
        three-fold cross-validation within these rows, requests of one text being in one fold.

        Parameters
        ----------
        requests : with text or embedding, and what the scores beside read.
        right : how right the student's answers are, in [0, 1], shape (requests,).
        kind : "logistic": regression on standardised features; "knn": nearest neighbours among 5,000 rows at most;
            "boosting": gradient boosted trees.
        target : "student-right", or "teacher-gains": that the teacher is right where the student is not; of partly
            right answers, by how much it is better.
        teacher_right : of the teacher's answers; needed by "teacher-gains".
        embedder : of the texts of requests that hold no embedding.
        beside : scores read beside the embedding, such as ``Confidence("margin")``.
        embedded : whether embeddings are read at all.
        seed : of folds and trees.
        name : left out, the kind, with "-gains" where that is the target.

        Raises
        ------
        InputError
            For fewer than 20 requests, outcomes that are all the same, shapes that do not fit, or no features.
        """
        if kind not in get_args(Kind):
            raise UnknownName("kind of learned score", kind, get_args(Kind), "There are: logistic, knn, boosting.")
        y = _outcomes(len(requests), right, teacher_right, target)
        if not embedded and not beside:
            raise InputError("a learned score reads embeddings, scores beside them, or both. Got neither")
        vectors = embeddings_of(requests, embedder) if embedded else np.zeros((len(requests), 0), dtype=np.float32)
        values = _values(beside, requests)
        in_order = np.sort(values, axis=0)  # sums to the last bit, whatever the order of rows
        centre, scale = in_order.mean(axis=0), in_order.std(axis=0)
        scale[scale < 1e-12] = 1.0
        x = _joined(vectors, values, centre, scale)
        if (x == x[0]).all():
            raise InputError(
                "embeddings and scores to learn from are the same for every request: there is nothing to learn. "
                "Are texts kept with the pairs?"
            )
        text_keys, row_keys = _keys(requests, x, y, seed)
        order = np.lexsort((row_keys, text_keys))
        x, y, text_keys = x[order], y[order], text_keys[order]
        chosen, told = _chosen(kind, x, y, text_keys, seed)
        kept = slice(None, MOST_KEPT if kind == "knn" else None)
        facts = {"rows": len(y), "mean": float(y.mean()), "seed": seed, **told}
        return cls(
            name or (kind if target == "student-right" else f"{kind}-gains"),
            kind,
            target,
            _fitted(kind, x[kept], y[kept], chosen, seed),
            embedder if embedded else None,
            vectors.shape[1],
            tuple(beside),
            centre,
            scale,
            facts,
        )

    def one(self, request: Request) -> float:
        """The score of a request; raises :class:`.InputError` where it lacks what the score reads."""
        return float(self._scores([request])[0])

    def many(self, requests: Sequence[Request]) -> Floats:
        """The scores of requests, shape (requests,): as of each, within what encoder and matrix products round."""
        return self._scores(requests)

    def _scores(self, requests: Sequence[Request]) -> Floats:
        if not len(requests):
            return np.zeros(0)
        if self.dimensions:
            vectors = embeddings_of(requests, self.embedder, self.dimensions)
        else:
            vectors = np.zeros((len(requests), 0), dtype=np.float32)
        p = self.learner.probability(_joined(vectors, _values(self.beside, requests), self.centre, self.scale))
        return all_checked(p if self.target == "student-right" else 1 - p, self.name)

    def to_parts(self) -> Parts:
        """What is kept of it; the encoder by its name."""
        beside = [score.to_parts() for score in self.beside]
        arrays = {"centre": self.centre, "scale": self.scale, **Parts({}, self.learner.to_arrays()).under("learner")}
        for i, parts in enumerate(beside):
            arrays |= parts.under(f"beside{i}")
        about = {
            "score": "learned",
            "name": self.name,
            "kind": self.kind,
            "target": self.target,
            "encoder": self.embedder.name if self.embedder else None,
            "dimensions": self.dimensions,
            "beside": [parts.about for parts in beside],
            "facts": dict(self.facts),
        }
        return Parts(about, arrays)

    @classmethod
    def from_parts(
        cls, parts: Parts, *, functions: Mapping[str, UserFunction] | None = None, embedder: Embedder | None = None
    ) -> LearnedScore:
        """The score from what was kept; see :func:`.scores.score_from`."""
        about, arrays = parts.about, parts.arrays
        beside = [
            score_from(parts.within(one, f"beside{i}"), functions=functions, embedder=embedder)
            for i, one in enumerate(about["beside"])
        ]
        made: dict[str, type[Logistic | Neighbours | Trees]]
        made = {"logistic": Logistic, "knn": Neighbours, "boosting": Trees}
        if about["kind"] not in made:
            raise UnknownName("kind of learned score", str(about["kind"]), made)
        learner = made[about["kind"]](**parts.within({}, "learner").arrays)
        if learner.features != about["dimensions"] + len(beside):
            raise InputError(
                f"the saved score {about['name']!r} reads {learner.features} numbers of a request, and embeddings of "
                f"{about['dimensions']} with {len(beside)} scores beside do not make as many. Fit the router again"
            )
        return cls(
            about["name"],
            about["kind"],
            about["target"],
            learner,
            same_encoder(about["encoder"], embedder) if about["dimensions"] else None,
            about["dimensions"],
            tuple(beside),
            arrays["centre"],
            arrays["scale"],
            about["facts"],
        )


def _outcomes(n: int, right: ArrayLike, teacher_right: ArrayLike | None, target: str) -> Floats:
    """What is to be learned of each request, in [0, 1]."""
    found = []
    for name, given in (("right", right), ("teacher_right", teacher_right)):
        if given is None:
            continue
        one = np.asarray(given, dtype=float)
        if one.shape != (n,):
            raise InputError(f"{name} is one for each of {n:,} requests. Got shape {one.shape}")
        bad = np.flatnonzero(~((one >= 0) & (one <= 1)))
        if bad.size:
            raise InputError(f"{name} of request {bad[0]} must be in [0, 1]. Got {one[bad[0]]}")
        found.append(one)
    if target not in get_args(Target):
        raise UnknownName("target", target, get_args(Target), "There are: student-right, teacher-gains.")
    if n < LEAST_ROWS:
        raise InputError(f"a score is learned from {LEAST_ROWS} labelled requests or more. Got {n}")
    if target == "teacher-gains":
        if len(found) < 2:
            raise InputError('target "teacher-gains" needs teacher_right')
        y, what = np.maximum(found[1] - found[0], 0.0), "the teacher gains"
    else:
        y, what = found[0], "the student is right"
    if y.min() == y.max():
        raise InputError(f"nothing can be learned: {what} equally ({y[0]:g}) on each of the {n:,} requests")
    return np.asarray(y)


def _values(beside: Sequence[Score], requests: Sequence[Request]) -> Floats:
    return np.stack([score.many(requests) for score in beside], axis=1) if beside else np.zeros((len(requests), 0))


def _joined(vectors: NDArray[np.float32], values: Floats, centre: Floats, scale: Floats) -> Matrix:
    """Embedding, of length 1, and standardised scores, together of mean length 1."""
    if not values.shape[1]:
        return vectors
    beside = ((values - centre) / scale / np.sqrt(values.shape[1])).astype(np.float32)
    return np.concatenate([vectors, beside], axis=1)


def _keys(requests: Sequence[Request], x: Matrix, y: Floats, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Numbers that look random and depend on content alone: of each text (else of the features), and of each row."""
    salt = str(seed).encode()

    def number(*parts: bytes) -> bytes:
        digest = hashlib.blake2b(salt, digest_size=8)
        for part in parts:
            digest.update(part)
        return digest.digest()

    rows = [row.tobytes() for row in np.ascontiguousarray(x)]
    texts = (" ".join(request.text.casefold().split()).encode() for request in requests)
    of_text = b"".join(number(text or row) for text, row in zip(texts, rows, strict=True))
    of_row = b"".join(number(row, outcome.tobytes()) for row, outcome in zip(rows, y, strict=True))
    return np.frombuffer(of_text, dtype="<u8"), np.frombuffer(of_row, dtype="<u8")


def _fitted(kind: str, x: Matrix, y: Floats, chosen: float, seed: int) -> Learner:
    if kind == "logistic":
        return Logistic.fit(x, y, chosen)
    if kind == "knn":
        return Neighbours.fit(x, y, int(chosen))
    return Trees.fit(x, y, int(chosen), seed)


def _tried(kind: str, x: Matrix, y: Floats, held: Matrix, seed: int) -> Floats:
    """What each setting says of held-out rows, shape (settings, rows)."""
    if kind == "logistic":
        return np.stack([Logistic.fit(x, y, strength).probability(held) for strength in STRENGTHS])
    if kind == "knn":
        return Neighbours.fit(x, y, max(COUNTS)).of_counts(held, COUNTS)
    return Trees.fit(x, y, max(ITERATIONS), seed).staged(held, ITERATIONS)


_SETTINGS: dict[str, tuple[str, tuple[float, ...]]] = {
    "logistic": ("strength", STRENGTHS),
    "knn": ("neighbours", COUNTS),
    "boosting": ("trees", ITERATIONS),
}


def _chosen(kind: str, x: Matrix, y: Floats, keys: NDArray[Any], seed: int) -> tuple[float, dict[str, Any]]:
    """The setting with the least log loss out of fold, on the first rows in the random order of their keys."""
    name, settings = _SETTINGS[kind]
    most = CHOSEN_ON[kind]
    x, y, keys = x[:most], y[:most], keys[:most]
    fold = np.unique(keys, return_inverse=True)[1] % FOLDS
    said = np.empty((len(settings), len(y)))
    for one in range(FOLDS):
        held, seen = fold == one, fold != one
        if not seen.any() or y[seen].min() == y[seen].max():
            said[:, held] = y.mean()  # nothing to be learned from: every setting says the same
        else:
            said[:, held] = _tried(kind, x[seen], y[seen], x[held], seed)
    losses = [log_loss(p, y) for p in said]
    best = int(np.argmin(losses))
    told = {
        name: settings[best],
        "log_loss": losses[best],
        "log_loss_of_a_constant": log_loss(np.full(len(y), y.mean()), y),
    }
    return settings[best], told


def log_loss(probability: Floats, outcome: Floats) -> float:
    """Mean of -(y log p + (1 - y) log(1 - p)) [nats]."""
    p = np.clip(probability, LOWEST, 1 - LOWEST)
    return float(-(outcome * np.log(p) + (1 - outcome) * np.log(1 - p)).mean())
