"""Student or teacher, request by request: scores, calibration, curves, a router and its upkeep.

``fit_router(pairs, goal)`` makes a router from what both models answered and people judged, certifies it, and says
where it is worth nothing; ``router.decide(request)`` says which model answers; ``RoutedClient`` does so behind the
interface of the openai client; ``Watch`` tells when a router no longer does what it promised; and
``with_router(scenario, router)`` lets a decision take its threshold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from distillcalc.lazy import lazily

if TYPE_CHECKING:
    from distillcalc.route.bands import Bands
    from distillcalc.route.certificate import Certificate, certify
    from distillcalc.route.client import RoutedClient
    from distillcalc.route.confidence import Confidence
    from distillcalc.route.cross_fit import cross_fit
    from distillcalc.route.curve import Curve
    from distillcalc.route.deciding import with_router
    from distillcalc.route.embedding import Embedder
    from distillcalc.route.evaluate import Evaluation, evaluate_router
    from distillcalc.route.figures import curve_figure, reliability_figure
    from distillcalc.route.fit import Fitted, fit_router
    from distillcalc.route.given import Given, UserScore
    from distillcalc.route.goal import Goal
    from distillcalc.route.learned import LearnedScore
    from distillcalc.route.pairs import Pairs
    from distillcalc.route.probability import Calibration
    from distillcalc.route.reading import read_pairs, write_pairs
    from distillcalc.route.requests import Request, Route
    from distillcalc.route.router import Router
    from distillcalc.route.rules import Rules
    from distillcalc.route.shadow import ShadowClient
    from distillcalc.route.watch import Watch

_HOMES = {
    "bands": ("Bands",),
    "certificate": ("Certificate", "certify"),
    "client": ("RoutedClient",),
    "confidence": ("Confidence",),
    "cross_fit": ("cross_fit",),
    "curve": ("Curve",),
    "deciding": ("with_router",),
    "embedding": ("Embedder",),
    "evaluate": ("Evaluation", "evaluate_router"),
    "figures": ("curve_figure", "reliability_figure"),
    "fit": ("Fitted", "fit_router"),
    "given": ("Given", "UserScore"),
    "goal": ("Goal",),
    "learned": ("LearnedScore",),
    "pairs": ("Pairs",),
    "probability": ("Calibration",),
    "reading": ("read_pairs", "write_pairs"),
    "requests": ("Request", "Route"),
    "router": ("Router",),
    "rules": ("Rules",),
    "shadow": ("ShadowClient",),
    "watch": ("Watch",),
}

__all__ = [
    "Bands",
    "Calibration",
    "Certificate",
    "Confidence",
    "Curve",
    "Embedder",
    "Evaluation",
    "Fitted",
    "Given",
    "Goal",
    "LearnedScore",
    "Pairs",
    "Request",
    "Route",
    "RoutedClient",
    "Router",
    "Rules",
    "ShadowClient",
    "UserScore",
    "Watch",
    "certify",
    "cross_fit",
    "curve_figure",
    "evaluate_router",
    "fit_router",
    "read_pairs",
    "reliability_figure",
    "with_router",
    "write_pairs",
]

__getattr__, __dir__ = lazily(__name__, _HOMES)
