"""Reading and writing scenario files, with errors that name the line and what would be right."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from distillcalc.errors import InputError, near_matches
from distillcalc.resources import data_folder
from distillcalc.workload.scenario import Scenario
from distillcalc.workload.workload import Workload

Model = TypeVar("Model", bound=BaseModel)

MOST_PROBLEMS = 10

_KEY = r"(?:\"[^\"\n]*\"|'[^'\n]*'|[\w-]+)"
_DOTTED = rf"({_KEY}(?:\s*\.\s*{_KEY})*)"
_STATEMENT = re.compile(rf"\s*(?:\[\[?\s*{_DOTTED}\s*\]|{_DOTTED}\s*=)")
_TOKEN = re.compile(
    r'"{3}(?:\\.|[^\\])*?"{3}|\'{3}.*?\'{3}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*|[\[\]{}\n]', re.DOTALL
)


def samples() -> dict[str, Path]:
    """The shipped sample scenarios by name."""
    return {path.stem: path for path in sorted((data_folder() / "samples").glob("*.toml"))}


def load_scenario(path: str | Path) -> Scenario:
    """Read a scenario file, or a shipped sample by its name.

    Raises
    ------
    InputError
        If there is no such file, it is not TOML, or a value in it cannot be right.
    """
    file = _scenario_file(path)
    text = read_text(file)
    return validate(Scenario, parse_toml(text, file.name), text=text, file=file.name)


def load_workload(path: str | Path) -> Workload:
    """Read the ``[workload]`` table of a scenario file, or of a shipped sample; the other tables are left alone.

    Raises
    ------
    InputError
        As :func:`load_scenario`.
    """
    file = _scenario_file(path)
    text = read_text(file)
    return validate(_WorkloadTable, parse_toml(text, file.name), text=text, file=file.name).workload


class _WorkloadTable(BaseModel):
    workload: Workload


def _scenario_file(path: str | Path) -> Path:
    file, known = Path(path), samples()
    if file.is_file():
        return file
    if str(path) in known:
        return known[str(path)]
    near = near_matches(str(path), known)
    hint = f" Did you mean the sample {near[0]!r}?" if near else ""
    raise InputError(
        f"no scenario file {str(path)!r}.{hint} Samples: {', '.join(known)}; or give a path to a .toml file"
    )


def save_scenario(scenario: Scenario, path: str | Path) -> Path:
    """Write a scenario as TOML; fields at their defaults are left out."""
    return save_text(scenario_toml(scenario), path)


def save_workload(workload: Workload, path: str | Path) -> Path:
    """Write a workload as the ``[workload]`` table of a TOML file; fields at their defaults are left out."""
    import tomli_w

    return save_text(tomli_w.dumps({"workload": workload.to_dict()}), path)


def workload_scenario_toml(workload: Workload, teacher: str, heading: str) -> str:
    """A scenario file that holds a workload and names the big model; a line to fill in where none is known."""
    import tomli_w

    plain: dict[str, Any] = {"workload": workload.to_dict()}
    if teacher:
        text = tomli_w.dumps({**plain, "choices": {"teacher": teacher}})
    else:
        text = (
            tomli_w.dumps(plain) + '\n[choices]\n# teacher = "provider/model"  # as in `distillcalc catalog prices`\n'
        )
    # A point of a length sample on one line: it is three numbers, and there may be thousands.
    text = re.sub(r"\[\n\s+([\d.e+]+),\n\s+([\d.e+]+),\n\s+([\d.e+]+),\n\s+\]", r"[\1, \2, \3]", text)
    return f"# {heading}\n\n{text}"


def save_text(text: str, path: str | Path) -> Path:
    """Write a text file; raises :class:`InputError` where it cannot be written."""
    file = Path(path)
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write the scenario to {file}: {error.strerror}") from error
    return file


def scenario_toml(scenario: Scenario) -> str:
    """The scenario as the text of a TOML file."""
    import tomli_w

    return tomli_w.dumps(scenario.to_dict())


def read_text(file: Path) -> str:
    """The text of a file; raises :class:`InputError` where it cannot be read as UTF-8."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file.name} is not UTF-8 text (byte {error.start}). Save it as UTF-8") from error


def read_rows(path: str | Path) -> dict[str, Any]:
    """Catalog rows of a user's own, as overrides: the tables of a TOML file."""
    file = Path(path)
    return parse_toml(read_text(file), file.name)


def parse_toml(text: str, file: str) -> dict[str, Any]:
    """TOML as plain values; raises :class:`InputError` with the line where it does not parse."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"line (\d+)", str(error))
        line = text.splitlines()[int(at[1]) - 1].strip() if at and int(at[1]) <= len(text.splitlines()) else ""
        shown = f": {line[:80]!r}" if line else ""
        raise InputError(f"{file} is not valid TOML. {error}{shown}") from error


def validate(model: type[Model], values: Mapping[str, Any], *, text: str = "", file: str = "") -> Model:
    """Build ``model`` from plain values, or say in the domain's words what is wrong with them.

    Raises
    ------
    InputError
        One line per problem, up to ten: field, what would be right, what was got, and the line of the file.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        found = _without_other_branches([(_path_of(detail, values), detail) for detail in error.errors()])
        problems = list(dict.fromkeys(_sentence(model, path, detail, text, file) for path, detail in found))
        more = len(problems) - MOST_PROBLEMS
        shown = problems[:MOST_PROBLEMS] + ([f"and {more} more like these"] if more > 0 else [])
        raise InputError("\n".join(shown)) from error


def _path_of(detail: Any, values: Any) -> tuple[Any, ...]:
    """Where in the values a problem lies: its location without the names of union branches and of shorthand."""
    path: list[Any] = []
    for i, part in enumerate(detail["loc"]):
        listed = isinstance(values, (list, tuple)) and isinstance(part, int) and part < len(values)
        if listed or (isinstance(values, Mapping) and part in values):
            values = values[part]
        elif not (detail["type"] == "missing" and i + 1 == len(detail["loc"])):
            continue
        path.append(part)
    return tuple(path)


def _without_other_branches(found: list[tuple[tuple[Any, ...], Any]]) -> list[tuple[tuple[Any, ...], Any]]:
    """Where a value may be of several kinds, only what is wrong with it as the kind that it is."""

    def follows(path: tuple[Any, ...], detail: Any) -> bool:
        inside = [(other, d["type"]) for other, d in found if other[: len(path)] == path and d is not detail]
        if detail["type"] == "too_short":  # what was wrong inside was left out of the count
            return any(len(other) > len(path) for other, _ in inside)
        return detail["type"].endswith("_type") and any(not kind.endswith("_type") for _, kind in inside)

    return [(path, detail) for path, detail in found if not follows(path, detail)]


def _sentence(model: type[BaseModel], path: tuple[Any, ...], detail: Any, text: str, file: str) -> str:
    field = ".".join(str(part) for part in path) or model.__name__.lower()
    where = f" (line {_line_of(text, path)} of {file})" if text and _line_of(text, path) else ""
    got = detail.get("input")
    message, kind = str(detail["msg"]), detail["type"]
    if kind == "extra_forbidden":
        known = _fields_at(model, path[:-1])
        near = near_matches(str(path[-1]), known)
        hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}."
        return f"unknown field {field}{where}. {hint}"
    if kind == "missing":
        return f"{field} is missing{where}. {_purpose(model, path)}".rstrip()
    message = message.removeprefix("Value error, ").removeprefix("Input ")
    if kind == "value_error":
        return f"{field}: {message}{where}"
    shown = repr(got) if len(repr(got)) <= 60 else repr(got)[:57] + "..."
    return f"{field} {message[0].lower()}{message[1:]}. Got {shown}{where}"


def _nested(annotation: Any) -> type[BaseModel] | None:
    candidates: Sequence[Any] = [annotation, *getattr(annotation, "__args__", ())]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _model_at(model: type[BaseModel], path: Sequence[Any]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = model
    for part in path:
        field = current.model_fields.get(str(part)) if current else None
        current = _nested(field.annotation) if field else None
    return current


def _fields_at(model: type[BaseModel], path: Sequence[Any]) -> list[str]:
    found = _model_at(model, path)
    return list(found.model_fields) if found else []


def _purpose(model: type[BaseModel], path: Sequence[Any]) -> str:
    """What the missing field is, from the docstring of the model that has it."""
    owner = _model_at(model, path[:-1])
    doc = (owner.__doc__ or "") if owner else ""
    found = re.search(rf"^\s*(?:\w+, )*{re.escape(str(path[-1]))}(?:, \w+)* : (.+)$", doc, re.MULTILINE)
    return f"It is {found[1].strip()}" if found else ""


def _line_of(text: str, path: Sequence[Any]) -> int | None:
    """The line on which the innermost named key of a path stands, or its table's header."""
    keys = [str(part) for part in path if isinstance(part, str)]
    lines = text.split("\n")
    best: int | None = None
    table: list[str] = []
    for number in _statements(text):
        found = _STATEMENT.match(lines[number - 1])
        if found is None:
            continue
        if found[1]:
            table = _parts(found[1])
            if keys[: len(table)] == table:
                best = number
            continue
        whole = [*table, *_parts(found[2])]
        if keys[: len(whole)] == whole:
            return number
        if best is None and whole[: len(keys)] == keys:
            best = number
    return best


def _statements(text: str) -> list[int]:
    """Numbers of the lines that begin a key or a table, not the inside of an array or of a long string."""
    starts, number, depth = [1], 1, 0
    for token in _TOKEN.finditer(text):
        if token[0] == "\n":
            number += 1
            if not depth:
                starts.append(number)
        elif token[0] in ("[", "{"):
            depth += 1
        elif token[0] in ("]", "}"):
            depth -= 1
        else:
            number += token[0].count("\n")
    return starts


def _parts(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in re.findall(_KEY, dotted)]
