"""How sure a recommendation is, against posteriors, quantiles and the deterministic decision."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from scipy.special import betainc

from distillcalc import Catalog, Scenario, recommend
from distillcalc.decide.uncertainty import Uncertainty
from distillcalc.errors import InputError
from distillcalc.workload.distributions import beta, discrete, triangular, uniform
from distillcalc.workload.files import load_scenario
from tests.decide.scenarios import scenario


def near(price: tuple[float, float] = (0.6, 1.4), floor: float = 0.9) -> Scenario:
    """A student that pays or does not, by the volume and the price."""
    return scenario(
        workload={
            "requests_per_day": {"lognormal": {"mean": 250_000, "p95": 600_000}},
            "input_tokens": 900,
            "output_tokens": 60,
            "quality": {"floor": floor},
        },
        choices={
            "teacher_price_factor": uniform(*price),
            "options": ["call-teacher", "self-host"],
            "evaluations": {"qwen3-4b": {"correct": 94, "total": 100}, "teacher": {"correct": 97, "total": 100}},
        },
    )


@cache
def drawn() -> Uncertainty:
    return Uncertainty.of(near(), draws=4_096)


def test_the_quality_gate_is_the_beta_posterior() -> None:
    """P(Beta(1 + 94, 1 + 6) >= 0.9), and of the teacher P(Beta(98, 4) >= 0.9)."""
    odds = drawn().options
    assert odds["self-host"].gates["quality"] == pytest.approx(1 - betainc(95, 7, 0.9), abs=1e-3)
    assert odds["call-teacher"].gates["quality"] == pytest.approx(1 - betainc(98, 4, 0.9), abs=1e-3)


def test_a_relative_floor_asks_both_posteriors() -> None:
    made = near()
    plain = made.to_dict()
    plain["workload"]["quality"] = {"floor_relative_to_teacher": 0.96}
    relative = Uncertainty.of(Scenario.from_dict(plain), draws=4_096).options["self-host"].gates["quality"]
    rng = np.random.default_rng(1)
    chance = np.mean(rng.beta(95, 7, 400_000) >= 0.96 * rng.beta(98, 4, 400_000))
    assert relative == pytest.approx(chance, abs=0.005)


def test_odds_add_to_one_and_regret_is_what_hindsight_saves() -> None:
    u = drawn()
    assert sum(u.probability_best.values()) + u.probability_none == pytest.approx(1)
    assert u.chosen is not None
    served = u.drawn.passes.any(axis=1)
    best = np.where(u.drawn.passes, u.drawn.present_value_usd, np.inf).min(axis=1)[served]
    assert u.evpi_usd == pytest.approx(float(np.mean(u.costs[served][:, u.chosen] - best)))
    assert 0 < max(u.evpi_by_input.values()) <= u.evpi_usd + 1e-9
    assert list(u.evpi_by_input.values()) == sorted(u.evpi_by_input.values(), reverse=True)


def test_percentiles_of_what_is_linear_in_one_input() -> None:
    """Calling the big model costs its price: P10, P50, P90 are those of the price factor, in every month."""
    made = scenario(choices={"teacher_price_factor": uniform(0.5, 1.5), "options": ["call-teacher"]})
    u = Uncertainty.of(made, draws=4_096)
    at_list = recommend(scenario(choices={"options": ["call-teacher"]})).options["call-teacher"]
    p10, p50, p90 = u.options["call-teacher"].present_value_usd
    expected = np.array([0.6, 1.0, 1.4]) * at_list.present_value_usd
    np.testing.assert_allclose([p10, p50, p90], expected, rtol=1e-3)
    months = u.monthly_usd("call-teacher")
    assert months.shape == (3, 12)
    np.testing.assert_allclose(months, np.outer([0.6, 1.0, 1.4], at_list.monthly_total_usd), rtol=1e-3)


@pytest.mark.parametrize("name", ["support-triage", "email-classification", "private-notes", "code-completion"])
def test_one_value_is_the_deterministic_decision_exactly(name: str) -> None:
    """A distribution of a single value costs to the last bit what the number costs; without one nothing is drawn."""
    made = load_scenario(name)
    point = recommend(made)
    assert point.drawn is None
    assert point.to_dict()["probability_best"] is None
    plain = made.to_dict()
    plain["workload"]["requests_per_day"] = discrete([made.workload.requests_per_day])
    u = Uncertainty.of(Scenario.from_dict(plain), draws=64)
    for option, estimate in point.options.items():
        column = [
            a
            for a, one in enumerate(u.drawn.alternatives)
            if one.option == option and one.label == estimate.label and not one.unpriced
        ]
        if not column or not np.isfinite(estimate.present_value_usd) or made.workload.wrong_answer_usd:
            continue
        assert np.all(u.drawn.present_value_usd[:, column[0]] == estimate.present_value_usd), option


def test_a_recommendation_over_draws_is_the_cheapest_on_average() -> None:
    decision = recommend(near(), draws=2_048)
    u = decision.uncertainty
    assert decision.is_uncertain
    likely = {name: odds.expected_usd for name, odds in u.options.items() if odds.probability_passes >= 0.75}
    assert decision.recommendation == min(likely, key=likely.__getitem__)
    told = json.loads(decision.to_json())
    assert told["probability_best"] == pytest.approx(u.probability_best)
    assert told["evpi"]["usd"] == pytest.approx(u.evpi_usd)
    assert told["uncertainty"]["draws"] == 2_048


def test_lopsided_costs_are_told_where_the_median_says_another() -> None:
    """Half of the time nothing comes of it, one time in ten very much: the mean and the median part ways."""
    plain = near().to_dict()
    plain["workload"]["requests_per_day"] = discrete([10_000, 10_000, 10_000, 10_000, 3_000_000])
    plain["choices"]["teacher_price_factor"] = 1.0
    plain["workload"]["quality"] = {"floor": 0.8}
    decision = recommend(Scenario.from_dict(plain), draws=256)
    assert decision.recommendation == "self-host"
    assert any("lopsided" in warning for warning in decision.warnings)
    assert decision.uncertainty.probability_best["call-teacher"] > 0.7


@pytest.mark.parametrize("floor", [0.9, 0.91, 0.92, 0.93, {"discrete": {"values": [0.5, 0.96], "weights": [78, 22]}}])
def test_what_is_chosen_has_good_odds_and_can_be_shown(floor: object) -> None:
    """Whatever its status with everything at its median, of which the odds know nothing."""
    plain = near().to_dict()
    plain["workload"]["quality"] = {"floor": floor}
    plain["choices"]["options"] = ["self-host"]
    decision = recommend(Scenario.from_dict(plain), draws=1_024)
    odds = decision.uncertainty.options["self-host"].probability_passes
    assert (decision.recommendation == "self-host") == (odds >= 0.75)
    assert decision.status in ("feasible", "provisional", "none")
    assert decision.scenario.workload.name in str(decision)
    assert "<table" in decision._repr_html_()


def test_the_tornado_moves_one_input_at_a_time() -> None:
    u = drawn()
    swings = {swing.input: swing for swing in u.tornado}
    widths = [swing.width_usd for swing in u.tornado]
    assert widths == sorted(widths, reverse=True)
    volume = swings["requests_per_day"]
    given = near().workload.uncertain["requests_per_day"]
    assert volume.values == pytest.approx(tuple(given.quantile([0.1, 0.9])))
    point = near().to_dict()
    point["choices"]["teacher_price_factor"] = 1.0
    point["choices"]["evaluations"] = near().to_dict()["choices"]["evaluations"]
    for i, best in enumerate(volume.best):
        point["workload"]["requests_per_day"] = float(volume.values[i])
        costs = {n: e.present_value_usd for n, e in recommend(Scenario.from_dict(point)).options.items()}
        lead = abs(costs["call-teacher"] - costs["self-host"])
        assert abs(volume.lead_usd[i]) == pytest.approx(lead, rel=1e-6)
        assert best == min(costs, key=costs.__getitem__)
    quality = swings["quality of qwen3-4b"]
    assert 0.88 < quality.values[0] < quality.values[1] < 0.98


def test_a_belief_is_shown_as_what_it_is_of() -> None:
    """Retention 0.90 +- 0.04 of a student that nobody has measured, and 0.9 of the teacher asked for."""
    plain = near().to_dict()
    plain["workload"]["quality"] = {"floor_relative_to_teacher": 0.85}
    plain["choices"] |= {"students": ["qwen3-8b"], "evaluations": {}}
    swings = {swing.input: swing for swing in Uncertainty.of(Scenario.from_dict(plain), draws=256).tornado}
    low, high = beta(0.9, 0.04).quantile([0.1, 0.9])
    assert swings["retention of qwen3-8b"].values == pytest.approx((low, high), abs=1e-5)
    low, high = beta(0.9, 0.05).quantile([0.1, 0.9])
    assert swings["quality of the teacher"].values == pytest.approx((low, high), abs=1e-5)


def test_indices_rank_the_inputs_and_refuse_correlated_ones() -> None:
    u = drawn()
    totals = [index.total for index in u.indices]
    assert totals == sorted(totals, reverse=True)
    assert {index.input for index in u.indices} == set(u.space.names)
    assert u.indices[0].input in ("requests_per_day", "quality of qwen3-4b", "teacher_price_factor")
    tied = Scenario.from_dict(near().to_dict() | {"correlations": {"requests_per_day": {"teacher_price_factor": -0.5}}})
    with pytest.raises(InputError, match="independent inputs"):
        _ = Uncertainty.of(tied, draws=256).indices
    assert Uncertainty.of(tied, draws=256).evpi_by_input


def test_labels_are_worth_most_where_the_student_is_in_doubt() -> None:
    def worth(correct: int, total: int) -> float:
        plain = near(price=(0.9, 1.1), floor=0.93).to_dict()
        plain["workload"]["requests_per_day"] = {"triangular": [1_500_000, 2_000_000, 2_500_000]}
        plain["choices"]["evaluations"]["qwen3-4b"] = {"correct": correct, "total": total}
        u = Uncertainty.of(Scenario.from_dict(plain), draws=4_096)
        return max((v.worth_usd for v in u.sample_values if v.model.startswith("qwen3-4b")), default=0.0)

    assert worth(94, 100) > 100 * max(worth(1_960, 2_000), 1e-9)


def test_private_without_a_way_out_says_that_nothing_passes() -> None:
    plain = near(floor=0.999).to_dict()
    decision = recommend(Scenario.from_dict(plain), draws=256)
    assert decision.recommendation is None
    u = decision.uncertainty
    assert u.probability_none > 0.9
    assert u.evpi_usd is None
    assert u.evpi_by_input == {}
    assert json.loads(decision.to_json())["recommendation"] is None


def test_a_second_look_with_another_seed_agrees() -> None:
    first, second = (Uncertainty.of(near(), draws=4_096, seed=seed) for seed in (0, 1))
    for name, odds in first.options.items():
        assert second.options[name].probability_best == pytest.approx(odds.probability_best, abs=0.01)
        assert second.options[name].expected_usd == pytest.approx(odds.expected_usd, rel=5e-3)


def test_growth_and_price_paths_are_drawn_too() -> None:
    made = scenario(
        workload={"growth_per_month": triangular(0, 0.05, 0.1)},
        choices={"token_price_change_per_year": uniform(-0.6, 0), "options": ["call-teacher"]},
    )
    months = Uncertainty.of(made, draws=1_024).monthly_usd("call-teacher")
    spread = months[2] / months[0]
    assert spread[0] == pytest.approx(1, abs=1e-9)  # nothing has happened yet
    assert np.all(np.diff(spread) > 0)


def test_catalog_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Catalog.load()
    monkeypatch.setattr(Catalog, "load", lambda *_: pytest.fail("loaded again"))
    assert Uncertainty.of(near(), catalog=known, draws=64).draws == 64
