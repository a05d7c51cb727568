"""The sweep is the calculator: row by row what a single scenario gives, in one vectorised call."""

from __future__ import annotations

import numpy as np
import pytest

from distillcalc import Scenario, recommend, sweep
from distillcalc.decide import table
from distillcalc.errors import InputError, UnknownName
from distillcalc.estimate.inputs import with_inputs
from tests.decide.scenarios import scenario

VALUES = {
    "requests_per_day": [50.0, 9_000.0, 2e6],
    "growth_per_month": [-0.1, 0.0, 0.2],
    "teacher_price_factor": [0.5, 1.0, 3.0],
    "horizon_months": [3, 12, 36],
    "cacheable_prefix_tokens": [0.0, 100.0, 300.0],
    "engineering_hours": [0.0, 120.0, 900.0],
    "interarrival_cv": [0.0, 1.0, 13.0],
    "task_changes_per_year": [0.0, 4.0, 50.0],
    "escalation_rate": [0.0, 0.3, 1.0],
    "discount_rate": [0.0, 0.08, 0.3],
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("sample", ["support-triage", "email-classification"])
def test_each_row_is_exactly_the_single_scenario(name: str, sample: str) -> None:
    base = Scenario.load(sample)
    frame = sweep(base, {name: VALUES[name]})
    for i, value in enumerate(VALUES[name]):
        single = recommend(with_inputs(base, {name: value}))
        rows = frame[frame["scenario"] == i].set_index("option")
        for option, estimate in single.options.items():
            row = rows.loc[option]
            np.testing.assert_equal(row["present_value_usd"], estimate.present_value_usd)
            np.testing.assert_equal(row["usd_per_1000_requests"], estimate.usd_per_1000_requests)
            np.testing.assert_equal(row["quality_mean"], estimate.quality_mean)
            assert row["label"] == estimate.label
            assert row["status"] == estimate.status
            assert row["recommended"] == (option == single.recommendation)
            if not estimate.unpriced:
                assert row["one_off_usd"] == estimate.one_off_total_usd
                assert row["monthly_usd_first"] == estimate.monthly_total_usd[0]
                assert row["monthly_usd_last"] == estimate.monthly_total_usd[-1]
                np.testing.assert_equal(row["e2e_p95_s"], estimate.latency.get("e2e_p95_s", np.nan))


def test_several_inputs_move_together() -> None:
    frame = sweep(scenario(), {"requests_per_day": [100.0, 1e6], "output_tokens": [2.0, 50.0], "input_tokens": 600})
    assert len(frame) == 2 * 7
    assert frame["input_tokens"].unique().tolist() == [600.0]
    single = recommend(with_inputs(scenario(), {"requests_per_day": 1e6, "output_tokens": 50.0, "input_tokens": 600}))
    last = frame[frame["scenario"] == 1].set_index("option")
    assert last.loc["call-teacher", "present_value_usd"] == single.options["call-teacher"].present_value_usd


def test_rows_are_tidy_one_recommended_at_most() -> None:
    frame = sweep(scenario(), {"requests_per_day": np.geomspace(10, 1e7, 50)})
    assert len(frame) == 50 * 7
    assert (frame.groupby("scenario")["recommended"].sum() <= 1).all()
    assert frame["option"].cat.categories.tolist()[0] == "call-teacher"


def test_stretches_give_what_one_evaluation_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"requests_per_day": np.geomspace(10, 1e7, 101)}
    whole = sweep(scenario(), values)
    monkeypatch.setattr(table, "CELLS_PER_CHUNK", 12 * 7)  # seven scenarios at a time on one GPU type
    in_parts = sweep(scenario(), values)
    assert whole.equals(in_parts)


def test_more_traffic_never_lowers_the_cost_where_nothing_is_cached_or_batched() -> None:
    frame = sweep(scenario(), {"requests_per_day": np.geomspace(1, 1e8, 400)})
    for _, rows in frame[frame["status"] != "unpriced"].groupby("option", observed=True):
        assert (np.diff(rows["present_value_usd"]) >= -1e-9).all()


def test_bad_sweeps_are_refused() -> None:
    with pytest.raises(UnknownName, match="Did you mean requests_per_day"):
        sweep(scenario(), {"request_per_day": [1.0]})
    with pytest.raises(InputError, match="one length"):
        sweep(scenario(), {"requests_per_day": [1.0, 2.0], "growth_per_month": [0.0, 0.1, 0.2]})
    with pytest.raises(InputError, match="between 0 and 1"):
        sweep(scenario(), {"batchable_share": [0.5, 1.5]})
    with pytest.raises(InputError, match="number"):
        sweep(scenario(), {"requests_per_day": ["many"]})
    with pytest.raises(InputError, match="whole"):
        sweep(scenario(), {"horizon_months": [1.5]})


def test_horizons_are_swept_one_by_one_so_that_each_sees_its_own_retirements() -> None:
    # gpt-4o-mini ends on 2027-01-14: inside a horizon of three months from December, not inside one.
    counts = {"teacher": {"correct": 950, "total": 1000}, "openai/gpt-4o-mini": {"correct": 950, "total": 1000}}
    base = scenario(choices={"small": ["openai/gpt-4o-mini"], "evaluations": counts})
    frame = sweep(base, {"horizon_months": [3, 1, 3], "requests_per_day": [100.0, 200.0, 300.0]})
    small = frame[frame["option"] == "call-small"]
    assert small["status"].tolist() == ["ruled-out", "feasible", "ruled-out"]
    assert frame["scenario"].tolist() == sorted(frame["scenario"].tolist())
    for i, (months, volume) in enumerate([(3, 100.0), (1, 200.0), (3, 300.0)]):
        single = recommend(with_inputs(base, {"horizon_months": months, "requests_per_day": volume}))
        row = small[small["scenario"] == i].iloc[0]
        assert row["present_value_usd"] == single.options["call-small"].present_value_usd
        assert row["horizon_months"] == months
