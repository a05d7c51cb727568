"""What is refused before anything is computed, and what all options share."""

from __future__ import annotations

import numpy as np
import pytest

from distillcalc.catalog import Catalog
from distillcalc.errors import InputError, Retired, UnknownName
from distillcalc.estimate.context import Context
from distillcalc.estimate.inputs import Inputs
from distillcalc.workload import Scenario
from tests.estimate.tiny import END, ROWS, catalog, scenario


def context(case: Scenario | None = None, known: Catalog | None = None) -> Context:
    return Context(Inputs(case or scenario()), known or catalog())


# --- the teacher -----------------------------------------------------------------------------------------------------


def test_an_unknown_teacher_is_refused() -> None:
    with pytest.raises(UnknownName, match="Did you mean"):
        context(scenario({}, {"teacher": "bigg"}))
    with pytest.raises(InputError, match="has no per-token price"):
        context(scenario({}, {"teacher": "big"}), catalog(models={"big": {"price_refs": []}}))


def test_a_teacher_that_ends_inside_the_horizon_is_refused() -> None:
    with pytest.raises(Retired, match=r'shuts down on 2027-01-15, inside.*acme/next.*on_retirement = "migr'):
        context(known=catalog(retirements={"big": END}))
    with pytest.raises(Retired, match=r"shut down on 2026-01-15, before the start"):
        context(known=catalog(retirements={"big": {**END, "on": "2026-01-15"}}))


def test_a_teacher_that_outlives_the_horizon_is_not() -> None:
    assert context(known=catalog(retirements={"big": {**END, "on": "2027-03-01"}})).teacher_successors == []


def test_only_a_successor_that_lives_is_migrated_to() -> None:
    moving = scenario({}, {"on_retirement": "migrate"})
    nameless = {k: v for k, v in END.items() if k != "replacement"}
    for ends in ({"big": nameless}, {"big": END, "next": {**nameless, "model": "next"}}):
        with pytest.raises(Retired, match="No successor that lives through the horizon is known"):
            context(moving, catalog(retirements=ends))
    assert context(moving, catalog(retirements={"big": END})).teacher_ends_in == [1]


def test_successors_that_name_each_other_are_no_way_out() -> None:
    circle = {"big": END, "next": {**END, "model": "next", "replacement": "acme/big"}}
    with pytest.raises(Retired):
        context(scenario({}, {"on_retirement": "migrate"}), catalog(retirements=circle))


def test_a_teacher_has_a_price() -> None:
    free = catalog(models={"ghost": {**ROWS["models"]["big"], "price_refs": ["acme/ghost"]}})
    with pytest.raises(UnknownName):
        context(scenario({}, {"teacher": "ghost"}), free)


def test_white_box_distillation_reads_open_weights() -> None:
    white = scenario({}, {"distillation": {"white_box": True}})
    with pytest.raises(InputError, match="those of acme/big are not public"):
        context(white)
    context(white, catalog(models={"big": {"kind": "open"}}))


# --- counts ----------------------------------------------------------------------------------------------------------


def test_counts_of_nobody_are_refused() -> None:
    counts = {"correct": 9, "total": 10}
    with pytest.raises(UnknownName, match=r"unknown model 'tinny'\. Did you mean tiny"):
        context(scenario({}, {"evaluations": {"tinny": counts}}))
    with pytest.raises(UnknownName, match="unknown student 'mini'"):
        context(scenario({}, {"student_retention": {"mini": 0.9}}))
    context(scenario({}, {"evaluations": {"teacher": counts, "tiny": counts, "host/tiny": counts}}))


# --- shared ----------------------------------------------------------------------------------------------------------


def test_a_window_is_the_hosts_else_the_models() -> None:
    # acme/big states 100,000 itself; host/tiny none, its model 32,768; nobody says anything of acme/small.
    found = context()
    assert [found.window(ref) for ref in ("acme/big", "host/tiny", "acme/small", "no/body")] == [
        100_000,
        32_768,
        None,
        None,
    ]


def test_what_is_shared_is_computed_once() -> None:
    found = context()
    calls: list[int] = []
    for _ in range(3):
        assert found.once("key", lambda: calls.append(1) or 7) == 7  # type: ignore[func-returns-value]
    assert calls == [1]


def test_a_named_teacher_is_the_row_it_stands_for() -> None:
    by_id, by_ref = (context(scenario({}, {"teacher": name})) for name in ("big", "acme/big"))
    assert by_id.teacher == by_ref.teacher == "acme/big"
    assert by_id.teacher_row is by_id.catalog.models["big"]
    np.testing.assert_array_equal(by_id.escalation_cost.total, by_ref.escalation_cost.total)
