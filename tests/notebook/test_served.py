"""The panel on a page: where it starts from, and what of it stands in the page's address."""

from __future__ import annotations

from pathlib import Path

import pytest

from distillcalc import Scenario
from distillcalc.notebook.presets import preset
from distillcalc.notebook.served import SCENARIO_VARIABLE, ServedPanel, is_served, own_part, served_panel


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A kernel of a page that Voila serves."""
    for name in ("VOILA_PREHEAT", "QUERY_STRING", SCENARIO_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5")
    assert is_served()
    return monkeypatch


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A scenario file with four thousand lengths: no address holds it."""
    plain = preset("support-triage").to_dict()
    del plain["workload"]["input_tokens"], plain["workload"]["output_tokens"]
    plain["workload"]["length_sample"] = [[float(1_600 + (i * 7919) % 4_003), float(i * i % 977)] for i in range(4_000)]
    return Scenario.from_dict(plain).save(tmp_path / "mine.toml")


def test_it_starts_from_its_address(page: pytest.MonkeyPatch) -> None:
    page.setenv("QUERY_STRING", "v=1&from=rag-answers&requests_per_day=6200&theme=dark")
    shown = served_panel("support-triage")
    assert shown.scenario.workload.requests_per_day == 6_200
    assert shown.scenario.workload.name == preset("rag-answers").workload.name
    assert shown.to_query() == "v=1&from=rag-answers&requests_per_day=6200"


def test_a_scenario_that_no_address_holds_survives_a_reload(page: pytest.MonkeyPatch, large: Path) -> None:
    page.setenv(SCENARIO_VARIABLE, str(large))
    first = served_panel("support-triage")
    first.move(requests_per_day=6_200)
    first.settle()
    assert first.to_query() == "v=1&from=given&requests_per_day=6200"
    page.setenv("QUERY_STRING", first.to_query())
    again = served_panel("support-triage")
    assert isinstance(again, ServedPanel)
    assert again.scenario == first.scenario
    assert again.to_query() == first.to_query()


def test_a_preset_and_back_to_what_was_given(page: pytest.MonkeyPatch, large: Path) -> None:
    page.setenv(SCENARIO_VARIABLE, str(large))
    page.setenv("QUERY_STRING", "v=1&from=rag-answers")
    shown = served_panel("support-triage")
    assert shown.scenario == preset("rag-answers")
    shown.choose(large)
    assert shown.to_query() == "v=1&from=given"


def test_an_address_of_another_page_is_told(page: pytest.MonkeyPatch) -> None:
    page.setenv("QUERY_STRING", "v=1&from=nowhere")
    shown = served_panel("support-triage")
    assert shown.scenario == preset("support-triage")
    assert "The address of this page cannot be used" in shown.children[0].value
    assert own_part("v=1&from=x&token=secret&theme=dark") == "v=1&from=x"
