"""Should this traffic keep calling the big model, or be served by a distilled small one?

``recommend(Workload(...), teacher=...)`` answers; everything else is imported when first used, so that
``import distillcalc`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distillcalc.catalog import Catalog, price_requests
    from distillcalc.decide import Decision, Uncertainty, boundary, explain, recommend, sweep, timing, with_priors
    from distillcalc.errors import DistillcalcError
    from distillcalc.workload import (
        Choices,
        Distillation,
        Evaluation,
        Quality,
        Routing,
        Scenario,
        Serving,
        Slo,
        TokenLengths,
        Use,
        Workload,
    )
    from distillcalc.workload.distributions import (
        Distribution,
        beta,
        discrete,
        empirical,
        lognormal,
        triangular,
        uniform,
    )

__version__ = "0.1.0"

_HOMES = {
    "distillcalc.catalog": ("Catalog", "price_requests"),
    "distillcalc.decide": (
        "Decision",
        "Uncertainty",
        "boundary",
        "explain",
        "recommend",
        "sweep",
        "timing",
        "with_priors",
    ),
    "distillcalc.errors": ("DistillcalcError",),
    "distillcalc.workload": (
        "Choices",
        "Distillation",
        "Evaluation",
        "Quality",
        "Routing",
        "Scenario",
        "Serving",
        "Slo",
        "TokenLengths",
        "Use",
        "Workload",
    ),
    "distillcalc.workload.distributions": (
        "Distribution",
        "beta",
        "discrete",
        "empirical",
        "lognormal",
        "triangular",
        "uniform",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Catalog",
    "Choices",
    "Decision",
    "Distillation",
    "DistillcalcError",
    "Distribution",
    "Evaluation",
    "Quality",
    "Routing",
    "Scenario",
    "Serving",
    "Slo",
    "TokenLengths",
    "Uncertainty",
    "Use",
    "Workload",
    "beta",
    "boundary",
    "discrete",
    "empirical",
    "explain",
    "lognormal",
    "price_requests",
    "recommend",
    "sweep",
    "timing",
    "triangular",
    "uniform",
    "with_priors",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'distillcalc' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
