"""Each of the article's six scenario rows: a workload for which it holds, and one for which it fails."""

from __future__ import annotations

import pytest

from distillcalc import Decision, Scenario, recommend
from distillcalc.decide.rules import RULES, RuleCheck
from distillcalc.estimate.inputs import with_inputs
from tests.decide.scenarios import scenario


def check(decision: Decision, rule: str) -> RuleCheck:
    return next(found for found in decision.rules if found.rule.id == rule)


def test_the_six_rows_are_the_articles() -> None:
    assert [rule.id for rule in RULES] == [
        "below-1k",
        "1k-to-100k",
        "above-100k",
        "latency-critical",
        "private",
        "changes-often",
    ]


@pytest.mark.parametrize(
    ("volume", "rule"), [(999, "below-1k"), (1_000, "1k-to-100k"), (100_000, "1k-to-100k"), (100_001, "above-100k")]
)
def test_exactly_one_volume_row_applies(volume: int, rule: str) -> None:
    decision = recommend(scenario(workload={"requests_per_day": volume}))
    assert [found.rule.id for found in decision.rules] == [rule]


def test_below_1k_holds_for_short_mails() -> None:
    # 500 mails a day cost 0.00062 x 500 x 365 = 113 USD a year; nobody builds anything for that.
    found = check(recommend(scenario(workload={"requests_per_day": 500})), "below-1k")
    assert found.agrees is True
    assert found.computed == "call-teacher"


def test_nothing_is_said_of_calling_where_nothing_passes() -> None:
    none = recommend(scenario(workload={"requests_per_day": 500, "slo": {"e2e_p95_s": 0.001}}))
    assert none.recommendation is None
    found = check(none, "below-1k")
    assert found.agrees is None
    assert found.verdict == "leaves it open"


def test_considering_is_told_from_doing() -> None:
    # From the volume on at which an own student pays it agrees; below, that it may pay within the range.
    triage = Scenario.load("support-triage")
    starts = recommend(triage).break_even["self-host"].requests_per_day[0][0]
    assert 1_000 < starts < 100_000
    assert check(recommend(triage), "1k-to-100k").verdict == "agrees"
    below = check(recommend(with_inputs(triage, {"requests_per_day": starts * 0.9})), "1k-to-100k")
    assert below.computed == "call-teacher"
    assert below.agrees is True
    assert below.verdict == "agrees that it may pay within that range; here another option is recommended"


def test_below_1k_fails_for_long_prompts_that_training_makes_short() -> None:
    # 900 a day with a 60,000-token handbook in the prompt: 0.12 USD x 900 x 365 = 39,420 USD a year, against
    # 12,500 once and 24,965 a year for a student that has the handbook in its weights.
    long = scenario(
        workload={"requests_per_day": 900, "input_tokens": 60_000, "student_input_tokens": 400},
        choices={"student_retention": 0.97},
    )
    found = check(recommend(long), "below-1k")
    assert found.agrees is False
    assert found.computed == "self-host"


def test_consider_holds_where_the_student_starts_to_pay_in_the_band() -> None:
    # Support triage: 52,000 USD a year for calls at 40,000 a day; the student starts to pay at about 24,000.
    found = check(recommend(Scenario.load("support-triage")), "1k-to-100k")
    assert found.agrees is True


def test_consider_fails_where_nothing_in_the_band_pays() -> None:
    # The article's own example: the student starts to pay at about 149,000 mails a day, beyond the band.
    found = check(recommend(Scenario.load("email-classification")), "1k-to-100k")
    assert found.agrees is False
    assert "above 149,000 requests a day" in found.why


def test_above_100k_holds_for_long_prompts() -> None:
    found = check(recommend(Scenario.load("code-completion")), "above-100k")
    assert found.agrees is True
    assert found.computed == "self-host"


def test_above_100k_fails_for_short_mails() -> None:
    # 110,000 mails a day cost 0.00062 x 110,000 x 365 = 24,893 USD a year, less than the 37,467 of a student.
    found = check(recommend(scenario(workload={"requests_per_day": 110_000})), "above-100k")
    assert found.agrees is False
    assert found.computed == "call-teacher"


FAST = {"slo": {"e2e_p95_s": 0.2}}


def test_latency_critical_holds_for_short_answers() -> None:
    # Two tokens out: the hosted model's first token alone takes 1.8 s at p95, the student's whole answer 0.1 s.
    decision = recommend(scenario(workload=FAST, choices={"student_retention": 0.97}))
    found = check(decision, "latency-critical")
    assert found.agrees is True
    assert found.computed == "self-host"
    assert decision.options["self-host"].latency["e2e_p95_s"] <= 0.2
    assert decision.options["call-teacher"].status == "ruled-out"


def test_latency_critical_fails_for_long_answers() -> None:
    # 400 tokens in 200 ms are 0.5 ms a token; reading 8 GB of weights takes 10 ms. No machine of the catalog does it.
    decision = recommend(scenario(workload={**FAST, "output_tokens": 400}, choices={"gpus": None}))
    found = check(decision, "latency-critical")
    assert found.agrees is False
    assert found.computed is None
    assert "floor of this machine" in decision.lost_by("self-host")


def test_private_holds_where_the_training_prompts_may_leave() -> None:
    private = scenario(
        workload={"private": True},
        choices={"distillation": {"inputs": "synthetic"}, "student_retention": 0.97},
    )
    found = check(recommend(private), "private")
    assert found.agrees is True
    assert found.computed == "self-host"


def test_private_fails_where_labelling_would_send_live_prompts() -> None:
    # Serving at home is not enough: the teacher's labels are bought with live texts, which leave for its API.
    decision = recommend(scenario(workload={"private": True}, choices={"student_retention": 0.97}))
    found = check(decision, "private")
    assert found.agrees is False
    assert decision.recommendation is None
    assert "labelling sends live prompts to openai/gpt-6-sol" in decision.lost_by("self-host")


def test_private_fails_where_an_open_teacher_can_be_hosted_cheaper_than_a_student_proves() -> None:
    # Nothing need be distilled where the big model itself runs at home and the student is not good enough.
    home = scenario(
        workload={"private": True, "quality": {"floor": 0.9}},
        choices={
            "teacher": "llama-3.3-70b",
            "gpus": None,
            "distillation": {"inputs": "cleared"},
            "evaluations": {"teacher": {"correct": 970, "total": 1000}, "qwen3-4b": {"correct": 850, "total": 1000}},
        },
    )
    found = check(recommend(home), "private")
    assert found.computed == "self-host-teacher"
    assert found.agrees is False


def test_changes_often_holds_at_a_modest_volume() -> None:
    # At 200,000 mails a day, 45,260 USD a year, an own student pays; twelve changes at 502 + 3,000 USD undo it.
    steady = scenario(workload={"requests_per_day": 200_000}, choices={"student_retention": 0.97})
    assert recommend(steady).recommendation == "self-host"
    moving = scenario(
        workload={"requests_per_day": 200_000, "task_changes_per_year": 12}, choices={"student_retention": 0.97}
    )
    found = check(recommend(moving), "changes-often")
    assert found.agrees is True
    assert found.computed == "call-teacher"


def test_changes_often_fails_at_a_large_volume() -> None:
    # 2 million mails a day cost 452,600 USD a year; twelve repeats at about 3,500 USD are 42,000.
    moving = scenario(
        workload={"requests_per_day": 2_000_000, "task_changes_per_year": 12}, choices={"student_retention": 0.97}
    )
    found = check(recommend(moving), "changes-often")
    assert found.agrees is False
    assert found.computed == "self-host"
    assert "12 times a year" in found.why


def test_a_check_says_what_the_rule_says_and_whether_it_holds() -> None:
    found = check(recommend(scenario(workload={"requests_per_day": 110_000})), "above-100k")
    assert str(found).startswith("rule of thumb, more than 100,000 requests a day: distill; it disagrees. ")
    assert found.to_dict()["rule"] == "above-100k"
