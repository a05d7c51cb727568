"""The catalog's priors: each is a distribution with its evidence. That of token prices: test_price_history."""

from __future__ import annotations

import pytest

from distillcalc.catalog import Catalog
from distillcalc.errors import InputError
from distillcalc.workload.distributions import Distribution


def test_every_prior_is_a_distribution_with_its_evidence() -> None:
    priors = Catalog.load().priors
    assert {"student_retention", "token_price_change_per_year", "growth_per_month", "escalation_rate"} <= set(priors)
    assert {"training_mfu", "engineering_hours", "requests_per_day"} <= set(priors)
    for name, row in priors.items():
        assert Distribution.of(row.distribution).median == pytest.approx(Distribution.of(row.distribution).median)
        assert len(row.evidence) > 20, name
        assert row.confidence == "low" or not row.source.startswith("assumed"), name


def test_a_prior_that_is_no_distribution_is_refused() -> None:
    with pytest.raises(InputError, match=r"priors\.growth_per_month.*low <= mode <= high"):
        Catalog.load({"priors": {"growth_per_month": {"distribution": {"triangular": [3, 2, 4]}}}})
