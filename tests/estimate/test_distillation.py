"""What a student costs to make: FLOPs, hours, labels and people by hand, and making it again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from distillcalc.catalog import Catalog
from distillcalc.errors import MissingPrice, UnknownName
from distillcalc.estimate.distillation import (
    OneOff,
    gpu_hours,
    labelling_usd,
    people,
    repeat_usd,
    self_trained,
    training_flops,
    training_tokens,
    with_repeats,
)
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.outcome import at
from distillcalc.provenance import assumed
from distillcalc.workload import Scenario
from tests.estimate.tiny import catalog, scenario

LABELS = (np.array([[7.0]]), assumed("a test"))


def made(
    case: Scenario | None = None, known: Catalog | None = None, teacher: str | None = None, **arrays: Any
) -> OneOff:
    rows = known or catalog()
    row = rows.model(teacher) if teacher else None
    return self_trained(Inputs(case or scenario(), arrays), rows, LABELS, rows.model("tiny"), row)


# --- compute ---------------------------------------------------------------------------------------------------------


def test_six_flops_a_parameter_and_token() -> None:
    # Kaplan et al., arXiv:2001.08361: 6 x 7 x 10^9 x 10^9 = 4.2 x 10^19.
    assert training_flops(7, np.array(1e9)) == pytest.approx(42e18)


def test_lora_saves_the_gradient_of_the_frozen_weights() -> None:
    assert training_flops(7, np.array(1e9), method="lora") == pytest.approx(28e18)


@pytest.mark.parametrize(("method", "student"), [("full", 42e18), ("lora", 28e18)])
def test_a_white_box_teacher_reads_every_token_once(method: str, student: float) -> None:
    # 2 x 70 x 10^9 x 10^9 = 1.4 x 10^20 on top.
    found = training_flops(7, np.array(1e9), method=method, teacher_active_params_b=70)
    assert found == pytest.approx(student + 140e18)


def test_hours_of_a_7b_on_an_h100() -> None:
    # 4.2 x 10^19 / (989 x 10^12 x 0.35) = 121,335 s = 33.70 hours.
    h100 = Catalog.load().gpu("h100-sxm")
    assert gpu_hours(np.array(42e18), h100.bf16_tflops, 0.35) == pytest.approx(33.704, abs=1e-3)


def test_llama_2_7b_took_its_published_hours() -> None:
    # Llama 2 (arXiv:2307.09288, table 2): 7B on 2.0 x 10^12 tokens took 184,320 A100 hours. 6 P T = 8.1 x 10^22, of
    # which an A100's 312 TFLOPS would make 72,000 hours: an MFU of 0.39.
    flops = training_flops(6.74, np.array(2.0e12))
    assert gpu_hours(flops, 312, 0.39) == pytest.approx(184_320, rel=0.05)


def test_tokens_of_a_run() -> None:
    # 5,000 labels x (1,000 in + 100 out + 20 thought) x 3 epochs.
    x = Inputs(scenario({"student_reasoning_tokens": 20}))
    assert at(training_tokens(x), 0) == 5000 * 1120 * 3
    short = Inputs(scenario({"student_input_tokens": 300}), {"epochs": [1, 2]})
    assert training_tokens(short).ravel().tolist() == [5000 * 400, 5000 * 400 * 2]


# --- labels ----------------------------------------------------------------------------------------------------------


def labels(case: Scenario, known: Catalog | None = None, **arrays: Any) -> float:
    return at(labelling_usd(Inputs(case, arrays), known or catalog(), "acme/big")[0], 0)


def test_labels_by_hand() -> None:
    # 900 / 0.9 yield x 2 samples = 2,000 calls at the batch price of 5 x 1,000 + 10 x 100 USD/M = 0.006.
    plan = {"labels": 900, "filter_yield": 0.9, "samples_per_prompt": 2}
    assert labels(scenario({}, {"distillation": plan})) == pytest.approx(12)
    # At the standard price, 0.012; thinking 50 tokens adds 0.001; at 80% of the list price.
    standard = scenario({"reasoning_tokens": 50}, {"distillation": {**plan, "label_processing": "standard"}})
    assert labels(standard) == pytest.approx(26)
    assert labels(standard, teacher_price_factor=0.8) == pytest.approx(20.8)


def test_labels_pay_the_standard_price_where_no_batch_price_is_known() -> None:
    bare = catalog(token_prices={"acme/big": {"input_usd_per_mtok": 10, "output_usd_per_mtok": 20}})
    usd, source = labelling_usd(Inputs(scenario({}, {"distillation": {"labels": 900}})), bare, "acme/big")
    assert at(usd, 0) == pytest.approx(1000 * 0.012)
    assert "standard price" in source.source


def test_labels_are_bought_at_the_first_months_price() -> None:
    end = {"provider": "acme", "model": "big", "what": "shutdown", "on": "2027-01-15", "replacement": "acme/next"}
    case = scenario({}, {"distillation": {"labels": 900}})
    assert labels(case, catalog(retirements={"big": end})) == pytest.approx(1000 * 0.006)


# --- the whole -------------------------------------------------------------------------------------------------------


def test_a_student_item_by_item() -> None:
    # 5,000 x 1,100 x 3 = 16.5 x 10^6 tokens x 4 x 8 x 10^9 = 5.28 x 10^17 FLOPs (LoRA); / (10^14 x 0.35) = 15,086 s
    # = 4.190 hours x 2 USD = 8.381 USD; two failed runs; 500 items at 1 USD; 120 hours at 100 USD.
    found = made()
    run = 5.28e17 / 3.5e13 / 3600 * 2
    assert run == pytest.approx(8.381, abs=1e-3)
    assert {name: at(usd, 0) for name, usd in found.items.items()} == {
        "labels": 7.0,
        "human_evaluation_set": 500.0,
        "training": pytest.approx(run),
        "failed_runs": pytest.approx(2 * run),
        "engineering": 12_000.0,
    }


def test_training_follows_method_gpu_and_price() -> None:
    base = at(made().items["training"], 0)
    full = scenario({}, {"distillation": {"method": "full"}})
    assert at(made(full).items["training"], 0) == pytest.approx(base * 6 / 4)
    half = scenario({}, {"distillation": {"mfu": 0.7}})
    assert at(made(half).items["training"], 0) == pytest.approx(base / 2)
    assert at(made(gpu_price_factor=3.0).items["training"], 0) == pytest.approx(base * 3)


def test_a_white_box_run_includes_the_teachers_pass() -> None:
    # A teacher of 30 x 10^9, 3 x 10^9 active: 4 x 8 + 2 x 3 instead of 4 x 8.
    known = catalog(models={"big": {"params_b": 30, "active_params_b": 3}})
    base = at(made(known=known, teacher="big").items["training"], 0)
    white = scenario({}, {"distillation": {"white_box": True}})
    assert at(made(white, known, "big").items["training"], 0) == pytest.approx(base * 38 / 32)
    dense = catalog(models={"big": {"params_b": 30}})
    assert at(made(white, dense, "big").items["training"], 0) == pytest.approx(base * (32 + 60) / 32)


def test_a_mixture_of_experts_trains_its_active_part() -> None:
    sparse = catalog(models={"tiny": {"active_params_b": 2}})
    assert at(made(known=sparse).items["training"], 0) == pytest.approx(at(made().items["training"], 0) / 4)


def test_training_rents_eight_gpus_on_demand() -> None:
    bulk = catalog(
        gpu_prices={
            "bulk": {
                "gpu": "toy",
                "provider": "cloud",
                "commitment": "on-demand",
                "usd_per_gpu_hour": 1,
                "min_gpus": 8,
            },
            "spot": {"gpu": "toy", "provider": "cloud", "commitment": "spot", "usd_per_gpu_hour": 0.1},
        }
    )
    assert at(made(known=bulk).items["training"], 0) == pytest.approx(at(made().items["training"], 0) / 2)


def test_what_has_no_price_is_not_free() -> None:
    unrented = catalog(gpus={"idle": {"name": "I", "memory_gb": 9, "bandwidth_gb_s": 9, "bf16_tflops": 9}})
    with pytest.raises(MissingPrice, match="no on-demand rental price known for the training GPU idle"):
        made(scenario({}, {"distillation": {"training_gpu": "idle"}}), unrented)
    with pytest.raises(UnknownName, match="unknown GPU"):
        made(scenario({}, {"distillation": {"training_gpu": "nothing"}}))
    rows = catalog()
    with pytest.raises(MissingPrice, match="the size of Small is not in the catalog"):
        self_trained(Inputs(scenario()), rows, LABELS, rows.model("small"), None)


def test_people() -> None:
    found = people(Inputs(scenario(), {"human_evaluation_items": 200, "human_label_usd": 0.5, "engineering_hours": 3}))
    assert at(found["human_evaluation_set"], 0) == 100
    assert at(found["engineering"], 0) == 300


# --- again -----------------------------------------------------------------------------------------------------------


def test_again_takes_everything_but_a_share_of_the_hours() -> None:
    # 7 + 100 + 0.25 x 400.
    items = {"labels": LABELS[0], "training": np.array([[100.0]]), "engineering": np.array([[400.0]])}
    assert at(repeat_usd(Inputs(scenario()), items, LABELS[0]), 0) == 207
    assert at(repeat_usd(Inputs(scenario(), {"repeat_share": 1.0}), items, LABELS[0]), 0) == 507


def test_labels_bought_later_are_paid_at_their_months_price() -> None:
    # 7, then 9 a month later: 9 + 100 + 0.25 x 400.
    items = {"labels": LABELS[0], "training": np.array([[100.0]]), "engineering": np.array([[400.0]])}
    later = repeat_usd(Inputs(scenario()), items, np.array([[7.0, 9.0]]))
    assert later.tolist() == [[207.0, 209.0]]


AGAIN = OneOff({}, np.array([[365.25]]), {})


def test_task_changes_are_an_expected_rate() -> None:
    # Twice a year at 365.25 USD: 2 USD a day.
    found = with_repeats(Inputs(scenario({"task_changes_per_year": 2})), AGAIN, [])
    np.testing.assert_allclose(found["re_distillation"], [[62, 62, 56]])


def test_a_retirement_is_one_whole_repeat_in_its_month() -> None:
    found = with_repeats(Inputs(scenario({"task_changes_per_year": 2})), AGAIN, [1])
    np.testing.assert_allclose(found["re_distillation"], [[62, 62 + 365.25, 56]])


def test_nothing_to_repeat_is_no_item() -> None:
    assert with_repeats(Inputs(scenario()), AGAIN, []) == {}


def test_a_horizon_that_ends_before_the_retirement_does_not_pay_for_it() -> None:
    found = with_repeats(Inputs(scenario(), {"horizon_months": [1, 3]}), AGAIN, [1])
    np.testing.assert_allclose(found["re_distillation"], [[0, 0, 0], [0, 365.25, 0]])
