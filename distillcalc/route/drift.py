"""Whether a deployed router has drifted, and whether that asks for a new threshold or for a new student."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from distillcalc.route.sequential import mean_interval, start_weight

if TYPE_CHECKING:
    from distillcalc.route.watch import Watch

Advice: TypeAlias = Literal["nothing", "recalibrate", "re-distill", "not-enough-yet"]

LEAST_ROWS = 200  # before which "nothing has changed" says nothing
LEAST_FALL = 0.02  # a fall of the student at equal scores that is worth a new student
SEEN_FALL = 0.1  # a fall that must be excluded before it is said that the student holds
SURE = 2.326  # standard errors by which: the normal quantile of 0.99


@dataclass(frozen=True)
class Test:
    """What one sequential test says.

    Parameters
    ----------
    name : "escalation rate", "scores", "agreement", "student's quality" or "quality".
    n : values so far; the test has started when there is one.
    calibrated : what it is held against: the calibrated rate; for scores the mean rank 0.5; for agreement and the
        student's quality what calibration had at the scores that came; for quality the certified floor.
    estimate, low, high : mean of all values so far and its confidence sequence; nan, 0 and 1 before any value.
    e_value, bar : the most that the bet against "nothing has changed" was ever worth, and the worth that alarms.
    log_e : natural logarithm of what it is worth now. It falls again where the new has become the usual.
    alarmed_at, alarmed_time : first row (from 0) and its time in seconds since 1970 at which the bar was reached; None
        where it was not, or the row had no time.
    changed_at : the row from which on the winning bet would have won most, an estimate of when it changed.
    recent_n, recent, recent_low, recent_high : the same since the report's ``since``; ``recent_calibrated`` what they
        are held against. The interval holds whichever row was chosen.
    """

    __test__ = False  # for pytest, which would take it for one of its own

    name: str
    n: int
    calibrated: float
    estimate: float
    low: float
    high: float
    e_value: float
    log_e: float
    bar: float
    alarmed_at: int | None
    alarmed_time: float | None
    changed_at: int | None
    recent_n: int
    recent: float
    recent_low: float
    recent_high: float
    recent_calibrated: float

    @property
    def started(self) -> bool:
        """Whether any value has come."""
        return self.n > 0

    @property
    def alarmed(self) -> bool:
        """Whether the bar was ever reached."""
        return self.alarmed_at is not None

    @property
    def delay(self) -> int | None:
        """Rows from the estimated change to the alarm, both counted."""
        return None if self.alarmed_at is None or self.changed_at is None else self.alarmed_at - self.changed_at + 1


@dataclass(frozen=True)
class Drift:
    """What became of a deployed router, and what to do.

    Parameters
    ----------
    advice : "nothing", "recalibrate", "re-distill" or "not-enough-yet".
    reasons : in words, the first is what decided.
    tests : what each says.
    rows : requests seen.
    ruled : of them those that a rule decided before any score.
    since, since_time : the row from which on "recent" is meant, and the time of it: the latest estimated change, or 0.
    requests_per_day : by the times of the rows; nan where there are none.
    alpha : probability that any test ever alarms while nothing changes, at most.
    """

    advice: Advice
    reasons: tuple[str, ...]
    tests: tuple[Test, ...]
    rows: int
    ruled: int
    since: int
    since_time: float
    requests_per_day: float
    alpha: float

    def __getitem__(self, name: str) -> Test:
        found = next((test for test in self.tests if test.name == name), None)
        if found is None:
            raise KeyError(f"no test of {name!r}: there are {', '.join(test.name for test in self.tests)}")
        return found

    def __str__(self) -> str:
        from distillcalc.route.drift_words import lines

        return "\n".join(lines(self))

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not known is None."""

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: plain(one) for name, one in value.items()}
            if isinstance(value, list | tuple):
                return [plain(one) for one in value]
            return None if isinstance(value, float) and not math.isfinite(value) else value

        told: dict[str, Any] = plain(asdict(self))
        for one, test in zip(told["tests"], self.tests, strict=True):
            one |= {"started": test.started, "alarmed": test.alarmed, "delay": test.delay}
        return told


def report(watch: Watch) -> Drift:
    """What the tests of a watch say by now, and the advice.

    Notes
    -----
    The advice, in this order:

    1. "re-distill": the student fails more often than calibration did at the same scores, by at least 0.02, so that its
       score no longer says what it said. Seen by agreement alone while labels exclude that the student's quality fell
       half as much, it is the teacher that has changed, and a new calibration is enough.
    2. "recalibrate": scores, escalation rate or quality have moved, and agreement or the student's quality at equal
       scores excludes a fall of 0.1 (by 2.33 standard errors, of the audited and of the calibrated). Other requests
       come (a covariate shift): the threshold is off its optimum or its promise, not the student.
    3. "not-enough-yet": something moved, and too few kept requests were audited to say which of the two; or fewer than
       200 rows have come.
    4. "nothing": no test alarms. Where a fall of 0.1 is not excluded either, that is said.
    """
    changes = [one.changed_at for one in watch.wealth.values() if one.changed_at is not None]
    start, time, recent = watch.blocks.since(max(changes, default=0))
    _, _, whole = watch.blocks.since(0)
    level = watch.share * float(start_weight(start + 1))
    tests = tuple(_test(watch, name, whole, recent, level) for name in watch.wealth)
    advice, reasons = _advise({test.name: test for test in tests}, watch)
    return Drift(
        advice, reasons, tests, watch.rows, watch.ruled, start, time, watch.requests_per_day, watch.alpha
    )  # fmt: skip


# of each test: the sum of values, their number, and the sum of what is expected of them; whether failures are counted
_COLUMNS = {
    "escalation rate": ("escalated", "rows", None, False),
    "scores": ("ranks", "scored", None, False),
    "agreement": ("disagreed", "audited", "disagreed_expected", True),
    "student's quality": ("kept_wrong", "kept_labelled", "kept_wrong_expected", True),
    "quality": ("wrong", "labelled", None, True),
}


def _test(watch: Watch, name: str, whole: Mapping[str, float], recent: Mapping[str, float], level: float) -> Test:
    """One test's line of the report."""
    wealth = watch.wealth[name]
    sums, many, expected, failures = _COLUMNS[name]
    fixed = {"escalation rate": watch.reference.escalation_rate, "scores": 0.5, "quality": watch.reference.floor}

    def told(of: Mapping[str, float], alpha: float) -> tuple[int, float, float, float, float]:
        n = round(of[many])
        total = n - of[sums] if failures else of[sums]
        total = min(max(total, 0.0), float(n))  # sums of ranks carry rounding
        held: float | None = fixed.get(name)
        if held is None:
            held = 1 - of[expected] / n if expected and n else float("nan")
        return n, total / n if n else float("nan"), *mean_interval(total, n, alpha), held

    n, estimate, low, high, calibrated = told(whole, watch.share)
    recent_n, now, now_low, now_high, held = told(recent, level)
    return Test(
        name, n, calibrated, estimate, low, high, math.exp(min(wealth.most, 700.0)), wealth.log_e, wealth.bar,
        wealth.alarmed_at, watch.alarm_times.get(name), wealth.changed_at, recent_n, now, now_low, now_high, held,
    )  # fmt: skip


def _advise(tests: Mapping[str, Test], watch: Watch) -> tuple[Advice, tuple[str, ...]]:
    """The advice by the rules of :func:`report`."""
    at_equal_scores = [tests[name] for name in ("agreement", "student's quality") if name in tests]
    fell = {test.name: test for test in at_equal_scores if test.alarmed and _fall(test) >= LEAST_FALL}
    holds = [test for test in at_equal_scores if test.name not in fell and _excludes(test, SEEN_FALL, watch)]
    right = tests.get("student's quality")
    teacher_changed = (
        list(fell) == ["agreement"] and right is not None and _excludes(right, _fall(fell["agreement"]) / 2, watch)
    )
    moved = [tests[name] for name in ("escalation rate", "scores", "quality") if name in tests and tests[name].alarmed]
    told = [_moved(test) for test in moved]

    if fell and not teacher_changed:
        return "re-distill", (*(_fallen(test) for test in fell.values()), *told)
    if fell and right is not None:
        return "recalibrate", (
            _fallen(fell["agreement"]),
            f"But the student is as right as it was ({right.recent:.3f} against {right.recent_calibrated:.3f} over "
            f"{right.recent_n:,} labels): the teacher changed, and new pairs of answers are what is missing.",
            *told,
        )
    if moved and holds:
        kept = holds[0]
        return "recalibrate", (
            *told,
            f"{kept.name.capitalize()} at equal scores holds ({kept.recent:.3f} against {kept.recent_calibrated:.3f} "
            f"over {kept.recent_n:,} kept requests): other requests come, the student is what it was.",
        )
    if moved:
        if not at_equal_scores:
            missing = "The reference holds no agreement and no labels, so that it cannot be told from a worse student."
        else:
            n = max(test.recent_n for test in at_equal_scores)
            needed = [many for test in at_equal_scores if (many := _audits(test, watch)) is not None]
            more = (
                f"about {max(min(needed) - n, 1):,} more tell it from a worse student"
                if needed
                else "calibration compared too few to tell it from a worse student"
            )
            missing = f"{n:,} kept requests were audited since; {more}. Until then a higher threshold is the safe side."
        return "not-enough-yet", (*told, missing)
    if watch.rows < LEAST_ROWS:
        return "not-enough-yet", (f"{watch.rows:,} requests were seen; {LEAST_ROWS} are the least that say anything.",)
    blind = f"But too few kept requests were audited to exclude that the student fell by {SEEN_FALL:g} at equal scores."
    return "nothing", ("No test alarms.", *(() if holds else (blind,)))


def _fall(test: Test) -> float:
    """How much less often the student does well than calibration had it at the same scores, since the change."""
    return test.recent_calibrated - test.recent


def _calibrated_items(test: Test, watch: Watch) -> float:
    """Kept requests that calibration compared or labelled."""
    held = watch.reference.agreement if test.name == "agreement" else watch.reference.right
    return float(held.items.sum()) if held is not None else 0.0


def _variance(test: Test) -> float:
    """Of one answer, with Agresti and Coull's two successes and failures, so that it is never 0."""
    p = (test.recent * test.recent_n + 2) / (test.recent_n + 4) if test.recent_n else test.calibrated
    return p * (1 - p)


def _excludes(test: Test, fall: float, watch: Watch) -> bool:
    """Whether so large a fall is more than 2.33 standard errors above the estimated one."""
    if not test.recent_n:
        return False
    error = math.sqrt(_variance(test) * (1 / test.recent_n + 1 / _calibrated_items(test, watch)))
    return _fall(test) + SURE * error < fall


def _audits(test: Test, watch: Watch) -> int | None:
    """About how many audited requests exclude a fall of 0.1, at the one seen; None if calibration had too few."""
    variance, fall = (_variance(test), max(_fall(test), 0.0)) if test.recent_n else (0.25, 0.0)
    left = max((SEEN_FALL - fall) / SURE, 0.0) ** 2 - variance / _calibrated_items(test, watch)
    return math.ceil(variance / left) if left > 0 else None


def _moved(test: Test) -> str:
    """What moved, in words."""
    from_to = f"{test.recent:.3f} since about row {test.changed_at:,} ({test.recent_low:.3f} to {test.recent_high:.3f})"
    if test.name == "scores":
        return f"Scores moved: their mean rank among the calibrated ones is {from_to}, 0.5 if nothing moved."
    if test.name == "quality":
        return f"Quality is below its floor of {test.calibrated:.3f}: {from_to}."
    return f"The escalation rate moved from {test.calibrated:.3f} to {from_to}."


def _fallen(test: Test) -> str:
    """What fell at equal scores, in words."""
    return (
        f"The student got worse at equal scores: {test.name} {test.recent:.3f} ({test.recent_low:.3f} to "
        f"{test.recent_high:.3f}) where calibration had {test.recent_calibrated:.3f}, since about row "
        f"{test.changed_at:,}."
    )
