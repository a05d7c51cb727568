"""The parts of the demo's report that tell of the traffic, the two decisions, and how far to trust them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from distillcalc.decide.words import usd
from distillcalc.demo_figures import DAYS, Bar, both, cost_figure, traffic_figure
from distillcalc.demo_page import Markup, Picture, bullets, facts, join, paragraphs, picture, section, table, tag
from distillcalc.demo_told import Told
from distillcalc.demo_words import (
    CHOOSABLE,
    KINDS,
    MISSING,
    capital,
    dollars,
    ended,
    few,
    mid,
    name_of,
    number_of,
    percent,
    spent,
    status_of,
    when,
)

MOST_TIPPING_POINTS = 5

NUMBERS = {  # what a person would call a number of the provenance
    "gpus_busy": "machines while they work",
    "gpus_idle": "machines while they wait",
    "replica_usd_per_hour": "price of a machine's hour",
    "replicas": "how many machines",
    "replicas_last_month": "machines in the last month",
    "requests_per_s_per_replica": "requests a second of a machine",
    "gpus_per_replica": "GPUs of a machine",
    "batch": "requests at once",
    "interarrival_cv": "unevenness of arrivals",
    "length_sample": "lengths",
    "hour_of_week": "course over the day",
}


def the_log(told: Told) -> Markup:
    """What the log says of the traffic."""
    traffic = told.result.traffic
    volume, cycle = traffic.get("volume", {}), traffic.get("cycle", {})
    arrivals, lengths = traffic.get("arrivals", {}), traffic.get("lengths") or {}
    source, failures = traffic.get("source", {}), traffic.get("failures", {})
    per_day = volume.get("requests_per_day")

    def side(name: str) -> str:
        one = lengths.get(name)
        if not one:
            return ""
        p95 = dict(one["quantiles"]).get("p95")
        return f"{few(one['mean'])} tokens on average" + (f", 19 of 20 at most {p95:,.0f}" if p95 is not None else "")

    pairs = [
        ("Requests a day", f"{per_day:,.0f}" if per_day else ""),
        ("Requests read", f"{source.get('rows_used', 0):,} of {source.get('rows_read', 0):,} rows of the log"),
        ("Prompt", side("input")),
        ("Answer", side("output")),
        ("Busiest hour", _times(arrivals.get("hour_peak_to_mean"), "the mean hour")),
        ("Busiest minute", _times(arrivals.get("minute_peak_to_mean"), "the mean minute")),
        ("Growth", str(volume.get("trend", {}).get("statement", ""))),
        ("Failed", percent(failures["failed"], 2) if failures.get("failed") is not None else ""),
    ]
    drawn = None
    rates = cycle.get("rates") or []
    if rates and per_day:
        kind = "week" if len(rates) == 168 else "day"
        rush = rates.index(max(rates))
        at = f"{f'{DAYS[rush // 24]} ' if kind == 'week' else ''}{rush % 24:02d}:00 UTC"
        drawn = Picture(
            *both(partial(traffic_figure, rates, per_day)),
            alt=f"Requests in each hour of the {kind}: most from {at}, {max(rates) * per_day / 24:,.0f} an hour, least "
            f"{min(rates) * per_day / 24:,.0f}; the mean is {per_day / 24:,.0f}.",
            caption=f"Requests in each hour of the {kind} (UTC). {capital(str(cycle.get('statement', '')))}.",
        )  # fmt: skip
    return section(
        1, "What the log says",
        paragraphs("The log holds when each request came and how long it was, and no texts. Volume and its course over "
                   "the day size the machines; lengths set the price of a call."),
        facts(pairs), picture(drawn),
    )  # fmt: skip


def first_decision(told: Told) -> Markup:
    """The decision before anything was measured."""
    decision = told.result.decision
    values = {name: number_of(one.get("present_value_usd")) for name, one in decision.get("options", {}).items()}
    best = told.before
    bars = [
        Bar(name_of(name), values[name], "recommended" if name == best else status_of(one),
            name == best, one["status"] in CHOOSABLE)
        for name, one in decision.get("options", {}).items()
        if math.isfinite(values[name])
    ]  # fmt: skip
    drawn = None
    if bars:
        told_bars = "; ".join(f"{bar.name} {usd(bar.usd)}, {bar.said}" for bar in sorted(bars, key=lambda b: b.usd))
        drawn = Picture(
            *both(partial(cost_figure, bars)),
            alt=f"Cost of each option over {told.horizon}, as estimated before measuring: {told_bars}.",
            caption=f"Cost over {told.horizon}, as estimated: everything that is paid at the start and every month. "
            "Hatched: may not be chosen, for the reason in the table.",
        )
    first = (
        f"Before anything was measured, the recommendation was: {mid(name_of(best))}."
        if best
        else "Before anything was measured, no option could be recommended."
    )
    kinds = [told.result.decision.get("provenance", {}).get(name, {}).get("quality", {}) for name in values]
    unknown = any(kind.get("kind") == "assumed" for kind in kinds)
    return section(
        2, "What we decided before measuring",
        paragraphs(
            first,
            "Costs come from the log, list prices and a model of how fast machines serve. How good each model is on "
            "these messages was not known yet, so what similar models keep of a big one's quality was assumed. The "
            "next steps find it out." if unknown else "",
        ),
        picture(drawn),
        _options_table(told, decision, best, values),
        paragraphs(told.break_even(told.student_option, decision)),
    )  # fmt: skip


def _options_table(told: Told, decision: Mapping[str, Any], best: str | None, values: Mapping[str, float]) -> Markup:
    names = _ordered(decision.get("options", {}), best, values)
    rows = [
        (
            _option(name, decision["options"][name]),
            dollars(values[name]),
            status_of(decision["options"][name]),
            capital(told.why(name, decision, best, values)),
        )
        for name in names
    ]
    chosen = names.index(best) if best in names else None
    return table(("Option", f"Over {told.horizon}", "Status", "Why"), rows, figures=[1], chosen=chosen)


def second_decision(told: Told) -> Markup:
    """The decision with what was measured, beside the first."""
    before, after = told.result.decision.get("options", {}), told.result.after.get("options", {})
    values = {name: told.value(name) for name in after}
    old = {name: number_of(one.get("present_value_usd")) for name, one in before.items()}
    names = _ordered(after, told.after, values)
    rows = []
    for name in names:
        one = after[name]
        rows.append((
            _option(name, one), dollars(old.get(name, math.nan)), dollars(values[name]),
            status_of(before[name]) if name in before else MISSING, status_of(one),
            capital(told.why(name, told.result.after, told.after, values)),
        ))  # fmt: skip
    chosen = names.index(told.after) if told.after in names else None
    head = ("Option", "Cost before", "Cost now", "Before", "Now", "Why now")
    return section(
        8, "Decided again",
        paragraphs(join(tag("b", told.headline), " ", told.regret)),
        table(head, rows, figures=[1, 2], chosen=chosen),
        bullets([*told.changes, *told.helps]),
        paragraphs(told.break_even(told.student_option, told.result.after)),
        tag("h3", "What would change this decision, nearest first") if told.tipping else "",
        bullets(told.tipping[:MOST_TIPPING_POINTS]),
    )  # fmt: skip


def trust(told: Told) -> Markup:
    """How far the numbers go, and where they come from."""
    result = told.result
    machine, versions = result.machine, result.machine.get("versions") or {}
    total = math.fsum(result.seconds.values())
    pairs = [
        ("Processor", f"{machine.get('cpu') or 'unknown'}, {machine.get('cores') or '?'} cores"),
        ("Memory", f"{machine['memory_gb']} GB" if machine.get("memory_gb") else ""),
        ("GPU", str(machine.get("gpu") or "none")),
        ("System", " ".join(str(machine[key]) for key in ("system", "architecture") if machine.get(key))),
        ("Versions", ", ".join(f"{name} {number}" for name, number in
                               [("Python", machine.get("python")), *versions.items()] if number)),
        ("Commit", str(machine.get("commit") or "")),
        ("Run", f"{when(result.created)}; {spent(total)} in all"),
    ]  # fmt: skip
    steps = [(step.capitalize(), spent(taken)) for step, taken in result.seconds.items()]
    option = told.after or told.student_option
    rows = list(_origins(told, option))
    return section(
        9, "How far to trust this",
        bullets([*_limits(told), *(ended(str(one)) for one in result.after.get("warnings", []))]),
        tag("h3", "Where the numbers come from"),
        paragraphs(f"Of the cost, speed and quality of: {mid(name_of(option))}; and of the traffic.") if rows else "",
        table(("Number", "Is", "By"), rows),
        tag("h3", "The machine"), facts(pairs),
        tag("h3", "What each step took") if steps else "", table(("Step", "Time"), steps, figures=[1]),
    )  # fmt: skip


def _limits(told: Told) -> Iterator[str]:
    """What keeps the numbers from being more than they are."""
    yield from told.honest
    if told.result.teacher.get("played_by"):
        yield (
            "The one that plays the big model learnt from 840 other messages of the same authors; 480 of them were "
            "written by somebody who had read the test messages, so it may be a little better here than elsewhere."
        )
    test = told.quality("student")
    if test.known:
        yield (
            f"Quality rests on {test.total:,} test messages, labelled by the author who wrote them, not by customers: "
            f"the intervals say what so many can tell, and nothing of messages that are unlike them."
        )
    tuned, certified = (int(told.result.routing.get("items", {}).get(name) or 0) for name in ("tuned", "certified"))
    if certified:
        yield (
            f"The router rests on the same messages, {tuned:,} to tune it and {certified:,} to certify it. What is "
            "promised of it holds by itself; it is no second opinion on how good the models are."
        )
    yield (
        "Speed was measured on this machine, with whatever else it was doing, and stands for the rented one of the "
        "decision. Prices are list prices of the day that stands beside them."
    )
    small = told.options.get("self-host", {})
    work = small.get("one_off_usd", {}).get("engineering")
    month = (small.get("monthly_usd", {}).get("operations") or [None])[0]
    if work is not None:
        each = f", and {usd(month)} a month for looking after it" if month is not None else ""
        yield f"Of the small model's cost, {usd(work)} for engineering{each} are assumed. They decide much."


def _origins(told: Told, option: str | None) -> Iterator[tuple[str, str, str]]:
    """Numbers, of what kind they are, and by what source."""
    found: dict[str, Any] = dict(told.result.after.get("provenance", {}).get(option or "", {}))
    traffic = told.result.traffic.get("provenance") or {}
    grouped: dict[tuple[str, str], list[str]] = {}  # numbers of one source share a row
    for name, one in [*found.items(), *((f"traffic, {NUMBERS.get(name, name)}", one) for name, one in traffic.items())]:
        day = f", checked {one['checked']}" if one.get("checked") else ""
        sure = f", {one['confidence']} confidence" if one.get("confidence") else ""
        words = NUMBERS.get(name, name).replace("_", " ")
        grouped.setdefault((str(one["kind"]), f"{one['source']}{day}{sure}"), []).append(words)
    order = list(KINDS)
    ranked = sorted(grouped.items(), key=lambda item: order.index(item[0][0]) if item[0][0] in order else len(order))
    for (kind, source), names in ranked:
        yield capital("; ".join(names)), KINDS.get(kind, kind), source


def _ordered(options: Mapping[str, Any], best: str | None, values: Mapping[str, float]) -> list[str]:
    """The recommended first, then what may be chosen by cost, then the rest by cost, then what has no price."""

    def key(name: str) -> tuple[bool, bool, bool, float]:
        value = values.get(name, math.nan)
        unpriced = not math.isfinite(value)
        return name != best, unpriced, options[name]["status"] not in CHOOSABLE, 0.0 if unpriced else value

    return sorted(options, key=key)


def _option(name: str, estimate: Mapping[str, Any]) -> Markup:
    label = str(estimate.get("label") or "")
    return join(name_of(name), Markup("<br>"), tag("small", f"{name}: {label}" if label else name))


def _times(value: float | None, of: str) -> str:
    return "" if value is None else f"{value:.1f} times {of}"
