"""The seven options by hand on a small catalog, what has no price, and properties that all of them share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillcalc.catalog import Catalog
from distillcalc.errors import InputError, Retired, UnknownName
from distillcalc.estimate.context import Context
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.options import OPTIONS
from distillcalc.estimate.outcome import Outcome, at
from distillcalc.workload import Scenario
from distillcalc.workload.scenario import OPTION_IDS
from tests.estimate.tiny import ROWS, catalog, detail, outcomes, scenario, verdict

DAYS = np.array([31, 31, 28])
END = {"provider": "acme", "model": "big", "what": "shutdown", "on": "2027-01-15", "replacement": "acme/next"}


def only(option: str, case: Scenario | None = None, known: Catalog | None = None, **arrays: Any) -> Outcome:
    (found,) = outcomes(option, case, known, arrays)
    return found


def without(table: str, key: str) -> Catalog:
    """The small catalog less one row."""
    rows = {name: {k: v for k, v in keyed.items() if (name, k) != (table, key)} for name, keyed in ROWS.items()}
    return Catalog({}, {}, {}, {}, {}, {}, {}).with_overrides(rows)


def test_the_options_are_those_of_a_scenario() -> None:
    assert tuple(OPTIONS) == OPTION_IDS


def test_an_option_is_evaluated_once() -> None:
    context = Context(Inputs(scenario()), catalog())
    assert context.outcomes("self-host") is context.outcomes("self-host")


# --- call-teacher ----------------------------------------------------------------------------------------------------


def test_call_teacher_by_hand() -> None:
    # 0.012 a request, 31,000, 31,000 and 28,000 of them; nothing before the first.
    found = only("call-teacher")
    np.testing.assert_allclose(found.monthly_total_usd, [[372, 372, 336]])
    assert found.one_off_usd == {}
    assert found.label(0) == "acme/big"
    assert at(found.latency["ttft_p95"], 0) == pytest.approx(1.05)
    assert verdict(found, "context") == "pass"
    assert verdict(found, "terms") is None  # nothing is trained
    assert verdict(found, "quality") == "pass"


def test_call_teacher_at_ones_own_price() -> None:
    assert only("call-teacher", teacher_price_factor=0.5).monthly_total_usd[0, 0] == pytest.approx(186)


def test_wrong_answers_are_charged_to_every_option() -> None:
    # A teacher that is right 80% of the time: 0.2 x 31,000 x 0.01 USD.
    found = only("call-teacher", scenario({"wrong_answer_usd": 0.01}, {"teacher_quality": 0.8}))
    assert found.monthly_usd["wrong_answers"][0, 0] == pytest.approx(62)
    assert found.monthly_total_usd[0, 0] == pytest.approx(372 + 62)


def test_a_teacher_that_ends_inside_the_horizon_is_refused_or_migrated() -> None:
    known = catalog(retirements={"big": END})
    with pytest.raises(Retired, match=r'shuts down on 2027-01-15.*acme/next.*on_retirement = "migrate"'):
        only("call-teacher", known=known)
    # December at 0.012, then 0.0034; 40 hours at 100 USD in January.
    found = only("call-teacher", scenario({}, {"on_retirement": "migrate"}), known)
    np.testing.assert_allclose(found.monthly_usd["migration"], [[0, 4000, 0]])
    np.testing.assert_allclose(found.monthly_total_usd, [[31_000 * 0.012, 31_000 * 0.0034 + 4000, 28_000 * 0.0034]])
    assert verdict(found, "retirement") == "pass"


def test_a_teacher_without_a_successor_cannot_be_migrated() -> None:
    known = catalog(retirements={"big": {k: v for k, v in END.items() if k != "replacement"}})
    with pytest.raises(Retired, match="Choose another"):
        only("call-teacher", scenario({}, {"on_retirement": "migrate"}), known)


def test_a_teacher_that_outlives_the_horizon_is_left_alone() -> None:
    found = only("call-teacher", known=catalog(retirements={"big": {**END, "on": "2027-03-01"}}))
    assert "migration" not in found.monthly_usd
    assert verdict(found, "retirement") is None


def test_an_unknown_teacher_is_refused() -> None:
    with pytest.raises(UnknownName, match="Did you mean"):
        only("call-teacher", scenario({}, {"teacher": "bigg"}))
    with pytest.raises(InputError, match="has no per-token price"):
        only("call-teacher", scenario({}, {"teacher": "big"}), catalog(models={"big": {"price_refs": []}}))


# --- call-small ------------------------------------------------------------------------------------------------------


def test_call_small_by_hand() -> None:
    # 1,000 x 1 + 100 x 2 USD/M = 0.0012.
    found = only("call-small")
    assert found.label(0) == "acme/small"
    np.testing.assert_allclose(found.monthly_total_usd[0], 1.2 * DAYS)
    assert found.one_off_usd == {}
    # 0.9 of an unmeasured teacher x 0.85 claimed.
    assert at(found.quality_mean, 0) == pytest.approx(0.9 * 0.85)


def test_a_small_model_reads_the_whole_prompt() -> None:
    # The short prompt is for students that were trained on the task.
    found = only("call-small", scenario({"student_input_tokens": 10}))
    assert found.monthly_total_usd[0, 0] == pytest.approx(37.2)


def test_the_teachers_discount_is_not_the_small_models() -> None:
    assert only("call-small", teacher_price_factor=0.5).monthly_total_usd[0, 0] == pytest.approx(37.2)


def test_no_small_model_is_unpriced_and_not_free() -> None:
    found = only("call-small", known=catalog(models={"big": {"small_siblings": []}}))
    assert "names no small model beside acme/big" in found.unpriced
    assert np.isnan(found.present_value_usd(Inputs(scenario()).discount)).all()
    assert "no small model" in only("call-small", scenario({}, {"small": []})).unpriced


def test_a_small_model_without_a_price_is_unpriced() -> None:
    found = outcomes(
        "call-small", scenario({}, {"small": ["tiny", "acme/small"]}), catalog(models={"tiny": {"price_refs": []}})
    )
    assert "has no per-token price" in found[0].unpriced
    assert not found[1].unpriced


def test_a_small_model_that_ends_is_ruled_out_even_with_a_successor() -> None:
    found = only("call-small", known=catalog(retirements={"s": {**END, "model": "small"}}))
    assert verdict(found, "retirement") == "fail"


# --- hosted-open-student ---------------------------------------------------------------------------------------------


def test_hosted_open_student_by_hand() -> None:
    # 1,000 x 0.5 + 100 x 1 USD/M = 0.0006; nothing is trained.
    found = only("hosted-open-student")
    assert found.label(0) == "host/tiny"
    np.testing.assert_allclose(found.monthly_total_usd[0], 0.6 * DAYS)
    assert found.one_off_usd == {}
    assert verdict(found, "terms") is None


def test_a_student_without_a_host_is_unpriced() -> None:
    found = only("hosted-open-student", known=catalog(models={"tiny": {"price_refs": []}}))
    assert "no per-token host with a price is known for tiny" in found.unpriced


def test_the_cheapest_living_host_is_taken() -> None:
    known = catalog(
        token_prices={
            "cheap/tiny": {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.1},
            "ending/tiny": {"input_usd_per_mtok": 0.01, "output_usd_per_mtok": 0.01},
        },
        models={"tiny": {"price_refs": ["host/tiny", "cheap/tiny", "ending/tiny"]}},
        retirements={"e": {"provider": "ending", "model": "tiny", "what": "shutdown", "on": "2027-01-01"}},
    )
    labels = [found.label(0) for found in outcomes("hosted-open-student", known=known) if not found.unpriced]
    assert "cheap/tiny" in labels
    assert "ending/tiny" not in labels
    assert only("hosted-open-student", scenario({}, {"hosted": "host/tiny"}), known).label(0) == "host/tiny"


def test_counts_of_the_published_model_are_not_those_of_the_student() -> None:
    case = scenario({}, {"evaluations": {"host/tiny": {"correct": 8, "total": 8}, "tiny": {"correct": 0, "total": 8}}})
    assert at(only("hosted-open-student", case).quality_mean, 0) == pytest.approx(0.9)  # Beta(9, 1)
    assert at(only("self-host", case).quality_mean, 0) == pytest.approx(0.1)  # Beta(1, 9)


# --- hosted-fine-tune ------------------------------------------------------------------------------------------------


def tuned(key: str, case: Scenario | None = None, known: Catalog | None = None, **arrays: Any) -> Outcome:
    base = case or scenario()
    chosen = base.model_copy(update={"choices": base.choices.model_copy(update={"fine_tunes": (key,)})})
    return only("hosted-fine-tune", chosen, known, **arrays)


def test_a_fine_tune_by_the_token_by_hand() -> None:
    # Served at 2 and 4: 1,000 x 2 + 100 x 4 USD/M = 0.0024.
    found = tuned("acme-small-sft")
    np.testing.assert_allclose(found.monthly_total_usd[0], 2.4 * DAYS)
    # Labels: 5,000 / 0.9 x 0.006 = 33.33. Training: 5,000 x 1,100 x 3 = 16.5 M tokens x 4 = 66, and twice failed.
    assert {name: at(usd, 0) for name, usd in found.one_off_usd.items()} == pytest.approx(
        {"labels": 100 / 3, "training": 66, "failed_runs": 132, "human_evaluation_set": 500, "engineering": 12_000}
    )
    assert found.label(0) == "acme/small"


def test_a_fine_tune_has_its_own_short_prompt() -> None:
    found = tuned("acme-small-sft", scenario({"student_input_tokens": 100, "student_reasoning_tokens": 50}))
    # 100 x 2 + 150 x 4 USD/M = 0.0008.
    assert found.monthly_total_usd[0, 0] == pytest.approx(24.8)


def test_training_has_a_minimum_price() -> None:
    found = tuned("acme-small-sft", known=catalog(finetune_prices={"acme-small-sft": {"minimum_usd": 100}}))
    assert at(found.one_off_usd["training"], 0) == 100
    assert at(found.one_off_usd["failed_runs"], 0) == 200


def test_a_dedicated_endpoint_is_sized_by_the_load() -> None:
    # 7 replicas for 10 a second under 50 ms a token (test_capacity) at 3 USD, all hours; 16.5 M tokens x 0.5 USD.
    case = scenario({"requests_per_day": 864_000, "slo": {"tpot_p95_ms": 50}})
    found = tuned("host-8b-lora", case)
    np.testing.assert_allclose(found.monthly_total_usd[0], 7 * 3 * 24 * DAYS)
    assert at(found.one_off_usd["training"], 0) == pytest.approx(8.25)
    assert found.label(0) == "Tiny at host on toy"
    one = tuned("host-8b-lora")
    np.testing.assert_allclose(one.monthly_total_usd[0], 3 * 24 * DAYS)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"training_usd_per_mtok": None}, "no training price known"),
        ({"training_usd_per_mtok": None, "training_usd_per_hour": 5}, "priced by the training hour"),
        ({"hosting_usd_per_hour": None}, "no price known for serving"),
        ({"hosting_gpu": None}, "on a machine that the catalog does not know"),
    ],
)
def test_a_fine_tune_that_lacks_a_price_is_unpriced(row: dict[str, Any], said: str) -> None:
    found = tuned("host-8b-lora", known=catalog(finetune_prices={"host-8b-lora": row}))
    assert said in found.unpriced


def test_a_student_of_unknown_shape_is_unpriced_on_a_dedicated_endpoint() -> None:
    found = tuned("host-8b-lora", known=catalog(models={"tiny": {"shape": None}}))
    assert "the shape of Tiny at host is not in the catalog" in found.unpriced


def test_no_fine_tuning_price_at_all() -> None:
    found = only("hosted-fine-tune", scenario({}, {"students": []}), without("finetune_prices", "acme-small-sft"))
    assert "no fine-tuning price is known" in found.unpriced


def test_a_size_class_takes_every_student_that_fits_and_no_larger_one() -> None:
    known = catalog(models={"huge": {**ROWS["models"]["tiny"], "name": "Huge", "params_b": 30}})
    for students in (["tiny", "huge"], ["huge", "tiny"]):
        case = scenario({}, {"students": students, "fine_tunes": ["host-8b-lora"]})
        assert [found.label(0) for found in outcomes("hosted-fine-tune", case, known)] == ["Tiny at host on toy"]
    only_huge = scenario({}, {"students": ["huge"], "fine_tunes": ["host-8b-lora"]})
    assert only("hosted-fine-tune", only_huge, known).unpriced


def test_the_smallest_class_that_holds_the_student() -> None:
    known = catalog(finetune_prices={"host-70b-lora": {**ROWS["finetune_prices"]["host-8b-lora"], "max_params_b": 70}})
    case = scenario({}, {"teacher": "host/tiny"})  # a teacher whose provider fine-tunes by size only
    found = outcomes("hosted-fine-tune", case, known)
    assert [at(o.one_off_usd["training"], 0) for o in found] == [pytest.approx(8.25)]
    full = scenario({}, {"teacher": "host/tiny", "distillation": {"method": "full"}})
    assert only("hosted-fine-tune", full, known).unpriced  # both classes are LoRA's


def test_an_unknown_fine_tune_is_named() -> None:
    with pytest.raises(UnknownName, match="Did you mean acme-small-sft"):
        tuned("acme-small")


def closing(what: str, on: str) -> Catalog:
    return catalog(retirements={"c": {"provider": "acme", "what": what, "on": on}})


@pytest.mark.parametrize(
    ("what", "on", "before", "changes", "expected"),
    [
        ("new-customers-barred", "2026-05-07", False, 0, "fail"),
        ("new-customers-barred", "2026-05-07", True, 0, None),
        ("new-customers-barred", "2026-12-02", False, 0, None),  # in time
        ("no-new-jobs", "2026-11-30", True, 0, "fail"),
        ("no-new-jobs", "2027-01-06", True, 0, None),  # trained before
        ("no-new-jobs", "2027-01-06", True, 2, "fail"),  # cannot be trained again
        ("no-new-jobs", "2027-03-01", True, 2, None),  # closes after the horizon
    ],
)
def test_a_fine_tuning_service_that_closes(
    what: str, on: str, before: bool, changes: float, expected: str | None
) -> None:
    case = scenario({"task_changes_per_year": changes}, {"fine_tunes_before": before})
    assert verdict(tuned("acme-small-sft", case, closing(what, on)), "service") == expected
    assert verdict(tuned("host-8b-lora", case, closing(what, on)), "service") is None  # another provider's


def test_a_sweep_of_task_changes_fails_only_where_it_changes() -> None:
    found = tuned("acme-small-sft", None, closing("no-new-jobs", "2027-01-06"), task_changes_per_year=[0.0, 1.0])
    assert [verdict(found, "service", i) for i in range(2)] == ["pass", "fail"]
    assert "could not be made again" in detail(found, "service", 1)


def test_the_base_of_a_fine_tune_ends_with_it() -> None:
    known = catalog(retirements={"s": {**END, "model": "small"}})
    assert verdict(tuned("acme-small-sft", None, known), "retirement") == "fail"


# --- self-host -------------------------------------------------------------------------------------------------------


def test_self_host_by_hand() -> None:
    # Two replicas x 2 USD x 24 h, 1,000 USD of people a month (test_self_hosting); made for 12,558.48 USD:
    # labels 33.33, training 8.381 and twice that, 500 items, 120 hours.
    found = only("self-host")
    np.testing.assert_allclose(found.monthly_total_usd[0], 96 * DAYS + 1000)
    run = 5.28e17 / 3.5e13 / 3600 * 2
    assert at(found.one_off_total_usd, 0) == pytest.approx(100 / 3 + 3 * run + 500 + 12_000)
    assert at(found.quality_mean, 0) == pytest.approx(0.81)  # 0.9 x 0.9
    assert [gate.name for gate in found.gates] == ["terms", "context", "memory", "quality"]


def test_a_task_that_changes_pays_again() -> None:
    # Once a year: labels, runs and items whole, a quarter of the hours, by the day.
    found = only("self-host", scenario({"task_changes_per_year": 1}))
    again = at(found.one_off_total_usd, 0) - 0.75 * 12_000
    np.testing.assert_allclose(found.monthly_usd["re_distillation"][0], again * DAYS / 365.25)


def test_a_teacher_that_retires_is_distilled_again_that_month() -> None:
    case = scenario({}, {"on_retirement": "migrate"})
    found = only("self-host", case, catalog(retirements={"big": END}))
    again = at(found.one_off_total_usd, 0) - 0.75 * 12_000
    np.testing.assert_allclose(found.monthly_usd["re_distillation"], [[0, again, 0]])


def test_a_private_workload_may_be_served_at_home_from_cleared_labels() -> None:
    live = only("self-host", scenario({"private": True}))
    cleared = only("self-host", scenario({"private": True}, {"distillation": {"inputs": "cleared"}}))
    assert (verdict(live, "privacy"), verdict(cleared, "privacy")) == ("fail", "pass")
    for option in ("call-teacher", "call-small", "hosted-open-student", "cascade"):
        for found in outcomes(option, scenario({"private": True})):
            assert verdict(found, "privacy") == "fail"


def test_terms_bind_whoever_trains_on_the_teacher() -> None:
    rival = scenario(use={"competes_with_teacher": True})
    assert verdict(only("self-host", rival), "terms") == "fail"
    assert verdict(tuned("acme-small-sft", rival), "terms") == "fail"
    assert [verdict(found, "terms") for found in outcomes("cascade", rival)] == ["fail", None]
    assert verdict(only("call-small", rival), "terms") is None


def test_no_student_no_shape_and_no_rental_are_unpriced() -> None:
    assert "no student is named" in only("self-host", scenario({}, {"students": []})).unpriced
    assert "shape" in only("self-host", known=catalog(models={"tiny": {"shape": None}})).unpriced
    spot = scenario({}, {"serving": {"commitment": "spot"}})
    assert "no spot price" in only("self-host", spot).unpriced
    unrented = catalog(gpus={"idle": {"name": "I", "memory_gb": 9, "bandwidth_gb_s": 9, "bf16_tflops": 9}})
    idle = scenario({}, {"distillation": {"training_gpu": "idle"}})
    assert "training GPU idle" in only("self-host", idle, unrented).unpriced


# --- self-host-teacher -----------------------------------------------------------------------------------------------

OPEN = {"models": {"big": {"kind": "open", "params_b": 8, "shape": ROWS["models"]["tiny"]["shape"]}}}


def test_self_host_teacher_by_hand() -> None:
    # The same machines as the student's, nothing to make, nothing to gate but the machine and the floor.
    found = only("self-host-teacher", known=catalog(**OPEN))
    np.testing.assert_allclose(found.monthly_total_usd[0], 96 * DAYS + 1000)
    assert found.one_off_usd == {}
    assert [gate.name for gate in found.gates] == ["memory", "quality"]
    assert verdict(found, "quality") == "pass"


def test_weights_that_are_not_public_cannot_be_hosted() -> None:
    assert "not public" in only("self-host-teacher").unpriced
    shapeless = catalog(models={"big": {"kind": "open", "params_b": 8}})
    assert "not public" in only("self-host-teacher", known=shapeless).unpriced


def test_an_open_teacher_keeps_private_texts_at_home() -> None:
    found = only("self-host-teacher", scenario({"private": True}), catalog(**OPEN))
    assert verdict(found, "privacy") == "pass"


# --- cascade ---------------------------------------------------------------------------------------------------------


def test_a_cascade_pays_every_attempt() -> None:
    # The student's whole fleet, the teacher for a quarter of the requests, the verifier for each.
    case = scenario({}, {"routing": {"escalation_rate": 0.25, "verifier_usd_per_request": 0.0001}})
    found = outcomes("cascade", case)[0]
    student = only("self-host", case)
    np.testing.assert_allclose(found.monthly_usd["escalations"][0], 0.25 * 12 * DAYS)
    np.testing.assert_allclose(found.monthly_usd["verifier"][0], 0.1 * DAYS)
    np.testing.assert_allclose(found.monthly_total_usd, student.monthly_total_usd + 3.1 * DAYS)
    assert found.one_off_usd == student.one_off_usd
    assert found.label(0) == "tiny on toy, then acme/big"


def test_a_cascade_stands_on_each_student() -> None:
    found = outcomes("cascade")
    assert [o.label(0) for o in found] == ["tiny on toy, then acme/big", "host/tiny, then acme/big"]
    # 0.0006 for all and 0.2 x 0.012.
    np.testing.assert_allclose(found[1].monthly_total_usd[0], 3.0 * DAYS)


def test_escalated_requests_hit_the_cache_less_often() -> None:
    # One request each ln 2 seconds over a prefix that lives one second: half hit; a quarter of them: 1 - 0.5^(1/4).
    case = scenario(
        {"requests_per_day": 86_400 * np.log(2), "cacheable_prefix_tokens": 600, "cache_ttl_s": 1},
        {"routing": {"escalation_rate": 0.25}},
    )
    hit = 1 - 0.5**0.25
    each = 0.012 - 600 * hit * 9e-6
    np.testing.assert_allclose(
        outcomes("cascade", case)[0].monthly_usd["escalations"][0], 0.25 * each * 86_400 * np.log(2) * DAYS
    )


def test_a_cascade_that_never_escalates_costs_its_student_and_always_both() -> None:
    never, always = (outcomes("cascade", scenario({}, {"routing": {"escalation_rate": c}}))[0] for c in (0, 1))
    student, teacher = only("self-host"), only("call-teacher")
    np.testing.assert_allclose(never.monthly_total_usd, student.monthly_total_usd)
    np.testing.assert_allclose(always.monthly_total_usd, student.monthly_total_usd + teacher.monthly_total_usd)
    assert at(never.quality_mean, 0) == pytest.approx(at(student.quality_mean, 0))
    assert at(always.quality_mean, 0) == pytest.approx(at(teacher.quality_mean, 0))


def test_an_escalated_request_waits_for_both() -> None:
    case = scenario({}, {"routing": {"escalation_rate": 0.2}})
    found, student, teacher = outcomes("cascade", case)[0], only("self-host", case), only("call-teacher", case)
    # One in five is escalated: the p95 meets one, the median does not.
    assert at(found.latency["e2e_p50"], 0) == at(student.latency["e2e_p50"], 0)
    for what in ("ttft", "e2e"):
        both = at(student.latency["e2e_p95"], 0) + at(teacher.latency[f"{what}_p95"], 0)
        assert at(found.latency[f"{what}_p95"], 0) == pytest.approx(both)
    slower = max(at(student.latency["tpot_p95"], 0), at(teacher.latency["tpot_p95"], 0))
    assert at(found.latency["tpot_p95"], 0) == slower


@pytest.mark.parametrize(("rate", "waits"), [(0.05, False), (0.051, True)])
def test_a_percentile_meets_an_escalation_only_where_they_are_more_frequent(rate: float, waits: bool) -> None:
    case = scenario({}, {"routing": {"escalation_rate": rate}})
    found, student = outcomes("cascade", case)[0], only("self-host", case)
    assert (at(found.latency["e2e_p95"], 0) > at(student.latency["e2e_p95"], 0)) == waits


def test_a_cascade_behind_an_api_of_unknown_speed_is_of_unknown_speed() -> None:
    known = catalog(apis={"acme-big": {"ttft_p50_s": None}})
    case = scenario({"slo": {"e2e_p95_s": 60}}, {"routing": {"escalation_rate": 0.2}})
    assert [verdict(found, "slo") for found in outcomes("cascade", case, known)] == ["unknown", "unknown"]


def test_a_cascade_inherits_what_rules_its_student_out() -> None:
    huge = catalog(models={"tiny": {"params_b": 400}})
    assert verdict(outcomes("cascade", known=huge)[0], "memory") == "fail"
    assert outcomes("cascade", known=catalog(models={"tiny": {"shape": None}}))[0].unpriced


def test_wrong_answers_of_a_cascade_are_counted_once() -> None:
    case = scenario({"wrong_answer_usd": 1}, {"teacher_quality": 0.8, "student_retention": 0.5})
    found = outcomes("cascade", case)[0]
    wrong = 1 - at(found.quality_mean, 0)
    np.testing.assert_allclose(found.monthly_usd["wrong_answers"][0], wrong * 1000 * DAYS)


# --- all of them -----------------------------------------------------------------------------------------------------


def test_an_unknown_student_is_named() -> None:
    for option in ("self-host", "hosted-open-student", "hosted-fine-tune", "cascade"):
        with pytest.raises(UnknownName, match=r"unknown model 'tinny'\. Did you mean tiny"):
            outcomes(option, scenario({}, {"students": ["tinny"]}))


MINI = {
    "mini": {
        "name": "Mini",
        "provider": "lab",
        "kind": "open",
        "params_b": 2,
        "price_refs": ["host/mini"],
        "shape": {"layers": 4, "hidden": 64, "heads": 8, "kv_heads": 2, "head_dim": 16, "vocab": 1000},
    }
}
MANY = catalog(
    models=MINI | OPEN["models"],
    token_prices={"host/mini": {"input_usd_per_mtok": 0.2, "output_usd_per_mtok": 2}},
    gpus={"fast": {"name": "Fast", "memory_gb": 100, "bandwidth_gb_s": 4000, "bf16_tflops": 400}},
    gpu_prices={"f": {"gpu": "fast", "provider": "cloud", "commitment": "on-demand", "usd_per_gpu_hour": 5}},
)


@settings(max_examples=30, deadline=None)
@given(st.floats(1, 1e8), st.floats(1, 5000), st.floats(1, 2000), st.floats(0.05, 60), st.permutations([0, 1]))
def test_the_order_of_students_and_gpus_changes_no_candidate(
    requests: float, tokens_in: float, tokens_out: float, limit: float, order: list[int]
) -> None:
    def bills(flip: bool) -> dict[tuple[str, str], float]:
        students, gpus = ["tiny", "mini"], ["toy", "fast"]
        if flip:
            students, gpus = [students[i] for i in order], gpus[::-1]
        case = scenario(
            {
                "requests_per_day": requests,
                "input_tokens": tokens_in,
                "output_tokens": tokens_out,
                "slo": {"e2e_p95_s": limit},
            },
            {"students": students, "gpus": gpus},
        )
        context = Context(Inputs(case), MANY)
        found = [o for option in OPTIONS for o in context.outcomes(option)]
        return {
            (o.option, o.label(0)): float(np.nan_to_num(at(o.present_value_usd(context.x.discount), 0))) for o in found
        }

    assert bills(flip=False) == bills(flip=True)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(1, 1e8), min_size=2, max_size=6),
    st.floats(1, 5000),
    st.floats(1, 2000),
    st.one_of(st.none(), st.floats(0.5, 60)),
    st.floats(0, 1),
    st.floats(-0.2, 0.5),
    st.booleans(),
)
def test_more_traffic_never_costs_less(
    volumes: list[float],
    tokens_in: float,
    tokens_out: float,
    limit: float | None,
    escalation: float,
    growth: float,
    autoscaling: bool,
) -> None:
    # CORRECTIONS exempts cached and batch tiers: there are none here.
    case = scenario(
        {
            "input_tokens": tokens_in,
            "output_tokens": tokens_out,
            "growth_per_month": growth,
            "hour_of_week": "business-hours",
            "slo": {"e2e_p95_s": limit},
        },
        {
            "students": ["tiny", "mini"],
            "gpus": ["toy", "fast"],
            "routing": {"escalation_rate": escalation},
            "serving": {"autoscaling": autoscaling},
        },
    )
    context = Context(Inputs(case, {"requests_per_day": sorted(volumes)}), MANY)
    for option in OPTIONS:
        for found in context.outcomes(option):
            cost = np.broadcast_to(found.present_value_usd(context.x.discount), (len(volumes), 1))[:, 0]
            assert np.isnan(cost).all() or np.all(np.diff(cost) >= -1e-9 * cost[1:]), (option, found.label(0))


@settings(max_examples=25, deadline=None)
@given(st.floats(1e-3, 1e8), st.floats(0, 1), st.integers(1, 24), st.floats(-0.5, 0.4), st.floats(0, 12))
def test_money_is_never_negative_and_items_add_up(
    requests: float, escalation: float, months: int, growth: float, changes: float
) -> None:
    case = scenario(
        {
            "requests_per_day": requests,
            "horizon_months": months,
            "growth_per_month": growth,
            "task_changes_per_year": changes,
            "wrong_answer_usd": 0.01,
            "cacheable_prefix_tokens": 600,
            "batchable_share": 0.5,
        },
        {"routing": {"escalation_rate": escalation}, "students": ["tiny", "mini"]},
    )
    context = Context(Inputs(case), MANY)
    for option in OPTIONS:
        for found in context.outcomes(option):
            if found.unpriced:
                continue
            items = [np.broadcast_to(usd, (1, months)) for usd in found.monthly_usd.values()]
            assert all(np.all(usd >= 0) for usd in items)
            assert all(np.all(usd >= 0) for usd in found.one_off_usd.values())
            np.testing.assert_allclose(found.monthly_total_usd, sum(items), rtol=1e-12)
            assert 0 <= at(found.quality_mean, 0) <= 1
