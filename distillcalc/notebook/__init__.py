"""The guided notebooks' room: one decision as a panel of sliders, and as pure values and pictures behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distillcalc.lazy import lazily

if TYPE_CHECKING:
    from distillcalc.notebook.copying import as_python
    from distillcalc.notebook.planner import Panel, panel
    from distillcalc.notebook.presets import PRESETS, preset
    from distillcalc.notebook.view import Quick, View, quick, render

_HOMES = {
    "copying": ("as_python",),
    "planner": ("Panel", "panel"),
    "presets": ("PRESETS", "preset"),
    "view": ("Quick", "View", "quick", "render"),
}

__all__ = ["PRESETS", "Panel", "Quick", "View", "as_python", "panel", "preset", "quick", "render"]

__getattr__, __dir__ = lazily(__name__, _HOMES)
