"""Hard conditions that do not depend on an option's own arithmetic: terms, privacy, region, retirement, context."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distillcalc.calendar import add_months
from distillcalc.catalog import Catalog, TermsRow, makers
from distillcalc.catalog.schema import Verdict
from distillcalc.estimate.outcome import FAIL, PASS, UNKNOWN, GateResult, at
from distillcalc.workload.scenario import Use

if TYPE_CHECKING:
    from distillcalc.estimate.inputs import Inputs

Floats = NDArray[np.float64]

COMMON_WINDOW = 8_192  # tokens that any model offered today takes
LONG_REQUEST_SHARE = 0.001  # more than one request in a thousand beyond the window is a failure
ROUNDING = 1e-6  # share of a limit that rounding may add where a fleet was sized to meet it exactly


STRICTER = {"fail": 0, "unknown": 1, "pass": 2}


def terms_rows(catalog: Catalog, teacher: str, stays_at: str | None = None) -> list[tuple[str, TermsRow]]:
    """The terms that govern training on a teacher's outputs: the model's own, its maker's, its provider's API.

    A student that ``stays_at`` its teacher's maker, as a fine-tune of the maker's own, has the terms of that
    service where there are any.
    """
    if stays_at is not None and stays_at == makers.maker(teacher):
        tuning = [
            (name, row)
            for name, row in catalog.terms.items()
            if row.provider == stays_at and row.surface == "fine-tuning"
        ]
        if tuning:
            return tuning
    found = catalog.model_of(teacher)
    names = [found[1].terms] if found and found[1].terms else []
    providers = {makers.maker(teacher), teacher.split("/", 1)[0]} if not names else {teacher.split("/", 1)[0]}
    own = found[1].kind == "open" if found else False  # open weights at a host: the licence governs, not the host
    for name, row in catalog.terms.items():
        governs = row.provider in providers and row.surface == "api" and row.superseded_by is None
        if governs and not own and name not in names:
            names.append(name)
    return [(name, catalog.terms[name]) for name in names]


def _case(use: Use, row: TermsRow) -> tuple[str, Verdict]:
    """Which case of the terms the stated use is, and their verdict on it."""
    competes = use.competes_with_teacher
    if use.kind in ("classifier", "embedding") and not use.distributed:
        case = "a classifier or embedding that is not distributed"
        if competes and row.competing != "pass":
            return f"{case}, but competes", min(row.private_classifier, "unknown", key=STRICTER.__getitem__)
        return case, row.private_classifier
    if competes:
        return "a student that competes", row.competing
    if use.distributed and use.kind == "generative":
        verdict = row.not_competing if competes is False else row.competing
        return "a generative student that is distributed", (
            verdict if row.competing == "pass" else min(verdict, "unknown", key=STRICTER.__getitem__)
        )
    if competes is False:
        return "a student that does not compete", row.not_competing
    case = "a student of which [use] does not say whether it competes"
    return case, row.competing if row.competing == row.not_competing else "unknown"


@dataclass(frozen=True)
class JudgedTerms:
    """Every row of terms that applies, the case that the use is in each, and the strictest verdict in words."""

    rows: tuple[tuple[str, TermsRow, str, Verdict], ...]
    verdict: Verdict
    detail: str
    source: str = ""


def judge_terms(catalog: Catalog, teacher: str, use: Use, stays_at: str | None = None) -> JudgedTerms:
    """What the teacher's terms say of training a student on its outputs for a use.

    Where several terms apply (a model resold by a provider with terms of its own) the strictest counts.
    """
    rows = terms_rows(catalog, teacher, stays_at)
    if not rows:
        return JudgedTerms(
            (), "unknown", f"the catalog has no terms for {teacher}: read them, then add a row to [overrides.terms]"
        )
    judged = tuple((name, row, *_case(use, row)) for name, row in rows)
    name, row, case, verdict = min(judged, key=lambda found: STRICTER[found[3]])
    words = {"pass": "allowed", "fail": "prohibited", "unknown": "unclear, ask the provider"}[verdict]
    if verdict == "unknown" and use.competes_with_teacher is None and row.not_competing != "unknown":
        words = "depends on it: set competes_with_teacher in [use]"
    detail = f"{case}: {words}. {row.says}"
    if verdict == "pass" and row.requirements:
        detail += f" Required: {row.requirements}"
    return JudgedTerms(judged, verdict, detail, f"{name}: {row.source}, checked {row.checked.isoformat()}")


def terms_gate(x: Inputs, catalog: Catalog, teacher: str, stays_at: str | None = None) -> GateResult:
    """Whether the teacher's terms let a student be trained on its outputs for the scenario's use."""
    judged = judge_terms(catalog, teacher, x.scenario.use, stays_at)
    return GateResult.of("terms", judged.verdict, judged.detail, judged.source)


def strictest(found: Iterable[GateResult | None]) -> GateResult | None:
    """Of several gates, in each scenario the one that holds back most; None where there is none."""
    gates = [gate for gate in found if gate is not None]
    if len(gates) < 2:
        return gates[0] if gates else None
    codes = np.stack(np.broadcast_arrays(*(gate.code for gate in gates)))
    worst = np.argmin(codes, axis=0)
    return GateResult(gates[0].name, codes.min(axis=0), lambda i: gates[int(at(worst, i))].detail(i), gates[0].source)


def from_day(x: Inputs, gate: GateResult | None, day: date) -> GateResult | None:
    """A gate that only matters where the horizon reaches a day: it passes where it does not."""
    if gate is None:
        return None
    return GateResult(gate.name, np.where(x.ends_after(day), gate.code, PASS).astype(np.int8), gate.detail, gate.source)


def privacy_gate(x: Inputs, *, external: str = "", labels_from: str = "") -> GateResult | None:
    """Whether texts stay on machines that the team controls; None where the workload is not private.

    Parameters
    ----------
    external : the API that serving sends texts to, if any.
    labels_from : the API that labelling sends training prompts to, if any.
    """
    if not x.scenario.workload.private:
        return None
    if external:
        return GateResult.of("privacy", "fail", f"every request leaves for {external}, and the workload is private")
    inputs = x.scenario.choices.distillation.inputs
    if labels_from and inputs == "live":
        return GateResult.of(
            "privacy",
            "fail",
            f"labelling sends live prompts to {labels_from}. Train on cleared or synthetic inputs "
            "(inputs in [choices.distillation])",
        )
    if labels_from:
        return GateResult.of("privacy", "pass", f"served at home; only {inputs} prompts go to {labels_from} for labels")
    return GateResult.of("privacy", "pass", "no text leaves the machines you control")


def region_gate(x: Inputs, catalog: Catalog, ref: str) -> GateResult | None:
    """Whether an API is known to keep data in the region asked for; None where none is asked for."""
    region = x.scenario.workload.region
    if region is None:
        return None
    api = catalog.api(ref)
    if api is None or not api.regions:
        return GateResult.of(
            "region", "unknown", f"the catalog does not know where {ref} keeps data; asked for {region}"
        )
    known = ", ".join(api.regions)
    inside = region.lower() in {name.lower() for name in api.regions}
    return GateResult.of(
        "region", "pass" if inside else "fail", f"{ref} is offered in {known}; asked for {region}", api.source
    )


def machine_region_gate(
    x: Inputs, wheres: Sequence[tuple[str, str | None]], chosen: NDArray[np.intp]
) -> GateResult | None:
    """Whether the machines chosen stand in the region asked for; None where none is asked for.

    ``wheres`` are the provider and the region of each offer; ``chosen`` which offer each scenario takes,
    shape (n or 1, 1). Offers known to stand elsewhere are not taken in the first place.
    """
    asked = x.scenario.workload.region
    if asked is None:
        return None
    verdicts = np.array([PASS if region is not None else UNKNOWN for _, region in wheres], dtype=np.int8)

    def detail(i: int) -> str:
        provider, region = wheres[int(at(chosen, i))]
        if region is not None:
            return f"the machines of {provider} stand in {region}; asked for {asked}"
        return f"where the machines of {provider} stand is not in the catalog; asked for {asked}: rent them there"

    return GateResult("region", verdicts[chosen], detail)


def labelling_region_gate(x: Inputs, catalog: Catalog, teacher: str) -> GateResult | None:
    """Whether live prompts stay in the region while they are labelled; None where none leave or none is asked for."""
    if x.scenario.choices.distillation.inputs != "live":
        return None
    gate = region_gate(x, catalog, teacher)
    return (
        None if gate is None else GateResult("region", gate.code, lambda i: f"labelling: {gate.detail(i)}", gate.source)
    )


def retirement_gate(x: Inputs, catalog: Catalog, ref: str, *, migrates: bool = False) -> GateResult | None:
    """Whether a hosted model lives through the horizon; None where no end is announced."""
    end = catalog.shutdown(ref)
    if end is None:
        return None
    inside = x.ends_after(end.on)
    if not inside.any():
        return None
    chain = catalog.successors(ref, x.last_day)
    moves = migrates and bool(chain)
    code = np.where(inside & (not moves), FAIL, PASS).astype(np.int8)
    steps = ", then ".join(f"{model} from {day.isoformat()}" for day, model in chain)
    successor = f"; migrates to {steps}" if moves else f"; named successor {end.replacement}" if end.replacement else ""

    def detail(i: int) -> str:
        last = add_months(x.scenario.workload.start, int(at(x["horizon_months"], i)))
        if end.on < x.scenario.workload.start:
            return f"{ref} shut down on {end.on.isoformat()}, before the start{successor}"
        if not at(inside, i):
            return f"{ref} shuts down on {end.on.isoformat()}, after the horizon (to {last.isoformat()})"
        return f"{ref} shuts down on {end.on.isoformat()}, inside the horizon (to {last.isoformat()}){successor}"

    return GateResult("retirement", code, detail, f"{end.source}, checked {end.checked.isoformat()}")


def context_gate(x: Inputs, window: int | None, name: str, lengths_of: str = "teacher") -> GateResult | None:
    """Whether requests fit the model's context window.

    Fails where more than one request in a thousand has an input longer than the window less a p95 answer. A
    window that nobody knows is unknown where requests are long enough for it to matter, else None.
    """
    lengths = x.lengths if lengths_of == "teacher" else x.student_lengths
    thinking = x["reasoning_tokens"] if lengths_of == "teacher" else x["student_reasoning_tokens"]
    needed = lengths.input_quantile(1 - LONG_REQUEST_SHARE) + lengths.output_quantile(0.95) + thinking
    if window is None:
        if not (needed > COMMON_WINDOW).any():
            return None
        code = np.where(needed > COMMON_WINDOW, UNKNOWN, PASS).astype(np.int8)
        return GateResult(
            "context", code, lambda i: f"the window of {name} is not known; needed {at(needed, i):,.0f} tokens"
        )
    code = np.where(needed <= window, PASS, FAIL).astype(np.int8)

    def detail(i: int) -> str:
        return f"{name} takes {window:,} tokens; p99.9 input and p95 output need {at(needed, i):,.0f}"

    return GateResult("context", code, detail)


def slo_gate(
    x: Inputs,
    latency: dict[str, Floats],
    source: str,
    floors: dict[str, Floats] | None = None,
    *,
    at_least: dict[str, Floats] | None = None,
    to_do: str = "",
    missed: str = "",
) -> GateResult | None:
    """Whether estimated latencies meet every objective; None where none is set.

    ``at_least`` are bounds from below for what is unknown: an objective that even they break is failed.

    ``to_do`` says why a figure is not known and how to give it; it is shown where one is not. ``missed`` is shown
    where an objective is missed.

    ``latency`` holds a figure for each (what, percentile) asked, in seconds, nan where unknown, shape (n, 1).
    """
    objectives = x.scenario.workload.slo.objectives()
    if not objectives:
        return None
    code = np.full((1, 1), PASS, dtype=np.int8)
    for what, level, limit in objectives:
        value = latency[f"{what}_p{round(level * 100)}"]
        most = limit * (1 + ROUNDING)
        unknown = np.isnan(value)
        judged = np.where(unknown, UNKNOWN, np.where(value <= most, PASS, FAIL))
        if at_least is not None:
            judged = np.where(unknown & (at_least[f"{what}_p{round(level * 100)}"] > most), FAIL, judged)
        code = np.minimum(code, judged).astype(np.int8)

    def detail(i: int) -> str:
        parts = []
        for what, level, limit in objectives:
            name = f"{what}_p{round(level * 100)}"
            value = at(latency[name], i)
            unit, factor = ("ms", 1000.0) if what == "tpot" else ("s", 1.0)
            shown = "unknown" if np.isnan(value) else f"{value * factor:.3g} {unit}"
            if np.isnan(value) and at_least is not None and not np.isnan(at(at_least[name], i)):
                shown = f"unknown, at least {at(at_least[name], i) * factor:.3g} {unit}"
            part = f"{what.upper()} p{round(level * 100)} {shown} against {limit * factor:g} {unit}"
            if floors is not None and value > limit * (1 + ROUNDING):
                part += f" (no batch meets it; the floor of this machine is {at(floors[name], i) * factor:.3g} {unit})"
            parts.append(part)
        told = "; ".join(parts)
        if to_do and "unknown" in told:
            return f"{told} ({to_do})"
        return f"{told} ({missed})" if missed and at(code, i) == FAIL else told

    return GateResult("slo", code, detail, source)
