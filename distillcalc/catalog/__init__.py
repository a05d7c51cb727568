"""What is known: token prices, GPU prices, fine-tuning prices, retirements, models, terms."""

from distillcalc.catalog.load import Catalog, provenance_of
from distillcalc.catalog.prices import TokenPriceOverride, TokenPrices, price_requests
from distillcalc.catalog.schema import (
    ApiRow,
    EngineRow,
    FineTunePriceRow,
    GpuPriceRow,
    GpuRow,
    ModelRow,
    RetirementRow,
    Shape,
    TermsRow,
)

__all__ = [
    "ApiRow",
    "Catalog",
    "EngineRow",
    "FineTunePriceRow",
    "GpuPriceRow",
    "GpuRow",
    "ModelRow",
    "RetirementRow",
    "Shape",
    "TermsRow",
    "TokenPriceOverride",
    "TokenPrices",
    "price_requests",
    "provenance_of",
]
