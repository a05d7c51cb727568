from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from distillcalc.benchmark.record import Level, Measured, Record, Samples, pack, unpack
from distillcalc.errors import InputError


def record(**changed: Any) -> Record:
    plain: dict[str, Any] = {
        "name": "smollm2-cpu",
        "created": "2026-11-28T12:00:00+00:00",
        "measured": Measured(name="smollm2", kind="in-process", precision="fp32"),
        "machine": {"cpu": "a processor", "cores": 2},
        "workload": {"input_tokens": 64},
        "settings": {"seed": 0},
        "levels": (
            Level(load={"kind": "closed", "concurrency": 1}, summary={"requests_per_s": 0.5}),
            Level(load={"kind": "open", "rate_per_s": 2.5}, summary={"requests_per_s": 0.75}),
        ),
    }
    return Record(**{**plain, **changed})


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    samples = {"ttft_s": np.array([0.1, np.nan, 0.3]), "tokens": np.array([1, 2, 3], dtype=np.int64)}
    file = record().save(tmp_path / "new", samples)
    back = Record.load(file)
    assert back.model_copy(update={"samples": None}) == record()
    held = Samples.of(file).arrays
    assert held.keys() == samples.keys()
    for name, array in samples.items():
        np.testing.assert_array_equal(held[name], array)
    # Written again: the same bytes, and no half-written file beside it.
    assert file.read_bytes() == record().save(tmp_path / "new", samples).read_bytes()
    assert sorted(one.name for one in file.parent.iterdir()) == ["smollm2-cpu.json", "smollm2-cpu.samples.npz"]


def test_levels_are_found_by_their_load() -> None:
    assert record().level(concurrency=1).name == "1 in flight"
    assert record().level(rate_per_s=2.5).name == "2.5 a second"
    with pytest.raises(InputError, match=r"not measured at \{'concurrency': 8\}. It has: 1 in flight, 2.5 a second"):
        record().level(concurrency=8)


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    file = record().save(tmp_path)
    with pytest.raises(InputError, match="keeps no raw samples"):
        Samples.of(file)
    held = json.loads(file.read_text())
    for changed, message in [
        ({**held, "schema_version": 2}, "is of version 2 of the record, and this distillcalc reads version 1"),
        ({**held, "levels": []}, "levels: Tuple should have at least 1 item"),
        ({**held, "more": 1}, "more: Extra inputs are not permitted"),
        ({"name": "x"}, "has no schema_version"),
        ([1], "has no schema_version"),
    ]:
        file.write_text(json.dumps(changed))
        with pytest.raises(InputError, match=message):
            Record.load(file)
    file.write_text("{")
    with pytest.raises(InputError, match="is no JSON"):
        Record.load(file)
    with pytest.raises(InputError, match="cannot read the record"):
        Record.load(tmp_path / "none.json")
    with pytest.raises(ValueError, match="name"):
        record(name="../elsewhere")


def test_samples_of_another_run_are_refused(tmp_path: Path) -> None:
    file = record().save(tmp_path, {"a": np.arange(3)})
    (tmp_path / "smollm2-cpu.samples.npz").write_bytes(pack({"a": np.arange(4)}))
    with pytest.raises(InputError, match="SHA-256 differs"):
        Samples.of(file)
    (tmp_path / "smollm2-cpu.samples.npz").unlink()
    with pytest.raises(InputError, match="cannot read the samples"):
        Samples.of(file)
    with pytest.raises(InputError, match=r"raw samples are numbers\. Got a of object"):
        record().save(tmp_path, {"a": np.array([{}])})


@given(arrays_of.arrays(st.sampled_from([np.float64, np.int64, np.bool_]), st.integers(0, 5)))
def test_any_numbers_are_kept(array: Any) -> None:
    np.testing.assert_array_equal(unpack(pack({"array": array}))["array"], array)
