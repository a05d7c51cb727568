"""Two decisions worked out by hand, the arithmetic shown: the article's email classification and a real trace."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from distillcalc import Catalog, Scenario, Workload, recommend

TRACE = Path(__file__).resolve().parents[3] / "shared" / "data" / "traffic" / "AzureLLMInferenceTrace_code.csv"

# The prices that the sums below are made of; a price update that changes them must change the sums.
FIXED = {
    "token_prices": {
        "openai/gpt-6-sol": {
            "input_usd_per_mtok": 2.0,
            "output_usd_per_mtok": 10.0,
            "cached_input_usd_per_mtok": 0.2,
            "batch_input_usd_per_mtok": 1.0,
            "batch_output_usd_per_mtok": 5.0,
        }
    },
    "gpu_prices": {
        "test-4090": {
            "gpu": "rtx-4090",
            "provider": "test",
            "commitment": "on-demand",
            "usd_per_gpu_hour": 0.34,
        },
        "test-h100": {
            "gpu": "h100-sxm",
            "provider": "test",
            "commitment": "on-demand",
            "usd_per_gpu_hour": 2.50,
        },
    },
    # Round shares of the peaks, 2 ms a step; reading and computing one after the other.
    "engines": {
        "vllm": {
            "mbu": 0.8,
            "kv_mbu": 0.8,
            "mfu_bf16": 0.5,
            "attention_mfu": 0.5,
            "overlap": 0.0,
            "fixed_s": 0.002,
            "layer_s": 0.0,
            "sequence_s": 0.0,
            "request_s": 0.0,
        }
    },
}


def test_email_classification_of_the_article() -> None:
    """10,000 mails a day, 300 tokens in and 2 out, for the year from December 2026."""
    scenario = Scenario.load("email-classification")
    decision = recommend(scenario, catalog=Catalog.load(FIXED))

    # The big model: 300 x 2 / 10^6 + 2 x 10 / 10^6 = 0.00062 USD a mail; 10,000 x 365 = 3.65 million mails.
    teacher = decision.options["call-teacher"]
    assert teacher.present_value_usd == pytest.approx(0.00062 * 3_650_000)  # 2,263 USD
    assert teacher.monthly_total_usd[0] == pytest.approx(0.00062 * 10_000 * 31)  # December: 192.20 USD
    assert teacher.usd_per_1000_requests == pytest.approx(0.62)

    # Making the student. Labels: 5,000 / 0.9 calls at half price, 0.00031 USD. Training: LoRA on 4.02 x 10^9
    # parameters, 5,000 labels x 302 tokens x 3 epochs = 4.53 x 10^6 tokens: 4 x 4.02e9 x 4.53e6 = 7.284e16
    # operations, at 0.35 x 989e12 a second 210.4 s = 0.05845 h of an H100 at 2.50 USD; two more runs fail.
    own = decision.options["self-host"]
    training = 4 * 4.02e9 * (5_000 * 302 * 3) / (0.35 * 989e12) / 3600 * 2.50
    assert own.one_off_usd == pytest.approx(
        {
            "labels": 5_000 / 0.9 * 0.00031,  # 1.72 USD
            "human_evaluation_set": 500 * 1.0,
            "training": training,  # 0.146 USD
            "failed_runs": 2 * training,
            "engineering": 120 * 100.0,
        }
    )
    # Serving it: 4.02e9 x 2 bytes = 8.04 GB fit one 24 GB card; 0.116 mails a second need one replica, and one
    # more is spare: 2 x 0.34 USD x 24 h x 365 days, and 10 hours of people a month at 100 USD.
    assert own.facts["replicas"] == 2
    running = 2 * 0.34 * 24 * 365 + 12 * 10 * 100
    assert own.present_value_usd == pytest.approx(1.7222 + 500 + 3 * training + 12_000 + running, rel=1e-6)

    # 2,263 against 30,459 USD: keep calling. The student starts to pay where 0.00062 x 365 x v covers it:
    # (12,502 + 17,957) / 0.2263 = 134,600 a day, while two cards carry the load.
    assert decision.recommendation == "call-teacher"
    (low, high) = decision.break_even["self-host"].requests_per_day[0]
    assert low == pytest.approx(own.present_value_usd / (0.00062 * 365), rel=1e-6)
    assert high == math.inf
    assert decision.break_even["self-host"].months is None


def test_azure_code_trace() -> None:
    """The real trace: its rate, its burstiness and its 8,819 pairs of lengths, for the year from December 2026."""
    if not TRACE.is_file():
        pytest.skip(f"{TRACE.name} lies in ../shared, which is not here")
    trace = pd.read_csv(TRACE, parse_dates=["TIMESTAMP"])
    gaps = trace["TIMESTAMP"].sort_values().diff().dt.total_seconds().dropna()
    rate, cv = 1 / gaps.mean(), gaps.std(ddof=0) / gaps.mean()
    assert rate == pytest.approx(2.57, abs=0.01)  # FACTS: 2.57 requests a second,
    assert cv == pytest.approx(13.2, abs=0.1)  # CV 13.2,
    assert trace["ContextTokens"].mean() == pytest.approx(2048, abs=1)  # 2048 tokens in,
    assert trace["GeneratedTokens"].mean() == pytest.approx(28, abs=0.5)  # 28 out

    workload = Workload(
        name="Azure code completion",
        requests_per_day=rate * 86_400,
        interarrival_cv=cv,
        length_sample=tuple(zip(trace["ContextTokens"], trace["GeneratedTokens"], strict=True)),
        slo={"tpot_p95_ms": 30},
        quality={"floor_relative_to_teacher": 0.9},
        horizon_months=12,
        start=date(2026, 12, 1),
    )
    decision = recommend(
        workload,
        catalog=Catalog.load(FIXED),
        teacher="openai/gpt-6-sol",
        students="qwen3-8b",
        gpus="h100-sxm",
        student_retention=0.96,
        options=("call-teacher", "self-host"),
        use={"competes_with_teacher": False},
    )

    # The big model: 2047.85 x 2e-6 + 27.88 x 10e-6 = 0.0043745 USD a request, 2.5664 x 86,400 = 221,737 a day:
    # 970 USD a day, 354,000 a year.
    per_request = trace["ContextTokens"].mean() * 2e-6 + trace["GeneratedTokens"].mean() * 10e-6
    assert per_request == pytest.approx(0.0043745, rel=1e-4)
    teacher = decision.options["call-teacher"]
    assert teacher.present_value_usd == pytest.approx(per_request * rate * 86_400 * 365)
    assert teacher.present_value_usd == pytest.approx(354_047, rel=1e-3)

    # The student, qwen3-8b in bf16 on an H100. Weights (8.19e9 - 151,936 x 4,096 of embeddings) x 2 = 15.14 GB, at
    # 0.8 x 3,350 GB/s 5.648 ms. Cache: 4 x 36 layers x 8 heads x 128 = 147,456 bytes a token; context 2047.85 + 13.94
    # tokens: 0.1134 ms a request in flight, and computing its token 2 x 8.19e9 / (0.5 x 989e12) = 0.0331 ms.
    # A prompt adds (2 x 8.19e9 x s + 2 x 36 x 32 x 128 x s^2) / (0.5 x 989e12) to the steps, with E[s^2] of the
    # trace; alone it waits for the weights and 2 ms as well.
    s, o = trace["ContextTokens"].mean(), trace["GeneratedTokens"].mean()
    s2 = (trace["ContextTokens"] ** 2).mean()
    weights = (8.19e9 - 151_936 * 4096) * 2 / (0.8 * 3350e9)
    each = (s + o / 2) * 147_456 / (0.8 * 3350e9) + 2 * 8.19e9 / (0.5 * 989e12)
    prompt = (2 * 8.19e9 * s + 2 * 36 * 4096 * s2) / (0.5 * 989e12)
    prefill = prompt + weights + 0.002
    # TPOT(b) = weights + b each + 2 ms + (b - 1) prompt / o <= 30 ms gives the batch.
    batch = math.floor((0.030 - weights - 0.002 + prompt / o) / (each + prompt / o))
    own = decision.options["self-host"]
    assert own.facts["batch"] == batch == 9
    seconds = prefill + (o - 1) * (weights + batch * each + 0.002 + (batch - 1) * prompt / o)
    # In flight: a = r S; slots a + 1.645 sqrt(a (cv^2 + 1) / 2); replicas = slots / batch, up; one spare.
    in_flight = rate * seconds
    slots = in_flight + 1.6449 * math.sqrt(in_flight * (cv**2 + 1) / 2)
    replicas = math.ceil(slots / batch) + 1
    assert own.facts["replicas"] == replicas == 4
    running = replicas * 2.50 * 24 * 365 + 12 * 10 * 100
    assert float(own.monthly_total_usd.sum()) == pytest.approx(running)
    # 354,000 against 112,000 USD: distill; 30,070 in December against 8,440 pays the 12,519 back in 18 days.
    assert decision.recommendation == "self-host"
    december = per_request * rate * 86_400 * 31 - (replicas * 2.50 * 24 * 31 + 1_000)
    assert decision.payback_months() == pytest.approx(own.one_off_total_usd / december)
    assert decision.break_even["self-host"].day == date(2026, 12, 19)
