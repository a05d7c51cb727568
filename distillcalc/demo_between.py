"""The part of the demo's report that tells of the router between both models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from distillcalc.decide.words import usd
from distillcalc.demo_figures import both, routing_figure
from distillcalc.demo_measurements import ranged
from distillcalc.demo_page import Markup, Picture, bullets, facts, join, paragraphs, picture, section, table, tag
from distillcalc.demo_told import Told
from distillcalc.demo_words import CASCADE, CHOOSABLE, SHORT, WHO, mid, number_of, percent

if TYPE_CHECKING:
    from distillcalc.route.bands import Bands

MEASURES = {
    "max_probability": "the probability of its likeliest label",
    "margin": "by how much its likeliest label is above the second",
    "entropy": "how far its probabilities are from knowing nothing",
}
WAYS = {  # rows of route.beside.Beside
    "always the student": f"{WHO['student']} alone",
    "always the teacher": f"{WHO['teacher']} alone",
    "this router": "This router",
    "random, as many sent on": "At random, as many sent on",
    "random, for as many dollars": "At random, for as many dollars",
    "random, as good": "At random, as good",
    "oracle, as good": "An oracle, as good",
}


def between(told: Told) -> Markup:
    """Whether to route between both models, by what, and how good that is."""
    made = told.result.routing
    if not made:
        return section(7, "Route between both", paragraphs("No router was made."))
    items = made.get("items", {})
    tuned, certified = int(items.get("tuned") or 0), int(items.get("certified") or 0)
    reasons = [str(reason) for reason in made.get("reasons", [])]
    verdict = str(made.get("verdict", ""))
    head = verdict.removesuffix(" ".join(reasons)).rstrip()
    beside = 1 if len(reasons) > 2 else 2  # of the reasons stand in the verdict's paragraph, the rest below it
    plays = bool(told.result.teacher.get("played_by"))
    rows = _rows(made)
    return section(
        7, "Route between both",
        paragraphs(
            "There is a third way: the small model answers, and a router sends on to the big one what the small one is "
            "unsure of. It was made of the test messages that are counted above: one half tuned it, and the other "
            "half, on which nothing was chosen, puts it to the test."
            + (" The big model's answers are those of the small one that plays it." if plays else ""),
            join(tag("b", head), *(f" {reason}" for reason in reasons[:beside])),
        ),
        bullets(reasons[beside:]),
        facts([
            ("Asked for", str(made.get("goal", ""))),
            ("Goes by", _measure(str(made.get("score", "")))),
            ("Threshold", _threshold(made)),
            ("Sent on", _sent_on(made)),
            ("Messages", f"{tuned:,} to tune, {certified:,} to certify" if certified else ""),
            *((("Note", str(note))) for note in made.get("notes", [])),
        ]),
        picture(_picture(made)),
        table(("Way", "Sent on", "Right"), rows, figures=[1, 2], chosen=_chosen(rows, made)),
        paragraphs(_explained(made, verdict), _priced(told)),
    )  # fmt: skip


def _measure(score: str) -> str:
    """What the router goes by, in words."""
    return f"the small model's {score.replace('_', ' ')}: {MEASURES[score]}" if score in MEASURES else score


def _rate(made: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The share that is sent on at the chosen threshold, with its interval; None where none is chosen."""
    found: Mapping[str, Any] | None = made.get("certificate", {}).get("escalation_rate")
    return found


def _threshold(made: Mapping[str, Any]) -> str:
    rate = _rate(made)
    if rate is None:
        return "none: no threshold is certified, so the big model answers everything"
    if not rate["value"]:
        return "none: every answer of the small model is kept"
    goes = "goes" if made.get("advice") == "router" else "would go"
    return f"{float(made['thresholds'][0]):.3g}; what is below it {goes} to the big model"


def _sent_on(made: Mapping[str, Any]) -> str:
    rate = _rate(made)
    if rate is None:
        return ""
    low, high = (percent(rate[end], 1) for end in ("low", "high"))
    return f"{percent(rate['value'], 1)} of the messages that certify (95% interval {low} to {high})"


def _rows(made: Mapping[str, Any]) -> list[list[str]]:
    """The router beside what it has to beat; what sends nothing on stands there once."""
    found = []
    for row in (made.get("beside") or {}).get("rows", []):
        name, rate, quality = str(row["name"]), float(row["escalation_rate"]), row["quality"]
        if rate == 0 and name.startswith(("random", "oracle")):
            continue
        low, high = quality["low"], quality["high"]
        interval = None if low is None or high is None else (float(low), float(high))
        found.append([WAYS.get(name, name), percent(rate, 1), ranged(number_of(quality["value"]), interval)])
    return found


def _chosen(rows: Sequence[Sequence[str]], made: Mapping[str, Any]) -> int | None:
    """The row of what the verdict says to do; None where there is none."""
    name = {"router": "this router", "student": "always the student"}.get(str(made.get("advice")), "always the teacher")
    return next((place for place, row in enumerate(rows) if row[0] == WAYS[name]), None)


def _explained(made: Mapping[str, Any], verdict: str) -> str:
    """Words of the verdict and of the table that a reader may not know; empty where they do not come."""
    names = [str(row["name"]) for row in (made.get("beside") or {}).get("rows", []) if row["escalation_rate"]]
    said = []
    if "oracle, as good" in names:
        said.append(
            "The oracle knows beforehand which of the small model's answers are wrong: nothing is as good and sends on "
            "fewer."
        )
    if "APGR" in verdict:
        said.append(
            "APGR is how much of the way from the small model to the big one is gained, on average over all shares "
            "that may be sent on; at random it is 0.5."
        )
    return " ".join(said)


def _priced(told: Told) -> str:
    """What the second decision makes of the router."""
    one = told.options.get(CASCADE)
    rate = None if one is None else one.get("facts", {}).get("escalation_rate")
    if one is None or rate is None or not math.isfinite(told.value(CASCADE)):
        return ""
    cost = f"{usd(told.value(CASCADE))} over {told.horizon}"
    start = "What it costs is in the next part, where each threshold that was measured has its price"
    sends = f"sends on {percent(rate, 1)}, as reckoned from the counts, and"
    if one.get("status") in CHOOSABLE:
        return f"{start}. The cheapest that may be chosen {sends} costs {cost}."
    held = told.held(one)
    return f"{start}. None may be chosen; the cheapest {sends} would cost {cost}{f' ({held})' if held else ''}."


def _picture(made: Mapping[str, Any]) -> Picture | None:
    """Quality over the share that is sent on, drawn of the certifying messages."""
    bands = bands_of(made)
    if bands is None:
        return None
    c, rate = bands.curve, _rate(made)
    at = None if rate is None else float(rate["value"])
    read = f"{SHORT['student']} alone {percent(c.student_quality, 1)}, {mid(SHORT['teacher'])} alone "
    read += percent(c.teacher_quality, 1)
    if at is not None:
        read += f"; the router, which sends on {percent(at, 1)}, {percent(c.quality_at(at), 1)}"
    lift = bands.lift
    return Picture(
        *both(partial(routing_figure, bands, at)),
        alt=f"Share of the certifying messages answered right, by how many are sent on to the big model: {read}.",
        caption=f"Messages sorted right, by the share that is sent on. Blue: by the student's {c.name}, with its 95% "
        f"band; over all shares it is {100 * abs(lift.value):.1f} points {'above' if lift.value >= 0 else 'below'} "
        f"the dashed line, as many sent on at random (95% interval {100 * lift.low:+.1f} to {100 * lift.high:+.1f})."
        + (" The diamond is the certified threshold." if at is not None else ""),
    )  # fmt: skip


def bands_of(made: Mapping[str, Any]) -> Bands | None:
    """The curve of the certifying messages and its band, the same whenever they are worked out; None without them."""
    import numpy as np

    from distillcalc.route.bands import Bands
    from distillcalc.route.pairs import Pairs

    items = made.get("certifying")
    if not items:
        return None
    names = [str(name) for name in made["models"]]
    score = {"score": np.array(items["score"], dtype=float)}
    pairs = Pairs.of(items["student_right"], items["teacher_right"], scores=score, student=names[0], teacher=names[-1])
    name = str(made.get("score", "score")).replace("_", " ")
    return Bands.of(pairs, "score", "router" if made.get("kind") == "router" else "cascade", name=name)
