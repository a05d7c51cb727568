"""How the panel looks: colours, sizes and themes, for its text and its pictures alike.

Pictures are drawn by matplotlib as SVG whose ink is the colour of the text around it, so one picture serves a light
and a dark theme, at any width, and blinks nowhere.
"""

from __future__ import annotations

import io
import re
from html import escape
from typing import TYPE_CHECKING, Literal, get_args

from distillcalc.decide.figures import COLOURS
from distillcalc.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = get_args(Theme)

FONT_PX = 13.0  # of the text in a picture, at the width that it is drawn for
WIDTH, HEIGHT = 4.7, 3.3  # inches that a picture is drawn for
_INK, _GREY, _LINE, _PAPER, _AMBER = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"  # stand for what a theme has
_VARIABLES = {
    _INK: "var(--dc-ink)",
    _GREY: "var(--dc-grey)",
    _LINE: "var(--dc-line)",
    _PAPER: "var(--dc-paper)",
    _AMBER: "var(--dc-amber)",
}
INK, GREY, LINE, PAPER, AMBER = _VARIABLES

_LIGHT = {
    "ink": "#1a1a1a",
    "grey": "#5c5c5c",
    "line": "#d0d0d0",
    "paper": "#ffffff",
    "raised": "#f4f5f7",
    "amber": "#8a5300",
    "amber-back": "#fff4d6",
    "good": "#00664d",
    "good-back": "#e3f4ee",
    "bad": "#a32100",
    "bad-back": "#fdeae5",
    "link": "#005a94",
}
_DARK = {
    "ink": "#ececec",
    "grey": "#a8a8a8",
    "line": "#4a4a4a",
    "paper": "#151515",
    "raised": "#232426",
    "amber": "#ffc764",
    "amber-back": "#3a2c0d",
    "good": "#5fd3ae",
    "good-back": "#10332a",
    "bad": "#ff9b80",
    "bad-back": "#40180f",
    "link": "#7cc4f5",
}

_RULES = """
.dc-panel { color: var(--dc-ink); background: var(--dc-paper); padding: 8px; box-sizing: border-box; }
.dc-panel, .dc-panel .widget-html-content, .dc-panel .jupyter-widgets, .dc-panel input, .dc-panel select {
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
.dc-panel .widget-html, .dc-panel .widget-html-content { height: auto; width: 100%; margin: 0; line-height: 1.4;
  color: var(--dc-ink); font-size: 14px; overflow: visible; }
.dc-panel .widget-label, .dc-panel .widget-readout { color: var(--dc-ink); }
.dc-panel h3 { font-size: 15px; font-weight: 600; margin: 14px 0 4px; color: var(--dc-ink); }
.dc-panel h4 { font-size: 13px; font-weight: 600; margin: 10px 0 2px; color: var(--dc-grey); }
.dc-panel p { margin: 2px 0 6px; }
.dc-panel a { color: var(--dc-link); }
.dc-panel input:focus-visible, .dc-panel button:focus-visible, .dc-panel select:focus-visible,
.dc-panel textarea:focus-visible, .dc-panel .noUi-handle:focus-visible, .dc-panel [tabindex]:focus-visible {
  outline: 2px solid var(--dc-link); outline-offset: 2px; }
.dc-verdict { border-left: 6px solid var(--dc-good); background: var(--dc-good-back); padding: 10px 14px;
  border-radius: 4px; height: 120px; overflow: auto; box-sizing: border-box; }
.dc-verdict b { display: block; font-size: 19px; line-height: 1.25; font-weight: 650; margin-bottom: 4px; }
.dc-verdict.dc-unsure { border-color: var(--dc-amber); background: var(--dc-amber-back); }
.dc-verdict.dc-none { border-color: var(--dc-bad); background: var(--dc-bad-back); }
.dc-tag { display: inline-block; font-size: 12px; font-weight: 600; border: 1px solid currentColor; border-radius: 9px;
  padding: 0 8px; margin-right: 8px; white-space: nowrap; }
.dc-dim { opacity: 0.45; transition: opacity 0.15s; }
.dc-panel .dc-said { min-height: 40px; max-height: 64px; overflow: auto; box-sizing: border-box; padding: 4px 0; }
.dc-panel .dc-error { border-left: 6px solid var(--dc-bad); background: var(--dc-bad-back); padding: 4px 12px;
  border-radius: 4px; white-space: pre-wrap; font-size: 13px; line-height: 1.3; }
.dc-note { color: var(--dc-grey); font-size: 12px; line-height: 1.25; }
.dc-control .dc-note { height: 15px; }
.dc-panel .dc-handle { height: 20px; margin: 0; }
.dc-panel .dc-number { height: auto; min-height: 26px; margin: 0; }
.dc-panel .dc-number > input { height: 26px; }
.dc-note.dc-amber, .dc-amber { color: var(--dc-amber); }
.dc-panel table.dc { border-collapse: collapse; width: 100%; font-size: 13px; background: transparent; }
.dc-panel table.dc th { text-align: left; font-weight: 600; color: var(--dc-grey); padding: 3px 8px;
  border-bottom: 1px solid var(--dc-line); vertical-align: bottom; background: transparent; }
.dc-panel table.dc td { padding: 4px 8px; border-bottom: 1px solid var(--dc-line); vertical-align: top;
  text-align: left; background: transparent; color: var(--dc-ink); white-space: normal; overflow-wrap: anywhere; }
.dc-panel table.dc td.r { white-space: nowrap; }
.dc-panel table.dc td.dc-pass, .dc-panel table.dc td.dc-fail, .dc-panel table.dc td.dc-unknown { white-space: nowrap; }
.dc-panel table.dc .r { text-align: right; font-variant-numeric: tabular-nums; }
.dc-panel table.dc tr.dc-best td { font-weight: 650; background: var(--dc-raised); }
.dc-panel table.dc tr.dc-out td { color: var(--dc-grey); }
.dc-swatch { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 6px; }
.dc-sub { display: block; font-weight: 400; font-size: 12px; color: var(--dc-grey); }
.dc-panel table.dc td.dc-name { width: 40%; min-width: 210px; max-width: 0; }
.dc-clip { display: block; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.dc-n.dc-why { display: block; border-bottom: 0; font-size: 12px; font-weight: 400; }
.dc-n.dc-why > .dc-tip { left: 0; right: auto; }
.dc-n { position: relative; cursor: help; border-bottom: 1px dotted var(--dc-grey); }
.dc-n.dc-old { border-bottom: 2px solid var(--dc-amber); color: var(--dc-amber); }
.dc-n > .dc-tip { position: absolute; visibility: hidden; z-index: 20; top: 1.7em; right: 0;
  width: 380px; max-width: 60vw;
  text-align: left; white-space: normal; font-size: 12px; font-weight: 400; line-height: 1.4; padding: 8px 10px;
  color: var(--dc-ink); background: var(--dc-paper); border: 1px solid var(--dc-grey); border-radius: 4px;
  box-shadow: 0 3px 12px rgba(0, 0, 0, 0.35); overflow-wrap: anywhere; }
.dc-n:hover > .dc-tip, .dc-n:focus > .dc-tip { visibility: visible; }
.dc-tip i { font-style: normal; display: block; margin-top: 3px; }
.dc-scroll { overflow: auto; border: 1px solid var(--dc-line); border-radius: 4px; padding: 2px 8px;
  box-sizing: border-box; }
.dc-pic svg { display: block; width: 100%; height: auto; }
.dc-pic { margin: 0; }
.dc-pass { color: var(--dc-good); } .dc-fail { color: var(--dc-bad); } .dc-unknown { color: var(--dc-amber); }
.dc-panel ol, .dc-panel ul { margin: 2px 0; padding-left: 22px; }
.dc-panel li { margin: 3px 0; }
.dc-control { border: 0; }
.dc-panel .dc-number input { text-align: right; font-variant-numeric: tabular-nums; }
.dc-panel .dc-number > label { width: auto; flex: 1 1 auto; text-align: left; font-size: 13px; white-space: normal;
  line-height: 1.2; height: auto; overflow: visible; }
.dc-panel .dc-number > input { flex: 0 0 104px; width: 104px; }
.dc-panel input, .dc-panel select, .dc-panel textarea { color: var(--dc-ink); background-color: var(--dc-paper);
  border: 1px solid var(--dc-grey); }
.dc-panel .jupyter-button { color: var(--dc-ink); background: var(--dc-raised); border: 1px solid var(--dc-grey);
  border-radius: 3px; }
.dc-panel .noUi-target { background: var(--dc-line); border: 0; box-shadow: none; }
.dc-panel .noUi-connect, .dc-panel .noUi-connects { background: transparent; }
.dc-panel .noUi-handle { background: var(--dc-link); border: 2px solid var(--dc-paper);
  box-shadow: 0 0 0 1px var(--dc-link); }
"""


def css(theme: Theme | None = None) -> str:
    """The style sheet of a panel, as a ``<style>`` element.

    Parameters
    ----------
    theme : "light" or "dark"; left out, as the page around it says it is (JupyterLab, Notebook 7, Voila, VS Code), else
        light.

    Raises
    ------
    InputError
        For another theme.
    """
    if theme is not None and theme not in THEMES:
        raise InputError(f"theme is {' or '.join(THEMES)}, or left out to follow the page. Got {theme!r}")
    if theme is not None:
        colours = _block(".dc-panel", _DARK if theme == "dark" else _LIGHT)
    else:
        dark = ('body[data-jp-theme-light="false"]', 'html[theme="dark"]', "body.theme-dark", "body.vscode-dark")
        colours = _block(".dc-panel", _LIGHT) + "".join(_block(f"{one} .dc-panel", _DARK) for one in dark)
    return f"<style>{colours}{_RULES}</style>"


def _block(selector: str, colours: dict[str, str]) -> str:
    """The colours of a theme; the browser draws its own arrows and bars to match."""
    scheme = "dark" if colours is _DARK else "light"
    variables = " ".join(f"--dc-{name}: {value};" for name, value in colours.items())
    return f"{selector} {{ color-scheme: {scheme}; {variables} }}\n"


def colour(option: str) -> str:
    """The colour of an option, the same wherever it is drawn (Okabe and Ito's)."""
    return COLOURS.get(option, GREY)


def axes_of(width: float, height: float, left: float, bottom: float = 0.5, top: float = 0.12) -> tuple[Figure, Axes]:
    """A figure with one pair of axes in the panel's style.

    Parameters
    ----------
    width, height : of the figure [inches].
    left, bottom, top : room for words beside the axes [inches].
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((left / width, bottom / height, 1 - (left + 0.2) / width, 1 - (bottom + top) / height))
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.tick_params(colors=GREY, labelcolor=INK, labelsize=points(FONT_PX - 1), length=3)
    axes.xaxis.label.set_color(GREY)
    axes.xaxis.label.set_fontsize(points(FONT_PX - 1))
    axes.yaxis.label.set_color(GREY)
    axes.yaxis.label.set_fontsize(points(FONT_PX - 1))
    return figure, axes


def points(pixels: float) -> float:
    """A font size in matplotlib's points of one that is meant in the pixels of a page (96 to the inch)."""
    return pixels * 0.75


def svg(figure: Figure, said: str, salt: str) -> str:
    """A figure as an inline picture that takes the theme's colours and the page's font.

    Parameters
    ----------
    figure : drawn with the colours of this module.
    said : what it shows, for those who cannot see it.
    salt : tells its inner names from those of the other pictures on the page.
    """
    import matplotlib as mpl
    from matplotlib.text import Text

    for words in figure.findobj(Text):
        words.set_parse_math(False)  # a dollar is a dollar
    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"\*\{stroke-linejoin: round; stroke-linecap: butt\}", "", text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    for placeholder, variable in _VARIABLES.items():
        text = text.replace(placeholder, variable)
    text = re.sub(r">\s+<", "><", text)
    text = text.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)
    return f'<figure class="dc-pic" role="img" aria-label="{escape(said)}">{text}</figure>'
