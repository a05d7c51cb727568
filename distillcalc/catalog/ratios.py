"""How much cheaper a small model really is than its teacher at today's prices, beside what is claimed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from distillcalc.catalog.load import Catalog
from distillcalc.catalog.schema import ModelRow
from distillcalc.errors import DistillcalcError

INPUT_TOKENS, OUTPUT_TOKENS = 3_000.0, 1_000.0  # the blend that ratios are computed for: three in, one out


@dataclass(frozen=True)
class CostRatio:
    """Teacher price / student price of one request of 3,000 tokens in and 1,000 out.

    Parameters
    ----------
    computed : from the token prices of the day; None where either has none.
    claimed : low and high, as the article has it; None where it says nothing.
    student_ref, teacher_ref : which prices were divided.
    """

    computed: float | None
    claimed: tuple[float, float] | None
    student_ref: str | None
    teacher_ref: str | None


def request_usd(catalog: Catalog, ref: str, on: date) -> float | None:
    """Price of the standard request [USD], or None where none is known."""
    try:
        return float(catalog.token_prices(ref, on).price(INPUT_TOKENS, OUTPUT_TOKENS))
    except DistillcalcError:
        return None


def cost_ratio(catalog: Catalog, row: ModelRow, on: date) -> CostRatio:
    """A model's cost ratio against its teacher at the prices of a day, beside the article's claim."""
    student = next(iter([*catalog.living_refs(row, on), *row.price_refs]), None)
    teacher = row.teacher_price_ref
    if student is None or teacher is None:
        return CostRatio(None, row.claimed_cost_ratio, student, teacher)
    small, big = request_usd(catalog, student, on), request_usd(catalog, teacher, on)
    return CostRatio(big / small if small and big else None, row.claimed_cost_ratio, student, teacher)


def model_status(catalog: Catalog, row: ModelRow, on: date) -> str:
    """Whether it can be called: alive, ends or ended on a day, or weights only.

    By the announced shutdowns of the provider's own model, or of every host of an open one.
    """
    if row.members:
        return f"family of {len(row.members)}"
    if not row.price_refs:
        return "weights only" if row.kind == "open" else "no price"
    refs = row.price_refs if row.kind == "open" else row.price_refs[:1]
    ends = [catalog.shutdown(ref) for ref in refs]
    dated = [end.on for end in ends if end is not None]
    if len(dated) < len(refs):
        return "alive"
    return f"{'ended' if max(dated) <= on else 'ends'} {max(dated).isoformat()}"
