"""The commands of the guided notebooks: ``distillcalc notebooks`` and ``distillcalc dashboard``."""

from __future__ import annotations

import shutil
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from distillcalc.errors import InputError, MissingExtra

DASHBOARD = "01_should_i_distill.ipynb"


def notebooks(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to copy them to; made if it is not there.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite notebooks that are there already.")] = False,
) -> None:
    """Copy the guided notebooks to a folder of yours, to run and to change."""
    from distillcalc.resources import notebooks_folder

    files = sorted(notebooks_folder().glob("*.ipynb"))
    there = [file.name for file in files if (folder / file.name).exists()]
    if there and not force:
        raise InputError(f"{folder} holds {', '.join(there)} already. --force overwrites what you changed in them")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copyfile(file, folder / file.name)
    except OSError as error:
        raise InputError(f"cannot copy the notebooks to {folder}: {error.strerror}") from error
    print(f"copied {len(files)} notebooks to {folder}\nopen them: jupyter lab {folder / files[0].name}")


def dashboard(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Left out, a free one from 8866.")] = None,
    scenario: Annotated[
        str | None, typer.Option(metavar="FILE", help="A scenario file, or the name of a preset, to start from.")
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, and open nothing.")] = False,
) -> None:
    """Serve the sliders as a page on this machine (127.0.0.1) until Ctrl-C."""
    from distillcalc.resources import notebooks_folder

    try:
        import ipywidgets  # noqa: F401
        import voila  # noqa: F401
    except ImportError as error:
        raise MissingExtra(str(error.name), "notebook") from error
    from distillcalc.notebook.dashboard import serve
    from distillcalc.notebook.presets import opened

    if scenario is not None:
        opened(scenario)  # what is wrong with it is said here, not on the page
        scenario = str(Path(scenario).resolve()) if Path(scenario).is_file() else scenario

    def started(address: str) -> None:
        print(f"The dashboard is at {address}\nCtrl-C ends it.", flush=True)
        if not no_browser:
            webbrowser.open(address)

    serve(notebooks_folder() / DASHBOARD, port=port, scenario=scenario, started=started)
    print("\nended")
