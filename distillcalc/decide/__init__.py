"""Gates weighed, options compared, break-even and tipping points found, odds drawn: the Decision."""

from distillcalc.decide.boundary import boundary
from distillcalc.decide.decision import Decision
from distillcalc.decide.explain import explain
from distillcalc.decide.priors import with_priors
from distillcalc.decide.recommend import recommend
from distillcalc.decide.sweep import sweep
from distillcalc.decide.timing import timing
from distillcalc.decide.uncertainty import Uncertainty

__all__ = [
    "Decision",
    "Uncertainty",
    "boundary",
    "explain",
    "recommend",
    "sweep",
    "timing",
    "with_priors",
]
