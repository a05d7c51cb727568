"""A decision as text, as a rich table and as HTML: three views of the same rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any

from distillcalc.decide.rules import volumes
from distillcalc.decide.words import count, duration, usd
from distillcalc.estimate.api_latency import TAIL_IS_ASSUMED
from distillcalc.estimate.outcome import LIKELY

if TYPE_CHECKING:
    from distillcalc.decide.decision import Decision
    from distillcalc.decide.tipping import TippingPoint
    from distillcalc.estimate.outcome import Estimate

HEADINGS = (
    "option",
    "model and machine",
    "status",
    "once",
    "month 1",
    "per 1,000",
    "total",
    "E2E p95",
    "quality",
    "remark",
)
RIGHT = {3, 4, 5, 6, 7, 8}
WIDE = 125  # columns of a terminal that shows the whole table
DROPPED_WHEN_NARROW = {3, 4, 5, 8}
MOST_TIPPING_POINTS = 6


def rows(decision: Decision) -> list[tuple[str, ...]]:
    """One row of words per option, the recommended first, then by cost; the same for every view."""
    order = {"feasible": 0, "provisional": 0, "unproven": 1, "ruled-out": 2, "unpriced": 3}

    def key(name: str) -> tuple[Any, ...]:
        estimate = decision.options[name]
        return name != decision.recommendation, order[estimate.status], estimate.present_value_usd

    table: list[tuple[str, ...]] = []
    for name in sorted(decision.options, key=key):
        e = decision.options[name]
        priced = not e.unpriced
        e2e = e.latency.get("e2e_p95_s")
        table.append(
            (
                name,
                e.label,
                e.status,
                usd(e.one_off_total_usd) if priced else "-",
                usd(float(e.monthly_total_usd[0])) if priced else "-",
                usd(e.usd_per_1000_requests) if priced else "-",
                usd(e.present_value_usd) if priced else "-",
                f"{e2e:.2f} s" if e2e is not None else "-",
                f"{e.quality_mean:.2f} ± {e.quality_sd:.2f}" if e.quality_mean == e.quality_mean else "-",
                decision.lost_by(name),
            )
        )
    return table


def notes(decision: Decision) -> list[tuple[str, str]]:
    """(heading, sentence) pairs below the table."""
    found: list[tuple[str, str]] = [("still to find out", condition) for condition in decision.conditions]
    found += router_notes(decision)
    found += odds_notes(decision)
    found += [("what would help", str(one)) for one in decision.relaxations]
    if decision.opportunity is not None:
        e = decision.opportunity
        chance = f", if it proves good enough (P {e.odds:.2f})"
        found.append(
            (
                "worth measuring",
                f"{e.option} ({e.label}) would cost {usd(e.present_value_usd)} over the horizon{chance}",
            )
        )
    found += [("worth measuring", sentence) for sentence in _by_an_assumed_tail(decision)]
    for name in decision.break_even:
        if decision.options[name].status == "ruled-out" and name != "self-host":
            continue
        result, parts = decision.break_even[name], []
        if result.months is not None:
            parts.append(
                "cheaper from the first day"
                if result.months == 0
                else f"pays back in {duration(result.months)} ({result.day})"
            )
        parts.append(
            f"cheaper than calling the big model {volumes(result.requests_per_day)}"
            if result.requests_per_day
            else "never cheaper than calling the big model, at any volume"
        )
        if result.utilisation is not None:
            parts.append(f"its machines are then {result.utilisation:.1%} busy in the first month")
        found.append((f"break-even of {name}", "; ".join(parts)))
    found += [("tipping point", tipping_words(point)) for point in decision.tipping_points[:MOST_TIPPING_POINTS]]
    found += [("rule of thumb", str(check).removeprefix("rule of thumb, ")) for check in decision.rules]
    found += [("note", warning) for warning in decision.warnings]
    return found


def _by_an_assumed_tail(decision: Decision) -> list[str]:
    """Options that would be chosen were it not for a latency whose tail nobody measured."""
    chosen = decision.options[decision.recommendation].present_value_usd if decision.recommendation else math.inf
    found = []
    for e in decision.options.values():
        failing = e.failing()
        if len(failing) != 1 or failing[0].name != "slo" or TAIL_IS_ASSUMED not in failing[0].detail:
            continue
        if e.odds >= LIKELY and e.present_value_usd < chosen:
            found.append(f"{e.option} is ruled out by its latency alone: {failing[0].detail}")
    return found


def router_notes(decision: Decision) -> list[tuple[str, str]]:
    """(heading, sentence) of the threshold that was picked for a measured router; none where none was measured."""
    e = decision.options.get("cascade")
    if e is None or "threshold" not in e.facts:
        return []
    gate = next(gate for gate in e.gates if gate.name == "router")
    rate = f"{e.facts['escalation_rate']:.1%} of requests go to the big model"
    if gate.verdict == "pass":
        return [("router", f"{rate}; {gate.detail}")]
    certified = certified_cascades(decision)
    if not certified:
        return [("router", f"{rate}; none of its thresholds is certified")]
    sure = certified[0]
    told = f"{sure.facts['escalation_rate']:.1%} at {sure.facts['threshold']:.3g}"
    if sure.failing():
        why = f", and is ruled out by {', '.join(one.name for one in sure.failing())}"
    else:
        why = f", for {usd(sure.present_value_usd)}"
    return [("router", f"{rate}; the cheapest threshold that is certified sends on {told}{why}")]


def certified_cascades(decision: Decision) -> list[Estimate]:
    """Candidates of a measured router whose threshold is certified, the cheapest first, what a gate rules out last."""
    made = range(len(decision.block.candidates.get("cascade", ())))
    found = (decision.block.estimate("cascade", candidate) for candidate in made)
    sure = [
        one
        for one in found
        if "threshold" in one.facts
        and math.isfinite(one.present_value_usd)
        and any(gate.name == "router" and gate.verdict == "pass" for gate in one.gates)
    ]
    return sorted(sure, key=lambda one: (bool(one.failing()), one.present_value_usd))


def odds_notes(decision: Decision) -> list[tuple[str, str]]:
    """(heading, sentence) pairs of what the draws say; none where no input is a distribution."""
    u = decision.drawn
    if u is None:
        return []
    from distillcalc.decide.explain import far_from_break_even, measure_first

    ranked = sorted(u.probability_best.items(), key=lambda item: -item[1])
    odds = ", ".join(f"{name} {share:.0%}" for name, share in ranked if share >= 0.005)
    if u.probability_none >= 0.005:
        odds += f", nothing passes {u.probability_none:.0%}"
    found = [("cheapest that passes", f"{odds} of {u.draws:,} draws")]
    if u.recommendation is None:
        return found
    if far_from_break_even(u):
        share = u.probability_best[u.recommendation]
        found.append(("how sure", f"far from break-even: {u.recommendation} is best in {share:.1%} of draws"))
    first = measure_first(u)
    found.append(("find out first", first or "nothing that could be found out is worth waiting for"))
    return found


def tipping_words(point: TippingPoint) -> str:
    """One tipping point as a sentence, with the digits that tell the flip from the present value."""
    to = point.to or "nothing that passes"
    unit = f" {point.unit}" if point.unit else ""
    if point.value is None:
        return f"{point.input} {number(point.flips_at)}{unit} (not stated now): {to}"
    digits = next((n for n in range(3, 9) if f"{point.flips_at:.{n}g}" != f"{point.value:.{n}g}"), 9)
    return f"{point.input} {number(point.flips_at, digits)}{unit} (now {number(point.value, digits)}): {to}"


def number(value: float, digits: int = 3) -> str:
    """A swept value in words."""
    return count(value) if abs(value) >= 100 and digits == 3 else f"{value:,.{digits}g}"


def text(decision: Decision) -> str:
    """The decision as plain text."""
    lines = [_headline(decision), ""]
    for row in rows(decision):
        lines.append(f"  {row[0]:<20} {row[6]:>14}  {row[2]:<12} {row[1]}")
        lines.append(f"  {'':<20} {'':>14}  {row[9]}")
    lines.append("")
    lines += [f"{heading}: {sentence}" for heading, sentence in notes(decision)]
    return "\n".join(lines)


def _headline(decision: Decision) -> str:
    name = decision.scenario.workload.name
    mark = "" if decision.status in ("feasible", "none") else " (provisional)"
    return f"{name}: {decision.reason}{mark}"


def rich_parts(decision: Decision, width: int = WIDE) -> Iterator[Any]:
    """The decision as rich renderables; a narrow terminal gets fewer columns, not broken ones."""
    from rich.markup import escape as safe
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    style = {"feasible": "green", "provisional": "yellow", "none": "red"}[decision.status]
    yield Panel(Text(_headline(decision)), border_style=style)
    table = Table(show_lines=False, expand=False)
    kept = [i for i in range(len(HEADINGS) - 1) if width >= WIDE or i not in DROPPED_WHEN_NARROW]
    for i in kept:
        folds = i == 1
        table.add_column(
            HEADINGS[i],
            justify="right" if i in RIGHT else "left",
            overflow="fold",
            no_wrap=not folds,
            min_width=12 if folds else None,
        )
    for row in rows(decision):
        table.add_row(*(safe(row[i]) for i in kept), style="bold" if row[0] == decision.recommendation else "")
    yield table
    for row in rows(decision):
        if row[0] != decision.recommendation:
            yield Text.assemble((f"{row[0]}: ", "bold"), row[-1])
    yield Text("")
    for heading, sentence in notes(decision):
        yield Text.assemble((f"{heading}: ", "bold"), sentence)


def html(decision: Decision) -> str:
    """The decision as a fragment of HTML; everything from outside is escaped, and a dollar begins no formula."""

    def line(tag: str, cells: tuple[str, ...]) -> str:
        return "".join(
            f"<{tag} style='{_cell_style(i, tag)}'>{escape(cell)}</{tag}>" for i, cell in enumerate(cells[:-1])
        )

    body, remarks = [], []
    for row in rows(decision):
        weight = "bold" if row[0] == decision.recommendation else "normal"
        body.append(f"<tr style='font-weight:{weight}'>{line('td', row)}</tr>")
        if row[0] != decision.recommendation:
            remarks.append((row[0], row[-1]))
    below = "".join(
        f"<li><b>{escape(heading)}</b>: {escape(sentence)}</li>" for heading, sentence in [*remarks, *notes(decision)]
    )
    return (
        f"<div class='distillcalc-decision mathjax_ignore tex2jax_ignore'><p><b>{escape(_headline(decision))}</b></p>"
        "<div style='overflow-x:auto'><table style='font-size:0.92em'>"
        f"<thead><tr>{line('th', HEADINGS)}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
        f"<ul>{below}</ul></div>"
    )


def _cell_style(column: int, tag: str) -> str:
    """Figures and names stay on one line; headings and labels may wrap."""
    wrap = ";white-space:nowrap" if column != 1 and tag == "td" else ""
    wrap = ";overflow-wrap:anywhere;min-width:8em" if column == 1 else wrap
    return f"padding:2px 6px;text-align:{'right' if column in RIGHT else 'left'}{wrap}"
