"""A panel's state as an address: short, whole, and refused with a sentence where it cannot be right."""

from __future__ import annotations

import base64
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillcalc import Scenario
from distillcalc.errors import InputError
from distillcalc.notebook.address import MOST_CHARACTERS, packed, unpacked
from distillcalc.notebook.controls import CONTROLS
from distillcalc.notebook.presets import preset


def test_a_preset_and_what_was_moved_is_short_and_readable() -> None:
    text = packed("support-triage", {"requests_per_day": 6200.0, "growth_per_month": 0.025})
    assert text == "v=1&from=support-triage&requests_per_day=6200&growth_per_month=0.025"
    assert unpacked(text) == ("support-triage", {"requests_per_day": 6200.0, "growth_per_month": 0.025})
    assert unpacked("?" + text) == unpacked(text)


def test_a_scenario_of_ones_own_is_packed_whole() -> None:
    own = preset("rag-answers")
    text = packed(own, {"requests_per_day": 99.0})
    assert len(text) < 1_000
    assert unpacked(text) == (own, {"requests_per_day": 99.0})


@settings(max_examples=30, deadline=None)
@given(st.floats(1, 1e9), st.floats(-0.2, 0.3), st.integers(1, 60))
def test_every_number_comes_back_exactly(volume: float, growth: float, months: int) -> None:
    values = {"growth_per_month": growth, "horizon_months": float(months)}
    if growth <= 0:
        values["requests_per_day"] = volume
    assert unpacked(packed("support-triage", values)) == ("support-triage", values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "begins with v=1"),
        ("hello", "not the address of a panel"),
        ("v=2&from=support-triage", "begins with v=1. Got v=2"),
        ("v=1", "names what it starts from"),
        ("v=1&from=support-triage&own=abc", "names what it starts from"),
        ("v=1&from=../../etc/passwd", "no preset '../../etc/passwd'"),
        ("v=1&from=support-triage&from=rag-answers", "says something twice"),
        ("v=1&from=support-triage&colour=red", "a panel has no 'colour'"),
        ("v=1&from=support-triage&requests_per_day=many", "requests_per_day is a number. Got 'many'"),
        ("v=1&from=support-triage&requests_per_day=nan", "requests_per_day must be between"),
        ("v=1&from=support-triage&requests_per_day=-4", "requests_per_day must be between"),
        ("v=1&from=support-triage&e2e_p95_s=nan", "e2e_p95_s"),
        ("v=1&own=%21%21", "damaged"),
        ("v=1&own=AAAA", "damaged"),
        ("v=1&own=" + "A" * MOST_CHARACTERS, "at most 8,000"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said.replace(".", r"\.")):
        unpacked(text)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    with pytest.raises(InputError):
        unpacked("v=1&own=" + text)


def test_what_would_unpack_to_gigabytes_is_refused() -> None:
    bomb = base64.urlsafe_b64encode(zlib.compress(b"#" * 5_000_000, 9)).decode().rstrip("=")
    assert len(bomb) < MOST_CHARACTERS
    with pytest.raises(InputError, match="larger than a megabyte"):
        unpacked("v=1&own=" + bomb)


def test_a_scenario_that_no_address_holds_is_refused_for_one_and_kept_in_a_file() -> None:
    plain = preset("support-triage").to_dict()
    del plain["workload"]["input_tokens"], plain["workload"]["output_tokens"]
    plain["workload"]["length_sample"] = [[float(1_600 + (i * 7919) % 4_003), float(i * i % 977)] for i in range(4_000)]
    large = Scenario.from_dict(plain)
    with pytest.raises(InputError, match="save it as a file instead"):
        packed(large, {})
    assert unpacked(packed(large, {}, most=None), most=None) == (large, {})


def test_every_control_can_stand_in_an_address() -> None:
    values = {name: control.low * 1.0 for name, control in CONTROLS.items()}
    assert unpacked(packed("support-triage", values)) == ("support-triage", values)
