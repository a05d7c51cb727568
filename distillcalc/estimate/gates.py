"""Hard conditions that do not depend on an option's own arithmetic: terms, privacy, region, retirement, context."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distillcalc.calendar import add_months
from distillcalc.catalog import Catalog, TermsRow
from distillcalc.estimate.outcome import FAIL, PASS, GateResult, at

if TYPE_CHECKING:
    from distillcalc.estimate.inputs import Inputs

Floats = NDArray[np.float64]

LONG_REQUEST_SHARE = 0.001  # more than one request in a thousand beyond the window is a failure
ROUNDING = 1e-6  # share of a limit that rounding may add where a fleet was sized to meet it exactly


def terms_row(catalog: Catalog, teacher: str) -> tuple[str, TermsRow] | None:
    """The terms that govern training on a teacher's outputs: its own row, else its provider's API row."""
    found = catalog.model_of(teacher)
    if found and found[1].terms:
        return found[1].terms, catalog.terms[found[1].terms]
    provider = teacher.split("/", 1)[0]
    return next(
        (
            (name, row)
            for name, row in catalog.terms.items()
            if row.provider == provider and row.surface == "api" and row.superseded_by is None
        ),
        None,
    )


def terms_gate(x: Inputs, catalog: Catalog, teacher: str) -> GateResult:
    """Whether the teacher's terms let a student be trained on its outputs for the stated use."""
    use = x.scenario.use
    found = terms_row(catalog, teacher)
    if found is None:
        return GateResult.of(
            "terms",
            "unknown",
            f"the catalog has no terms for {teacher}: read them, then add a row to [overrides.terms]",
        )
    name, row = found
    if use.kind in ("classifier", "embedding") and not use.distributed:
        case, verdict = "a classifier or embedding that is not distributed", row.private_classifier
    elif use.competes_with_teacher:
        case, verdict = "a student that competes", row.competing
    elif use.competes_with_teacher is False:
        case, verdict = "a student that does not compete", row.not_competing
    else:
        case = "a student of which [use] does not say whether it competes"
        verdict = row.competing if row.competing == row.not_competing else "unknown"
    words = {"pass": "allowed", "fail": "prohibited", "unknown": "unclear, ask the provider"}[verdict]
    if verdict == "unknown" and use.competes_with_teacher is None and row.not_competing != "unknown":
        words = "depends on it: set competes_with_teacher in [use]"
    detail = f"{case}: {words}. {row.says}"
    if verdict == "pass" and row.requirements:
        detail += f" Required: {row.requirements}"
    return GateResult.of("terms", verdict, detail, f"{name}: {row.source}, checked {row.checked.isoformat()}")


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
            "(choices.distillation.inputs), or let a self-hosted teacher label",
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


def retirement_gate(x: Inputs, catalog: Catalog, ref: str, *, migrates: bool = False) -> GateResult | None:
    """Whether a hosted model lives through the horizon; None where no end is announced."""
    end = catalog.shutdown(ref)
    if end is None:
        return None
    inside = x.ends_after(end.on)
    if not inside.any():
        return None
    moves = migrates and end.replacement is not None
    code = np.where(inside & (not moves), FAIL, PASS).astype(np.int8)
    successor = f"; {'migrates to' if moves else 'named successor'} {end.replacement}" if end.replacement else ""

    def detail(i: int) -> str:
        last = add_months(x.scenario.workload.start, int(at(x["horizon_months"], i)))
        if not at(inside, i):
            return f"{ref} shuts down on {end.on.isoformat()}, after the horizon (to {last.isoformat()})"
        return f"{ref} shuts down on {end.on.isoformat()}, inside the horizon (to {last.isoformat()}){successor}"

    return GateResult("retirement", code, detail, f"{end.source}, checked {end.checked.isoformat()}")


def context_gate(x: Inputs, window: int | None, name: str, lengths_of: str = "teacher") -> GateResult | None:
    """Whether requests fit the model's context window; None where the window is unknown.

    Fails where more than one request in a thousand has an input longer than the window less a p95 answer.
    """
    if window is None:
        return None
    lengths = x.lengths if lengths_of == "teacher" else x.student_lengths
    thinking = x["reasoning_tokens"] if lengths_of == "teacher" else x["student_reasoning_tokens"]
    room = window - lengths.output_quantile(0.95) - thinking
    longest = lengths.input_quantile(1 - LONG_REQUEST_SHARE)
    code = np.where(longest <= room, PASS, FAIL).astype(np.int8)

    def detail(i: int) -> str:
        return (
            f"{name} takes {window:,} tokens; p99.9 input {at(longest, i):,.0f} + p95 output "
            f"{window - at(room, i):,.0f}"
        )

    return GateResult("context", code, detail)


def slo_gate(
    x: Inputs, latency: dict[str, Floats], source: str, floors: dict[str, Floats] | None = None
) -> GateResult | None:
    """Whether estimated latencies meet every objective; None where none is set.

    ``latency`` holds a figure for each (what, percentile) asked, in seconds, nan where unknown, shape (n, 1).
    """
    objectives = x.scenario.workload.slo.objectives()
    if not objectives:
        return None
    code = np.full((1, 1), PASS, dtype=np.int8)
    for what, level, limit in objectives:
        value = latency[f"{what}_p{round(level * 100)}"]
        code = np.minimum(
            code, np.where(np.isnan(value), 0, np.where(value <= limit * (1 + ROUNDING), PASS, FAIL))
        ).astype(np.int8)

    def detail(i: int) -> str:
        parts = []
        for what, level, limit in objectives:
            name = f"{what}_p{round(level * 100)}"
            value = at(latency[name], i)
            unit, factor = ("ms", 1000.0) if what == "tpot" else ("s", 1.0)
            shown = "unknown" if np.isnan(value) else f"{value * factor:.3g} {unit}"
            part = f"{what.upper()} p{round(level * 100)} {shown} against {limit * factor:g} {unit}"
            if floors is not None and value > limit * (1 + ROUNDING):
                part += f" (no batch meets it; the floor of this machine is {at(floors[name], i) * factor:.3g} {unit})"
            parts.append(part)
        return "; ".join(parts)

    return GateResult("slo", code, detail, source)
