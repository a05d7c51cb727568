"""The commands of `distillcalc route`: fit, evaluate, explain, scenario, drift and litellm."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distillcalc.errors import DistillcalcError, InputError

if TYPE_CHECKING:
    from rich.table import Table

    from distillcalc.route.beside import Beside
    from distillcalc.route.embedding import Embedder
    from distillcalc.route.litellm_config import Endpoint
    from distillcalc.route.pairs import Pairs
    from distillcalc.route.router import Router
    from distillcalc.route.rules import Rules

route_app = typer.Typer(
    help="Student or teacher, request by request: make a router, certify it, and watch it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON on stdout; the tables go to stderr.")]
PairsFile = Annotated[
    Path,
    typer.Argument(metavar="PAIRS", help="What both models answered: .csv, .jsonl or .parquet; see the README."),
]
RouterFolder = Annotated[Path, typer.Argument(metavar="ROUTER", help="Folder of a router.")]
Student = Annotated[str, typer.Option(help="Name of the student; its catalog id, for a scenario.")]
Teacher = Annotated[str, typer.Option(help="Name of the teacher, provider/model.")]
Text = Annotated[str, typer.Option(help="Column of what was asked.")]
Label = Annotated[str | None, typer.Option(help="Column of what people say is right.")]
Id = Annotated[str | None, typer.Option("--id", help="Column that names a row, each once.")]
Models = Annotated[
    str | None,
    typer.Option(metavar="A,B,C", help="Column prefixes of a longer chain, first asked to teacher."),
]
EncoderModel = Annotated[
    str | None,
    typer.Option("--embedder", help="Folder or hub name of a sentence encoder; left out, the packaged MiniLM."),
]


@route_app.command()
def fit(
    pairs: PairsFile,
    student: Student = "student",
    teacher: Teacher = "teacher",
    retention: Annotated[float | None, typer.Option(help="Least quality / the teacher's, such as 0.92.")] = None,
    floor: Annotated[float | None, typer.Option(help="Least quality, by itself.")] = None,
    usd_per_month: Annotated[float | None, typer.Option(help="Most that a month may cost.")] = None,
    requests_per_month: Annotated[float | None, typer.Option(help="Requests of that month.")] = None,
    confidence: Annotated[float, typer.Option(help="With which the promise holds.")] = 0.95,
    score: Annotated[
        list[str] | None,
        typer.Option(
            help="A score of the pairs; max_probability, margin, entropy, mean_logprob, self_consistency; or logistic, "
            "knn, boosting, learned on the texts (-gains: whether the teacher gains). Repeat; the best is taken."
        ),
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="cascade (judges the student's answer) or router (chooses before).")
    ] = None,
    rules: Annotated[Path | None, typer.Option(help="TOML file of rules that decide before any score.")] = None,
    calibration: Annotated[
        str, typer.Option(help="Of probabilities: isotonic, platt, temperature or none.")
    ] = "isotonic",
    shares: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Of the pairs: to learn, to tune, to certify.")
    ] = None,
    judge_usd: Annotated[float, typer.Option(help="Dollars of judging a request: a probe, a verifier.")] = 0.0,
    overhead_ms: Annotated[float, typer.Option(help="Time that the score takes of a request.")] = 0.0,
    text: Text = "text",
    label: Label = None,
    id: Id = None,
    models: Models = None,
    embedder: EncoderModel = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for the router.")] = None,
    figure: Annotated[Path | None, typer.Option(help="PNG of cost against quality.")] = None,
    reliability: Annotated[Path | None, typer.Option(help="PNG of how honest its probabilities are.")] = None,
    seed: Annotated[int, typer.Option(help="Of the split.")] = 0,
    as_json: Json = False,
) -> None:
    """Make a router from pairs that people judged: chosen on one part of them, certified on another."""
    from distillcalc.cli import _console
    from distillcalc.route.figures import curve_figure, reliability_figure
    from distillcalc.route.fit import LEARNED, default_scores, fit_router
    from distillcalc.route.goal import Goal

    _refuse_figures(figure, reliability)
    _refuse_folder(output)
    if models is not None and figure is not None:
        raise InputError("a figure is of two models. Got --figure with --models of a longer chain")
    asked = {
        "retention": retention, "floor": floor, "usd_per_month": usd_per_month,
        "requests_per_month": requests_per_month, "confidence": confidence,
    }  # fmt: skip
    goal = Goal.of(**{name: value for name, value in asked.items() if value is not None})
    known = _pairs(pairs, student, teacher, text, label, id, models)
    learned = [one for one in score or default_scores(known) if isinstance(one, str) and one in LEARNED]
    read_rules = None if rules is None else _rules(rules)
    encoder = _embedder(embedder) if learned or (read_rules is not None and _by_example(read_rules)) else None
    if kind not in (None, "cascade", "router"):
        raise InputError(f"kind must be cascade or router. Got {kind!r}")
    fitted = fit_router(
        known, goal, scores=score or None, kind=kind, rules=read_rules, embedder=encoder,  # type: ignore[arg-type]
        calibration=None if calibration == "none" else calibration, shares=_shares(shares), extra_usd=judge_usd,
        overhead_ms=overhead_ms, seed=seed, source=pairs.name,
    )  # fmt: skip
    console = _console(as_json)
    for line in _told(fitted):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if fitted.beside is not None:
        console.print(_table(fitted.beside))
    if output is not None:
        fitted.router.save(output)
        console.print(f"wrote {output}", markup=False, highlight=False, soft_wrap=True)
    if figure is not None and fitted.bands is not None:
        _draw(curve_figure(fitted.bands, fitted.certificate), figure, console)
    if reliability is not None:
        _draw(reliability_figure(fitted.reliability()), reliability, console)
    if as_json:
        print(json.dumps(fitted.to_dict()))


def _told(fitted: Any) -> list[str]:
    """A verdict, what was tried, and from how much."""
    learned, tuned, certified = fitted.parts
    said = [*(f"Note: {note}" for note in fitted.notes), str(fitted.verdict), ""]
    if len(fitted.tried) > 1:
        said.append("Scores on the tuning pairs, quality above random on average over all rates:")
        said += [f"  {one.name}: {one.lift.value:+.4f}, APGR {one.apgr.value:.3f}" for one in fitted.tried]
    more = f"{learned:,} pairs to learn from, " if learned else ""
    said.append(f"{fitted.router.score_name}: {more}{tuned:,} to tune on, {certified:,} to certify on.")
    return said


@route_app.command()
def evaluate(
    router: RouterFolder,
    pairs: PairsFile,
    student: Annotated[str | None, typer.Option(help="Name of the student of these pairs.")] = None,
    teacher: Annotated[str | None, typer.Option(help="Name of their teacher.")] = None,
    text: Text = "text",
    label: Label = None,
    id: Id = None,
    models: Models = None,
    judge_usd: Annotated[
        float | None, typer.Option(help="Dollars of judging a request; left out, what it was fitted with.")
    ] = None,
    embedder: EncoderModel = None,
    figure: Annotated[Path | None, typer.Option(help="PNG of cost against quality.")] = None,
    as_json: Json = False,
) -> None:
    """Hold a router against pairs that it has never seen."""
    from distillcalc.cli import _console
    from distillcalc.route.evaluate import evaluate_router
    from distillcalc.route.figures import curve_figure

    _refuse_figures(figure)
    made = _router(router, embedder)
    known = _pairs(
        pairs, student or made.student, teacher or made.teacher, text, label, id, models,
        None if models is None else made.models,
    )  # fmt: skip
    found = evaluate_router(made, known, extra_usd=judge_usd)
    console = _console(as_json)
    for line in found.sentences:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if found.beside is not None:
        console.print(_table(found.beside))
    if figure is not None:
        if found.bands is None:
            raise InputError("a figure is of two models, and this chain has more")
        _draw(curve_figure(found.bands), figure, console)
    if as_json:
        print(json.dumps(found.to_dict()))


@route_app.command()
def explain(
    router: RouterFolder,
    text: Annotated[str | None, typer.Argument(help="A request: where would it go?")] = None,
    answer: Annotated[str | None, typer.Option(help="What the student answered.")] = None,
    probabilities: Annotated[str | None, typer.Option(metavar="P,P,...", help="Of the student's labels.")] = None,
    logprobs: Annotated[str | None, typer.Option(metavar="L,L,...", help="Of the answer's tokens.")] = None,
    samples: Annotated[list[str] | None, typer.Option(help="An answer of several; repeat.")] = None,
    value: Annotated[list[str] | None, typer.Option(metavar="NAME=X", help="A score that is known; repeat.")] = None,
    embedder: EncoderModel = None,
    as_json: Json = False,
) -> None:
    """Say what a router decides by and what it promised; with a request, where that would go and why."""
    from distillcalc.cli import _console
    from distillcalc.route.requests import Request

    made = _router(router, embedder)
    console = _console(as_json)
    about = made.about()
    for line in about["sentences"]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    told: dict[str, Any] = {"router": about, "route": None}
    if text is not None:
        values = dict(_value(one) for one in value or [])
        request = Request(
            text,
            answer,
            _numbers(probabilities, "probabilities"),
            _numbers(logprobs, "logprobs"),
            samples,
            None,
            values,
        )
        found = made.decide(request)
        chance = "" if found.probability != found.probability else f" (right in {found.probability:.0%}, as calibrated)"
        console.print(f"{found.model}: {found.reason}{chance}", markup=False, highlight=False, soft_wrap=True)
        told["route"] = {
            "model": found.model,
            "reason": found.reason,
            "score": None if found.score != found.score else found.score,
            "probability": None if found.probability != found.probability else found.probability,
        }
    if as_json:
        print(json.dumps(told))


@route_app.command()
def scenario(
    router: RouterFolder,
    file: Annotated[str, typer.Argument(metavar="SCENARIO", help="A scenario file, or a sample's name.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Scenario file (.toml) to write.")],
    student: Annotated[
        str | None, typer.Option(help="Catalog id of the student, where the router names it otherwise.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="The scenario's teacher, where the router names it otherwise.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Put what was measured of a router into a scenario, and decide again."""
    from distillcalc.cli import _console
    from distillcalc.decide.recommend import recommend
    from distillcalc.route.deciding import with_router
    from distillcalc.workload.scenario import Scenario

    if output.suffix.lower() != ".toml":
        raise InputError(f"a scenario goes to a file whose name ends in .toml. Got {output.name!r}")
    known = _router(router, None)
    made = with_router(Scenario.load(file), known, student=student, teacher=teacher)
    decision = recommend(made)
    made.save(output)
    console = _console(as_json)
    console.print(decision)
    if known.facts.get("advice", "router") != "router":
        said = f"When the router was fitted, it was said: {known.facts['verdict']}"
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    console.print(f"wrote {output}", markup=False, highlight=False, soft_wrap=True)
    if as_json:
        print(decision.to_json())


@route_app.command()
def drift(
    router: RouterFolder,
    log: Annotated[
        Path,
        typer.Argument(metavar="LOG", help="Live log (.jsonl, .csv, .parquet): score, escalated, and what is known."),
    ],
    column: Annotated[
        list[str] | None, typer.Option(help="Which column holds which figure, such as score=confidence; repeat.")
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Probability of any false alarm, ever; left out, 0.05 or the state's.")
    ] = None,
    requests_per_day: Annotated[float | None, typer.Option(help="For what it costs to wait.")] = None,
    teacher_usd: Annotated[float, typer.Option(help="Dollars of a request that is sent on.")] = 0.0,
    wrong_answer_usd: Annotated[float | None, typer.Option(help="Dollars that a wrong answer costs.")] = None,
    labels: Annotated[int, typer.Option(help="Pairs that recalibrating takes.")] = 500,
    label_usd: Annotated[float, typer.Option(help="Dollars of labelling one.")] = 1.0,
    redistill_usd: Annotated[float | None, typer.Option(help="Dollars of making the student anew.")] = None,
    state: Annotated[
        Path | None, typer.Option(help="JSON that keeps what was seen: the next log goes on from there.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Watch a deployed router: do its scores, its escalations and its student still do what they did?"""
    from distillcalc.cli import _console
    from distillcalc.route.live_log import read_log
    from distillcalc.route.waiting import Prices, waiting
    from distillcalc.route.watch import Watch

    if state is not None and not state.absolute().parent.is_dir():
        raise InputError(f"there is no folder {str(state.parent)!r} for the state. Make it first")
    reference = _router(router, None).reference
    if reference is None:
        raise InputError(
            f"the router in {router} was certified on too few pairs to compare with: fit it anew with more"
        )
    if state is not None and state.exists():
        watch = Watch.load(state)
        if alpha is not None and alpha != watch.alpha:
            raise InputError(f"{state} watches with alpha {watch.alpha:g}. Got {alpha:g}: name another file")
    else:
        watch = Watch(reference, alpha=0.05 if alpha is None else alpha)
    if any(getattr(watch.reference, name) != getattr(reference, name) for name in ("items", "escalated", "floor")):
        raise InputError(f"{state} watches another router than the one in {router}: name another file")
    named = {field: name for field, _, name in (one.partition("=") for one in column or [])}
    live = read_log(log, columns=named or None)
    watch.read(live)
    found = watch.report()
    console = _console(as_json)
    console.print(str(live), markup=False, highlight=False, soft_wrap=True)
    console.print(str(found), markup=False, highlight=False, soft_wrap=True)
    told: dict[str, Any] = {"drift": found.to_dict(), "waiting": None}
    if requests_per_day is not None:
        prices = Prices(
            teacher_usd=teacher_usd, wrong_answer_usd=wrong_answer_usd, requests_per_day=requests_per_day,
            labels=labels, label_usd=label_usd, redistill_usd=redistill_usd,
        )  # fmt: skip
        cost = waiting(found, prices)
        console.print(str(cost), markup=False, highlight=False, soft_wrap=True)
        told["waiting"] = cost.to_dict()
    if state is not None:
        watch.save(state)
        console.print(f"wrote {state}", markup=False, highlight=False, soft_wrap=True)
    if as_json:
        print(json.dumps(told))


@route_app.command()
def litellm(
    router: RouterFolder,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for config.yaml, the hook and the router.")],
    endpoint: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=MODEL[,API_BASE[,KEY_ENV]]",
            help="Where each model of the router answers, as LiteLLM names it; repeat. Keys stay in the environment.",
        ),
    ],
    name: Annotated[str, typer.Option(help="Of the routed model, as callers ask for it.")] = "routed",
    as_json: Json = False,
) -> None:
    """Write a configuration with which LiteLLM's proxy routes by this router."""
    from distillcalc.cli import _console
    from distillcalc.route.litellm_config import write_litellm

    endpoints = dict(_endpoint(one) for one in endpoint)
    folder = write_litellm(_router(router, None), output, endpoints, name=name).parent
    console = _console(as_json)
    console.print(f"wrote {folder}", markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"Run it: cd {folder} && LITELLM_MASTER_KEY=... litellm --config config.yaml --host 127.0.0.1",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
    if as_json:
        print(json.dumps({"folder": str(folder), "models": sorted(endpoints)}))


def _endpoint(text: str) -> tuple[str, Endpoint]:
    """NAME=MODEL[,API_BASE[,KEY_ENV]]; a name may hold anything but the equals sign."""
    from distillcalc.route.litellm_config import Endpoint

    name, _, rest = text.partition("=")
    model, *more = rest.split(",")
    if not name or not model or len(more) > 2:
        raise InputError(
            "--endpoint takes NAME=MODEL[,API_BASE[,KEY_ENV]], such as "
            f"student=openai/my-student,http://127.0.0.1:8000/v1. Got {text!r}"
        )
    return name, Endpoint(model, *(one or None for one in more))


def _pairs(
    file: Path, student: str, teacher: str, text: str, label: str | None, id: str | None, models: str | None,
    names: tuple[str, ...] | None = None,
) -> Pairs:  # fmt: skip
    from distillcalc.route.reading import read_pairs

    if models is not None and names is None and (student, teacher) != ("student", "teacher"):
        raise InputError("--models names the whole chain: leave out --student and --teacher")
    if models is None:
        return read_pairs(file, names={"student": student, "teacher": teacher}, text=text, label=label, id=id)
    prefixes = tuple(one.strip() for one in models.split(",") if one.strip())
    if names is not None and len(names) != len(prefixes):
        raise InputError(f"the router is of {len(names)} models: {', '.join(names)}. Got {len(prefixes)} prefixes")
    called = None if names is None else dict(zip(prefixes, names, strict=True))
    return read_pairs(file, models=prefixes, names=called, text=text, label=label, id=id)


def _embedder(model: str | None) -> Embedder:
    from distillcalc.distill.packaged import minilm
    from distillcalc.route.embedding import Embedder

    return Embedder(model) if model is not None else Embedder(minilm(), name=PACKAGED)


PACKAGED = "all-MiniLM-L6-v2"


def _router(folder: Path, embedder: str | None) -> Router:
    """A router with what its scores read texts by: the encoder that is named, else the packaged one if it is there."""
    from distillcalc.route.router import Router

    encoder: Embedder | None
    try:
        encoder = _embedder(embedder)
    except DistillcalcError:
        if embedder is not None:
            raise
        encoder = None
    made = Router.load(folder, embedder=encoder)
    reads = any(getattr(score, "embedder", None) is not None for score in made.scores) or _by_example(made.rules)
    return made if reads else replace(made, embedder=None)


def _rules(file: Path) -> Rules:
    import tomllib

    from distillcalc.route.rules import Rules
    from distillcalc.workload.files import validate

    try:
        written = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"the rules in {file} cannot be read: {error}") from error
    return validate(Rules, written)


def _by_example(rules: Rules) -> bool:
    return any(getattr(rule, "examples", None) for rule in rules.rules)


def _shares(text: str | None) -> list[float] | None:
    found = _numbers(text, "shares")
    return None if found is None else list(found)


def _numbers(text: str | None, name: str) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(one) for one in text.split(",")]
    except ValueError:
        raise InputError(
            f"--{name} takes numbers with commas between them, such as 0.7,0.2,0.1. Got {text!r}"
        ) from None


def _value(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        return name, float(number)
    except ValueError:
        raise InputError(f"--value takes NAME=NUMBER, such as verifier=0.83. Got {text!r}") from None


def _refuse_figures(*figures: Path | None) -> None:
    """Say before the work what would stop a figure after it."""
    for figure in figures:
        if figure is None:
            continue
        if figure.suffix.lower() != ".png":
            raise InputError(f"a figure goes to a file whose name ends in .png. Got {figure.name!r}")
        if not figure.absolute().parent.is_dir():
            raise InputError(f"there is no folder {str(figure.parent)!r} for the figure. Make it first")


def _refuse_folder(folder: Path | None) -> None:
    """The same of a router's folder."""
    if folder is None:
        return
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / "router.json").is_file())):
        raise InputError(f"{folder} holds something else than a router: name a folder of its own")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write a router to {folder}: {error}") from error


def _draw(figure: Any, file: Path, console: Any) -> None:
    try:
        figure.savefig(file, dpi=120)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write the figure to {file}: {error}") from error
    console.print(f"wrote {file}", markup=False, highlight=False, soft_wrap=True)


def _table(beside: Beside) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in ("sent on", "quality (95%)", "per 1,000", "saved"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in beside.lines():
        style = "bold" if row[0] == "this router" else ""
        table.add_row(*(Text(cell) for cell in row), style=style)
    return table
