"""What a deployed router is compared with: how it escalated, scored and agreed on the day that it was calibrated."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distillcalc.errors import InputError
from distillcalc.route.urn import Failures, Scores

Floats = NDArray[np.float64]

FEWEST_ITEMS = 20
AGREEMENT, RIGHT = 11, 21  # salts of the random numbers that break ties


@dataclass(frozen=True)
class Reference:
    """What was true at calibration, in counts.

    Parameters
    ----------
    items, escalated : calibrated requests, and those of them that are sent on at the router's threshold.
    scores : cells of their scores.
    agreement : kept requests whose two answers differ, by level of the score; None where no two answers were compared.
    right : kept requests that the student answers wrong, by level of the score; None where nothing was labelled.
    floor : least quality that was certified of all answers that users get, in (0, 1); None where none was.
    seed : of the random numbers that break ties.
    """

    items: int
    escalated: int
    scores: Scores
    agreement: Failures | None = None
    right: Failures | None = None
    floor: float | None = None
    seed: int = 0

    @classmethod
    def of(
        cls,
        scores: ArrayLike,
        escalated: ArrayLike,
        *,
        agreement: ArrayLike | None = None,
        right: ArrayLike | None = None,
        floor: float | None = None,
        seed: int = 0,
    ) -> Reference:
        """Count a calibration sample, which must be none that chose the threshold or taught the score.

        Parameters
        ----------
        scores : of the calibrated requests, shape (items,); nan where a rule decided before any score.
        escalated : whether each is sent on, shape (items,).
        agreement : 1 where student and teacher answer the same, 0 where not, nan where it is not known. Those of kept
            requests are read.
        right : how right the student's answer is, in [0, 1], nan where it is not known. Those of kept requests are
            read.
        floor : least quality that was certified.
        seed : of the random numbers that break ties.

        Raises
        ------
        InputError
            For arrays of other lengths, values outside [0, 1], or fewer than 20 scores.
        """
        score = np.asarray(scores, dtype=float).ravel()
        sent = np.asarray(escalated, dtype=float).ravel()
        n = len(score)
        if len(sent) != n or not np.isin(sent, (0.0, 1.0)).all():
            raise InputError(f"escalated must be true or false for each of {n} scores. Got {len(sent)} values")
        known = ~np.isnan(score)
        if known.sum() < FEWEST_ITEMS:
            raise InputError(f"a reference needs at least {FEWEST_ITEMS} calibrated scores. Got {int(known.sum())}")
        if floor is not None and not 0 < floor < 1:
            raise InputError(f"floor must be above 0 and below 1, the least quality. Got {floor:g}")

        def failures(values: ArrayLike | None, name: str, salt: int) -> Failures | None:
            if values is None:
                return None
            value = unit_values(values, n, name)
            read = known & (sent == 0) & ~np.isnan(value)
            return Failures.calibrate(score[read], 1 - value[read], seed, salt) if read.any() else None

        return cls(
            n, int(sent.sum()), Scores.calibrate(score[known], seed), failures(agreement, "agreement", AGREEMENT),
            failures(right, "right", RIGHT), floor, seed,
        )  # fmt: skip

    @property
    def escalation_rate(self) -> float:
        """Share of the calibrated requests that are sent on."""
        return self.escalated / self.items

    def fresh(self) -> Reference:
        """A copy whose counts of live values may change."""
        return deepcopy(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "items": self.items,
            "escalated": self.escalated,
            "scores": self.scores.to_dict(),
            "agreement": None if self.agreement is None else self.agreement.to_dict(),
            "right": None if self.right is None else self.right.to_dict(),
            "floor": self.floor,
            "seed": self.seed,
        }

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Reference:
        """What :meth:`to_dict` told."""
        agreement, right = (None if told[name] is None else Failures.of(told[name]) for name in ("agreement", "right"))
        scores = Scores.of(told["scores"])
        return cls(told["items"], told["escalated"], scores, agreement, right, told["floor"], told["seed"])


def unit_values(values: ArrayLike | None, n: int, name: str) -> Floats:
    """Values in [0, 1], one for each row, nan where unknown.

    Raises
    ------
    InputError
        If there are not n, or one is outside [0, 1].
    """
    if values is None:
        return np.full(n, np.nan)
    found = np.array(values, dtype=float).ravel()
    if len(found) != n:
        raise InputError(f"{name} must hold one value for each of {n} requests. Got {len(found)}")
    known = found[~np.isnan(found)]
    if len(known) and (known.min() < 0 or known.max() > 1):
        raise InputError(
            f"{name} must be between 0 and 1, or nan where it is not known. Got {known.min()} to {known.max()}"
        )
    return found
