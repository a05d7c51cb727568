"""What calling a per-token API costs: prices, prompt caching, batch discount, price path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distillcalc.calendar import add_months, month_of
from distillcalc.catalog import Catalog, TokenPrices
from distillcalc.catalog.prices import Processing
from distillcalc.estimate.inputs import Inputs
from distillcalc.provenance import Provenance, assumed, derived
from distillcalc.workload.arrivals import cache_hit_share
from distillcalc.workload.lengths import JointLengths

Floats = NDArray[np.float64]

DEFAULT_TTL_S = 300.0  # the common in-memory lifetime; used only where the catalog has none for a provider


@dataclass(frozen=True)
class ApiCost:
    """Running cost of a per-token API over n scenarios.

    Parameters
    ----------
    usd_per_request : item -> expected USD of one request, broadcastable to (n, months).
    hit_share : share of requests that find their prefix cached, shape (n, months).
    batch_known : whether the batchable share is charged at a batch price.
    provenance : of the prices and of the hit share.
    """

    usd_per_request: dict[str, Floats]
    hit_share: Floats
    batch_known: bool
    provenance: dict[str, Provenance]

    def monthly(self, requests: Floats) -> dict[str, Floats]:
        """USD of each month by item, for ``requests`` of shape (n, months)."""
        return {item: usd * requests for item, usd in self.usd_per_request.items()}

    @property
    def total(self) -> Floats:
        """USD of one request, broadcastable to (n, months)."""
        total = np.zeros((1, 1))
        for usd in self.usd_per_request.values():
            total = total + usd
        return total


def prices_over_horizon(x: Inputs, catalog: Catalog, ref: str, processing: Processing = "standard") -> TokenPrices:
    """A model's prices in each month; past its shutdown those of its named successors (a migration)."""
    start, weights = x.scenario.workload.start, x.scenario.workload.hour_weights
    found = catalog.token_prices(ref, start, x.months, processing=processing, hour_weights=weights)
    for day, successor in catalog.successors(ref, add_months(start, x.months)):
        kind: Processing = processing if catalog.has_batch_price(successor, max(day, start)) else "standard"
        after = catalog.token_prices(successor, start, x.months, processing=kind, hour_weights=weights)
        found = found.then(max(month_of(day, start), 0), after)
    return found


def api_cost(
    x: Inputs,
    catalog: Catalog,
    ref: str,
    *,
    lengths: JointLengths,
    prefix_tokens: Floats,
    reasoning_tokens: Floats,
    share: Floats | float = 1.0,
    price_factor: Floats | float = 1.0,
) -> ApiCost:
    """Expected cost of one request at a per-token API, in each month.

    Parameters
    ----------
    x : the inputs.
    ref : provider/model.
    lengths : of the prompts and answers it sees.
    prefix_tokens : shared start of the prompt [tokens], shape (n, 1).
    reasoning_tokens : billed thinking [tokens], shape (n, 1).
    share : share of the workload's requests that reach it (a cascade's escalations), for cache hits.
    price_factor : own price / list price, shape (n, 1).

    Raises
    ------
    MissingPrice, UnknownName
        From the catalog.

    Notes
    -----
    cost = (1 - batchable) standard + batchable batch, each an expectation over the tiers. A cache whose
    writes cost extra is only used where it pays: hits x (input - cached) > misses x (write - input).
    """
    workload = x.scenario.workload
    prices = prices_over_horizon(x, catalog, ref)
    sources: dict[str, Provenance] = {"token_prices": prices.provenance}
    hits, writes = _caching(x, catalog, ref, prices, prefix_tokens, share, sources)
    items = prices.per_request(
        lengths,
        prefix_tokens=prefix_tokens if hits.any() else None,
        hit_share=hits,
        write_share=writes,
        reasoning_tokens=reasoning_tokens,
    )

    batchable = x["batchable_share"]
    batch_known = True
    if batchable.any():
        batch_known = catalog.has_batch_price(ref, workload.start)
        if batch_known:
            delayed = prices_over_horizon(x, catalog, ref, "batch").per_request(
                lengths, reasoning_tokens=reasoning_tokens
            )
            items = {
                item: (1 - batchable) * usd + batchable * delayed.get(item, np.zeros((1, 1)))
                for item, usd in items.items()
            }
            sources["batch"] = derived("batchable share at the batch price, which is taken to have no cache hits")
        else:
            sources["batch"] = assumed(f"no batch price known for {ref}: the batchable share pays the standard price")

    path = x.price_path("token_price_change_per_year") * price_factor
    if path.size > 1 or path[0, 0] != 1.0:
        items = {item: usd * path for item, usd in items.items()}
    items = {item: usd for item, usd in items.items() if item in ("input_tokens", "output_tokens") or np.any(usd)}
    if workload.cacheable_prefix_tokens or "cacheable_prefix_tokens" in x.swept:
        sources["cache_hit_share"] = derived("1 - exp(-requests per prefix per second x TTL), averaged over the week")
    return ApiCost(items, hits, batch_known, sources)


def _caching(
    x: Inputs,
    catalog: Catalog,
    ref: str,
    prices: TokenPrices,
    prefix: Floats,
    share: Floats | float,
    sources: dict[str, Provenance],
) -> tuple[Floats, Floats]:
    """Share of requests that read, and that write, the cached prefix, shape (n, months)."""
    none = np.zeros((1, 1))
    saving = prices.input[:, 0] - prices.cached[:, 0]
    if not prefix.any() or not np.any(saving > 0):
        return none, none
    api = catalog.api(ref)
    ttl = x["cache_ttl_s"]
    if np.isnan(ttl).any():
        known = api.cache_ttl_s if api else None
        ttl = np.where(np.isnan(ttl), known or DEFAULT_TTL_S, ttl)
        sources["cache_ttl_s"] = (
            catalog.api_source(ref, "cache_ttl_s")
            if known
            else assumed(f"{DEFAULT_TTL_S:g} s: the catalog has no cache lifetime for {ref}")
        )
    # What waits for a batch does not keep a cache warm.
    arrivals = x.requests_per_day * (share * (1 - x["batchable_share"]))
    refreshed = not (api and api.cache_ttl_refreshed is False)
    hits = cache_hit_share(arrivals, x["distinct_prefixes"], ttl, x.scenario.workload.profile, refreshed=refreshed)
    if api and api.cache_min_prefix_tokens:
        hits = np.where(prefix < api.cache_min_prefix_tokens, 0.0, hits)
    surcharge = prices.cache_write[:, 0] - prices.input[:, 0]
    pays = hits * saving > (1 - hits) * surcharge
    hits = np.where(pays, hits, 0.0)
    return hits, np.where(pays, 1 - hits, 0.0)
