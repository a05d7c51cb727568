from __future__ import annotations

import getpass
import json
import platform
import re

import pytest

from distillcalc.benchmark.machine import MachineSpeed, Speed, describe_machine, measure_machine
from distillcalc.catalog import Catalog
from distillcalc.errors import InputError


def test_a_speed_by_hand() -> None:
    assert Speed.of([2.0, 4.0, 3.0]) == Speed(best=4.0, median=3.0, spread=2 / 3, repeats=3)


def test_what_it_is_without_what_is_private() -> None:
    found = describe_machine()
    assert found["cores"] >= 1
    assert found["python"] == platform.python_version()
    assert {"distillcalc", "torch", "transformers"} <= found["versions"].keys()
    assert found["commit"] == "unknown" or re.fullmatch(r"[0-9a-f]{12,40}(-dirty)?", found["commit"])
    said = json.dumps(found)
    assert "/" not in said.replace("Intel(R)", "")  # no path of this machine
    if len(platform.node()) > 3:
        assert platform.node() not in said
    if getpass.getuser() not in ("root", "user"):
        assert getpass.getuser() not in said


def test_a_measured_machine_is_a_row_of_the_catalog() -> None:
    made = measure_machine(1.0)
    # Between a slow phone and a rack of GPUs; a wrong unit would be beyond.
    assert 1e8 < made.read_bytes_per_s.median <= made.read_bytes_per_s.best < 1e14
    assert 1e9 < made.flop_per_s.median <= made.flop_per_s.best < 1e16
    assert 1e-8 < made.launch_s < 1e-2
    assert min(made.read_bytes_per_s.repeats, made.flop_per_s.repeats) >= 3
    row = Catalog.load({"gpus": {"this-machine": made.row()}}).gpu("this-machine")
    assert row.bandwidth_gb_s == pytest.approx(made.read_bytes_per_s.best / 1e9, rel=1e-3)
    assert row.bf16_tflops == pytest.approx(made.flop_per_s.best / 1e12, rel=1e-3)
    assert row.kind == ("cpu" if made.device == "cpu" else "gpu")
    assert "GB/s" in str(made)


def test_reading_does_not_come_from_a_cache() -> None:
    # 512 rows a matrix compute; one row reads. Were the matrices in the cache, reading would look like computing.
    made = measure_machine(1.0)
    if made.device == "cpu":
        flops_of_reading = (
            made.read_bytes_per_s.median / 4 * 2
        )  # a weight of 4 bytes is one multiplication and addition
        assert flops_of_reading < made.flop_per_s.best


def test_a_duration_out_of_range_is_refused() -> None:
    for seconds in (0.0, 61.0):
        with pytest.raises(InputError, match=r"between 1 and 60"):
            measure_machine(seconds)


def test_its_row_says_how_it_was_measured() -> None:
    speed = Speed(20e9, 19e9, 0.1, 9)
    made = MachineSpeed("a processor", "cpu", "fp32", 2, 24_000_000_000, speed, Speed(1e11, 9e10, 0.2, 7), 5e-6, 20.0)
    row = made.row()
    assert (row["bandwidth_gb_s"], row["bf16_tflops"], row["memory_gb"]) == (20, 0.1, 24)
    assert "20 s, 2 threads" in row["source"]
    assert "within 10% (bandwidth) and 20% (compute)" in row["note"]
