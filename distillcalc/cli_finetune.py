"""The commands of `distillcalc finetune`: plan, run, status, events, cancel and list."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distillcalc.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from distillcalc.catalog import Catalog
    from distillcalc.distill.finetune.forecast import TrainingFileCheck
    from distillcalc.distill.finetune.journal import RunFolder
    from distillcalc.distill.finetune.plan import Plan
    from distillcalc.distill.finetune.results import Progress
    from distillcalc.distill.finetune.spec import FineTuneSpec

WIDTH_OF_A_PIPE = 170

finetune_app = typer.Typer(
    help="Have a provider fine-tune the student: forecast, made once, watched until the model answers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON on stdout; the tables go to stderr.")]
Rows = Annotated[
    Path | None, typer.Option("--catalog", metavar="FILE", help="TOML file with catalog rows of your own.")
]
Spec = Annotated[Path, typer.Argument(help="TOML file with a [finetune] table: name, provider, model, training_file.")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder that holds the runs.")]
Run = Annotated[str, typer.Argument(help="Name of a run, or its folder.")]


@finetune_app.command()
def plan(spec: Spec, as_json: Json = False, catalog: Rows = None) -> None:
    """Check the training file, forecast the cost and show closing dates; nothing is sent."""
    from distillcalc.distill.finetune.plan import make_plan

    made = make_plan(_spec(spec), catalog=_catalog(catalog), check=_check())
    _show_plan(made, _console(as_json))
    if as_json:
        _print(made.to_dict() | {"refused": bool(made.refusals)})


@finetune_app.command()
def run(
    spec: Spec,
    yes: Annotated[bool, typer.Option("--yes", help="Spend the money without being asked.")] = False,
    runs: Runs = Path("runs"),
    as_json: Json = False,
    catalog: Rows = None,
) -> None:
    """Make the fine-tune, or take up the one that was begun under its name, and wait until its model answers."""
    from distillcalc.decide.words import usd
    from distillcalc.distill.finetune.run import finetune

    console = _console(as_json)

    def confirm(made: Plan) -> bool:
        _show_plan(made, console)
        if yes:
            return True
        if not sys.stdin.isatty():
            raise InputError("making a fine-tune costs money, and there is nobody to ask. Add --yes to go ahead")
        return typer.confirm(f"Make this job at {made.spec.provider}?", err=as_json)

    def tell(step: Progress) -> None:
        console.print(f"{step.stage}: {step.words}", markup=False, highlight=False)

    done = finetune(_spec(spec), folder=runs, catalog=_catalog(catalog), check=_check(), confirm=confirm, progress=tell)
    forecast = "unknown" if done.forecast.usd is None else usd(done.forecast.usd)
    cost = "unknown" if done.bill.usd is None else usd(done.bill.usd)
    _say(console, f"model: {done.model}{'' if done.usable else ' (it does not answer yet)'}")
    _say(console, f"training: {cost} ({done.bill.source}); the forecast was {forecast}")
    _say(console, f"serving: {done.forecast.serving}")
    if as_json:
        _print(done.to_dict())


@finetune_app.command()
def status(
    run: Run,
    offline: Annotated[bool, typer.Option("--offline", help="Say what the journal says; ask nobody.")] = False,
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Show how a run stands: its last step, and its job as the service tells of it."""
    found = _run(run, runs)
    lines = found.lines()
    last = lines[-1] if lines else {"event": "planned"}
    created = found.last("created")
    answer: dict[str, Any] = {"run": str(found.path), "last": last, "job": None}
    if created is not None and offline:
        finished = found.last("finished")
        answer["job"] = finished["job"] if finished else {"id": created["job_id"]}
    elif created is not None:
        with _service(found) as service:
            answer["job"] = service.retrieve(created["job_id"]).to_dict()
    console = _console(as_json)
    _say(console, f"{found.path}: {last['event']}{' at ' + last['at'] if 'at' in last else ''}")
    for key, value in (answer["job"] or {}).items():
        if value not in (None, "", {}):
            _say(console, f"{key}: {value}")
    if as_json:
        _print(answer)


@finetune_app.command()
def events(run: Run, runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """Show the log of a run's job, and the checkpoints that are kept."""
    found = _run(run, runs)
    with _service(found) as service:
        job_id = _job_id(found)
        log = [event.to_dict() for event in service.events(job_id)]
        kept = [checkpoint.to_dict() for checkpoint in service.checkpoints(job_id)]
    console = _console(as_json)
    for event in log:
        _say(console, f"{event['at'] or '-'}  {event['level']}  {event['message']}")
    for checkpoint in kept:
        _say(console, f"checkpoint of step {checkpoint['step']}: {checkpoint['model'] or checkpoint['id']}")
    if as_json:
        _print({"events": log, "checkpoints": kept})


@finetune_app.command()
def cancel(run: Run, runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """Ask the service to stop a run's job."""
    found = _run(run, runs)
    with _service(found) as service:
        job = service.cancel(_job_id(found))
    found.note("cancel-asked", job_id=job.id, status=job.status)
    _say(_console(as_json), f"job {job.id} is {job.service_status}")
    if as_json:
        _print(job.to_dict())


@finetune_app.command(name="list")
def list_runs(runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """List the runs of a folder, with their last step; nobody is asked."""
    from distillcalc.distill.finetune.journal import PLAN, RunFolder

    rows = []
    for file in sorted(runs.glob(f"*/{PLAN}")):
        found = RunFolder(file.parent)
        if not found.is_run:  # a labelling, in the same folder
            continue
        stored = found.plan() or {}
        created, done, lines = found.last("created"), found.last("done"), found.lines()
        rows.append(
            {
                "name": file.parent.name,
                "model": stored["spec"]["model"],
                "provider": stored["spec"]["provider"],
                "last": lines[-1]["event"] if lines else "planned",
                "job": created["job_id"] if created else None,
                "result": done["model"] if done else None,
                "forecast_usd": stored["forecast"]["usd"],
                "usd": done["bill"]["usd"] if done else None,
            }
        )
    console = _console(as_json)
    for row in rows:
        _say(console, f"{row['name']}: {row['result'] or row['last']} ({row['provider']}/{row['model']})")
    if not rows:
        _say(console, f"no fine-tunes in {runs}")
    if as_json:
        _print(rows)


def _show_plan(made: Plan, console: Console) -> None:
    from distillcalc.decide.words import usd

    forecast = made.forecast
    _say(console, f"{made.spec.name}: fine-tune {made.spec.model} at {made.spec.provider} ({made.spec.address})")
    for file in made.files:
        _say(console, f"{file.what} file: {file.rows:,} examples, {file.tokens:,} tokens each epoch ({file.path.name})")
    if forecast.usd is None:
        _say(console, f"training: {forecast.tokens:,} tokens, cost unknown: {forecast.unknown}")
    else:
        least = f", at least {usd(forecast.minimum_usd)}" if forecast.minimum_usd else ""
        how = f"{forecast.tokens:,} tokens x {forecast.usd_per_mtok:g} USD/Mtok{least}"
        _say(console, f"training: about {usd(forecast.usd)} = {how} ({forecast.provenance})")
    _say(console, f"serving the result: {forecast.serving}")
    for notice in made.notices:
        source = f" ({notice.source})" if notice.source else ""
        _say(console, f"{notice.level}: {notice.words}{source}")


def _spec(file: Path) -> FineTuneSpec:
    from distillcalc.distill.finetune.spec import FineTuneSpec

    return FineTuneSpec.load(file)


def _check() -> TrainingFileCheck:
    from distillcalc.distill.finetune.plan import default_check

    return default_check()


def _catalog(file: Path | None) -> Catalog:
    from distillcalc.catalog import Catalog

    return Catalog.load(file)


def _run(name: str, runs: Path) -> RunFolder:
    from distillcalc.distill.finetune.journal import PLAN, RunFolder

    for path in (runs / name, Path(name)):
        if (path / PLAN).exists():
            found = RunFolder(path)
            found.plan()  # refuses a labelling's
            return found
    raise InputError(f"there is no run {name!r} in {runs}, and no such folder. See `distillcalc finetune list`")


def _job_id(found: RunFolder) -> str:
    created = found.last("created")
    if created is None:
        raise InputError(f"{found.path} has no job yet")
    return str(created["job_id"])


def _service(found: RunFolder) -> Any:
    """The service of a stored run, for a with block that closes it."""
    from contextlib import closing

    from distillcalc.distill.finetune.spec import FineTuneSpec, connect

    stored = found.plan()
    assert stored is not None
    return closing(connect(FineTuneSpec.of(stored["spec"])))


def _say(console: Console, words: str) -> None:
    console.print(words, markup=False, highlight=False, soft_wrap=True)


def _print(answer: Any) -> None:
    typer.echo(json.dumps(answer, default=str, allow_nan=False))


def _console(as_json: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if as_json else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else WIDTH_OF_A_PIPE, soft_wrap=False)
