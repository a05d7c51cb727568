"""What a log says of its traffic: the measured figures, how they print, and the Workload that they make.

The measuring is :mod:`.measure`'s subject, the drawing :mod:`.figure`'s.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from datetime import date, datetime
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from distillcalc.errors import InputError
from distillcalc.provenance import Provenance, assumed, derived, given
from distillcalc.workload.workload import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NARROW_TREND = 0.05  # width of the 95% interval of growth_per_month below which "no growth" is a finding
MOST_MODELS_SHOWN = 8
COMPOUNDED = "compounded over the horizon"
SECONDS_PER_DAY = 86_400.0


@dataclasses.dataclass(frozen=True)
class Source:
    """The log itself: what it was recognised as, and what became of its rows."""

    schema: str
    kind: Literal["requests", "counts"]
    rows_read: int
    rows_used: int
    rows_rejected: int
    reject_reasons: tuple[tuple[str, int], ...] = ()
    rejects_file: str | None = None
    reject_examples: tuple[tuple[str, int | None, str], ...] = ()
    token_source: str = "logged"
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Trend:
    """Growth per month (0.05 is 5%) with its 95% interval over whole days, or why there is none."""

    days: int
    growth_per_month: float | None
    low: float | None
    high: float | None
    statement: str

    @property
    def verdict(self) -> Literal["growth", "steady", "open"]:
        """Whether the interval excludes 0, is narrow around it, or leaves the question open."""
        if self.low is None or self.high is None:
            return "open"
        if self.low > 0 or self.high < 0:
            return "growth"
        return "steady" if self.high - self.low <= NARROW_TREND else "open"


@dataclasses.dataclass(frozen=True)
class Volume:
    """How much: requests, the time that they span [s], requests per day, whole days, and a series to draw.

    ``series`` holds (start, requests) of every interval of ``series_step_s`` seconds from first to last.
    """

    requests: int
    first: datetime
    last: datetime
    span_s: float
    requests_per_day: float | None
    daily: tuple[tuple[date, int], ...]
    series: tuple[tuple[datetime, int], ...]
    series_step_s: float
    trend: Trend

    @property
    def dated(self) -> bool:
        """Whether the log's clock is a calendar's, not seconds since its own beginning."""
        return self.first.year >= 2000

    @property
    def when(self) -> str:
        """From when to when."""
        if self.dated:
            return f"{self.first:%Y-%m-%d %H:%M} to {self.last:%Y-%m-%d %H:%M} UTC"
        return "undated"


@dataclasses.dataclass(frozen=True)
class Cycle:
    """Relative hourly rates, mean 1: 168 of a week (Monday 00:00 UTC first), 24 of a day, or none and why."""

    kind: Literal["hour-of-week", "hour-of-day", "none"]
    rates: tuple[float, ...]
    statement: str


@dataclasses.dataclass(frozen=True)
class Arrivals:
    """How unevenly requests come; None where the log is too short or too coarse to tell.

    Parameters
    ----------
    interarrival_cv : standard deviation / mean of all gaps; 1 is Poisson.
    interarrival_cv_within_hour : the same within hours counted from the first request, each against its own mean
        gap: what is left when the daily cycle is taken out.
    dispersion_1s, dispersion_10s, dispersion_60s : variance / mean of the counts in windows so long; 1 is Poisson.
    minute_peak_to_mean, hour_peak_to_mean : busiest whole minute or hour / mean one.
    hour_p99_to_mean : 99th percentile of the whole hours / mean one.
    mean_gap_s : mean gap [s].
    distribution : rising (x, share of gaps or of hours of at least x) to draw; x is a gap [s], or an hour's
        requests / the mean where only counts are logged.
    """

    interarrival_cv: float | None = None
    interarrival_cv_within_hour: float | None = None
    dispersion_1s: float | None = None
    dispersion_10s: float | None = None
    dispersion_60s: float | None = None
    minute_peak_to_mean: float | None = None
    hour_peak_to_mean: float | None = None
    hour_p99_to_mean: float | None = None
    mean_gap_s: float | None = None
    distribution: tuple[tuple[float, float], ...] = ()


@dataclasses.dataclass(frozen=True)
class Side:
    """One side's lengths [tokens]: exact mean and quantiles."""

    mean: float
    quantiles: tuple[tuple[str, float], ...]

    def quantile(self, name: str) -> float:
        """A quantile by name, such as p95 [tokens]."""
        return dict(self.quantiles)[name]


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Input and visible output together; ``sample`` holds (input, output, requests) triples, at most 2,000."""

    input: Side
    output: Side
    rank_correlation: float | None
    sample: tuple[tuple[float, float, float], ...]


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Means per request of what not every log has [tokens]; None is unknown, never 0.

    ``input`` and ``output`` are of a log of counts that has the sums of tokens, and no lengths.
    """

    cached: float | None = None
    reasoning: float | None = None
    input: float | None = None
    output: float | None = None


@dataclasses.dataclass(frozen=True)
class Repeats:
    """Share of answered requests whose prompt came before: to the letter, or but for case, spaces, punctuation."""

    exact: float | None = None
    near_exact: float | None = None


@dataclasses.dataclass(frozen=True)
class Prefixes:
    """What prompts share at their start, by families of the same first 200 characters.

    Parameters
    ----------
    families : families of at least two requests.
    share : share of requests that belong to one of those measured (the 1,000 largest).
    mean_characters : shared characters per request, requests without a family included.
    mean_tokens : the same in tokens, at each family's own tokens per character.
    effective : how many equal families would concentrate the shared tokens as these do.
    largest : (requests, shared characters, shared tokens) of the largest families.
    """

    families: int
    share: float
    mean_characters: float
    mean_tokens: float
    effective: float
    largest: tuple[tuple[int, int, float], ...]


@dataclasses.dataclass(frozen=True)
class Failures:
    """Share of requests that failed, and of those that are a retry (same prompt within 60 s after a failure).

    ``undated`` failed requests have no time, as in the output of a batch: in ``failed``, not in ``failed_dated``.
    """

    failed: float | None = None
    retries: float | None = None
    failed_dated: float | None = None
    undated: int = 0


@dataclasses.dataclass(frozen=True)
class ModelUse:
    """One model's requests, billed tokens and logged cost [USD]; None where not logged."""

    model: str | None
    requests: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: float | None
    cost_logged: int = 0


@dataclasses.dataclass(frozen=True)
class WorkloadProfile:
    """Everything that was measured in a log; texts are not among it.

    It prints, draws itself (:meth:`figure`) and makes a Workload (:meth:`workload`).
    """

    source: Source
    volume: Volume
    cycle: Cycle
    arrivals: Arrivals
    lengths: Lengths | None
    tokens: Tokens
    repeats: Repeats
    prefixes: Prefixes | None
    failures: Failures
    models: tuple[ModelUse, ...]

    def workload(self, **fields: Any) -> Workload:
        """The Workload that this traffic makes.

        Parameters
        ----------
        fields : what the log cannot know (objectives, region, horizon), or should not decide; each wins over the
            measured one. A log of counts needs ``input_tokens`` and ``output_tokens``.

        Raises
        ------
        InputError
            Where a needed field is neither measured nor given, or a given one cannot be right.
        """
        from distillcalc.workload.files import validate

        return validate(Workload, self._fields(fields))

    @property
    def provenance(self) -> dict[str, Provenance]:
        """Where each field of :meth:`workload` comes from, those included that the log could not tell."""
        return {name: origin for name, (_, origin) in self._measured.items()}

    @property
    def has_lengths(self) -> bool:
        """Whether the log says how long requests and answers are."""
        return self.lengths is not None or None not in (self.tokens.input, self.tokens.output)

    def provenance_of(self, **fields: Any) -> dict[str, Provenance]:
        """The same for the Workload that ``workload(**fields)`` makes: what is given is no longer measured."""
        found = self.provenance
        if {"input_tokens", "output_tokens"} & set(fields):
            found.pop("length_sample", None)
        return found | {name: given("by the caller") for name in fields}

    def _fields(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Measured fields with the given ones laid over them."""
        known = {name: value for name, (value, _) in self._measured.items() if value is not None}
        if {"input_tokens", "output_tokens"} & set(fields):
            known.pop("length_sample", None)
        if (
            self.lengths is None
            and not {"input_tokens", "output_tokens"} <= set(fields)
            and "length_sample" not in fields
            and not {"input_tokens", "output_tokens"} <= {*known, *fields}
        ):
            missing = [name for name in ("input_tokens", "output_tokens") if name not in {*known, *fields}]
            why = (
                "holds only counts of requests" if self.source.kind == "counts" else "has no request with token counts"
            )
            raise InputError(
                f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: this log {why}. "
                "Give both, for example input_tokens=900, output_tokens=60 (--input-tokens 900 --output-tokens 60)"
            )
        if "requests_per_day" not in known and "requests_per_day" not in fields:
            raise InputError(
                "requests_per_day is missing: all requests of this log came at one moment. "
                "Give it, for example .workload(requests_per_day=2_000) (--requests-per-day 2000)"
            )
        return {**known, **fields}

    @property
    def _measured(self) -> dict[str, tuple[Any, Provenance]]:
        """Value, or None for the Workload's default, and origin of each field."""
        where = f"{self.source.schema} log, {self.volume.when}"

        def measured(what: str) -> Provenance:
            return Provenance("measured", f"{where}: {what}")

        found: dict[str, tuple[Any, Provenance]] = {}
        level, growth = self.volume.requests_per_day, self._growth
        failed = self.failures.failed_dated or 0.0  # of the requests that are counted in the volume
        answered = 1 - failed
        counted = f"{self.volume.requests:,} requests in {_duration(self.volume.span_s)}"
        if failed:
            counted += f", less the {failed:.2%} that failed"
        if level is not None and level * answered > 0:
            level *= answered
            if growth:
                # Mean of r e^(s t) over the log is r_end (1 - e^(-s T)) / (s T).
                steps = math.log1p(growth) * self.volume.span_s / SECONDS_PER_DAY / (365.25 / 12)
                level *= steps / -math.expm1(-steps)
                counted += "; carried along the trend to the end of the log"
            found["requests_per_day"] = level, measured(counted)
        if growth is not None:
            found["growth_per_month"] = growth, measured(f"{self.volume.trend.statement}; {COMPOUNDED}")
        else:
            found["growth_per_month"] = None, assumed(f"no growth: {self.volume.trend.statement}")
        if self.cycle.kind == "none":
            found["hour_of_week"] = None, assumed(f"flat: {self.cycle.statement}")
        else:
            week = self.cycle.rates * (168 // len(self.cycle.rates))
            found["hour_of_week"] = week, measured(self.cycle.statement)
        found["interarrival_cv"] = self._burstiness(measured)
        if self.lengths is not None:
            how = "as logged" if self.source.token_source == "logged" else "counted from the texts"
            found["length_sample"] = (
                self.lengths.sample,
                measured(f"joint lengths in {len(self.lengths.sample):,} weighted points, tokens {how}"),
            )
        for side, mean in (("input_tokens", self.tokens.input), ("output_tokens", self.tokens.output)):
            if mean is not None:
                found[side] = mean, measured("sum of the tokens / requests: all of one length")
        found |= self._prefix_fields(measured)
        if self.tokens.reasoning is not None:
            found["reasoning_tokens"] = self.tokens.reasoning, measured("mean per request that logs them")
        else:
            found["reasoning_tokens"] = (
                None,
                assumed("0: reasoning tokens are not logged; they may be within the output"),
            )
        return found

    @property
    def _growth(self) -> float | None:
        trend = self.volume.trend
        if trend.verdict == "open" or trend.growth_per_month is None or not -0.99 <= trend.growth_per_month <= 2:
            return None
        return trend.growth_per_month

    def _burstiness(self, measured: Any) -> tuple[float | None, Provenance]:
        arrivals = self.arrivals
        if arrivals.interarrival_cv_within_hour is not None:
            value, what = arrivals.interarrival_cv_within_hour, "gaps within hours, each against its own mean"
        elif arrivals.interarrival_cv is not None:
            value, what = arrivals.interarrival_cv, "all gaps; no hour has enough to be taken alone"
        else:
            return None, assumed("1, Poisson within the hour: the log has no gaps between requests")
        return (
            (value, measured(what)) if value <= 1000 else (1000.0, derived(f"{value:.4g} measured, 1000 is the most"))
        )

    def _prefix_fields(self, measured: Any) -> dict[str, tuple[Any, Provenance]]:
        if self.lengths is None:
            return {}
        # A hair below the mean, which the sample gives back only to rounding.
        most = self.lengths.input.mean * (1 - 1e-9)
        cached = self.tokens.cached or 0.0
        if self.prefixes is not None:
            shared = self.prefixes
            what = f"common prefix of {_families(shared.families)} of prompts, {shared.mean_characters:,.0f} characters"
            if cached > shared.mean_tokens:
                what = f"mean cached tokens as logged; more than the {what}, as tools and images are no text"
            return {
                "cacheable_prefix_tokens": (min(max(shared.mean_tokens, cached), most), measured(what)),
                "distinct_prefixes": (
                    max(shared.effective, 1.0),
                    measured(f"families of prompts weighted by shared tokens; {shared.families:,} in all"),
                ),
            }
        if self.tokens.cached is not None:
            what = "mean cached tokens per request as logged: what one cache already hit, so at least this is shared"
            return {"cacheable_prefix_tokens": (min(self.tokens.cached, most), measured(what))}
        return {"cacheable_prefix_tokens": (None, assumed("0: neither texts nor cached tokens are logged"))}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: dates as ISO text, unknown as null."""
        plain: dict[str, Any] = _plain(dataclasses.asdict(self))
        plain["provenance"] = {name: origin.to_dict() for name, origin in self.provenance.items()}
        return plain

    def remarks(self, workload: Workload) -> list[str]:
        """What a reader should know of a Workload that was made of this: growth that goes on, a start after the log."""
        found = []
        grows = workload.growth_per_month == self._growth != 0
        total = (1 + workload.growth_per_month) ** workload.horizon_months
        if grows and abs(total - 1) >= 0.01:
            found.append(
                f"growth of {workload.growth_per_month:+.1%} a month was measured and is {COMPOUNDED}: "
                f"{total:.3g} times after {workload.horizon_months:g} months. growth_per_month = 0 holds the volume"
            )
        gap = (workload.start - self.volume.last.date()).days if self.volume.dated else 0
        if gap > 31 or (gap > 1 and grows):
            found.append(
                f"the workload starts on {workload.start}, {gap:,} days after the end of the log"
                + ("; its growth in between is not in the volume" if grows else "")
            )
        return found

    def figure(self) -> Figure:
        """Four panels: volume over time, lengths, arrivals, repeats."""
        from distillcalc.workload.logs.figure import draw

        return draw(self)

    def rows(self) -> list[tuple[str, str]]:
        """(what, sentence) of everything measured, as all renderings show it."""
        source, volume = self.source, self.volume
        found = [("rows", f"{source.rows_read:,} read, {source.rows_used:,} used, {source.rows_rejected:,} rejected")]
        if source.reject_reasons:
            found.append(("rejected", "; ".join(f"{count:,} {reason}" for reason, count in source.reject_reasons)))
        if volume.requests_per_day is None:
            found.append(("volume", "unknown rate: every request came at the same moment"))
        else:
            per_s = volume.requests_per_day / SECONDS_PER_DAY
            rate = f"{per_s:,.2f} a second" if per_s >= 0.1 else f"{per_s * 3600:,.1f} an hour"
            scaled = (
                ""
                if volume.span_s >= SECONDS_PER_DAY * 0.99
                else f", if every hour is like these {_duration(volume.span_s)}"
            )
            found.append(("volume", f"{volume.requests_per_day:,.0f} requests a day ({rate}){scaled}"))
        found += [("trend", volume.trend.statement), ("daily cycle", self.cycle.statement)]
        found.append(("arrivals", self._arrivals_sentence()))
        if self.lengths is None:
            sums = [(side, mean) for side, mean in (("in", self.tokens.input), ("out", self.tokens.output)) if mean]
            told = ", ".join(f"{mean:,.0f} tokens {side} on average" for side, mean in sums)
            found.append(("lengths", f"unknown but for {told}" if sums else "unknown: the log has no token counts"))
        else:
            for name, side in (("input", self.lengths.input), ("output", self.lengths.output)):
                shown = ", ".join(f"{level} {side.quantile(level):,.0f}" for level in ("p50", "p95", "p99"))
                found.append((f"{name} tokens", f"mean {side.mean:,.0f}; {shown}"))
            rank = self.lengths.rank_correlation
            found.append(
                (
                    "joint lengths",
                    f"{len(self.lengths.sample):,} weighted points; rank correlation "
                    + ("none: one side is constant" if rank is None else f"{rank:.2f}"),
                )
            )
            found.append(("cached tokens", _mean_or(self.tokens.cached, "not logged")))
            found.append(("reasoning tokens", _mean_or(self.tokens.reasoning, "not logged")))
        found += self._text_rows()
        for use in self.models[:MOST_MODELS_SHOWN]:
            cost = "cost not logged" if use.cost_usd is None else f"{use.cost_usd:,.2f} USD logged"
            if use.cost_usd is not None and use.cost_logged < use.requests:
                cost += f" for {use.cost_logged:,} of them"
            name = use.model if use.model is not None else "(not logged)"
            found.append(
                (
                    "model",
                    f"{name}: {use.requests:,} requests, {use.input_tokens:,} in, {use.output_tokens:,} out, {cost}",
                )
            )
        if len(self.models) > MOST_MODELS_SHOWN:
            found.append(("model", f"and {len(self.models) - MOST_MODELS_SHOWN:,} more"))
        return found + [("note", note) for note in source.notes]

    def _arrivals_sentence(self) -> str:
        a = self.arrivals
        said = []
        if a.interarrival_cv is not None:
            within = a.interarrival_cv_within_hour
            also = (
                f", {within:.3g} within hours"
                if within is not None and f"{within:.3g}" != f"{a.interarrival_cv:.3g}"
                else ""
            )
            said.append(f"interarrival CV {a.interarrival_cv:.3g}{also} (1 is Poisson)")
        if a.dispersion_60s is not None:
            said.append(
                f"dispersion of counts {a.dispersion_1s:.3g} at 1 s, {a.dispersion_10s:.3g} at 10 s, "
                f"{a.dispersion_60s:.3g} at 60 s"
            )
        for name, peak in (("minute", a.minute_peak_to_mean), ("hour", a.hour_peak_to_mean)):
            if peak is not None:
                said.append(f"busiest {name} {peak:.3g} times the mean")
        if a.hour_p99_to_mean is not None:
            said.append(f"p99 hour {a.hour_p99_to_mean:.3g} times")
        return "; ".join(said) or "unknown: fewer than two moments"

    def _text_rows(self) -> list[tuple[str, str]]:
        if self.source.kind == "counts":
            return []
        repeats, shared, failures = self.repeats, self.prefixes, self.failures
        found = []
        if repeats.exact is None:
            found.append(("repeats", "unknown: prompts are not logged"))
        else:
            near = (
                ""
                if repeats.near_exact is None
                else f", {repeats.near_exact:.2%} more but for case, spaces and punctuation"
            )
            found.append(("repeats", f"{repeats.exact:.2%} of prompts came before to the letter{near}"))
        if shared is None:
            found.append(("shared prefix", "unknown: prompts are not logged"))
        else:
            found.append(
                (
                    "shared prefix",
                    f"{shared.mean_tokens:,.0f} tokens ({shared.mean_characters:,.0f} characters) a request; "
                    f"{_families(shared.families)} with {shared.share:.1%} of requests",
                )
            )
        if failures.failed is None:
            found.append(("failures", "unknown: outcomes are not logged"))
        else:
            retried = "retries unknown" if failures.retries is None else f"{failures.retries:.2%} are retries"
            undated = f" ({failures.undated:,} of them without a time)" if failures.undated else ""
            found.append(("failures", f"{failures.failed:.2%} failed{undated}; {retried}"))
        return found

    @property
    def headline(self) -> str:
        """One line: how many requests, from when to when, from what."""
        volume = self.volume
        return f"{volume.requests:,} requests in {_duration(volume.span_s)}, {volume.when} ({self.source.schema})"

    def __str__(self) -> str:
        return "\n".join([self.headline, *(f"  {what:<17} {sentence}" for what, sentence in self.rows())])

    def __repr__(self) -> str:
        return f"<WorkloadProfile: {self.headline}>"

    def _repr_html_(self) -> str:
        """A fragment of HTML; everything from outside is escaped."""
        left = "padding:2px 8px;text-align:left;vertical-align:top"
        body = "".join(
            f"<tr><th style='{left};white-space:nowrap'>{escape(what)}</th>"
            f"<td style='{left}'>{escape(sentence)}</td></tr>"
            for what, sentence in self.rows()
        )
        return (
            f"<div class='distillcalc-profile mathjax_ignore tex2jax_ignore'><p><b>{escape(self.headline)}</b></p>"
            f"<table style='font-size:inherit'><tbody>{body}</tbody></table></div>"
        )


def _families(count: int) -> str:
    return "1 family" if count == 1 else f"{count:,} families"


def _mean_or(mean: float | None, otherwise: str) -> str:
    return f"unknown: {otherwise}" if mean is None else f"mean {mean:,.0f} a request"


def _duration(seconds: float) -> str:
    for unit, size, least in (("days", SECONDS_PER_DAY, 2), ("hours", 3600.0, 2), ("minutes", 60.0, 2)):
        if seconds >= least * size:
            return f"{seconds / size:,.0f} {unit}" if seconds >= 10 * size else f"{seconds / size:.1f} {unit}"
    return f"{seconds:.3g} seconds"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    return value
