"""What was measured of a router: how many it sends on and what is right then, by threshold."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from distillcalc.workload.workload import Frozen

MOST_POINTS = 64


class RoutingCounts(Frozen):
    """Labelled items by what became of them at each threshold, student and teacher both having answered.

    Parameters
    ----------
    items : how many there are.
    teacher_right : of them, those that the teacher gets right.
    escalated : at each threshold, those that are sent on to the teacher.
    gained : at each threshold, those that the mixture gets right and the teacher does not.
    lost : at each threshold, those that the teacher gets right and the mixture does not.
    """

    items: int = Field(ge=1)
    teacher_right: int = Field(ge=0)
    escalated: tuple[int, ...] = Field(min_length=1, max_length=MOST_POINTS)
    gained: tuple[int, ...]
    lost: tuple[int, ...]

    @model_validator(mode="after")
    def _add_up(self) -> RoutingCounts:
        if self.teacher_right > self.items:
            raise ValueError(f"teacher_right must be at most items. Got {self.teacher_right} of {self.items}")
        if not len(self.escalated) == len(self.gained) == len(self.lost):
            raise ValueError(
                "escalated, gained and lost hold one count for each threshold. Got "
                f"{len(self.escalated)}, {len(self.gained)} and {len(self.lost)}"
            )
        for sent, more, less in zip(self.escalated, self.gained, self.lost, strict=True):
            kept = self.items - sent
            wrong = self.items - self.teacher_right
            if sent > self.items or min(sent, more, less) < 0 or more + less > kept or more > wrong:
                raise ValueError(
                    f"of {self.items} items {sent} cannot be escalated, {more} gained and {less} lost: gained and lost "
                    "are among those that are not escalated, and gained among those that the teacher gets wrong"
                )
            if less > self.teacher_right:
                raise ValueError(f"lost must be at most teacher_right ({self.teacher_right}). Got {less}")
        return self

    def right(self, point: int) -> int:
        """Items that the mixture gets right at a threshold."""
        return self.teacher_right + self.gained[point] - self.lost[point]


class MeasuredRouting(Frozen):
    """A router as it was measured on human-labelled items of this task; ``distillcalc route fit`` writes it.

    Parameters
    ----------
    kind : "cascade", which judges the student's answer, or "router", which chooses before the student answers.
    student : catalog id of the student whose answers were judged.
    teacher : the teacher's name at the time.
    score : what the threshold is of.
    threshold : of the score: below it a request is sent on. One for each count of the two tables.
    tuning, certifying : counts on two sets of items that share none; the first may be looked at, the second certifies.
    overhead_ms : what the score takes of each request's time.
    student_right : on the certifying items, those that the student alone gets right.
    source : which router file, of which day.
    """

    kind: Literal["cascade", "router"] = "cascade"
    student: str
    teacher: str
    score: str
    threshold: tuple[float, ...] = Field(min_length=1, max_length=MOST_POINTS)
    tuning: RoutingCounts
    certifying: RoutingCounts
    student_right: int = Field(ge=0)
    overhead_ms: float = Field(0.0, ge=0, le=60_000)
    source: str = ""

    @model_validator(mode="after")
    def _one_count_each(self) -> MeasuredRouting:
        for name in ("tuning", "certifying"):
            found = len(getattr(self, name).escalated)
            if found != len(self.threshold):
                raise ValueError(f"{name} holds one count for each of {len(self.threshold)} thresholds. Got {found}")
        if self.student_right > self.certifying.items:
            raise ValueError(
                f"student_right must be at most the certifying items ({self.certifying.items}). "
                f"Got {self.student_right}"
            )
        return self
