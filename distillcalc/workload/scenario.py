"""The scenario: a workload, the choices made for it, how the student will be used, and catalog overrides.

It is what ``scenario.toml`` holds and what every command and notebook passes on. Reading and writing the
file is :mod:`.files`' subject.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from distillcalc.workload.routing import MeasuredRouting
from distillcalc.workload.workload import Frozen, Workload

OPTION_IDS = (
    "call-teacher",
    "call-small",
    "hosted-open-student",
    "hosted-fine-tune",
    "self-host",
    "self-host-teacher",
    "cascade",
)
OptionId = Literal[
    "call-teacher",
    "call-small",
    "hosted-open-student",
    "hosted-fine-tune",
    "self-host",
    "self-host-teacher",
    "cascade",
]


class Evaluation(Frozen):
    """Counts of one model on human-labelled items; a Beta(1 + correct, 1 + wrong) posterior follows."""

    correct: int = Field(ge=0)
    total: int = Field(gt=0)

    @model_validator(mode="after")
    def _within(self) -> Evaluation:
        if self.correct > self.total:
            raise ValueError(f"correct must not exceed total. Got {self.correct} of {self.total}")
        return self


class Distillation(Frozen):
    """What making the student takes; each item is a line of the one-off cost.

    Parameters
    ----------
    labels : training examples wanted after filtering.
    samples_per_prompt : teacher answers asked for each prompt.
    filter_yield : share of teacher answers that survive the filters.
    label_processing : "batch" uses the teacher's batch price where one is known.
    inputs : where the prompts come from: "live" traffic, "cleared" (may leave, redacted) or "synthetic".
    human_evaluation_items, human_label_usd : the human-labelled evaluation set and its price per item.
    epochs, method, white_box, mfu, training_gpu : the training run; ``white_box`` adds the teacher's
        forward pass over the training tokens (soft labels from its weights).
    failed_runs : whole training runs thrown away before the one that is kept.
    engineering_hours, engineering_usd_per_hour : people.
    repeat_share : share of the engineering hours that each repeat takes.
    """

    labels: float = Field(5_000, ge=1, le=1e9)
    samples_per_prompt: float = Field(1, ge=1, le=1000)
    filter_yield: float = Field(0.9, gt=0, le=1)
    label_processing: Literal["batch", "standard"] = "batch"
    inputs: Literal["live", "cleared", "synthetic"] = "live"
    human_evaluation_items: float = Field(500, ge=0, le=1e7)
    human_label_usd: float = Field(1.0, ge=0, le=1e6)
    epochs: float = Field(3, gt=0, le=100)
    method: Literal["lora", "full"] = "lora"
    white_box: bool = False
    mfu: float = Field(0.35, gt=0, le=1)
    training_gpu: str = "h100-sxm"
    failed_runs: float = Field(2, ge=0, le=100)
    engineering_hours: float = Field(120, ge=0, le=1e7)
    engineering_usd_per_hour: float = Field(100, ge=0, le=1e5)
    repeat_share: float = Field(0.25, ge=0, le=1)


class Serving(Frozen):
    """How a self-hosted model is served.

    Parameters
    ----------
    precision : of the weights.
    commitment : which rental price; "owned" uses ``capex_usd_per_gpu`` or the catalog's.
    gpu_provider : rent from this one only; left out, the cheapest for the commitment.
    marketplace : machines of strangers (community clouds, auctions) may be rented too.
    spare_replicas : replicas beyond what the peak needs (N+1 is 1).
    min_replicas : never fewer than this.
    autoscaling : follow the hour-of-week profile; else the peak's fleet runs all week.
    start_up_s : from ordering a machine to its first request; autoscaling pays for it.
    engine : which serving engine's constants, see the catalog's ``engines``; phones and CPUs run llama.cpp unless it is
        "transformers".
    kv_precision : of the cache.
    tensor_parallel : GPUs per replica; left out, the fewest that hold the weights and meet the objectives.
    max_sequences : most requests that the engine takes into one step.
    mfu, mbu, fixed_step_ms : share of peak compute, share of peak bandwidth, time per engine step beyond the two;
        left out, as fitted to the engine.
    step_time_factor : time that an engine step takes / what is predicted.
    memory_margin : share of memory kept free.
    operations_hours_per_month : people keeping it running.
    capex_usd_per_gpu, lifetime_years, usd_per_kwh, cooling : for owned GPUs.
    """

    precision: Literal["fp32", "bf16", "fp8", "int8", "int4", "fp4"] = "bf16"
    kv_precision: Literal["fp32", "bf16", "fp8"] = "bf16"
    engine: str = "vllm"
    tensor_parallel: Literal[1, 2, 4, 8] | None = None
    max_sequences: int = Field(1024, ge=1, le=1_000_000)
    commitment: Literal["on-demand", "spot", "reserved-1y", "reserved-3y", "owned"] = "on-demand"
    gpu_provider: str | None = None
    marketplace: bool = False
    spare_replicas: float = Field(1, ge=0, le=1000)
    min_replicas: float = Field(1, ge=1, le=100_000)
    autoscaling: bool = False
    start_up_s: float = Field(300, ge=0, le=3_600)
    mfu: float | None = Field(None, gt=0, le=1)
    mbu: float | None = Field(None, gt=0, le=1)
    fixed_step_ms: float | None = Field(None, ge=0, le=1000)
    step_time_factor: float = Field(1.0, gt=0, le=100)
    memory_margin: float = Field(0.1, ge=0, lt=1)
    operations_hours_per_month: float = Field(10, ge=0, le=10_000)
    capex_usd_per_gpu: float | None = Field(None, gt=0, le=1e8)
    lifetime_years: float = Field(4, gt=0, le=20)
    usd_per_kwh: float = Field(0.12, ge=0, le=100)
    cooling: float = Field(1.3, ge=1, le=5)

    @model_validator(mode="after")
    def _committed_fleets_stay(self) -> Serving:
        if self.autoscaling and self.commitment not in ("on-demand", "spot"):
            raise ValueError(
                f"autoscaling needs machines that are paid by the hour (on-demand or spot). Got {self.commitment}"
            )
        return self

    @property
    def stays(self) -> bool:
        """Whether machines once taken are paid to the end: owned and reserved ones."""
        return self.commitment not in ("on-demand", "spot")


class Routing(Frozen):
    """The cascade: the student answers first, the router sends a share on to the teacher.

    Parameters
    ----------
    measured : a router as it was measured on labelled items; the decision then picks its threshold, and neither
        ``escalation_rate`` nor ``apgr`` is stated beside it.
    escalation_rate : share of requests sent on; left out, 0.2, which nobody has found to be enough.
    apgr : average performance gap recovered by the router, 0.5 is a random one (RouteLLM, arXiv:2406.18665);
        left out, 0.6, the middle of what that paper reports.
    verifier_usd_per_request : what judging each student answer costs, probes included.
    engineering_hours : building, calibrating and watching the router, once.
    """

    escalation_rate: float | None = Field(None, ge=0, le=1)
    apgr: float | None = Field(None, gt=0, lt=1)
    verifier_usd_per_request: float = Field(0.0, ge=0, le=1e6)
    engineering_hours: float = Field(40, ge=0, le=1e7)
    measured: MeasuredRouting | None = None

    @model_validator(mode="after")
    def _measured_or_stated(self) -> Routing:
        stated = [name for name in ("escalation_rate", "apgr") if getattr(self, name) is not None]
        if self.measured is not None and stated:
            raise ValueError(
                f"the router is measured, so its escalation rate and quality follow from the counts. Leave "
                f"{' and '.join(stated)} out, or leave out [choices.routing.measured]"
            )
        return self


class Use(Frozen):
    """What the student will be used for; provider terms ask."""

    distributed: bool = False
    competes_with_teacher: bool | None = None
    kind: Literal["generative", "classifier", "embedding"] = "generative"


Retention = Annotated[float, Field(gt=0, le=1)]


class Choices(Frozen):
    """Which models, machines and prices are compared.

    Parameters
    ----------
    teacher : provider/model, as genai-prices knows it, or a catalog id.
    small : the provider's own small models; left out, those the catalog names for the teacher.
    students : catalog ids of the models that are distilled into.
    hosted : per-token hosts (provider/model) of open students; left out, the cheapest for each student.
    fine_tunes : rows of the fine-tuning price table; left out, those that are open over the horizon.
    gpus : catalog ids; left out, every GPU with a rental price.
    options : which options to compare; left out, all.
    teacher_quality : mean of the metric on your task, if you have no counts.
    student_retention : student quality / teacher quality after distillation, if you have no counts; one number
        for all students, or a table by student.
    evaluations : counts on human-labelled items: of "teacher"; of a student trained on this task by its
        catalog id; of a model as it is published by provider/model.
    teacher_price_factor, gpu_price_factor : your price / list price.
    token_price_change_per_year, gpu_price_change_per_year : -0.2 is 20% cheaper each year.
    on_retirement : a teacher that ends inside the horizon is refused, or "migrate" to its named successor.
    migration_hours : engineering hours for such a migration.
    fine_tunes_before : your organisation has fine-tuned at this provider before.
    """

    teacher: str
    small: tuple[str, ...] | None = None
    students: tuple[str, ...] = Field(("qwen3-8b",), min_length=1)
    hosted: tuple[str, ...] | None = Field(None, min_length=1)
    fine_tunes: tuple[str, ...] | None = Field(None, min_length=1)
    gpus: tuple[str, ...] | None = Field(None, min_length=1)
    options: tuple[OptionId, ...] | None = Field(None, min_length=1)
    teacher_quality: float | None = Field(None, ge=0.001, le=0.999)
    student_retention: Retention | dict[str, Retention] | None = None
    evaluations: dict[str, Evaluation] = Field(default_factory=dict)
    teacher_price_factor: float = Field(1.0, gt=0, le=100)
    gpu_price_factor: float = Field(1.0, gt=0, le=100)
    token_price_change_per_year: float = Field(0.0, ge=-0.99, le=10)
    gpu_price_change_per_year: float = Field(0.0, ge=-0.99, le=10)
    on_retirement: Literal["refuse", "migrate"] = "refuse"
    migration_hours: float = Field(40, ge=0, le=1e6)
    fine_tunes_before: bool = False
    distillation: Distillation = Distillation()
    serving: Serving = Serving()
    routing: Routing = Routing()

    @field_validator("small", "students", "hosted", "fine_tunes", "gpus", "options", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class Scenario(Frozen):
    """Workload, choices, use and overrides: all that a decision depends on, beside the catalog.

    ``correlations`` are rank correlations between inputs that are given as distributions, each pair once:
    ``{"requests_per_day": {"growth_per_month": -0.4}}``. ``priors`` names the inputs whose distributions are the
    catalog's and not the user's.
    """

    workload: Workload
    choices: Choices
    use: Use = Use()
    correlations: dict[str, dict[str, Annotated[float, Field(ge=-1, le=1)]]] = Field(default_factory=dict)
    priors: tuple[str, ...] = ()
    overrides: dict[str, dict[str, dict[str, Any]]] = Field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, defaults left out; ``Scenario.from_dict`` of it is equal to this one."""
        plain = self.model_dump(mode="python", exclude_defaults=True)
        plain.setdefault("workload", {})["start"] = self.workload.start
        return plain

    def with_overrides(self, rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Scenario:
        """The scenario with catalog rows of the user's own laid over; its own rows stand over them."""
        merged: dict[str, Any] = {
            table: {key: dict(row) for key, row in entries.items()} for table, entries in rows.items()
        }
        for table, entries in self.overrides.items():
            for key, row in entries.items():
                merged.setdefault(table, {}).setdefault(key, {}).update(row)
        return self.from_dict({**self.model_dump(mode="python"), "overrides": merged})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scenario:
        """Validate plain values; raises :class:`~distillcalc.errors.InputError` naming the field."""
        from distillcalc.workload.files import validate

        return validate(cls, values)

    @classmethod
    def load(cls, path: str | Path) -> Scenario:
        """Read a scenario file, or a shipped sample by its name; errors name the line."""
        from distillcalc.workload.files import load_scenario

        return load_scenario(path)

    def save(self, path: str | Path) -> Path:
        """Write a scenario file that :meth:`load` reads back equal."""
        from distillcalc.workload.files import save_scenario

        return save_scenario(self, path)
