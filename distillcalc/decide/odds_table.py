"""How sure a decision is, as rich tables; and its figures by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from distillcalc.decide.explain import words_of
from distillcalc.decide.words import count, duration, usd
from distillcalc.errors import DistillcalcError

if TYPE_CHECKING:
    from rich.table import Table

    from distillcalc.decide.decision import Decision

MOST_ROWS = 12
SOME = 0.005  # a share below this is not worth a line


def parts(decision: Decision, *, indices: bool = False) -> Iterator[Any]:
    """The odds of each option; what matters; what more labels are worth; when to start."""
    from rich.text import Text

    u = decision.uncertainty
    if u.probability_none >= SOME:
        yield Text(f"In {u.probability_none:.0%} of {u.draws:,} draws nothing passes every gate.")
    yield _odds(decision)
    if u.chosen is None:
        for relaxation in decision.relaxations:
            yield Text(f"what would help: {relaxation}")
        return
    yield _inputs(decision, indices=indices)
    if any(value.worth_usd > 0 for value in u.sample_values):
        yield _labels(decision)
    yield from _starts(decision)


def _table(title: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold")
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right", overflow="fold")
    return table


def _odds(decision: Decision) -> Table:
    u = decision.uncertainty
    table = _table(
        f"{u.draws:,} draws, seed {u.seed}",
        "option",
        "model",
        "P(best)",
        "P(passes)",
        "on average",
        "P10",
        "P50",
        "P90",
    )
    for name, one in sorted(u.options.items(), key=lambda item: -item[1].probability_best):
        table.add_row(
            name,
            one.label,
            f"{one.probability_best:.2f}",
            f"{one.probability_passes:.2f}",
            usd(one.expected_usd),
            *(usd(v) for v in one.present_value_usd),
            style="bold" if name == u.recommendation else "",
        )
    return table


def _inputs(decision: Decision, *, indices: bool) -> Table:
    u = decision.uncertainty
    rival = u.drawn.alternatives[u.rival].option if u.rival is not None else "nothing"
    heads = ["worth knowing exactly", "P10", "P90", f"lead over {rival} at P10", "at P90", "best at P10", "at P90"]
    table = _table("What matters", "input", *heads, *(["first", "total index"] if indices else []))
    swings = {swing.input: swing for swing in u.tornado}
    shares = {index.input: index for index in u.indices} if indices else {}
    worth = u.evpi_by_input
    width = {name: swing.width_usd for name, swing in swings.items()}
    ranked = sorted(worth, key=lambda name: (-worth[name], -width.get(name, 0.0)))
    for name in [name for name in ranked if worth[name] > 0 or width.get(name, 0.0) > 0][:MOST_ROWS]:
        swing = swings.get(name)
        cells = ["-"] * 6
        if swing is not None:
            best = [one or "nothing" for one in swing.best]
            cells = [*(_number(v) for v in swing.values), *(usd(v) for v in swing.lead_usd), *best]
        if indices:
            cells += [f"{shares[name].first:.2f}", f"{shares[name].total:.2f} ± {shares[name].total_error:.2f}"]
        table.add_row(words_of(name), usd(worth[name]), *cells)
    return table


def _number(value: float) -> str:
    return "-" if value != value else count(value) if abs(value) >= 100 else f"{value:.3g}"


def _labels(decision: Decision) -> Table:
    table = _table("What more labelled items are worth", "model", "P(floor met)", "items", "cost", "worth", "net")
    worthwhile = [value for value in decision.uncertainty.sample_values if value.worth_usd > 0]
    for value in worthwhile[:MOST_ROWS]:
        table.add_row(
            value.model if value.trained else f"{value.model} (to be trained first)",
            f"{value.probability:.2f}",
            f"{value.items:,}",
            usd(value.cost_usd),
            usd(value.worth_usd),
            usd(value.net_usd),
        )
    return table


def _starts(decision: Decision) -> Iterator[Table]:
    from distillcalc.decide.timing import timing

    try:
        when = timing(decision)
    except DistillcalcError:
        return
    shown = sorted({0, 1, 3, 6, 12, when.best.month, len(when.starts) - 1} & set(range(len(when.starts))))
    table = _table(
        f"When to start {when.option}, the big model until then", "start", "total", "delay costs", "paid back"
    )
    for month in shown:
        start = when.starts[month]
        table.add_row(
            "never" if start is when.never else "now" if month == 0 else f"in {duration(month)} ({start.day})",
            usd(start.present_value_usd),
            usd(start.cost_of_delay_usd),
            "-" if start.payback_months is None else f"after {duration(start.payback_months)}",
            style="bold" if start is when.best else "",
        )
    if when.probability_now is not None:
        table.caption = (
            f"cheapest in the draws in which it passes: now {when.probability_now:.0%}, later "
            f"{when.probability_later:.0%}, never {when.probability_never:.0%}"
        )
    yield table


def figures_of(decision: Decision) -> dict[str, Any]:
    """The figures of how sure a decision is, by name."""
    from distillcalc.decide.figures import cost_figure, odds_figure, tornado_figure, value_figure

    u = decision.uncertainty
    found = {"odds": odds_figure(u)}
    if u.chosen is not None:
        found |= {"cost": cost_figure(u), "value": value_figure(u)}
        if u.tornado:
            found["tornado"] = tornado_figure(u)
    return found
