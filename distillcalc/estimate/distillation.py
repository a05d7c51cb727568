"""What making a student costs, item by item, and what making it again costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distillcalc.catalog import Catalog, ModelRow, provenance_of
from distillcalc.errors import MissingPrice
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.outcome import Outcome
from distillcalc.estimate.tokens import prices_over_horizon
from distillcalc.provenance import Provenance, assumed, derived

Floats = NDArray[np.float64]

FULL_FLOPS_PER_PARAMETER = 6.0  # forward 2, backward 4
LORA_FLOPS_PER_PARAMETER = 4.0  # the frozen weights need no gradient of their own
TEACHER_FORWARD_FLOPS_PER_PARAMETER = 2.0


@dataclass(frozen=True)
class OneOff:
    """Cost of making a student by item, (n or 1, 1), and of making it again in each month, (n or 1, months) [USD]."""

    items: dict[str, Floats]
    repeat: Floats
    provenance: dict[str, Provenance]


def training_flops(
    params_b: float, tokens: Floats, *, method: str = "full", teacher_active_params_b: float = 0.0
) -> Floats:
    """Floating-point operations of one training run.

    FLOPs = 6 P T (full) or 4 P T (LoRA), plus 2 P_teacher T where the teacher scores every training token.

    Parameters
    ----------
    params_b : the student's parameters, active ones for a mixture of experts [10^9].
    tokens : tokens seen, epochs included.
    method : "full" or "lora".
    teacher_active_params_b : of a teacher run over the same tokens [10^9]; 0 for text labels.

    Notes
    -----
    Kaplan et al., arXiv:2001.08361, section 2.1, for 6 P T.
    """
    per_token = FULL_FLOPS_PER_PARAMETER if method == "full" else LORA_FLOPS_PER_PARAMETER
    return np.asarray(
        (per_token * params_b + TEACHER_FORWARD_FLOPS_PER_PARAMETER * teacher_active_params_b) * 1e9 * tokens
    )


def gpu_hours(flops: Floats, peak_tflops: float, mfu: float | Floats) -> Floats:
    """GPU-hours of a computation: FLOPs / (peak x MFU)."""
    return np.asarray(flops / (peak_tflops * 1e12 * mfu) / 3600)


def labelling_usd(x: Inputs, catalog: Catalog, teacher: str) -> tuple[Floats, Provenance]:
    """Price of the teacher's labels in each month: labels / yield x samples x price of one answer [USD].

    Shape (n or 1, months): what is labelled later is paid at the price of its month, and by the teacher of it.
    """
    plan = x.scenario.choices.distillation
    batch = plan.label_processing == "batch" and catalog.has_batch_price(teacher, x.scenario.workload.start)
    prices = prices_over_horizon(x, catalog, teacher, "batch" if batch else "standard")
    one = sum(prices.per_request(x.lengths, reasoning_tokens=x["reasoning_tokens"]).values(), np.zeros((1, 1)))
    calls = x["labels"] / x["filter_yield"] * x["samples_per_prompt"]
    usd = calls * one * (x["teacher_price_factor"] * x.price_path("token_price_change_per_year"))
    how = "batch" if batch else "standard"
    return usd, derived(f"labels / filter_yield x samples_per_prompt x {how} price of a call ({prices.provenance})")


def training_tokens(x: Inputs) -> Floats:
    """Tokens that one training run sees: labels x (student prompt + answer) x epochs, shape (n, 1)."""
    return np.asarray(
        x["labels"] * (x["student_input_tokens"] + x["output_tokens"] + x["student_reasoning_tokens"]) * x["epochs"]
    )


def people(x: Inputs) -> dict[str, Floats]:
    """Human-labelled evaluation set and engineering hours [USD]."""
    return {
        "human_evaluation_set": x["human_evaluation_items"] * x["human_label_usd"],
        "engineering": x["engineering_hours"] * x["engineering_usd_per_hour"],
    }


def people_sources() -> dict[str, Provenance]:
    """Where the numbers of :func:`people` came from."""
    return {
        "engineering": assumed("engineering_hours x engineering_usd_per_hour of [choices.distillation]"),
        "human_evaluation_set": assumed("human_evaluation_items x human_label_usd of [choices.distillation]"),
    }


def add_one_off(x: Inputs, outcome: Outcome, one_off: OneOff, retirements_at: list[int]) -> None:
    """Give an outcome the cost of making its student, and of making it again."""
    outcome.one_off_usd = one_off.items
    outcome.monthly_usd |= with_repeats(x, one_off, retirements_at)
    outcome.provenance |= one_off.provenance
    outcome.provenance["failed_runs"] = assumed("failed_runs of [choices.distillation] x the cost of a training run")
    if "re_distillation" in outcome.monthly_usd:
        outcome.provenance["re_distillation"] = derived(
            "labels, training and evaluation again and repeat_share of the hours, at the rate of task changes and "
            "at the teacher's retirement"
        )


def repeat_usd(x: Inputs, items: Mapping[str, Floats], labels: Floats) -> Floats:
    """Cost of making the student again in each month: labels, training and evaluation, a share of the hours."""
    again = labels
    for name, usd in items.items():
        if name != "labels":
            again = again + (usd * x["repeat_share"] if name == "engineering" else usd)
    return again


def self_trained(
    x: Inputs,
    catalog: Catalog,
    labels: tuple[Floats, Provenance],
    student: ModelRow,
    teacher_row: ModelRow | None,
) -> OneOff:
    """One-off cost of a student trained on rented GPUs, its teacher's ``labels`` priced already.

    Raises
    ------
    MissingPrice
        If the training GPU has no on-demand rental price, or the student's size is unknown.
    """
    plan = x.scenario.choices.distillation
    gpu, rental = catalog.gpu(plan.training_gpu), catalog.rental(plan.training_gpu, "on-demand", gpus=8)
    if rental is None:
        raise MissingPrice(f"no on-demand rental price known for the training GPU {plan.training_gpu}")
    if student.params_b is None:
        which = f"; choose one of its sizes: {', '.join(student.members)}" if student.members else ""
        raise MissingPrice(f"the size of {student.name} is not in the catalog, so its training cannot be priced{which}")
    white_box = (teacher_row.active_params_b or teacher_row.params_b or 0.0) if plan.white_box and teacher_row else 0.0
    flops = training_flops(
        student.active_params_b or student.params_b,
        training_tokens(x),
        method=plan.method,
        teacher_active_params_b=white_box,
    )
    run_usd = gpu_hours(flops, gpu.bf16_tflops, x["training_mfu"]) * rental.usd_per_gpu_hour * x["gpu_price_factor"]
    items = {"labels": labels[0][:, :1], "training": run_usd, "failed_runs": run_usd * x["failed_runs"], **people(x)}
    items = {name: items[name] for name in ("labels", "human_evaluation_set", "training", "failed_runs", "engineering")}
    rent = provenance_of(rental)
    sources = {
        "labels": labels[1],
        "training": Provenance(
            "derived",
            f"{plan.method} FLOPs / (MFU {plan.mfu:g} x peak of {gpu.name}) at "
            f"{rental.usd_per_gpu_hour:g} USD/h ({rent.source})",
            rent.checked,
            rent.confidence,
        ),
        **people_sources(),
    }
    return OneOff(items, repeat_usd(x, items, labels[0]), sources)


def with_repeats(x: Inputs, one_off: OneOff, retirements_at: list[int]) -> dict[str, Floats]:
    """Running cost of making the student again: an expected rate for task changes, whole repeats at retirements.

    Returns
    -------
    {"re_distillation": USD of shape (n, months)}, empty where there is none.
    """
    rate = x["task_changes_per_year"]
    usd = rate / 365.25 * x.days * one_off.repeat
    for month in retirements_at:
        at_month = (x.month == month) & (x.days > 0)
        usd = usd + at_month * one_off.repeat
    return {"re_distillation": usd} if np.any(usd) else {}
