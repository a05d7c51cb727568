"""What a fine-tune will cost, whether the service still takes it, and what it did cost.

A price that is not known is said to be unknown: it is never nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal, Protocol

from distillcalc.catalog import Catalog, FineTunePriceRow, provenance_of
from distillcalc.distill.finetune.provider import Job
from distillcalc.distill.finetune.spec import FineTuneSpec
from distillcalc.provenance import Provenance

SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}\Z")


class TrainingFileFacts(Protocol):
    """What a check of a training file must tell."""

    @property
    def rows(self) -> int:
        """Examples in the file."""

    @property
    def ok(self) -> bool:
        """Whether a service will take it."""

    @property
    def problems(self) -> Sequence[Any]:
        """What is wrong, each as text."""

    @property
    def billed_tokens(self) -> int:
        """Tokens that are billed for the epochs asked about."""


class TrainingFileCheck(Protocol):
    """Looks a training file over, counting the tokens of a number of epochs."""

    def __call__(self, path: Path, *, epochs: int) -> TrainingFileFacts:
        """The facts of one file."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to know before a job is made; "refuse" keeps it from being made."""

    level: Literal["refuse", "warn", "note"]
    words: str
    source: str = ""

    def to_dict(self) -> dict[str, str]:
        """Plain values for JSON."""
        return {"level": self.level, "words": self.words, "source": self.source}


@dataclass(frozen=True, slots=True)
class Forecast:
    """What training will cost, and what the result costs to call.

    Parameters
    ----------
    tokens : billed, all epochs, and validation runs where the provider counts them.
    usd : of training; None where no price is known, and ``unknown`` says why.
    usd_per_mtok, minimum_usd : the price and the least that a job costs.
    price_key : row of the catalog's fine-tuning prices; ``provenance`` : where that has them from.
    input_usd_per_mtok, output_usd_per_mtok : of serving the result by the token.
    hosting_usd_per_hour : of serving it on a machine of its own; ``hosting_gpu`` is that machine's.
    """

    tokens: int
    usd: float | None
    unknown: str = ""
    usd_per_mtok: float | None = None
    minimum_usd: float | None = None
    price_key: str = ""
    provenance: Provenance | None = None
    input_usd_per_mtok: float | None = None
    output_usd_per_mtok: float | None = None
    hosting_usd_per_hour: float | None = None
    hosting_gpu: str | None = None

    @property
    def serving(self) -> str:
        """The serving price in words."""
        if self.input_usd_per_mtok is not None and self.output_usd_per_mtok is not None:
            return f"{self.input_usd_per_mtok:g} USD in and {self.output_usd_per_mtok:g} USD out per million tokens"
        if self.hosting_usd_per_hour is not None:
            return f"{self.hosting_usd_per_hour:g} USD an hour of a dedicated {self.hosting_gpu or 'machine'}"
        return "unknown"

    def cost(self, tokens: int) -> float | None:
        """What so many billed tokens cost [USD]; None where no price is known."""
        if self.usd_per_mtok is None:
            return None
        return max(tokens / 1e6 * self.usd_per_mtok, self.minimum_usd or 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an unknown price is null, with its reason."""
        out = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return out | {"provenance": self.provenance and self.provenance.to_dict(), "serving": self.serving}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Forecast:
        """The forecast that :meth:`to_dict` wrote."""
        given: dict[str, Any] = {name: values.get(name) for name in cls.__dataclass_fields__}
        source = given["provenance"]
        if isinstance(source, dict):
            day = source.get("checked")
            given["provenance"] = Provenance(
                source["kind"], source["source"], date.fromisoformat(day) if day else None, source.get("confidence", "")
            )
        return cls(**given)


@dataclass(frozen=True, slots=True)
class Bill:
    """What a job did cost [USD], and by whose account; None where nobody says, beside what was forecast."""

    usd: float | None
    tokens: int | None
    source: str
    forecast_usd: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def price_row(catalog: Catalog, spec: FineTuneSpec) -> tuple[str, FineTunePriceRow] | str:
    """The row that prices a fine-tune and its key, or why there is none.

    A row of the model itself counts before the smallest size class that holds it.
    """
    if spec.self_hosted:
        return "the server is your own, and the catalog does not know what it costs"
    method = "lora" if spec.lora else "full"
    rows = [(key, row) for key, row in catalog.finetune_prices.items() if row.provider == spec.provider]
    if not rows:
        return f"the catalog has no fine-tuning price of {spec.provider}: add a row to [overrides.finetune_prices]"
    base = SNAPSHOT.sub("", spec.model)
    for name in (spec.model, base):
        for key, row in rows:
            if row.base == name and row.max_params_b is None and row.method in ("sft", method):
                return key, row
    size = spec.params_b
    if size is None:
        found = catalog.model_of(spec.catalog_model or f"{spec.provider}/{spec.model}")
        size = catalog.model(spec.catalog_model).params_b if spec.catalog_model else found and found[1].params_b
    classes = [(row.max_params_b, key, row) for key, row in rows if row.max_params_b and row.method == method]
    if classes and size is None:
        return f"{spec.provider} prices by size, and that of {spec.model} is not known: set params_b or catalog_model"
    holding = sorted((limit, key) for limit, key, _ in classes if size is not None and limit >= size)
    if holding:
        key = holding[0][1]
        return key, catalog.finetune_prices[key]
    return f"the catalog has no price for fine-tuning {spec.model} at {spec.provider} ({method})"


def forecast(catalog: Catalog, spec: FineTuneSpec, *, tokens_per_epoch: int, validation_tokens: int = 0) -> Forecast:
    """What a fine-tune will cost: billed tokens × price, and at least the provider's minimum.

    Parameters
    ----------
    tokens_per_epoch : billed tokens of the training file, once through.
    validation_tokens : of the validation file, once through; each evaluation counts them (docs.together.ai, pricing).
    """
    tokens = tokens_per_epoch * spec.epochs + validation_tokens * spec.evaluations
    found = price_row(catalog, spec)
    if isinstance(found, str):
        return Forecast(tokens, None, found)
    key, row = found
    unknown = ""
    if row.training_usd_per_mtok is None:
        unknown = (
            f"{key} is priced by the training hour, and its speed is not known"
            if row.training_usd_per_hour is not None
            else f"the catalog has no training price in {key}: add it in [overrides.finetune_prices.{key!r}]"
        )
    made = Forecast(
        tokens,
        None,
        unknown,
        row.training_usd_per_mtok,
        row.minimum_usd,
        key,
        provenance_of(row),
        row.input_usd_per_mtok,
        row.output_usd_per_mtok,
        row.hosting_usd_per_hour,
        row.hosting_gpu,
    )
    return replace(made, usd=made.cost(tokens))


def bill(job: Job, made: Forecast) -> Bill:
    """What a finished job did cost: by the service's own account, else its billed tokens at the forecast's price."""
    if job.billed_usd is not None:
        return Bill(job.billed_usd, job.trained_tokens, "the service's own price of the job", made.usd)
    if job.trained_tokens is None:
        return Bill(None, None, "the service has not said how many tokens it billed", made.usd)
    usd = made.cost(job.trained_tokens)
    if usd is None:
        return Bill(None, job.trained_tokens, f"no price: {made.unknown}", made.usd)
    return Bill(
        usd, job.trained_tokens, f"trained tokens x {made.usd_per_mtok:g} USD/Mtok ({made.price_key})", made.usd
    )


def budget_notices(spec: FineTuneSpec, made: Forecast) -> list[Notice]:
    """Refusals of a forecast that is over the budget, or that cannot be held against it."""
    if made.usd is None:
        words = f"the training cost is unknown: {made.unknown}"
        if spec.budget_usd is None:
            return [Notice("warn", words)]
        words += f". It cannot be held to budget_usd = {spec.budget_usd:g}: give the price, or leave the budget out"
        return [Notice("refuse", words)]
    if spec.budget_usd is not None and made.usd > spec.budget_usd:
        words = f"training will cost about {made.usd:,.2f} USD, more than budget_usd = {spec.budget_usd:g}"
        return [Notice("refuse", words, str(made.provenance or ""))]
    return []


def closing_notices(catalog: Catalog, spec: FineTuneSpec, *, today: date) -> list[Notice]:
    """The dated ends that matter to a job made today: the service's, the account's and the base model's.

    Of a server of one's own the provider's dates are only noted.
    """
    notices: list[Notice] = []
    for end in catalog.closings(spec.provider):
        source = f"{end.source}, checked {end.checked.isoformat()}"
        day = end.on.isoformat()
        if end.what == "no-new-jobs":
            level: Literal["refuse", "warn"] = "refuse" if end.on <= today else "warn"
            notices.append(Notice(level, f"{spec.provider} takes no fine-tuning jobs after {day}", source))
        elif end.on <= today and not spec.fine_tunes_before:
            who = end.note.rstrip(".") or "new customers"
            words = f"{spec.provider} has taken no fine-tuning jobs of some accounts since {day}: {who}"
            notices.append(Notice("warn", f"{words} (set fine_tunes_before if you are not one)", source))
    base = SNAPSHOT.sub("", spec.model)
    refs = [f"{spec.provider}/{spec.model}", f"{spec.provider}/{base}"]
    shutdown = next((row for row in map(catalog.shutdown, refs) if row is not None), None)
    if shutdown is not None:
        source = f"{shutdown.source}, checked {shutdown.checked.isoformat()}"
        day, left = shutdown.on.isoformat(), (shutdown.on - today).days
        if left <= 0:
            notices.append(Notice("refuse", f"{spec.provider} has shut {spec.model} down on {day}", source))
        else:
            after = f"; the named successor is {shutdown.replacement}" if shutdown.replacement else ""
            words = f"the fine-tune ends with its base model {spec.model} on {day}, in {left} days{after}"
            notices.append(Notice("warn", words, source))
    if not spec.self_hosted:
        return notices
    return [Notice("note", f"{notice.words} (not asked of your own server)", notice.source) for notice in notices]
