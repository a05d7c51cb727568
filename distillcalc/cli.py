"""The command line: each command is one call of the library, and the library's own tables."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distillcalc.cli_benchmark import benchmark_app, validate
from distillcalc.cli_demo import demo
from distillcalc.cli_finetune import finetune_app
from distillcalc.cli_label import dataset, inputs, label
from distillcalc.cli_notebook import dashboard, notebooks
from distillcalc.cli_route import route_app
from distillcalc.cli_train import train
from distillcalc.errors import DistillcalcError

if TYPE_CHECKING:
    from rich.console import Console

    from distillcalc.catalog import Catalog
    from distillcalc.estimate.capacity_plan import CapacityPlan
    from distillcalc.workload import Scenario

WIDTH_OF_A_PIPE = 170

app = typer.Typer(
    help="For this traffic: keep calling the big model, distill a small one, or route between both?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON on stdout; the tables go to stderr.")]
Rows = Annotated[
    Path | None, typer.Option("--catalog", metavar="FILE", help="TOML file with catalog rows of your own.")
]


class CatalogTable(StrEnum):
    """What `distillcalc catalog` can list."""

    models = "models"
    prices = "prices"
    gpus = "gpus"
    engines = "engines"
    priors = "priors"
    terms = "terms"
    retirements = "retirements"


Priors = Annotated[
    bool, typer.Option("--priors", help="What is not stated is as uncertain as the catalog's priors say.")
]
Draws = Annotated[int | None, typer.Option(help="Of the uncertain inputs; a power of two.")]
Seed = Annotated[int, typer.Option(help="Of the draws.")]


def _scenario(name: str, catalog: Path | None, *, priors: bool = False) -> Scenario:
    """A scenario with the user's catalog rows laid over its own, and the catalog's priors where they are asked for."""
    from distillcalc.workload import Scenario
    from distillcalc.workload.files import read_rows

    loaded = Scenario.load(name)
    if catalog is not None:
        loaded = loaded.with_overrides(read_rows(catalog))
    if not priors:
        return loaded
    from distillcalc.decide.priors import with_priors

    return with_priors(loaded)


@app.command()
def recommend(
    scenario: Annotated[str, typer.Argument(help="A scenario file (.toml), or the name of a shipped sample.")],
    simulate: Annotated[bool, typer.Option("--simulate", help="Size self-hosted fleets by simulation.")] = False,
    priors: Priors = False,
    draws: Draws = None,
    seed: Seed = 0,
    in_words: Annotated[bool, typer.Option("--explain", help="Three sentences instead of the tables.")] = False,
    as_json: Json = False,
    catalog: Rows = None,
) -> None:
    """Recommend how to serve a scenario, with costs, gates, break-even, odds and tipping points."""
    from distillcalc.decide import explain
    from distillcalc.decide import recommend as decide

    decision = decide(
        _scenario(scenario, catalog, priors=priors),
        fidelity="simulated" if simulate else "closed_form",
        draws=draws,
        seed=seed,
    )
    if in_words:
        _console(as_json).print(explain(decision), markup=False, highlight=False)
    else:
        _console(as_json).print(decision)
    if as_json:
        print(decision.to_json())


@app.command()
def uncertainty(
    scenario: Annotated[str, typer.Argument(help="A scenario file (.toml), or the name of a shipped sample.")],
    priors: Priors = False,
    draws: Draws = None,
    seed: Seed = 0,
    indices: Annotated[bool, typer.Option("--indices", help="Sobol indices too (a second more).")] = False,
    figures: Annotated[Path | None, typer.Option(help="Folder for the figures (PNG).")] = None,
    as_json: Json = False,
    catalog: Rows = None,
) -> None:
    """Show how sure a recommendation is: odds, costs, what matters, what to find out, and when to start."""
    from distillcalc.decide import explain
    from distillcalc.decide import recommend as decide
    from distillcalc.decide.odds_table import figures_of, parts
    from distillcalc.errors import InputError

    decision = decide(_scenario(scenario, catalog, priors=priors), draws=draws, seed=seed)
    found = decision.uncertainty.indices if indices else []  # refuses correlated inputs before anything is shown
    console = _console(as_json)
    console.print(explain(decision), markup=False, highlight=False)
    for part in parts(decision, indices=indices):
        console.print(part)
    if figures is not None:
        try:
            figures.mkdir(parents=True, exist_ok=True)
            for name, figure in figures_of(decision).items():
                figure.savefig(figures / f"{name}.png")
                console.print(f"wrote {figures / name}.png", markup=False)
        except OSError as error:
            raise InputError(f"cannot write the figures to {figures}: {error}") from error
    if as_json:
        u = decision.uncertainty
        answer = u.to_dict() | {"explanation": explain(decision)}
        if indices:
            answer["indices"] = [index.to_dict() for index in found]
        print(json.dumps(answer, allow_nan=False))


@app.command()
def boundary(
    scenario: Annotated[str, typer.Argument(help="A scenario file (.toml), or the name of a shipped sample.")],
    x: Annotated[str, typer.Argument(help="An input, such as requests_per_day.")],
    y: Annotated[str, typer.Argument(help="Another, such as teacher_price_factor.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Image of the map (.png, .svg, .pdf).")] = None,
    points: Annotated[int, typer.Option(help="Of each side of the map.")] = 61,
    as_json: Json = False,
    catalog: Rows = None,
) -> None:
    """Map which option is recommended over two inputs, with the scenario's own point."""
    from distillcalc.decide.boundary import boundary as mapped
    from distillcalc.errors import InputError

    found = mapped(_scenario(scenario, catalog), x, y, points=points)
    console = _console(as_json)
    here = found.option(*found.point) or "nothing that passes"
    console.print(f"at {x} {found.point[0]:g} and {y} {found.point[1]:g}: {here}", markup=False, highlight=False)
    for name, share in found.shares().items():
        console.print(f"{name}: {share:.0%} of the map", markup=False, highlight=False)
    if output is not None:
        try:
            found.figure().savefig(output)
        except (OSError, ValueError) as error:
            raise InputError(f"cannot write the map to {output}: {error}") from error
        console.print(f"wrote {output}", markup=False)
    if as_json:
        print(json.dumps(found.to_dict()))


@app.command()
def workload(
    logs: Annotated[list[str], typer.Argument(help="Log files, folders or globs: CSV, JSONL (gzip, zstd), Parquet.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Scenario file (.toml) to write.")] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="Which column holds which figure, such as input_tokens=usage.in; repeat.")
    ] = None,
    teacher: Annotated[str, typer.Option(help="provider/model in use; else the log's own.")] = "",
    input_tokens: Annotated[float | None, typer.Option(help="Mean prompt, where the log has no lengths.")] = None,
    output_tokens: Annotated[float | None, typer.Option(help="Mean answer, where the log has no lengths.")] = None,
    requests_per_day: Annotated[
        float | None, typer.Option(help="Volume, where the log is a sample or has a single moment.")
    ] = None,
    time_zone: Annotated[str, typer.Option(help="Of times that are written without one.")] = "UTC",
    rejects: Annotated[Path | None, typer.Option(help="File for the rows that cannot be used.")] = None,
    max_rejected_share: Annotated[float, typer.Option(help="Stop above this share of rejected rows.")] = 0.01,
    memory_limit: Annotated[str, typer.Option(help="What reading may take before it works on disk.")] = "1GiB",
    tokenizer: Annotated[str | None, typer.Option(help="A local tokenizer.json, where the log has texts only.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Image of the profile to write (.png, .svg, .pdf).")] = None,
    as_json: Json = False,
) -> None:
    """Measure request logs and write them as a scenario: volume, cycle, burstiness, lengths, prefixes."""
    from distillcalc.catalog.bill import list_bill
    from distillcalc.decide.words import usd
    from distillcalc.errors import InputError
    from distillcalc.workload.files import save_text, workload_scenario_toml
    from distillcalc.workload.logs import find_sources, ingest, measure
    from distillcalc.workload.logs.sources import MEASURED, keep_logs

    if teacher:
        _catalog(None).price_ref(teacher)
    if any(file is not None and file.exists() for file in (output, figure, rejects)):
        keep_logs(find_sources(logs)[0], {"--output": output, "--figure": figure, "--rejects": rejects})
    console = _console(as_json)
    with (
        _in_options(),
        ingest(
            logs,
            columns=_pairs(column or []),
            time_zone=time_zone,
            rejects=rejects,
            max_rejected_share=max_rejected_share,
            memory_limit=memory_limit,
            tokenizer=tokenizer,
        ) as read,
    ):
        profile = measure(read)
        console.print(str(profile), markup=False, highlight=False)
        if read.rejects_file is not None:
            _show_rejects(console, read.rejects_file, read.rows_rejected, kept=read.kept_rejects is not None)
    bill = list_bill(profile.models, on=date.today())
    for line in bill:
        if line.model is not None:
            at_list = (
                f"{usd(line.list_usd)} at today's list price of {line.ref}"
                if line.list_usd is not None
                else ("no list price known")
            )
            logged = f", {usd(line.logged_usd)} logged" if line.logged_usd is not None else ""
            console.print(f"{line.model}: {line.requests:,} requests, {at_list}{logged}", markup=False, highlight=False)
    if figure is not None:
        try:
            profile.figure().savefig(figure)
        except (OSError, ValueError) as error:
            raise InputError(f"cannot write the figure to {figure}: {error}") from error
        console.print(f"wrote {figure}", markup=False)
    given = {"input_tokens": input_tokens, "output_tokens": output_tokens, "requests_per_day": requests_per_day}
    fields: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    has_lengths = profile.has_lengths or {"input_tokens", "output_tokens"} <= set(fields)
    has_volume = profile.volume.requests_per_day is not None or requests_per_day is not None
    made = profile.workload(**fields) if output is not None or (has_lengths and has_volume) else None
    for remark in profile.remarks(made) if made is not None else ():
        console.print(remark, markup=False, highlight=False)
    if output is not None and made is not None:
        found = teacher or next((line.ref for line in bill if line.ref is not None), "")
        save_text(workload_scenario_toml(made, found, f"{MEASURED.removeprefix('# ')}: {profile.headline}"), output)
        console.print(
            f"wrote {output}" + ("" if found else ": name the big model in [choices] before deciding"), markup=False
        )
        if found and (trouble := _trouble(output)):
            console.print(f"recommend will refuse {output} as it is: {trouble}", markup=False, highlight=False)
    if as_json:
        answer = {
            "profile": profile.to_dict(),
            "workload": made and made.to_dict(),
            "bill": [line.to_dict() for line in bill],
        }
        print(json.dumps(answer, default=str))


@contextmanager
def _in_options() -> Iterator[None]:
    """Errors of the library's arguments in the words of the command's options."""
    from distillcalc.errors import InputError

    def pairs(mapping: re.Match[str]) -> str:
        return " ".join(f"--column {k}={v}" for k, v in re.findall(r"'([^']*)': '([^']*)'", mapping[1]))

    try:
        yield
    except InputError as error:
        said = re.sub(r"columns=\{(.*?)\}", pairs, str(error))
        said = re.sub(r"\b(rejects|tokenizer)='([^']*)'", r"--\1 \2", said)
        said = said.replace("columns maps ", "--column maps ").replace("columns must also", "--column must also")
        said = said.replace(", or set threads=1", "")
        said = re.sub(r"\b(max_rejected_share|memory_limit|time_zone)\b", lambda m: "--" + m[1].replace("_", "-"), said)
        said = re.sub(r"^tokenizer must", "--tokenizer must", said)
        raise type(error)(said) from error


def _show_rejects(console: Console, file: Path, count: int, *, kept: bool) -> None:
    """The first rejected rows, and where all of them are or how to get them."""
    if kept:
        console.print(f"wrote {file}: all {count:,} rejected rows", markup=False, highlight=False)
        return
    with file.open(encoding="utf-8") as lines:
        for reject in map(json.loads, islice(lines, 3)):
            place = f"{reject['file']} line {reject['line']}"
            console.print(
                f"rejected: {place}: {reject['reason']}: {reject['text'][:80]!r}", markup=False, highlight=False
            )
    console.print(f"--rejects FILE writes all {count:,}", markup=False, highlight=False)


def _trouble(scenario: Path) -> str:
    """What would keep a scenario from being decided, such as a teacher that retires inside the horizon."""
    from distillcalc.catalog import Catalog
    from distillcalc.errors import InputError
    from distillcalc.estimate.context import Context
    from distillcalc.estimate.inputs import Inputs
    from distillcalc.workload import Scenario

    try:
        loaded = Scenario.load(scenario)
        Context(Inputs(loaded), Catalog.load().with_overrides(loaded.overrides))
    except InputError as error:
        return str(error)
    return ""


def _pairs(columns: list[str]) -> dict[str, str] | None:
    from distillcalc.errors import InputError

    pairs: dict[str, str] = {}
    for text in columns:
        name, _, held_in = text.partition("=")
        if not name or "=" not in text:
            raise InputError(f"--column is written figure=column, such as input_tokens=usage.in. Got {text!r}")
        pairs[name] = held_in
    return pairs or None


@app.command()
def capacity(
    model: Annotated[str, typer.Option(help="A model of the catalog, such as deepseek-r1-distill-qwen-7b.")],
    scenario: Annotated[str, typer.Option(help="A scenario file, or a shipped sample: traffic and objectives.")],
    gpu: Annotated[list[str] | None, typer.Option(help='A GPU, phone or CPU; repeat, or "all".')] = None,
    precision: Annotated[str | None, typer.Option(help="Of the weights: bf16, fp8, int8, int4, fp4.")] = None,
    tensor_parallel: Annotated[int | None, typer.Option(help="GPUs per replica: 1, 2, 4, 8.")] = None,
    engine: Annotated[str | None, typer.Option(help="vllm, sglang, tensorrt-llm or engines-2023.")] = None,
    peak_to_mean: Annotated[float | None, typer.Option(help="Peak to size for, over the mean rate.")] = None,
    peak_per_s: Annotated[float | None, typer.Option(help="Peak to size for, requests per second.")] = None,
    month: Annotated[int, typer.Option(help="Of the horizon, whose volume is meant.")] = 1,
    replicas: Annotated[int | None, typer.Option(help="So many, instead of the least that do.")] = None,
    trace: Annotated[
        str | None, typer.Option(help="A request log: its own arrivals and lengths are replayed at the peak's rate.")
    ] = None,
    commitment: Annotated[
        str | None,
        typer.Option(help="on-demand, spot, reserved-1y, reserved-3y or owned; of the scenario if left out."),
    ] = None,
    autoscaling: Annotated[bool, typer.Option(help="Follow the hours of the week.")] = False,
    every: Annotated[bool, typer.Option("--every", help="All machines, not only the best.")] = False,
    as_json: Json = False,
    catalog: Rows = None,
) -> None:
    """Size a fleet for one model: replicas, latency, cost and energy on each machine, by simulation."""
    from distillcalc.estimate.capacity_plan import plan_capacity, requests_of_logs
    from distillcalc.workload.files import validate
    from distillcalc.workload.scenario import Serving

    loaded = _scenario(scenario, catalog)
    asked = {
        "precision": precision, "tensor_parallel": tensor_parallel, "engine": engine, "commitment": commitment,
    }  # fmt: skip
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if autoscaling:
        given["autoscaling"] = True
    if given:
        serving = validate(Serving, loaded.choices.serving.model_dump(mode="python") | given)
        loaded = loaded.model_copy(update={"choices": loaded.choices.model_copy(update={"serving": serving})})
    names = None if gpu is None else "all" if gpu == ["all"] else gpu
    plan = plan_capacity(
        loaded, model, names, peak_to_mean=peak_to_mean, peak_per_s=peak_per_s, month=month, replicas=replicas,
        trace=None if trace is None else requests_of_logs(trace),
    )  # fmt: skip
    _print_capacity(plan, _console(as_json), every=every, traced=trace is not None)
    if as_json:
        print(json.dumps(plan.to_dict()))


MOST_MACHINES_SHOWN = 10
BURSTY = 3.0


def _print_capacity(plan: CapacityPlan, console: Console, *, every: bool, traced: bool) -> None:
    from rich.table import Table

    from distillcalc.decide.words import usd

    def seconds(value: float | None) -> str:
        if value is None or value != value:
            return "-"
        return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.3g} ms"

    asked = ", ".join(f"{what.upper()} p{level * 100:g} {seconds(limit)}" for what, level, limit in plan.objectives)
    console.print(
        f"{plan.model} for {plan.scenario}: {plan.peak_per_s:.3g} requests/s at the peak ({plan.mean_per_s:.3g} on "
        f"average, interarrival CV {plan.interarrival_cv:.3g}); {asked or 'no objectives, the queue must not grow'}",
        markup=False,
        highlight=False,
    )
    table = Table(box=None, pad_edge=False)
    for heading, right in (
        *(("machine", False), ("replicas", True), ("TTFT p95", True), ("TPOT p95", True), ("E2E p95", True)),
        *(("tok/s", True), ("busy", True), ("Wh/req", True), ("unused", True), ("a month", True), ("mix", True)),
    ):
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    does = [row for row in plan.rows if row.does]
    front = [row for row in does if row.on_front or not row.usd_per_month]
    kept = {row.machine for row in (*does[:MOST_MACHINES_SHOWN], *front)}
    shown = does if every else [row for row in does if row.machine in kept]
    for row in shown:
        size = f"{row.replicas}+{row.spares}" if row.goodput_per_s == row.goodput_per_s else "own"
        hourly = "spot" if row.mix and row.mix.hourly == "spot" else "od"
        mix = (
            f"{row.mix.reserved} res + {row.mix.by_the_hour} {hourly}, {usd(row.mix.usd_per_month)}" if row.mix else "-"
        )
        table.add_row(
            f"{'* ' if row.on_front else '  '}{row.machine}",
            size,
            *(seconds(row.latency_s.get(f"{what}_p95")) for what in ("ttft", "tpot", "e2e")),
            f"{row.tokens_per_s:.0f}" if row.tokens_per_s == row.tokens_per_s else "-",
            f"{row.utilisation:.0%}" if row.utilisation == row.utilisation else "-",
            f"{row.wh_per_request:.2g}" if row.wh_per_request == row.wh_per_request else "-",
            f"{row.idle_share:.0%}" if row.idle_share == row.idle_share else "-",
            usd(row.usd_per_month) if row.usd_per_month is not None else "-",
            mix,
        )
    if shown:
        console.print(table)
    if len(does) > len(shown):
        console.print(f"and {len(does) - len(shown)} more that do (--every)", highlight=False)
    for row in [row for row in plan.rows if not row.does][: None if every else 5]:
        console.print(f"cannot: {row.machine}: {row.why_not}", markup=False, highlight=False)
    if any(row.does and row.usd_per_month is None and row.goodput_per_s == row.goodput_per_s for row in plan.rows):
        console.print("no price of that commitment is known where none is shown", highlight=False)
    if plan.interarrival_cv > BURSTY and not traced:
        console.print(
            f"arrivals with a CV of {plan.interarrival_cv:.3g} are simulated with Gamma gaps, whose bursts may be "
            "larger than your log's: replay it (--trace)",
            markup=False,
            highlight=False,
        )
    best = plan.best
    if best is None:
        console.print("no machine meets the objectives", highlight=False)
    elif best.one_fewer:
        console.print(f"a replica fewer on {best.machine}: {best.one_fewer}", markup=False, highlight=False)
    console.print(
        "* on the front of cost and E2E p95; +n are spares; unused: share of what they could serve; "
        "mix: reserved and by the hour, whichever is cheaper for its hours",
        markup=False,
        highlight=False,
    )
    console.print(f"{plan.source}", markup=False, highlight=False)


@app.command()
def samples(
    name: Annotated[str | None, typer.Argument(help="Print this sample's scenario file.")] = None,
) -> None:
    """List the shipped sample scenarios, or print one to start your own from."""
    from distillcalc.errors import UnknownName
    from distillcalc.workload.files import samples as shipped

    known = shipped()
    if name is None:
        for sample, file in known.items():
            print(f"{sample:<24}{file.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")
    elif name in known:
        print(known[name].read_text(encoding="utf-8"), end="")
    else:
        raise UnknownName("sample", name, known, f"Samples: {', '.join(known)}.")


@app.command()
def compare(
    student: Annotated[str, typer.Option(help="Catalog id of the model to make.")] = "qwen3-8b",
    teacher: Annotated[str, typer.Option(help="provider/model that writes the labels.")] = "openai/gpt-6-sol",
    gpu: Annotated[str, typer.Option(help="Catalog id of the training GPU.")] = "h100-sxm",
    as_json: Json = False,
    catalog: Rows = None,
) -> None:
    """Compare pre-training, fine-tuning and distilling the same student: computed cost ranges, beside the article's."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from distillcalc.decide.making import making_costs
    from distillcalc.decide.words import count, usd

    costs = making_costs(student, teacher, catalog=_catalog(catalog), gpu=gpu)
    table = Table(title=f"Making {student}: rented {gpu}, labels by {teacher}; people not counted", box=SIMPLE_HEAD)
    for heading in (
        "approach",
        "tokens",
        "GPU-hours",
        "compute",
        "labels",
        "total",
        "the article says",
        "verdict",
    ):
        table.add_column(heading, justify="left" if heading in ("approach", "verdict") else "right")
    for cost in costs:
        spans = [
            f"{words(low)} to {words(high)}"
            for words, (low, high) in (
                (_tokens, cost.tokens),
                (count, cost.gpu_hours),
                (usd, cost.compute_usd),
                (usd, cost.labels_usd),
                (usd, cost.total_usd),
                (usd, cost.article_usd),
            )
        ]
        if not any(cost.labels_usd):
            spans[3] = "-"
        table.add_row(cost.approach, *spans, cost.verdict)
    console = _console(as_json)
    console.print(table)
    for cost in costs:
        console.print(f"{cost.approach}: {cost.how}", highlight=False)
    if as_json:
        print(json.dumps([cost.to_dict() for cost in costs]))


@app.command()
def accuracy(
    measurements: Annotated[
        Path | None,
        typer.Argument(help="CSV of measured serving points; without one, the errors of the shipped constants."),
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Break the errors of left-out models down by this column, such as engine.")
    ] = None,
    as_json: Json = False,
    catalog: Rows = None,
) -> None:
    """Show how far predicted TPOT and TTFT are off: in the sample, and for models and GPUs left out of the fit.

    Columns of MEASUREMENTS: model, gpu (catalog ids), input_tokens, output_tokens, concurrency, tpot_s; if need be
    ttft_s, engine, precision, kv_precision, tensor_parallel, gpus, harness. Or aiconfigurator's table as published.
    """
    from distillcalc.errors import InputError
    from distillcalc.estimate.accuracy import Accuracy
    from distillcalc.estimate.accuracy import accuracy as errors
    from distillcalc.estimate.calibration import read_measurements

    if measurements is None:
        if by is not None or catalog is not None:
            raise InputError("--by and --catalog need MEASUREMENTS: the stored errors are what they are")
        found = Accuracy.load()
    else:
        found = errors(read_measurements(measurements, _catalog(catalog)), by=by, source=str(measurements))
    _console(as_json).print(found)
    if as_json:
        print(json.dumps(found.to_dict()))


@app.command(name="catalog")
def show_catalog(
    table: Annotated[CatalogTable, typer.Argument(help="Which table.")],
    like: Annotated[str, typer.Option(help="Only rows whose key contains this.")] = "",
    every: Annotated[
        bool,
        typer.Option("--all", help="prices: every model that genai-prices knows, not only the catalog's."),
    ] = False,
    as_json: Json = False,
    catalog: Rows = None,
) -> None:
    """List what the catalog knows, each row with its source, the day it was checked and its confidence."""
    from distillcalc.catalog.listing import listing, listing_table

    rows = listing(_catalog(catalog), table.value, on=date.today(), like=like, every=every)
    _console(as_json).print(listing_table(table.value, rows))
    if as_json:
        print(json.dumps(rows, default=str))


def _catalog(file: Path | None) -> Catalog:
    from distillcalc.catalog import Catalog

    return Catalog.load(file)


def _console(as_json: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if as_json else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else WIDTH_OF_A_PIPE, soft_wrap=False)


def _tokens(number: float) -> str:
    return (
        f"{number / 1e12:.3g}T"
        if number >= 1e12
        else f"{number / 1e9:.3g}B"
        if number >= 1e9
        else f"{number / 1e6:.3g}M"
    )


app.command()(label)
app.command()(dataset)
app.command()(train)
app.command()(inputs)
app.add_typer(finetune_app, name="finetune")
app.add_typer(benchmark_app, name="benchmark")
app.add_typer(route_app, name="route")
app.command()(validate)
app.command()(demo)
app.command()(notebooks)
app.command()(dashboard)


def main() -> None:
    """Run a command; what the user can mend is printed without a traceback, with exit code 2."""
    try:
        app()
    except DistillcalcError as error:
        print(f"distillcalc: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
