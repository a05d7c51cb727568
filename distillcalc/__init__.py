"""Should this traffic keep calling the big model, or be served by a distilled small one?

``recommend(Workload(...), teacher=...)`` answers; everything else is imported when first used, so that
``import distillcalc`` is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from distillcalc.lazy import lazily

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
    "catalog": ("Catalog", "price_requests"),
    "decide": (
        "Decision",
        "Uncertainty",
        "boundary",
        "explain",
        "recommend",
        "sweep",
        "timing",
        "with_priors",
    ),
    "errors": ("DistillcalcError",),
    "workload": (
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
    "workload.distributions": (
        "Distribution",
        "beta",
        "discrete",
        "empirical",
        "lognormal",
        "triangular",
        "uniform",
    ),
}

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


__getattr__, __dir__ = lazily(__name__, _HOMES)
