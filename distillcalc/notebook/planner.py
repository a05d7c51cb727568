"""The panel: sliders over one scenario, the verdict first, and everything behind it.

It holds a starting point (a preset, or a scenario of one's own) and what was moved from there. A step of a slider shows
the verdict by closed form at once; the rest is dimmed, and follows when the slider is let go.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from distillcalc.catalog import Catalog
from distillcalc.decide.recommend import recommend
from distillcalc.decide.uncertainty import PREVIEW_DRAWS
from distillcalc.errors import DistillcalcError, InputError
from distillcalc.notebook import address, controls, remembering
from distillcalc.notebook.copying import as_python
from distillcalc.notebook.later import Later, Wanted
from distillcalc.notebook.layout import OWN, Parts, error_html, note_html
from distillcalc.notebook.presets import PRESETS, opened, preset
from distillcalc.notebook.style import Theme
from distillcalc.notebook.view import FIRST, REST, View, quick, verdict_html
from distillcalc.workload.files import parse_toml, samples, scenario_toml
from distillcalc.workload.scenario import Scenario

if TYPE_CHECKING:
    from distillcalc.decide.decision import Decision
    from distillcalc.estimate.context import Fidelity

QUIET_S = 0.3  # after the last step of a slider, before the full view is made [s]
STILL_S = 0.8  # after that view, before its fleets are simulated, which takes a second or two [s]

_Made = tuple[View, tuple[str, ...]]  # a view, and which of its parts are there


def panel(
    scenario: str | Path | Scenario = "support-triage", *, theme: Theme | None = None, remember: bool = True
) -> Panel:
    """A panel of sliders over a scenario, to be shown in a notebook.

    Parameters
    ----------
    scenario : id of a preset or a shipped sample, a scenario file, or a scenario.
    theme : "light" or "dark"; left out, as the notebook is.
    remember : keep what is moved in the user's cache, so that it is there again after the kernel was restarted.

    Raises
    ------
    UnknownName, InputError
        If there is no such scenario.
    """
    return Panel(scenario, theme=theme, remember=remember)


class Panel(widgets.VBox):  # type: ignore[misc]
    """Sliders over one scenario, and what the calculator says of it.

    Parameters
    ----------
    scenario, theme, remember : as of :func:`panel`.
    simulate : size the fleets by simulation, too, once a slider is let go.
    """

    children: tuple[Any, ...]

    def __init__(
        self,
        scenario: str | Path | Scenario = "support-triage",
        *,
        theme: Theme | None = None,
        remember: bool = True,
        simulate: bool = True,
        catalog: Catalog | None = None,
    ) -> None:
        self._theme, self._simulate = theme, simulate
        self._catalog = catalog or Catalog.load()
        self._start, self._base = _starting_point(scenario)
        self._moved: dict[str, float] = {}
        self._scenario = self._base
        self._pinned: dict[Fidelity, Decision] = {}  # A, decided as what it is compared with
        self._pinned_scenario: Scenario | None = None
        self._pinned_address: str | None = None
        self._view = View(self._base)
        self._message = ""
        self._setting = self._touched = False  # a panel that nobody touched leaves nothing behind
        self._place = remembering.place_of(self._start) if remember else None
        self._parts = Parts(theme, self._on_move)
        self._later: Later[Scenario, _Made] = Later(QUIET_S, self._work, self._take, self._failed)
        super().__init__(self._parts.everything(), layout=widgets.Layout(width="100%"))
        self.add_class("dc-panel")
        self._recall()
        self._show_controls()
        self.settle()
        parts = self._parts
        parts.preset.observe(self._on_preset, "value")
        parts.upload.observe(self._on_upload, "value")
        parts.load.on_click(self._guarded(lambda: self.load(parts.path.value)))
        parts.save.on_click(self._guarded(lambda: self.save(parts.path.value)))
        parts.pin.on_click(self._guarded(self._toggle_pin))
        parts.reset.on_click(self._guarded(self.start_over))

    @property
    def scenario(self) -> Scenario:
        """What the sliders stand for; the last one that could be right."""
        return self._scenario

    @property
    def view(self) -> View:
        """What is shown of the scenario, made now if it is not there yet."""
        if self._view.scenario != self._scenario:
            self.settle()
        return self._view

    @property
    def pinned(self) -> Scenario | None:
        """The scenario that is pinned as A; None where none is."""
        return self._pinned_scenario

    @property
    def message(self) -> str:
        """What is wrong with what the sliders say, as a sentence; empty where nothing is."""
        return self._message

    def move(self, **values: float) -> None:
        """Move controls, as a user would: ``panel.move(requests_per_day=6_200)``, in the scenario's units.

        Raises
        ------
        UnknownName
            For a control that is not there.
        """
        controls.moved(self._base, {name: value for name, value in values.items() if name not in controls.CONTROLS})
        self._moved |= values
        self._changed(show_controls=True)

    def choose(self, scenario: str | Path | Scenario) -> None:
        """Start from another preset, file or scenario; what was moved is forgotten.

        Raises
        ------
        UnknownName, InputError
            If there is no such scenario.
        """
        self._start, self._base = _starting_point(scenario)
        self._moved, self._touched = {}, True
        self._changed(show_controls=True)

    def start_over(self) -> None:
        """Take back everything that was moved."""
        self._moved = {}
        self._changed(show_controls=True)

    def pin(self) -> None:
        """Pin the scenario as A; from now on the difference to it is shown."""
        self._pinned, self._touched = {}, True
        self._pinned_scenario = self._scenario
        self._pinned_address = self._address()
        self._pinning("Pinned as A. Move a slider to explore B.")

    def unpin(self) -> None:
        """Compare with nothing any more."""
        self._pinned, self._pinned_scenario, self._pinned_address = {}, None, None
        self._pinning("")

    def _toggle_pin(self) -> None:
        if self._pinned_scenario is None:
            self.pin()
        else:
            self.unpin()

    def save(self, path: str | Path = "scenario.toml") -> Path:
        """Write the scenario to a file that every command takes.

        Raises
        ------
        InputError
            If it cannot be written.
        """
        file = self._scenario.save(path)
        self._say(f"Saved to {file.resolve()}.")
        return file

    def load(self, path: str | Path) -> None:
        """Start from a scenario file.

        Raises
        ------
        InputError
            If there is none, or it cannot be right.
        """
        self.choose(Scenario.load(path))
        self._say(f"Loaded {path}.")

    def to_query(self) -> str:
        """The panel's state as a short query string, without the question mark.

        Raises
        ------
        InputError
            If a scenario of one's own is too long for an address.
        """
        return address.packed(self._start if self._start != OWN else self._base, self._moved)

    @classmethod
    def from_query(cls, text: str, *, theme: Theme | None = None, remember: bool = False) -> Panel:
        """A panel in the state that :meth:`to_query` told.

        Parameters
        ----------
        text : a query string, with or without its question mark.
        theme, remember : as of :func:`panel`.

        Raises
        ------
        InputError
            If it is none, with what is wrong with it.
        """
        start, values = address.unpacked(text)
        made = cls(start, theme=theme, remember=remember)
        if values:
            made.move(**values)
            made.settle()
        return made

    def settle(self) -> None:
        """Make the full view now instead of after a while; by closed form."""
        self._later.give_up()
        try:
            for made in self._made(self._scenario, "closed_form", lambda: True):
                self._take(made)
        except DistillcalcError as error:
            self._wrong(str(error))

    def _on_move(self, name: str, value: float) -> None:
        if not self._message:
            self._say("")  # what was done before is known by now
        self._moved[name] = value
        self._changed(show_controls=False)

    def _on_preset(self, change: dict[str, Any]) -> None:
        if not self._setting and change["new"] != OWN:
            self._guarded(lambda: self.choose(change["new"]))()

    def _on_upload(self, change: dict[str, Any]) -> None:
        for file in change["new"]:
            self._guarded(lambda file=file: self._open_upload(file))()

    def _open_upload(self, file: Any) -> None:
        try:
            text = bytes(file["content"]).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{file['name']} is not UTF-8 text. Save it as UTF-8") from error
        self.choose(Scenario.from_dict(parse_toml(text, file["name"])))
        self._say(f"Opened {file['name']}.")

    def _guarded(self, action: Any) -> Any:
        """A handler whose errors stand in the panel: a widget's own would vanish in a log."""

        def run(*_: Any) -> None:
            self._say("")
            try:
                action()
            except DistillcalcError as error:
                self._wrong(str(error))
            except Exception as error:  # noqa: BLE001 - shown where the user looks
                self._failed(error)

        return run

    def _changed(self, *, show_controls: bool) -> None:
        """Something was moved: the verdict at once, the rest dimmed and asked for."""
        try:
            self._scenario = controls.moved(self._base, self._moved)
            if show_controls:
                self._show_controls()
            else:
                self._show_notes()
            found = quick(self._scenario, self._catalog)
        except DistillcalcError as error:
            self._wrong(str(error))
            return
        except Exception as error:  # noqa: BLE001 - shown where the user looks
            self._failed(error)
            return
        if found.error:
            self._wrong(found.error)
            return
        self._right()
        before = self._view
        tone = found.tone
        if tone == "clear" and before.recommendation == found.recommendation:
            tone = before.tone  # the odds of what is shown hold until they are drawn again
        self._parts.verdict.value = verdict_html(found.verdict, tone, "by formula, at medians; the rest follows")
        self._parts.dim(first=True, rest=True)
        self._later.ask(self._scenario)

    def _work(self, scenario: Scenario, wanted: Wanted) -> Iterator[_Made]:
        """What is quickly made of the view, then the rest, then all of it with its fleets simulated.

        Given up between any two parts once something newer is asked for.
        """
        yield from self._made(scenario, "closed_form", wanted)
        if self._simulate and _quiet(wanted):
            yield from self._made(scenario, "simulated", wanted)

    def _made(self, scenario: Scenario, fidelity: Fidelity, wanted: Wanted) -> Iterator[_Made]:
        decision = recommend(scenario, catalog=self._catalog, fidelity=fidelity, draws=PREVIEW_DRAWS)
        view = View(scenario, decision, self._pinned_as(fidelity), self._theme)
        for parts in (FIRST, REST):
            for part in parts:
                if not wanted():
                    return
                getattr(view, part)
            yield view, parts

    def _pinned_as(self, fidelity: Fidelity) -> Decision | None:
        """A decided by the same means as B, so that the difference is that of what was moved."""
        scenario, pinned = self._pinned_scenario, self._pinned
        if scenario is None:
            return None
        if fidelity not in pinned:
            pinned[fidelity] = recommend(scenario, catalog=self._catalog, fidelity=fidelity, draws=PREVIEW_DRAWS)
        return pinned[fidelity]

    def _take(self, made: _Made) -> None:
        """Show the parts of a view that were made."""
        view, parts = made
        self._view = view
        self._right()
        self._parts.show(view, parts)
        if parts is not FIRST:
            self._parts.dim(rest=False)
            return
        self._parts.dim(first=False)
        self._parts.show_code(as_python(view.scenario), scenario_toml(view.scenario))
        self._keep()
        self._show(view)

    def _show(self, view: View) -> None:
        """A view is shown: for panels that show it in another place as well."""

    def _failed(self, error: Exception) -> None:
        self._wrong(
            str(error)
            if isinstance(error, DistillcalcError)
            else f"A fault of distillcalc itself, please report it: {type(error).__name__}: {error}"
        )

    def _wrong(self, said: str) -> None:
        """Say what is wrong, and leave the last good result dimmed."""
        self._later.give_up()
        self._message = said
        self._parts.said.value = error_html(said)
        self._parts.dim(first=True, rest=True)
        self._parts.verdict.add_class("dc-dim")

    def _right(self) -> None:
        if self._message:
            self._message = ""
            self._say("")
        self._parts.verdict.remove_class("dc-dim")

    def _say(self, said: str) -> None:
        self._parts.said.value = note_html(said)

    def _pinning(self, said: str) -> None:
        self._parts.pin.description = "Unpin A" if self._pinned_scenario is not None else "Pin as A"
        self.settle()
        self._say(said)

    def _show_controls(self) -> None:
        """Every slider where the scenario has it, without telling anybody that it moved."""
        for name, slider in self._parts.sliders.items():
            value = controls.value_of(self._scenario, name)
            said = controls.note_on(self._scenario, name)
            slider.show(value, said, fixed=controls.is_fixed(self._scenario, name))
        self._setting = True
        try:
            options = [(title, name) for name, title in PRESETS.items()]
            if self._start not in PRESETS:
                own = self._base.workload.name
                options.append((f"{own} (your own)", OWN) if self._start == OWN else (own, self._start))
            if tuple(options) != tuple(self._parts.preset.options):
                self._parts.preset.options = options
            self._parts.preset.value = self._start
        finally:
            self._setting = False

    def _show_notes(self) -> None:
        """The sliders that follow another one, and what their numbers stand for."""
        for name, slider in self._parts.sliders.items():
            if name not in self._moved or name == "cacheable_prefix_tokens":
                value, said = controls.value_of(self._scenario, name), controls.note_on(self._scenario, name)
                if value != slider.value:
                    slider.show(value, said, fixed=controls.is_fixed(self._scenario, name))
            slider.explain(controls.note_on(self._scenario, name))

    def _address(self) -> str:
        return address.packed(self._start if self._start != OWN else self._base, self._moved, most=None)

    def _keep(self) -> None:
        if self._place is None or (not self._moved and not self._touched):
            return
        self._touched = True
        try:
            remembering.remember(remembering.Remembered(self._address(), self._pinned_address), self._place)
        except DistillcalcError as error:
            self._place = None  # said once
            self._say(f"What you move is not kept: {error}.")

    def _recall(self) -> None:
        """Take up the state that a kernel before this one left."""
        if self._place is None:
            return
        try:
            kept = remembering.recall(self._place)
            if kept is None:
                return
            self._touched = True
            start, values = address.unpacked(kept.now, most=None)
            if kept.pinned is not None:
                at, pinned = address.unpacked(kept.pinned, most=None)
                self._pinned_scenario = controls.moved(preset(at) if isinstance(at, str) else at, pinned)
                self._pinned_address = kept.pinned
                self._parts.pin.description = "Unpin A"
            self._start, self._base = _starting_point(start)
            self._moved = values
            self._scenario = controls.moved(self._base, values)
            if values:
                self._say("As you left it. “Start over” takes back what you moved.")
        except DistillcalcError as error:
            self._say(f"What you had moved could not be taken up again: {error}.")


def _starting_point(start: str | Path | Scenario) -> tuple[str, Scenario]:
    """The preset's id, or "own", and the scenario."""
    scenario = opened(start)
    named = isinstance(start, str) and (start in PRESETS or start in samples())
    return (str(start) if named else OWN), scenario


def _quiet(wanted: Wanted) -> bool:
    """Wait a while; whether it is still wanted then."""
    end = time.monotonic() + STILL_S
    while wanted() and time.monotonic() < end:
        time.sleep(0.05)
    return wanted()
