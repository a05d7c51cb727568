"""How many requests a router sends on, and what that does to quality and to the month's bill.

A router was tried at many thresholds on items that nothing was chosen on; :func:`threshold_view` reads off one of them,
and :func:`threshold_panel` puts a slider before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import numpy as np

from distillcalc.decide.words import count, usd
from distillcalc.errors import InputError
from distillcalc.notebook.style import AMBER, GREY, INK, LINE, Theme, axes_of, css, points, svg
from distillcalc.notebook.twin import handles, html, labelled_slider
from distillcalc.route.bands import GRID

if TYPE_CHECKING:
    from distillcalc.route.bands import Bands
    from distillcalc.route.certificate import Certificate
    from distillcalc.route.fit import Fitted

BLUE, ORANGE = "#0072B2", "#D55E00"
MOST = "860px"  # so that on a wide page the picture's letters are as large as those around it
WIDTH, HEIGHT = 7.6, 3.7  # inches of the picture


@dataclass(frozen=True)
class ThresholdView:
    """A router at one threshold.

    Parameters
    ----------
    rate : share of requests that is sent on, at the threshold that was tried nearest to what was asked.
    threshold : below it a request is sent on, in the score's own units.
    quality, low, high : share of requests answered right, with its 95% interval.
    retention : of the teacher's quality.
    at_random : quality of sending on as many at random.
    usd_per_month, random_usd_per_month, student_usd_per_month, teacher_usd_per_month : of the router, of sending on as
        many at random, and of one model answering everything [USD]; nan where dollars are not known.
    certified : whether this threshold surely meets the router's goal.
    chosen : whether it is the router's own.
    sentence : all of it in words. table, picture : as HTML.
    """

    rate: float
    threshold: float
    quality: float
    low: float
    high: float
    retention: float
    at_random: float
    usd_per_month: float
    random_usd_per_month: float
    student_usd_per_month: float
    teacher_usd_per_month: float
    certified: bool
    chosen: bool
    sentence: str
    table: str
    picture: str


def threshold_view(bands: Bands, certificate: Certificate, rate: float, requests_per_month: float) -> ThresholdView:
    """What a router does where it sends on about so many requests.

    Parameters
    ----------
    bands : the router's curve on the certifying items (``Fitted.bands``).
    certificate : what was tried there (``Fitted.certificate``).
    rate : share of requests that is to be sent on, in [0, 1].
    requests_per_month : that the dollars are of.

    Raises
    ------
    InputError
        For a share beyond 0 and 1, or no requests.
    """
    if not 0 <= rate <= 1:
        raise InputError(f"the share sent on is between 0 and 1. Got {rate:g}")
    if not 0 < requests_per_month < float("inf"):
        raise InputError(f"requests_per_month must be above 0. Got {requests_per_month:g}")
    curve, tried = bands.curve, certificate.certifying
    place = int(np.argmin(np.abs(tried.escalation_rate - rate)))
    at = float(tried.escalation_rate[place])
    if certificate.chosen is not None and float(tried.escalation_rate[certificate.chosen]) == at:
        place = certificate.chosen  # of thresholds that send on as many, the router's own
    low, high = (float(np.interp(at, GRID, side)) for side in bands.quality_band)
    quality = float(tried.quality[place])
    month = float(tried.usd[place]) * requests_per_month
    found: dict[str, Any] = {
        "rate": at,
        "threshold": float(tried.thresholds[place, 0]),
        "quality": quality,
        "low": low,
        "high": high,
        "retention": quality / curve.teacher_quality if curve.teacher_quality > 0 else float("nan"),
        "at_random": curve.random_quality(at),
        "usd_per_month": month,
        "random_usd_per_month": curve.random_usd(at) * requests_per_month,
        "student_usd_per_month": curve.student_usd * requests_per_month,
        "teacher_usd_per_month": curve.teacher_usd * requests_per_month,
        "certified": bool(certificate.certified[place]),
        "chosen": place == certificate.chosen,
    }
    return ThresholdView(
        **found,
        sentence=_sentence(found),
        table=_table(found, bands, requests_per_month),
        picture=_picture(found, bands, certificate, requests_per_month),
    )


def threshold_panel(fitted: Fitted, requests_per_month: float, *, theme: Theme | None = None) -> ThresholdPanel:
    """A slider over a router's thresholds.

    Parameters
    ----------
    fitted : what :func:`~distillcalc.route.fit_router` gave.
    requests_per_month : that the dollars are of.
    theme : "light" or "dark"; left out, as the notebook is.

    Raises
    ------
    InputError
        For a chain of more than two models, which has no one threshold.
    """
    return ThresholdPanel(fitted, requests_per_month, theme=theme)


class ThresholdPanel(widgets.VBox):  # type: ignore[misc]
    """A router's threshold as a slider: verdict, numbers and picture follow it.

    Parameters
    ----------
    fitted, requests_per_month, theme : as of :func:`threshold_panel`.
    """

    def __init__(self, fitted: Fitted, requests_per_month: float, *, theme: Theme | None = None) -> None:
        if fitted.bands is None:
            raise InputError("a slider moves one threshold, and this router is a chain of more than two models")
        self._bands, self._certificate, self._requests = fitted.bands, fitted.certificate, requests_per_month
        chosen = fitted.certificate.chosen
        start = 0.0 if chosen is None else float(fitted.certificate.certifying.escalation_rate[chosen])
        box, self.number = labelled_slider("Sent on to the teacher [%]", round(100 * start, 1), 0, 100, 0.5)
        self._said, self._table, self._picture = html(), html(), html()
        self.view = threshold_view(self._bands, self._certificate, start, requests_per_month)
        super().__init__(
            [html(css(theme) + handles()), box, self._said, self._table, self._picture],
            layout={"width": "100%", "max_width": MOST},
        )
        self.add_class("dc-panel")
        self.number.observe(self._moved, "value")
        self._show()

    def _moved(self, change: dict[str, float]) -> None:
        self.view = threshold_view(self._bands, self._certificate, change["new"] / 100, self._requests)
        self._show()

    def _show(self) -> None:
        view = self.view
        tone = "good" if view.certified else "amber"
        self._said.value = _SAID.format(tone=tone, said=escape(view.sentence))
        self._table.value, self._picture.value = view.table, view.picture


def _sentence(found: dict[str, Any]) -> str:
    cost = found["usd_per_month"]
    dollars = "" if cost != cost else f"; {usd(cost)} a month instead of {usd(found['teacher_usd_per_month'])}"
    surely = "certified" if found["certified"] else "not certified"
    own = ", and what the router does" if found["chosen"] else ""
    return (
        f"{found['rate']:.1%} sent on: {found['quality']:.1%} right, {found['retention']:.1%} of the teacher’s"
        f"{dollars}; {surely}{own}."
    )


def _table(found: dict[str, Any], bands: Bands, requests: float) -> str:
    curve = bands.curve
    rows = [
        ("student alone", 0.0, curve.student_quality, found["student_usd_per_month"]),
        (f"this router (95%: {found['low']:.1%} to {found['high']:.1%} right)", found["rate"], found["quality"],
         found["usd_per_month"]),
        ("as many sent on at random", found["rate"], found["at_random"], found["random_usd_per_month"]),
        ("teacher alone", 1.0, curve.teacher_quality, found["teacher_usd_per_month"]),
    ]  # fmt: skip
    body = "".join(
        f'<tr{_BEST if i == 1 else ""}><td>{escape(name)}</td><td class="r">{rate:.1%}</td>'
        f'<td class="r">{quality:.1%}</td><td class="r">{"" if cost != cost else usd(cost)}</td></tr>'
        for i, (name, rate, quality, cost) in enumerate(rows)
    )
    return (
        '<table class="dc"><thead><tr><th scope="col">who answers</th><th scope="col" class="r">sent on</th>'
        f'<th scope="col" class="r">right</th><th scope="col" class="r">a month, {count(requests)} requests</th></tr>'
        f"</thead><tbody>{body}</tbody></table>"
    )


_BEST = ' class="dc-best"'
_SAID = (
    '<div role="status" style="border-left:6px solid var(--dc-{tone});background:var(--dc-{tone}-back);'
    "padding:8px 14px;border-radius:4px;margin:4px 0 8px;min-height:62px;box-sizing:border-box;font-size:16px;"
    'font-weight:600">{said}</div>'
)


def _picture(found: dict[str, Any], bands: Bands, certificate: Certificate, requests: float) -> str:
    curve = bands.curve
    scale = requests if curve.priced else 100.0
    across = curve.usd if curve.priced else curve.escalation_rate
    # One model alone is not judged first, and pays no other: the ends of a cascade's curve cost more than they do.
    ends = (curve.student_usd * scale, curve.teacher_usd * scale) if curve.priced else (0.0, 100.0)
    figure, ax = axes_of(WIDTH, HEIGHT, left=0.75, bottom=0.55, top=0.2)
    band = np.interp(GRID, curve.escalation_rate, across) * scale
    ax.fill_between(band, *(100 * bands.quality_band), color=BLUE, alpha=0.16, linewidth=0)
    ax.plot(ends, (100 * curve.student_quality, 100 * curve.teacher_quality), color=GREY, linewidth=1.2, linestyle="--")
    ax.plot(across * scale, 100 * curve.quality, color=BLUE, linewidth=1.8)
    here = (float(np.interp(found["rate"], curve.escalation_rate, across)) * scale, 100 * found["quality"])
    ax.axvline(here[0], color=LINE, linewidth=1, zorder=1)
    ax.plot(*here, "o", color=INK if found["certified"] else AMBER, markersize=9, zorder=5)
    if certificate.chosen is not None:
        rate = float(certificate.certifying.escalation_rate[certificate.chosen])
        own = float(np.interp(rate, curve.escalation_rate, across)) * scale
        ax.plot(own, 100 * curve.quality_at(rate), "D", color=ORANGE, markersize=6, zorder=6)
    _named(ax, ends, curve.student_quality, curve.teacher_quality)
    ax.set_ylabel("answered right [%]")
    ax.set_xlabel("dollars a month [USD]" if curve.priced else "sent on to the teacher [%]")
    if curve.priced:
        ax.xaxis.set_major_formatter(lambda x, _: "$0" if x == 0 else usd(x))
    ax.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
    low, high = float(bands.quality_band.min()), float(bands.quality_band.max())
    room = 0.12 * (high - low) or 0.05
    ax.set_ylim(100 * (low - room), 100 * (high + room))
    said = (
        f"Quality over dollars: {found['rate']:.1%} sent on, {found['quality']:.1%} right. The line rises from the "
        f"student alone, {curve.student_quality:.1%}, to the teacher alone, {curve.teacher_quality:.1%}."
    )
    return svg(figure, said, "threshold") + _legend(certificate)


def _named(ax: Any, ends: Sequence[float], student: float, teacher: float) -> None:
    small = points(11)
    ax.plot(ends, (100 * student, 100 * teacher), "s", color=GREY, markersize=5, zorder=4)
    ax.annotate(
        "student alone", (ends[0], 100 * student), (8, -14), textcoords="offset points", fontsize=small, color=INK
    )
    ax.annotate(
        "teacher alone", (ends[1], 100 * teacher), (-6, -14), textcoords="offset points", fontsize=small, color=INK,
        ha="right",
    )  # fmt: skip


def _legend(certificate: Certificate) -> str:
    own = (
        f'<span style="color:{ORANGE}">&#9670;</span> the router&rsquo;s own threshold; '
        if certificate.chosen is not None
        else ""
    )
    return (
        f'<p class="dc-note"><span style="color:{BLUE}">&#9644;</span> the router, with its 95% band; '
        f"&#9679; where the slider is (amber: not certified); {own}- - at random. "
        f"Certified is what holds on new requests: {escape(str(certificate.goal))}.</p>"
    )
