"""Where a number came from, carried beside every number in a result."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

Kind = Literal["measured", "given", "catalog", "derived", "assumed"]


@dataclass(frozen=True, slots=True)
class Provenance:
    """The origin of one number.

    Parameters
    ----------
    kind : measured (an evaluation or a benchmark), given (by the user), catalog (a dated source),
        derived (computed from others by the named formula) or assumed (a default of ours).
    source : the file, package, document or formula.
    checked : the day on which the source was last read, for catalog rows that have one.
    confidence : high, medium or low, for catalog rows.
    """

    kind: Kind
    source: str
    checked: date | None = None
    confidence: str = ""

    def __str__(self) -> str:
        when = f", checked {self.checked.isoformat()}" if self.checked else ""
        sure = f", {self.confidence} confidence" if self.confidence else ""
        return f"{self.kind}: {self.source}{when}{sure}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, absent fields left out."""
        out: dict[str, Any] = {"kind": self.kind, "source": self.source}
        if self.checked:
            out["checked"] = self.checked.isoformat()
        if self.confidence:
            out["confidence"] = self.confidence
        return out


def derived(formula: str) -> Provenance:
    """Computed from other inputs by ``formula``."""
    return Provenance("derived", formula)


def assumed(why: str) -> Provenance:
    """A default of the package, with its reason."""
    return Provenance("assumed", why)


def given(what: str) -> Provenance:
    """Stated by the user."""
    return Provenance("given", what)
