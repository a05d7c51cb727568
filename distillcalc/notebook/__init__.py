"""The guided notebooks' room: one decision as a panel of sliders, and as pure values and pictures behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distillcalc.lazy import lazily

if TYPE_CHECKING:
    from distillcalc.notebook.copying import as_python
    from distillcalc.notebook.planner import Panel, panel
    from distillcalc.notebook.presets import PRESETS, preset
    from distillcalc.notebook.temperature import temperature_panel, temperature_view
    from distillcalc.notebook.threshold import threshold_panel, threshold_view
    from distillcalc.notebook.view import Quick, View, quick, render

_HOMES = {
    "copying": ("as_python",),
    "planner": ("Panel", "panel"),
    "presets": ("PRESETS", "preset"),
    "temperature": ("temperature_panel", "temperature_view"),
    "threshold": ("threshold_panel", "threshold_view"),
    "view": ("Quick", "View", "quick", "render"),
}

__all__ = [
    "PRESETS",
    "Panel",
    "Quick",
    "View",
    "as_python",
    "panel",
    "preset",
    "quick",
    "render",
    "temperature_panel",
    "temperature_view",
    "threshold_panel",
    "threshold_view",
]

__getattr__, __dir__ = lazily(__name__, _HOMES)
