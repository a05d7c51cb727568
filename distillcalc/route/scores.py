"""What a score is: how likely the student is right, as one number of a request, and how it is kept.

The scores themselves are in :mod:`.confidence`, :mod:`.given`, :mod:`.learned` and :mod:`.distance`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import InputError, UnknownName
from distillcalc.route.requests import Request, Stage

if TYPE_CHECKING:
    from distillcalc.route.embedding import Embedder

Floats = NDArray[np.float64]
UserFunction: TypeAlias = Callable[[Request], float]

KINDS = ("confidence", "given", "user", "learned", "distance")


@dataclass(frozen=True, eq=False)
class Parts:
    """A score as plain values, from which it is made again to the last bit.

    Parameters
    ----------
    about : what JSON can hold; ``about["score"]`` is the kind.
    arrays : what safetensors can hold.
    """

    about: dict[str, Any]
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    def under(self, prefix: str) -> dict[str, NDArray[Any]]:
        """The arrays with ``prefix.`` before their names, so that several parts share one file."""
        return {f"{prefix}.{name}": array for name, array in self.arrays.items()}

    def within(self, about: Mapping[str, Any], prefix: str) -> Parts:
        """The parts that :meth:`under` put under a prefix."""
        start = f"{prefix}."
        found = {name.removeprefix(start): array for name, array in self.arrays.items() if name.startswith(start)}
        return Parts(dict(about), found)


class Score(Protocol):
    """How likely the student is right: higher is surer.

    ``stage`` is "before" where the request is enough and "after" where the student's answer is needed.
    """

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def stage(self) -> Stage:
        """Before or after the student answers."""
        ...

    def one(self, request: Request) -> float:
        """The score of a request.

        Raises
        ------
        InputError
            If the request lacks what the score reads, or the score is not finite.
        """
        ...

    def many(self, requests: Sequence[Request]) -> Floats:
        """The scores of requests, shape (requests,); an error names the place of the request, from 0."""
        ...

    def to_parts(self) -> Parts:
        """What is kept of it."""
        ...


def checked(value: float, name: str) -> float:
    """The value, where it is finite.

    Raises
    ------
    InputError
        If it is not: a request with such a score could be neither kept nor sent on.
    """
    if not math.isfinite(value):
        raise InputError(f"score {name!r} must be a finite number. Got {value}")
    return value


def all_checked(values: Floats, name: str) -> Floats:
    """The values, where all are finite; the error names the first that is not."""
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise InputError(f"request {bad[0]}: score {name!r} must be a finite number. Got {values[bad[0]]}")
    return values


def each(one: UserFunction, requests: Sequence[Request]) -> Floats:
    """A score of every request, one after the other, shape (requests,); an error names the place, from 0."""
    found = np.empty(len(requests))
    for place, request in enumerate(requests):
        try:
            found[place] = one(request)
        except InputError as error:
            raise InputError(f"request {place}: {error}") from error
    return found


def score_from(
    parts: Parts, *, functions: Mapping[str, UserFunction] | None = None, embedder: Embedder | None = None
) -> Score:
    """A score from what was kept of it.

    Parameters
    ----------
    parts : of :meth:`Score.to_parts`.
    functions : of user scores, by the score's name; they are never saved.
    embedder : the sentence encoder, where it lies elsewhere than when the score was fitted.

    Raises
    ------
    InputError
        If a function is missing, or the encoder is another one.
    """
    from distillcalc.route.confidence import Confidence
    from distillcalc.route.distance import OutOfDistribution
    from distillcalc.route.given import Given, UserScore
    from distillcalc.route.learned import LearnedScore

    about = parts.about
    kind = about.get("score")
    try:
        match kind:
            case "confidence":
                return Confidence(about["name"])
            case "given":
                return Given(about["name"], about["stage"])
            case "user":
                return UserScore.again(about, functions or {})
            case "learned":
                return LearnedScore.from_parts(parts, functions=functions, embedder=embedder)
            case "distance":
                return OutOfDistribution.from_parts(parts, embedder=embedder)
    except KeyError as error:
        raise InputError(f"what was saved of a {kind} score lacks {error}. Fit the router again") from error
    except TypeError as error:
        raise InputError(
            f"what was saved of a {kind} score does not make one: {error}. Fit the router again"
        ) from error
    raise UnknownName("kind of score", str(kind), KINDS, f"There are: {', '.join(KINDS)}.")
