"""A few rows tell: which ones, and what they told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillcalc.catalog import Catalog
from distillcalc.distill.planning import LabelPlan, plan_labels
from distillcalc.distill.probe import ProbeReport, Rate, probe_rows, tally
from distillcalc.distill.rows import Rows
from distillcalc.distill.task import Task
from distillcalc.distill.teacher import Teacher
from tests.distill.making import record

CATALOG = Catalog.load().with_overrides(
    {"token_prices": {"local/m": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}}}
)


def planned(rows: list[dict[str, Any]], **teacher: Any) -> LabelPlan:
    asked = Teacher(model="local/m", base_url="http://localhost:1/v1", **teacher)
    return plan_labels(Task(), asked, Rows(rows, human_label="gold"), catalog=CATALOG)


def report(**changed: Any) -> ProbeReport:
    told: dict[str, Any] = {
        "valid": Rate(8, 8), "problems": {}, "agreement": Rate(8, 8), "accuracy": Rate(0, 0),
        "samples_in_one_call": None, "logprobs": None, "reasoning": 0, "input_tokens": 10.0, "output_tokens": 1.0,
        "latency_s": None, "missing": 0,
    }  # fmt: skip
    return ProbeReport(**{**told, **changed})


def test_rows_are_spread_evenly() -> None:
    plan = planned([{"text": f"t{i}", "gold": None} for i in range(100)])
    # (i + 0.5) x 25 - 0.5 is 12, 37, 62, 87
    assert [index for index, _ in probe_rows(plan, 4)] == [12, 37, 62, 87]


def test_rows_that_people_labelled_come_first_where_only_some_are() -> None:
    rows = [{"text": f"t{i}", "gold": "a" if i % 10 == 3 else None} for i in range(40)]
    assert [index for index, _ in probe_rows(planned(rows), 8)] == [3, 13, 23, 33]
    assert [index for index, _ in probe_rows(planned(rows), 2)] == [3, 23]  # round half to even: 0 and 2
    every = [{**row, "gold": "a"} for row in rows]
    assert len(probe_rows(planned(every), 8)) == 8


@given(total=st.integers(1, 60), count=st.integers(0, 80))
def test_as_many_rows_as_are_asked_for_each_once(total: int, count: int) -> None:
    found = [index for index, _ in probe_rows(planned([{"text": "t", "gold": None}] * total), count)]
    assert len(found) == min(total, count)
    assert found == sorted(set(found))


def test_wilsons_interval() -> None:
    # Wilson, 8 of 10: centre (0.8 + 1.92/10) / (1 + 3.8415/10) = 0.7167, half 0.2266 (z = 1.95996)
    low, high = Rate(8, 10).interval
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert Rate(0, 0).interval == (0.0, 1.0)
    assert str(Rate(0, 0)) == "none to judge by"
    assert str(Rate(8, 10)) == "8 of 10 (80%, 95% interval 49% to 94%)"
    assert Rate(0, 0).to_dict() == {"count": 0, "total": 0, "low": 0.0, "high": 1.0}


@given(total=st.integers(1, 500), data=st.data())
def test_an_interval_holds_its_share(total: int, data: st.DataObject) -> None:
    rate = Rate(data.draw(st.integers(0, total)), total)
    low, high = rate.interval
    assert 0 <= low <= rate.share + 1e-12
    assert rate.share - 1e-12 <= high <= 1


def test_a_tally_by_hand() -> None:
    records = [
        record("1", answer="a", human_label="a", reasoning="hm"),
        record("2", answer="b", human_label="a"),
        record("3", answer="?", value=None, human_label="a", problems=("not one of the labels: '?'",)),
        record("4", answer="!", value=None, problems=("not one of the labels: '!'", "cut off at the most tokens")),
        record("5", answer="c"),
    ]
    valid, problems, right, thought = tally(records)
    assert (valid, right, thought) == (Rate(3, 5), Rate(1, 3), 1)
    assert problems == {"not one of the labels": 2, "cut off at the most tokens": 1}
    assert tally([]) == (Rate(0, 0), {}, Rate(0, 0), 0)


def test_warnings_of_what_does_not_hold() -> None:
    plan = planned([{"text": "a", "gold": None}], samples=4, one_call=True, top_logprobs=2)
    assert report(samples_in_one_call=4, logprobs=True).warnings(plan) == []
    found = report(
        valid=Rate(1, 8), problems={"empty answer": 2, "refused": 5}, samples_in_one_call=1, logprobs=False, missing=3
    ).warnings(plan)
    assert len(found) == 4
    assert found[0].startswith("3 answers did not come")
    assert "most often: refused" in found[1]
    assert "gave 1 of 4 answers in one call" in found[2]
    assert "top_logprobs" in found[3]
    assert report(valid=Rate(0, 0)).warnings(plan) == []


def test_a_report_in_words_and_in_json() -> None:
    found = report(valid=Rate(7, 8), problems={"refused": 1}, latency_s=0.5)
    assert "  1 x refused" in str(found)
    assert "10 tokens in, 1 out, 0.50 s" in str(found)
    assert found.to_dict()["valid"]["count"] == 7
