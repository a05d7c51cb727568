"""What the requests of a log cost at list price, model by model, beside what the log says was billed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

from distillcalc.catalog.load import Catalog
from distillcalc.errors import DistillcalcError
from distillcalc.provenance import Provenance
from distillcalc.workload.logs.profile import ModelUse


@dataclass(frozen=True)
class Billed:
    """One model's share of a bill.

    Parameters
    ----------
    model : as the log names it; None where it does not.
    ref : provider/model whose list price was taken, None where none is known.
    requests : of the log.
    list_usd : price of its tokens at that list price [USD], None without one. Tiers are not applied: the log is
        summed by model here, and a cliff is per request.
    logged_usd : what the log says was paid [USD], None where it does not.
    logged_requests : how many requests have a logged cost.
    source : where the list price came from.
    """

    model: str | None
    ref: str | None
    requests: int
    list_usd: float | None
    logged_usd: float | None
    logged_requests: int
    source: Provenance | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "model": self.model,
            "ref": self.ref,
            "requests": self.requests,
            "list_usd": self.list_usd,
            "logged_usd": self.logged_usd,
            "logged_requests": self.logged_requests,
            "source": str(self.source) if self.source else None,
        }


def ref_of(catalog: Catalog, model: str | None) -> str | None:
    """provider/model of a model as a log names it: spelt with its provider, or by a name that genai-prices knows."""
    if model is None:
        return None
    try:
        return catalog.price_ref(model)
    except DistillcalcError:
        pass
    from genai_prices.data_snapshot import get_snapshot

    try:
        provider, found = get_snapshot().find_provider_model(model, None, None, None)
    except LookupError:
        return None
    return f"{provider.id}/{found.id}"


def list_bill(models: Iterable[ModelUse], *, on: date, catalog: Catalog | None = None) -> list[Billed]:
    """List price against logged cost of each model of a log.

    Parameters
    ----------
    models : ``WorkloadProfile.models``.
    on : the day whose prices apply, best one inside the log.
    catalog : left out, the shipped one.
    """
    known = catalog or Catalog.load()
    found = []
    for use in models:
        ref = ref_of(known, use.model)
        usd, source = None, None
        if ref is not None:
            try:
                prices = known.token_prices(ref, on)
            except DistillcalcError:
                ref = None
            else:
                cached = use.cached_tokens or 0
                usd = float(
                    (use.input_tokens - cached) * prices.input[0, 0]
                    + cached * prices.cached[0, 0]
                    + use.output_tokens * prices.output[0, 0]
                ) / 1e6 + use.requests * float(prices.request_usd[0])
                source = prices.provenance
        found.append(Billed(use.model, ref, use.requests, usd, use.cost_usd, use.cost_logged, source))
    return found
