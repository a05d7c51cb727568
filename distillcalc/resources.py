"""Where the shipped data and notebooks lie: inside an installed wheel, or beside the package in a checkout."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from distillcalc.errors import DistillcalcError


@cache
def data_folder() -> Path:
    """The folder of the catalog tables and sample scenarios."""
    package = Path(__file__).parent
    for folder in (package / "_data", package.parent / "data"):
        if (folder / "gpus.toml").is_file():
            return folder
    raise DistillcalcError("the data folder of distillcalc is missing: reinstall the package")


@cache
def notebooks_folder() -> Path:
    """The folder of the guided notebooks."""
    package = Path(__file__).parent
    for folder in (package / "_notebooks", package.parent / "notebooks"):
        if (folder / "00_start_here.ipynb").is_file():
            return folder
    raise DistillcalcError("the notebooks of distillcalc are missing: reinstall the package")
