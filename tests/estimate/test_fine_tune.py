"""Fine-tuning at a provider by hand: by the token, by the hour, without a price, and when the service closes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from distillcalc.catalog import Catalog
from distillcalc.errors import UnknownName
from distillcalc.estimate.outcome import Outcome, at
from distillcalc.workload import Scenario
from tests.estimate.tiny import DAYS, END, ROWS, catalog, detail, only, outcomes, scenario, verdict


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
    # The teacher's provider fine-tunes nothing, and the student is larger than the one size class.
    huge = catalog(models={"huge": {**ROWS["models"]["tiny"], "name": "Huge", "params_b": 30}})
    case = scenario({}, {"teacher": "host/tiny", "students": ["huge"]})
    assert "no fine-tuning price is known" in only("hosted-fine-tune", case, huge).unpriced


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
    assert verdict(tuned("host-8b-lora", case, closing(what, on)), "service") == "unknown"  # another provider's


def test_a_sweep_of_task_changes_fails_only_where_it_changes() -> None:
    found = tuned("acme-small-sft", None, closing("no-new-jobs", "2027-01-06"), task_changes_per_year=[0.0, 1.0])
    assert [verdict(found, "service", i) for i in range(2)] == ["pass", "fail"]
    assert detail(found, "service", 0).endswith("and none is needed by then")
    assert "must be made again after that" in detail(found, "service", 1)


def test_a_teacher_that_retires_after_the_closing_strands_its_fine_tunes() -> None:
    # No jobs after 20 January: a teacher that is replaced on the 15th can still be distilled again, one that is
    # replaced on 10 February cannot. A horizon that ends before is not concerned.
    moving = scenario({}, {"on_retirement": "migrate"})
    jobs = {"provider": "acme", "what": "no-new-jobs", "on": "2027-01-20"}

    def known(on: str) -> Catalog:
        return catalog(retirements={"c": jobs, "big": {**END, "on": on}})

    assert verdict(tuned("acme-small-sft", moving, known("2027-01-15")), "service") is None
    late = tuned("acme-small-sft", moving, known("2027-02-10"), horizon_months=[1, 2, 3])
    assert [verdict(late, "service", i) for i in range(3)] == ["pass", "pass", "fail"]


def test_a_closed_service_is_left_out_where_another_is_open() -> None:
    closed = closing("no-new-jobs", "2026-11-30")
    assert [found.label(0) for found in outcomes("hosted-fine-tune", None, closed)] == ["Tiny at host on toy"]
    both = catalog(
        retirements={p: {"provider": p, "what": "no-new-jobs", "on": "2026-11-30"} for p in ("acme", "host")}
    )
    assert len(outcomes("hosted-fine-tune", None, both)) == 2  # to be shown with what rules them out


def test_whether_a_provider_takes_a_student_as_a_base_is_not_known() -> None:
    assert verdict(tuned("host-8b-lora"), "service") == "unknown"
    assert "whether it takes Tiny as a base" in detail(tuned("host-8b-lora"), "service")


@pytest.mark.parametrize(("student_input", "expected"), [(32_668, "pass"), (32_669, "fail")])
def test_a_fine_tune_reads_the_students_prompt_within_its_window(student_input: float, expected: str) -> None:
    # Tiny takes 32,768 tokens, 100 of them for the answer.
    case = scenario({"student_input_tokens": student_input})
    assert verdict(tuned("host-8b-lora", case), "context") == expected


def test_the_base_of_a_fine_tune_ends_with_it() -> None:
    known = catalog(retirements={"s": {**END, "model": "small"}})
    assert verdict(tuned("acme-small-sft", None, known), "retirement") == "fail"
