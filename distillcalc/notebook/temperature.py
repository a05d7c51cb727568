"""What a model believes about the next token, and what a temperature makes of it: the soft labels of distillation.

A teacher's answer is one token; its logits say how near the others were. Divided by a temperature T before the
softmax, p_i = exp(z_i / T) / sum_j exp(z_j / T), they tell the student more of that as T grows (Hinton et al.,
arXiv:1503.02531).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import ipywidgets as widgets
import numpy as np
from numpy.typing import ArrayLike

from distillcalc.decide.words import count
from distillcalc.errors import InputError
from distillcalc.notebook.style import GREY, INK, Theme, axes_of, css, points, svg
from distillcalc.notebook.twin import handles, html, labelled_slider

BLUE = "#0072B2"
SHOWN = 10  # tokens
MOST = "860px"  # so that on a wide page the picture's letters are as large as those around it
WIDTH, ROW = 7.6, 0.3  # inches of the picture, and of one row


@dataclass(frozen=True)
class TemperatureView:
    """A distribution over tokens at one temperature.

    Parameters
    ----------
    tokens, probabilities : of the most likely ones, best first; the order is the same at every temperature.
    rest : probability of all other tokens.
    perplexity : exp of the entropy: as many equally likely tokens would be as uncertain.
    sentence : in words. picture : as HTML.
    """

    tokens: tuple[str, ...]
    probabilities: tuple[float, ...]
    rest: float
    perplexity: float
    sentence: str
    picture: str


def temperature_view(
    logits: ArrayLike, tokens: Sequence[str], temperature: float = 1.0, *, shown: int = SHOWN
) -> TemperatureView:
    """The most likely tokens at a temperature.

    Parameters
    ----------
    logits : of one position, shape (vocabulary,).
    tokens : the text of each, shape (vocabulary,).
    temperature : T, above 0.
    shown : how many.

    Raises
    ------
    InputError
        For a temperature that is not above 0, or texts that are not one a logit.
    """
    z = np.asarray(logits, dtype=float).ravel()
    if not 0 < temperature < float("inf"):
        raise InputError(f"temperature must be above 0. Got {temperature:g}")
    if len(tokens) != len(z):
        raise InputError(f"give a text for each of the {len(z):,} logits. Got {len(tokens):,}")
    odds = np.exp((z - z.max()) / temperature)
    p = odds / odds.sum()
    top = np.argsort(-z, kind="stable")[:shown]
    some = p[p > 0]
    names = tuple(tokens[i] for i in top)
    values = tuple(float(p[i]) for i in top)
    rest = max(1.0 - sum(values), 0.0)
    perplexity = float(np.exp(-(some * np.log(some)).sum()))
    sentence = (
        f"At temperature {temperature:g} the likeliest token, “{names[0].strip() or names[0]}”, has "
        f"{values[0]:.1%}; it is as unsure as among {count(perplexity)} equally likely tokens."
    )
    return TemperatureView(names, values, rest, perplexity, sentence, _picture(names, values, rest, sentence))


def temperature_panel(logits: ArrayLike, tokens: Sequence[str], *, theme: Theme | None = None) -> TemperaturePanel:
    """A slider over the temperature of a distribution.

    Parameters
    ----------
    logits, tokens : as of :func:`temperature_view`.
    theme : "light" or "dark"; left out, as the notebook is.
    """
    return TemperaturePanel(logits, tokens, theme=theme)


class TemperaturePanel(widgets.VBox):  # type: ignore[misc]
    """A slider, and a teacher's distribution that follows it; parameters are those of :func:`temperature_panel`."""

    def __init__(self, logits: ArrayLike, tokens: Sequence[str], *, theme: Theme | None = None) -> None:
        self._logits, self._tokens = np.asarray(logits, dtype=float).ravel(), tokens
        box, self.number = labelled_slider("Temperature T (1: as it is)", 1.0, 0.25, 16.0, 0.02, log=True)
        self._said, self._picture = html(), html()
        self.view = temperature_view(self._logits, tokens, 1.0)
        super().__init__(
            [html(css(theme) + handles()), box, self._said, self._picture], layout={"width": "100%", "max_width": MOST}
        )
        self.add_class("dc-panel")
        self.number.observe(self._moved, "value")
        self._show()

    def _moved(self, change: dict[str, Any]) -> None:
        self.view = temperature_view(self._logits, self._tokens, change["new"])
        self._show()

    def _show(self) -> None:
        self._said.value = f'<p role="status">{escape(self.view.sentence)}</p>'
        self._picture.value = self.view.picture


def _picture(names: Sequence[str], values: Sequence[float], rest: float, said: str) -> str:
    rows = [*(repr(name)[1:-1].replace(" ", "␣") for name in names), "all others"]
    sizes = 100 * np.array([*values, rest])
    figure, ax = axes_of(WIDTH, ROW * len(rows) + 0.6, left=1.5, bottom=0.5)
    places = np.arange(len(rows))[::-1]
    ax.barh(places, sizes, height=0.66, color=[BLUE] * len(values) + [GREY])
    for place, size in zip(places, sizes, strict=True):
        ax.text(size + 0.8, place, f"{size:.2g}%" if size >= 0.01 else "0", va="center", fontsize=points(11), color=INK)
    ax.set_yticks(places, rows)
    ax.tick_params(axis="y", length=0)
    ax.set_xlim(0, 108)
    ax.set_xticks(range(0, 101, 20))
    ax.set_xlabel("probability of the next token [%]")
    return svg(figure, said, "temperature")
