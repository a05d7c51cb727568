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
from distillcalc.notebook.view import View, heading

OWN = "own"  # in the list of presets: what is none of them
TALLEST_LIST_PX = 340  # gates and notes scroll beyond it, so that what stands below does not jump

# ipywidgets gives a slider's handle no name and shows screen readers the exponent of a logarithmic one. Where the page
# runs this, the handle is called after its number box; where it does not, the box remains.
_NAME_HANDLES = (
    "(function(){function go(){document.querySelectorAll('.dc-control').forEach(function(c){"
    "var l=c.querySelector('.dc-number label');if(!l)return;"
    "c.querySelectorAll('.noUi-handle').forEach(function(h){"
    "h.setAttribute('aria-label',l.textContent+', slider');});});}"
    "[0,200,700,2000,5000].forEach(function(t){setTimeout(go,t);});})()"
)
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
        self.said = _html("")
        self.verdict, self.error, self.difference = _html(""), _html(""), _html("")
        self.monthly, self.options = _html(""), _html("")
        self.cumulative, self.latency = _html(""), _html("")
        self.mind, self.rules, self.gates, self.notes = _html(""), _html(""), _html(""), _html("")
        self.code, self.download = _html(""), _html("")
        self.results = _column(
            [
                self.difference,
                _html(heading("What every option costs a month")),
                self.monthly,
                _row(
                    [
                        _column([_html(heading("Added up, with the break-even")), self.cumulative], "1 1 340px"),
                        _column([_html(heading("How fast it answers")), self.latency], "1 1 340px"),
                    ]
                ),
            ],
            "4 1 460px",
        )
        self.results.add_class("dc-results")
        self.below = _column(
            [
                _html(heading("Every option, number by number")),
                _html('<p class="dc-note">Point at a number, or reach it with Tab, to see where it comes from.</p>'),
                self.options,
                _row(
                    [
                        _column([_html(heading("What would change my mind")), self.mind], "1 1 360px"),
                        _column([_html(heading("The article’s rule of thumb")), self.rules], "1 1 360px"),
                    ]
                ),
                _html(heading("Conditions, and where they come from")),
                self.gates,
                _html(heading("Before you act")),
                self.notes,
            ],
            "1 1 100%",
        )
        self.controls = _column(self._grouped(), "1 1 270px")
        self.controls.layout.max_width = "420px"

    def everything(self) -> list[widgets.Widget]:
        """The panel's children from top to bottom."""
        top = _row([self.preset, self.reset, self.pin, self.upload, self.path, self.load, self.save, self.download])
        top.layout.align_items = "center"
        names = _html(f'<style onload="{escape(_NAME_HANDLES)}">.dc-named {{}}</style>')
        last = _column([_html(heading("The same in Python")), self.code], "1 1 100%")
        return [
            self.style,
            top,
            self.said,
            self.verdict,
            self.error,
            _row([self.controls, self.results]),
            self.below,
            last,
            names,
        ]

    def dim(self, dimmed: bool) -> None:
        """Show the results as old ones, or as what holds."""
        for part in (self.results, self.below):
            (part.add_class if dimmed else part.remove_class)("dc-dim")

    def show(self, view: View) -> None:
        """Assign what differs; a widget whose value stays is not touched."""
        for part, value in (
            (self.verdict, view.verdict_html),
            (self.difference, view.difference_html),
            (self.monthly, view.monthly_svg),
            (self.options, view.options_html),
            (self.cumulative, view.cumulative_svg),
            (self.latency, view.latency_svg),
            (self.mind, view.mind_html),
            (self.rules, view.rules_html),
            (self.gates, scrolling(view.gates_html, "Conditions and their sources")),
            (self.notes, view.notes_html),
        ):
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


def error_html(said: str) -> str:
    """What is wrong, as a block; nothing where nothing is."""
    return f'<div class="dc-error" role="alert">{escape(said)}</div>' if said else ""


def note_html(said: str) -> str:
    """A line that tells what was just done."""
    return f'<div class="dc-note" role="status">{escape(said)}</div>'


def scrolling(inner: str, label: str) -> str:
    """A part of fixed height that scrolls, by keyboard too."""
    return (
        f'<div class="dc-scroll" tabindex="0" role="region" aria-label="{escape(label)}" '
        f'style="height:{TALLEST_LIST_PX}px">{inner}</div>'
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
