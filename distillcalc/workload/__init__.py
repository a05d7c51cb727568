"""What the traffic looks like: the workload, its token lengths, its arrivals, and the scenario file."""

from distillcalc.workload.arrivals import Profile, business_hours, cache_hit_share
from distillcalc.workload.lengths import TokenLengths
from distillcalc.workload.scenario import (
    OPTION_IDS,
    Choices,
    Distillation,
    Evaluation,
    Routing,
    Scenario,
    Serving,
    Use,
)
from distillcalc.workload.workload import Quality, Slo, Workload

__all__ = [
    "OPTION_IDS",
    "Choices",
    "Distillation",
    "Evaluation",
    "Profile",
    "Quality",
    "Routing",
    "Scenario",
    "Serving",
    "Slo",
    "TokenLengths",
    "Use",
    "Workload",
    "business_hours",
    "cache_hit_share",
]
