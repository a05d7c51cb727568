"""The command of training: ``train``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from distillcalc.distill.training.progress import Progress


def train(
    file: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe (.toml).")],
    runs: Annotated[Path, typer.Option(help="Folder of run folders.")] = Path("runs"),
    figure: Annotated[Path | None, typer.Option(help="PNG of the table: quality against time or size.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON on stdout; the tables go to stderr.")
    ] = False,
    catalog: Annotated[
        Path | None, typer.Option("--catalog", metavar="FILE", help="TOML file with catalog rows of your own.")
    ] = None,
) -> None:
    """Train a student as a recipe says, beside one trained on labels alone, and judge both on the same items."""
    from distillcalc.catalog import Catalog
    from distillcalc.cli import _console
    from distillcalc.distill.training.run import is_main_process
    from distillcalc.distill.training.run import train as carry_out
    from distillcalc.errors import InputError
    from distillcalc.workload.files import read_rows

    if figure is not None:
        _refuse_figure(figure, file)
    known = Catalog.load()
    if catalog is not None:
        known = known.with_overrides(read_rows(catalog))
    with _Bars() as bars:
        run = carry_out(file, runs=runs, report=bars.update, catalog=known)
    if not is_main_process():
        return
    console = _console(as_json)
    console.print(run)
    console.print(f"wrote {run.student}", markup=False, highlight=False, soft_wrap=True)
    if figure is not None and run.table is not None:
        from matplotlib.figure import Figure

        from distillcalc.distill.training.four_way_figure import four_way_figure

        try:
            drawn = four_way_figure(run.table).get_figure()
            assert isinstance(drawn, Figure)
            drawn.savefig(figure)
        except (OSError, ValueError) as error:
            raise InputError(f"cannot write the figure to {figure}: {error}") from error
        console.print(f"wrote {figure}", markup=False, highlight=False, soft_wrap=True)
    if as_json:
        print(json.dumps(run.to_dict()))


def _refuse_figure(figure: Path, recipe: Path) -> None:
    """Say before hours of training what would stop the figure after them."""
    from distillcalc.distill.training.recipe import Recipe
    from distillcalc.errors import InputError

    if figure.suffix.lower() != ".png":
        raise InputError(f"the figure goes to a file whose name ends in .png. Got {figure.name!r}")
    if not figure.absolute().parent.is_dir():
        raise InputError(f"there is no folder {str(figure.parent)!r} for the figure. Make it first")
    if Recipe.load(recipe).data.evaluation is None:
        raise InputError(f"{recipe.name} names no evaluation items, so no figure can be drawn: set data.evaluation")


class _Bars:
    """One bar on stderr for what is done now, where a person looks; else a line when something new begins."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._what = ""
        self._tenth = -1

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def update(self, progress: Progress) -> None:
        """Show how far it is; where nobody looks, a line at the start and at each tenth."""
        if progress.what != self._what:
            self._close()
            self._what, self._tenth = progress.what, -1
        if not sys.stderr.isatty():
            tenth = 10 * progress.step // max(progress.steps, 1)
            if tenth > self._tenth:
                self._tenth = tenth
                print(in_words(progress), file=sys.stderr, flush=True)
            return
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(total=progress.steps, desc=progress.what, file=sys.stderr, initial=progress.step)
        self._bar.n = progress.step
        if progress.loss is not None:
            self._bar.set_postfix_str(f"loss {progress.loss:.3f}, {progress.tokens_per_s:,.0f} tokens/s", refresh=False)
        self._bar.update(0)
        if progress.step >= progress.steps:
            self._close()


def in_words(progress: Progress) -> str:
    """How far something is, in a line: steps, and of a training loss, tokens/s and time left."""
    words = f"{progress.what}: {progress.step:,} of {progress.steps:,}"
    if progress.loss is None:
        return words
    minutes, seconds = divmod(round(progress.seconds_left), 60)
    return f"{words}, loss {progress.loss:.3f}, {progress.tokens_per_s:,.0f} tokens/s, {minutes}:{seconds:02} left"
