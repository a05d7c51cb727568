"""The draws of the benchmark, and their memory in a process of its own: run, it prints one line of JSON.

Support triage with six options over 36 months, eight of its inputs uncertain.
"""

from __future__ import annotations

import json
import runpy
import time
from pathlib import Path
from typing import Any

from distillcalc import Scenario
from distillcalc.decide.uncertainty import Uncertainty
from distillcalc.workload.distributions import lognormal, triangular, uniform
from distillcalc.workload.files import load_scenario

MONTHS = 36
DRAWS = 1 << 16
OPTIONS = ("call-teacher", "call-small", "hosted-open-student", "hosted-fine-tune", "self-host", "cascade")


def question() -> Scenario:
    """Support triage, its volume, growth, lengths, prices and people uncertain."""
    plain = load_scenario("support-triage").to_dict()
    plain["workload"] |= {
        "horizon_months": MONTHS,
        "requests_per_day": lognormal(40_000, 90_000),
        "growth_per_month": triangular(-0.02, 0.03, 0.08),
        "output_tokens": {"mean": triangular(40, 60, 90), "p95": 140},
    }
    plain["choices"] |= {
        "options": OPTIONS,
        "students": ["qwen3-4b"],
        "evaluations": {name: plain["choices"]["evaluations"][name] for name in ("teacher", "qwen3-4b")},
        "teacher_price_factor": uniform(0.7, 1),
        "gpu_price_factor": triangular(0.8, 1, 1.3),
        "token_price_change_per_year": triangular(-0.5, -0.1, 0),
        "distillation": {"engineering_hours": lognormal(160, 320)},
        "serving": {"operations_hours_per_month": triangular(5, 10, 25)},
    }
    return Scenario.from_dict(plain)


def everything(scenario: Scenario, draws: int = DRAWS) -> Uncertainty:
    """All that is told of a scenario that is uncertain, but for the tipping points."""
    u = Uncertainty.of(scenario, draws=draws)
    assert u.options
    assert u.evpi_usd is not None
    assert u.evpi_by_input
    assert u.sample_values is not None
    assert all(u.monthly_usd(option).shape == (3, MONTHS) for option in u.options)
    assert u.tornado
    assert u.indices
    return u


def preview(scenario: Scenario, draws: int = 2_048) -> Any:
    """What a slider shows while it moves: the odds and the regret."""
    u = Uncertainty.of(scenario, draws=draws)
    return u.options, u.evpi_usd


if __name__ == "__main__":
    memory_mib = runpy.run_path(str(Path(__file__).with_name("sweep_once.py")))["memory_mib"]
    scenario = question()
    everything(scenario, 64)  # loads the catalog, the price list, scipy.stats and SALib
    start = time.perf_counter()
    everything(scenario)
    print(json.dumps({"seconds": time.perf_counter() - start, "peak_mib": memory_mib("VmHWM")}))
