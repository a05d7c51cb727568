"""One task's traffic: how much, when, how long, and what must hold for an answer to be good enough.

The Workload says nothing of models or prices; those are choices (:mod:`.scenario`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from distillcalc.errors import InputError
from distillcalc.workload.arrivals import HOURS_PER_WEEK, Profile, business_hours
from distillcalc.workload.distributions import Distribution, as_distribution, is_distribution
from distillcalc.workload.lengths import MAX_TOKENS, Points, TokenLengths, copula_points

if TYPE_CHECKING:
    from distillcalc.workload.logs.sources import Paths
    from distillcalc.workload.logs.tokens import Tokenizer

DEFAULT_RETENTION_FLOOR = 0.9


class Frozen(BaseModel):
    """Base of everything a scenario holds: immutable, no unknown fields, finite numbers.

    A number may be given as a distribution, or as a range (low, high) within which any is as likely: the field then
    holds its median and ``uncertain`` the distribution.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())
    _uncertain: dict[str, Distribution] = PrivateAttr(default_factory=dict)

    @property
    def uncertain(self) -> Mapping[str, Distribution]:
        """The distributions that were given, by the name of the field."""
        return self._uncertain

    @model_validator(mode="wrap")
    @classmethod
    def _with_distributions(cls, values: Any, handler: Any) -> Any:
        if not isinstance(values, Mapping):
            return handler(values)
        plain, found = dict(values), {}
        for name, value in values.items():
            field = cls.model_fields.get(name)
            inside = field is not None and _stated_distribution(field, value)
            if not inside:
                continue
            try:
                found[name] = as_distribution(inside)
                _refuse_out_of_bounds(field, found[name])
            except InputError as error:
                raise _problem(cls.__name__, name, str(error), value) from error
            shaped = isinstance(value, Mapping) and "mean" in value
            plain[name] = {**value, "mean": found[name].median} if shaped else found[name].median
            if plain[name] != values[name] and field is not None and field.annotation is int:
                why = "it is one whole number, not a distribution or a range"
                raise _problem(cls.__name__, name, why, value)
        made = handler(plain)
        if found:
            made._uncertain = found
        return made

    @model_validator(mode="before")
    @classmethod
    def _yes_is_no_number(cls, values: Any) -> Any:
        if isinstance(values, dict):
            for name, value in values.items():
                field = cls.model_fields.get(name)
                if isinstance(value, bool) and field is not None and "bool" not in str(field.annotation):
                    raise ValueError(f"{name} is a number or a table, not yes or no. Got {str(value).lower()}")
        return values

    @model_serializer(mode="wrap")
    def _leave_out_none(self, handler: Any) -> Any:
        plain = {key: value for key, value in handler(self).items() if value is not None}
        for name, distribution in self._uncertain.items():
            table: Any = distribution.to_dict()
            stated = getattr(self, name)
            shaped = isinstance(stated, TokenLengths) and stated.p95 is not None
            plain[name] = {"mean": table, "p95": stated.p95} if shaped else table
        return plain

    def __repr_args__(self) -> Any:
        """What differs from the defaults, so that the repr is the Python that a user would write."""
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            distribution = self._uncertain.get(name)
            if distribution is not None:
                shaped = isinstance(value, TokenLengths) and value.p95 is not None
                yield name, {"mean": distribution, "p95": value.p95} if shaped else distribution
            elif isinstance(value, date) or value != field.get_default(call_default_factory=True, validated_data={}):
                yield name, value


def _stated_distribution(field: FieldInfo, value: Any) -> Any:
    """The distribution that is given for a number, or for the mean of a token length; None where there is none."""
    kinds = str(field.annotation)
    if not any(kind in kinds for kind in ("float", "int", "TokenLengths")):
        return None
    if is_distribution(value):
        return value
    if isinstance(value, (tuple, list)) and len(value) == 2 and "tuple" not in kinds and "TokenLengths" not in kinds:
        return {"uniform": list(value)}  # a range, as a slider gives it
    if isinstance(value, Mapping) and "dict" not in kinds and "TokenLengths" not in kinds:
        return value  # meant as one: what is wrong with it is told in the words of distributions
    if "TokenLengths" in kinds and isinstance(value, Mapping) and is_distribution(value.get("mean")):
        return value["mean"]
    return None


def _refuse_out_of_bounds(field: FieldInfo | None, distribution: Distribution) -> None:
    """A distribution must lie within what the number may be; one without ends, but for one part in a thousand."""
    low, high = distribution.ends
    for least, most, strict in _bounds(field):
        beyond = low <= least if strict else low < least
        if beyond or high > most:
            side = f"{least:g} and {most:g}" if math.isfinite(most) else f"{least:g} and any number"
            raise InputError(
                f"must lie between {side}. Got {distribution!r}, which reaches from {low:.4g} to {high:.4g}"
            )


def _bounds(field: FieldInfo | None) -> Iterator[tuple[float, float, bool]]:
    """(least, most, whether the least itself is excluded) of a number's field."""
    stack: list[Any] = [field]
    while stack:
        one = stack.pop()
        found = {type(m).__name__: m for m in getattr(one, "metadata", ()) or getattr(one, "__metadata__", ())}
        for inner in found.values():
            stack += [inner] if isinstance(inner, FieldInfo) else []
        least = getattr(found.get("Ge"), "ge", getattr(found.get("Gt"), "gt", None))
        most = getattr(found.get("Le"), "le", getattr(found.get("Lt"), "lt", None))
        if least is not None or most is not None:
            yield (
                -math.inf if least is None else float(least),
                math.inf if most is None else float(most),
                "Gt" in found,
            )
        annotation = one.annotation if isinstance(one, FieldInfo) else None
        if annotation is TokenLengths or TokenLengths in getattr(annotation, "__args__", ()):
            yield 0.0, MAX_TOKENS, False
        stack += [arg for arg in getattr(annotation, "__args__", ()) if hasattr(arg, "__metadata__")]


def _problem(model: str, field: str, message: str, value: Any) -> ValidationError:
    """A problem with one field, in the form that pydantic adds to its own."""
    kind = PydanticCustomError("value_error", "{said}", {"said": message})
    return ValidationError.from_exception_data(model, [InitErrorDetails(type=kind, loc=(field,), input=value)])


class Slo(Frozen):
    """Latency objectives; each left out is not asked for.

    TTFT and E2E in seconds, TPOT in milliseconds per output token after the first.
    """

    ttft_p50_s: float | None = Field(None, gt=0)
    ttft_p95_s: float | None = Field(None, gt=0)
    ttft_p99_s: float | None = Field(None, gt=0)
    tpot_p50_ms: float | None = Field(None, gt=0)
    tpot_p95_ms: float | None = Field(None, gt=0)
    tpot_p99_ms: float | None = Field(None, gt=0)
    e2e_p50_s: float | None = Field(None, gt=0)
    e2e_p95_s: float | None = Field(None, gt=0)
    e2e_p99_s: float | None = Field(None, gt=0)

    def objectives(self) -> list[tuple[str, float, float]]:
        """(what, percentile as a share, limit in seconds) of each objective that is set."""
        return self._objectives

    @cached_property
    def _objectives(self) -> list[tuple[str, float, float]]:
        """(what, percentile as a share, limit in seconds) of each objective that is set."""
        found = []
        for name in type(self).model_fields:
            limit = getattr(self, name)
            if limit is not None:
                what, percentile, unit = name.split("_")
                found.append((what, int(percentile[1:]) / 100, limit / 1000 if unit == "ms" else limit))
        return found


class Quality(Frozen):
    """What good enough means: the mean of one task metric in [0, 1] on human-labelled items.

    ``floor`` is absolute; ``floor_relative_to_teacher`` is its alternative, a least retention. Without
    either, 0.9 of the teacher's quality is asked for; a floor of 0 asks for nothing.
    ``confidence`` is the probability with which the floor must be met for the gate to pass.
    """

    metric: str = "accuracy"
    floor: float | None = Field(None, ge=0, le=1)
    floor_relative_to_teacher: float | None = Field(None, ge=0, le=1)
    confidence: float = Field(0.9, gt=0.5, lt=1)

    @model_validator(mode="after")
    def _one_floor(self) -> Quality:
        if self.floor is not None and self.floor_relative_to_teacher is not None:
            raise ValueError("give floor or floor_relative_to_teacher, not both")
        return self

    @property
    def retention_floor(self) -> float | None:
        """The least student / teacher quality, or None where the floor is absolute."""
        if self.floor is not None:
            return None
        return DEFAULT_RETENTION_FLOOR if self.floor_relative_to_teacher is None else self.floor_relative_to_teacher


def _next_month() -> date:
    today = date.today()
    return date(today.year + today.month // 12, today.month % 12 + 1, 1)


class Workload(Frozen):
    """One task's traffic, objectives and constraints.

    Parameters
    ----------
    requests_per_day : mean in the first month.
    growth_per_month : 0.05 is 5% more each month, compounded.
    hour_of_week : 168 relative hourly rates, Monday 00:00 UTC first, or "flat" or "business-hours".
    interarrival_cv : standard deviation / mean of the gaps between requests within an hour; 1 is Poisson.
    input_tokens, output_tokens : the teacher's prompt and its visible answer (:class:`TokenLengths`).
    length_correlation : of the logs of the two, in [-1, 1].
    length_sample : observed (input, output[, weight]) triples instead of the three above.
    cacheable_prefix_tokens : tokens at the start of every prompt that requests share.
    distinct_prefixes : how many different such prefixes there are.
    cache_ttl_s : time-to-live of the prompt cache [s]; left out, the provider's own.
    reasoning_tokens : mean tokens per request that the teacher thinks and bills as output.
    student_input_tokens : the student's shorter prompt; left out, the teacher's.
    student_reasoning_tokens : mean tokens per request that a student thinks.
    batchable_share : share of requests that can wait a day for their answer.
    slo, quality : latency objectives and the quality floor.
    private : texts must not leave the machines that the team controls.
    region : where the data must stay, for example "eu".
    task_changes_per_year : how often the task changes so much that the student must be trained again.
    wrong_answer_usd : what a wrong answer costs, beyond the call itself [USD].
    network_rtt_s : network round trip between the caller and a hosted API [s]; 0 where the API's figures hold it.
    horizon_months, start : the months over which costs are counted.
    discount_rate : yearly, 0.08 is 8%.
    """

    name: str = "workload"
    requests_per_day: float = Field(gt=0, le=1e11)
    growth_per_month: float = Field(0.0, ge=-0.99, le=2)
    hour_of_week: tuple[float, ...] | Literal["flat", "business-hours"] = "flat"
    interarrival_cv: float = Field(1.0, ge=0, le=1000)
    input_tokens: TokenLengths | None = None
    output_tokens: TokenLengths | None = None
    length_correlation: float = Field(0.0, ge=-1, le=1)
    length_sample: tuple[tuple[float, ...], ...] | None = None
    cacheable_prefix_tokens: float = Field(0.0, ge=0, le=1e8)
    distinct_prefixes: float = Field(1.0, ge=1, le=1e11)
    cache_ttl_s: float | None = Field(None, gt=0, le=1e8)
    reasoning_tokens: float = Field(0.0, ge=0, le=1e6)
    student_input_tokens: TokenLengths | None = None
    student_reasoning_tokens: float = Field(0.0, ge=0, le=1e6)
    batchable_share: float = Field(0.0, ge=0, le=1)
    slo: Slo = Slo()
    quality: Quality = Quality()
    private: bool = False
    region: str | None = None
    task_changes_per_year: float = Field(0.0, ge=0, le=365)
    wrong_answer_usd: float = Field(0.0, ge=0, le=1e9)
    network_rtt_s: float = Field(0.05, ge=0, le=10)
    horizon_months: int = Field(24, ge=1, le=120)
    start: date = Field(default_factory=_next_month, ge=date(2000, 1, 1), le=date(2100, 1, 1))
    discount_rate: float = Field(0.0, ge=-0.99, le=10)

    @field_validator("hour_of_week")
    @classmethod
    def _whole_week(cls, value: Any) -> Any:
        if isinstance(value, tuple):
            if len(value) != HOURS_PER_WEEK:
                raise ValueError(f"hour_of_week needs 168 hourly rates, Monday 00:00 first. Got {len(value)}")
            if any(not math.isfinite(rate) or rate < 0 for rate in value) or not sum(value):
                raise ValueError("hour_of_week rates must be at least 0 and not all 0")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Workload:
        if self.length_sample is not None:
            if self.input_tokens is not None or self.output_tokens is not None:
                raise ValueError("give length_sample, or input_tokens and output_tokens, not both")
            for i, row in enumerate(self.length_sample):
                if len(row) not in (2, 3) or any(not math.isfinite(v) or v < 0 for v in row):
                    raise ValueError(
                        "length_sample holds [input, output] or [input, output, weight], none negative. "
                        f"Got {list(row)} in place {i}"
                    )
            if not self.length_sample or len({len(row) for row in self.length_sample}) > 1:
                raise ValueError("length_sample needs at least one row, all of the same length")
            if not sum(row[2] if len(row) == 3 else 1 for row in self.length_sample):
                raise ValueError("length_sample has no weight: every weight is 0")
        elif self.input_tokens is None or self.output_tokens is None:
            missing = "input_tokens" if self.input_tokens is None else "output_tokens"
            raise ValueError(
                f"{missing} is missing. Give a number, a table such as {{ mean = 900, p95 = 2100 }}, or length_sample"
            )
        if self.cacheable_prefix_tokens > self.mean_input_tokens:
            raise ValueError(
                f"cacheable_prefix_tokens must not exceed the mean input. Got {self.cacheable_prefix_tokens:g} "
                f"of {self.mean_input_tokens:g} tokens"
            )
        if self.horizon_months and self.growth_per_month:
            last = self.requests_per_day * (1 + self.growth_per_month) ** (self.horizon_months - 1)
            if last > 1e12:
                raise ValueError(
                    f"growth_per_month of {self.growth_per_month:g} makes {last:.3g} requests a day by month "
                    f"{self.horizon_months}; nobody has 10^12. Give a lower growth or a shorter horizon"
                )
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain values, defaults left out; ``Workload.from_dict`` of it is equal to this one."""
        return {**self.model_dump(mode="python", exclude_defaults=True), "start": self.start}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Workload:
        """Validate plain values; raises :class:`~distillcalc.errors.InputError` naming the field."""
        from distillcalc.workload.files import validate

        return validate(cls, values)

    @classmethod
    def load(cls, path: str | Path) -> Workload:
        """The ``[workload]`` table of a TOML file, or of a shipped sample; errors name the line."""
        from distillcalc.workload.files import load_workload

        return load_workload(path)

    @classmethod
    def from_logs(
        cls,
        paths: Paths,
        *,
        columns: Mapping[str, str] | None = None,
        memory_limit: str = "1GiB",
        threads: int | None = None,
        max_rejected_share: float = 0.01,
        rejects: str | os.PathLike[str] | None = None,
        time_zone: str = "UTC",
        tokenizer: Tokenizer | None = None,
        **fields: Any,
    ) -> Workload:
        """The workload that request logs tell of; ``fields`` are what logs cannot know, and win over the measured.

        Parameters are those of :func:`distillcalc.workload.logs.profile_logs`, whose profile says where each field
        came from.

        Raises
        ------
        InputError
            If the logs cannot be read, too many rows are rejected, or a needed field is neither measured nor given.
        """
        from distillcalc.workload.logs import profile_logs

        profile = profile_logs(
            paths,
            columns=columns,
            memory_limit=memory_limit,
            threads=threads,
            max_rejected_share=max_rejected_share,
            rejects=rejects,
            time_zone=time_zone,
            tokenizer=tokenizer,
        )
        return profile.workload(**fields)

    def save(self, path: str | Path) -> Path:
        """Write a TOML file with a ``[workload]`` table that :meth:`load` reads back equal."""
        from distillcalc.workload.files import save_workload

        return save_workload(self, path)

    @cached_property
    def week(self) -> tuple[float, ...] | None:
        """168 relative hourly rates, or None for a flat week."""
        if isinstance(self.hour_of_week, tuple):
            return self.hour_of_week
        return business_hours() if self.hour_of_week == "business-hours" else None

    @cached_property
    def profile(self) -> Profile:
        """The week's distinct hourly rates."""
        return Profile.of(self.week)

    @cached_property
    def rises(self) -> tuple[tuple[int, int, float], ...]:
        """How often the rate rises from one hour to the next, see :meth:`Profile.rises_of`."""
        return Profile.rises_of(self.week)

    @cached_property
    def hour_weights(self) -> tuple[float, ...] | None:
        """Share of requests by hour of day (UTC), or None for a flat week."""
        if self.week is None:
            return None
        by_hour = [sum(self.week[hour::24]) for hour in range(24)]
        return tuple(rate / sum(by_hour) for rate in by_hour)

    @cached_property
    def points(self) -> Points | None:
        """The joint lengths as weighted pairs, or None where the closed form applies."""
        if self.length_sample is not None:
            columns = list(zip(*self.length_sample, strict=True))
            return Points.of(columns[0], columns[1], columns[2] if len(columns) == 3 else None)
        assert self.input_tokens is not None
        assert self.output_tokens is not None
        if self.input_tokens.is_lognormal and self.output_tokens.is_lognormal:
            return None
        return copula_points(self.input_tokens, self.output_tokens, self.length_correlation)

    @cached_property
    def student_points(self) -> Points | None:
        """The same with the student's own prompt."""
        prompt = self.student_input_tokens
        if prompt is None:
            return self.points
        if self.length_sample is not None:
            # The student's prompt is shorter by what went into the weights; rank for rank it stays the same request.
            assert self.points is not None
            ranks = self.points.weights.cumsum() - self.points.weights / 2
            return Points.of(prompt.quantile(ranks), self.points.outputs, self.points.weights)
        assert self.output_tokens is not None
        if prompt.is_lognormal and self.output_tokens.is_lognormal:
            return None
        return copula_points(prompt, self.output_tokens, self.length_correlation)

    @property
    def mean_input_tokens(self) -> float:
        """Mean prompt [tokens]."""
        if self.points is not None:
            return self.points.means[0]
        assert self.input_tokens is not None
        return float(self.input_tokens.mean or 0.0)

    @property
    def mean_output_tokens(self) -> float:
        """Mean visible answer [tokens]."""
        if self.points is not None:
            return self.points.means[1]
        assert self.output_tokens is not None
        return float(self.output_tokens.mean or 0.0)

    @property
    def mean_student_input_tokens(self) -> float:
        """Mean prompt of a student [tokens]."""
        if self.student_input_tokens is None:
            return self.mean_input_tokens
        if self.student_points is not None:
            return self.student_points.means[0]
        return float(self.student_input_tokens.mean or 0.0)
