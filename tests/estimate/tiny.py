"""A catalog and scenarios small enough to work out by hand; helpers, no tests.

Money: acme/big costs 10 USD per million tokens in, 1 cached, 20 out, half of that in a batch; acme/small
1 and 2; host/tiny 0.5 and 1. One toy GPU costs 2 USD an hour.

Machine: the student "tiny" has 8 x 10^9 parameters (16 GB in bf16) and 2,000 bytes of cache a token. A toy
has 100 GB, of which 90 may be used, reads 800 GB/s (1,000 x MBU 0.8) and computes 5 x 10^13 FLOP/s
(10^14 x MFU 0.5). So reading the weights takes 20 ms, reading a token's cache 2.5 ns, computing a token
0.32 ms (16 x 10^9 / 5 x 10^13), and a step 2 ms more than that. Its engine hides all of the shorter of reading
and computing behind the longer one, and adds nothing for a sequence, a layer or a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from distillcalc.catalog import Catalog
from distillcalc.estimate.capacity import Load, Machines, machines
from distillcalc.estimate.context import Context
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.outcome import Outcome
from distillcalc.workload import Scenario, Serving
from distillcalc.workload.lengths import LognormalLengths

DAYS = np.array([31, 31, 28])  # of the three months

NOTHING = Catalog({}, {}, {}, {}, {}, {}, {})

SHAPE = {
    "layers": 5, "hidden": 100, "heads": 8, "kv_heads": 4, "head_dim": 25, "vocab": 1000, "tied_embeddings": True,
}  # fmt: skip

ROOFLINE = {
    "name": "Roofline", "mbu": 0.8, "kv_mbu": 0.8, "expert_mbu": 0.8, "mfu_bf16": 0.5, "mfu_fp8": 0.5, "mfu_fp4": 0.5,
    "expert_mfu": 0.5, "attention_mfu": 0.5, "overlap": 1, "fixed_s": 0.002, "layer_s": 0, "expert_layer_s": 0,
    "quantise_s": 0, "sequence_s": 0, "all_reduce_s": 1e-5, "link_efficiency": 1, "request_s": 0,
}  # fmt: skip

ROWS: dict[str, dict[str, dict[str, Any]]] = {
    "token_prices": {
        "acme/big": {
            "input_usd_per_mtok": 10,
            "output_usd_per_mtok": 20,
            "cached_input_usd_per_mtok": 1,
            "batch_input_usd_per_mtok": 5,
            "batch_output_usd_per_mtok": 10,
            "context_window": 100_000,
        },
        "acme/small": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2},
        "acme/next": {"input_usd_per_mtok": 3, "output_usd_per_mtok": 4},
        "host/tiny": {"input_usd_per_mtok": 0.5, "output_usd_per_mtok": 1},
    },
    "models": {
        "big": {
            "name": "Big",
            "provider": "acme",
            "kind": "commercial",
            "terms": "acme-api",
            "price_refs": ["acme/big"],
            "small_siblings": ["acme/small"],
        },
        "small": {
            "name": "Small",
            "provider": "acme",
            "kind": "commercial",
            "price_refs": ["acme/small"],
            "claimed_retention": [0.8, 0.9],
        },
        "tiny": {
            "name": "Tiny",
            "provider": "lab",
            "kind": "open",
            "params_b": 8,
            "shape": SHAPE,
            "context_window": 32_768,
            "price_refs": ["host/tiny"],
        },
    },
    "terms": {
        "acme-api": {
            "provider": "acme",
            "surface": "api",
            "says": "No competing models.",
            "position": "conditional",
            "private_classifier": "pass",
            "not_competing": "pass",
            "competing": "fail",
        }
    },
    "gpus": {
        "toy": {
            "name": "Toy",
            "memory_gb": 100,
            "bandwidth_gb_s": 1000,
            "bf16_tflops": 100,
            "tdp_w": 500,
            "link_gb_s": 1e9,
        },
    },
    "gpu_prices": {
        "toy-rent": {"gpu": "toy", "provider": "cloud", "commitment": "on-demand", "usd_per_gpu_hour": 2},
    },
    "finetune_prices": {
        "acme-small-sft": {
            "provider": "acme",
            "base": "small",
            "training_usd_per_mtok": 4,
            "input_usd_per_mtok": 2,
            "output_usd_per_mtok": 4,
        },
        "host-8b-lora": {
            "provider": "host",
            "base": "up to 8B",
            "method": "lora",
            "max_params_b": 8,
            "training_usd_per_mtok": 0.5,
            "hosting_usd_per_hour": 3,
            "hosting_gpu": "toy",
        },
    },
    "engines": {"vllm": ROOFLINE, "llama-cpp": ROOFLINE},
    "apis": {
        "acme": {"provider": "acme", "cache_min_prefix_tokens": 500, "cache_ttl_s": 300},
        "acme-big": {"provider": "acme", "model": "big", "ttft_p50_s": 0.5, "output_tokens_per_s": 50},
    },
}


# An end of acme/big inside the horizon, with a successor at 3 and 4: 0.0034 a request.
END = {"provider": "acme", "model": "big", "what": "shutdown", "on": "2027-01-15", "replacement": "acme/next"}


def catalog(**tables: dict[str, dict[str, Any]]) -> Catalog:
    """The small catalog, with rows laid over it."""
    return NOTHING.with_overrides(ROWS).with_overrides(tables)


def scenario(
    workload: Mapping[str, Any] | None = None,
    choices: Mapping[str, Any] | None = None,
    use: Mapping[str, Any] | None = None,
) -> Scenario:
    """1,000 requests a day of 1,000 tokens in and 100 out, over the 90 days from December 2026 to February 2027."""
    return Scenario.from_dict(
        {
            "workload": {
                "requests_per_day": 1000,
                "input_tokens": 1000,
                "output_tokens": 100,
                "horizon_months": 3,
                "start": "2026-12-01",
                **(workload or {}),
            },
            "choices": {
                "teacher": "acme/big",
                "students": ["tiny"],
                "gpus": ["toy"],
                **(choices or {}),
                "distillation": {"training_gpu": "toy", **(choices or {}).get("distillation", {})},
            },
            "use": dict(use or {}),
        }
    )


def outcomes(
    option: str,
    case: Scenario | None = None,
    known: Catalog | None = None,
    arrays: Mapping[str, ArrayLike] | None = None,
) -> list[Outcome]:
    """Every candidate of an option."""
    return Context(Inputs(case or scenario(), arrays), known or catalog()).outcomes(option)


def only(option: str, case: Scenario | None = None, known: Catalog | None = None, **arrays: ArrayLike) -> Outcome:
    """The only candidate of an option."""
    (found,) = outcomes(option, case, known, arrays)
    return found


def verdict(outcome: Outcome, gate: str, i: int = 0) -> str | None:
    """pass, fail or unknown of a gate in scenario i; None where the option has no such gate."""
    found = next((g for g in outcome.gates if g.name == gate), None)
    if found is None:
        return None
    return {1: "pass", 0: "unknown", -1: "fail"}[int(found.code[i if found.code.shape[0] > 1 else 0, 0])]


def detail(outcome: Outcome, gate: str, i: int = 0) -> str:
    """What a gate says in scenario i."""
    return next(g for g in outcome.gates if g.name == gate).detail(i)


def lengths(input_tokens: float, output_tokens: float, sigma_in: float = 0.0, sigma_out: float = 0.0) -> Any:
    """Joint lengths of one scenario."""
    return LognormalLengths(np.array([[input_tokens]]), np.array([[output_tokens]]), sigma_in, sigma_out, 0.0)


def load(
    input_tokens: float, output_tokens: float, thinking: float = 0.0, sigma_in: float = 0.0, sigma_out: float = 0.0
) -> Load:
    """A request as the engine sees it."""
    return Load.of(lengths(input_tokens, output_tokens, sigma_in, sigma_out), np.array([[thinking]]))


def machine(known: Catalog, model: str, *gpus: str, **serving: Any) -> Machines:
    """A model's constants on GPUs of a catalog."""
    return machines(known.model(model), [(name, known.gpu(name)) for name in gpus], Serving(**serving), known.engines)
