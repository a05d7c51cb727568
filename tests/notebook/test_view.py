"""What the panel shows, without a panel: the verdict's words, its tone, its tables and pictures."""

from __future__ import annotations

import html
import re
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillcalc import Scenario, recommend
from distillcalc.decide.words import usd
from distillcalc.notebook.controls import moved
from distillcalc.notebook.presets import PRESETS, preset
from distillcalc.notebook.tables import inputs_that_differ, title
from distillcalc.notebook.view import FIRST, REST, SURE, Quick, View, quick, render, verdict_words

TRIAGE = preset("support-triage")


def words(fragment: str) -> str:
    """What a reader sees of a piece of HTML."""
    return html.unescape(re.sub(r"<[^>]*>", " ", fragment))


def changed(scenario: Scenario, **workload: Any) -> Scenario:
    plain = scenario.to_dict()
    plain["workload"] |= workload
    return Scenario.from_dict(plain)


def test_the_verdict_says_what_the_readme_says() -> None:
    # README: "pays back in 12.2 months"; "cheaper than calling the big model above 24,100 requests a day".
    said = (
        "Distill and self-host (qwen3-4b on rtx-4090): pays back in 12.2 months; calling the big model wins below "
        "24,100 requests a day."
    )
    assert quick(TRIAGE).verdict == said
    assert render(TRIAGE).verdict == said


def test_below_its_turn_the_verdict_is_the_other_way_round() -> None:
    said = quick(moved(TRIAGE, {"requests_per_day": 6_200})).verdict
    assert said.startswith("Call the big model (openai/gpt-6-sol): $16,0")
    assert said.endswith("over 24 months; distilling and self-hosting wins above 24,100 requests a day.")


@pytest.mark.parametrize("name", PRESETS)
def test_the_quick_verdict_is_that_of_the_whole_view(name: str) -> None:
    fast, whole = quick(preset(name)), render(preset(name))
    assert fast.verdict == whole.verdict
    assert fast.recommendation == whole.recommendation
    assert whole.decision is not None
    for option, cost in fast.monthly_usd.items():
        assert cost == pytest.approx(float(whole.decision.options[option].monthly_total_usd[0]))


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(sorted(PRESETS)),
    st.floats(10, 1e7),
    st.floats(0.05, 20),
    st.floats(0.05, 20),
)
def test_quick_recommends_what_recommend_does(name: str, volume: float, teacher: float, gpu: float) -> None:
    scenario = moved(
        preset(name), {"requests_per_day": volume, "teacher_price_factor": teacher, "gpu_price_factor": gpu}
    )
    assert quick(scenario).recommendation == recommend(scenario).recommendation


def test_an_open_condition_is_amber_and_so_is_a_choice_that_is_seldom_best() -> None:
    assert quick(TRIAGE).tone == "clear"
    assert quick(preset("rag-answers")).tone == "unsure"  # provisional
    view = render(preset("code-completion"))
    assert view.decision is not None
    assert view.decision.status == "feasible"
    assert view.chance < SURE
    assert view.tone == "unsure"
    assert 'class="dc-verdict dc-unsure"' in view.verdict_html
    assert f"best in {view.chance:.0%} of 2,048 draws" in view.verdict_html


def test_where_nothing_passes_it_says_what_holds_back_and_the_cheapest_way_on() -> None:
    view = render(changed(TRIAGE, slo={"e2e_p95_s": 0.001}))
    assert view.tone == quick(view.scenario).tone == "none"
    assert view.verdict.startswith("Nothing can be recommended: every option is held back (")
    assert "slo" in view.verdict
    assert view.decision is not None
    assert view.verdict.endswith(f"The cheapest way on: {view.decision.relaxations[0]}.")
    assert quick(view.scenario).recommendation is None


def test_what_is_wrong_is_a_sentence_and_not_an_exception() -> None:
    plain = TRIAGE.to_dict()
    plain["choices"]["teacher"] = "openai/gpt-6-soll"
    unknown = Scenario.from_dict(plain)
    for found in (quick(unknown), render(unknown)):
        assert "gpt-6-soll" in found.error
        assert "Did you mean" in found.error
    assert quick(unknown).verdict == ""
    assert quick(unknown).to_html().startswith('<div class="dc-verdict dc-none">')
    assert "gpt-6-soll" in render(unknown).to_html()


def test_any_other_error_is_not_hidden() -> None:
    with pytest.raises(AttributeError):
        quick(TRIAGE, catalog=object())  # type: ignore[arg-type]


def test_uncertain_inputs_are_drawn_in_the_view_and_at_medians_in_a_hurry() -> None:
    rough = preset("near-break-even")
    fast, whole = quick(rough), render(rough, draws=256)
    assert whole.decision is not None
    assert whole.decision.drawn is not None
    assert fast.recommendation is not None
    assert "of 256 draws" in whole.sure
    assert whole.tone == "unsure"


def test_a_choice_that_the_medians_do_not_make_says_so() -> None:
    view = render(TRIAGE)
    assert view.decision is not None
    from distillcalc.notebook.turning import Turn

    said = verdict_words(view.decision.options, "self-host", Turn(float("nan"), "call-teacher", False), TRIAGE)
    assert said.endswith("; with every input at its median calling the big model would be recommended.")


def test_everything_is_shown_and_every_number_says_where_it_comes_from() -> None:
    view = render(TRIAGE)
    assert view.decision is not None
    for part in (*FIRST, *REST):
        assert bool(getattr(view, part)) == (part != "difference_html"), part
    seen = words(view.options_html)
    for option in view.decision.options.values():
        assert option.label in seen
        if not option.unpriced:
            assert usd(option.present_value_usd) in seen
            assert str(option.provenance["quality"]) in seen
    assert str(view.decision.options["self-host"].provenance["gpus_busy"]) in seen
    assert view.options_html.count('tabindex="0"') >= 35  # reached by keyboard


def test_gates_stand_with_their_reasons_and_sources() -> None:
    view = render(TRIAGE)
    assert view.decision is not None
    seen = words(view.gates_html)
    for option in view.decision.options.values():
        for gate in option.gates:
            assert gate.detail in seen
            assert gate.source in seen
    assert "unpriced" in seen


def test_a_price_that_was_checked_more_than_thirty_days_ago_is_amber() -> None:
    decision = recommend(TRIAGE)
    days = {p.checked for p in decision.options["self-host"].provenance.values() if p.checked}
    fresh = View(TRIAGE, decision, today=min(days) + timedelta(days=30)).options_html
    old = View(TRIAGE, decision, today=max(days) + timedelta(days=31)).options_html
    assert "dc-old" not in row_of(fresh, "Distill and self-host")
    assert row_of(old, "Distill and self-host").count("dc-old") == 4  # once, a month, per 1,000, in all
    assert "more than 30 days ago" in old


def row_of(table: str, name: str) -> str:
    return next(row for row in table.split("<tr") if name in row)


def test_what_would_change_it_is_ranked_as_the_decision_ranks_it() -> None:
    view = render(TRIAGE)
    assert view.decision is not None
    lines = [words(line).strip() for line in view.mind_html.split("<li>")[1:]]
    assert len(lines) == min(len(view.decision.tipping_points), 7)
    assert lines[0] == "what a wrong answer costs above $0.048 ($0.00 now): Call the big model"
    assert lines[1] == "the volume below 24,100 requests a day (40,000 requests a day now): Call the big model"
    growth = next(line for line in lines if line.startswith("growth"))
    assert re.fullmatch(r"growth below 0\.9\d% a month \(5\.00% a month now\): Call the big model", growth)
    assert "your price of the big model below 0.603 times the list price (1 now): Call the big model" in lines


def test_the_articles_rule_stands_beside_it() -> None:
    seen = words(render(TRIAGE).rules_html)
    assert "1,000 to 100,000 requests a day:  consider distilling ." in seen
    assert "agrees" in seen


def test_the_pictures_show_the_decisions_own_numbers() -> None:
    view = render(TRIAGE)
    assert view.decision is not None
    for e in view.decision.options.values():
        if not e.unpriced:
            said = f"{title(e.option)} {usd(float(e.monthly_total_usd[0]))}"
            assert html.escape(said) in view.monthly_svg
    chosen = view.decision.options["self-host"]
    ends_at = f"Distill and self-host {usd(chosen.present_value_usd)}"  # the line ends at the present value
    assert ends_at in view.cumulative_svg
    assert "pays back in 12.2 months" in view.cumulative_svg
    assert f"Distill and self-host {chosen.latency['e2e_p95_s']:.3g} s" in view.latency_svg
    assert "against a limit of 5 s" in view.latency_svg


def test_a_missed_limit_is_said_without_colour() -> None:
    view = render(changed(TRIAGE, slo={"e2e_p95_s": 4.0}))
    assert "Call the big model 4.52 s (misses)" in view.latency_svg


def test_other_objectives_and_none_are_drawn_too() -> None:
    first = render(changed(TRIAGE, slo={"tpot_p95_ms": 20.0})).latency_svg
    assert "each further token, p95 against a limit of 20 ms" in first
    assert "limit" not in words(render(changed(TRIAGE, slo={})).latency_svg)


def test_the_difference_to_a_pinned_scenario() -> None:
    now = moved(TRIAGE, {"gpu_price_factor": 1.2})
    view = render(now, pinned=TRIAGE)
    assert view.decision is not None
    a, b = recommend(TRIAGE), view.decision
    seen = words(view.difference_html)
    cost = b.options["self-host"].present_value_usd - a.options["self-host"].present_value_usd
    assert cost > 0
    assert f"+{usd(cost)}" in seen
    assert "GPU price [× list] 1 to 1.2" in seen
    assert "+0 ms" in seen
    assert "+0.000" in seen
    assert "the same choice" in seen
    back = words(render(TRIAGE, pinned=now).difference_html)
    assert f"−{usd(cost)}" in back  # a true minus


def test_names_from_outside_are_escaped_everywhere() -> None:
    plain = TRIAGE.to_dict()
    plain["choices"]["teacher"] = "acme/<img src=x onerror=alert(1)>"
    plain["workload"]["name"] = "<script>alert(1)</script>"
    plain["workload"]["quality"] = {"metric": "<b>accuracy</b>", "floor": 0.9}
    plain["overrides"] = {
        "token_prices": {plain["choices"]["teacher"]: {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 4.0}}
    }
    scenario = Scenario.from_dict(plain)
    view = render(scenario, pinned=TRIAGE)
    assert not view.error
    shown = view.to_html() + quick(scenario).to_html()
    assert "<script" not in shown
    assert "<img" not in shown
    assert "<b>accuracy" not in shown
    assert "&lt;img src=x onerror=alert(1)&gt;" in shown


def test_the_same_scenario_is_the_same_view() -> None:
    assert render(TRIAGE, today=date(2026, 12, 1)).to_html() == render(TRIAGE, today=date(2026, 12, 1)).to_html()
    assert isinstance(quick(TRIAGE), Quick)


def test_simulated_fleets_are_said_to_be() -> None:
    assert "fleets sized by formula" in render(TRIAGE).sure
    view = View(TRIAGE, recommend(preset("email-classification"), fidelity="simulated"))
    assert "fleets simulated" in view.sure


def test_the_notes_call_options_as_the_table_does() -> None:
    seen = words(render(TRIAGE).notes_html)
    assert "break-even of Distill and self-host : pays back in 12.2 months" in seen
    assert "worth measuring : Student first, teacher for the rest (" in seen


def test_a_change_beyond_the_third_digit_is_told_with_more_of_them() -> None:
    a = recommend(moved(TRIAGE, {"requests_per_day": 40_000.0}))
    b = recommend(moved(TRIAGE, {"requests_per_day": 40_013.0}))
    assert inputs_that_differ(a, b) == ["Requests a day 40,000 to 40,013"]


def test_what_is_open_is_told_before_the_odds() -> None:
    view = render(preset("rag-answers"))
    assert view.decision is not None
    assert view.decision.status == "provisional"
    assert view.sure.startswith(view.decision.conditions[0])
    assert "best in" in view.sure
