"""Fit the constants of the step-time model to measured points and write them where the package reads them.

    python benchmarks/fit_step_time.py MEASUREMENTS.csv SPLITWISE.csv

writes data/engines.toml and data/step_time_accuracy.csv. The points used for the shipped ones are those of
ai-dynamo/aiconfigurator (Apache-2.0) and, for the engines of 2023, of Mutinifni/splitwise-sim (MIT), which are not part
of this repository; `distillcalc accuracy MEASUREMENTS.csv` reproduces the errors.
"""

from __future__ import annotations

import argparse
import math
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import tomli_w

from distillcalc.catalog import Catalog
from distillcalc.estimate.accuracy import STORED, accuracy
from distillcalc.estimate.calibration import ENGINE_FIELDS, fitted_engines, predict, read_measurements

SOURCE = "measured serving points of ai-dynamo/aiconfigurator (Apache-2.0)"
DATA = Path(__file__).resolve().parents[1] / "data"
NAMES = {"vllm": "vLLM", "sglang": "SGLang", "tensorrt-llm": "TensorRT-LLM"}
HEAD = """# Serving engines: the constants of the step-time model (distillcalc/estimate/step_time.py), written by
# benchmarks/fit_step_time.py and not by hand. Shares are of the hardware's peak; `_s` are seconds. What all fitted
# engines have in common (shares, per-layer costs) was fitted to all points together.
"""

# Phones and CPUs: nothing that was fitted tells of them.
EDGE = {
    "name": "llama.cpp",
    "mbu": 0.6,
    "kv_mbu": 0.5,
    "expert_mbu": 0.5,
    "mfu_bf16": 0.4,
    "mfu_fp8": 0.4,
    "mfu_fp4": 0.4,
    "expert_mfu": 0.2,
    "attention_mfu": 0.2,
    "overlap": 0.0,
    "fixed_s": 0.001,
    "layer_s": 0.0,
    "expert_layer_s": 0.0,
    "quantise_s": 0.0,
    "sequence_s": 0.0005,
    "all_reduce_s": 0.0,
    "link_efficiency": 1.0,
    "repack": 0.0,
    "request_s": 0.002,
    "source": "assumed; SmolLM2-135M on two CPU cores decoded at 0.5 of an assumed bandwidth (data/gpus.toml)",
    "confidence": "low",
    "note": "Not fitted. Measure on the device, and refit with calibrate() before deciding on it.",
}


OLD = "engines-2023"
LLAMA_2_70B = {
    "name": "Llama 2 70B",
    "provider": "meta",
    "kind": "open",
    "params_b": 69.0,
    "shape": {"layers": 80, "hidden": 8192, "heads": 64, "kv_heads": 8, "head_dim": 128, "vocab": 32000},
}


def old_points(splitwise: Path) -> pd.DataFrame:
    """Single requests to llama2-70b in 16 bits on A100 and H100, medians of the repeated runs."""
    table = pd.read_csv(splitwise)
    gpus = {"a100-80gb": "a100-80gb-sxm", "h100-80gb": "h100-sxm"}
    table = table[(table.model == "llama2-70b") & table.hardware.isin(gpus) & (table.batch_size == 1)]
    runs = ["hardware", "tensor_parallel", "prompt_size", "token_size"]
    table = table.groupby(runs)[["prompt_time", "token_time"]].median().reset_index()
    return pd.DataFrame(
        {
            "model": "llama-2-70b",
            "gpu": table.hardware.map(gpus),
            "engine": OLD,
            "tensor_parallel": table.tensor_parallel,
            "input_tokens": table.prompt_size,
            "output_tokens": table.token_size,
            "concurrency": 1,
            "tpot_s": table.token_time / 1000,
            "ttft_s": table.prompt_time / 1000,
        }
    )


def old_engine(splitwise: Path, near: dict[str, object]) -> dict[str, object]:
    """The row of an engine as they were in 2023: a modern one's but for what a layer takes to launch.

    Single requests tell of one constant only: the median of what is left of a token's time, by layer.
    """
    engine = {**near, "name": "Engines of 2023", "layer_s": 0.0}
    catalog = Catalog.load({"engines": {OLD: engine}, "models": {"llama-2-70b": LLAMA_2_70B}})
    points = read_measurements(old_points(splitwise), catalog)
    measured = points.column("tpot_s")
    left = measured - predict(points, {OLD: catalog.engines[OLD]}).tpot_s
    layer_s = float(f"{np.median(left / points.placement.layers):.3g}")
    row = catalog.engines[OLD].model_copy(update={"layer_s": layer_s})
    off = np.abs(np.log(predict(points, {OLD: row}).tpot_s / measured))
    return {
        "name": "Engines of 2023",
        **{name: getattr(row, name) for name in ENGINE_FIELDS},
        "rows": len(points),
        "tpot_factor": math.ceil(float(np.exp(np.quantile(off, 0.9, method="higher"))) * 1000) / 1000,
        "source": "layer_s fitted to single requests of Mutinifni/splitwise-sim (MIT), llama2-70b on A100 and H100; "
        "the rest as of vllm",
        "confidence": "low",
        "note": "For older deployments. What such an engine does with batches and mixtures of experts was not fitted; "
        "tpot_factor is in the sample.",
    }


def main() -> None:
    """Fit, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measurements", type=Path)
    parser.add_argument("splitwise", type=Path)
    arguments = parser.parse_args()
    measurements = arguments.measurements
    points = read_measurements(measurements, Catalog.load())
    found = accuracy(points, source=SOURCE)
    factors = {
        f"{what}_factor{'_moe' if family == 'moe' else ''}": math.ceil(factor * 1000) / 1000
        for (what, family), factor in found.intervals.items()
    }
    tables = {}
    for engine, constants in fitted_engines(points).items():
        tables[engine] = {
            "name": NAMES.get(engine, engine),
            **constants,
            **factors,
            "source": f"fitted to {SOURCE}: Llama-3.1 8B and 70B, gpt-oss-120b and Qwen3-235B-A22B on H100, H200 and "
            "B200",
            "checked": found.checked,
            "confidence": "medium",
            "note": "Other engines, older versions and other GPUs may differ: refit with calibrate().",
        }
    near = {name: tables["vllm"][name] for name in ENGINE_FIELDS}
    tables[OLD] = {**old_engine(arguments.splitwise, near), "checked": found.checked}
    tables["llama-cpp"] = {**EDGE, "checked": found.checked}
    kept = tomllib.loads((DATA / "engines.toml").read_text(encoding="utf-8"))
    tables["transformers"] = kept["transformers"]  # scripts/validate_students.py fits it
    (DATA / "engines.toml").write_text(HEAD + "\n" + tomli_w.dumps(tables), encoding="utf-8")
    found.save(DATA / STORED)


if __name__ == "__main__":
    main()
