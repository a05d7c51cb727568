"""Three sentences: what to choose, what would change it, what to do first; no number without its unit."""

from __future__ import annotations

import re

import pytest

from distillcalc import Scenario, Workload, recommend
from distillcalc.decide import explain
from distillcalc.decide.explain import far_from_break_even, measure_first
from distillcalc.decide.render import notes
from distillcalc.estimate.inputs import SPECS
from distillcalc.workload.files import load_scenario
from tests.decide.test_uncertainty import near

UNITS = (
    r"months?|years?|days?|draws|items|requests|tokens|hours?|a month|a year|now|so far|times?|%|labels|"
    r"times the|USD|ms|s\b|an hour"
)


def close_call() -> Scenario:
    plain = near().to_dict()
    plain["workload"]["requests_per_day"] = {"lognormal": {"mean": 40_000, "p95": 90_000}}
    return Scenario.from_dict(plain)


def sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.]) (?=[A-Z])", text) if part]


@pytest.mark.parametrize(
    "name", ["support-triage", "email-classification", "private-notes", "code-completion", "near-break-even"]
)
def test_samples_are_explained_in_three_sentences(name: str) -> None:
    text = explain(recommend(load_scenario(name)))
    assert len(sentences(text)) == 3, text
    assert "nan" not in text
    assert "None" not in text
    assert "_" not in text.replace("huggingface_nscale", "").replace("_per_", "_"), text


def test_every_number_has_its_unit() -> None:
    decision = recommend(close_call(), draws=1_024)
    text = explain(decision)
    bare = text.replace(decision.options[decision.recommendation or ""].label, "")
    for value in decision.uncertainty.sample_values:
        bare = bare.replace(value.model, "")
    for found in re.finditer(r"(\$?)(\d[\d,.]*\d|\d)(%?)([MB]?)", bare):
        money, percent = found[1], found[3]
        after = bare[found.end() : found.end() + 24]
        about_odds = "probability" in bare[max(found.start() - 60, 0) : found.start()]
        assert money or percent or about_odds or re.match(rf" ?(more )?(labelled )?({UNITS})", after), (
            found[0],
            after,
            text,
        )


def test_near_break_even_says_what_to_measure_first() -> None:
    decision = recommend(close_call(), draws=2_048)
    chance = decision.uncertainty.probability_best[decision.recommendation or ""]
    assert 0.3 < chance < 0.7
    assert not far_from_break_even(decision.uncertainty)
    assert measure_first(decision.uncertainty)
    assert "Find out first: " in explain(decision)
    assert "find out first: " in str(decision)


def test_far_from_break_even_says_so_in_one_line() -> None:
    plain = near(floor=0.8).to_dict()
    plain["workload"]["requests_per_day"] = {"lognormal": {"mean": 5_000_000, "p95": 8_000_000}}
    decision = recommend(Scenario.from_dict(plain), draws=1_024)
    assert decision.recommendation == "self-host"
    assert far_from_break_even(decision.uncertainty)
    assert measure_first(decision.uncertainty) == ""
    assert "how sure: far from break-even: self-host is best in 100.0% of draws" in str(decision)
    assert "Nothing that could be found out is worth waiting for" in explain(decision)


def test_every_input_that_may_tip_has_words() -> None:
    from distillcalc.decide.tipping import SEARCHED

    assert set(SEARCHED) <= set(SPECS)
    text = explain(recommend(load_scenario("support-triage")))
    assert "requests_per_day" not in text


def test_an_option_that_only_an_assumed_tail_rules_out_is_worth_measuring() -> None:
    # At 5 s, of which p95 is twice the median: calling would else be the cheapest that passes.
    desk = Workload(
        name="desk", requests_per_day=700, input_tokens=1_500, output_tokens={"mean": 110, "p95": 220},
        slo={"e2e_p95_s": 5.0},
    )  # fmt: skip
    use = {"kind": "generative", "competes_with_teacher": False}
    decision = recommend(desk, teacher="openai/gpt-6-sol", students=["qwen3-4b"], use=use)
    assert decision.recommendation is None
    said = [sentence for heading, sentence in notes(decision) if heading == "worth measuring"]
    assert any(
        sentence.startswith("call-teacher is ruled out by its latency alone: E2E p95 6.07 s against 5 s (the tail is")
        for sentence in said
    )
    tails = {"ttft_p95_s": 1.4, "tpot_p95_ms": 16.0}
    measured = recommend(decision.scenario.with_overrides({"apis": {"openai/gpt-6-sol": tails}}))
    assert measured.recommendation == "call-teacher"
    assert not any("by its latency alone" in sentence for _, sentence in notes(measured))
