"""Pre-training, fine-tuning and distilling the same student: the sums by hand."""

from __future__ import annotations

import pytest

from distillcalc import Catalog
from distillcalc.decide.making import ARTICLE_USD, making_costs
from distillcalc.errors import InputError, UnknownName

PRICES = {
    "token_prices": {"openai/gpt-6-sol": {"input_usd_per_mtok": 2.0, "output_usd_per_mtok": 10.0}},
    "models": {"one-b": {"name": "One", "provider": "test", "kind": "open", "params_b": 1.0}},
    "gpus": {"test": {"name": "Test", "memory_gb": 80, "bandwidth_gb_s": 1000, "bf16_tflops": 1000}},
    "gpu_prices": {
        "a": {"gpu": "test", "provider": "a", "commitment": "on-demand", "usd_per_gpu_hour": 2.0},
        "b": {"gpu": "test", "provider": "b", "commitment": "on-demand", "usd_per_gpu_hour": 6.0},
        "c": {"gpu": "test", "provider": "c", "commitment": "spot", "usd_per_gpu_hour": 0.5},
    },
}


def costs() -> dict[str, object]:
    return {c.approach: c for c in making_costs("one-b", "openai/gpt-6-sol", catalog=Catalog.load(PRICES), gpu="test")}


def test_pre_training_by_hand() -> None:
    # Low: 6 x 10^9 x 20 x 10^9 = 1.2e20 operations at 0.5 x 10^15 a second: 240,000 s = 66.67 h at 2 USD.
    # High: 6 x 10^9 x 1.875 x 10^12 = 1.125e22 at 0.3 x 10^15: 3.75e7 s = 10,416.7 h at 6 USD.
    made = costs()["pre-training"]
    assert made.tokens == (20e9, 1.875e12)
    assert made.gpu_hours == pytest.approx((66.667, 10_416.67), rel=1e-4)
    assert made.compute_usd == pytest.approx((133.33, 62_500), rel=1e-4)
    assert made.labels_usd == (0, 0)
    assert made.verdict == "below the article's range"


def test_fine_tuning_by_hand() -> None:
    # Low: LoRA, 10,000 examples x 1,000 tokens: 4 x 10^9 x 10^7 = 4e16 / 0.5e15 = 80 s = 0.0222 h at 2 USD.
    # High: every weight, 10^6 examples x 3 epochs: 6 x 10^9 x 3 x 10^9 = 1.8e19 / 0.3e15 = 60,000 s at 6 USD an hour.
    made = costs()["fine-tuning"]
    assert made.compute_usd == pytest.approx((80 / 3600 * 2, 100.0), rel=1e-4)
    assert made.verdict == "overlaps the article's range" or made.total_usd[1] < 100.0 + 1e-6


def test_distilling_by_hand() -> None:
    # A label: 500 x 2e-6 + 500 x 10e-6 = 0.006 USD; 10,000 cost 60, 800,000 cost 4,800.
    made = costs()["distillation"]
    assert made.labels_usd == pytest.approx((60.0, 4_800.0))
    assert made.total_usd[1] == pytest.approx(4_800 + 6e9 * 2.4e9 / 0.3e15 / 3600 * 6, rel=1e-6)
    assert made.verdict == "overlaps the article's range"


def test_the_articles_ranges_stand_beside() -> None:
    assert ARTICLE_USD == {
        "pre-training": (10e6, 100e6),
        "fine-tuning": (100, 10_000),
        "distillation": (1_000, 100_000),
    }


def test_bad_input_is_refused() -> None:
    catalog = Catalog.load(PRICES)
    with pytest.raises(UnknownName):
        making_costs("two-b", "openai/gpt-6-sol", catalog=catalog)
    with pytest.raises(InputError, match="low <= high"):
        making_costs("one-b", "openai/gpt-6-sol", catalog=catalog, gpu="test", epochs=(3, 1))
    with pytest.raises(InputError, match="cannot exceed 1"):
        making_costs("one-b", "openai/gpt-6-sol", catalog=catalog, gpu="test", mfu=(0.3, 30))
    with pytest.raises(InputError, match="not public"):
        making_costs("gpt-5-mini", "openai/gpt-6-sol", catalog=catalog, gpu="test")
