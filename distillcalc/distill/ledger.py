"""Dollars to the last digit: the most a call can cost, a budget that is reserved first, and what was spent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from distillcalc.catalog.prices import Processing, token_prices
from distillcalc.errors import InputError

if TYPE_CHECKING:
    from distillcalc.catalog import Catalog

MTOK = Decimal(1_000_000)
ZERO = Decimal(0)
HOURS = tuple(tuple(float(hour == only) for hour in range(24)) for only in range(24))


@dataclass(frozen=True)
class Tier:
    """What a million tokens cost in requests with more input tokens than ``above`` [USD]."""

    above: int
    input: Decimal
    cached: Decimal
    cache_write: Decimal
    output: Decimal


@dataclass(frozen=True)
class CallPrices:
    """Prices of one model on one day, exact.

    Parameters
    ----------
    ref : provider/model.
    tiers : by input tokens, rising; past a threshold every token of the request costs the next tier's price.
    request_usd : per request beside its tokens.
    source : where they come from.
    """

    ref: str
    tiers: tuple[Tier, ...]
    request_usd: Decimal
    source: str

    @classmethod
    def of(cls, catalog: Catalog, ref: str, on: date, processing: Processing = "standard") -> CallPrices:
        """A model's prices of a day; where they depend on the hour, of its dearest: a budget must hold then too.

        Raises :class:`~distillcalc.errors.MissingPrice` where there are none.
        """
        given = catalog.token_prices_given
        by_hour = [token_prices(ref, on, processing=processing, overrides=given, hour_weights=hour) for hour in HOURS]
        found = by_hour[0]
        columns = [
            np.max([getattr(prices, kind)[0] for prices in by_hour], axis=0)
            for kind in ("input", "cached", "cache_write", "output", "request_usd")
        ]
        tiers = tuple(
            Tier(int(above), *(Decimal(repr(float(column[i]))) for column in columns[:4]))
            for i, above in enumerate(found.thresholds)
        )
        source = str(found.provenance)
        if any((prices.input != found.input).any() or (prices.output != found.output).any() for prices in by_hour):
            source += ", of the dearest hour of the day"
        return cls(ref, tiers, Decimal(repr(float(columns[4]))), source)

    def _tier(self, input_tokens: int) -> Tier:
        return next(tier for tier in reversed(self.tiers) if input_tokens > tier.above or tier.above == 0)

    def cost(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0, write_tokens: int = 0) -> Decimal:
        """What one request costs [USD]: cached and written tokens are parts of the input, thoughts of the output."""
        tier = self._tier(input_tokens)
        plain = input_tokens - cached_tokens - write_tokens
        tokens = (
            plain * tier.input
            + cached_tokens * tier.cached
            + write_tokens * tier.cache_write
            + output_tokens * tier.output
        )
        return tokens / MTOK + self.request_usd

    def most(self, input_tokens: int, output_tokens: int) -> Decimal:
        """The most that a request of at most so many tokens can cost [USD], in whatever tier it falls."""
        reached = [tier for tier in self.tiers if tier.above == 0 or input_tokens > tier.above]
        dearest_in = max(max(tier.input, tier.cached, tier.cache_write) for tier in reached)
        dearest_out = max(tier.output for tier in reached)
        return (input_tokens * dearest_in + output_tokens * dearest_out) / MTOK + self.request_usd


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call as the provider counts them; ``problem`` where the counts cannot be right."""

    input_tokens: int = 0
    cached_tokens: int = 0
    write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    problem: str = ""


def read_usage(response: Mapping[str, Any]) -> Usage:
    """The usage of a chat completion; with a ``problem`` where it is missing or impossible."""
    usage = response.get("usage")
    if not isinstance(usage, Mapping):
        return Usage(problem="the response has no usage")
    inside, outside = (_details(usage, name) for name in ("prompt_tokens_details", "completion_tokens_details"))
    stated: dict[str, Any] = {
        "input_tokens": usage.get("prompt_tokens"),
        "output_tokens": usage.get("completion_tokens"),
        "cached_tokens": inside.get("cached_tokens") or usage.get("prompt_cache_hit_tokens") or 0,
        "write_tokens": inside.get("cache_write_tokens") or 0,
        "reasoning_tokens": outside.get("reasoning_tokens") or 0,
    }
    for name, count in stated.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            return Usage(problem=f"the response's usage says {name} {count!r}")
    if stated["cached_tokens"] + stated["write_tokens"] > stated["input_tokens"]:
        return Usage(problem="the response's usage has more cached than input tokens")
    total = usage.get("total_tokens")
    if isinstance(total, int) and total - stated["input_tokens"] > stated["output_tokens"]:
        stated["output_tokens"] = total - stated["input_tokens"]  # thoughts that a server counts in the total only
    return Usage(**stated)


def _details(usage: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = usage.get(name)
    return found if isinstance(found, Mapping) else {}


@dataclass
class Ledger:
    """What may be spent, what is reserved for calls in flight, and what has been spent [USD].

    Spent and reserved together never exceed the ceiling, unless a server bills more than it was allowed to.
    """

    ceiling: Decimal | None = None
    spent: Decimal = ZERO
    reserved: Decimal = ZERO
    possibly_billed: Decimal = ZERO
    most_committed: Decimal = field(default=ZERO)

    def __post_init__(self) -> None:
        if self.ceiling is not None and (not self.ceiling.is_finite() or self.ceiling < 0):
            raise InputError(f"the budget is an amount in USD, 0 or more. Got {self.ceiling}")

    @property
    def left(self) -> Decimal | None:
        """What may still be reserved; None without a ceiling."""
        return None if self.ceiling is None else self.ceiling - self.spent - self.reserved

    def reserve(self, most: Decimal) -> bool:
        """Set aside the most that a call can cost; False, and nothing is set aside, where it does not fit."""
        left = self.left
        if left is not None and most > left:
            return False
        self.reserved += most
        self.most_committed = max(self.most_committed, self.spent + self.reserved)
        return True

    def settle(self, most: Decimal, usd: Decimal, *, possibly: bool = False) -> None:
        """Give back what was set aside and book what it cost; ``possibly`` where nobody knows whether it was billed."""
        self.reserved -= most
        self.spent += usd
        if possibly:
            self.possibly_billed += usd
