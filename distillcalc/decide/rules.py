"""The rules of thumb of the article this project started from, each beside the computed answer.

"Model Distillation Explained" (March 2026), table "When to Distill vs When to Just Call the Big Model".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distillcalc.decide.words import count, usd
from distillcalc.estimate.outcome import LIKELY

if TYPE_CHECKING:
    from distillcalc.decide.decision import Decision
    from distillcalc.workload.workload import Workload

LATENCY_CRITICAL_S = 0.2
CHANGES_OFTEN_PER_YEAR = 6.0  # the article gives no number; every two months or oftener is read as "frequently"
OWN_STUDENT = ("hosted-fine-tune", "self-host", "cascade")
SOMEBODY_ELSES = ("call-small", "hosted-open-student")


@dataclass(frozen=True)
class Rule:
    """One row of the article's table."""

    id: str
    when: str
    says: str
    recommends: str  # "call", "consider" or "distill"
    applies: Callable[[Workload], bool]


def _latency_critical(workload: Workload) -> bool:
    return any(limit <= LATENCY_CRITICAL_S for what, _, limit in workload.slo.objectives() if what != "tpot")


RULES: tuple[Rule, ...] = (
    Rule(
        "below-1k",
        "fewer than 1,000 requests a day",
        "call the big model",
        "call",
        lambda w: w.requests_per_day < 1_000,
    ),
    Rule(
        "1k-to-100k",
        "1,000 to 100,000 requests a day",
        "consider distilling",
        "consider",
        lambda w: 1_000 <= w.requests_per_day <= 100_000,
    ),
    Rule(
        "above-100k",
        "more than 100,000 requests a day",
        "distill",
        "distill",
        lambda w: w.requests_per_day > 100_000,
    ),
    Rule("latency-critical", "latency below 200 ms", "distill", "distill", _latency_critical),
    Rule("private", "private data", "distill and self-host", "distill", lambda w: w.private),
    Rule(
        "changes-often",
        "a task that changes frequently",
        "call the big model",
        "call",
        lambda w: w.task_changes_per_year >= CHANGES_OFTEN_PER_YEAR,
    ),
)


@dataclass(frozen=True)
class RuleCheck:
    """A rule that applies to the workload, beside what was computed.

    ``agrees`` is None where there is no own student to speak of, or nothing passes. "Consider" excludes no option;
    it holds where an own student starts to pay somewhere between its two volumes, and fails where it pays at
    neither or at both.
    """

    rule: Rule
    computed: str | None
    agrees: bool | None
    why: str

    @property
    def verdict(self) -> str:
        """Whether what was computed agrees with the rule, as words after "it"."""
        if self.agrees and self.rule.recommends == "consider" and self.computed not in OWN_STUDENT:
            return "agrees that it may pay within that range; here another option is recommended"
        return {True: "agrees", False: "disagrees", None: "leaves it open"}[self.agrees]

    def __str__(self) -> str:
        return f"rule of thumb, {self.rule.when}: {self.rule.says}; it {self.verdict}. {self.why}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "rule": self.rule.id,
            "when": self.rule.when,
            "says": self.rule.says,
            "computed": self.computed,
            "agrees": self.agrees,
            "why": self.why,
        }


def check_rules(decision: Decision) -> list[RuleCheck]:
    """Each rule that applies to the decision's workload, with a word on why it holds or does not."""
    workload = decision.scenario.workload
    return [_check(rule, decision) for rule in RULES if rule.applies(workload)]


def _check(rule: Rule, decision: Decision) -> RuleCheck:
    chosen = decision.recommendation
    if chosen is None:
        return RuleCheck(
            rule,
            None,
            False if rule.recommends == "distill" else None,
            "No option passes every gate here.",
        )
    if rule.recommends == "consider":
        return RuleCheck(rule, chosen, _starts_to_pay_between(decision, 1_000, 100_000), _economics(decision))
    distilled = "labels" in decision.options[chosen].one_off_usd  # an own student was made for it
    agrees = distilled if rule.recommends == "distill" else chosen in ("call-teacher", "self-host-teacher")
    if rule.id == "private" and chosen != "self-host":
        agrees = False
    return RuleCheck(rule, chosen, agrees, _why(rule, decision))


def _why(rule: Rule, decision: Decision) -> str:
    chosen = decision.recommendation
    if chosen in SOMEBODY_ELSES:
        return (
            f"A small model that somebody else distilled ({decision.options[chosen].label}) is good enough and "
            f"cheaper than making one. {_economics(decision)}"
        )
    if rule.id == "latency-critical":
        return _gate_words(decision, "slo")
    if rule.id == "private":
        return _gate_words(decision, "privacy")
    if rule.id == "changes-often":
        return _changes(decision)
    return _economics(decision)


def _starts_to_pay_between(decision: Decision, low: float, high: float) -> bool | None:
    student = _student(decision)
    if student is None or student not in decision.break_even:
        return None
    starts = [start for start, _ in decision.break_even[student].requests_per_day]
    return any(low <= start <= high for start in starts)


def _student(decision: Decision) -> str | None:
    """The option by which an own student would be made: the cheapest that nothing rules out, else the cheapest."""
    known = [
        name for name in OWN_STUDENT if name in decision.options and "labels" in decision.options[name].one_off_usd
    ]

    def key(option: str) -> tuple[bool, float]:
        estimate = decision.options[option]
        return estimate.status == "ruled-out", estimate.present_value_usd

    return min(known, key=key, default=None)


def _economics(decision: Decision) -> str:
    student = _student(decision)
    if student is None or "call-teacher" not in decision.options:
        return "No own student could be priced."
    estimate, teacher = decision.options[student], decision.options["call-teacher"]
    months = decision.scenario.workload.horizon_months
    span = f"{months} month{'s' if months > 1 else ''}"
    words = (
        f"An own student ({estimate.label}) takes {usd(estimate.one_off_total_usd)} once and "
        f"{usd(float(estimate.monthly_total_usd[0]))} in the first month, against "
        f"{usd(float(teacher.monthly_total_usd[0]))} for calling the big model"
    )
    intervals = decision.break_even[student].requests_per_day if student in decision.break_even else ()
    if intervals:
        words += f"; over {span} it is the cheaper of the two {volumes(intervals)}."
    else:
        words += f"; over {span} it is never the cheaper of the two at any volume."
    doubts = [g for g in estimate.open_questions() if g.probability is not None and g.probability < LIKELY]
    blocking = estimate.failing() or doubts
    if blocking and student != decision.recommendation:
        words += f" It is held back by {blocking[0].name}: {blocking[0].detail.rstrip('.')}."
    return words


def volumes(intervals: tuple[tuple[float, float], ...]) -> str:
    """Intervals of requests per day in words."""
    parts = []
    for low, high in intervals[:3]:
        if low <= 1.0:
            parts.append("at any volume" if high == float("inf") else f"below {count(high)} requests a day")
        elif high == float("inf"):
            parts.append(f"above {count(low)} requests a day")
        else:
            parts.append(f"between {count(low)} and {count(high)} requests a day")
    more = len(intervals) - 3
    return ", ".join(parts) + (f" and in {more} more interval{'s' if more > 1 else ''}" if more > 0 else "")


def _gate_words(decision: Decision, gate: str) -> str:
    words = []
    for option in ("call-teacher", "self-host"):
        estimate = decision.options.get(option)
        found = next((g for g in estimate.gates if g.name == gate), None) if estimate else None
        if estimate is not None and found is not None:
            words.append(f"{option} {found.verdict}: {found.detail.rstrip('.')}")
    return ". ".join(words) + "." if words else _economics(decision)


def _changes(decision: Decision) -> str:
    student = _student(decision)
    if student is None:
        return "No own student could be priced."
    estimate = decision.options[student]
    again = float(estimate.monthly_usd.get("re_distillation", estimate.monthly_total_usd * 0).sum())
    years = decision.scenario.workload.horizon_months / 12
    return (
        f"Making the student again {decision.scenario.workload.task_changes_per_year:g} times a year costs "
        f"{usd(again / years)} a year. {_economics(decision)}"
    )
