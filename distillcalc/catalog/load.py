"""The catalog: every authored table in one object, with the user's own rows laid over it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from distillcalc.catalog import makers, names, prices
from distillcalc.catalog.names import split_ref
from distillcalc.catalog.prices import Processing, TokenPriceOverride, TokenPrices
from distillcalc.catalog.schema import (
    TABLES,
    ApiRow,
    Commitment,
    EngineRow,
    FineTunePriceRow,
    GpuPriceRow,
    GpuRow,
    ModelRow,
    PriorRow,
    RetirementRow,
    Row,
    TermsRow,
)
from distillcalc.errors import InputError, UnknownName, near_matches
from distillcalc.provenance import Provenance
from distillcalc.resources import data_folder

AnyRow = TypeVar("AnyRow", bound=Row)
Overrides = Mapping[str, Any]  # {table: {key: {field: value}}}, checked when it is laid over


@dataclass(frozen=True)
class Catalog:
    """What is known, by table and key.

    ``Catalog.load()`` reads the shipped tables once; ``with_overrides`` returns a new catalog with a
    user's rows laid over them, field by field.
    """

    models: Mapping[str, ModelRow]
    terms: Mapping[str, TermsRow]
    retirements: Mapping[str, RetirementRow]
    finetune_prices: Mapping[str, FineTunePriceRow]
    gpus: Mapping[str, GpuRow]
    gpu_prices: Mapping[str, GpuPriceRow]
    apis: Mapping[str, ApiRow]
    engines: Mapping[str, EngineRow] = field(default_factory=dict)
    priors: Mapping[str, PriorRow] = field(default_factory=dict)
    token_prices_given: Mapping[str, TokenPriceOverride] = field(default_factory=dict)
    _apis: dict[str, ApiRow | None] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def _by_ref(self) -> dict[str, tuple[str, ModelRow]]:
        """The first row that names each provider/model."""
        found: dict[str, tuple[str, ModelRow]] = {}
        for name, row in self.models.items():
            for ref in row.price_refs:
                found.setdefault(ref, (name, row))
        return found

    @cached_property
    def _shutdowns(self) -> dict[tuple[str, str], RetirementRow]:
        """The earliest shutdown of each (provider, model)."""
        rows = sorted((row for row in self.retirements.values() if row.what == "shutdown"), key=lambda row: row.on)
        return {(row.provider, row.model): row for row in reversed(rows) if row.model is not None}

    @classmethod
    def load(cls, overrides: Overrides | str | Path | None = None) -> Catalog:
        """The shipped catalog, with the user's rows over it.

        Parameters
        ----------
        overrides : ``{table: {key: {field: value}}}``, or the path of a TOML file that holds it.

        Raises
        ------
        InputError
            If a row does not fit, naming its file, its key and what would be right.
        """
        shipped = _shipped(data_folder())
        if isinstance(overrides, (str, Path)):
            from distillcalc.workload.files import read_rows

            overrides = read_rows(overrides)
        return shipped.with_overrides(overrides) if overrides else shipped

    def with_overrides(self, overrides: Overrides) -> Catalog:
        """A new catalog with these rows laid over this one's; this one where there are none."""
        if not overrides:
            return self
        tables: dict[str, Any] = {name: dict(getattr(self, name)) for name in TABLES}
        given = dict(self.token_prices_given)
        for table, rows in overrides.items():
            if table not in tables and table != "token_prices":
                near = near_matches(table, [*TABLES, "token_prices"])
                raise InputError(
                    f"unknown catalog table {table!r} in overrides. "
                    + (f"Did you mean {near[0]}?" if near else f"Known: {', '.join([*TABLES, 'token_prices'])}")
                )
            if not isinstance(rows, Mapping) or not all(isinstance(row, Mapping) for row in rows.values()):
                raise InputError(f"overrides.{table} holds rows by key, for example [overrides.{table}.some-key]")
            for key, values in rows.items():
                where = f"overrides.{table}.{key}"
                if table == "token_prices":
                    given[key] = _row(TokenPriceOverride, values, where)
                    continue
                old = tables[table].get(key)
                stamp = {"source": "given by the user", "checked": date.today(), "confidence": "high"}
                known = old.model_dump() if old else {}
                if table == "apis":
                    known = _but_for_measured(known, values) if old else _named_by(key)
                merged = {**known, **stamp, **values}
                tables[table][key] = _row(TABLES[table], merged, where)
        _refuse_dangling(tables)
        return Catalog(**tables, token_prices_given=given)

    def model(self, name: str) -> ModelRow:
        """A model by its id; raises :class:`UnknownName` with near matches."""
        return self._get("model", self.models, name, "See `distillcalc catalog models`.")

    def gpu(self, name: str) -> GpuRow:
        """A GPU by its id; raises :class:`UnknownName` with near matches."""
        return self._get("GPU", self.gpus, name, "See `distillcalc catalog gpus`.")

    def engine(self, name: str) -> EngineRow:
        """A serving engine by its id; raises :class:`UnknownName` with near matches."""
        return self._get("engine", self.engines, name, "See `distillcalc catalog engines`.")

    @staticmethod
    def _get(kind: str, table: Mapping[str, AnyRow], name: str, hint: str) -> AnyRow:
        if name not in table:
            raise UnknownName(kind, name, table, hint)
        return table[name]

    def model_of(self, ref: str) -> tuple[str, ModelRow] | None:
        """The catalog's row for a model id or a provider/model, if it has one."""
        if ref in self.models:
            return ref, self.models[ref]
        return self._by_ref.get(ref)

    def price_ref(self, name: str, until: date | None = None) -> str:
        """provider/model for a name that is that already, or a catalog id.

        Of a catalog id it is the first host that no announced shutdown ends before ``until``, or else the first.

        Raises
        ------
        UnknownName
            If it is neither.
        InputError
            If the model is in the catalog but no provider's price is known for it.
        """
        if name in self.token_prices_given:
            return name
        if name in self.models:
            refs = self.models[name].price_refs
            if not refs:
                raise InputError(
                    f"{name} has no per-token price: no host of it is known. Name one as provider/model, or give its "
                    f'price in [overrides.token_prices."provider/{name}"]'
                )
            living = self.living_refs(self.models[name], until) if until else refs
            return (living or refs)[0]
        if "/" not in name:
            raise UnknownName(
                "model",
                name,
                [*self.models, *names.all_refs()],
                "Name a catalog id, or provider/model as in `distillcalc catalog prices`.",
            )
        names.find(name)
        return name

    def token_prices(
        self,
        ref: str,
        start: date,
        months: int | None = None,
        *,
        processing: Processing = "standard",
        hour_weights: tuple[float, ...] | None = None,
    ) -> TokenPrices:
        """Prices by month, or of one day; see :func:`distillcalc.catalog.prices.token_prices`."""
        return prices.token_prices(
            ref,
            start,
            months,
            processing=processing,
            hour_weights=hour_weights,
            overrides=self.token_prices_given,
        )

    def has_batch_price(self, ref: str, on: date | None = None) -> bool:
        """Whether a price for delayed answers is known, of a day if one is given."""
        own = self.token_prices_given.get(ref)
        if own is None:
            return prices.has_batch_price(ref, on)
        return own.batch_input_usd_per_mtok is not None and own.batch_output_usd_per_mtok is not None

    def shutdown(self, ref: str) -> RetirementRow | None:
        """The dated shutdown of a provider/model, if one is announced; of a resold model, its maker's."""
        own = self._shutdowns.get(split_ref(ref))
        return own or self._shutdowns.get(split_ref(makers.passed_on(ref)))

    def successors(self, ref: str, until: date) -> list[tuple[date, str]]:
        """The named successors that a model is followed by before a day: (from that day on, provider/model).

        A successor that ends itself before that day is followed on, to one that lives or has none named.
        """
        chain: list[tuple[date, str]] = []
        seen, current = {ref}, ref
        while (end := self.shutdown(current)) is not None and end.on < until:
            if end.replacement is None or end.replacement in seen:
                break
            current = end.replacement
            seen.add(current)
            if chain and chain[-1][0] >= end.on:  # ended before it was reached: passed over
                chain[-1] = (chain[-1][0], current)
            else:
                chain.append((end.on, current))
        return chain

    def living_refs(self, row: ModelRow, until: date) -> list[str]:
        """A model's price refs that no announced shutdown ends before a day, best first."""
        return [ref for ref in row.price_refs if (end := self.shutdown(ref)) is None or end.on >= until]

    def closings(self, provider: str) -> list[RetirementRow]:
        """Dated closings of a provider's fine-tuning service, earliest first."""
        return self._closings.get(provider, [])

    @cached_property
    def _closings(self) -> dict[str, list[RetirementRow]]:
        found: dict[str, list[RetirementRow]] = {}
        for row in sorted(self.retirements.values(), key=lambda row: row.on):
            if row.what in ("no-new-jobs", "new-customers-barred"):
                found.setdefault(row.provider, []).append(row)
        return found

    def rental(
        self,
        gpu: str,
        commitment: Commitment,
        provider: str | None = None,
        gpus: int = 1,
        *,
        marketplace: bool = False,
        region: str | None = None,
    ) -> GpuPriceRow | None:
        """The cheapest rental of a GPU at a commitment that rents out as few as ``gpus``, or None.

        Offers of low confidence (medians, undated pages) count only where there is no other; machines of
        strangers only where ``marketplace`` lets them. Where a ``region`` is asked for, machines that are known
        to stand elsewhere do not count, and those of unknown place only where there is no other.
        """
        offers = [
            row
            for row in self.gpu_prices.values()
            if row.gpu == gpu
            and row.commitment == commitment
            and row.min_gpus <= gpus
            and provider in (None, row.provider)
            and (marketplace or row.tier == "cloud")
            and (region is None or row.region is None or row.region.lower() == region.lower())
        ]
        return min(
            offers,
            key=lambda row: (
                region is not None and row.region is None,
                row.confidence == "low",
                row.usd_per_gpu_hour,
                row.provider,
            ),
            default=None,
        )

    def api(self, ref: str) -> ApiRow | None:
        """What is known of a model's API: the model's own row over its provider's, field by field.

        A median that a row states comes with that row's own tails: those of the row below are of another measurement.

        Raises
        ------
        InputError
            If the tails of one row lie below the median of another.
        """
        if ref not in self._apis:
            merged: dict[str, Any] = {}
            for row in self._api_rows(ref):
                stated = {name: value for name, value in row.model_dump().items() if value is not None and value != []}
                merged = _but_for_measured(merged, stated) | stated
            self._apis[ref] = _row(ApiRow, merged, f"the rows of apis on {ref}") if merged else None
        return self._apis[ref]

    def api_source(self, ref: str, name: str) -> Provenance:
        """Where one field of :meth:`api` came from: the most specific row that has it."""
        return next(provenance_of(row) for row in reversed(self._api_rows(ref)) if getattr(row, name) not in (None, []))

    def _api_rows(self, ref: str) -> list[ApiRow]:
        """The provider's row, then the model's own."""
        provider, model = split_ref(ref)
        rows = [row for row in self.apis.values() if row.provider == provider and row.model in (None, model)]
        return sorted(rows, key=lambda row: row.model is not None)


# Figures of one measurement: its median, under either name, and its tails.
MEASUREMENTS = (
    ({"ttft_p50_s"}, {"ttft_p50_s", "ttft_p95_s", "ttft_p99_s"}),
    ({"output_tokens_per_s", "tpot_p50_ms"}, {"output_tokens_per_s", "tpot_p50_ms", "tpot_p95_ms", "tpot_p99_ms"}),
)


def _but_for_measured(known: Mapping[str, Any], stated: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of an API's row without those of a measurement that newer fields replace by stating its median."""
    replaced = {name for medians, names in MEASUREMENTS if medians & stated.keys() for name in names}
    return {name: value for name, value in known.items() if name not in replaced}


def _named_by(key: str) -> dict[str, Any]:
    """What the key of a new row of apis says: provider and model where it is provider/model."""
    provider, slash, model = key.partition("/")
    return {"provider": provider, "model": model} if slash and provider and model else {}


def _refuse_dangling(tables: Mapping[str, Any]) -> None:
    """Rows that name a row of another table must name one that is there."""
    for key, row in tables["gpu_prices"].items():
        if row.gpu not in tables["gpus"]:
            raise UnknownName("GPU", row.gpu, tables["gpus"], f"It is named in overrides.gpu_prices.{key}.")
    for key, row in tables["models"].items():
        if row.terms is not None and row.terms not in tables["terms"]:
            raise UnknownName("terms", row.terms, tables["terms"], f"They are named in overrides.models.{key}.")


def provenance_of(row: Row) -> Provenance:
    """The provenance that a row of the catalog lends to the numbers taken from it."""
    kind = "given" if row.source == "given by the user" else "catalog"
    return Provenance(cast(Any, kind), row.source, row.checked, row.confidence)


@cache
def _shipped(folder: Path) -> Catalog:
    tables: dict[str, Any] = {}
    for name, row_type in TABLES.items():
        file = folder / f"{name}.toml"
        with file.open("rb") as stream:
            authored = tomllib.load(stream)
        tables[name] = {key: _row(row_type, values, f"{file.name}: {key}") for key, values in authored.items()}
    return Catalog(**tables)


def _row(row_type: type[Any], values: Mapping[str, Any], where: str) -> Any:
    try:
        return row_type.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, detail['loc'])) or 'row'}: {detail['msg']}. Got {detail.get('input')!r}"
            for detail in error.errors()
        )
        raise InputError(f"{where}: {problems}") from error
