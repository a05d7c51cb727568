"""The rows of the catalog, as authored in data/: strict, dated, each with its source.

Every table is one TOML file in data/ whose top-level tables are rows keyed by id. A row that does not
fit is refused by :mod:`distillcalc.catalog.load` with its file, its key and what would be right.
"""

from __future__ import annotations

from datetime import date
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from distillcalc.workload.distributions import Distribution

Confidence = Literal["high", "medium", "low"]
Verdict = Literal["pass", "fail", "unknown"]
Commitment = Literal["on-demand", "spot", "reserved-1y", "reserved-3y", "owned"]
Precision = Literal["fp32", "bf16", "fp8", "int8", "int4", "fp4"]

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Row(BaseModel):
    """What every authored row carries: where it came from, when that was read, how sure it is."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())

    source: str = Field(min_length=3)
    checked: date
    confidence: Confidence
    note: str = ""


class Shape(BaseModel):
    """A decoder's public architecture: what its memory and its speed follow from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: Count
    hidden: Count
    heads: Count
    kv_heads: Count
    head_dim: Count
    vocab: Count
    intermediate: Count | None = None
    experts: Count | None = None  # routed experts per MoE layer
    experts_per_token: Count | None = None
    tied_embeddings: bool = False  # the output layer is the table of embeddings
    kv_bytes_per_token_bf16: Count | None = None  # only where the attention is not plain MHA/GQA (MLA, sliding window)


class ModelRow(Row):
    """One model, distilled or a teacher: who made it from what, how big it is, what is claimed of it."""

    name: str
    provider: (
        str  # the maker, as in terms.toml: openai, anthropic, google, deepseek, meta, mistral, alibaba, microsoft, ...
    )
    kind: Literal["open", "commercial"]
    in_article: bool = False  # a row of the article's two tables
    members: list[str] = []  # for a family row: ids of the sizes in it
    teacher: str = ""  # as the newest source has it, in words
    teacher_id: str | None = None  # the teacher's id in this table
    article_teacher: str = ""
    base: str = ""
    method: str = ""
    params_b: Positive | None = None  # total parameters, 10^9
    active_params_b: Positive | None = None  # per token, for mixtures of experts
    article_params: str = ""
    shape: Shape | None = None
    thinks: bool = False  # writes a chain of thought before it answers, billed as output
    native_precision: Precision | None = None  # in which the weights are published; left out, bf16
    context_window: Count | None = None
    licence: str = ""
    terms: str | None = None  # row of terms.toml that governs training on this model's outputs
    released: date | None = None
    retention: dict[
        str, Annotated[float, Field(gt=0, le=2)]
    ] = {}  # student score / teacher score, by benchmark, from `source`
    claimed_retention: tuple[float, float] | None = None  # low, high, as the article claims
    claimed_cost_ratio: tuple[float, float] | None = None  # teacher price / student price, as the article claims
    claim: str = ""  # the article's own key achievement or claim, as it puts it
    price_refs: list[str] = []  # provider/model in genai-prices, best first
    teacher_price_ref: str | None = None  # what the claimed ratio is computed against
    small_siblings: list[str] = []  # price refs of the same provider's small models, for a teacher

    @model_validator(mode="after")
    def _active_within_total(self) -> ModelRow:
        if self.active_params_b and self.params_b and self.active_params_b > self.params_b:
            raise ValueError(f"active_params_b must not exceed params_b. Got {self.active_params_b} > {self.params_b}")
        for name in ("claimed_retention", "claimed_cost_ratio"):
            pair = getattr(self, name)
            if pair and pair[0] > pair[1]:
                raise ValueError(f"{name} must be [low, high]. Got {list(pair)}")
        return self


class TermsRow(Row):
    """What one provider's terms say about training a student on its outputs, on one surface."""

    provider: str
    surface: Literal["api", "consumer", "weights", "fine-tuning"]
    applies_to: str = ""  # which products or models, in words
    effective: str = ""
    says: str
    quote: str = ""
    position: str  # in words: allowed, conditional, prohibited, ...
    private_classifier: Verdict  # a classifier or embedding that is neither distributed nor sold
    not_competing: Verdict  # any other student that does not compete with the provider
    competing: Verdict  # a student that competes, or is distributed as a general model
    requirements: str = ""  # what must be done where it is allowed (name, notice, licence to carry)
    article_says: str = ""  # the article's row for this provider, in short
    article_verdict: str = ""  # agrees, incomplete, out of date, ...
    superseded_by: str | None = None


class RetirementRow(Row):
    """A dated end: a model's shutdown, or a service's closing."""

    provider: str
    model: str | None = None  # model id at the provider, None for a service
    what: Literal["shutdown", "no-new-jobs", "new-customers-barred", "deprecated"]
    on: date
    replacement: str | None = None  # price ref (provider/model) of the named replacement


class FineTunePriceRow(Row):
    """What a provider charges to fine-tune a model and to serve the result."""

    provider: str
    base: str  # model id at the provider, or a size class such as "up to 16B"
    method: Literal["sft", "lora", "full", "rft"] = "sft"
    max_params_b: Positive | None = None
    training_usd_per_mtok: NonNegative | None = None
    training_usd_per_hour: NonNegative | None = None
    minimum_usd: NonNegative | None = None
    input_usd_per_mtok: NonNegative | None = None  # serving the fine-tune, per token
    output_usd_per_mtok: NonNegative | None = None
    hosting_usd_per_hour: NonNegative | None = None  # serving the fine-tune, one dedicated replica
    hosting_gpu: str | None = None  # the GPU of that replica


class GpuRow(Row):
    """One accelerator's published specification (dense, without sparsity)."""

    name: str
    memory_gb: Positive
    bandwidth_gb_s: Positive
    bf16_tflops: Positive  # of a CPU, whatever it computes in best
    fp32_tflops: Positive | None = None
    fp8_tflops: Positive | None = None
    fp4_tflops: Positive | None = None
    int8_tops: Positive | None = None
    tdp_w: Positive | None = None
    link_gb_s: Positive | None = None  # between GPUs of one machine, one direction
    capex_usd: Positive | None = None
    kind: Literal["gpu", "cpu", "phone"] = "gpu"


class GpuPriceRow(Row):
    """A dated rental price of one accelerator."""

    gpu: str
    provider: str
    commitment: Commitment
    usd_per_gpu_hour: Positive
    min_gpus: Count = 1
    product: str = ""
    tier: Literal["cloud", "marketplace"] = "cloud"  # marketplace: machines of strangers, rented on
    region: str | None = None


class EngineRow(Row):
    """The constants of a serving engine's step time: shares of the hardware's peak, and what the engine adds."""

    name: str
    mbu: Share  # of peak bandwidth, reading the weights
    kv_mbu: Share  # reading the cache
    expert_mbu: Share  # reading routed experts
    mfu_bf16: Share  # of peak compute, by the precision of the products
    mfu_fp8: Share  # int8 too
    mfu_fp4: Share
    expert_mfu: Share  # of a mixture of experts, in any precision
    attention_mfu: Share
    overlap: Share  # of the shorter of reading and computing that hides behind the longer
    fixed_s: NonNegative  # per step
    layer_s: NonNegative  # per layer of a step
    expert_layer_s: NonNegative  # per layer with experts, on top
    quantise_s: NonNegative  # per layer whose products are computed in 8 or 4 bits, on top
    sequence_s: NonNegative  # per sequence of a step
    all_reduce_s: NonNegative  # latency of one all-reduce, two a layer
    link_efficiency: Share  # of the link's peak
    request_s: NonNegative  # per request before its first step: parsing, tokenising, scheduling
    repack: NonNegative = 0.0  # rearranging the weights in a step of several tokens, over reading them once; a CPU's
    rows: int = Field(0, ge=0)  # measured points that these were fitted to
    # A measured value is between prediction / factor and prediction x factor, nine times in ten, of a model left out.
    tpot_factor: Annotated[float, Field(ge=1)] = 1.0
    ttft_factor: Annotated[float, Field(ge=1)] = 1.0
    tpot_factor_moe: Annotated[float, Field(ge=1)] = 1.0
    ttft_factor_moe: Annotated[float, Field(ge=1)] = 1.0


class ApiRow(Row):
    """What is known of a per-token API beside its prices: caching rules, speed, regions.

    The time to the first token [s] ends with the first one of any kind, thought or answer; from then on a token
    takes TPOT [ms]. The median of TPOT is given as such or as tokens per second. Percentiles above the median are
    for endpoints that were measured; where they are absent the tails are assumed.
    """

    provider: str  # as in genai-prices
    model: str | None = None  # None: holds for all of the provider's models
    cache_min_prefix_tokens: Count | None = None
    cache_ttl_s: Positive | None = None
    cache_ttl_refreshed: bool | None = None  # a hit restarts the clock
    ttft_p50_s: Positive | None = None
    ttft_p95_s: Positive | None = None
    ttft_p99_s: Positive | None = None
    output_tokens_per_s: Positive | None = None  # the median, of one request's tokens after the first
    tpot_p50_ms: Positive | None = None  # instead of output_tokens_per_s
    tpot_p95_ms: Positive | None = None
    tpot_p99_ms: Positive | None = None
    regions: list[str] = []
    base_url: str | None = None  # of the endpoint that speaks OpenAI's API
    key_env: str | None = None  # the environment variable that usually holds its key

    @model_validator(mode="after")
    def _percentiles_do_not_fall(self) -> ApiRow:
        if self.tpot_p50_ms is not None and self.output_tokens_per_s is not None:
            raise ValueError("tpot_p50_ms and output_tokens_per_s are the same median: give one of them")
        tpot_ms = self.tpot_p50_ms
        if self.output_tokens_per_s is not None:
            tpot_ms = 1000 / self.output_tokens_per_s
        for what, unit, values in (
            ("ttft", "s", (self.ttft_p50_s, self.ttft_p95_s, self.ttft_p99_s)),
            ("tpot", "ms", (tpot_ms, self.tpot_p95_ms, self.tpot_p99_ms)),
        ):
            known = [(level, value) for level, value in zip((50, 95, 99), values, strict=True) if value is not None]
            for (lower, least), (upper, value) in pairwise(known):
                if value < least:
                    raise ValueError(
                        f"{what}_p{upper}_{unit} must not be below the p{lower} of {least:.4g} {unit}. Got {value:.4g}"
                    )
        return self


class PriorRow(Row):
    """What is believed of an input that nobody has stated; the key is the input's name.

    A ``relative`` one is of the true value / the stated one.
    """

    distribution: dict[str, Any]
    relative: bool = False
    evidence: str  # what it rests on, in a sentence

    @field_validator("distribution")
    @classmethod
    def _is_one(cls, table: dict[str, Any]) -> dict[str, Any]:
        Distribution.of(table)
        return table


TABLES: dict[str, type[Row]] = {
    "models": ModelRow,
    "terms": TermsRow,
    "retirements": RetirementRow,
    "finetune_prices": FineTunePriceRow,
    "gpus": GpuRow,
    "gpu_prices": GpuPriceRow,
    "apis": ApiRow,
    "engines": EngineRow,
    "priors": PriorRow,
}
