"""The records in data/benchmarks can be read, and what is said of them is what they say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from distillcalc.benchmark.record import Record, Samples
from distillcalc.benchmark.refit import SPREAD
from distillcalc.catalog import Catalog
from distillcalc.resources import data_folder

ROOT = Path(__file__).resolve().parents[2]
RECORDS = sorted(file for file in (data_folder() / "benchmarks").glob("*/*.json") if file.name != "machine.json")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("validate_students", ROOT / "scripts" / "validate_students.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_records() -> None:
    assert len(RECORDS) >= 14


@pytest.mark.parametrize("file", RECORDS, ids=lambda file: file.stem)
def test_a_record_and_its_samples_can_be_read(file: Path) -> None:
    record = Record.load(file)
    assert record.name == file.stem
    assert record.machine["cpu"]
    arrays = Samples.of(file).arrays  # refused where the digest in the record is not theirs
    for place, level in enumerate(record.levels):
        assert len(arrays[f"{place}.due_s"]) == level.summary["requests"]
    # No folder of the machine that measured.
    assert not re.search(r'"/|\\\\', file.read_text(encoding="utf-8"))


def test_the_engine_that_is_shipped_is_fitted_to_the_records_and_the_page_is_made_of_them(script: ModuleType) -> None:
    text, row = script.page(ROOT / "data" / "benchmarks" / "cpu")
    shipped = Catalog.load().engine("transformers")
    for name in (*SPREAD, "tpot_factor", "ttft_factor"):
        assert getattr(shipped, name) == pytest.approx(row[name], rel=0.05), name
    page = (ROOT / "docs" / "results" / "validation.md").read_text(encoding="utf-8")

    def rows(of: str) -> list[str]:
        return [line for line in of.splitlines() if line.startswith("| ")]

    assert len(rows(page)) == len(rows(text))
    for said, made in zip(rows(page), rows(text), strict=True):
        for one, other in zip(re.findall(r"\d+\.?\d*", said), re.findall(r"\d+\.?\d*", made), strict=True):
            assert float(one) == pytest.approx(float(other), rel=0.05, abs=1.0)
