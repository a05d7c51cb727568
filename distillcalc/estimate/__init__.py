"""What one option would cost, how fast and how good it would be: inputs, options, estimates."""

from distillcalc.estimate.inputs import SPECS, Inputs, with_inputs
from distillcalc.estimate.outcome import Estimate, Gate

__all__ = ["SPECS", "Estimate", "Gate", "Inputs", "with_inputs"]
