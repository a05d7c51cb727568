"""Where everything stands on the panel: widgets made once, whose values are assigned from then on."""

from __future__ import annotations

import base64
from collections.abc import Callable
from html import escape

import ipywidgets as widgets

from distillcalc.notebook.controls import CONTROLS
from distillcalc.notebook.presets import PRESETS
from distillcalc.notebook.sliders import Slider
from distillcalc.notebook.style import Theme, css
from distillcalc.notebook.twin import handles
from distillcalc.notebook.view import View, heading

OWN = "own"  # in the list of presets: what is none of them
_POINT = "Point at a number, or reach it with Tab, to see where it comes from; amber: a price older than 30 days."
# Parts of fixed height, so that what stands below does not jump: their label and height [px].
SCROLLING = {
    "mind_html": ("What would change my mind", 300),
    "rules_html": ("The article's rule of thumb", 230),
    "gates_html": ("Conditions and their sources", 340),
    "notes_html": ("Before you act", 230),
}

_COPY = (
    "var t=this.parentNode.querySelector('textarea'),b=this;t.select();"
    "navigator.clipboard.writeText(t.value).then(function(){b.textContent='Copied';"
    "setTimeout(function(){b.textContent='Copy as Python';},1500);});"
)


class Parts:
    """Every widget of a panel by what it shows.

    Parameters
    ----------
    theme : as of :func:`~distillcalc.notebook.style.css`.
    moved : called with a control's name and its value when a user moves it.
    """

    def __init__(self, theme: Theme | None, moved: Callable[[str, float], None]) -> None:
        self.sliders = {name: Slider(control, moved) for name, control in CONTROLS.items()}
        self.style = _html(css(theme))
        self.preset = widgets.Dropdown(
            options=[(title, name) for name, title in PRESETS.items()],
            description="Start from",
            layout=widgets.Layout(width="270px"),
            style={"description_width": "initial"},
        )
        self.upload = widgets.FileUpload(accept=".toml", multiple=False, description="Open your file")
        self.path = widgets.Text(
            value="scenario.toml",
            description="Scenario file",
            layout=widgets.Layout(width="270px"),
            style={"description_width": "initial"},
        )
        self.load = _button("Load", "Load the scenario file of this name")
        self.save = _button("Save", "Save the scenario under this name")
        self.pin = _button("Pin as A", "Pin this scenario as A, and compare what you move with it", "110px")
        self.reset = _button("Start over", "Take back everything that was moved", "110px")
        self.said = _html(note_html(""))
        self.verdict, self.difference = _html(""), _html("")
        self.monthly, self.options = _html(""), _html("")
        self.cumulative, self.latency = _html(""), _html("")
        self.mind, self.rules, self.gates, self.notes = _html(""), _html(""), _html(""), _html("")
        self.code, self.download = _html(""), _html("")
        self.results = _column(
            [
                self.difference,
                _row(
                    [
                        _cell("What every option costs a month", self.monthly),
                        _cell("Added up: USD paid, present value", self.cumulative),
                        _cell("How fast it answers", self.latency),
                        _cell("What would change my mind", self.mind),
                        _cell("The article’s rule of thumb", self.rules),
                        _cell("Before you act", self.notes),
                    ]
                ),
            ],
            "4 1 440px",
        )
        self.options_part = _column(
            [
                _html(heading("Every option, number by number")),
                _html(f'<p class="dc-note">{_POINT}</p>'),
                self.options,
            ],
            "1 1 100%",
        )
        self.below = _cell("Conditions, and where they come from", self.gates, "1 1 100%")
        self.controls = _column(self._grouped(), "1 1 270px")
        self.controls.layout.max_width = "420px"

    def everything(self) -> list[widgets.Widget]:
        """The panel's children from top to bottom."""
        top = _row([self.preset, self.reset, self.pin, self.upload])
        top.layout.align_items = "center"
        names = _html(handles())
        files = _row([self.path, self.save, self.load, self.download])
        files.layout.align_items = "center"
        last = _column([_html(heading("Keep it: as Python, as a file")), self.code, files], "1 1 100%")
        return [
            self.style,
            top,
            self.said,
            self.verdict,
            _row([self.controls, self.results]),
            self.options_part,
            self.below,
            last,
            names,
        ]

    def dim(self, *, first: bool | None = None, rest: bool | None = None) -> None:
        """Show the results as old ones, or as what holds; None leaves them as they are."""
        for dimmed, parts in (
            (first, (self.difference, self.monthly, self.cumulative, self.latency, self.options, self.gates)),
            (rest, (self.mind, self.rules, self.notes)),
        ):
            for part in parts:
                if dimmed is not None:
                    (part.add_class if dimmed else part.remove_class)("dc-dim")

    def show(self, view: View, parts: tuple[str, ...]) -> None:
        """Assign the parts of a view that differ; a widget whose value stays is not touched."""
        for name in parts:
            part, value = getattr(self, name.rpartition("_")[0]), getattr(view, name)
            if name in SCROLLING:
                value = scrolling(value, *SCROLLING[name])
            if part.value != value:
                part.value = value

    def show_code(self, code: str, toml: str) -> None:
        """The scenario as Python to copy, and as a file to download."""
        rows = min(code.count("\n") + 1, 24)
        value = (
            f'<button type="button" class="jupyter-button" onclick="{escape(_COPY)}">Copy as Python</button>'
            f'<textarea readonly rows="{rows}" aria-label="The scenario as Python" spellcheck="false" '
            'style="width:100%;box-sizing:border-box;font-family:monospace;font-size:12px;margin-top:6px">'
            f"{escape(code)}</textarea>"
        )
        link = base64.b64encode(toml.encode()).decode()
        for part, text in (
            (self.code, value),
            (self.download, f'<a download="scenario.toml" href="data:application/toml;base64,{link}">Download it</a>'),
        ):
            if part.value != text:
                part.value = text

    def _grouped(self) -> list[widgets.Widget]:
        found: list[widgets.Widget] = []
        for group in dict.fromkeys(control.group for control in CONTROLS.values()):
            found.append(_html(heading(group)))
            found += [self.sliders[name].widget for name, control in CONTROLS.items() if control.group == group]
        return found


def _cell(title: str, part: widgets.Widget, flex: str = "1 1 400px") -> widgets.VBox:
    return _column([_html(heading(title)), part], flex)


def error_html(said: str) -> str:
    """What is wrong, in place of the line that tells what was done."""
    return f'<div class="dc-said dc-error" role="alert">{escape(said)}</div>'


def note_html(said: str) -> str:
    """A line that tells what was just done."""
    return f'<div class="dc-said dc-note" role="status">{escape(said)}</div>'


def scrolling(inner: str, label: str, height_px: int) -> str:
    """A part of fixed height that scrolls, by keyboard too."""
    return (
        f'<div class="dc-scroll" tabindex="0" role="region" aria-label="{escape(label)}" '
        f'style="height:{height_px}px">{inner}</div>'
    )


def _html(value: str) -> widgets.HTML:
    return widgets.HTML(value, layout=widgets.Layout(width="100%", margin="0"))


def _button(text: str, tooltip: str, width: str = "80px") -> widgets.Button:
    return widgets.Button(description=text, tooltip=tooltip, layout=widgets.Layout(width=width))


def _row(children: list[widgets.Widget]) -> widgets.Box:
    layout = widgets.Layout(display="flex", flex_flow="row wrap", width="100%", grid_gap="4px 18px", overflow="visible")
    return widgets.Box(children, layout=layout)


def _column(children: list[widgets.Widget], flex: str) -> widgets.VBox:
    return widgets.VBox(children, layout=widgets.Layout(flex=flex, min_width="0", overflow="visible"))
