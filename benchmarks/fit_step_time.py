"""Fit the constants of the step-time model to measured points and write them where the package reads them.

    python benchmarks/fit_step_time.py MEASUREMENTS.csv

writes data/engines.toml and data/step_time_accuracy.csv. The points used for the shipped ones are those of
ai-dynamo/aiconfigurator (Apache-2.0), which are not part of this repository; `distillcalc accuracy MEASUREMENTS.csv`
reproduces the errors.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import tomli_w

from distillcalc.catalog import Catalog
from distillcalc.estimate.accuracy import STORED, accuracy
from distillcalc.estimate.calibration import fitted_engines, read_measurements

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
    "request_s": 0.002,
    "source": "assumed; SmolLM2-135M on two CPU cores decoded at 0.5 of an assumed bandwidth (data/gpus.toml)",
    "confidence": "low",
    "note": "Not fitted. Measure on the device, and refit with calibrate() before deciding on it.",
}


def main() -> None:
    """Fit, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measurements", type=Path)
    measurements = parser.parse_args().measurements
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
    tables["llama-cpp"] = {**EDGE, "checked": found.checked}
    (DATA / "engines.toml").write_text(HEAD + "\n" + tomli_w.dumps(tables), encoding="utf-8")
    found.save(DATA / STORED)


if __name__ == "__main__":
    main()
