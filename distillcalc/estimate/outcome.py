"""What evaluating an option gives: arrays over scenarios, and the scalar Estimate read out of one row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from distillcalc.errors import MissingPrice
from distillcalc.provenance import Provenance

if TYPE_CHECKING:
    from distillcalc.estimate.inputs import Inputs

Floats = NDArray[np.float64]
Verdict = Literal["pass", "fail", "unknown"]
Status = Literal["feasible", "provisional", "unproven", "ruled-out", "unpriced"]
PASS, UNKNOWN, FAIL = 1, 0, -1
LIKELY = 0.75  # an unknown gate keeps an option from being recommended unless the odds are three to one
_CODES: dict[Verdict, NDArray[np.int8]] = {
    "pass": np.full((1, 1), PASS, dtype=np.int8),
    "unknown": np.full((1, 1), UNKNOWN, dtype=np.int8),
    "fail": np.full((1, 1), FAIL, dtype=np.int8),
}
_NAN = np.full((1, 1), np.nan)
_FIRST = np.zeros((1, 1), dtype=np.intp)
for _shared in (*_CODES.values(), _NAN, _FIRST):
    _shared.setflags(write=False)  # shared by all outcomes
_NAMES: dict[int, Verdict] = {PASS: "pass", UNKNOWN: "unknown", FAIL: "fail"}


@dataclass(frozen=True)
class GateResult:
    """One hard condition over n scenarios.

    ``code`` is 1 pass, 0 unknown, -1 fail, shape (n or 1, 1); ``detail(i)`` says why, for scenario i;
    ``probability`` is that the condition holds, where it is a matter of odds, shape (n or 1, 1).
    """

    name: str
    code: NDArray[np.int8]
    detail: Callable[[int], str]
    source: str = ""
    probability: Floats | None = None

    @property
    def failed_everywhere(self) -> bool:
        """Whether it fails in every scenario."""
        return bool((self.code == FAIL).all())

    @classmethod
    def of(cls, name: str, verdict: Verdict, detail: str, source: str = "") -> GateResult:
        """A gate that is the same for every scenario."""
        return cls(name, _CODES[verdict], lambda _: detail, source)


@dataclass(frozen=True)
class Gate:
    """One gate of one estimate: a hard condition, whether it holds, and why."""

    name: str
    verdict: Verdict
    detail: str
    source: str = ""
    probability: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "verdict": self.verdict,
            "detail": self.detail,
            "source": self.source,
            "probability": self.probability,
        }


@dataclass
class Outcome:
    """One option over n scenarios.

    Parameters
    ----------
    option : its id.
    labels, label_index : which model and machine it is: ``labels[label_index[i]]`` for scenario i.
    monthly_usd : item -> running cost, shape (n or 1, months), not discounted.
    one_off_usd : item -> cost before the first request, shape (n or 1, 1).
    latency : seconds by objective name ("ttft_p95", "tpot_p50", "e2e_p99"), shape (n or 1, 1); nan unknown.
    belief : what is believed of its quality (:class:`~distillcalc.estimate.quality.Belief`).
    tokens_per_request : billed or served, thinking included, shape (n or 1, 1).
    gates : every hard condition.
    facts : other figures worth showing (replicas, utilisation, hit share), shape (n, 1) or (n, months).
    provenance : origin of the numbers, by name.
    unpriced : why there is no price, or "".
    """

    option: str
    labels: tuple[str, ...]
    label_index: NDArray[np.intp] = field(default_factory=lambda: _FIRST)
    monthly_usd: dict[str, Floats] = field(default_factory=dict)
    one_off_usd: dict[str, Floats] = field(default_factory=dict)
    latency: dict[str, Floats] = field(default_factory=dict)
    belief: Any = None
    tokens_per_request: Floats = field(default_factory=lambda: _NAN)
    gates: list[GateResult] = field(default_factory=list)
    facts: dict[str, Floats] = field(default_factory=dict)
    provenance: dict[str, Provenance] = field(default_factory=dict)
    unpriced: str = ""
    months: int = 1

    def label(self, i: int) -> str:
        """Which model and machine it is in scenario i."""
        return self.labels[int(at(self.label_index, i))]

    @cached_property
    def monthly_total_usd(self) -> Floats:
        """Running cost of each month, shape (n or 1, months); nan where unpriced."""
        if self.unpriced:
            return np.full((1, self.months), np.nan)
        return _total(list(self.monthly_usd.values()), (1, self.months))

    @cached_property
    def one_off_total_usd(self) -> Floats:
        """Cost before the first request, shape (n or 1, 1)."""
        return _total(list(self.one_off_usd.values()), (1, 1))

    def present_value_usd(self, discount: Floats) -> Floats:
        """One-off cost + discounted running cost over the horizon, shape (n or 1, 1)."""
        running = np.cumsum(self.monthly_total_usd * discount, axis=1)[:, -1:]  # in order: a longer array ends alike
        return np.asarray(self.one_off_total_usd + running)

    @cached_property
    def failed(self) -> NDArray[np.bool_]:
        """Whether any gate fails, shape (n or 1, 1)."""
        failed = np.zeros((1, 1), dtype=bool)
        for gate in self.gates:
            failed = failed | (gate.code == FAIL)
        return failed

    @cached_property
    def unknown(self) -> NDArray[np.bool_]:
        """Whether any gate is unknown, shape (n or 1, 1)."""
        unknown = np.zeros((1, 1), dtype=bool)
        for gate in self.gates:
            unknown = unknown | (gate.code == UNKNOWN)
        return unknown

    @cached_property
    def likely(self) -> NDArray[np.bool_]:
        """Whether no gate fails and none has odds below three to one, shape (n or 1, 1)."""
        likely = ~self.failed
        for gate in self.gates:
            if gate.probability is not None:
                likely = likely & (gate.probability >= LIKELY)
        return likely

    @property
    def quality_mean(self) -> Floats:
        """Mean quality, shape (n or 1, 1); nan where unpriced."""
        return _NAN if self.belief is None else np.asarray(self.belief.mean)

    @property
    def quality_sd(self) -> Floats:
        """Standard deviation of what is believed of the quality, shape (n or 1, 1); nan where unpriced."""
        return _NAN if self.belief is None else np.asarray(self.belief.sd)

    def estimate(self, i: int, x: Inputs) -> Estimate:
        """The scalar estimate of scenario i of the inputs that it was evaluated for."""
        months = self.months
        value = at(self.present_value_usd(x.discount), i)
        discount = row(x.discount, i, months)
        requests = row(x.requests, i, months)
        served = float(np.cumsum(requests * discount)[-1])  # levelised: what comes later counts less, like its cost
        quality = at(self.quality_mean, i)
        tokens = at(self.tokens_per_request, i)
        gates = tuple(
            Gate(
                gate.name,
                _NAMES[int(at(gate.code, i))],
                gate.detail(i),
                gate.source,
                None if gate.probability is None else at(gate.probability, i),
            )
            for gate in self.gates
        )
        latency = {}
        for name, seconds in self.latency.items():
            number = at(seconds, i)
            if not np.isnan(number):
                unit = "ms" if name.startswith("tpot") else "s"
                latency[f"{name}_{unit}"] = number * 1000 if unit == "ms" else number
        return Estimate(
            option=self.option,
            label=self.label(i),
            monthly_usd={item: row(usd, i, months) for item, usd in self.monthly_usd.items()},
            one_off_usd={item: at(usd, i) for item, usd in self.one_off_usd.items()},
            present_value_usd=value,
            requests=float(np.cumsum(requests)[-1]),
            usd_per_1000_requests=value / served * 1000,
            usd_per_correct_answer=value / (served * quality),
            usd_per_mtok=value / (served * tokens) * 1e6 if tokens else float("nan"),
            latency=latency,
            quality_mean=quality,
            quality_sd=at(self.quality_sd, i),
            gates=gates,
            facts={name: at(v, i) for name, v in self.facts.items()},
            provenance=self.provenance,
            unpriced=self.unpriced,
            start=x.scenario.workload.start,
            discount=discount,
        )


def _total(items: list[Floats], shape: tuple[int, ...]) -> Floats:
    whole = bool(items) and items[0].shape[-1] == shape[-1]
    total = items[0] if whole else np.zeros(shape)
    for item in items[1:] if whole else items:
        total = total + item
    return total


def at(array: NDArray[Any], i: int, column: int = 0) -> float:
    """Element (i, column) of an array that may be the same for all scenarios or all months."""
    rows, columns = array.shape
    return float(array[i if rows > 1 else 0, column if columns > 1 else 0])


def row(array: Floats, i: int, months: int) -> Floats:
    """Row i as an array over months."""
    picked = array[i if array.shape[0] > 1 else 0]
    return np.repeat(picked, months) if picked.size == 1 else picked


@dataclass(frozen=True)
class Estimate:
    """What one option would cost, how fast and how good it would be, each number with its source.

    Parameters
    ----------
    option, label : id of the option; model and machine.
    monthly_usd : item -> USD in each month, not discounted.
    one_off_usd : item -> USD before the first request.
    present_value_usd : one-off + discounted running cost over the horizon; nan where unpriced.
    usd_per_1000_requests, usd_per_correct_answer, usd_per_mtok : levelised: present value / requests, correct
        answers, tokens of the horizon, those discounted like the cost.
    latency : [s] or [ms] by name; absent where unknown.
    quality_mean, quality_sd : of the metric.
    gates, facts, provenance : as in :class:`Outcome`.
    unpriced : why there is no price, or "".
    start, discount : first day; present value of a dollar spent in each month.
    """

    option: str
    label: str
    monthly_usd: Mapping[str, Floats]
    one_off_usd: Mapping[str, float]
    present_value_usd: float
    requests: float
    usd_per_1000_requests: float
    usd_per_correct_answer: float
    usd_per_mtok: float
    latency: Mapping[str, float]
    quality_mean: float
    quality_sd: float
    gates: tuple[Gate, ...]
    facts: Mapping[str, float]
    provenance: Mapping[str, Provenance]
    unpriced: str = ""
    start: date | None = None
    discount: Floats = field(default_factory=lambda: np.ones(1), repr=False)

    @property
    def status(self) -> Status:
        """How far the gates let it go.

        feasible (every gate passes), provisional (some unknown, at good odds), unproven (one has odds below
        three to one), ruled-out (one fails) or unpriced.
        """
        if self.unpriced:
            return "unpriced"
        verdicts = {gate.verdict for gate in self.gates}
        if "fail" in verdicts:
            return "ruled-out"
        if not np.isfinite(self.present_value_usd):
            return "unpriced"
        if any(gate.probability is not None and gate.probability < LIKELY for gate in self.gates):
            return "unproven"
        return "provisional" if "unknown" in verdicts else "feasible"

    @property
    def monthly_total_usd(self) -> Floats:
        """Running cost of each month [USD], shape (months,)."""
        return _total(list(self.monthly_usd.values()), (1,)) if self.monthly_usd else np.full(1, np.nan)

    @property
    def one_off_total_usd(self) -> float:
        """Cost before the first request [USD]."""
        return float(sum(self.one_off_usd.values()))

    def failing(self) -> list[Gate]:
        """Gates that rule it out."""
        return [gate for gate in self.gates if gate.verdict == "fail"]

    @property
    def odds(self) -> float:
        """Probability that every gate that is a matter of odds holds, the least of them."""
        return min((gate.probability for gate in self.gates if gate.probability is not None), default=1.0)

    def worst_gate(self) -> str:
        """Name of the gate that holds it back most: one that fails, else the one with the worst odds."""
        held = self.failing() or sorted(
            self.open_questions(), key=lambda gate: 1.0 if gate.probability is None else gate.probability
        )
        return held[0].name if held else ""

    def open_questions(self) -> list[Gate]:
        """Gates that are not known to hold."""
        return [gate for gate in self.gates if gate.verdict == "unknown"]

    def cash_flow(self) -> Any:
        """Month-by-month cash flow as a DataFrame: one row a month, one column an item, and the total.

        The one-off items stand in month 0, before the first request.

        Raises
        ------
        MissingPrice
            If the option has no price.
        """
        if self.unpriced:
            raise MissingPrice(f"{self.option} has no cash flow: {self.unpriced}")
        import pandas as pd

        from distillcalc.calendar import add_months

        months = len(self.monthly_total_usd)
        assert self.start is not None
        frame = pd.DataFrame(
            {
                **{item: np.concatenate([[usd], np.zeros(months)]) for item, usd in self.one_off_usd.items()},
            },
            index=range(months + 1),
        )
        for item, usd in self.monthly_usd.items():
            frame[item] = np.concatenate([[0.0], usd])
        frame["total_usd"] = frame.sum(axis=1)
        frame.insert(0, "month_start", [self.start, *(add_months(self.start, m) for m in range(months))])
        frame.index.name = "month"
        return frame

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; nan becomes None."""
        return {
            "option": self.option,
            "label": self.label,
            "status": self.status,
            "unpriced": self.unpriced,
            "present_value_usd": plain(self.present_value_usd),
            "monthly_usd": {item: [plain(v) for v in usd] for item, usd in self.monthly_usd.items()},
            "monthly_total_usd": [plain(v) for v in self.monthly_total_usd],
            "one_off_usd": {item: plain(usd) for item, usd in self.one_off_usd.items()},
            "requests": plain(self.requests),
            "usd_per_1000_requests": plain(self.usd_per_1000_requests),
            "usd_per_correct_answer": plain(self.usd_per_correct_answer),
            "usd_per_mtok": plain(self.usd_per_mtok),
            "latency": {name: plain(v) for name, v in self.latency.items()},
            "quality": {"mean": plain(self.quality_mean), "sd": plain(self.quality_sd)},
            "gates": [gate.to_dict() for gate in self.gates],
            "facts": {name: plain(v) for name, v in self.facts.items()},
            "provenance": {name: p.to_dict() for name, p in self.provenance.items()},
        }


def plain(value: float) -> float | None:
    """A float for JSON: None for nan or infinity."""
    number = float(value)
    return number if np.isfinite(number) else None
