"""What a router is asked about, and what it says: a request with what the student made of it, and a route."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Stage: TypeAlias = Literal["before", "after"]


@dataclass(slots=True)
class Request:
    """One request, and what is known of the student's answer to it; scores read what they need.

    Parameters
    ----------
    text : what was asked.
    answer : what the student answered; None before it has.
    probabilities : of the student's labels, shape (labels,), summing to 1.
    logprobs : natural logarithms of the probabilities of the answer's tokens.
    samples : several answers of the student to the same request.
    embedding : of the text, shape (dimensions,), where it is known already.
    values : scores that were worked out elsewhere, by name.
    """

    text: str = ""
    answer: str | None = None
    probabilities: Sequence[float] | NDArray[np.floating[Any]] | None = None
    logprobs: Sequence[float] | None = None
    samples: Sequence[str] | None = None
    embedding: NDArray[np.float32] | None = None
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """Which model answers, and why.

    Parameters
    ----------
    model : name of the model whose answer is used.
    reason : in words.
    score : of the student's answer, higher is surer; nan where a rule decided before any score.
    probability : that the student is right, as calibrated; nan where nothing was calibrated.
    """

    model: str
    reason: str
    score: float
    probability: float = float("nan")
