"""Priors laid over a scenario: only where it states nothing, and around what it states."""

from __future__ import annotations

import pytest

from distillcalc import Catalog, Scenario, recommend
from distillcalc.decide.priors import DRAWN_ANYWAY, with_priors
from distillcalc.errors import InputError
from distillcalc.estimate.inputs import SPECS, uncertain_inputs
from distillcalc.estimate.quality import RETENTION_PRIOR
from distillcalc.workload.distributions import Distribution, beta, triangular
from tests.decide.scenarios import scenario

PRIORS = Catalog.load().priors


def test_each_prior_is_of_an_input() -> None:
    assert set(PRIORS) <= set(SPECS)
    assert Distribution.of(PRIORS["student_retention"].distribution) == beta(*RETENTION_PRIOR)


def test_what_is_not_stated_is_as_uncertain_as_its_prior() -> None:
    made = with_priors(scenario())
    found = uncertain_inputs(made)
    assert set(found) == set(PRIORS) - set(DRAWN_ANYWAY)
    assert set(made.priors) == set(found)
    assert found["requests_per_day"] == Distribution.of(PRIORS["requests_per_day"].distribution).scaled(10_000)
    assert found["growth_per_month"] == Distribution.of(PRIORS["growth_per_month"].distribution)
    assert Scenario.from_dict(made.to_dict()) == made


def test_what_is_stated_stays() -> None:
    made = with_priors(
        scenario(
            workload={"growth_per_month": 0.01, "requests_per_day": triangular(1, 2, 3)},
            choices={"routing": {"escalation_rate": 0.3}},
        )
    )
    assert made.workload.growth_per_month == 0.01
    assert made.workload.uncertain["requests_per_day"] == triangular(1, 2, 3)
    assert made.choices.routing.escalation_rate == 0.3
    assert not {"growth_per_month", "requests_per_day", "escalation_rate"} & set(made.priors)


def test_a_router_that_only_a_prior_knows_is_an_even_bet_still() -> None:
    u = recommend(with_priors(scenario()), draws=1_024).uncertainty
    assert u.options["cascade"].gates["router"] == pytest.approx(0.5, abs=0.01)


def test_a_prior_of_the_user_s_own_stands_over_the_catalog_s() -> None:
    plain = scenario().to_dict()
    plain["overrides"] = {"priors": {"growth_per_month": {"distribution": {"uniform": [0.0, 0.01]}}}}
    made = with_priors(Scenario.from_dict(plain))
    assert made.workload.uncertain["growth_per_month"].ends == (0.0, 0.01)


def test_a_prior_of_what_is_no_input_is_refused() -> None:
    plain = scenario().to_dict()
    plain["overrides"] = {"priors": {"moon": {"distribution": {"uniform": [0.0, 1.0]}, "evidence": "none at all"}}}
    with pytest.raises(InputError, match=r"priors\.moon is not an input"):
        with_priors(Scenario.from_dict(plain))
