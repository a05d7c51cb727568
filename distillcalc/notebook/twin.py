"""A slider and a labelled number box that move the same number: the box is for the keyboard and for screen readers."""

from __future__ import annotations

from html import escape
from math import log10
from typing import Any

import ipywidgets as widgets

HALF_A_STEP = 0.5 + 1e-6

# ipywidgets gives a slider's handle no name and shows screen readers the exponent of a logarithmic one; JupyterLab and
# Notebook 7 take its arrow keys for their own (they fold headings). Where the page runs this, the handle is called
# after its number box and keeps its keys; where it does not, the box remains.
_HANDLES = (
    "(function(){function go(){document.querySelectorAll('.dc-control').forEach(function(c){"
    "var l=c.querySelector('.dc-number label');if(!l)return;"
    "c.querySelectorAll('.noUi-handle').forEach(function(h){"
    "h.setAttribute('data-lm-suppress-shortcuts','true');"
    "h.setAttribute('aria-label',l.textContent+', slider');});});}"
    "[0,200,700,2000,5000].forEach(function(t){setTimeout(go,t);});})()"
)


def labelled_slider(
    label: str, value: float, low: float, high: float, step: float, *, log: bool = False
) -> tuple[widgets.Box, Any]:
    """A number box with its label, and a slider beside it.

    Parameters
    ----------
    label : what it is, with its unit.
    value, low, high : where it stands, and its ends.
    step : of the slider: in decades where ``log``.
    log : whether equal steps of the slider are equal factors.

    Returns
    -------
    What is shown, and the number box whose ``value`` is observed.
    """
    number = widgets.BoundedFloatText(
        value=value, min=low, max=high, step=None, description=label, layout=widgets.Layout(width="340px", margin="0"),
        style={"description_width": "initial"},
    )  # fmt: skip
    number.add_class("dc-number")
    layout = widgets.Layout(width="340px", margin="0 0 0 12px")
    if log:
        handle: Any = widgets.FloatLogSlider(
            value=value, base=10, min=log10(low), max=log10(high), step=step, readout=False, layout=layout
        )
    else:
        handle = widgets.FloatSlider(value=value, min=low, max=high, step=step, readout=False, layout=layout)
    handle.add_class("dc-handle")
    silent = [False]

    def steps_apart(one: float, other: float) -> float:
        return abs(log10(one) - log10(other) if log else one - other) / step

    def dragged(change: dict[str, float]) -> None:
        # A browser rounds the slider to its steps and says so later: that is nobody's move.
        if not silent[0] and steps_apart(change["new"], number.value) > HALF_A_STEP:
            number.value = float(f"{change['new']:.3g}")

    def typed(change: dict[str, float]) -> None:
        silent[0] = True  # the slider follows, and does not give the number back rounded
        try:
            if float(f"{handle.value:.3g}") != change["new"]:
                handle.value = change["new"]
        finally:
            silent[0] = False

    handle.observe(dragged, "value")
    number.observe(typed, "value")
    box = widgets.Box(
        [number, handle],
        layout=widgets.Layout(display="flex", flex_flow="row wrap", align_items="center", width="100%"),
    )
    box.add_class("dc-control")
    return box, number


def handles() -> str:
    """What gives the handles of the sliders around it their names and their arrow keys, where the page runs it."""
    return f'<style onload="{escape(_HANDLES)}">.dc-named {{}}</style>'


def html(value: str = "") -> widgets.HTML:
    """An HTML widget as wide as the page."""
    return widgets.HTML(value, layout=widgets.Layout(width="100%", margin="0"))
