"""The commands of `distillcalc benchmark` (run, machine, compare) and `distillcalc validate`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distillcalc.errors import InputError

if TYPE_CHECKING:
    from distillcalc.benchmark.load import Target
    from distillcalc.benchmark.loads import Tokenizer
    from distillcalc.catalog import Catalog

benchmark_app = typer.Typer(
    help="Measure a student or an endpoint under a workload's requests.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON on stdout; the tables go to stderr.")]
Rows = Annotated[
    Path | None, typer.Option("--catalog", metavar="FILE", help="TOML file with catalog rows of your own.")
]
Numbers = Annotated[str, typer.Option(metavar="N,N,...", help="Requests in flight, a level each; empty for none.")]


@benchmark_app.command()
def run(
    scenario: Annotated[
        str, typer.Argument(help="Scenario file, or a sample's name: lengths, burstiness, objectives.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="Folder or hub name of a model, or folder of a classifier; with --base-url its name at the endpoint."
        ),
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="Catalog id: its architecture with random weights, for speed and memory alone.")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Of an OpenAI-compatible endpoint, such as http://.../v1.")
    ] = None,
    key_env: Annotated[str | None, typer.Option(help="Environment variable that holds the endpoint's key.")] = None,
    ignore_eos: Annotated[bool, typer.Option(help="The endpoint takes ignore_eos (vLLM, SGLang).")] = False,
    tokenizer: Annotated[
        str | None, typer.Option(help="Folder or hub name of the endpoint's tokenizer; left out, words are counted.")
    ] = None,
    concurrency: Numbers = "1,2,4,8",
    rates: Annotated[str, typer.Option(metavar="R,R,...", help="Requests per second, a level each.")] = "",
    requests: Annotated[int | None, typer.Option(min=1, help="At each level.")] = None,
    search: Annotated[bool, typer.Option(help="Look for the highest rate that meets the objectives.")] = False,
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16, fp8 or int8.")] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the steps that write.")] = False,
    max_batch: Annotated[int, typer.Option(min=1, help="Most sequences at once, of a model in this process.")] = 64,
    engine: Annotated[str, typer.Option(help="What serves the endpoint, as the catalog names it.")] = "",
    usd_per_hour: Annotated[float | None, typer.Option(min=0, help="Price of the machine.")] = None,
    timeout_s: Annotated[
        float, typer.Option(min=0.001, help="Give up on a request that brings nothing so long.")
    ] = 120.0,
    seed: Annotated[int, typer.Option(help="Of prompts and arrivals.")] = 0,
    name: Annotated[str, typer.Option(help="Of the record.")] = "",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the record.")] = Path("runs/benchmarks"),
    as_json: Json = False,
    catalog: Rows = None,
) -> None:
    """Measure latency, throughput, memory and power of a model here, of a shape, or of an endpoint."""
    from distillcalc.benchmark.record import Record
    from distillcalc.benchmark.run import benchmark
    from distillcalc.cli import _console
    from distillcalc.workload import Scenario

    known = _catalog(catalog)
    workload = Scenario.load(scenario).workload
    target, counts = _target(
        model, shape, base_url, key_env, ignore_eos, tokenizer, precision, compiled, max_batch, known
    )  # fmt: skip
    made = benchmark(
        target, workload, concurrency=[int(one) for one in _numbers("--concurrency", concurrency, whole=True)],
        rates_per_s=_numbers("--rates", rates), requests=requests, search=search, tokenizer=counts, name=name,
        model=shape or "", engine=engine, weights="random" if shape else "unknown" if base_url else "trained",
        usd_per_hour=usd_per_hour, timeout_s=timeout_s, seed=seed, report=_told,
    )  # fmt: skip
    file = made.save(output)
    console = _console(as_json)
    console.print(made)
    console.print(f"wrote {file}", markup=False, highlight=False, soft_wrap=True)
    if as_json:
        print(json.dumps(Record.load(file).model_dump(mode="json")))


@benchmark_app.command()
def machine(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="TOML file for its row, to give to --catalog.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="About so long, from 1 to 60.")] = 20.0,
    row: Annotated[str, typer.Option(help="Id of the row.")] = "this-machine",
    as_json: Json = False,
) -> None:
    """Measure how fast this machine reads weights and multiplies: a row of the catalog's GPUs."""
    from distillcalc.benchmark.machine import measure_machine
    from distillcalc.cli import _console

    if output is not None and not output.absolute().parent.is_dir():
        raise InputError(f"there is no folder {str(output.parent)!r} for the row. Make it first")
    made = measure_machine(seconds)
    console = _console(as_json)
    console.print(str(made), markup=False, highlight=False)
    if output is not None:
        import tomli_w

        try:
            output.write_text(tomli_w.dumps({"gpus": {row: made.row()}}), encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write the row to {output}: {error.strerror}") from error
        console.print(f"wrote {output}", markup=False, highlight=False, soft_wrap=True)
    if as_json:
        print(json.dumps(made.to_dict()))


@benchmark_app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="A record (.json).")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    as_json: Json = False,
) -> None:
    """Two records side by side: what makes them unlike, and which differences are more than chance."""
    from distillcalc.benchmark.comparing import compare as side_by_side
    from distillcalc.benchmark.record import Record
    from distillcalc.cli import _console

    made = side_by_side(Record.load(first), Record.load(second))
    _console(as_json).print(made)
    if as_json:
        print(json.dumps(made.to_dict()))


def validate(
    records: Annotated[list[Path], typer.Argument(metavar="RECORD...", help="Records of models in process (.json).")],
    machine: Annotated[str, typer.Option(help="The catalog's row of the machine; see `benchmark machine`.")],
    engine: Annotated[str, typer.Option(help="The catalog's row of the engine.")] = "transformers",
    refit_on: Annotated[
        list[Path] | None, typer.Option(metavar="RECORD", help="Fit the engine's row to these records; repeatable.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="TOML file for the fitted row.")
    ] = None,
    scenario: Annotated[
        str | None, typer.Option(help="Scenario file, or a sample's name: decide it again with what was measured.")
    ] = None,
    evaluation: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=RIGHT/ITEMS", help="Human-labelled items, of teacher or a student's id; repeatable."
        ),
    ] = None,
    actual: Annotated[
        list[str] | None, typer.Option(metavar="ITEM=USD", help="What a one-off item came to, as labels; repeatable.")
    ] = None,
    as_json: Json = False,
    catalog: Rows = None,
) -> None:
    """Hold the estimate against what was measured, before and after the step times are fitted; decide again with it."""
    from distillcalc.benchmark.validation import validate as hold
    from distillcalc.cli import _console

    if scenario is None and (evaluation or actual):
        raise InputError("--evaluation and --actual are of a decision: name its scenario with --scenario")
    counts, paid = _counts(evaluation or []), _dollars(actual or [])
    known = _catalog(catalog)
    made = hold(records, machine=machine, engine=engine, refit_on=refit_on or (), catalog=known)
    console = _console(as_json)
    console.print(made)
    again = None
    if scenario is not None:
        from distillcalc.benchmark.redeciding import redecide
        from distillcalc.workload import Scenario

        again = redecide(
            Scenario.load(scenario), overrides=made.overrides, evaluations=counts, actual_usd=paid, catalog=known
        )
        console.print(str(again), markup=False, highlight=False, soft_wrap=True)
    if output is not None:
        import tomli_w

        if not made.overrides:
            raise InputError("nothing was fitted, so there is no row to write: name records with --refit-on")
        try:
            output.write_text(tomli_w.dumps(made.overrides), encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write the row to {output}: {error.strerror}") from error
        console.print(f"wrote {output}", markup=False, highlight=False, soft_wrap=True)
    if as_json:
        print(json.dumps(made.to_dict() | ({"redecision": again.to_dict()} if again is not None else {})))


def _counts(given: list[str]) -> dict[str, tuple[int, int]]:
    """(right, items) by name, of NAME=RIGHT/ITEMS."""
    found = {}
    for one in given:
        name, _, counted = one.rpartition("=")
        right, _, items = counted.partition("/")
        if not (name and right.isdecimal() and items.isdecimal() and 0 < int(items) >= int(right)):
            raise InputError(f"--evaluation is NAME=RIGHT/ITEMS, such as teacher=282/336. Got {one!r}")
        found[name] = int(right), int(items)
    return found


def _dollars(given: list[str]) -> dict[str, float]:
    """Dollars by item, of ITEM=USD."""
    found = {}
    for one in given:
        name, _, usd = one.rpartition("=")
        try:
            found[name] = float(usd)
        except ValueError:
            name = ""
        if not name:
            raise InputError(f"--actual is ITEM=USD, such as labels=12.50. Got {one!r}")
    return found


def _target(
    model: str | None, shape: str | None, base_url: str | None, key_env: str | None, ignore_eos: bool,
    tokenizer: str | None, precision: str, compiled: bool, max_batch: int, catalog: Catalog,
) -> tuple[Target, Tokenizer | None]:  # fmt: skip
    """What is measured, and what counts an endpoint's tokens."""
    if base_url is not None:
        from distillcalc.benchmark.endpoint import Endpoint

        if model is None or shape is not None:
            raise InputError(
                "an endpoint is measured with --model, the name that it knows the model by, and no --shape"
            )
        return Endpoint(base_url, model, key_env=key_env, ignore_eos=ignore_eos), _tokenizer(tokenizer)
    if (model is None) == (shape is None):
        raise InputError("name what to measure: --model FOLDER, --shape ID, or --base-url URL with --model NAME")
    more: dict[str, Any] = {"precision": precision, "max_batch": max_batch, "compile": compiled}
    from distillcalc.distill.training.local_teacher import quiet

    if shape is not None:
        from distillcalc.benchmark.shapes import load_shape

        with quiet():
            return load_shape(shape, catalog=catalog, **more), None
    from distillcalc.distill.training.classifier import FILE

    if (Path(str(model)) / FILE).is_file():
        from distillcalc.benchmark.classifying import InProcessClassifier

        if compiled or precision not in ("auto", "fp32"):
            raise InputError("a classifier is measured as it was saved: leave --precision and --compile out")
        return InProcessClassifier.load(Path(str(model)), max_batch=max_batch), None
    from distillcalc.benchmark.in_process import InProcess

    with quiet():
        return InProcess.load(str(model), **more), None


def _tokenizer(name: str | None) -> Tokenizer | None:
    if name is None:
        return None
    from distillcalc.distill.training.local_teacher import quiet

    try:
        from transformers import AutoTokenizer

        with quiet():
            found: Tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise InputError(f"there is no tokenizer {name!r}: {str(error).splitlines()[0]}") from error
    return found


def _numbers(option: str, text: str, *, whole: bool = False) -> list[float]:
    """Numbers with commas between them."""
    kind = "whole numbers of 1 or more" if whole else "numbers above 0"
    found = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        try:
            value = float(int(part)) if whole else float(part)
        except ValueError:
            value = -1.0
        if not 0 < value < float("inf"):
            raise InputError(f"{option} must be {kind} with commas between them. Got {part!r}")
        found.append(value)
    return found


def _catalog(file: Path | None) -> Catalog:
    from distillcalc.catalog import Catalog
    from distillcalc.workload.files import read_rows

    known = Catalog.load()
    return known if file is None else known.with_overrides(read_rows(file))


def _told(said: str) -> None:
    print(said, file=sys.stderr, flush=True)
