"""The sweep of the benchmark, and its memory in a process of its own: run, it prints one line of JSON.

Baseline is what the process holds after the import, ready after a sweep of one scenario has loaded the
catalog, the price list and pandas, peak the most it ever held.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillcalc import Scenario, sweep
from distillcalc.estimate.inputs import with_inputs
from distillcalc.workload.files import load_scenario

SCENARIOS = 10_000
MONTHS = 36


def question() -> tuple[Scenario, dict[str, NDArray[np.float64]]]:
    """Support triage over 36 months: 10 to 10 million requests a day, shrinking by 5% to growing by 15% a month."""
    scenario = with_inputs(load_scenario("support-triage"), {"horizon_months": MONTHS})
    return scenario, {
        "requests_per_day": np.geomspace(10, 1e7, SCENARIOS),
        "growth_per_month": np.tile(np.linspace(-0.05, 0.15, 100), SCENARIOS // 100),
    }


def memory_mib(what: str) -> float:
    """Resident memory of this process by its name in /proc/self/status: VmRSS now, VmHWM at most [MiB]."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith(f"{what}:"))
        return int(line.split()[1]) / 1024
    # Without /proc there is only the peak. On Linux it would be wrong: a child starts with its parent's.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


if __name__ == "__main__":
    baseline = memory_mib("VmRSS")
    scenario, inputs = question()
    sweep(scenario, {name: values[:1] for name, values in inputs.items()})
    ready = memory_mib("VmRSS")
    start = time.perf_counter()
    rows = len(sweep(scenario, inputs))
    seconds = time.perf_counter() - start
    print(
        json.dumps(
            {
                "rows": rows,
                "seconds": seconds,
                "baseline_mib": baseline,
                "ready_mib": ready,
                "peak_mib": memory_mib("VmHWM"),
            }
        )
    )
