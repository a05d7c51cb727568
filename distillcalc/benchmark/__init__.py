"""Measure a student or an endpoint, and hold the estimate against the measurement.

``benchmark(target, workload)`` measures an ``InProcess`` model, an ``InProcessClassifier``, a shape (``load_shape``) or
an ``Endpoint``;
``validate(records, machine=...)`` puts estimate and measurement side by side and fits the engine to them, and
``redecide(scenario, ...)`` says what the decision becomes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from distillcalc.lazy import lazily

if TYPE_CHECKING:
    from distillcalc.benchmark.classifying import InProcessClassifier
    from distillcalc.benchmark.comparing import Comparison, compare
    from distillcalc.benchmark.endpoint import Endpoint
    from distillcalc.benchmark.in_process import InProcess
    from distillcalc.benchmark.judge import Judge
    from distillcalc.benchmark.machine import MachineSpeed, describe_machine, measure_machine
    from distillcalc.benchmark.power import PowerMeter
    from distillcalc.benchmark.quality import Quality, measure_quality
    from distillcalc.benchmark.record import Record, Samples
    from distillcalc.benchmark.redeciding import Redecision, redecide
    from distillcalc.benchmark.run import Benchmark, benchmark
    from distillcalc.benchmark.shapes import load_shape
    from distillcalc.benchmark.validation import Validation, validate

_HOMES = {
    "classifying": ("InProcessClassifier",),
    "comparing": ("Comparison", "compare"),
    "endpoint": ("Endpoint",),
    "in_process": ("InProcess",),
    "judge": ("Judge",),
    "machine": ("MachineSpeed", "describe_machine", "measure_machine"),
    "power": ("PowerMeter",),
    "quality": ("Quality", "measure_quality"),
    "record": ("Record", "Samples"),
    "redeciding": ("Redecision", "redecide"),
    "run": ("Benchmark", "benchmark"),
    "shapes": ("load_shape",),
    "validation": ("Validation", "validate"),
}

__all__ = [
    "Benchmark",
    "Comparison",
    "Endpoint",
    "InProcess",
    "InProcessClassifier",
    "Judge",
    "MachineSpeed",
    "PowerMeter",
    "Quality",
    "Record",
    "Redecision",
    "Samples",
    "Validation",
    "benchmark",
    "compare",
    "describe_machine",
    "load_shape",
    "measure_machine",
    "measure_quality",
    "redecide",
    "validate",
]


__getattr__, __dir__ = lazily(__name__, _HOMES)
