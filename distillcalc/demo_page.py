"""A page of HTML that needs nothing but itself: escaped text, tables, tiles, pictures and one style sheet.

What is a plain ``str`` is text and gets escaped; what is :class:`Markup` is HTML that was made here.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

NARROW_PX = 640  # of a screen: below it, narrow pictures are shown, and rows of tables become cards

STYLE = """
:root { --ink: #1f2933; --soft: #5b6770; --line: #d9dee3; --ground: #f5f7f9; --accent: #0072b2; color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); line-height: 1.55;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; font-size: 16px; }
main, footer { max-width: 940px; margin: 0 auto; padding: 0 28px; }
header { padding: 44px 0 6px; }
.kicker { color: var(--soft); font-size: .9rem; margin: 0 0 18px; }
.question { font-size: 1.05rem; margin: 0 0 6px; color: var(--soft); }
h1 { font-size: 2rem; line-height: 1.22; margin: 0 0 16px; letter-spacing: -.012em; text-wrap: balance; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 0 0 10px; letter-spacing: -.005em; }
h2 .number { color: var(--accent); margin-right: .5em; font-variant-numeric: tabular-nums; }
h3 { font-size: 1rem; margin: 26px 0 6px; }
p { margin: 0 0 12px; max-width: 72ch; }
ul { margin: 0 0 12px; padding-left: 1.2em; max-width: 72ch; }
li { margin-bottom: 6px; }
section { border-top: 1px solid var(--line); padding: 30px 0 20px; }
.lead { font-size: 1.15rem; }
.note { border-left: 4px solid var(--accent); background: var(--ground); padding: 12px 16px; margin: 18px 0; }
.note p { margin: 0 0 8px; max-width: none; }
.note p:last-child { margin: 0; }
.tiles { display: grid; grid-template-columns: 1fr 1fr; gap: 14px; margin: 22px 0 34px; }
.tile { border: 1px solid var(--line); border-radius: 8px; padding: 14px 18px 12px; }
.tile h3 { margin: 0 0 8px; font-size: .9rem; color: var(--soft); font-weight: 600; }
.pair { display: grid; grid-template-columns: 1fr 1fr; grid-template-rows: auto auto auto; column-gap: 18px; }
.side { display: grid; grid-row: span 3; grid-template-rows: subgrid; }
.side .who { align-self: end; }
.side .who { font-size: .84rem; color: var(--soft); }
.side .value { font-size: 1.6rem; line-height: 1.25; font-weight: 650; font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere; }
.side.accent .value { color: var(--accent); }
.side .more { font-size: .84rem; color: var(--soft); }
.tile .below { font-size: .84rem; color: var(--soft); margin: 10px 0 0; padding-top: 8px;
  border-top: 1px solid var(--line); }
figure { margin: 16px 0 20px; }
figure img { display: block; width: 100%; height: auto; }
figcaption { font-size: .88rem; color: var(--soft); margin-top: 6px; max-width: 78ch; }
table { border-collapse: collapse; width: 100%; margin: 12px 0 20px; font-size: .93rem; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: .84rem; vertical-align: bottom; }
th, td { padding: 7px 14px 7px 0; border-bottom: 1px solid var(--line); }
td { vertical-align: top; overflow-wrap: break-word; }
th:last-child, td:last-child { padding-right: 0; }
th.figure, td.figure { text-align: right; font-variant-numeric: tabular-nums; }
td.figure { white-space: nowrap; }
td.figure small { display: block; }
table.cards td:first-child { min-width: 12.5em; }
td.short { white-space: nowrap; }
tr.chosen td { background: #eaf3f9; }
tr.chosen td:first-child { box-shadow: inset 4px 0 0 var(--accent); padding-left: 12px; }
tr.chosen td:last-child { padding-right: 10px; }
small { color: var(--soft); font-size: .86em; font-weight: 400; overflow-wrap: anywhere; line-height: 1.35; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 5px 20px; margin: 12px 0 18px; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
footer { border-top: 1px solid var(--line); padding-top: 16px; padding-bottom: 44px; color: var(--soft);
  font-size: .88rem; }
a { color: var(--accent); }
@media (max-width: 640px) {
  main, footer { padding-left: 18px; padding-right: 18px; }
  header { padding-top: 26px; }
  h1 { font-size: 1.5rem; }
  .tiles { grid-template-columns: 1fr; }
  .side .value { font-size: 1.4rem; }
  table.cards thead { position: absolute; left: -9999px; }
  table.cards, table.cards tbody, table.cards tr, table.cards td { display: block; width: 100%; }
  table.cards tr { border-bottom: 1px solid var(--line); padding: 10px 0; }
  table.cards td, table.cards td.figure { border: 0; padding: 2px 0 2px 41%; text-align: left; white-space: normal;
    position: relative; min-height: 1.5em; }
  table.cards td:first-child { padding-left: 0; font-weight: 600; min-width: 0; }
  td.figure small { display: inline; margin-left: .5em; }
  table.cards td:not(:first-child)::before { content: attr(data-label); position: absolute; left: 0; width: 38%;
    color: var(--soft); font-size: .84rem; }
  table.cards tr.chosen { background: #eaf3f9; box-shadow: inset 4px 0 0 var(--accent); padding: 10px 12px; }
  table.cards tr.chosen td:first-child { box-shadow: none; padding-left: 0; }
  table.cards td:empty { display: none; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: 8px; }
}
@media print {
  body { font-size: 10.5pt; }
  main, footer { max-width: none; padding: 0; }
  header { padding-top: 0; }
  section { padding: 16pt 0 8pt; }
  figure, .tile, .note, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  tr.chosen td, .note { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


class Markup(str):
    """HTML that was made here, with everything from outside escaped."""

    __slots__ = ()


@dataclass(frozen=True)
class Side:
    """One half of a tile: who, the number, what it means, and whether it is what the report is about."""

    who: str
    value: str
    more: str = ""
    accent: bool = False


@dataclass(frozen=True)
class Picture:
    """A figure as SVG, drawn once for a page and once for a phone, with words for who cannot see it."""

    wide: bytes
    narrow: bytes
    alt: str
    caption: str = ""


def text(value: str) -> Markup:
    """A text, escaped, without characters that break lines or turn the writing round; HTML stays as it is."""
    if isinstance(value, Markup):
        return value
    clean = "".join(c if c.isprintable() else " " for c in value)
    inner = escape(" ".join(clean.split()))
    return Markup(f"{' ' * clean[:1].isspace()}{inner}{' ' * (bool(inner) and clean[-1:].isspace())}")


def join(*parts: str) -> Markup:
    """Parts one after the other."""
    return Markup("".join(text(part) for part in parts))


def tag(name: str, *parts: str, css: str = "") -> Markup:
    """An element with the parts in it."""
    opening = f'{name} class="{escape(css)}"' if css else name
    return Markup(f"<{opening}>{join(*parts)}</{name}>")


def paragraphs(*sentences: str, css: str = "") -> Markup:
    """A paragraph of each; none of what is empty."""
    return Markup("\n".join(tag("p", one, css=css) for one in sentences if one))


def bullets(sentences: Iterable[str]) -> Markup:
    """A list; nothing where there are none."""
    items = [tag("li", one) for one in sentences if one]
    return tag("ul", *items) if items else Markup("")


def section(number: int, title: str, *parts: str) -> Markup:
    """A numbered part of the page."""
    head = tag("h2", tag("span", str(number), css="number"), title)
    inner = "\n".join([head, *(text(part) for part in parts if part)])
    return Markup(f'<section id="part-{number}">\n{inner}\n</section>')


def tile(title: str, sides: tuple[Side, Side], below: str = "") -> Markup:
    """Two numbers beside each other."""

    def half(side: Side) -> Markup:
        parts = tag("div", side.who, css="who"), tag("div", side.value, css="value"), tag("div", side.more, css="more")
        return tag("div", *parts, css="side accent" if side.accent else "side")

    both = tag("div", *map(half, sides), css="pair")
    return tag("div", tag("h3", title), both, tag("p", below, css="below") if below else "", css="tile")


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, figures: Iterable[int] = (), chosen: int | None = None
) -> Markup:
    """A table; on a phone each row is a card.

    Parameters
    ----------
    head : names of the columns.
    rows : cells.
    figures : columns of numbers, which stand to the right.
    chosen : the row to mark.
    """
    right = set(figures)

    def css(column: int) -> str:
        return ' class="figure"' if column in right else ""

    names = "".join(f'<th scope="col"{css(i)}>{text(name)}</th>' for i, name in enumerate(head))
    body = []
    for place, row in enumerate(rows):
        cells = "".join(
            f'<td{css(i)} data-label="{text(name)}">{text(cell)}</td>'
            for i, (name, cell) in enumerate(zip(head, row, strict=True))
        )
        opening = '<tr class="chosen">' if place == chosen else "<tr>"
        body.append(f"{opening}{cells}</tr>")
    inner = "\n".join(body)
    if not body:
        return Markup("")
    return Markup(f'<table class="cards"><thead><tr>{names}</tr></thead>\n<tbody>{inner}</tbody></table>')


def picture(drawn: Picture | None) -> Markup:
    """A figure with its caption; nothing where there is none."""
    if drawn is None:
        return Markup("")

    def data(svg: bytes) -> str:
        return "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")

    caption = tag("figcaption", drawn.caption) if drawn.caption else ""
    return Markup(
        f'<figure><picture><source media="(max-width: {NARROW_PX}px)" srcset="{data(drawn.narrow)}">'
        f'<img src="{data(drawn.wide)}" alt="{text(drawn.alt)}"></picture>{caption}</figure>'
    )


def facts(pairs: Iterable[tuple[str, str]]) -> Markup:
    """Names and what they are; those without a value are left out."""
    return tag("dl", *(join(tag("dt", name), tag("dd", value)) for name, value in pairs if value))


def page(title: str, body: Iterable[str], footer: str) -> str:
    """The whole file."""
    inner = "\n".join(text(part) for part in body)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{inner}\n</main>\n"
        f"<footer>{text(footer)}</footer>\n</body>\n</html>\n"
    )
