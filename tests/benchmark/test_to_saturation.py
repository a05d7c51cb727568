from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distillcalc.benchmark import static_batches
from distillcalc.benchmark.record import Record, Samples
from distillcalc.benchmark.to_saturation import to_saturation
from distillcalc.errors import InputError
from distillcalc.workload.workload import Workload

from .models import engine

WORKLOAD = Workload(name="equal lengths", requests_per_day=1_000, input_tokens=6, output_tokens=3)


def levels(made: Any) -> list[int]:
    return [level.load["concurrency"] for level in made.record.levels]


def test_four_times_as_many_in_flight_each_time_up_to_the_most(tmp_path: Path) -> None:
    made = to_saturation(engine(), WORKLOAD, most=10, rounds=2, fewest=3, gain=-1.0, name="all", weights="random")
    assert levels(made) == [1, 4, 10]
    # twice the loop, but three at least
    assert [level.summary["requests"] for level in made.record.levels] == [3, 8, 20]
    assert made.record.notes[-1] == "not saturated with 10 in flight, and no more were asked for"
    assert made.record.settings | {"rounds": 2, "fewest": 3, "most": 10, "gain": -1.0} == made.record.settings
    assert [one.requests for one in made.summaries] == [3, 8, 20]
    file = made.save(tmp_path)
    assert Record.load(file).model_copy(update={"samples": None}) == made.record
    arrays = Samples.of(file).arrays
    assert [len(arrays[f"{place}.due_s"]) for place in range(3)] == [3, 8, 20]
    assert "3.due_s" not in arrays
    assert (arrays["2.output_tokens"] == 3).all()


def test_levels_have_prompts_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    target, seen = engine(), []
    whole = target.run

    def run(prompts: Any, *given: Any, **more: Any) -> Any:
        seen.append({prompt.text for prompt in prompts})
        return whole(prompts, *given, **more)

    monkeypatch.setattr(target, "run", run)
    to_saturation(target, WORKLOAD, most=4, rounds=1, fewest=4, gain=-1.0)
    assert [len(texts) for texts in seen] == [2, 4, 2, 4]  # each level warms up with two
    assert not seen[1] & seen[3]


def test_the_last_level_is_the_first_that_gains_too_little() -> None:
    made = to_saturation(engine(), WORKLOAD, most=64, rounds=1, gain=1e6)
    assert levels(made) == [1, 4]
    assert made.record.notes[-1].startswith("saturated: 4 in flight write ")
    assert made.record.notes[-1].endswith(" times as many tokens a second as 1")


def test_the_engines_batch_bounds_it() -> None:
    assert levels(to_saturation(engine(max_batch=2), WORKLOAD, rounds=1, gain=-1.0)) == [1, 2]


def test_no_level_is_begun_that_would_end_too_late() -> None:
    made = to_saturation(engine(), WORKLOAD, rounds=1, seconds=0.0)
    assert levels(made) == [1]
    assert "the next level takes more" in made.record.notes[-1]


def test_memory_ends_it_and_keeps_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    target = engine()
    one = target.row_bytes(6, target.decoder.capacity(6, 3))
    monkeypatch.setattr(static_batches, "lacks", lambda engine, needed: needed > 4.5 * one)
    made = to_saturation(target, WORKLOAD, rounds=1, gain=-1.0)
    assert levels(made) == [1, 4, 16]
    assert made.record.notes[-1] == "16 in flight are more than it serves: out of memory"
    assert any("What would fit" in note for note in made.record.notes)
    assert made.record.levels[1].summary["outcomes"] == {"ok": 6}


def test_numbers_below_one_are_refused() -> None:
    for wrong in ({"most": 0}, {"rounds": 0}, {"fewest": 0}):
        with pytest.raises(InputError, match="1 or more"):
            to_saturation(engine(), WORKLOAD, **wrong)  # type: ignore[arg-type]
