"""The panel on a page that Voila serves: it starts from the page's address, and writes what is moved back into it.

Voila gives the address to the kernel (``QUERY_STRING``) and starts a new kernel at every reload: what a user moved is
there again, and an address can be sent to somebody else.
"""

from __future__ import annotations

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import ipywidgets as widgets

from distillcalc.errors import DistillcalcError, InputError
from distillcalc.notebook import address
from distillcalc.notebook.layout import OWN, error_html, note_html
from distillcalc.notebook.planner import Panel, panel
from distillcalc.notebook.presets import opened
from distillcalc.notebook.style import Theme
from distillcalc.notebook.view import View
from distillcalc.workload.scenario import Scenario

SCENARIO_VARIABLE = "DISTILLCALC_SCENARIO"  # what `distillcalc dashboard --scenario` was given
PREHEATED = "VOILA_PREHEAT"  # "True" in a kernel that is made ready before anybody opens the page
VOILAS_OWN = ("theme", "template", "token")  # names that Voila reads out of the address itself

# Browsers let a page rename itself without loading anything. It runs when the empty style sheet has loaded, which is
# whenever the widget's value changes.
_RENAME = (
    "var n=new URLSearchParams(this.dataset.query),o=new URLSearchParams(location.search);"
    f"{list(VOILAS_OWN)!r}.forEach(function(k){{if(o.has(k))n.set(k,o.get(k));}});"
    "history.replaceState(history.state,'','?'+n);"
)


def is_served() -> bool:
    """Whether this kernel runs a page of Voila's."""
    return PREHEATED in os.environ or os.environ.get("SERVER_SOFTWARE", "").startswith("voila")


def served_panel(scenario: str | Path | Scenario = "support-triage", *, theme: Theme | None = None) -> Panel:
    """The panel of a notebook that is also served as a dashboard.

    Under Voila it starts from the page's address, else from what ``distillcalc dashboard --scenario`` was given, else
    from ``scenario``. Anywhere else it is :func:`~distillcalc.notebook.planner.panel`.

    Parameters
    ----------
    scenario, theme : as of :func:`~distillcalc.notebook.planner.panel`.

    Raises
    ------
    UnknownName, InputError
        If there is no such scenario. An address that cannot be right is told on the panel instead.
    """
    if not is_served():
        return panel(scenario, theme=theme)
    shown = ServedPanel(os.environ.get(SCENARIO_VARIABLE) or scenario, theme=theme, remember=False)
    query = own_part(_query())
    if query:
        try:
            start, values = address.unpacked(query, given=shown.given)
            if start is not shown.given:
                shown = ServedPanel(start, theme=theme, remember=False, given=shown.given)
            if values:
                shown.move(**values)
                shown.settle()
        except DistillcalcError as error:
            shown.tell(f"The address of this page cannot be used, so this starts afresh: {error}")
    return shown


def _query() -> str:
    """The page's query string; in a kernel that Voila started ahead of the page, waits for it."""
    if os.environ.get(PREHEATED) == "True":
        with ThreadPoolExecutor(1) as thread:  # the kernel's own event loop is running this cell
            os.environ |= thread.submit(lambda: asyncio.run(_request())).result()
        os.environ[PREHEATED] = "False"  # there is one page, and it is told once
    return os.environ.get("QUERY_STRING", "")


async def _request() -> dict[str, str]:
    """What Voila tells a kernel about its page, once there is one.

    Voila's own way to ask (``voila.utils.wait_for_request``) imports its whole server, which takes seconds.
    """
    from tornado.websocket import websocket_connect

    told = {name: os.environ.get(f"VOILA_{name}", "") for name in ("APP_PORT", "SERVER_URL", "KERNEL_ID")}
    place = f"ws://127.0.0.1:{told['APP_PORT']}{told['SERVER_URL'] or '/'}voila/query/{told['KERNEL_ID']}"
    connection = await websocket_connect(place)
    try:
        message = await connection.read_message()
    finally:
        connection.close()
    return {str(name): str(said) for name, said in json.loads(message or "{}").items()}


def own_part(query: str) -> str:
    """The part of a query string that is the panel's: all but the names that Voila reads itself.

    Parameters
    ----------
    query : as Voila gives it, without the question mark.
    """
    return urlencode(
        [(name, said) for name, said in parse_qsl(query, keep_blank_values=True) if name not in VOILAS_OWN]
    )


class ServedPanel(Panel):
    """A panel whose state stands in the address of its page.

    Parameters
    ----------
    scenario, options : as of :class:`~distillcalc.notebook.planner.Panel`.
    given : the scenario that the page was started with, which its address need not hold; left out, ``scenario``.
    """

    children: Any

    def __init__(
        self, scenario: str | Path | Scenario = "support-triage", *, given: Scenario | None = None, **options: Any
    ) -> None:
        self.given = given or opened(scenario)
        self._place_in_page = widgets.HTML(layout=widgets.Layout(width="100%", margin="0"))
        super().__init__(scenario, **options)
        self.children = (self._place_in_page, *self.children)

    def to_query(self) -> str:
        """The panel's state as a short query string; what the page was started with is only named.

        Raises
        ------
        InputError
            If another scenario of one's own is too long for an address.
        """
        if self._start == OWN and self._base == self.given:
            return address.packed(address.GIVEN, self._moved)
        return super().to_query()

    def tell(self, said: str) -> None:
        """Show a sentence above the panel, until something is moved."""
        self._place_in_page.value = error_html(said)

    def _show(self, view: View) -> None:
        super()._show(view)
        if not view.error:
            self._place_in_page.value = self._renaming()

    def _renaming(self) -> str:
        try:
            query, said = self.to_query(), ""
        except InputError as error:
            query, said = "", note_html(f"A reload of this page forgets what you moved: {error}")
        return f'{said}<style data-query="{escape(query)}" onload="{escape(_RENAME)}">.dc-place {{}}</style>'
