"""The decision: what is recommended, what is said of the rest, and what is refused at the door."""

from __future__ import annotations

import io
import json
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from distillcalc import Catalog, DistillcalcError, Scenario, Workload, recommend, sweep
from distillcalc.decide.render import html, rows, text
from distillcalc.errors import InputError, MissingPrice, Retired, UnknownName
from distillcalc.workload.scenario import OPTION_IDS
from tests.decide.scenarios import TEACHER, scenario

KEYS = (
    "recommendation",
    "reason",
    "options",
    "break_even",
    "tipping_points",
    "gates",
    "probability_best",
    "evpi",
    "provenance",
)


def test_workload_and_choices_or_a_whole_scenario_say_the_same() -> None:
    whole = scenario()
    apart = recommend(
        whole.workload, teacher=TEACHER, students=["qwen3-4b"], gpus=["rtx-4090"], use=whole.use.model_dump()
    )
    assert apart.to_dict() == recommend(whole).to_dict()


def test_every_option_is_there_with_a_word_on_it() -> None:
    decision = recommend(scenario(choices={"student_retention": 0.97}))
    assert set(decision.options) == set(OPTION_IDS)
    for option in decision.options:
        assert decision.lost_by(option)
    assert decision.lost_by(decision.recommendation or "") == "recommended"
    assert decision.lost_by("self-host").startswith("costs $35,2")
    assert decision.lost_by("self-host-teacher").startswith("unpriced: ")


def test_an_option_without_a_price_is_never_the_cheapest() -> None:
    decision = recommend(scenario(choices={"teacher": TEACHER, "hosted": ["openrouter/qwen/qwen3-8b"], "small": []}))
    assert decision.options["call-small"].status == "unpriced"
    assert (
        decision.options["self-host-teacher"].present_value_usd
        != decision.options["self-host-teacher"].present_value_usd
    )
    assert decision.recommendation not in ("call-small", "self-host-teacher")


@given(order=st.permutations(OPTION_IDS), students=st.permutations(["qwen3-4b", "qwen3-8b", "qwen3-14b"]))
@settings(max_examples=15, deadline=None)
def test_the_order_in_which_options_and_students_are_named_does_not_matter(
    order: list[str], students: list[str]
) -> None:
    base = recommend(scenario(choices={"students": ["qwen3-4b", "qwen3-8b", "qwen3-14b"]}))
    mixed = recommend(scenario(choices={"options": order, "students": students}))
    assert mixed.recommendation == base.recommendation
    assert mixed.reason == base.reason
    for option in OPTION_IDS:
        cost, same = base.options[option].present_value_usd, mixed.options[option].present_value_usd
        assert cost == same or (cost != cost and same != same)


def test_only_the_named_options_are_compared() -> None:
    decision = recommend(scenario(choices={"options": ["call-teacher", "self-host"]}))
    assert list(decision.options) == ["call-teacher", "self-host"]


def test_the_cheapest_eligible_option_wins_and_the_next_is_runner_up() -> None:
    decision = recommend(Scenario.load("support-triage"))
    eligible = sorted(
        (e for e in decision.options.values() if e.status in ("feasible", "provisional")),
        key=lambda e: e.present_value_usd,
    )
    assert [decision.recommendation, decision.runner_up] == [e.option for e in eligible[:2]]


def test_one_that_is_more_likely_to_fail_than_to_hold_is_not_recommended_but_named() -> None:
    # gpt-6-luna is 20 times cheaper; nobody has measured it here, and P(it keeps 0.9 of the quality) is 0.26.
    # The distilled student's odds are even at best: below three to one.
    decision = recommend(scenario())
    assert decision.options["self-host"].status == "unproven"
    assert decision.options["call-small"].status == "unproven"
    assert decision.opportunity is not None
    assert decision.opportunity.option == "call-small"


def test_counts_turn_an_unproven_option_into_the_recommended_one() -> None:
    measured = scenario(
        choices={
            "evaluations": {
                "teacher": {"correct": 950, "total": 1000},
                "openai/gpt-6-luna": {"correct": 940, "total": 1000},
            }
        }
    )
    decision = recommend(measured)
    assert decision.recommendation == "call-small"
    assert decision.status == "feasible"
    assert decision.rules[0].computed == "call-small"


def test_where_nothing_passes_it_says_so_and_names_what_blocks() -> None:
    decision = recommend(scenario(workload={"quality": {"floor": 0.99}}, choices={"teacher_quality": 0.9}))
    assert decision.recommendation is None
    assert decision.status == "none"
    assert decision.reason.startswith("No option can be recommended: call-teacher: quality;")
    assert decision.payback_months() is None
    assert json.loads(decision.to_json())["recommendation"] is None
    assert "nothing that passes" in text(decision) or decision.tipping_points


def test_a_wrong_answers_price_changes_the_choice() -> None:
    # The student is 0.9 x as good as the teacher; at a dollar a mistake that is 0.09 x 10,000 USD a day.
    cheap = scenario(workload={"requests_per_day": 200_000}, choices={"student_retention": 0.95})
    dear = scenario(
        workload={"requests_per_day": 200_000, "wrong_answer_usd": 1.0}, choices={"student_retention": 0.95}
    )
    assert recommend(cheap).recommendation == "self-host"
    assert recommend(dear).recommendation == "call-teacher"


def test_the_keys_of_the_dictionary_are_the_agreed_ones_and_it_is_one_line() -> None:
    line = recommend(scenario()).to_json()
    assert "\n" not in line
    assert set(KEYS) <= set(json.loads(line))


def test_every_number_of_an_estimate_says_where_it_came_from() -> None:
    decision = recommend(Scenario.load("support-triage"))
    for estimate in decision.options.values():
        if estimate.unpriced:
            continue
        told = set(estimate.provenance)
        for item in estimate.one_off_usd:
            assert item in told or {"failed_runs": "training"}.get(item, "") in told, (estimate.option, item)
        api_items = {"input_tokens", "output_tokens", "cached_tokens", "cache_writes", "reasoning_tokens"}
        for item in estimate.monthly_usd:
            known = item in told or (item in api_items and "token_prices" in told)
            assert known or item in ("re_distillation", "wrong_answers"), (estimate.option, item)
        assert "quality" in told
        assert "latency" in told


def test_text_rich_and_html_show_the_same_rows() -> None:
    decision = recommend(scenario(workload={"name": "mail <script>alert(1)</script> & [bold]more[/bold]"}))
    plain, page = text(decision), html(decision)
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(decision)
    shown = console.export_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "[bold]more[/bold]" in shown
    for row in rows(decision):
        assert row[0] in plain
        assert row[6] in plain
        assert row[6] in page
        assert row[6] in shown
        assert row[1] in shown
    assert str(decision) == plain
    assert decision._repr_html_() == page


def test_the_cash_flow_adds_up_to_the_estimate() -> None:
    estimate = recommend(scenario()).options["self-host"]
    frame = estimate.cash_flow()
    assert len(frame) == 13
    assert frame["total_usd"].sum() == pytest.approx(estimate.present_value_usd)
    assert frame.loc[0, "total_usd"] == pytest.approx(estimate.one_off_total_usd)
    assert frame.loc[1, "month_start"] == date(2026, 12, 1)
    assert frame.loc[12, "month_start"] == date(2027, 11, 1)


def test_unit_costs_by_hand() -> None:
    # 2,263 USD over 3.65 million mails of 302 tokens, nine in ten right.
    teacher = recommend(scenario()).options["call-teacher"]
    assert teacher.usd_per_1000_requests == pytest.approx(0.62)
    assert teacher.usd_per_mtok == pytest.approx(0.00062 / 302 * 1e6)
    assert teacher.usd_per_correct_answer == pytest.approx(0.00062 / teacher.quality_mean)


def test_discounting_by_hand() -> None:
    # Half a year in, one month: 0.00062 x 10,000 x 31 USD, discounted half a month at 10% a year.
    one = recommend(scenario(workload={"horizon_months": 1, "discount_rate": 0.10}))
    assert one.options["call-teacher"].present_value_usd == pytest.approx(192.2 / 1.10 ** (0.5 / 12))


def test_a_teacher_that_retires_inside_the_horizon_is_refused_with_its_successor() -> None:
    with pytest.raises(Retired, match=r"openai/gpt-5 shuts down on 2026-12-11.*openai/gpt-6.*on_retirement"):
        recommend(scenario(choices={"teacher": "openai/gpt-5"}))


def test_or_migrated_to_it_from_the_month_on() -> None:
    # December at gpt-5's 1.25 and 10 USD would cost 0.000395 a mail; the shutdown falls in it, so all months pay
    # the successor's 2 and 10, and the 40 hours of migration.
    decision = recommend(scenario(choices={"teacher": "openai/gpt-5", "on_retirement": "migrate"}))
    teacher = decision.options["call-teacher"]
    assert teacher.monthly_usd["migration"].tolist() == [4000.0] + [0.0] * 11
    assert teacher.monthly_usd["input_tokens"][1] == pytest.approx(300 * 2e-6 * 10_000 * 31)
    gate = next(g for g in teacher.gates if g.name == "retirement")
    assert gate.verdict == "pass"
    # A student made before the shutdown must be made again with the new teacher's labels.
    assert decision.options["self-host"].monthly_usd["re_distillation"][0] > 3_000


def test_a_small_model_that_retires_is_ruled_out_not_refused() -> None:
    decision = recommend(scenario(choices={"small": ["openai/gpt-4o-mini"]}))
    assert decision.options["call-small"].status == "ruled-out"
    assert "2027-01-14" in decision.lost_by("call-small")


@pytest.mark.parametrize(
    ("choices", "error", "message"),
    [
        ({"teacher": "openai/gpt-6-soll"}, UnknownName, "Did you mean openai/gpt-6-sol"),
        ({"teacher": "gpt6"}, UnknownName, "provider/model"),
        ({"students": ["qwen3-9b"]}, UnknownName, "Did you mean qwen3"),
        ({"gpus": ["h100"]}, UnknownName, "Did you mean h100-"),
        ({"gpus": ["snapdragon-8-elite"], "options": ["self-host"]}, None, "no on-demand price"),
        ({"serving": {"gpu_provider": "nobody"}}, None, "no on-demand price from nobody"),
        ({"fine_tunes": ["together-17b"]}, UnknownName, "Did you mean together-16b-lora"),
        ({"options": ["selfhost"]}, InputError, "choices.options"),
        ({"escalation": 0.3}, InputError, "unknown field choices.escalation"),
        ({"routing": {"escalation_rate": 1.4}}, InputError, "Got 1.4"),
    ],
)
def test_bad_choices_say_what_would_be_right(
    choices: dict[str, object], error: type[DistillcalcError] | None, message: str
) -> None:
    if error is None:
        assert message in recommend(scenario(choices=choices)).lost_by("self-host")
        return
    with pytest.raises(error) as caught:
        recommend(scenario(choices=choices))
    assert message in str(caught.value)


def test_a_teacher_without_any_price_is_refused() -> None:
    with pytest.raises((MissingPrice, InputError), match="price"):
        recommend(scenario(choices={"teacher": "google/gemma-3"}))


def test_a_contract_price_stands_over_the_list_price() -> None:
    half = scenario().model_copy(
        update={"overrides": {"token_prices": {TEACHER: {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 5.0}}}}
    )
    decision = recommend(half)
    assert decision.options["call-teacher"].present_value_usd == pytest.approx(2263 / 2)
    assert decision.options["call-teacher"].provenance["token_prices"].kind == "given"


def test_recommend_wants_a_workload_and_a_teacher() -> None:
    traffic = Workload(requests_per_day=10, input_tokens=10, output_tokens=10)
    with pytest.raises(InputError, match="teacher="):
        recommend(traffic)
    with pytest.raises(InputError, match="Got dict"):
        recommend({"requests_per_day": 10}, teacher=TEACHER)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="already holds its choices"):
        recommend(scenario(), teacher=TEACHER)


def test_old_prices_and_missing_measurements_are_pointed_out() -> None:
    catalog = Catalog.load(
        {
            "gpu_prices": {
                "old": {
                    "gpu": "rtx-4090",
                    "provider": "x",
                    "commitment": "on-demand",
                    "usd_per_gpu_hour": 0.01,
                    "checked": date(2020, 1, 1),
                }
            }
        }
    )
    warnings = recommend(scenario(), catalog=catalog).warnings
    assert any("2020-01-01" in warning for warning in warnings)
    assert any("measured" in warning for warning in warnings)


def test_a_cascade_whose_student_no_machine_serves_is_never_recommended() -> None:
    # A heavy tail: no batch of the student meets 8 s at p99, and a rare escalation would hide it.
    heavy = scenario(
        workload={
            "requests_per_day": 300_000,
            "output_tokens": {"p50": 30, "p95": 60, "p99": 3_000},
            "slo": {"e2e_p99_s": 8},
        },
        choices={
            "students": ["qwen3.5-2b"],
            "gpus": ["t4"],
            "routing": {"escalation_rate": 0.002},
            "student_retention": 0.99,
        },
    )
    decision = recommend(heavy)
    assert decision.options["cascade"].status == "ruled-out"
    assert decision.recommendation != "cascade"
    assert decision.runner_up != "cascade"
    assert "self-host" not in decision.break_even
    assert "nan" not in str(decision)


def test_the_recommendation_is_the_one_that_a_sweep_of_one_row_gives() -> None:
    for name in ("support-triage", "email-classification", "code-completion", "private-notes"):
        loaded = Scenario.load(name)
        rows = sweep(loaded, {"requests_per_day": [loaded.workload.requests_per_day]})
        recommended = rows[rows["recommended"]]["option"].tolist()
        assert recommended == [recommend(loaded).recommendation]


def test_a_resold_model_keeps_its_makers_terms() -> None:
    competing = {"kind": "generative", "competes_with_teacher": True}
    for teacher in ("openrouter/openai/gpt-6-sol", "azure/gpt-5.1"):
        decision = recommend(scenario(workload={"horizon_months": 1}, choices={"teacher": teacher}, use=competing))
        gate = next(g for g in decision.options["self-host"].gates if g.name == "terms")
        assert gate.verdict == "fail", teacher


def test_what_is_worth_measuring_is_what_saves_most_on_average() -> None:
    # gpt-6-luna saves 2,150 USD at odds of 0.26; the student saves more at better odds, at this volume.
    decision = recommend(scenario(workload={"requests_per_day": 2_000_000}))
    assert decision.recommendation == "call-teacher"
    cost = decision.options["call-teacher"].present_value_usd
    assert decision.opportunity is not None
    gain = decision.opportunity.odds * (cost - decision.opportunity.present_value_usd)
    for group in decision.candidates.values():
        for estimate in group:
            if estimate.status == "unproven":
                assert estimate.odds * (cost - estimate.present_value_usd) <= gain + 1e-6
