"""Gates: what rules an option out, what is not known, and what each says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from distillcalc.catalog import Catalog
from distillcalc.estimate.gates import (
    context_gate,
    labelling_region_gate,
    machine_region_gate,
    privacy_gate,
    region_gate,
    retirement_gate,
    slo_gate,
    strictest,
    terms_gate,
    terms_rows,
)
from distillcalc.estimate.inputs import Inputs
from distillcalc.estimate.outcome import GateResult
from tests.estimate.tiny import ROWS, catalog, scenario

WORDS = {1: "pass", 0: "unknown", -1: "fail", None: None}


def verdict(gate: GateResult | None, i: int = 0) -> str | None:
    return WORDS[None if gate is None else int(gate.code[i if gate.code.shape[0] > 1 else 0, 0])]


# --- terms -----------------------------------------------------------------------------------------------------------

PRIVATE = {"kind": "classifier"}
PRIVATE_RIVAL = {"kind": "classifier", "competes_with_teacher": True}
SOLD = {"kind": "classifier", "distributed": True, "competes_with_teacher": True}
RIVAL = {"competes_with_teacher": True}
OWN = {"competes_with_teacher": False}
RELEASED = {"distributed": True, "competes_with_teacher": False}
UNSAID: dict[str, Any] = {}
USES = {
    "private": PRIVATE,
    "private rival": PRIVATE_RIVAL,
    "rival": RIVAL,
    "own": OWN,
    "unsaid": UNSAID,
    "sold": SOLD,
    "released": RELEASED,
}


@pytest.mark.parametrize(
    ("terms", "verdicts"),
    [
        # OpenAI Services Agreement 3.3(e): competing models are barred, private classifiers and embeddings excepted.
        (
            "openai-api",
            {
                "private": "pass",
                "private rival": "unknown",
                "rival": "fail",
                "own": "pass",
                "unsaid": "unknown",
                "sold": "fail",
                "released": "unknown",
            },
        ),
        # Anthropic: competing is barred, and what else is allowed is not said plainly.
        (
            "anthropic-api",
            {"private": "unknown", "rival": "fail", "own": "unknown", "unsaid": "unknown", "released": "unknown"},
        ),
        # DeepSeek names distillation among what its outputs may be used for.
        ("deepseek-api", dict.fromkeys(USES, "pass")),
        # Llama 2: outputs may not improve any other large language model.
        ("llama-2-licence", {"private": "unknown", "rival": "fail", "own": "fail", "unsaid": "fail"}),
    ],
)
def test_published_terms_by_use(terms: str, verdicts: dict[str, str]) -> None:
    known = Catalog.load(
        {
            "models": {"t": {"name": "T", "provider": "x", "kind": "open", "terms": terms, "price_refs": ["acme/t"]}},
            "token_prices": {"acme/t": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}},
        }
    )
    for use, expected in verdicts.items():
        gate = terms_gate(Inputs(scenario(use=USES[use])), known, "acme/t")
        assert verdict(gate) == expected, (terms, use)
        assert gate.source.startswith(f"{terms}: ")


@pytest.mark.parametrize("provider", ["openai", "anthropic", "deepseek", "google", "mistral"])
def test_a_model_without_terms_of_its_own_falls_under_its_providers_api(provider: str) -> None:
    found = terms_rows(Catalog.load(), f"{provider}/some-new-model")
    assert found
    assert all(row.surface == "api" and row.superseded_by is None for _, row in found)
    assert {row.provider for _, row in found} == {provider}


def test_terms_follow_a_model_to_whoever_resells_it() -> None:
    names = [name for name, _ in terms_rows(Catalog.load(), "openrouter/openai/gpt-some-new-one")]
    assert "openai-api" in names


def test_of_several_terms_the_strictest_counts() -> None:
    known = catalog(terms={"shop": {**ROWS["terms"]["acme-api"], "not_competing": "unknown", "says": "Ask us."}})
    gate = terms_gate(Inputs(scenario(use=OWN)), known, "acme/big")
    assert verdict(gate) == "unknown"
    assert gate.source.startswith("shop: ")


def test_open_weights_at_a_host_are_under_their_licence_only() -> None:
    known = catalog(
        models={"big": {"kind": "open"}}, terms={"shop": {**ROWS["terms"]["acme-api"], "not_competing": "fail"}}
    )
    assert verdict(terms_gate(Inputs(scenario(use=OWN)), known, "acme/big")) == "pass"


def test_terms_in_words() -> None:
    def says(use: dict[str, Any], **row: str) -> str:
        known = catalog(terms={"acme-api": row}) if row else catalog()
        return terms_gate(Inputs(scenario(use=use)), known, "acme/big").detail(0)

    assert says(RIVAL) == "a student that competes: prohibited. No competing models."
    assert says(OWN, requirements="Show the name.").endswith("allowed. No competing models. Required: Show the name.")
    assert "Required" not in says(RIVAL, requirements="Show the name.")
    assert says(PRIVATE).startswith("a classifier or embedding that is not distributed: allowed")
    assert "set competes_with_teacher in [use]" in says(UNSAID)
    assert "unclear, ask the provider" in says(OWN, not_competing="unknown")


def test_unwritten_terms_are_unknown() -> None:
    gate = terms_gate(Inputs(scenario()), catalog(), "nobody/model")
    assert verdict(gate) == "unknown"
    assert "no terms for nobody/model" in gate.detail(0)


def test_superseded_terms_are_not_read() -> None:
    known = catalog(
        models={"big": {"terms": None}},
        terms={
            "acme-api": {"superseded_by": "new"},
            "new": {
                "provider": "acme",
                "surface": "api",
                "says": "All may.",
                "position": "allowed",
                "private_classifier": "pass",
                "not_competing": "pass",
                "competing": "pass",
            },
        },
    )
    assert verdict(terms_gate(Inputs(scenario(use=RIVAL)), known, "acme/big")) == "pass"


# --- privacy ---------------------------------------------------------------------------------------------------------


def test_privacy_is_asked_only_of_private_workloads() -> None:
    assert privacy_gate(Inputs(scenario()), external="acme/big") is None


@pytest.mark.parametrize(
    ("inputs", "where", "expected"),
    [
        ("live", {"external": "acme/big"}, "fail"),
        ("synthetic", {"external": "acme/big"}, "fail"),  # every request still leaves
        ("live", {"labels_from": "acme/big"}, "fail"),
        ("cleared", {"labels_from": "acme/big"}, "pass"),
        ("synthetic", {"labels_from": "acme/big"}, "pass"),
        ("live", {}, "pass"),
    ],
)
def test_private_texts_stay_at_home(inputs: str, where: dict[str, str], expected: str) -> None:
    case = scenario({"private": True}, {"distillation": {"inputs": inputs}})
    assert verdict(privacy_gate(Inputs(case), **where)) == expected


def test_privacy_says_what_would_help() -> None:
    gate = privacy_gate(Inputs(scenario({"private": True})), labels_from="acme/big")
    assert gate is not None
    assert "Train on cleared or synthetic inputs" in gate.detail(0)


# --- region ----------------------------------------------------------------------------------------------------------


def test_region() -> None:
    eu = Inputs(scenario({"region": "eu"}))
    known = catalog(apis={"acme-big": {"regions": ["US", "EU"]}, "small": {"provider": "acme", "model": "small"}})
    assert region_gate(Inputs(scenario()), known, "acme/big") is None
    assert verdict(region_gate(eu, known, "acme/big")) == "pass"
    assert verdict(region_gate(Inputs(scenario({"region": "jp"})), known, "acme/big")) == "fail"
    assert verdict(region_gate(eu, known, "acme/small")) == "unknown"
    assert verdict(region_gate(eu, known, "nobody/x")) == "unknown"


def test_machines_stand_somewhere() -> None:
    x = Inputs(scenario({"region": "eu"}))
    wheres, chosen = [("cloud", "EU"), ("elsewhere", None)], np.array([[0], [1]])
    assert machine_region_gate(Inputs(scenario()), wheres, chosen) is None
    gate = machine_region_gate(x, wheres, chosen)
    assert gate is not None
    assert gate.code[:, 0].tolist() == [1, 0]  # each scenario by the machine that it takes
    assert "the machines of cloud stand in EU" in gate.detail(0)
    assert "rent them there" in gate.detail(1)


def test_the_strictest_of_several_counts_in_each_scenario() -> None:
    first = GateResult("x", np.array([[1], [0]], dtype=np.int8), lambda i: "first")
    second = GateResult("x", np.array([[0], [1]], dtype=np.int8), lambda i: "second")
    found = strictest([first, None, second])
    assert found is not None
    assert found.code[:, 0].tolist() == [0, 0]
    assert [found.detail(0), found.detail(1)] == ["second", "first"]
    assert strictest([None]) is None


def test_live_prompts_leave_to_be_labelled() -> None:
    known = catalog(apis={"acme-big": {"regions": ["us"]}})
    live = labelling_region_gate(Inputs(scenario({"region": "eu"})), known, "acme/big")
    assert verdict(live) == "fail"
    assert live is not None
    assert live.detail(0).startswith("labelling: ")
    cleared = Inputs(scenario({"region": "eu"}, {"distillation": {"inputs": "cleared"}}))
    assert labelling_region_gate(cleared, known, "acme/big") is None
    assert labelling_region_gate(Inputs(scenario()), known, "acme/big") is None


# --- retirement ------------------------------------------------------------------------------------------------------


def ends(on: str, **more: Any) -> Catalog:
    return catalog(
        retirements={"big": {"provider": "acme", "model": "big", "what": "shutdown", "on": on, **more}},
    )


def test_no_announced_end_is_no_gate() -> None:
    assert retirement_gate(Inputs(scenario()), catalog(), "acme/big") is None


@pytest.mark.parametrize(("on", "expected"), [("2027-02-28", "fail"), ("2027-03-01", None), ("2026-01-01", "fail")])
def test_an_end_inside_the_horizon(on: str, expected: str | None) -> None:
    # December to February: the horizon ends when 1 March begins.
    assert verdict(retirement_gate(Inputs(scenario()), ends(on), "acme/big")) == expected


def test_an_end_with_a_successor_passes_only_for_those_who_migrate() -> None:
    known = ends("2027-01-10", replacement="acme/next")
    stays = retirement_gate(Inputs(scenario()), known, "acme/big")
    moves = retirement_gate(Inputs(scenario()), known, "acme/big", migrates=True)
    lost = retirement_gate(Inputs(scenario()), ends("2027-01-10"), "acme/big", migrates=True)
    assert (verdict(stays), verdict(moves), verdict(lost)) == ("fail", "pass", "fail")
    assert stays is not None
    assert stays.detail(0) == (
        "acme/big shuts down on 2027-01-10, inside the horizon (to 2027-03-01); named successor acme/next"
    )
    assert moves is not None
    assert moves.detail(0).endswith("migrates to acme/next from 2027-01-10")


def test_an_end_before_the_start_is_told_as_such() -> None:
    gate = retirement_gate(Inputs(scenario()), ends("2026-03-01"), "acme/big")
    assert gate is not None
    assert gate.detail(0) == "acme/big shut down on 2026-03-01, before the start"


def test_a_sweep_of_horizons_fails_only_those_that_reach_the_end() -> None:
    x = Inputs(scenario(), {"horizon_months": [1, 2, 12]})
    gate = retirement_gate(x, ends("2027-01-10"), "acme/big")
    assert gate is not None
    assert [verdict(gate, i) for i in range(3)] == ["pass", "fail", "fail"]
    assert gate.detail(0) == "acme/big shuts down on 2027-01-10, after the horizon (to 2027-01-01)"


# --- context window --------------------------------------------------------------------------------------------------


def test_the_window_holds_a_long_request_and_its_answer() -> None:
    # 1,000 in, 100 out, 50 thoughts: 1,150 tokens fit, 1,149 do not.
    x = Inputs(scenario({"reasoning_tokens": 50}))
    assert verdict(context_gate(x, 1150, "m")) == "pass"
    assert verdict(context_gate(x, 1149, "m")) == "fail"


def test_an_unknown_window_matters_to_long_requests_only() -> None:
    # Any model of today takes 8,192 tokens.
    x = Inputs(scenario(), {"input_tokens": [8092, 8093]})
    gate = context_gate(x, None, "m")
    assert [verdict(gate, i) for i in range(2)] == ["pass", "unknown"]
    assert gate is not None
    assert gate.detail(1) == "the window of m is not known; needed 8,193 tokens"
    assert context_gate(Inputs(scenario()), None, "m") is None


def test_one_request_in_a_thousand_may_be_longer() -> None:
    # Log-normal with mean 1,000 and p95 2,000: sigma 0.5974; p99.9 = 1,000 exp(3.0902 sigma - sigma^2 / 2) = 5,302.
    x = Inputs(scenario({"input_tokens": {"mean": 1000, "p95": 2000}, "output_tokens": 0}))
    sigma = 1.6448536 - (1.6448536**2 - 2 * np.log(2)) ** 0.5
    longest = 1000 * np.exp(3.0902323 * sigma - sigma**2 / 2)
    assert verdict(context_gate(x, int(longest) + 1, "m")) == "pass"
    assert verdict(context_gate(x, int(longest), "m")) == "fail"


def test_the_student_has_its_own_prompt() -> None:
    x = Inputs(scenario({"student_input_tokens": 200, "student_reasoning_tokens": 7, "reasoning_tokens": 900}))
    gate = context_gate(x, 307, "m", "student")
    assert verdict(gate) == "pass"
    assert gate is not None
    assert gate.detail(0) == "m takes 307 tokens; p99.9 input and p95 output need 307"
    assert verdict(context_gate(x, 307, "m")) == "fail"


# --- latency ---------------------------------------------------------------------------------------------------------


def slo(
    limits: dict[str, float], latency: dict[str, float], floors: dict[str, float] | None = None
) -> GateResult | None:
    def arrays(values: dict[str, float]) -> dict[str, Any]:
        return {name: np.array([[seconds]]) for name, seconds in values.items()}

    x = Inputs(scenario({"slo": limits}))
    return slo_gate(x, arrays(latency), "a test", None if floors is None else arrays(floors))


def test_no_objective_is_no_gate() -> None:
    assert slo({}, {}) is None


@pytest.mark.parametrize(
    ("e2e", "tpot", "expected"),
    [
        (1.9, 0.050, "pass"),
        (2.0, 0.050, "pass"),  # at the limit
        (2.001, 0.010, "fail"),
        (1.0, 0.051, "fail"),
        (np.nan, 0.010, "unknown"),
        (np.nan, 0.051, "fail"),  # one that is missed settles it
    ],
)
def test_every_objective_must_hold(e2e: float, tpot: float, expected: str) -> None:
    gate = slo({"e2e_p95_s": 2, "tpot_p50_ms": 50}, {"e2e_p95": e2e, "tpot_p50": tpot})
    assert verdict(gate) == expected


def test_latency_in_words() -> None:
    gate = slo({"tpot_p50_ms": 50, "e2e_p95_s": 2}, {"e2e_p95": np.nan, "tpot_p50": 0.0123})
    assert gate is not None
    assert gate.detail(0) == "TPOT p50 12.3 ms against 50 ms; E2E p95 unknown against 2 s"


def test_a_missed_objective_names_the_floor_of_the_machine() -> None:
    limits, latency = {"ttft_p95_s": 0.2, "tpot_p95_ms": 50}, {"ttft_p95": 0.3, "tpot_p95": 0.02}
    gate = slo(limits, latency, {"ttft_p95": 0.3, "tpot_p95": 0.02})
    assert gate is not None
    assert gate.detail(0) == (
        "TTFT p95 0.3 s against 0.2 s (no batch meets it; the floor of this machine is 0.3 s); "
        "TPOT p95 20 ms against 50 ms"
    )
    plain = slo(limits, latency)
    assert plain is not None
    assert "floor" not in plain.detail(0)  # an API has none that is known
