"""The options that train nothing, by hand: the big model, its small sibling, an open model at a host."""

from __future__ import annotations

import numpy as np
import pytest

from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.outcome import at
from tests.estimate.tiny import DAYS, END, catalog, only, outcomes, scenario, verdict

# --- call-teacher ----------------------------------------------------------------------------------------------------


def test_call_teacher_by_hand() -> None:
    # 0.012 a request, 31,000, 31,000 and 28,000 of them; nothing before the first.
    found = only("call-teacher")
    np.testing.assert_allclose(found.monthly_total_usd, [[372, 372, 336]])
    assert found.one_off_usd == {}
    assert found.label(0) == "acme/big"
    assert at(found.latency["ttft_p95"], 0) == pytest.approx(1.05)
    assert verdict(found, "context") == "pass"
    assert verdict(found, "terms") is None  # nothing is trained
    assert verdict(found, "quality") == "pass"


def test_call_teacher_at_ones_own_price() -> None:
    assert only("call-teacher", teacher_price_factor=0.5).monthly_total_usd[0, 0] == pytest.approx(186)


def test_wrong_answers_are_charged_to_every_option() -> None:
    # A teacher that is right 80% of the time: 0.2 x 31,000 x 0.01 USD.
    found = only("call-teacher", scenario({"wrong_answer_usd": 0.01}, {"teacher_quality": 0.8}))
    assert found.monthly_usd["wrong_answers"][0, 0] == pytest.approx(62)
    assert found.monthly_total_usd[0, 0] == pytest.approx(372 + 62)


def test_a_teacher_that_ends_inside_the_horizon_is_migrated() -> None:
    # December at 0.012, then 0.0034; 40 hours at 100 USD in January.
    found = only("call-teacher", scenario({}, {"on_retirement": "migrate"}), catalog(retirements={"big": END}))
    np.testing.assert_allclose(found.monthly_usd["migration"], [[0, 4000, 0]])
    np.testing.assert_allclose(found.monthly_total_usd, [[31_000 * 0.012, 31_000 * 0.0034 + 4000, 28_000 * 0.0034]])
    assert verdict(found, "retirement") == "pass"
    assert found.label(0) == "acme/big, then acme/next from 2027-01-15"


def test_every_move_is_paid() -> None:
    known = catalog(
        retirements={"big": END, "next": {**END, "model": "next", "on": "2027-02-10", "replacement": "acme/small"}}
    )
    found = only("call-teacher", scenario({}, {"on_retirement": "migrate"}), known)
    np.testing.assert_allclose(found.monthly_usd["migration"], [[0, 4000, 4000]])


def test_a_successor_must_hold_the_requests_too() -> None:
    known = catalog(
        retirements={"big": END},
        token_prices={"acme/next": {"input_usd_per_mtok": 3, "output_usd_per_mtok": 4, "context_window": 1050}},
    )
    found = only("call-teacher", scenario({}, {"on_retirement": "migrate"}), known)
    assert sorted(int(gate.code[0, 0]) for gate in found.gates if gate.name == "context") == [-1, 1]


def test_a_teacher_that_outlives_the_horizon_is_left_alone() -> None:
    found = only("call-teacher", known=catalog(retirements={"big": {**END, "on": "2027-03-01"}}))
    assert "migration" not in found.monthly_usd
    assert verdict(found, "retirement") is None


# --- call-small ------------------------------------------------------------------------------------------------------


def test_call_small_by_hand() -> None:
    # 1,000 x 1 + 100 x 2 USD/M = 0.0012.
    found = only("call-small")
    assert found.label(0) == "acme/small"
    np.testing.assert_allclose(found.monthly_total_usd[0], 1.2 * DAYS)
    assert found.one_off_usd == {}
    # 0.9 of an unmeasured teacher x 0.85 claimed.
    assert at(found.quality_mean, 0) == pytest.approx(0.9 * 0.85)


def test_a_small_model_reads_the_whole_prompt() -> None:
    # The short prompt is for students that were trained on the task.
    found = only("call-small", scenario({"student_input_tokens": 10}))
    assert found.monthly_total_usd[0, 0] == pytest.approx(37.2)


def test_the_teachers_discount_is_not_the_small_models() -> None:
    assert only("call-small", teacher_price_factor=0.5).monthly_total_usd[0, 0] == pytest.approx(37.2)


def test_no_small_model_is_unpriced_and_not_free() -> None:
    found = only("call-small", known=catalog(models={"big": {"small_siblings": []}}))
    assert "names no small model beside acme/big" in found.unpriced
    assert np.isnan(found.present_value_usd(Inputs(scenario()).discount)).all()
    assert "no small model" in only("call-small", scenario({}, {"small": []})).unpriced


def test_a_small_model_without_a_price_is_unpriced() -> None:
    found = outcomes(
        "call-small", scenario({}, {"small": ["tiny", "acme/small"]}), catalog(models={"tiny": {"price_refs": []}})
    )
    assert "has no per-token price" in found[0].unpriced
    assert not found[1].unpriced


def test_a_small_model_that_ends_is_ruled_out_even_with_a_successor() -> None:
    found = only("call-small", known=catalog(retirements={"s": {**END, "model": "small"}}))
    assert verdict(found, "retirement") == "fail"


# --- hosted-open-student ---------------------------------------------------------------------------------------------


def test_hosted_open_student_by_hand() -> None:
    # 1,000 x 0.5 + 100 x 1 USD/M = 0.0006; nothing is trained.
    found = only("hosted-open-student")
    assert found.label(0) == "host/tiny"
    np.testing.assert_allclose(found.monthly_total_usd[0], 0.6 * DAYS)
    assert found.one_off_usd == {}
    assert verdict(found, "terms") is None


def test_a_student_without_a_host_is_unpriced() -> None:
    found = only("hosted-open-student", known=catalog(models={"tiny": {"price_refs": []}}))
    assert "no per-token host with a price is known for tiny" in found.unpriced


def test_the_cheapest_living_host_is_taken() -> None:
    known = catalog(
        token_prices={
            "cheap/tiny": {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.1},
            "ending/tiny": {"input_usd_per_mtok": 0.01, "output_usd_per_mtok": 0.01},
        },
        models={"tiny": {"price_refs": ["host/tiny", "cheap/tiny", "ending/tiny"]}},
        retirements={"e": {"provider": "ending", "model": "tiny", "what": "shutdown", "on": "2027-01-01"}},
    )
    labels = [found.label(0) for found in outcomes("hosted-open-student", known=known) if not found.unpriced]
    assert "cheap/tiny" in labels
    assert "ending/tiny" not in labels
    assert only("hosted-open-student", scenario({}, {"hosted": "host/tiny"}), known).label(0) == "host/tiny"


def test_a_sweep_of_lengths_has_every_host_that_is_cheapest_somewhere() -> None:
    # Dear prompts or dear answers: 1,000 x 0.1 + n x 3 against 1,000 x 0.5 + n x 1 are even at n = 200. A third
    # host is never the cheapest.
    known = catalog(
        token_prices={
            "reads/tiny": {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 3},
            "dear/tiny": {"input_usd_per_mtok": 5, "output_usd_per_mtok": 30},
        },
        models={"tiny": {"price_refs": ["host/tiny", "reads/tiny", "dear/tiny"]}},
    )
    swept = outcomes("hosted-open-student", None, known, {"output_tokens": [1, 199, 201, 5000]})
    assert [found.label(0) for found in swept] == ["host/tiny", "reads/tiny"]
    least = np.min([found.monthly_total_usd[:, 0] for found in swept], axis=0)
    for i, tokens in enumerate((1, 199, 201, 5000)):
        alone = only("hosted-open-student", scenario({"output_tokens": tokens}), known)
        assert alone.label(0) == ("reads/tiny" if tokens < 200 else "host/tiny")
        assert at(alone.monthly_total_usd, 0) == least[i]


def test_the_cheapest_host_whose_window_holds_the_requests() -> None:
    known = catalog(
        token_prices={"short/tiny": {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.1, "context_window": 900}},
        models={"tiny": {"price_refs": ["host/tiny", "short/tiny"]}},
    )
    assert only("hosted-open-student", known=known).label(0) == "host/tiny"
    assert only("hosted-open-student", scenario({"input_tokens": 800}), known).label(0) == "short/tiny"


def test_counts_of_the_published_model_are_not_those_of_the_student() -> None:
    case = scenario({}, {"evaluations": {"host/tiny": {"correct": 8, "total": 8}, "tiny": {"correct": 0, "total": 8}}})
    assert at(only("hosted-open-student", case).quality_mean, 0) == pytest.approx(0.9)  # Beta(9, 1)
    assert at(only("self-host", case).quality_mean, 0) == pytest.approx(0.1)  # Beta(1, 9)
