"""The demo's report: one HTML file that a manager who has read nothing else understands.

What is said is :mod:`.demo_told`'s, what is drawn :mod:`.demo_figures`', how it looks :mod:`.demo_page`'s. Here stand
the head, the tiles, and what comes after what. Everything from outside is escaped; the file needs no network and no
scripts.
"""

from __future__ import annotations

import math
from pathlib import Path

from distillcalc.decide.words import seconds, usd
from distillcalc.demo_between import between
from distillcalc.demo_decisions import first_decision, second_decision, the_log, trust
from distillcalc.demo_measurements import estimates, labels, speed, student
from distillcalc.demo_page import Markup, Side, join, page, paragraphs, tag, tile
from distillcalc.demo_result import DemoResult
from distillcalc.demo_told import Told
from distillcalc.demo_words import TEACHER, WHO, dollars, latency, load_of, mid, name_of, spent, when
from distillcalc.errors import InputError

QUESTION = "A web shop sorts its customers' messages with a big language model. Should a small one take over?"

JSON = "demo.json"


def render_report(result: DemoResult) -> str:
    """The report as one HTML document.

    Parameters
    ----------
    result : of :func:`distillcalc.demo.run_demo`, or read from its file.
    """
    told = Told(result)
    body = [_head(told), _tiles(told), the_log(told), first_decision(told), labels(told), student(told), speed(told),
            estimates(told), between(told), second_decision(told), trust(told)]  # fmt: skip
    link = Markup(f'<a href="{JSON}">{JSON}</a>')
    footer = join("Every number of this page, and many more, as plain values: ", link, " beside this file. Made by ",
                  f"distillcalc on {when(result.created)}.")  # fmt: skip
    return page(f"{told.headline} – distillcalc demo", body, footer)


def write_report(result: DemoResult, file: str | Path) -> Path:
    """Write the report; returns its file.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    path = Path(file)
    try:
        path.write_text(render_report(result), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write the report to {path}: {error.strerror}") from error
    return path


def _head(told: Told) -> Markup:
    honest = told.honest
    note = tag("div", paragraphs(join(tag("b", "About this run. "), honest[0]), *honest[1:]), css="note")
    return Markup(
        "<header>\n"
        + paragraphs(f"distillcalc, the whole loop on one task · {when(told.result.created)}", css="kicker")
        + paragraphs(QUESTION, css="question")
        + tag("h1", told.headline)
        + paragraphs(*told.lead[:1], css="lead")
        + paragraphs(*told.lead[1:])
        + (note if honest else "")
        + "</header>"
    )


def _tiles(told: Told) -> Markup:
    other = told.instead
    plays = bool(told.result.teacher.get("played_by"))
    chosen = other is not None and told.after == other
    who = "a small model" if other is None else f"{'then' if chosen else 'not chosen'}: {mid(name_of(other))}"
    once = f"and {usd(told.once(other))} once, at the start" if told.once(other) else ""
    cost = tile(
        "Running cost a month",
        (
            Side("now: calling the big model", dollars(told.monthly(TEACHER)), f"mean over {told.horizon}"),
            Side(who, dollars(told.monthly(other)), once, accent=chosen),
        ),
    )
    quality = tile(
        "Messages sorted right",
        (_quality_side(told, "teacher"), _quality_side(told, "student")),
        told.enough,
    )
    return tag("div", cost, quality, _time_tile(told, plays), _label_tile(told, plays), css="tiles")


def _quality_side(told: Told, name: str) -> Side:
    share = told.quality(name)
    return Side(WHO[name], share.value, share.more, accent=name == "student")


def _time_tile(told: Told, plays: bool) -> Markup:
    levels = told.result.benchmarks.get("student", {}).get("levels") or [{}]
    below = f"Median, {load_of(levels[0])}, measured on this machine."
    if plays:
        below += " The big model's time is that of the small one that plays it."
    return tile("Time for a message", (_time_side(told, "teacher"), _time_side(told, "student")), below)


def _time_side(told: Told, name: str) -> Side:
    levels = told.result.benchmarks.get(name, {}).get("levels") or [{}]
    slow = latency(levels[0], point="p95")
    more = f"19 of 20 within {seconds(slow)}" if math.isfinite(slow) else ""
    return Side(WHO[name], spent(latency(levels[0])), more, accent=name == "student")


def _label_tile(told: Told, plays: bool) -> Markup:
    held = told.result.labelling
    price, rows, calls = held.get("price"), int(held.get("rows") or 0), int(held.get("calls") or 0)
    below = f"At the list price of {price}; nothing was billed." if plays and price else ""
    return tile(
        "What the teacher's labels cost",
        (
            Side("forecast", dollars(held.get("forecast_usd")), f"for {rows:,} messages"),
            Side("actual", dollars(held.get("actual_usd")), f"{calls:,} calls", accent=True),
        ),
        below,
    )
