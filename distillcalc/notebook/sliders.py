"""One input as a number box with its label, and a slider beside it that moves the same number.

The box is the labelled twin: it is reached by Tab, read out by a screen reader, and takes numbers that lie beyond the
slider's ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape

import ipywidgets as widgets

from distillcalc.notebook.controls import Control

DIGITS = 3  # a slider moves in numbers of three digits: nobody plans with more


class Slider:
    """A control's widgets, kept in step with each other.

    Parameters
    ----------
    control : which input.
    changed : called with the control's name and its new value, in the scenario's unit, when a user moves it.

    Attributes
    ----------
    widget : what is shown: box, slider, note.
    number, handle, note : its parts.
    """

    def __init__(self, control: Control, changed: Callable[[str, float], None]) -> None:
        self.control, self._changed = control, changed
        self._silent, self._said, self._touched = False, "", False
        wide = widgets.Layout(width="100%", margin="0")
        self.number = widgets.FloatText(description=control.label, continuous_update=False, layout=wide)
        self.number.add_class("dc-number")
        self.number.style.description_width = "initial"
        if control.log:
            self.handle = widgets.FloatLogSlider(
                value=control.low,
                base=10,
                min=math.log10(control.low),
                max=math.log10(control.high),
                step=control.step,
                readout=False,
                layout=wide,
            )
        else:
            scale = control.scale
            self.handle = widgets.FloatSlider(
                min=control.low * scale, max=control.high * scale, step=control.step, readout=False, layout=wide
            )
        self.handle.add_class("dc-handle")
        self.note = widgets.HTML(layout=widgets.Layout(width="100%", margin="0"))
        self.widget = widgets.VBox(
            [self.number, self.handle, self.note], layout=widgets.Layout(width="100%", margin="0 0 4px 0")
        )
        self.widget.add_class("dc-control")
        self.value = control.low
        self.number.observe(self._typed, "value")
        self.handle.observe(self._dragged, "value")

    def show(self, value: float, said: str = "", *, fixed: bool = False) -> None:
        """Show a value of the scenario, and what there is to say of it, without telling anybody that it moved.

        Parameters
        ----------
        value : in the scenario's unit.
        said : what the number stands for, where that is not plain.
        fixed : whether it may not be moved.
        """
        self._said, self._touched = said, False
        self.number.disabled = self.handle.disabled = fixed
        self._set(value, measured=True)

    def explain(self, said: str) -> None:
        """Say what the number stands for, and leave it where it is."""
        if said != self._said:
            self._said = said
            self._say("")

    def _typed(self, change: dict[str, float]) -> None:
        if self._silent:
            return
        control, self._touched = self.control, True
        value = change["new"] / control.scale
        kept = min(max(value, control.least), control.most)
        kept = float(round(kept)) if control.whole else kept
        self._set(kept)
        if kept != value:
            self._say(f"only {self._shown(control.least)} to {self._shown(control.most)}: {self._shown(kept)} is taken")
        self._changed(control.name, kept)

    def _dragged(self, change: dict[str, float]) -> None:
        if self._silent:
            return
        control = self.control
        if self._place_of(change["new"]) == self._place_of(self._where()):
            return  # a page that has drawn the slider tells its place again, in steps
        self._touched = True
        raw = change["new"] if control.log else change["new"] / control.scale
        value = _rounded(raw)
        if control.whole:
            value = float(round(value))
        self._set(min(max(value, control.low), control.high), moved=True)
        self._changed(control.name, self.value)

    def _set(self, value: float, *, moved: bool = False, measured: bool = False) -> None:
        """Both widgets at one value; the one that a user holds is left alone, and a measured value is shown rounded."""
        control, self.value = self.control, value
        self._silent = True
        try:
            shown = float(f"{value * control.scale:.12g}")
            if measured:
                shown = round(shown, 2) if abs(shown) >= 10 else float(f"{shown:.4g}")
            if self.number.value != shown:
                self.number.value = shown
            if not moved:
                self.handle.value = self._where()
        finally:
            self._silent = False
        self._say("")

    def _where(self) -> float:
        """The slider's value for the control's."""
        place = min(max(self.value, self.control.low), self.control.high)
        return place if self.control.log else place * self.control.scale

    def _place_of(self, at: float) -> int:
        """Which step of the slider a value of it is."""
        low = math.log10(self.control.low) if self.control.log else self.control.low * self.control.scale
        return round(((math.log10(at) if self.control.log else at) - low) / self.control.step)

    def _say(self, told: str) -> None:
        control, value = self.control, self.value
        if not told and self._touched and (value <= control.low or value >= control.high):
            low = value <= control.low
            if control.least < control.low if low else control.most > control.high:
                end = f"down to {self._shown(control.least)}" if low else f"up to {self._shown(control.most)}"
                told = f"the slider ends here; type {end}"
            else:
                told = f"no {'less' if low else 'more'} can be asked for"
        words = f"{self._said}{'; ' if self._said and told else ''}{told}"
        mark = " dc-amber" if told else ""
        text = f'<div class="dc-note dc-clip{mark}" title="{escape(words)}">{escape(words)}</div>'
        if self.note.value != text:
            self.note.value = text

    def _shown(self, value: float) -> str:
        shown = value * self.control.scale
        return f"{shown:,.0f}" if abs(shown) >= 1_000 else f"{shown:g}"


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
