"""The cascade of a measured router by hand: a candidate for each threshold, what each costs, and what is certified."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from distillcalc.errors import InputError
from distillcalc.estimate.certifying import more_items
from distillcalc.estimate.context import Context
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.measured_cascade import QUALITY_LATENT, RATE_LATENT, front, points, usual_rate
from distillcalc.estimate.outcome import Outcome, at
from distillcalc.estimate.quality import Paired
from distillcalc.workload.routing import MeasuredRouting
from tests.estimate.routers import counts, router
from tests.estimate.tiny import DAYS, SHAPE, catalog, only, outcomes, scenario, verdict

# 98 items: (19 + 1) / (98 + 2) = 20% are sent on, (49 + 1) / 100 = 50%.
TWO = counts(98, 90, (49, 1, 0), (19, 2, 4))


def case(made: dict[str, Any], workload: dict[str, Any] | None = None, **choices: Any) -> Any:
    return scenario(workload, {"routing": {"measured": made}, **choices})


def gate(outcome: Outcome, name: str) -> Any:
    return next(gate for gate in outcome.gates if gate.name == name)


def test_a_candidate_for_each_threshold_fewest_sent_on_first() -> None:
    found = outcomes("cascade", case(router(TWO)))
    assert [o.label(0) for o in found] == [
        "tiny on toy, then acme/big for 20% (margin < 0.1)",
        "tiny on toy, then acme/big for 50% (margin < 0.9)",
    ]  # and none of the same model at a host, whose answers nobody judged
    student = only("self-host")
    for outcome, rate in zip(found, (0.2, 0.5), strict=False):
        # Every request reaches the student; the teacher is paid for its share of 12 USD a day.
        np.testing.assert_allclose(outcome.monthly_total_usd, student.monthly_total_usd + rate * 12 * DAYS)
        assert at(outcome.facts["escalation_rate"], 0) == pytest.approx(rate)
    assert at(found[0].facts["threshold"], 0) == 0.1
    source = found[0].provenance["escalation_rate"]
    assert (source.kind, source.source) == ("measured", "19 of 98 labelled items have margin below 0.1")
    # 90 + 2 - 4 of 98 right: Beta(89, 11).
    assert at(found[0].quality_mean, 0) == pytest.approx(0.89)
    assert found[0].belief.source.kind == "measured"


def test_a_threshold_beyond_every_score_is_told_by_what_it_does() -> None:
    made = counts(98, 90, (98, 0, 0), (19, 2, 4), (0, 3, 7))
    found = outcomes("cascade", case(router(made, threshold=[10.9, 0.1, -9.9])))
    # (0 + 1) / 100 and (98 + 1) / 100; of 98 tuning and 98 certifying items.
    assert [o.label(0) for o in found] == [
        "tiny on toy, then acme/big for 1% (none of 196 items sent on)",
        "tiny on toy, then acme/big for 20% (margin < 0.1)",
        "tiny on toy, then acme/big for 99% (all of 196 items sent on)",
    ]
    tuning = counts(98, 90, (98, 0, 0), (19, 2, 4), (1, 3, 7))
    found = outcomes("cascade", case(router(made, tuning, threshold=[10.9, 0.1, 0.01])))
    assert found[0].label(0) == "tiny on toy, then acme/big for 1% (margin < 0.01)"  # it did send one on


def test_a_router_that_chooses_before_takes_the_load_off_the_student() -> None:
    workload = {"requests_per_day": 4_000_000}
    cascade = outcomes("cascade", case(router(TWO), workload))[1]
    before = outcomes("cascade", case(router(TWO, kind="router"), workload))[1]
    half = only("self-host", scenario({"requests_per_day": 2_000_000}))
    assert before.label(0) == "tiny on toy, or acme/big for 50% (margin < 0.9)"
    # The student's fleet is that of half the traffic, the teacher's bill the same: 0.5 x 12 USD per 1,000.
    np.testing.assert_allclose(before.monthly_total_usd, half.monthly_total_usd + 0.5 * 48_000 * DAYS)
    assert at(before.facts["replicas"], 0) == at(half.facts["replicas"], 0) < at(cascade.facts["replicas"], 0)
    assert at(before.present_value_usd(np.ones((1, 3))), 0) < at(cascade.present_value_usd(np.ones((1, 3))), 0)
    assert at(before.tokens_per_request, 0) == pytest.approx(1100)
    assert at(cascade.tokens_per_request, 0) == pytest.approx(1100 + 550)


def test_a_student_at_a_host_is_named_as_it_is_called() -> None:
    found = outcomes("cascade", case(router(TWO, student="host/tiny", kind="router")))
    assert [o.label(0) for o in found] == [
        "host/tiny, or acme/big for 20% (margin < 0.1)",
        "host/tiny, or acme/big for 50% (margin < 0.9)",
    ]
    # 0.6 USD per 1,000 for the four fifths that stay, 12 for the rest.
    np.testing.assert_allclose(found[0].monthly_total_usd[0], (0.8 * 0.6 + 0.2 * 12) * DAYS)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"student": "qwen3-4b"}, "the router was measured on qwen3-4b, not on tiny"),
        ({"teacher": "acme/next"}, "the router was measured before acme/next, not before acme/big"),
    ],
)
def test_another_student_or_teacher_is_as_if_nothing_had_been_measured(changed: dict[str, Any], words: str) -> None:
    found, bare = outcomes("cascade", case(router(TWO, **changed)))[0], outcomes("cascade")[0]
    assert found.label(0) == bare.label(0)
    np.testing.assert_array_equal(found.monthly_total_usd, bare.monthly_total_usd)
    assert found.latency == bare.latency
    told = gate(found, "router")
    assert told.detail(0) == f"{words}: the escalation rate and the APGR are defaults"
    assert at(told.probability, 0) == 0.5
    swept = outcomes("cascade", case(router(TWO, **changed)), None, {"escalation_rate": [0.1, 0.9]})[0]
    assert at(gate(swept, "router").probability, 0) == 0.5  # sweeping it is no statement of it


@pytest.mark.parametrize("name", ["acme/big", "big"])
def test_the_teacher_by_either_of_its_names(name: str) -> None:
    assert len(outcomes("cascade", case(router(TWO, teacher=name)))) == 2


def test_the_router_is_certified_or_says_how_many_items_it_takes() -> None:
    # P(Bin(98, 0.85) >= 91) = 0.015 and P(Bin(98, 0.85) >= 88) = 0.114 (enumerated): at 90% only the first passes.
    made = case(router(TWO), {"quality": {"floor": 0.85}})
    fewer, more = outcomes("cascade", made)[:2]
    assert (verdict(more, "router"), verdict(fewer, "router")) == ("pass", "unknown")
    assert gate(more, "router").detail(0) == (
        "margin >= 0.9 is certified on 98 labelled items: accuracy >= 0.85, at 0.9 confidence"
    )
    needed = more_items(MeasuredRouting(**router(TWO)), floor=0.85, confidence=0.9, point=1)
    said = gate(fewer, "router")
    assert f"about {needed:,} more labelled items would certify it" in said.detail(0)
    # The odds are those of Beta(89, 11) above 0.85, which is P(Bin(99, 0.85) <= 88).
    assert at(said.probability, 0) == pytest.approx(stats.binom.cdf(88, 99, 0.85))


def test_what_is_not_good_enough_is_not_made_so_by_more_items() -> None:
    found = outcomes("cascade", case(router(TWO), {"quality": {"floor": 0.95}}))[0]
    assert "its estimate is not above that, so more items would not certify it" in gate(found, "router").detail(0)
    assert verdict(found, "quality") == "fail"


def test_quality_relative_to_the_teacher_is_judged_on_the_same_items() -> None:
    # Right in 88 of 98 and the teacher in 90: 0.978 of it, nearly always on the same items; nobody asks what the
    # teacher's quality is believed to be.
    found = outcomes("cascade", case(router(TWO)))[0]
    assert (verdict(found, "quality"), verdict(found, "router")) == ("pass", "pass")
    assert at(gate(found, "quality").probability, 0) > 0.99


@pytest.mark.parametrize(("gained", "lost", "both", "least"), [(3, 9, 170, 0.95), (0, 3, 40, 0.9), (10, 8, 100, 1.0)])
def test_the_odds_of_a_retention_are_those_of_the_dirichlet_posterior(
    gained: float, lost: float, both: float, least: float
) -> None:
    one = np.ones((1, 1))
    chance = at(Paired(gained * one, lost * one, both * one).at_least(least * one), 0)
    cells = np.random.default_rng(1).dirichlet([gained + 0.5, lost + 0.5, both + 0.5], 200_000)
    wanted = np.mean(1 - cells[:, 1] >= least * (1 - cells[:, 0]))
    assert chance == pytest.approx(wanted, abs=0.004)
    # Many at once are each alone; drawn, the requirement holds in as many draws as the odds say.
    many = np.full((5, 1), 1.0)
    np.testing.assert_allclose(Paired(gained * many, lost * many, both * many).at_least(least * one), chance)
    levels = (np.arange(1000) + 0.5)[:, None] / 1000
    held = Paired(gained * one, lost * one, both * one, levels).at_least(least * one)
    assert held.mean() == pytest.approx(chance, abs=1e-3)


def places(made: dict[str, Any], passes: list[bool] | None = None, most: int = 12) -> list[int]:
    measured = MeasuredRouting(**made)
    return front(measured, np.array(passes or [False] * len(measured.threshold)), most)


def test_dominated_thresholds_are_left_out() -> None:
    # Right: 91, 87, 88, 88. The second sends more on than the third and is right less often; the fourth is the same as
    # the third but sends one more on.
    made = router(counts(98, 90, (49, 1, 0), (30, 2, 5), (19, 2, 4), (20, 2, 4)))
    assert places(made) == [2, 0]
    # Unless it is certified and the other is not.
    assert places(made, [True, True, False, False]) == [2, 1, 0]


def test_of_many_thresholds_the_first_that_is_certified_stays() -> None:
    n = 40
    made = router(counts(400, 390, *[(400 - 10 * i, 0, i) for i in range(n)]))
    passes = [i <= 17 for i in range(n)]
    kept = places(made, passes, most=5)
    assert len(kept) == 5
    assert 17 in kept
    assert {0, n - 1} <= set(kept)


def test_the_order_of_the_thresholds_plays_no_part() -> None:
    tuning = counts(98, 89, (50, 1, 0), (35, 2, 2), (20, 2, 4))
    certifying = counts(98, 90, (49, 1, 0), (32, 2, 2), (19, 2, 4))
    made = router(certifying, tuning)
    back = {
        name: value | {key: list(reversed(v)) for key, v in value.items() if isinstance(v, list)}
        for name, value in made.items()
        if isinstance(value, dict)
    }
    turned = made | back | {"threshold": made["threshold"][::-1]}
    for one, other in zip(outcomes("cascade", case(made)), outcomes("cascade", case(turned)), strict=True):
        assert one.label(0) == other.label(0)
        np.testing.assert_array_equal(one.monthly_total_usd, other.monthly_total_usd)
        assert [g.detail(0) for g in one.gates] == [g.detail(0) for g in other.gates]


def test_a_swept_escalation_rate_runs_along_the_measured_curve() -> None:
    # Of 98 items: at 19 sent on 88 are right, at 49 91; at 34, halfway, 89.5. All sent on: 90. None: the student's 80.
    made = case(router(TWO, student_right=80))
    rates = np.array([0, 19, 34, 49, 98]) / 98
    found = outcomes("cascade", made, None, {"escalation_rate": rates})[0]
    np.testing.assert_allclose(found.quality_mean[:, 0], (1 + np.array([80, 88, 89.5, 91, 90])) / 100)
    np.testing.assert_allclose(found.monthly_usd["escalations"][:, 0], rates * 12 * 31, atol=1e-8)
    assert found.label(0) == "tiny on toy, then acme/big"
    assert "linear interpolation between measured thresholds" in found.belief.source.source
    assert "which alone can be certified" in gate(found, "router").detail(2)
    assert verdict(found, "router", 3) == "unknown"
    assert "threshold" not in found.facts


def test_apgr_of_a_measured_router_cannot_be_swept() -> None:
    with pytest.raises(InputError, match=r"apgr cannot be swept: the router is measured"):
        Inputs(case(router(TWO)), {"apgr": [0.5, 0.6]})


def test_the_usual_rate_is_the_least_that_is_certified() -> None:
    assert usual_rate(case(router(TWO), {"quality": {"floor": 0.85}})) == pytest.approx(0.5)
    assert usual_rate(case(router(TWO))) == pytest.approx(0.2)
    # None is certified for 0.97: the one that the tuning items support most.
    assert usual_rate(case(router(TWO), {"quality": {"floor": 0.97}})) == pytest.approx(0.5)


def test_a_swept_floor_finds_the_thresholds_of_each_floor() -> None:
    made = case(router(TWO))
    swept = Context(Inputs(made, {"floor": [0.8, 0.85, 0.95]}), catalog())
    found = {point.place: point.certified[:, 0].tolist() for point in points(swept)}
    assert found == {1: [True, False, False], 0: [True, True, False]}


def test_draws_move_all_thresholds_together() -> None:
    levels = np.array([[0.1], [0.5], [0.9]])
    latent = {QUALITY_LATENT: levels, RATE_LATENT: levels, "the router works": levels}
    latent |= dict.fromkeys(("quality of the teacher", "retention of tiny", "retention of host/tiny"), levels)
    context = Context(Inputs(case(router(TWO), {"quality": {"floor": 0.9}}), latent=latent), catalog())
    few, many = context.outcomes("cascade")[:2]
    for outcome in (few, many):
        assert (np.diff(outcome.quality_mean[:, 0]) > 0).all()
        assert (np.diff(outcome.facts["escalation_rate"][:, 0]) > 0).all()
    # The median of Beta(20, 80).
    assert few.facts["escalation_rate"][1, 0] == pytest.approx(0.1987, abs=1e-3)
    assert [verdict(few, "router", i) for i in range(3)] == [verdict(few, "quality", i) for i in range(3)]
    assert [verdict(few, "quality", i) for i in range(3)] == ["fail", "fail", "pass"]


def test_scoring_takes_its_time_of_every_request() -> None:
    bare, slow = (outcomes("cascade", case(router(TWO, overhead_ms=ms)))[0].latency for ms in (0, 250))
    for name, seconds in bare.items():
        assert at(slow[name], 0) == pytest.approx(at(seconds, 0) + (0 if name.startswith("tpot") else 0.25))


OPEN: dict[str, Any] = {
    "models": {
        "giant": {
            "name": "Giant", "provider": "lab", "kind": "open", "params_b": 8, "shape": SHAPE, "context_window": 32_768,
            "price_refs": ["acme/giant"],
        }
    },
    "token_prices": {"acme/giant": {"input_usd_per_mtok": 10, "output_usd_per_mtok": 20}},
}  # fmt: skip


def test_an_open_teacher_may_be_served_for_its_share() -> None:
    known = catalog(**OPEN)
    made = case(router(TWO, teacher="giant"), {"requests_per_day": 4_000_000}, teacher="giant")
    found = outcomes("cascade", made, known)[:4]
    assert [o.label(0) for o in found] == [
        "tiny on toy, then acme/giant for 20% (margin < 0.1)",
        "tiny on toy, then giant on toy for 20% (margin < 0.1)",
        "tiny on toy, then acme/giant for 50% (margin < 0.9)",
        "tiny on toy, then giant on toy for 50% (margin < 0.9)",
    ]
    student = only("self-host", made, known)
    half = only("self-host-teacher", scenario({"requests_per_day": 2_000_000}, {"teacher": "giant"}), known)
    np.testing.assert_allclose(found[3].monthly_total_usd, student.monthly_total_usd + half.monthly_total_usd)
    assert at(found[3].facts["teacher_replicas"], 0) == at(half.facts["replicas"], 0)
    assert at(found[3].latency["e2e_p95"], 0) > at(student.latency["e2e_p95"], 0)
    # Texts do not leave the machines.
    private = case(router(TWO, teacher="giant"), {"private": True}, teacher="giant", distillation={"inputs": "cleared"})
    called, served = outcomes("cascade", private, known)[:2]
    assert (verdict(called, "privacy"), verdict(served, "privacy")) == ("fail", "pass")


def test_an_open_teacher_is_not_served_where_that_option_is_not_compared() -> None:
    made = case(router(TWO, teacher="giant"), teacher="giant", options=["call-teacher", "cascade"])
    assert len(outcomes("cascade", made, catalog(**OPEN))) == 2
