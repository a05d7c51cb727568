"""What a cell of a table says: a share, an amount, a list; and why it does not."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from distillcalc.route.confidence import SUM_TOLERANCE

SHOWN = 60  # characters of a wrong value in its reason
_WORDS = {"true": 1.0, "yes": 1.0, "t": 1.0, "y": 1.0, "false": 0.0, "no": 0.0, "f": 0.0, "n": 0.0}


class BadCell(Exception):
    """Why a cell cannot be what its column says."""


def listed(cell: Any) -> list[Any]:
    """A list, as it is or as JSON."""
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            raise BadCell(f"must be a list, or one as JSON. Got {shown(cell)}") from None
    if isinstance(cell, np.ndarray):
        cell = cell.tolist()
    if not isinstance(cell, (list, tuple)):
        raise BadCell(f"must be a list. Got {shown(cell)}")
    return list(cell)


def probabilities(cell: list[Any]) -> tuple[float, ...]:
    """Probabilities of labels, summing to 1."""
    p = logprobs(cell)
    if len(p) < 2 or min(p) < 0 or abs(sum(p) - 1) > SUM_TOLERANCE:
        raise BadCell(f"must be of 2 labels or more, 0 or above, and sum to 1. Got {len(p)} that sum to {sum(p):.6g}")
    return p


def logprobs(cell: list[Any]) -> tuple[float, ...]:
    """Finite numbers."""
    try:
        found = tuple(map(float, cell))
        total = sum(found)
    except (TypeError, ValueError):
        raise BadCell(f"must be a list of numbers. Got {shown(cell)}") from None
    if not math.isfinite(total):
        raise BadCell("must be finite numbers")
    return found


def samples(cell: list[Any]) -> tuple[str, ...]:
    """Texts."""
    if not all(isinstance(one, str) for one in cell):
        raise BadCell(f"must be a list of texts. Got {shown(cell)}")
    return tuple(cell)


def number(cell: Any) -> float:
    """A finite number; nan says that there is none."""
    try:
        value = float(cell)
    except (TypeError, ValueError):
        raise BadCell("must be a number") from None
    if math.isinf(value):
        raise BadCell("must be finite")
    return value


def amount(cell: Any) -> float:
    """A number that is not below 0."""
    value = number(cell)
    if value < 0:
        raise BadCell("must not be below 0")
    return value


def share(cell: Any) -> float:
    """A share in [0, 1], or a word for 0 or 1."""
    if isinstance(cell, str) and (word := cell.strip().lower()) in _WORDS:
        return _WORDS[word]
    said = "must be 0 or 1, true or false, yes or no, or a share in [0, 1]"
    try:
        value = float(cell)
    except (TypeError, ValueError):
        raise BadCell(said) from None
    if value < 0 or value > 1:
        raise BadCell(said)
    return value


def as_text(cell: Any) -> str:
    """A cell as a person would write it: 3 for 3.0, true for True."""
    if isinstance(cell, str):
        return cell
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, bool | np.bool_):
        return "true" if cell else "false"
    if isinstance(cell, (float, np.floating)) and float(cell).is_integer():
        return str(int(cell))
    if isinstance(cell, (dict, list, tuple)):
        return json.dumps(cell, sort_keys=True, ensure_ascii=False, default=str)
    return str(cell)


def shown(cell: Any) -> str:
    """A cell in a message, cut short."""
    told = repr(cell)
    return told if len(told) <= SHOWN else told[: SHOWN - 3] + "..."
