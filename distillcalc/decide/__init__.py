"""Gates weighed, options compared, break-even and tipping points found, odds drawn: the Decision."""

from distillcalc.decide.decision import Decision
from distillcalc.decide.explain import explain
from distillcalc.decide.recommend import recommend
from distillcalc.decide.sweep import sweep
from distillcalc.decide.timing import timing

__all__ = ["Decision", "explain", "recommend", "sweep", "timing"]
