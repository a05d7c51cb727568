"""Gates weighed, options compared, break-even and tipping points found: the Decision."""

from distillcalc.decide.decision import Decision
from distillcalc.decide.recommend import recommend
from distillcalc.decide.sweep import sweep

__all__ = ["Decision", "recommend", "sweep"]
