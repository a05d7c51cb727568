"""The look: one colour for each option, themes, and pictures that take the page's ink."""

from __future__ import annotations

import re

import pytest

from distillcalc.decide.figures import COLOURS
from distillcalc.errors import InputError
from distillcalc.estimate.options import OPTIONS
from distillcalc.notebook import style


def luminance(colour: str) -> float:
    """Relative luminance of a colour, WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, WCAG 2.2: 1 to 21."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # the usual example of just too little


@pytest.mark.parametrize("theme", [style._LIGHT, style._DARK], ids=["light", "dark"])
def test_words_are_readable_in_both_themes(theme: dict[str, str]) -> None:
    for ink, paper in (
        ("ink", "paper"),
        ("grey", "paper"),
        ("grey", "raised"),
        ("ink", "amber-back"),
        ("ink", "good-back"),
        ("ink", "bad-back"),
        ("amber", "paper"),
        ("amber", "raised"),
        ("good", "paper"),
        ("bad", "paper"),
        ("link", "paper"),
    ):
        assert contrast(theme[ink], theme[paper]) >= 4.5, (ink, paper)


def test_every_option_has_a_colour_of_its_own() -> None:
    assert set(OPTIONS) <= set(COLOURS)
    assert len({style.colour(option) for option in OPTIONS}) == len(OPTIONS)


def test_a_theme_is_stated_or_follows_the_page() -> None:
    assert 'data-jp-theme-light="false"' in style.css()
    assert style._DARK["paper"] in style.css("dark")
    assert style._LIGHT["paper"] not in style.css("dark")
    with pytest.raises(InputError, match="theme is light or dark"):
        style.css("blue")  # type: ignore[arg-type]


def test_no_style_reaches_for_the_net() -> None:
    for css in (style.css(), style.css("light"), style.css("dark")):
        assert "url(" not in css
        assert "@import" not in css
        assert "http" not in css


def test_a_picture_takes_the_pages_ink_and_font_and_says_what_it_shows() -> None:
    figure, ax = style.axes_of(4, 2, left=0.5)
    ax.text(0.1, 0.5, "$5 to $7 & <b>", color=style.INK)
    ax.plot([0, 1], [0, 1], color=style.GREY)
    made = style.svg(figure, 'five to "seven"', "one")
    assert made.startswith('<figure class="dc-pic" role="img" aria-label="five to &quot;seven&quot;">')
    assert "$5 to $7 &amp; &lt;b&gt;" in made  # a dollar is a dollar, and no text is markup
    assert "var(--dc-ink)" in made
    assert "var(--dc-grey)" in made
    assert "font-family" not in made
    assert "<metadata" not in made
    assert not re.search(r'<svg[^>]* width="', made)  # as wide as its place


def test_the_same_figure_is_the_same_text_and_two_share_no_inner_names() -> None:
    def made(salt: str) -> str:
        figure, ax = style.axes_of(4, 2, left=0.5)
        ax.plot([0, 1], [0, 1])
        return style.svg(figure, "a line", salt)

    assert made("one") == made("one")
    names = [set(re.findall(r' id="([^"]+)"', made(salt))) for salt in ("one", "two")]
    assert names[0]
    assert not names[0] & names[1]
