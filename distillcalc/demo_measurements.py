"""The parts of the demo's report that tell of what was made and measured: labels, student, speed, estimates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from pydantic import ValidationError

from distillcalc.benchmark.record import Record
from distillcalc.benchmark.told import notes_of
from distillcalc.decide.words import count, seconds, usd
from distillcalc.demo_figures import Dot, both, latency_figure, quality_figure, ratio_figure, ratios_of
from distillcalc.demo_page import Markup, Picture, bullets, facts, join, paragraphs, picture, section, table, tag, text
from distillcalc.demo_told import Told
from distillcalc.demo_words import (
    MISSING,
    SHORT,
    WHO,
    Share,
    capital,
    dollars,
    ended,
    latency,
    load_of,
    number_of,
    percent,
    spent,
)
from distillcalc.distill.training.four_way import Entry, FourWay, one_line
from distillcalc.distill.training.scores import Difference

ROLES = {
    "teacher": "Big model (teacher)",
    "raw": "Small model, as it comes",
    "label-only": "Small model, trained on labels alone",
    "distilled": "Small model, distilled",
}


def labels(told: Told) -> Markup:
    """What the teacher answered, and what it cost."""
    held = told.result.labelling
    of = int(held.get("of") or held.get("valid") or 0)
    right = Share(int(held.get("right") or 0), of)
    low, high = right.interval
    rows, valid = int(held.get("rows") or 0), int(held.get("valid") or 0)
    forecast, actual = number_of(held.get("forecast_usd")), number_of(held.get("actual_usd"))
    planned = next(
        (one["one_off_usd"]["labels"] for one in told.result.decision.get("options", {}).values()
         if one.get("one_off_usd", {}).get("labels") is not None), None,
    )  # fmt: skip
    pairs = [
        ("Messages sent", f"{rows:,}"),
        ("Answers that are labels", f"{valid:,} of {rows:,}"),
        ("Right", f"{right.value} ({right.right:,} of {right.total:,}; 95% interval {percent(low)} to {percent(high)})"
         if right.known else "not known"),
        ("Calls", f"{int(held.get('calls') or 0):,}, in {spent(number_of(held.get('seconds')))}"),
        ("Forecast, before the first call", dollars(forecast)),
        ("Actual", dollars(actual) + (f", {_off(actual / forecast - 1)} the forecast" if forecast and actual else "")),
        ("In the first decision", f"{usd(planned)}, with prompts as long as the log's" if planned is not None else ""),
    ]  # fmt: skip
    return section(
        3, "The teacher labelled",
        paragraphs(
            "The big model, the teacher, sorted messages for the small one to learn from, and test messages to be "
            "compared on. Right is judged by the labels of the messages' author, which the small model never sees: it "
            "learns the teacher's mistakes, too."
        ),
        facts(pairs),
    )  # fmt: skip


def student(told: Told) -> Markup:
    """The four-way table, and what distilling gained."""
    training = told.result.training
    made = _four_way(training.get("table"))
    intro = paragraphs(
        "The small model, the student, was trained on the teacher's answers. It is compared with the same model as it "
        "comes and with one that learnt from the bare labels, on test messages that none of them has seen."
    )
    notes = bullets(ended(str(one)) for one in training.get("notes", []))
    if made is None:
        return section(
            4, "The student", intro, paragraphs("No test messages were judged, so there is no table."), notes
        )
    # Here the teacher was timed by its calls, several at once and through a server; part 5 has both alike.
    made = made.model_copy(update={"entries": tuple(
        one.model_copy(update={"facts": one.facts.model_copy(update={"latency_ms_per_item": None})})
        for one in made.entries
    )})  # fmt: skip
    dots = [
        Dot(_role(entry), entry.score.accuracy, *entry.score.accuracy_interval, percent(entry.score.accuracy, 1),
            entry.role == "distilled")
        for entry in made.entries
    ]  # fmt: skip
    floor = told.floor
    read = "; ".join(f"{dot.name} {dot.said} ({percent(dot.low, 1)} to {percent(dot.high, 1)})" for dot in dots)
    asked = f" Asked for: {floor[1]}, {percent(floor[0], 1)}." if floor else ""
    drawn = Picture(
        *both(partial(quality_figure, dots, floor)),
        alt=f"Share of test messages sorted right, with 95% intervals: {read}.{asked}",
        caption="Share of test messages that each sorts right; the lines are 95% intervals. Models whose intervals "
        "overlap widely may be equally good."
        + (
            " The big model's row is that of the small one that plays it."
            if told.result.teacher.get("played_by")
            else ""
        ),
    )
    gains = [
        f"{capital(name)}: {gain}."
        for name, gain in ((name, _gain(gain)) for name, gain in training.get("gains", {}).items())
        if not any(gain in sentence for sentence in made.sentences)  # is said already
    ]
    material = training.get("material", {})
    learnt = [f"It learnt from {material['train']:,} messages."] if isinstance(material.get("train"), int) else []
    learnt += [f"Left out of the lesson, {n:,}: {why}." for why, n in (material.get("left_out") or {}).items()]
    head, rows = _student_rows(made)
    chosen = next((i for i, entry in enumerate(made.entries) if entry.role == "distilled"), None)
    return section(
        4, "The student", intro, picture(drawn), table(head, rows, figures=range(1, len(head)), chosen=chosen),
        bullets([*map(ended, made.sentences), *gains, *learnt]), notes,
    )  # fmt: skip


def _student_rows(made: FourWay) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the four-way table; a column that no row fills is left out."""
    head = ["Model", "Right", "Kept of the teacher", "Same answer", "Parameters"]
    rows = []
    for entry in made.entries:
        s, f = entry.score, entry.facts
        own = entry.role == "teacher"
        rows.append([
            _role(entry), ranged(s.accuracy, s.accuracy_interval),
            "" if own or s.retention is None else ranged(s.retention, s.retention_interval),
            "" if own or s.agreement is None else percent(s.agreement, 1),
            "" if f.parameters is None else count(f.parameters),
        ])  # fmt: skip
    kept = [i for i in range(len(head)) if i < 2 or any(row[i] for row in rows)]
    return [head[i] for i in kept], [[row[i] or (MISSING if i else "") for i in kept] for row in rows]


def speed(told: Told) -> Markup:
    """How fast both models answered."""
    rows: list[list[str]] = []
    dots: list[Dot] = []
    notes: dict[str, list[str]] = {}  # what is said of both is said once
    for name, who in WHO.items():
        held = told.result.benchmarks.get(name)
        if not held:
            continue
        record = _record(held)
        for note in notes_of(record) if record else held.get("notes", []):
            notes.setdefault(str(note), []).append(who)
        for level in held.get("levels", []):
            summary = level.get("summary", {})
            p50, p95 = latency(level), latency(level, point="p95")
            load = load_of(level)
            rows.append([
                f"{who}, {load}", spent(p50), spent(p95), _rate(summary.get("requests_per_s")), _failed(summary),
            ])  # fmt: skip
            if math.isfinite(p50) and math.isfinite(p95) and 0 < p50 <= p95:
                said = f"{seconds(p50)} to {seconds(p95)}"
                dots.append(Dot(f"{SHORT[name]}, {load}", p50, p50, p95, said, name == "student"))
    slo = (told.workload.get("slo") or {}).get("e2e_p95_s")
    plays = bool(told.result.teacher.get("played_by"))
    drawn = None
    if dots:
        read = "; ".join(f"{dot.name}: {dot.said}" for dot in dots)
        drawn = Picture(
            *both(partial(latency_figure, dots, slo)),
            alt=f"Time for a message, median to 95th percentile: {read}."
            + (f" Asked for: 19 of 20 within {seconds(slo)}." if slo else ""),
            caption="Each step of the scale is ten times the one before."
            + (f" Asked for: 19 of 20 messages within {seconds(slo)} (dashed)." if slo else "")
            + (" The big model's rows are those of the small one that plays it." if plays else ""),
        )
    head = ("Model and load", "Median", "95th percentile", "Messages a second", "Failed")
    return section(
        5, "Measured on this machine",
        paragraphs(
            "Both models answered messages of this task's lengths, one at a time and several at once. Next to nothing "
            "but the model counts here: no network lies between."
            if plays
            else "Both models answered messages of this task's lengths, one at a time and several at once: the big one "
            "at its endpoint, network included, the small one on this machine."
        ),
        picture(drawn), table(head, rows, figures=range(1, len(head))) if rows else paragraphs("Nothing was measured."),
        bullets(ended(f"{', '.join(whom)}: {note}") for note, whom in notes.items()),
    )  # fmt: skip


def estimates(told: Told) -> Markup:
    """The estimates against what was measured."""
    held = told.result.validation
    rows = [row for row in ratios_of(held, SHORT) if row.before]
    before, after = held.get("before", []), held.get("after", [])

    def within(checks: list[dict[str, Any]]) -> str:
        return f"{sum(bool(one['inside']) for one in checks)} of {len(checks)}"

    drawn = None
    if rows:
        read = "; ".join(
            f"{row.name} {_ratios(row.before)}" + (f", then {_ratios(row.after)}" if row.after else "") for row in rows
        )
        drawn = Picture(
            *both(partial(ratio_figure, rows)),
            alt=f"Estimate divided by measurement: {read}.",
            caption="Circles: as estimated from how fast this machine reads and computes, measured in seconds. "
            + ("Diamonds: after the re-fit. " if after else "Nothing was fitted. ")
            + "One mark for each load. TTFT is the time to the first word, TPOT the time for each further one, E2E the "
            "time for the whole answer.",
        )
    inside = f"Of the measured values {within(before)} lay within the estimate's own interval" if before else ""
    if inside:
        inside += f", and {within(after)} after the re-fit." if after else "."
    return section(
        6, "Estimate against measurement",
        paragraphs(
            "The first decision had to estimate how fast models run, on a machine out of a table. Here the same "
            "estimate of this machine is held against what was measured, then fitted to a second run, "
            "and held against the first again.",
            inside,
        ) if before else paragraphs("No estimate was held against a measurement."),
        picture(drawn), bullets(ended(str(one)) for one in held.get("sentences", held.get("notes", []))),
    )  # fmt: skip


def ranged(value: float, interval: tuple[float, float] | None) -> Markup:
    """A share with its interval below it."""
    if interval is None:
        return text(percent(value, 1))
    low, high = (f"{100 * end:.1f}" for end in interval)
    return join(percent(value, 1), tag("small", f"{low}–{high}%"))


def _rate(value: float | None) -> str:
    return MISSING if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _off(error: float) -> str:
    if abs(error) < 0.005:
        return "as"
    return f"{percent(abs(error))} {'above' if error > 0 else 'below'}"


def _ratios(values: tuple[float, ...]) -> str:
    return " and ".join(f"{value:.2f}" for value in values)


def _gain(gain: Mapping[str, Any]) -> str:
    held: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in gain.items() if key != "beats"}
    found = Difference(**held)
    return f"{found}; lower is better" if found.metric == "brier" else str(found)


def _failed(summary: Mapping[str, Any]) -> str:
    outcomes = summary.get("outcomes") or {}
    asked = int(summary.get("requests") or 0)
    return f"{asked - int(outcomes.get('ok', 0)):,} of {asked:,}"


def _record(held: Mapping[str, Any]) -> Record | None:
    try:
        return Record.model_validate(held)
    except ValidationError:
        return None


def _four_way(held: Any) -> FourWay | None:
    return None if held is None else FourWay.model_validate(held)


def _role(entry: Entry) -> str:
    return ROLES.get(entry.role, one_line(entry.name))
