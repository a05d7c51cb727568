"""The house rules that code can hold: who imports whom, what loads late, what the library does not do."""

from __future__ import annotations

import ast
import doctest
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "distillcalc"

# A room imports only from the rooms before it. calendar, calibration_measures, errors, lazy, provenance and
# resources are the floor.
ORDER = ["workload", "catalog", "estimate", "decide", "route", "distill", "benchmark", "notebook"]
FLOOR = {"calendar", "calibration_measures", "errors", "lazy", "provenance", "resources"}

HEAVY = {
    "torch",
    "transformers",
    "datasets",
    "duckdb",
    "openai",
    "ipywidgets",
    "pandas",
    "scipy",
    "matplotlib",
    "tiktoken",
    "genai_prices",
    "SALib",
    "rich",
    "typer",
    "numba",
    "numpy",
    "pydantic",
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(file: Path, *, top_level: bool = False) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("file", modules(), ids=lambda f: str(f.relative_to(PACKAGE)))
def test_a_room_imports_only_from_the_rooms_before_it(file: Path) -> None:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    room = parts[0]
    if len(parts) == 1 and room not in FLOOR:
        return  # the front doors (cli, demo, __init__) may use every room
    allowed = set() if room in FLOOR else {*FLOOR, *ORDER[: ORDER.index(room) + 1]}
    used = {name.split(".")[1] for name in imports(file) if name.startswith("distillcalc.")}
    assert used <= allowed | FLOOR, f"{file.name} uses {sorted(used - allowed - FLOOR)}"


def test_workload_and_catalog_know_nothing_of_the_others() -> None:
    for room in ("workload", "catalog"):
        for file in (PACKAGE / room).glob("*.py"):
            used = {name.split(".")[1] for name in imports(file) if name.startswith("distillcalc.")}
            assert used <= FLOOR | {"workload", "catalog"}


def loaded_after(code: str) -> set[str]:
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(done.stdout))


def test_import_distillcalc_loads_nothing_heavy() -> None:
    assert not loaded_after("import distillcalc") & HEAVY


def test_a_recommendation_needs_no_tables_no_figures_and_no_network_client() -> None:
    code = (
        "from distillcalc import Scenario, recommend\n"
        "decision = recommend(Scenario.load('email-classification'))\n"
        "str(decision); decision.to_json()"
    )
    never = {"torch", "transformers", "duckdb", "openai", "ipywidgets", "pandas", "matplotlib", "sklearn", "tiktoken"}
    assert not loaded_after(code) & never


@pytest.mark.parametrize("file", modules(), ids=lambda f: str(f.relative_to(PACKAGE)))
def test_no_pickle_and_no_logging_set_up(file: Path) -> None:
    used = imports(file)
    assert not used & {"pickle", "cloudpickle", "joblib", "dill"}
    text = file.read_text(encoding="utf-8")
    assert "basicConfig" not in text
    assert "trust_remote_code=True" not in text


@pytest.mark.parametrize("file", modules(), ids=lambda f: str(f.relative_to(PACKAGE)))
def test_public_names_say_what_they_are(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{file.name} does not say what it answers"
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{file.name}: {node.name}"


def test_every_public_name_resolves() -> None:
    package = importlib.import_module("distillcalc")
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing


def test_examples_in_docstrings_run() -> None:
    ran = 0
    for file in modules():
        if ">>>" not in file.read_text(encoding="utf-8"):
            continue
        name = ".".join(("distillcalc", *file.relative_to(PACKAGE).with_suffix("").parts))
        result = doctest.testmod(importlib.import_module(name))
        assert result.failed == 0
        ran += result.attempted
    assert ran >= 3
