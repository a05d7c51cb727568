"""A few rows before the many: does the endpoint do what the plan takes for granted?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from distillcalc.distill.planning import LabelPlan
from distillcalc.distill.records import Record
from distillcalc.distill.rows import Row

PROBE_ROWS = 8
FEWEST_VALID = 0.5  # share of valid answers below which the plan is told to be wrong


@dataclass(frozen=True)
class Rate:
    """So many of so many, with a 95% interval (Wilson, J. Am. Stat. Assoc. 22, 1927)."""

    count: int
    total: int

    @property
    def share(self) -> float:
        """count / total; nan of none."""
        return self.count / self.total if self.total else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end of the share, 95%."""
        if not self.total:
            return 0.0, 1.0
        from scipy.stats import binomtest

        found = binomtest(self.count, self.total).proportion_ci(0.95, method="wilson")
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        if not self.total:
            return "none to judge by"
        low, high = self.interval
        return f"{self.count} of {self.total} ({self.share:.0%}, 95% interval {low:.0%} to {high:.0%})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        low, high = self.interval
        return {"count": self.count, "total": self.total, "low": low, "high": high}


@dataclass(frozen=True)
class ProbeReport:
    """What a few rows told.

    Parameters
    ----------
    valid : answers that are valid, of those that came.
    problems : what was wrong with the others, and how often.
    agreement : rows whose two answers at temperature 0 are the same, of those that have two.
    accuracy : valid answers that are what a person says, of those that a person labelled.
    samples_in_one_call : most answers that one call brought, where several were asked for at once; else None.
    logprobs : whether log-probabilities came, where they were asked for; else None.
    reasoning : answers with a chain of thought.
    input_tokens, output_tokens, latency_s : means of a call.
    missing : answers that did not come at all.
    """

    valid: Rate
    problems: dict[str, int]
    agreement: Rate
    accuracy: Rate
    samples_in_one_call: int | None
    logprobs: bool | None
    reasoning: int
    input_tokens: float
    output_tokens: float
    latency_s: float | None
    missing: int

    def warnings(self, plan: LabelPlan) -> list[str]:
        """What does not hold that the plan takes for granted."""
        found = []
        if self.missing:
            found.append(f"{self.missing} answers did not come: see the failures of the run")
        if self.valid.total and self.valid.share < FEWEST_VALID:
            worst = max(self.problems, key=lambda name: self.problems[name])
            found.append(f"only {self.valid} of the answers are valid; most often: {worst}")
        if self.samples_in_one_call is not None and self.samples_in_one_call < plan.teacher.samples:
            found.append(
                f"the endpoint gave {self.samples_in_one_call} of {plan.teacher.samples} answers in one call: the rest "
                "is asked for one by one, and its input is billed each time. Set one_call = false to plan for it"
            )
        if self.logprobs is False:
            found.append("the endpoint gave no log-probabilities, which the plan asks for (top_logprobs)")
        return found

    def forecast(self, plan: LabelPlan) -> tuple[Decimal, float | None]:
        """Dollars and minutes of the whole plan at the probe's own tokens and latency; live, at list price."""
        calls = plan.forecast.samples if self.samples_in_one_call == 1 else plan.forecast.calls
        usd = calls * plan.prices.cost(round(self.input_tokens), round(self.output_tokens))
        if self.latency_s is None:
            return usd, None
        return usd, calls * self.latency_s / min(plan.concurrency, calls) / 60

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            name: value.to_dict() if isinstance(value, Rate) else value for name, value in self.__dict__.items()
        }  # fmt: skip

    def __str__(self) -> str:
        lines = [f"valid answers: {self.valid}"]
        lines += [f"  {count} x {problem}" for problem, count in sorted(self.problems.items(), key=lambda p: -p[1])[:3]]
        lines.append(f"agrees with itself at temperature 0: {self.agreement}")
        lines.append(f"right, as people labelled: {self.accuracy}")
        speed = "" if self.latency_s is None else f", {self.latency_s:.2f} s"
        lines.append(f"a call: {self.input_tokens:.0f} tokens in, {self.output_tokens:.0f} out{speed}")
        return "\n".join(lines)


def probe_rows(plan: LabelPlan, count: int = PROBE_ROWS) -> list[tuple[int, Row]]:
    """A few rows spread evenly over the plan's; those that people labelled first, where only some are."""
    some = 0 < plan.human_labels < plan.rows_used
    total = plan.human_labels if some else plan.rows_used
    count = min(count, total)
    wanted = {round((i + 0.5) * total / count - 0.5) for i in range(count)} if count else set()
    chosen, place = [], 0
    for index, row in plan.used_rows():
        if some and row.human_label is None:
            continue
        if place in wanted:
            chosen.append((index, row))
        place += 1
    return chosen


def tally(records: Sequence[Record]) -> tuple[Rate, dict[str, int], Rate, int]:
    """Valid answers, problems, right answers and chains of thought of some records."""
    problems: dict[str, int] = {}
    valid = right = judged = thought = 0
    for record in records:
        valid += not record.problems
        thought += record.reasoning is not None
        for problem in record.problems:
            kind = problem.split(":", 1)[0]
            problems[kind] = problems.get(kind, 0) + 1
        if record.is_right is not None:
            judged += 1
            right += record.is_right
    return Rate(valid, len(records)), problems, Rate(right, judged), thought
