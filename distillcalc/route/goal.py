"""What is asked of a router: enough quality at least cost, or the most quality that a budget pays for."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from distillcalc.workload.workload import Frozen


class Goal(Frozen):
    """What is asked of a router, and how surely.

    Parameters
    ----------
    retention : least quality / the teacher's on the same requests.
    floor : least quality, by itself.
    usd_per_month : most that the requests of a month may cost; the most quality within it is then looked for.
    requests_per_month : that the dollars are for.
    confidence : probability with which what is promised holds, over the items that happened to be labelled.

    At least one of retention, floor and usd_per_month; retention and floor exclude each other.
    """

    retention: float | None = Field(None, gt=0, le=1)
    floor: float | None = Field(None, gt=0, lt=1)
    usd_per_month: float | None = Field(None, gt=0, le=1e12)
    requests_per_month: float | None = Field(None, gt=0, le=1e13)
    confidence: float = Field(0.95, gt=0.5, lt=1)

    @model_validator(mode="after")
    def _asks_for_something(self) -> Goal:
        if self.retention is not None and self.floor is not None:
            raise ValueError("ask for retention (of the teacher's quality) or for floor (of the quality), not for both")
        if self.retention is None and self.floor is None and self.usd_per_month is None:
            raise ValueError("ask for retention, floor or usd_per_month")
        if (self.usd_per_month is None) != (self.requests_per_month is None):
            raise ValueError("usd_per_month and requests_per_month go together: the dollars are of so many requests")
        return self

    @classmethod
    def of(cls, **asked: Any) -> Goal:
        """A goal from keywords; raises :class:`~distillcalc.errors.InputError` naming the field."""
        from distillcalc.workload.files import validate

        return validate(cls, asked)

    @property
    def asks_quality(self) -> bool:
        """Whether a least quality is asked for."""
        return self.retention is not None or self.floor is not None

    @property
    def usd_per_request(self) -> float | None:
        """Most dollars of a request on average."""
        if self.usd_per_month is None or self.requests_per_month is None:
            return None
        return self.usd_per_month / self.requests_per_month

    def __str__(self) -> str:
        asked = []
        if self.retention is not None:
            asked.append(f"quality at least {self.retention:g} of the teacher's")
        if self.floor is not None:
            asked.append(f"quality at least {self.floor:g}")
        if self.usd_per_month is not None:
            most = "" if self.asks_quality else "the most quality "
            asked.append(f"{most}for at most ${self.usd_per_month:,.0f} a month")
        return f"{' '.join(asked)}, with {100 * self.confidence:g}% confidence"
