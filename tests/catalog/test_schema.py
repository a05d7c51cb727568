"""Every authored row: it validates, its sources are dated, what it refers to exists. A failure names the row."""

from __future__ import annotations

import tomllib
from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from distillcalc.catalog import Catalog, ModelRow, Shape
from distillcalc.catalog.schema import TABLES, FineTunePriceRow, GpuPriceRow, GpuRow, Row
from distillcalc.resources import data_folder

AUTHORED: dict[str, dict[str, Any]] = {
    name: tomllib.loads((data_folder() / f"{name}.toml").read_text(encoding="utf-8")) for name in TABLES
}
ROWS = [pytest.param(table, key, id=f"{table}:{key}") for table, rows in AUTHORED.items() for key in rows]
CATALOG = Catalog.load()
LAST_READING = date(2026, 12, 31)  # of this version of the tables; a later `checked` is a typing error


def keys(table: str) -> Any:
    return pytest.mark.parametrize("key", list(AUTHORED[table]))


def resolves(ref: str) -> None:
    """A ref that genai-prices spells out, with a price that is not zero."""
    prices = CATALOG.token_prices(ref, date(2026, 11, 24))
    assert prices.input.min() > 0, ref
    assert prices.output.min() > 0, ref


# Every row


def test_every_table_is_a_file_and_every_file_a_table() -> None:
    assert {file.stem for file in data_folder().glob("*.toml")} == set(TABLES)


@pytest.mark.parametrize(("table", "key"), ROWS)
def test_a_row_validates_and_says_where_it_is_from(table: str, key: str) -> None:
    row = TABLES[table].model_validate(AUTHORED[table][key])
    assert row == getattr(CATALOG, table)[key]
    assert date(2026, 1, 1) <= row.checked <= LAST_READING
    assert len(row.source) > 10, "a source can be looked up"
    assert key == key.strip().lower().replace(" ", "-")


@pytest.mark.parametrize(
    ("row_type", "values", "says"),
    [
        (Row, {"checked": "2026-11-24", "confidence": "high"}, "source"),
        (Row, {"source": "x.org", "confidence": "high"}, "checked"),
        (Row, {"source": "x.org", "checked": "2026-11-24"}, "confidence"),
        (Row, {"source": "x.org", "checked": "2026-11-24", "confidence": "sure"}, "confidence"),
        (Row, {"source": "x.org", "checked": "yesterday", "confidence": "high"}, "checked"),
        (Row, {"source": "x.org", "checked": "2026-11-24", "confidence": "high", "price": 1}, "price"),
    ],
)
def test_a_row_without_its_origin_is_refused(row_type: type[Row], values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as error:
        row_type.model_validate(values)
    assert error.value.errors()[0]["loc"] == (says,)


@pytest.mark.parametrize(
    ("table", "key", "field", "value"),
    [
        ("gpus", "h100-sxm", "memory_gb", 0),
        ("gpus", "h100-sxm", "bandwidth_gb_s", float("inf")),
        ("gpus", "h100-sxm", "kind", "tpu"),
        ("gpu_prices", "runpod-h100-sxm-secure", "usd_per_gpu_hour", -1),
        ("gpu_prices", "runpod-h100-sxm-secure", "usd_per_gpu_hour", float("nan")),
        ("gpu_prices", "runpod-h100-sxm-secure", "commitment", "reserved-2y"),
        ("gpu_prices", "runpod-h100-sxm-secure", "min_gpus", 0),
        ("models", "qwen3-8b", "params_b", 0),
        ("models", "qwen3-8b", "kind", "closed"),
        ("models", "qwen3-8b", "native_precision", "fp16"),
        ("models", "qwen3-8b", "claimed_retention", [0.9, 0.8]),
        ("models", "qwen3-30b-a3b", "active_params_b", 40),
        ("models", "qwen3-8b", "shape", {"layers": 36}),
        ("terms", "openai-api", "competing", "maybe"),
        ("terms", "openai-api", "surface", "web"),
        ("retirements", "openai-gpt-5", "what", "gone"),
        ("retirements", "openai-gpt-5", "on", "soon"),
        ("finetune_prices", "openai-gpt-4o-sft", "training_usd_per_mtok", -3),
        ("finetune_prices", "openai-gpt-4o-sft", "method", "qlora"),
        ("apis", "openai", "cache_ttl_s", 0),
    ],
)
def test_a_wrong_field_is_refused(table: str, key: str, field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as error:
        TABLES[table].model_validate({**AUTHORED[table][key], field: value})
    assert field in str(error.value)


# Models


@keys("models")
def test_a_models_references_resolve(key: str) -> None:
    row: ModelRow = CATALOG.models[key]
    for name in (*row.members, *([row.teacher_id] if row.teacher_id else [])):
        assert name in CATALOG.models, name
        assert name != key
    if row.terms:
        assert row.terms in CATALOG.terms, row.terms
    for ref in (*row.price_refs, *row.small_siblings, *([row.teacher_price_ref] if row.teacher_price_ref else [])):
        resolves(ref)


@keys("models")
def test_a_models_figures_are_possible(key: str) -> None:
    row: ModelRow = CATALOG.models[key]
    assert all(0 < share <= 1.05 for share in row.retention.values())
    if row.claimed_retention:
        assert all(0 < share <= 1 for share in row.claimed_retention)
    if row.claimed_cost_ratio:
        assert all(ratio > 1 for ratio in row.claimed_cost_ratio)
    if row.members:
        assert not row.price_refs, "a family's prices are with its sizes"
    if row.kind == "open" and row.price_refs and row.terms is None:
        assert row.note, "why there is no row of terms"


def parameters_b(shape: Shape, *, tied: bool) -> float:
    """Parameters of a decoder without biases and norms [10^9]: embeddings, attention, gated feed-forward layers."""
    attention = 2 * shape.hidden * (shape.heads + shape.kv_heads) * shape.head_dim
    feed_forward = 3 * shape.hidden * (shape.intermediate or 0) * (shape.experts or 1)
    embeddings = shape.vocab * shape.hidden * (1 if tied else 2)
    return (shape.layers * (attention + feed_forward) + embeddings) / 1e9


def test_parameters_of_a_shape_by_hand() -> None:
    # Llama 3.1 8B (arXiv:2407.21783, table 3): 32 layers of 2 x 4096 x (32 + 8) x 128 = 41.94M of attention and
    # 3 x 4096 x 14336 = 176.16M of feed-forward, and twice 128256 x 4096 = 525.34M: 6.979B + 1.051B = 8.03B.
    shape = CATALOG.models["llama-3.1-8b"].shape
    assert shape is not None
    assert parameters_b(shape, tied=False) == pytest.approx(8.03, abs=0.005)


# Llama 4 has a shared expert and dense layers between, DeepSeek's large models latent attention, Qwen 3.5 other
# attention in three layers of four, MiniLM is an encoder: their shapes do not add up to their parameters.
OTHERWISE = ("llama-4-", "deepseek-r1", "deepseek-v4", "qwen3.5-", "minilm-")
ADDS_UP = [
    key
    for key, row in CATALOG.models.items()
    if row.shape and (not key.startswith(OTHERWISE) or key.startswith("deepseek-r1-distill"))
]


@pytest.mark.parametrize("key", ADDS_UP)
def test_a_models_shape_adds_up_to_its_parameters(key: str) -> None:
    row = CATALOG.models[key]
    assert row.shape is not None
    assert row.params_b is not None
    low, high = (parameters_b(row.shape, tied=tied) for tied in (True, False))
    assert 0.98 * low <= row.params_b <= 1.02 * high
    assert row.shape.heads % row.shape.kv_heads == 0


def test_parameters_of_an_encoder_by_hand() -> None:
    # A BERT has no gate: 6 layers of 4 x 384 x 384 = 0.590M of attention and 2 x 384 x 1536 = 1.180M of feed-forward,
    # and one table of 30,522 tokens, 512 positions and 2 segments x 384 = 11.918M: 10.617M + 11.918M = 22.53M.
    row = CATALOG.models["minilm-l6"]
    shape = row.shape
    assert shape is not None
    assert shape.intermediate is not None
    each = 4 * shape.hidden * shape.heads * shape.head_dim + 2 * shape.hidden * shape.intermediate
    found = shape.layers * each + (shape.vocab + 512 + 2) * shape.hidden
    assert found == 22_534_656
    assert row.params_b == pytest.approx(found / 1e9, rel=0.01)


OPEN = {
    "deepseek-r1-distill-qwen-32b",
    "deepseek-r1-distill-llama-70b",
    "deepseek-r1-distill-qwen-14b",
    "deepseek-r1-distill-qwen-7b",
    "deepseek-r1-distill-qwen-1.5b",
    "llama-4-scout",
    "llama-4-maverick",
    "qwen3",
    "qwen3.5-small",
    "gemma-3",
    "phi-4-mini",
    "orca-2-13b",
    "vicuna-13b",
    "alpaca-7b",
}
COMMERCIAL = {
    "gpt-5-mini",
    "gpt-5-nano",
    "gpt-4o-mini",
    "gemini-2.5-flash",
    "gemini-2.0-flash",
    "claude-4-haiku",
    "claude-3.5-haiku",
    "mistral-small",
    "qwen-turbo",
}


def test_every_row_of_the_articles_two_tables_is_there() -> None:
    assert (len(OPEN), len(COMMERCIAL)) == (14, 9)
    in_article = {key: row.kind for key, row in CATALOG.models.items() if row.in_article}
    assert {key for key, kind in in_article.items() if kind == "open"} == OPEN
    assert {key for key, kind in in_article.items() if kind == "commercial"} == COMMERCIAL


@pytest.mark.parametrize("key", sorted(OPEN | COMMERCIAL))
def test_a_row_of_the_article_has_the_articles_own_words(key: str) -> None:
    row = CATALOG.models[key]
    assert row.article_teacher
    assert row.article_params
    assert row.claim
    assert row.teacher, "and what the newest source says"


@pytest.mark.parametrize("key", sorted(COMMERCIAL))
def test_a_commercial_row_of_the_article_has_both_its_claims(key: str) -> None:
    row = CATALOG.models[key]
    assert row.claimed_retention
    assert row.claimed_cost_ratio
    assert f"{row.claimed_retention[0]:.0%}" in row.claim
    assert f"{row.claimed_cost_ratio[0]:g}x" in row.claim


# Terms


@keys("terms")
def test_a_terms_row_is_consistent(key: str) -> None:
    row = CATALOG.terms[key]
    assert row.says
    if row.superseded_by:
        assert row.superseded_by in CATALOG.terms
    if row.article_says:
        assert row.article_verdict, "what the article says is judged"
    # A private classifier is the mildest use and a competing model the strictest: a verdict never improves.
    order = {"pass": 0, "unknown": 1, "fail": 2}
    verdicts = [order[row.private_classifier], order[row.not_competing], order[row.competing]]
    assert verdicts == sorted(verdicts)


def test_the_articles_seven_providers_are_judged() -> None:
    judged = {row.provider for row in CATALOG.terms.values() if row.article_says}
    assert judged == {"openai", "anthropic", "google", "deepseek", "meta", "mistral", "alibaba"}


# Retirements


@keys("retirements")
def test_a_retirement_is_consistent(key: str) -> None:
    row = CATALOG.retirements[key]
    assert date(2025, 1, 1) <= row.on <= date(2030, 1, 1)
    if row.what == "shutdown":
        assert row.model, "a shutdown ends one model"
    if row.replacement:
        resolves(row.replacement)
        assert row.replacement != f"{row.provider}/{row.model}"
        end = CATALOG.shutdown(row.replacement)
        assert end is None or end.on > row.on, "a replacement outlives what it replaces"


@pytest.mark.parametrize(
    ("ref", "on"),
    [
        # FACTS, retirements and closings, as of 2026-11
        ("openai/gpt-5", date(2026, 12, 11)),
        ("openai/gpt-5-mini", date(2026, 12, 11)),
        ("openai/gpt-5-nano", date(2026, 12, 11)),
        ("openai/gpt-4o", date(2027, 1, 14)),
        ("openai/gpt-4o-mini", date(2027, 1, 14)),
        ("openai/gpt-4.1", date(2027, 1, 14)),
        ("openai/gpt-4.1-mini", date(2027, 1, 14)),
        ("openai/ft:gpt-4o-mini", date(2027, 1, 14)),
        ("openai/gpt-4.1-nano", date(2026, 10, 23)),
        ("anthropic/claude-sonnet-4-5", date(2026, 11, 30)),
    ],
)
def test_known_shutdowns(ref: str, on: date) -> None:
    end = CATALOG.shutdown(ref)
    assert end is not None
    assert end.on == on


def test_openais_fine_tuning_closes_in_three_steps() -> None:
    steps = [(row.on, row.what) for row in CATALOG.closings("openai")]
    assert steps == [
        (date(2026, 5, 7), "new-customers-barred"),
        (date(2026, 7, 2), "new-customers-barred"),
        (date(2027, 1, 6), "no-new-jobs"),
    ]


# GPUs and what they cost


@keys("gpus")
def test_a_gpus_figures_are_possible(key: str) -> None:
    row: GpuRow = CATALOG.gpus[key]
    if row.kind != "gpu":
        return
    assert 10 <= row.memory_gb <= 300
    assert 200 <= row.bandwidth_gb_s <= 10_000
    # Dense peaks at half the width are about twice as high; four times would be a sparse figure. Only on GeForce does
    # bf16 run at half rate beside int8 (165 and 661 on the RTX 4090: NVIDIA Ada whitepaper, appendix A).
    most = 4.05 if "rtx" in key else 2.05
    for narrower in (row.fp8_tflops, row.int8_tops):
        assert narrower is None or 1 <= narrower / row.bf16_tflops <= most


def test_published_peaks() -> None:
    # NVIDIA H100 data sheet: SXM 80 GB, 3.35 TB/s, 1,979 TFLOPS bf16 with sparsity, so 989 dense; 700 W.
    h100 = CATALOG.gpus["h100-sxm"]
    assert (h100.memory_gb, h100.bandwidth_gb_s, h100.bf16_tflops, h100.tdp_w) == (80, 3350, 989, 700)
    # NVIDIA A100 data sheet: 80 GB SXM, 2,039 GB/s, 312 TFLOPS bf16, no fp8; 400 W.
    a100 = CATALOG.gpus["a100-80gb-sxm"]
    assert (a100.memory_gb, a100.bandwidth_gb_s, a100.bf16_tflops, a100.tdp_w) == (80, 2039, 312, 400)
    assert a100.fp8_tflops is None


@keys("gpu_prices")
def test_a_rental_price_is_of_a_known_gpu_and_possible(key: str) -> None:
    row: GpuPriceRow = CATALOG.gpu_prices[key]
    assert row.gpu in CATALOG.gpus
    assert 0.05 <= row.usd_per_gpu_hour <= 20, "per GPU and hour, not per machine"


@keys("finetune_prices")
def test_a_fine_tuning_price_is_complete(key: str) -> None:
    row: FineTunePriceRow = CATALOG.finetune_prices[key]
    assert row.hosting_gpu is None or row.hosting_gpu in CATALOG.gpus
    assert (row.hosting_gpu is None) == (row.hosting_usd_per_hour is None)
    assert (row.input_usd_per_mtok is None) == (row.output_usd_per_mtok is None)
    prices = (row.training_usd_per_mtok, row.training_usd_per_hour, row.input_usd_per_mtok)
    assert any(price is not None for price in prices)


@keys("apis")
def test_an_api_row_is_of_a_provider_or_a_model_that_is_priced(key: str) -> None:
    row = CATALOG.apis[key]
    if row.model:
        resolves(f"{row.provider}/{row.model}")
    else:
        assert any(
            ref.startswith(f"{row.provider}/") for model in CATALOG.models.values() for ref in model.price_refs
        ) or (row.provider in ("fireworks", "x-ai"))
    if row.cache_ttl_refreshed is not None:
        assert row.cache_ttl_s is not None
