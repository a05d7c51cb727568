"""The command of the demo: ``distillcalc demo``."""

from __future__ import annotations

import sys
import time
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distillcalc.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

BUDGET = "1.00"  # USD


def demo(
    folder: Annotated[Path, typer.Option(help="Of everything that it makes.")] = Path("runs/demo"),
    small: Annotated[bool, typer.Option("--small", help="Few messages, short measurements: to try that it runs.")] = (
        False
    ),
    model: Annotated[
        str | None,
        typer.Option(help="A big model that answers itself, provider/model; left out, a small one plays it."),
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="Its endpoint; left out, the provider's own.")] = None,
    key_env: Annotated[str | None, typer.Option(help="Environment variable that holds its key.")] = None,
    budget: Annotated[str, typer.Option(help="The most that a paid teacher may cost [USD].")] = BUDGET,
    accept_unclear_terms: Annotated[
        bool, typer.Option("--accept-unclear-terms", help="You have read the teacher's terms, and they allow it.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON on stdout; what is shown goes to stderr.")
    ] = False,
) -> None:
    """The whole loop on a shipped task, from a decision to the same one again; goes on after a kill.

    Decide, label, train, measure, hold the estimate against it, route, decide again.
    """
    from distillcalc.cli import _console
    from distillcalc.demo import REPORT, RESULT, run_demo

    console = _console(as_json)
    with _Shown(console) as shown:
        made = run_demo(
            folder, small=small, teacher=_teacher(model, base_url, key_env), budget_usd=_dollars(budget),
            accept_unclear_terms=accept_unclear_terms, watcher=shown,
        )  # fmt: skip
    minutes = sum(made.seconds.values()) / 60
    for line in (f"\n{minutes:.1f} minutes. Read {folder / REPORT}", f"the same as data: {folder / RESULT}"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if as_json:
        print(made.model_dump_json())


def _teacher(model: str | None, base_url: str | None, key_env: str | None) -> Any:
    if model is None:
        if base_url is not None or key_env is not None:
            raise InputError("--base-url and --key-env are of a big model: name it with --model provider/model")
        return None
    from pydantic import ValidationError

    from distillcalc.distill.teacher import Teacher

    try:
        return Teacher(model=model, base_url=base_url, key_env=key_env, temperature=0.0, max_output_tokens=64)
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InputError(f"--base-url: {said}. Got {base_url!r}") from error


def _dollars(text: str) -> Decimal:
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal(-1)
    if not found.is_finite() or found < 0:
        raise InputError(f"--budget must be dollars, such as 2.50. Got {text!r}")
    return found


class _Shown:
    """Steps as headings, what they made below, and one bar for what is done now where a person looks."""

    def __init__(self, console: Console) -> None:
        self._console, self._what, self._began = console, "", time.monotonic()
        self._bar: Any = None
        self._live = sys.stderr.isatty()

    def __enter__(self) -> _Shown:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def step(self, number: int, title: str) -> None:
        """A heading, with the time since the start."""
        from distillcalc.demo_steps import STEPS

        self._close()
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        line = f"\n[{number} of {len(STEPS)}, {minutes}:{seconds:02}] {title}"
        self._console.print(line, style="bold", markup=False, highlight=False)

    def progress(self, what: str, done: int, total: int) -> None:
        """A bar; without a total, a line."""
        if what != self._what:
            self._close()
            self._what = what
            if not total or not self._live:
                print(f"  {what}", file=sys.stderr, flush=True)
        if not total or not self._live:
            return
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(total=total, desc=f"  {what}", file=sys.stderr, leave=False)
        self._bar.n = done
        self._bar.refresh()

    def show(self, made: object) -> None:
        """What a step made, as it shows itself."""
        self._close()
        if hasattr(made, "__rich__") or hasattr(made, "__rich_console__"):
            self._console.print(made)
        else:
            self._console.print(str(made), markup=False, highlight=False, soft_wrap=True)
