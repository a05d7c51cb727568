"""The demo's report says what the result says, whichever way the decision went, and needs nothing but itself."""

from __future__ import annotations

import base64
import math
import pickle
import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from distillcalc import demo_figures
from distillcalc.decide.words import usd
from distillcalc.demo_page import Markup, text
from distillcalc.demo_report import render_report, write_report
from distillcalc.demo_result import DemoResult
from distillcalc.demo_told import Told
from distillcalc.demo_words import CHOOSABLE, NAMES, Share
from distillcalc.errors import InputError
from tests.demo_results import VERDICTS, flips, made, none_may, stands

ENDINGS = (flips, stands, none_may)
HOSTILE = "<img src=x onerror=alert(1)> & \"quoted\" 'names' $x^2$ \u202e\u0000 <script>"


DRAW = demo_figures.svg_of


@cache
def drawn(pickled: bytes) -> bytes:
    """A figure of these values, drawn once: most pages of these tests differ in their words alone."""
    draw, width = pickle.loads(pickled)
    return DRAW(draw, width)


@pytest.fixture(autouse=True)
def _figures_of_the_same_values_are_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_figures, "svg_of", lambda draw, width: drawn(pickle.dumps((draw, width))))


class Page(HTMLParser):
    """What a reader sees, and what the file refers to."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.by_class: dict[str, list[str]] = {}
        self._classes: list[str] = []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = {name: value or "" for name, value in attrs}
        self.tags.append((tag, held))
        if tag not in ("meta", "img", "br", "source"):
            self.open.append(tag)
            self._classes.append(held.get("class", ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self._classes.pop()

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)
            for name in self._classes:
                self.by_class.setdefault(name, []).append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def of(self, name: str) -> list[str]:
        """Texts within elements of a class."""
        return self.by_class.get(name, [])


@cache
def rendered(ending: Any) -> str:
    return render_report(ending())


@cache
def read(ending: Any) -> Page:
    return Page(rendered(ending))


def headline(document: str) -> str:
    found = re.search(r"<h1>(.*?)</h1>", document)
    assert found
    return found[1]


def changed(result: DemoResult, **parts: Any) -> DemoResult:
    return DemoResult.model_validate({**result.model_dump(mode="json"), **parts})


# --- the decision ----------------------------------------------------------------------------------------------------


def test_a_student_that_takes_over_is_the_headline() -> None:
    result, page = flips(), read(flips)
    assert (result.redecision["before"], result.redecision["after"]) == ("call-teacher", "self-host")
    values = result.redecision["present_value_usd"]
    new, old = usd(values["self-host"]), usd(values["call-teacher"])
    assert headline(rendered(flips)) == (
        f"Distill: a small model of your own does this for {new} over 24 months instead of {old}."
    )
    lost = usd(result.redecision["regret_usd"])
    assert usd(values["call-teacher"] - values["self-host"]) == lost
    assert f"That is {lost} less" in page.text
    assert (
        f"Staying with the first decision (calling the big model) would cost {lost} more, over 24 months." in page.text
    )
    assert "Measuring changed the answer. Before it, the recommendation was: calling the big model." in page.text


def test_a_big_model_that_stays_is_the_headline_and_why_the_small_one_does_not_take_over() -> None:
    result, page = stands(), read(stands)
    assert result.redecision["before"] == result.redecision["after"] == "call-teacher"
    values = result.redecision["present_value_usd"]
    assert headline(rendered(stands)) == f"Keep calling the big model: {usd(values['call-teacher'])} over 24 months."
    assert (
        f"A small model of your own would cost {usd(values['self-host'])} over 24 months, but may not be chosen "
        "because of quality: the chance that it is at least 90% as good as the big model is below 1%, and 90% is asked "
        "for."
    ) in page.text
    assert "Measuring did not change the answer." in page.text
    assert "instead of" not in headline(rendered(stands))
    # A cascade that sends nearly everything on may be chosen and says nothing of the student: it is not named here.
    assert result.after["options"]["cascade"]["status"] in CHOOSABLE
    assert values["cascade"] > values["call-teacher"]


def test_nothing_that_may_be_chosen_is_the_headline_and_what_would_help() -> None:
    result, page = none_may(), read(none_may)
    assert result.redecision["after"] is None
    assert headline(rendered(none_may)) == "Choose nothing yet: no option meets what was asked for."
    for option, name in (("call-teacher", "Calling the big model"), ("self-host", "A small model of your own")):
        cost = usd(result.redecision["present_value_usd"][option])
        assert f"{name} would cost {cost} over 24 months, but may not be chosen because of quality" in page.text
    assert "What would help: lower the quality floor from accuracy 0.95" in page.text
    assert "would cost cannot be said" in page.text


def test_a_cheaper_option_that_was_not_tried_is_named_at_the_head() -> None:
    one = flips().after["opportunity"]
    assert one["option"] == "call-small"
    told = f"Cheaper still, but not tried here: the provider's small model, as it is ({one['label']}) would cost "
    assert told + usd(one["present_value_usd"]) in read(flips).text
    assert "Cheaper still" not in read(none_may).text
    dear = {**flips().after, "opportunity": {**one, "present_value_usd": 1e9}}
    assert Told(changed(flips(), after=dear)).cheaper == ""


def test_actual_dollars_decide_what_is_recommended() -> None:
    """The second decision names the big model, the redecision with what was paid the small one: the latter counts."""
    result = flips()
    told = Told(changed(result, redecision={**result.redecision, "present_value_usd": {"self-host": 12.5}}))
    assert told.headline.startswith("Distill: a small model of your own does this for $12.50 over 24 months")
    other = Told(changed(result, redecision={**result.redecision, "after": "cascade"}))
    assert other.headline.startswith("Route: a small model, with the big one for what it is unsure of, does this for ")


def test_options_without_a_price_have_none_in_the_headline() -> None:
    result = flips()
    values = {**result.redecision["present_value_usd"]}
    del values["call-teacher"]
    options = {**result.after["options"]}
    options["call-teacher"] = {
        **options["call-teacher"], "status": "unpriced", "unpriced": "nobody sells it", "present_value_usd": None,
        "monthly_total_usd": [None],
    }  # fmt: skip
    unpriced = changed(
        result,
        redecision={**result.redecision, "present_value_usd": values, "regret_usd": None},
        after={**result.after, "options": options},
    )
    document = render_report(unpriced)
    assert headline(document) == (
        f"Distill: a small model of your own does this for {usd(values['self-host'])} over 24 months."
    )
    assert "Calling the big model has no known price: nobody sells it." in Page(document).text
    kept = changed(unpriced, redecision={**unpriced.redecision, "after": "call-teacher"})
    assert Told(kept).headline == "Keep calling the big model: what it costs over 24 months is not known."


def test_what_would_change_it_is_told_with_units() -> None:
    points = [
        {
            "input": "requests_per_day",
            "flips_at": 19e3,
            "value": 39_500.0,
            "unit": "requests/day",
            "to": "call-teacher",
        },
        {"input": "wrong_answer_usd", "flips_at": 0.055, "value": 0.0, "unit": "USD", "to": "call-teacher"},
        {"input": "teacher_quality", "flips_at": 0.79, "value": None, "unit": "", "to": None},
    ]
    told = Told(changed(flips(), after={**flips().after, "tipping_points": points}))
    assert told.tipping == [
        "The volume: at 19,000 requests a day (now 39,500) the answer is calling the big model.",
        "What a wrong answer costs: at $0.055 (now $0.00) the answer is calling the big model.",
        "The big model's quality: at 0.79 the answer is that nothing may be chosen.",
    ]


@pytest.mark.parametrize("option", [*NAMES, "something-new"])
def test_every_option_has_a_headline(option: str) -> None:
    result = flips()
    told = Told(changed(result, redecision={**result.redecision, "after": option}))
    assert told.headline.endswith(".")
    assert "None" not in told.headline
    assert "nan" not in told.headline


# --- tiles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
def test_tiles_hold_the_results_numbers(ending: Any) -> None:
    result, page = ending(), read(ending)
    options = result.after["options"]
    months = {name: math.fsum(options[name]["monthly_total_usd"]) / 24 for name in ("call-teacher", "self-host")}
    (right, of), (ours, total) = result.quality["teacher"], result.quality["student"]
    p50 = [
        result.benchmarks[name]["levels"][0]["summary"]["e2e"]["p50"]["value"] * 1000 for name in ("teacher", "student")
    ]
    assert page.of("value") == [
        usd(months["call-teacher"]), usd(months["self-host"]),
        f"{100 * right / of:.1f}%", f"{100 * ours / total:.1f}%",
        f"{p50[0]:.3g} ms", f"{p50[1]:.3g} ms",
        usd(result.labelling["forecast_usd"]), usd(result.labelling["actual_usd"]),
    ]  # fmt: skip
    more = " ".join(page.of("more"))
    items = options["self-host"]["one_off_usd"]
    once = math.fsum(items.values()) - items["labels"] + result.redecision["actual_usd"]["labels"]
    assert f"and {usd(once)} once" in more
    assert f"{ours} of {total} right" in more
    which = "then" if ending is flips else "not chosen"
    assert f"{which}: a small model of your own" in page.of("who")
    assert "At the list price of openai/gpt-6-sol; nothing was billed." in page.text


def test_an_interval_is_wilsons() -> None:
    # Newcombe, Stat. Med. 17 (1998), table I: 81 of 263 is .2553 to .3662.
    assert Share(81, 263).interval == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert Share(81, 263).more == "81 of 263 right; 95% interval 26% to 37%"
    assert Share(0, 0).value == "–"


# --- the router ------------------------------------------------------------------------------------------------------


def part(document: str, number: int) -> Page:
    found = re.search(rf'<section id="part-{number}">.*?</section>', document, re.S)
    assert found
    return Page(found[0])


@cache
def routed_as(advice: str) -> tuple[DemoResult, str]:
    teacher, student, knows = VERDICTS[advice]
    result = made(teacher, student, knows=knows)
    assert result.routing["advice"] == advice
    return result, render_report(result)


@pytest.mark.parametrize("advice", VERDICTS)
def test_the_routers_verdict_is_told_as_it_is(advice: str) -> None:
    result, document = routed_as(advice)
    page = part(document, 7)
    assert "".join(result.routing["verdict"].split()) in "".join(page.text.split())  # in paragraphs and a list
    assert "one half tuned it, and the other half, on which nothing was chosen, puts it to the test." in page.text
    assert "The big model's answers are those of the small one that plays it." in page.text
    assert "168 to tune, 168 to certify" in page.text
    assert "The router rests on the same messages, 168 to tune it and 168 to certify it." in part(document, 9).text
    cascade = result.after["options"]["cascade"]
    rate, cost = cascade["facts"]["escalation_rate"], result.redecision["present_value_usd"]["cascade"]
    assert f"sends on {100 * rate:.1f}%, as reckoned from the counts, and costs {usd(cost)} over 24 months" in page.text
    marked = {"router": "This router", "student": "Small model (student) alone"}.get(
        advice, "Big model (teacher) alone"
    )
    assert re.search(rf'<tr class="chosen"><td[^>]*>{re.escape(marked)}</td>', document)


def test_a_router_is_beside_what_it_has_to_beat() -> None:
    result, document = routed_as("router")
    page = part(document, 7)
    rows = {row["name"]: row for row in result.routing["beside"]["rows"]}
    told = {
        "this router": "This router",
        "random, as many sent on": "At random, as many sent on",
        "random, as good": "At random, as good",
        "oracle, as good": "An oracle, as good",
    }
    for name, said in told.items():
        one = rows[name]
        assert f"{said}{100 * one['escalation_rate']:.1f}%{100 * one['quality']['value']:.1f}%" in page.text
    seen = result.routing["certificate"]["escalation_rate"]["value"]
    assert f"{result.routing['thresholds'][0]:.3g}; what is below it goes to the big model" in page.text
    assert f"{100 * seen:.1f}% of the messages that certify" in page.text
    alt = next(held["alt"] for tag, held in page.tags if tag == "img")
    assert f"the router, which sends on {100 * seen:.1f}%, {100 * rows['this router']['quality']['value']:.1f}%" in alt
    assert "APGR is how much of the way" in page.text


def test_a_student_that_is_good_enough_alone_needs_no_threshold() -> None:
    page = part(routed_as("student")[1], 7)
    assert "none: every answer of the small model is kept" in page.text
    assert "At random" not in page.text  # as many as none are none
    assert "APGR" not in page.text


def test_without_a_certified_threshold_none_is_drawn_and_none_told() -> None:
    held = flips().routing
    none = {
        **held,
        "advice": "more-data",
        "beside": None,
        "certificate": {**held["certificate"], "escalation_rate": None},
    }
    page = part(render_report(changed(flips(), routing=none)), 7)
    assert "none: no threshold is certified, so the big model answers everything" in page.text
    assert "diamond" not in page.text
    assert "Sent on" not in page.text
    assert next(held["alt"] for tag, held in page.tags if tag == "img")


def test_a_router_that_is_chosen_against_its_own_verdict_is_said_to_be() -> None:
    against = "That it is worth having is not shown (part 7): do not route yet: the teacher alone, until there are more"
    result, document = routed_as("more-data")
    assert result.redecision["after"] == "cascade"
    assert against in Page(document).text
    assert Told(routed_as("router")[0]).after == "cascade"
    assert "worth having is not shown" not in routed_as("router")[1]
    assert Told(changed(result, redecision={**result.redecision, "after": "self-host"})).unrouted == ""


# --- what it is made of ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
def test_it_needs_nothing_but_itself(ending: Any) -> None:
    page = read(ending)
    assert not page.open
    for tag, held in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form")
        assert not [name for name in held if name.startswith("on")]
        for name in ("src", "srcset"):
            assert held.get(name, "data:image/svg+xml;base64,").startswith("data:image/svg+xml;base64,")
        assert held.get("href", "demo.json") == "demo.json"
    style = re.search(r"<style>(.*?)</style>", rendered(ending), re.S)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert len(rendered(ending)) < 2e6


def test_figures_say_in_words_what_they_show() -> None:
    result, page = flips(), read(flips)
    alts = [held["alt"] for tag, held in page.tags if tag == "img"]
    assert len(alts) == 6
    assert alts[0].startswith("Requests in each hour of the day: most from 11:00 UTC, ")
    for name, one in result.decision["options"].items():
        assert (one["present_value_usd"] is None) or usd(one["present_value_usd"]) in alts[1], name
    assert "Small model, distilled 73.2%" in alts[2]
    assert "Asked for: 19 of 20 within 2 s." in alts[3]
    assert alts[4].startswith("Estimate divided by measurement: Big model: time to the first word (TTFT) 1.")
    assert alts[5].startswith(
        "Share of the certifying messages answered right, by how many are sent on to the big model:"
    )
    for svg in pictures(rendered(flips)):
        assert svg.startswith(b"<?xml")
        assert not re.search(rb'(href|src)="(?!#)', svg)


def pictures(document: str) -> Iterator[bytes]:
    for held in re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", document):
        yield base64.b64decode(held)


def test_it_is_the_same_whenever_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_figures, "svg_of", DRAW)
    assert render_report(flips()) == rendered(flips)


def test_texts_from_outside_become_no_markup() -> None:
    def spoilt(value: Any) -> Any:
        """Every label, sentence and source with what must be escaped; ids, numbers and moments as they are."""
        if isinstance(value, dict):
            kept = ("status", "verdict", "kind", "option", "name", "role", "load", "record", "what", "day", "created",
                    "precision", "weights", "engine", "model", "metric", "unit", "input", "to")  # fmt: skip
            return {key: value[key] if key in kept else spoilt(value[key]) for key in value}
        if isinstance(value, list):
            return [spoilt(one) for one in value]
        return f"{value}{HOSTILE}" if isinstance(value, str) else value

    held = flips().model_dump(mode="json")
    parts = {name: spoilt(held[name]) for name in ("traffic", "decision", "after", "machine", "labelling", "teacher")}
    training = {**held["training"], "notes": [HOSTILE], "gains": {}}
    training["table"] = {**training["table"], "task": HOSTILE, "entries": [*training["table"]["entries"]]}
    training["table"]["entries"][1] = {**training["table"]["entries"][1], "name": HOSTILE, "role": "other"}
    redecision = {**held["redecision"], "sentences": [HOSTILE]}
    benchmarks = {name: {**one, "notes": [HOSTILE]} for name, one in held["benchmarks"].items()}
    validation = {**held["validation"], "sentences": [HOSTILE]}
    seconds = {HOSTILE: 1.0}
    routing = {**held["routing"], "verdict": f"No: {HOSTILE}. Why", "reasons": ["Why"], "goal": HOSTILE,
               "score": HOSTILE, "notes": [HOSTILE]}  # fmt: skip
    routing["beside"] = {"rows": [{**row, "name": HOSTILE} for row in held["routing"]["beside"]["rows"]]}
    document = render_report(
        changed(flips(), **parts, training=training, redecision=redecision, benchmarks=benchmarks,
                validation=validation, seconds=seconds, routing=routing)
    )  # fmt: skip
    page = Page(document)
    assert not page.open
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in read(flips).tags}
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 6
    assert not [name for _, held in page.tags for name in held if name.startswith("on")]
    assert "\u202e" not in document
    assert "\u0000" not in document
    assert "&lt;script&gt;" in document


def test_text_is_escaped_once() -> None:
    assert text("a <b> & 'c'\n  d") == "a &lt;b&gt; &amp; &#x27;c&#x27; d"
    assert text(text("<")) == "&lt;"
    assert text(Markup("<b>")) == "<b>"


# --- what may be missing ---------------------------------------------------------------------------------------------


def test_an_answer_that_the_teacher_gave_itself_is_not_said_to_be_played() -> None:
    own = changed(flips(), teacher={"name": "a/b", "played_by": "", "sentence": "a/b answered itself."})
    words = Page(render_report(own)).text
    assert "a/b answered itself." in words
    assert "plays it" not in words
    assert "nothing was billed" not in words
    assert "at its endpoint, network included" in words


def test_small_settings_are_said_to_be_small() -> None:
    assert "This run had small settings" in Page(render_report(changed(flips(), small=True))).text
    assert "small settings" not in read(flips).text


def test_nothing_fitted_is_no_re_fit() -> None:
    validation = {**flips().validation, "after": [], "fitted": None, "sentences": ["before the re-fit: nothing"]}
    words = Page(render_report(changed(flips(), validation=validation))).text
    assert "Nothing was fitted." in words
    assert "after the re-fit." not in words


def test_what_is_missing_is_left_out_or_said_to_be() -> None:
    result = flips()
    gone = changed(
        result, traffic={}, labelling={}, training={"table": None}, quality={}, benchmarks={}, seconds={}, machine={},
        validation={"before": [], "after": []}, routing={}, created="one day",
    )  # fmt: skip
    page = Page(render_report(gone))
    assert not page.open
    assert "No test messages were judged, so there is no table." in page.text
    assert "Nothing was measured." in page.text
    assert "No estimate was held against a measurement." in page.text
    assert "No router was made." in page.text
    assert "The router rests on" not in page.text
    assert page.of("value")[2:] == ["–"] * 6
    assert "nan" not in page.text.split()
    assert "None" not in page.text.split()


def test_a_result_without_options_still_renders() -> None:
    empty = changed(flips(), decision={}, after={}, redecision={"before": None, "after": None, "sentences": []})
    document = render_report(empty)
    page = Page(document)
    assert headline(document) == "Choose nothing yet: no option meets what was asked for."
    assert page.of("value")[:2] == ["–", "–"]


def test_values_that_are_none_within_a_benchmark_are_dashes() -> None:
    held = flips().model_dump(mode="json")["benchmarks"]
    for one in held.values():
        for level in one["levels"]:
            for point in ("p50", "p95", "p99"):
                level["summary"]["e2e"][point]["value"] = None
            level["summary"]["requests_per_s"] = None
    page = Page(render_report(changed(flips(), benchmarks=held)))
    assert page.of("value")[4:6] == ["–", "–"]
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 5


def test_students_without_a_price_are_said_to_have_none() -> None:
    result = stands()
    none = {"status": "unpriced", "unpriced": "no price", "present_value_usd": None, "monthly_total_usd": [None]}
    options = {
        name: one if name in ("call-teacher", "call-small") else {**one, **none}
        for name, one in result.after["options"].items()
    }
    values = {name: result.redecision["present_value_usd"][name] for name in ("call-teacher", "call-small")}
    bare = changed(
        result, after={**result.after, "options": options},
        redecision={**result.redecision, "present_value_usd": values},
    )  # fmt: skip
    page = Page(render_report(bare))
    assert "No way of having a small model of your own has a known price." in page.text
    assert page.of("value")[1] == "–"


def test_a_week_of_hours_is_drawn_as_a_week() -> None:
    cycle = {"kind": "hour-of-week", "rates": [1.0 + (hour == 50) for hour in range(168)], "statement": "by hours"}
    document = render_report(changed(flips(), traffic={**flips().traffic, "cycle": cycle}))
    assert "Requests in each hour of the week: most from Wed 02:00 UTC" in document


def test_the_file_is_written_and_read_back(tmp_path: Path) -> None:
    saved = flips().save(tmp_path / "demo.json")
    target = write_report(DemoResult.load(saved), tmp_path / "report.html")
    assert target.read_text(encoding="utf-8") == rendered(flips)
    with pytest.raises(InputError, match=r"cannot write the report to .*: No such file or directory"):
        write_report(flips(), tmp_path / "no" / "report.html")


def test_nothing_that_was_right_all_the_time_breaks_an_axis() -> None:
    """Quality of 100% and of 0%, an estimate that is exact, one load: figures stay within their limits."""
    result = made(336, 336, refit=False)
    held = result.model_dump(mode="json")
    for one in held["validation"]["before"]:
        one["estimate"] = one["measured"]
    for one in held["benchmarks"].values():
        one["levels"] = one["levels"][:1]
    page = Page(render_report(changed(result, validation=held["validation"], benchmarks=held["benchmarks"])))
    assert "100.0%" in page.of("value")
