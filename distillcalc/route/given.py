"""Scores from outside: numbers that stand in a request, and functions of the user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import InputError
from distillcalc.route.requests import Request, Stage
from distillcalc.route.scores import Parts, UserFunction, checked, each

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Given:
    """A score that was worked out elsewhere and stands in ``Request.values``.

    Parameters
    ----------
    name : under which it stands there.
    stage : whether it is known before or only after the student answers.
    """

    name: str
    stage: Stage = "after"

    def __post_init__(self) -> None:
        _stage(self.stage)

    def one(self, request: Request) -> float:
        """The score of a request; raises :class:`.InputError` where it has none of this name."""
        value = request.values.get(self.name)
        if value is None:
            raise InputError(f"the request holds no value {self.name!r}. It holds: {_names(request.values)}")
        return checked(float(value), self.name)

    def many(self, requests: Sequence[Request]) -> Floats:
        """The scores of requests, shape (requests,)."""
        return each(self.one, requests)

    def to_parts(self) -> Parts:
        """What is kept of it: its name and stage."""
        return Parts({"score": "given", "name": self.name, "stage": self.stage})


@dataclass(frozen=True, slots=True)
class UserScore:
    """A function of the user's own: request -> how sure, higher is surer. The function is never saved.

    Parameters
    ----------
    name : by which the function is asked for when a router is loaded.
    function : of a request.
    stage : "before" where it reads the request's text alone, "after" where it reads the student's answer.
    """

    name: str
    function: UserFunction
    stage: Stage

    def __post_init__(self) -> None:
        _stage(self.stage)
        if not callable(self.function):
            raise InputError(f"score {self.name!r} needs a function of a request. Got {self.function!r}")

    def one(self, request: Request) -> float:
        """The score of a request; raises :class:`.InputError` where the function gives no finite number."""
        value = self.function(request)
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise InputError(f"score {self.name!r} must be a number. Its function gave {value!r}") from error
        return checked(number, self.name)

    def many(self, requests: Sequence[Request]) -> Floats:
        """The scores of requests, shape (requests,)."""
        return each(self.one, requests)

    def to_parts(self) -> Parts:
        """What is kept of it: its name and stage."""
        return Parts({"score": "user", "name": self.name, "stage": self.stage})

    @classmethod
    def again(cls, about: Mapping[str, Any], functions: Mapping[str, UserFunction]) -> UserScore:
        """The score with its function, given again.

        Raises
        ------
        InputError
            If no function has its name.
        """
        name = about["name"]
        if name not in functions:
            raise InputError(
                f"the score {name!r} is a function of yours, and functions are not saved: give it again, "
                f"functions={{{name!r}: function}}. Got functions: {_names(functions)}"
            )
        return cls(name, functions[name], about["stage"])


def _names(values: Mapping[str, Any]) -> str:
    return ", ".join(sorted(values)) or "none"


def _stage(stage: str) -> None:
    if stage not in ("before", "after"):
        raise InputError(f'stage must be "before" (the student answers) or "after". Got {stage!r}')
