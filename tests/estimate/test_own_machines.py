"""Options on machines of one's own by hand: a distilled student, or the open teacher itself."""

from __future__ import annotations

import numpy as np
import pytest

from distillcalc.estimate.outcome import Outcome, at
from tests.estimate.tiny import DAYS, END, ROWS, catalog, only, outcomes, scenario, verdict

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
    # The same again, a quarter of the hours, and the labels by the successor.
    successors = only("self-host", scenario({}, {"teacher": "acme/next"})).one_off_usd["labels"]
    again = at(found.one_off_total_usd, 0) - 0.75 * 12_000 + at(successors - found.one_off_usd["labels"], 0)
    np.testing.assert_allclose(found.monthly_usd["re_distillation"], [[0, again, 0]])


def test_a_private_workload_may_be_served_at_home_from_cleared_labels() -> None:
    live = only("self-host", scenario({"private": True}))
    cleared = only("self-host", scenario({"private": True}, {"distillation": {"inputs": "cleared"}}))
    assert (verdict(live, "privacy"), verdict(cleared, "privacy")) == ("fail", "pass")
    for option in ("call-teacher", "call-small", "hosted-open-student", "cascade"):
        for found in outcomes(option, scenario({"private": True})):
            assert verdict(found, "privacy") == "fail"


def test_no_shape_and_no_rental_are_unpriced() -> None:
    assert "shape" in only("self-host", known=catalog(models={"tiny": {"shape": None}})).unpriced
    spot = scenario({}, {"serving": {"commitment": "spot"}})
    assert "no spot price" in only("self-host", spot).unpriced
    unrented = catalog(gpus={"idle": {"name": "I", "memory_gb": 9, "bandwidth_gb_s": 9, "bf16_tflops": 9}})
    idle = scenario({}, {"distillation": {"training_gpu": "idle"}})
    assert "training GPU idle" in only("self-host", idle, unrented).unpriced


def test_a_machine_whose_speed_in_a_precision_is_not_known_is_unpriced() -> None:
    wide = scenario(choices={"serving": {"precision": "fp32"}})
    assert "no fp32 peak of" in only("self-host", wide).unpriced
    assert only("self-host", wide, catalog(gpus={"toy": {"fp32_tflops": 50}})).unpriced == ""


@pytest.mark.parametrize(
    ("licence", "expected"),
    [("Apache-2.0", None), ("", None), ("Mistral Research License", "fail"), ("CC BY-NC 4.0 (non-commercial)", "fail")],
)
def test_a_licence_for_research_is_none_for_business(licence: str, expected: str | None) -> None:
    known = catalog(models={"tiny": {"licence": licence}})
    assert verdict(only("self-host", known=known), "licence") == expected
    assert verdict(only("hosted-open-student", known=known), "licence") == expected


def test_machines_of_strangers_are_rented_only_when_asked_for_and_never_for_private_texts() -> None:
    known = catalog(
        gpu_prices={
            "stranger": {
                "gpu": "toy",
                "provider": "bazaar",
                "commitment": "on-demand",
                "usd_per_gpu_hour": 0.5,
                "tier": "marketplace",
            }
        }
    )

    def rented(private: bool, marketplace: bool) -> Outcome:
        choices = {"serving": {"marketplace": marketplace}, "distillation": {"inputs": "cleared"}}
        return only("self-host", scenario({"private": private}, choices), known)

    gpus = rented(private=False, marketplace=True).monthly_usd
    assert gpus["gpus_busy"][0, 0] + gpus["gpus_idle"][0, 0] == pytest.approx(2 * 0.5 * 24 * 31)
    assert verdict(rented(private=False, marketplace=True), "privacy") is None
    own = rented(private=True, marketplace=True).monthly_usd
    assert own["gpus_busy"][0, 0] + own["gpus_idle"][0, 0] > gpus["gpus_busy"][0, 0] + gpus["gpus_idle"][0, 0]
    assert verdict(rented(private=True, marketplace=True), "privacy") == "pass"
    assert verdict(rented(private=True, marketplace=False), "privacy") == "pass"


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
