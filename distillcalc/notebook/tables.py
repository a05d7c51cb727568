"""The panel's words and tables as HTML: the verdict, every option with its sources, gates, what would change it.

Whatever comes from outside (names of models, sources, gates) is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from html import escape
from typing import TYPE_CHECKING

from distillcalc.decide.explain import FACTORS, SHARE_NAMES, words_of
from distillcalc.decide.render import notes, number
from distillcalc.decide.words import count, seconds, usd
from distillcalc.estimate.inputs import SPECS
from distillcalc.estimate.options import OPTIONS
from distillcalc.notebook.style import colour

if TYPE_CHECKING:
    from distillcalc.decide.decision import Decision
    from distillcalc.decide.tipping import TippingPoint
    from distillcalc.estimate.outcome import Estimate
    from distillcalc.provenance import Provenance

OLD = timedelta(days=30)  # a price that was last checked longer ago is amber
MOST_REASONS = 7
_ORDER = {"feasible": 0, "provisional": 0, "unproven": 1, "ruled-out": 2, "unpriced": 3}
_TOLD_ABOVE = ("tipping point", "rule of thumb")


def title(option: str) -> str:
    """What an option is called in a sentence."""
    return OPTIONS[option].title


def ordered(options: Mapping[str, Estimate], recommended: str | None) -> list[Estimate]:
    """The recommended option first, then what may be chosen by cost, then what is held back."""

    def key(e: Estimate) -> tuple[bool, int, float]:
        cost = e.present_value_usd
        return e.option != recommended, _ORDER[e.status], cost if math.isfinite(cost) else math.inf

    return sorted(options.values(), key=key)


def told(shown: str, sources: Iterable[str], *, old: bool = False) -> str:
    """A number that says where it comes from when it is pointed at or focused.

    Parameters
    ----------
    shown : the number in words.
    sources : one line each.
    old : whether a price in it was last checked more than thirty days ago.
    """
    lines = list(sources)
    if not lines:
        return escape(shown)
    age = ["A price in it was last checked more than 30 days ago."] if old else []
    tip = "".join(f"<i>{escape(line)}</i>" for line in [*age, *lines])
    mark = " dc-old" if old else ""
    warn = " ⚠" if old else ""
    return (
        f'<span class="dc-n{mark}" tabindex="0">{escape(shown)}{warn}'
        f'<span class="dc-tip" role="tooltip">{tip}</span></span>'
    )


def options_table(decision: Decision, today: date) -> str:
    """Every option: what it costs, how fast and how good it is, each number with its sources."""
    heads = ("option", "once", "month 1", "per 1,000 requests", "over the horizon", "E2E p95", "quality")
    rows = []
    for e in ordered(decision.options, decision.recommendation):
        mark = "dc-best" if e.option == decision.recommendation else ("" if _ORDER[e.status] == 0 else "dc-out")
        name = (
            f'<span class="dc-clip"><span class="dc-swatch" style="background:{colour(e.option)}"></span>'
            f'{escape(title(e.option))}</span><span class="dc-sub dc-clip">{escape(e.label)}</span>'
            f"{_clipped(_shortly(decision, e))}"
        )
        cells = "".join(f'<td class="r">{cell}</td>' for cell in _numbers(e, today))
        rows.append(f'<tr class="{mark}"><td class="dc-name">{name}</td>{cells}</tr>')
    head = "".join(f'<th scope="col"{_right(i)}>{escape(text)}</th>' for i, text in enumerate(heads))
    return f'<table class="dc"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _right(column: int) -> str:
    return ' class="r"' if 1 <= column <= 6 else ""


def _numbers(e: Estimate, today: date) -> list[str]:
    if e.unpriced or not math.isfinite(e.present_value_usd):
        return ["–"] * 6
    once = [f"{_item(i)} {usd(v)}: {_source(e, i)}" for i, v in e.one_off_usd.items() if v]
    month = [f"{_item(i)} {usd(float(v[0]))}: {_source(e, i)}" for i, v in e.monthly_usd.items()]
    old_once, old_month = _is_old(e, e.one_off_usd, today), _is_old(e, e.monthly_usd, today)
    latency, quality = e.latency.get("e2e_p95_s"), e.quality_mean
    total = [*(f"once, {line}" for line in once), *(f"month 1, {line}" for line in month)]
    return [
        told(usd(e.one_off_total_usd), once, old=old_once),
        told(usd(float(e.monthly_total_usd[0])), month, old=old_month),
        told(usd(e.usd_per_1000_requests), total, old=old_once or old_month),
        told(usd(e.present_value_usd), total, old=old_once or old_month),
        told(seconds(latency), [_source(e, "latency")]) if latency is not None else "unknown",
        told(f"{quality:.2f} ± {e.quality_sd:.2f}", [_source(e, "quality")]) if quality == quality else "unknown",
    ]


def _source(e: Estimate, name: str) -> str:
    origin = e.provenance.get(name)
    return str(origin) if origin is not None else "derived: from the scenario"


def _item(name: str) -> str:
    return name.replace("_", " ")


def _is_old(e: Estimate, items: Iterable[str], today: date) -> bool:
    """Whether a price behind any of the items, or behind the tokens that they are billed by, was checked long ago."""
    origins = [e.provenance[name] for name in (*items, "token_prices") if name in e.provenance]
    return any(is_old(origin, today) for origin in origins)


def is_old(origin: Provenance, today: date) -> bool:
    """Whether a source was last read more than thirty days ago."""
    return origin.checked is not None and today - origin.checked > OLD


def _clipped(words: str) -> str:
    """Words on one line, so that no row grows; all of them when they are pointed at or focused."""
    shown = escape(words)
    return (
        f'<span class="dc-n dc-why" tabindex="0"><span class="dc-clip">{shown}</span>'
        f'<span class="dc-tip" role="tooltip">{shown}</span></span>'
    )


def _shortly(decision: Decision, e: Estimate) -> str:
    if e.option == decision.recommendation:
        return "recommended" + (" (provisional)" if decision.status == "provisional" else "")
    return decision.lost_by(e.option)


def gates_table(decision: Decision) -> str:
    """Every hard condition of every option: whether it holds, why, and where that comes from."""
    rows = []
    for e in ordered(decision.options, decision.recommendation):
        for gate in e.gates:
            source = gate.source or "the catalog's row of the model"
            rows.append(
                f'<tr><td>{escape(e.option)}</td><td>{escape(gate.name)}</td><td class="dc-{gate.verdict}">'
                f"{gate.verdict}</td><td>{escape(gate.detail)}"
                f'<span class="dc-sub">{escape(source)}</span></td></tr>'
            )
        if e.unpriced:
            rows.append(
                f'<tr><td>{escape(e.option)}</td><td>price</td><td class="dc-unknown">unpriced</td>'
                f"<td>{escape(e.unpriced)}</td></tr>"
            )
    head = "".join(f'<th scope="col">{text}</th>' for text in ("option", "condition", "holds", "why, and the source"))
    return f'<table class="dc"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def reasons_to_change(points: list[TippingPoint]) -> str:
    """What would change the recommendation, nearest first, as a numbered list."""
    if not points:
        return "<p>No single input changes it within the range that was searched.</p>"
    lines = "".join(f"<li>{escape(turning_words(point))}</li>" for point in points[:MOST_REASONS])
    return f"<ol>{lines}</ol>"


def turning_words(point: TippingPoint) -> str:
    """One tipping point as a sentence: which side, what it is now, and what is recommended there."""
    to = title(point.to) if point.to else "Nothing that passes"
    side = "above" if point.flips_at > point.own else "below"
    if point.value is None:
        now = "not stated now"
    else:
        now = f"{number(point.value) if point.input in FACTORS else _amount(point.input, point.value)} now"
    return f"{words_of(point.input)} {side} {_amount(point.input, point.flips_at)} ({now}): {to}"


def _amount(name: str, value: float) -> str:
    """A value of an input with its unit."""
    unit = SPECS[name].unit
    if unit in SHARE_NAMES:
        return f"{value:.2%} {SHARE_NAMES[unit]}" if abs(value) < 1 else f"{number(value)} {SHARE_NAMES[unit]}"
    if unit.startswith("USD"):
        return usd(value)
    return f"{number(value)} {FACTORS.get(name, unit.replace('/', ' a '))}".rstrip()


def rules_list(decision: Decision) -> str:
    """The article's rules of thumb that apply, each beside what was computed."""
    if not decision.rules:
        return "<p>None of the article's rules of thumb applies.</p>"
    marks = {True: "pass", False: "fail", None: "unknown"}
    lines = [
        f"<li>{escape(check.rule.when)}: <b>{escape(check.rule.says)}</b>. It "
        f'<span class="dc-{marks[check.agrees]}">{escape(check.verdict)}</span>. {escape(check.why)}</li>'
        for check in decision.rules
    ]
    return f"<ul>{''.join(lines)}</ul>"


def notes_list(decision: Decision) -> str:
    """What else a reader should know before acting."""
    lines = [
        f"<li><b>{escape(_called(heading))}</b>: {escape(_called(sentence))}</li>"
        for heading, sentence in notes(decision)
        if heading not in _TOLD_ABOVE
    ]
    return f"<ul>{''.join(lines)}</ul>" if lines else "<p>Nothing.</p>"


def _called(words: str) -> str:
    """The words with an option's id, at their beginning or after "break-even of", replaced by what it is called."""
    lead = "break-even of " if words.startswith("break-even of ") else ""
    option, space, rest = words.removeprefix(lead).partition(" ")
    return lead + title(option) + space + rest if option in OPTIONS else words


def difference_table(pinned: Decision, now: Decision) -> str:
    """What changed from the pinned scenario A to this one, B: dollars, milliseconds and quality of each choice."""
    rows = []
    a, b = _chosen(pinned), _chosen(now)
    for label, e in (("A, pinned", a), ("B, now", b)):
        words = ["nothing passes", "–", "–", "–"] if e is None else [f"{title(e.option)} ({e.label})", *_three(e)]
        rows.append([label, *words])
    if a is not None and b is not None:
        rows.append(["B against A", "the same choice" if a.option == b.option else "another choice", *_changes(a, b)])
    heads = ("", "recommended", "over the horizon", "E2E p95", "quality")
    head = "".join(f'<th scope="col"{_right(i) if i > 1 else ""}>{text}</th>' for i, text in enumerate(heads))
    body = "".join(
        "<tr>" + "".join(f"<td{_right(i) if i > 1 else ''}>{escape(cell)}</td>" for i, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    moved = inputs_that_differ(pinned, now)
    told_inputs = f"<p>Moved since A: {escape('; '.join(moved))}.</p>" if moved else "<p>Nothing was moved since A.</p>"
    return f'<table class="dc"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{told_inputs}'


def inputs_that_differ(pinned: Decision, now: Decision) -> list[str]:
    """The controls that stand differently in two decisions, as words."""
    from distillcalc.notebook.controls import CONTROLS, value_of

    found = []
    for name, control in CONTROLS.items():
        before, after = value_of(pinned.scenario, name), value_of(now.scenario, name)
        if before != after:
            words = [count(value * control.scale) for value in (before, after)]
            if words[0] == words[1]:  # they differ beyond the third digit
                words = [f"{value * control.scale:,.6g}" for value in (before, after)]
            found.append(f"{control.label} {words[0]} to {words[1]}")
    return found


def _chosen(decision: Decision) -> Estimate | None:
    return decision.options[decision.recommendation] if decision.recommendation else None


def _three(e: Estimate) -> list[str]:
    latency = e.latency.get("e2e_p95_s")
    return [
        usd(e.present_value_usd),
        "unknown" if latency is None else seconds(latency),
        f"{e.quality_mean:.3f}" if e.quality_mean == e.quality_mean else "unknown",
    ]


def _changes(a: Estimate, b: Estimate) -> list[str]:
    cost = b.present_value_usd - a.present_value_usd
    before, after = a.latency.get("e2e_p95_s"), b.latency.get("e2e_p95_s")
    late = "unknown" if before is None or after is None else f"{(after - before) * 1000:+,.0f} ms"
    better = b.quality_mean - a.quality_mean
    words = (
        f"{'+' if cost >= 0 else '-'}{usd(abs(cost))}",
        late,
        f"{better:+.3f}" if better == better else "unknown",
    )
    return [word.replace("-", "−") for word in words]
