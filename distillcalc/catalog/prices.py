"""Token prices from genai-prices, resolved once and applied to arrays.

A tier is a cliff: past its threshold every token of the request is repriced, so a price is always an
expectation over requests, never a product of totals. Which model a name means is :mod:`.names`' subject.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

from distillcalc.calendar import add_months
from distillcalc.catalog.names import find, package_version
from distillcalc.errors import InputError, MissingPrice
from distillcalc.provenance import Provenance
from distillcalc.workload.lengths import Above, JointLengths

Floats = NDArray[np.float64]
Processing = Literal["standard", "batch"]


class TokenPriceOverride(BaseModel):
    """A price of the user's own for one provider/model: a contract, or a model that has no list price."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    input_usd_per_mtok: Annotated[float, Field(ge=0)]
    output_usd_per_mtok: Annotated[float, Field(ge=0)]
    cached_input_usd_per_mtok: Annotated[float, Field(ge=0)] | None = None
    cache_write_usd_per_mtok: Annotated[float, Field(ge=0)] | None = None
    batch_input_usd_per_mtok: Annotated[float, Field(ge=0)] | None = None
    batch_output_usd_per_mtok: Annotated[float, Field(ge=0)] | None = None
    context_window: Annotated[int, Field(gt=0)] | None = None
    source: str = "given by the user"


@dataclass(frozen=True)
class TokenPrices:
    """What one model costs per million tokens, by month of the horizon and by context tier.

    Parameters
    ----------
    ref : provider/model.
    thresholds : a tier holds for requests with more input tokens than this, rising from 0, shape (tiers,).
    input, cached, cache_write, output : [USD per million tokens], shape (months, tiers).
    request_usd : charge per request beside the tokens [USD], shape (months,).
    provenance : where they came from.
    """

    ref: str
    thresholds: Floats
    input: Floats
    cached: Floats
    cache_write: Floats
    output: Floats
    request_usd: Floats
    provenance: Provenance
    context_window: int | None = None

    def per_request(
        self,
        lengths: JointLengths,
        *,
        prefix_tokens: Floats | None = None,
        hit_share: Floats | float = 0.0,
        write_share: Floats | float = 0.0,
        reasoning_tokens: Floats | float = 0.0,
    ) -> dict[str, Floats]:
        """Expected cost of one request, by what is billed.

        Parameters
        ----------
        lengths : joint input and output lengths, means of shape (n, 1).
        prefix_tokens : start of the prompt that may be cached [tokens], shape (n, 1); a shorter prompt is all
            prefix. Left out, nothing is cached.
        hit_share, write_share : share of requests that read it from the cache, that write it there,
            broadcast against (n, months).
        reasoning_tokens : mean tokens thought, billed as output, shape (n, 1).

        Returns
        -------
        dict of USD per request by item, each broadcastable to (n, months): input_tokens, cached_tokens,
        cache_writes, output_tokens, reasoning_tokens, request_fee.

        Notes
        -----
        E[cost] = sum over tiers of p_in E[in; tier] + p_out E[out; tier], with E[x; tier] the partial
        expectation over requests whose input falls in the tier; the cached part is E[min(prefix, in); tier].
        """
        items: dict[str, Floats] = {}

        def add(item: str, usd: Floats) -> None:
            items[item] = items[item] + usd if item in items else usd

        beyond = None if prefix_tokens is None else lengths.above(prefix_tokens)

        def prefix_above(threshold: float, above: Above) -> Floats:
            """E[min(prefix, in); in > threshold]."""
            assert beyond is not None
            assert prefix_tokens is not None
            shorter = above.input_tokens - beyond.input_tokens + prefix_tokens * beyond.share
            return np.where(threshold >= prefix_tokens, prefix_tokens * above.share, shorter)

        lower, lower_prefix = lengths.above(0.0), np.zeros((1, 1))
        if beyond is not None:
            lower_prefix = prefix_above(0.0, lower)
        for tier in range(len(self.thresholds)):
            share, tokens_in, tokens_out, prefix = lower.share, lower.input_tokens, lower.output_tokens, lower_prefix
            if tier + 1 < len(self.thresholds):
                edge = float(self.thresholds[tier + 1])
                upper = lengths.above(edge)
                share, tokens_in = share - upper.share, tokens_in - upper.input_tokens
                tokens_out = tokens_out - upper.output_tokens
                if beyond is not None:
                    lower_prefix = prefix_above(edge, upper)
                    prefix = prefix - lower_prefix
                lower = upper
            if beyond is not None:
                add("cached_tokens", prefix * hit_share * (self.cached[:, tier] * 1e-6))
                add("cache_writes", prefix * write_share * (self.cache_write[:, tier] * 1e-6))
                tokens_in = tokens_in - prefix * (hit_share + write_share)
            add("input_tokens", tokens_in * (self.input[:, tier] * 1e-6))
            add("output_tokens", tokens_out * (self.output[:, tier] * 1e-6))
            add("reasoning_tokens", reasoning_tokens * share * (self.output[:, tier] * 1e-6))
        if self.request_usd.any():
            add("request_fee", np.broadcast_to(self.request_usd, (1, len(self.request_usd))))
        return items

    def price(
        self,
        input_tokens: ArrayLike,
        output_tokens: ArrayLike,
        cached_tokens: ArrayLike = 0,
        cache_write_tokens: ArrayLike = 0,
        *,
        month: int = 0,
    ) -> Floats:
        """Cost of each of many requests [USD], shape (requests,).

        Parameters
        ----------
        input_tokens : whole prompt, cache reads and writes included, shape (requests,).
        output_tokens : answer, reasoning included.
        cached_tokens, cache_write_tokens : the parts of the prompt read from, written to the cache.
        month : of the horizon the prices were resolved for.

        Raises
        ------
        InputError
            If tokens are negative or the cached parts exceed the prompt.
        """
        total, out, read, written = (
            np.asarray(tokens, dtype=float)
            for tokens in (input_tokens, output_tokens, cached_tokens, cache_write_tokens)
        )
        if min(total.min(initial=0), out.min(initial=0), read.min(initial=0), written.min(initial=0)) < 0:
            raise InputError("token counts must be at least 0. Got a negative one")
        if np.any(read + written > total):
            raise InputError("cached_tokens + cache_write_tokens must not exceed input_tokens, which includes both")
        one_tier = len(self.thresholds) == 1
        tier: Any = 0 if one_tier else np.searchsorted(self.thresholds[1:], total, side="left")
        usd = (total - read - written) * self.input[month][tier]
        usd = usd + read * self.cached[month][tier]
        usd = usd + written * self.cache_write[month][tier]
        usd = usd + out * self.output[month][tier]
        return np.asarray(usd / 1e6 + self.request_usd[month])

    def scaled(self, factors: Floats) -> TokenPrices:
        """The same prices times one factor a month, shape (months,)."""
        column = factors[:, None]
        return replace(
            self,
            input=self.input * column,
            cached=self.cached * column,
            cache_write=self.cache_write * column,
            output=self.output * column,
            request_usd=self.request_usd * factors,
        )

    def then(self, month: int, other: TokenPrices) -> TokenPrices:
        """These prices until ``month``, those of ``other`` from it on (a migration)."""
        thresholds = np.union1d(self.thresholds, other.thresholds)

        def spread(prices: TokenPrices, values: Floats) -> Floats:
            return values[:, np.searchsorted(prices.thresholds, thresholds, side="right") - 1]

        def joined(name: str) -> Floats:
            first, second = spread(self, getattr(self, name)), spread(other, getattr(other, name))
            return np.concatenate([first[:month], second[month:]])

        return replace(
            self,
            thresholds=thresholds,
            input=joined("input"),
            cached=joined("cached"),
            cache_write=joined("cache_write"),
            output=joined("output"),
            request_usd=np.concatenate([self.request_usd[:month], other.request_usd[month:]]),
        )


def token_prices(
    ref: str,
    start: date,
    months: int | None = None,
    *,
    processing: Processing = "standard",
    hour_weights: tuple[float, ...] | None = None,
    overrides: Mapping[str, TokenPriceOverride] | None = None,
) -> TokenPrices:
    """Prices of one model for each month of a horizon, or of one day.

    Parameters
    ----------
    ref : provider/model.
    start, months : the horizon; each month is priced at its middle, so a dated change inside it is seen.
        Without ``months``, the prices of the day ``start``, as one month.
    processing : "batch" asks for the discounted tier of delayed answers.
    hour_weights : share of requests by hour of day (UTC), for models whose price depends on it.
    overrides : the user's own prices by ref.

    Raises
    ------
    UnknownName
        If there is no such model.
    MissingPrice
        If it has no price, or no batch price where one is asked for.
    """
    own = (overrides or {}).get(ref)
    if own is not None:
        return _from_override(ref, own, months or 1, processing)
    return _resolve(ref, start, months, processing, hour_weights)


@lru_cache(maxsize=1024)
def _resolve(
    ref: str, start: date, months: int | None, processing: Processing, hour_weights: tuple[float, ...] | None
) -> TokenPrices:
    from genai_prices.types import TieredPrices, TimeOfDateConstraint

    provider, model = find(ref)
    if processing == "batch" and not has_batch_price(ref):
        raise MissingPrice(f"no batch price known for {ref}")
    context = {"processing": "batch"} if processing == "batch" else None
    conditional = model.prices if isinstance(model.prices, list) else []
    variants = model.price_variants or []
    constraints = [*(price.constraint for price in conditional), *(variant.constraint for variant in variants)]
    by_hour = any(isinstance(constraint, TimeOfDateConstraint) for constraint in constraints)
    hours = [12] if not by_hour else list(range(24))
    weights = np.array(hour_weights if by_hour and hour_weights else np.ones(len(hours)))
    weights = weights / weights.sum()

    thresholds = {0}
    table: list[list[dict[str, Any]]] = []
    for day in [start] if months is None else [_middle(start, month) for month in range(months)]:
        if processing == "batch" and not has_batch_price(ref, day):
            raise MissingPrice(f"no batch price known for {ref} on {day.isoformat()}")
        row = []
        for hour in hours:
            at = datetime.combine(day, time(hour), tzinfo=UTC) + timedelta(minutes=1)
            quoted = vars(model.get_prices(at, context))
            row.append(quoted)
            for value in quoted.values():
                if isinstance(value, TieredPrices):
                    thresholds |= {tier.start for tier in value.tiers}
        table.append(row)
    if not all(q.get("input_mtok") is not None and q.get("output_mtok") is not None for row in table for q in row):
        raise MissingPrice(
            f"no token price known for {ref} (genai-prices {package_version()}). "
            f'Give one in [overrides.token_prices."{ref}"]'
        )

    steps = sorted(thresholds)

    def at_tier(value: Any, threshold: int) -> float:
        if isinstance(value, TieredPrices):
            reached = [tier.price for tier in value.tiers if tier.start <= threshold]
            return float(reached[-1] if reached else value.base)
        return float(value)

    def grid(kind: str) -> Floats:
        def quote(prices: Mapping[str, Any], threshold: int) -> float:
            value = prices.get(kind)
            # A kind of token without a price of its own is billed as plain input (genai-prices' own rule).
            return at_tier(prices["input_mtok"] if value is None else value, threshold)

        return np.array(
            [[sum(w * quote(q, step) for w, q in zip(weights, row, strict=True)) for step in steps] for row in table]
        )

    per_request = np.array(
        [
            sum(w * float(q.get("requests_kcount") or 0) for w, q in zip(weights, row, strict=True)) / 1000
            for row in table
        ]
    )
    note = (
        ""
        if any(model is own for own in provider.models)
        else " (price of the model's maker, which this provider resells)"
    )
    source = f"genai-prices {package_version()}, {provider.id}/{model.id}{note}"
    return TokenPrices(
        ref,
        np.array(steps, dtype=float),
        input=grid("input_mtok"),
        cached=grid("cache_read_mtok"),
        cache_write=grid("cache_write_mtok"),
        output=grid("output_mtok"),
        request_usd=per_request,
        provenance=Provenance("catalog", source),
        context_window=model.context_window,
    )


def _middle(start: date, month: int) -> date:
    first, after = add_months(start, month), add_months(start, month + 1)
    return first + (after - first) / 2


def _from_override(ref: str, own: TokenPriceOverride, months: int, processing: Processing) -> TokenPrices:
    price_in, price_out = own.input_usd_per_mtok, own.output_usd_per_mtok
    if processing == "batch":
        if own.batch_input_usd_per_mtok is None or own.batch_output_usd_per_mtok is None:
            raise MissingPrice(f"no batch price given for {ref}")
        price_in, price_out = own.batch_input_usd_per_mtok, own.batch_output_usd_per_mtok

    def column(value: float | None) -> Floats:
        return np.full((months, 1), price_in if value is None else value)

    return TokenPrices(
        ref,
        np.zeros(1),
        column(price_in),
        column(own.cached_input_usd_per_mtok),
        column(own.cache_write_usd_per_mtok),
        column(price_out),
        np.zeros(months),
        Provenance("given", f'[overrides.token_prices."{ref}"]: {own.source}'),
        own.context_window,
    )


def has_batch_price(ref: str, on: date | None = None) -> bool:
    """Whether genai-prices knows a batch price, of a day if one is given.

    Without one it would answer with the standard price.
    """
    provider, model = find(ref)
    if not any(model is own for own in provider.models):
        return False  # genai-prices ignores variants of a model it borrowed from another provider
    noon = None if on is None else datetime.combine(on, time(12), tzinfo=UTC)
    return any(
        variant.when == {"processing": "batch"}
        and (noon is None or variant.constraint is None or variant.constraint.active(noon))
        for variant in model.price_variants or ()
    )


def price_requests(
    ref: str,
    input_tokens: ArrayLike,
    output_tokens: ArrayLike,
    cached_tokens: ArrayLike = 0,
    cache_write_tokens: ArrayLike = 0,
    *,
    on: date | None = None,
    processing: Processing = "standard",
) -> Floats:
    """List price of each of many requests [USD], shape (requests,): genai-prices' sum, vectorised.

    Parameters are those of :meth:`TokenPrices.price`; ``on`` is the day whose prices apply (today).
    """
    prices = token_prices(ref, on or datetime.now(UTC).date(), processing=processing)
    return prices.price(input_tokens, output_tokens, cached_tokens, cache_write_tokens)
