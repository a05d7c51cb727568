"""How sure the student is of its own answer: from its labels' probabilities, its tokens, or several samples."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import mul

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distillcalc.errors import InputError, UnknownName
from distillcalc.route.requests import Request, Stage
from distillcalc.route.scores import Parts, checked, each

Floats = NDArray[np.float64]

SUM_TOLERANCE = 1e-3  # half precision and rounding to four digits; a list of the likeliest labels only is further off


@dataclass(frozen=True, slots=True)
class Confidence:
    """One of the student's own measures of confidence, higher is surer.

    - ``max_probability``: of its likeliest label (Hendrycks & Gimpel 2016, arXiv:1610.02136).
    - ``margin``: by how much that is above the second (Scheffer et al. 2001).
    - ``entropy``: 1 - H(p) / log(labels), so that 1 is certain and 0 knows nothing.
    - ``mean_logprob``: mean log-probability of the answer's tokens [nats], at most 0.
    - ``self_consistency``: share of its samples that equal the answer, or each other where there is no answer: the
      share of the most frequent one (Wang et al. 2022, arXiv:2203.11171). Case and spaces do not count.

    Parameters
    ----------
    name : which.

    Raises
    ------
    UnknownName
        If there is no such measure.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in _MEASURES:
            raise UnknownName("confidence score", self.name, CONFIDENCE, f"There are: {', '.join(CONFIDENCE)}.")

    @property
    def stage(self) -> Stage:
        """The student has answered."""
        return "after"

    def one(self, request: Request) -> float:
        """The score of a request; raises :class:`.InputError` where it lacks what the score reads."""
        return _MEASURES[self.name](request)

    def many(self, requests: Sequence[Request]) -> Floats:
        """The scores of requests, shape (requests,): the same as of each, to the last bit."""
        return each(_MEASURES[self.name], requests)

    def to_parts(self) -> Parts:
        """What is kept of it: its name."""
        return Parts({"score": "confidence", "name": self.name})


def needs(name: str) -> str:
    """The field of a request that a confidence score reads."""
    return {"mean_logprob": "logprobs", "self_consistency": "samples"}.get(name, "probabilities")


def from_probabilities(probabilities: ArrayLike) -> dict[str, Floats]:
    """``max_probability``, ``margin`` and ``entropy`` of many answers at once.

    Parameters
    ----------
    probabilities : of the student's labels, shape (answers, labels), each row summing to 1.

    Returns
    -------
    By name, shape (answers,). The first two are those of ``Confidence.one`` to the last bit, entropy within 1e-12.

    Raises
    ------
    InputError
        For rows that are no probabilities; it names the first.
    """
    p = np.asarray(probabilities, dtype=float)
    if p.ndim != 2 or p.shape[1] < 2:
        raise InputError(f"probabilities must have shape (answers, 2 labels or more). Got {p.shape}")
    with np.errstate(invalid="ignore"):
        fits = (p >= 0).all(axis=1) & (np.abs(p.sum(axis=1) - 1) <= SUM_TOLERANCE)
    if not fits.all():
        place = int(np.flatnonzero(~fits)[0])
        raise InputError(f"request {place}: {_no_probabilities(p[place].tolist())}")
    top = np.partition(p, -2, axis=1)[:, -2:]
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log(p), 0.0)
    entropy = np.clip(1 + terms.sum(axis=1) / math.log(p.shape[1]), 0, 1)
    return {"max_probability": top[:, 1], "margin": top[:, 1] - top[:, 0], "entropy": entropy}


def from_logprobs(logprobs: Sequence[Sequence[float]]) -> Floats:
    """``mean_logprob`` of many answers, whose tokens may be differently many, shape (answers,)."""
    return each(_mean_logprob, [Request(logprobs=one) for one in logprobs])


def _probabilities(request: Request) -> list[float]:
    given = request.probabilities
    if given is None:
        raise InputError("this score reads the probabilities of the student's labels, and the request has none")
    p: list[float] = given.tolist() if isinstance(given, np.ndarray) else list(given)
    # min() passes over nan, the sum does not.
    if len(p) < 2 or min(p) < 0 or not abs(sum(p) - 1) <= SUM_TOLERANCE:
        raise InputError(_no_probabilities(p))
    return p


def _no_probabilities(p: Sequence[float]) -> str:
    return (
        f"probabilities must be of 2 labels or more, 0 or above, and sum to 1 (within {SUM_TOLERANCE:g}). "
        f"Got {len(p)} that sum to {sum(p):.6g}, the least {min(p, default=math.nan):.6g}"
    )


def _max_probability(request: Request) -> float:
    return max(_probabilities(request))


def _margin(request: Request) -> float:
    p = sorted(_probabilities(request))
    return p[-1] - p[-2]


def _entropy(request: Request) -> float:
    p = _probabilities(request)
    if min(p) == 0:
        known = [v for v in p if v > 0]
        total: float = sum(map(mul, known, map(math.log, known)))
    else:
        total = sum(map(mul, p, map(math.log, p)))
    return min(1.0, max(0.0, 1 + total / math.log(len(p))))


def _mean_logprob(request: Request) -> float:
    given = request.logprobs
    if given is None or len(given) == 0:
        raise InputError("this score reads the log-probabilities of the answer's tokens, and the request has none")
    mean = float(sum(given)) / len(given)
    if max(given) > SUM_TOLERANCE:
        raise InputError(f"log-probabilities must be 0 or below. Got {max(given):.6g}")
    return checked(mean, "mean_logprob")


def _self_consistency(request: Request) -> float:
    given = request.samples
    if given is None or len(given) == 0:
        raise InputError("this score reads several answers of the student, and the request has no samples")
    samples = [_plain(sample) for sample in given]
    if request.answer is None:
        return Counter(samples).most_common(1)[0][1] / len(samples)
    return samples.count(_plain(request.answer)) / len(samples)


def _plain(answer: str) -> str:
    return " ".join(answer.casefold().split())


_MEASURES: dict[str, Callable[[Request], float]] = {
    "max_probability": _max_probability,
    "margin": _margin,
    "entropy": _entropy,
    "mean_logprob": _mean_logprob,
    "self_consistency": _self_consistency,
}
CONFIDENCE = tuple(_MEASURES)
