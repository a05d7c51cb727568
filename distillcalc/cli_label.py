"""The commands of labelling: ``label``, ``dataset`` and ``inputs``."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from distillcalc.distill.planning import LabelPlan
    from distillcalc.distill.probe import ProbeReport
    from distillcalc.distill.state import State


def label(
    file: Annotated[Path, typer.Argument(metavar="TASK", help="A task file (.toml).")],
    plan_only: Annotated[bool, typer.Option("--plan", help="Show the plan and send nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Go on after the probe without asking.")] = False,
    budget: Annotated[str | None, typer.Option(help="Ceiling in USD, instead of the file's.")] = None,
    engine: Annotated[str | None, typer.Option(help="live or batch, instead of the file's.")] = None,
    probe: Annotated[int | None, typer.Option(help="Rows to try first, instead of the file's.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder of run folders.")] = Path("runs"),
    accept_unclear_terms: Annotated[
        bool, typer.Option("--accept-unclear-terms", help="You have read the teacher's terms, and they allow it.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON on stdout; the tables go to stderr.")
    ] = False,
    catalog: Annotated[
        Path | None, typer.Option("--catalog", metavar="FILE", help="TOML file with catalog rows of your own.")
    ] = None,
) -> None:
    """Label rows with a teacher: plan, probe, a yes, then every answer journaled; goes on where it stopped."""
    from distillcalc.cli import _console
    from distillcalc.distill.labelling import run_plan
    from distillcalc.distill.planning import dollars, duration
    from distillcalc.distill.spec import LabelSpec
    from distillcalc.errors import InputError
    from distillcalc.workload.files import read_rows

    if engine not in (None, "live", "batch"):
        raise InputError(f"--engine is live or batch. Got {engine!r}")
    spec = LabelSpec.load(file)
    plan = spec.plan(spec.catalog(read_rows(catalog) if catalog else None))
    console = _console(as_json)

    def show(text: object) -> None:
        console.print(str(text), markup=False, highlight=False, soft_wrap=True)

    show(plan)
    if plan_only:
        if as_json:
            print(json.dumps(plan.to_dict()))
        return
    if plan.terms.verdict == "unknown" and not accept_unclear_terms and not yes and sys.stdin.isatty():
        accept_unclear_terms = typer.confirm("The terms do not say. Have you read them, and do they allow it?")
    ceiling = budget if budget is not None else str(spec.labelling.budget_usd)
    limits = spec.labelling
    with _Bar(console, plan) as bar:

        def confirm(plan: LabelPlan, found: ProbeReport | None) -> bool:
            bar.pause()
            if found is not None:
                show(found)
                usd, minutes = found.forecast(plan)
                show(f"so the whole plan takes about {dollars(usd)} and {duration(minutes)} (live, at list price)")
                for warning in found.warnings(plan):
                    show(f"WARNING: {warning}")
            if yes:
                return True
            if not sys.stdin.isatty():
                raise InputError("nobody is here to say yes. Run it again with --yes; what the probe paid for is kept")
            return typer.confirm(f"Label the rest, for ${ceiling} at the most?")

        run = run_plan(
            plan, budget_usd=ceiling, runs=runs, engine=engine or limits.engine,  # type: ignore[arg-type]
            probe=limits.probe if probe is None else probe, confirm=confirm,
            accept_unclear_terms=accept_unclear_terms, progress=bar.update, attempts=limits.attempts,
            patience_s=limits.patience_s,
        )  # fmt: skip
    show(run)
    if as_json:
        print(json.dumps(run.to_dict()))
    if run.stopped and run.stopped != "not confirmed":
        sys.exit(3)


class DataFormat(StrEnum):
    """What `distillcalc dataset` writes."""

    openai = "openai"
    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"
    huggingface = "huggingface"


def dataset(
    file: Annotated[Path, typer.Argument(metavar="TASK", help="The task file (.toml) that was labelled.")],
    records: Annotated[Path | None, typer.Option(help="A dataset file, instead of the run of the task.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for the training files.")] = None,
    format: Annotated[DataFormat, typer.Option(help="Of the training files.")] = DataFormat.openai,
    system: Annotated[str | None, typer.Option(help="System prompt of the student, instead of the teacher's.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Prompt template of the student, such as {text}.")] = None,
    reasoning: Annotated[str, typer.Option(help="Chains of thought: drop, or inline before the answer.")] = "drop",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    runs: Annotated[Path, typer.Option(help="Folder of run folders.")] = Path("runs"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON on stdout; the tables go to stderr.")
    ] = False,
) -> None:
    """Make a training set of a labelled task: filters with their reports, splits, training files, a card."""
    from distillcalc.cli import _console
    from distillcalc.distill.recipe import prepare
    from distillcalc.distill.records import Dataset
    from distillcalc.distill.spec import LabelSpec
    from distillcalc.distill.training_file import check_training_file
    from distillcalc.errors import InputError

    spec = LabelSpec.load(file)
    source = records
    if source is None:
        folder = runs / spec.plan().run_name
        names = ("dataset.jsonl", "dataset.parquet")
        source = next((folder / name for name in names if (folder / name).is_file()), None)
        if source is None:
            raise InputError(f"nothing is labelled yet: {folder} has no dataset. Run: distillcalc label {file}")
    if reasoning not in ("drop", "inline"):
        raise InputError(f"--reasoning is drop or inline. Got {reasoning!r}")
    made = prepare(Dataset.load(source), spec.task, spec.filters, folder=file.parent)
    console = _console(as_json)
    console.print(str(made), markup=False, highlight=False, soft_wrap=True)
    files: dict[str, Any] = {}
    if output is not None:
        written = made.save(
            output, format=format.value, overwrite=overwrite, system=system, prompt=prompt,
            reasoning=reasoning,
        )  # fmt: skip
        for split, path in written.files.items():
            words = f"wrote {path}: {written.rows[split]:,} rows of {split}"
            if format is DataFormat.openai:
                whole = split in ("train", "all")
                checked = str(check_training_file(path, minimum_rows=10 if whole else 1)).removeprefix(f"{path}: ")
                words += "; by OpenAI's rules: " + (checked.replace("\n", "\n  ") if whole else checked.split("\n")[0])
            console.print(words, markup=False, highlight=False, soft_wrap=True)
            files[split] = {"path": str(path), "rows": written.rows[split]}
    if as_json:
        print(json.dumps(made.to_dict() | {"files": files}))


def inputs(
    file: Annotated[Path, typer.Argument(metavar="TASK", help="A task file (.toml); its inputs are the seeds.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="JSONL file for the new inputs.")],
    count: Annotated[int, typer.Option(help="New inputs to ask for.")] = 100,
    about: Annotated[str, typer.Option(help="What the task is, in words; left out, its system prompt.")] = "",
    budget: Annotated[str | None, typer.Option(help="Ceiling in USD, instead of the file's.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before spending.")] = False,
    runs: Annotated[Path, typer.Option(help="Folder of run folders.")] = Path("runs"),
    accept_unclear_terms: Annotated[
        bool, typer.Option("--accept-unclear-terms", help="You have read the teacher's terms, and they allow it.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON on stdout; the tables go to stderr.")
    ] = False,
) -> None:
    """Have the teacher write new inputs from real ones, with how varied they are and how often they repeat."""
    from distillcalc.cli import _console
    from distillcalc.distill.spec import LabelSpec
    from distillcalc.distill.synthetic import save_inputs, synthesise
    from distillcalc.errors import InputError

    spec = LabelSpec.load(file)
    ceiling = budget if budget is not None else str(spec.labelling.budget_usd)
    console = _console(as_json)

    def confirm(plan: LabelPlan, _: ProbeReport | None) -> bool:
        console.print(str(plan), markup=False, highlight=False, soft_wrap=True)
        if yes:
            return True
        if not sys.stdin.isatty():
            raise InputError("nobody is here to say yes. Run it again with --yes")
        return typer.confirm(f"Ask for {count} inputs, for ${ceiling} at the most?", abort=True)

    made = synthesise(
        spec.task, spec.teacher, spec.rows, count=count, about=about, budget_usd=ceiling, confirm=confirm, probe=0,
        runs=runs, accept_unclear_terms=accept_unclear_terms, catalog=spec.catalog(), privacy=spec.privacy,
        concurrency=spec.labelling.concurrency,
    )  # fmt: skip
    console.print(str(made), markup=False, highlight=False, soft_wrap=True)
    console.print(f"wrote {save_inputs(made, output)}", markup=False, highlight=False, soft_wrap=True)
    if as_json:
        print(json.dumps(made.to_dict()))


class _Bar:
    """Progress on stderr, where a person looks; nothing where nobody does."""

    def __init__(self, console: Console, plan: LabelPlan) -> None:
        self._shown = sys.stderr.isatty()
        self._bar: Any = None
        self._plan = plan

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()

    def pause(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def update(self, state: State) -> None:
        if not self._shown:
            return
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(total=state.wanted, unit="answer", initial=state.got, file=sys.stderr)
        self._bar.n = state.got
        self._bar.set_postfix_str(f"${state.ledger.spent:.4f}", refresh=False)
        self._bar.update(0)
