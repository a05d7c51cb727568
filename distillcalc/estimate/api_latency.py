"""Latency of a per-token API: dated figures of the catalog or a measured endpoint, tails measured or by a factor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from distillcalc.catalog import ApiRow, Catalog
from distillcalc.estimate.inputs import Inputs
from distillcalc.provenance import Provenance, assumed
from distillcalc.workload.lengths import JointLengths

Floats = NDArray[np.float64]

# Catalog figures are medians. p95 and p99 of a log-normal whose p95 is twice its median (sigma 0.42).
TAIL = {0.5: 1.0, 0.95: 2.0, 0.99: 2.67}
TAIL_IS_ASSUMED = "the tail is assumed"
ASSUMED_TAILS = "p95 twice the median, p99 2.67 times"
# How much further from the median, in logarithms, a log-normal's p99 is than its p95: 2.3263 / 1.6449.
REACH = 2.3263478740408408 / 1.6448536269514722


def api_latency(
    x: Inputs, catalog: Catalog, ref: str, lengths: JointLengths, thinking: Floats
) -> tuple[dict[str, Floats], Provenance]:
    """TTFT, TPOT and E2E [s] by objective name ("ttft_p95"), shape (n, 1); nan where the catalog has no figure.

    TTFT is to the first visible token: thinking comes before it. Each holds one network round trip.
    The provenance says where the medians are from, and of each tail whether it was measured or is assumed.
    """
    api = catalog.api(ref)
    if api is None or missing(api):
        nan = np.full((1, 1), np.nan)
        found = {f"{what}_p{round(level * 100)}": nan for what in ("ttft", "tpot", "e2e") for level in TAIL}
        return found, assumed(
            f"no dated latency known for {ref}: measure it and give {' and '.join(missing(api))} "
            f'in [overrides.apis."{ref}"]'
        )
    found = {}
    first, each = ttft_s(api), tpot_s(api)
    for level in TAIL:
        name = f"p{round(level * 100)}"
        tpot = np.full((1, 1), each[level])
        ttft = first[level] + x["network_rtt_s"] + thinking * tpot
        found[f"ttft_{name}"] = ttft
        found[f"tpot_{name}"] = tpot
        found[f"e2e_{name}"] = ttft + np.maximum(lengths.output_quantile(level) - 1, 0) * tpot
    return found, _source(catalog, ref, api)


def assumed_tail(catalog: Catalog, ref: str) -> str:
    """What to do about a latency that misses its objective by a tail that nobody measured; empty if it was measured."""
    api = catalog.api(ref)
    if api is None or missing(api):
        return ""
    tails = {"ttft_p95_s": (api.ttft_p95_s, api.ttft_p99_s), "tpot_p95_ms": (api.tpot_p95_ms, api.tpot_p99_ms)}
    names = [name for name, measured in tails.items() if not any(measured)]
    if not names:
        return ""
    return f'{TAIL_IS_ASSUMED}, {ASSUMED_TAILS}: give the {" and ".join(names)} you measure in [overrides.apis."{ref}"]'


def missing(api: ApiRow | None) -> list[str]:
    """The medians that an API's latency cannot be told without, by the names of their fields."""
    names = [] if api is not None and api.ttft_p50_s is not None else ["ttft_p50_s"]
    if api is None or (api.output_tokens_per_s is None and api.tpot_p50_ms is None):
        names.append("output_tokens_per_s")
    return names


def ttft_s(api: ApiRow) -> dict[float, float]:
    """Time to the first token [s] at p50, p95 and p99, without network and thinking."""
    assert api.ttft_p50_s is not None
    median = api.ttft_p50_s
    return _points(lambda tail: median * tail, api.ttft_p95_s, api.ttft_p99_s)


def tpot_s(api: ApiRow) -> dict[float, float]:
    """Time of each token after the first [s] at p50, p95 and p99."""
    p95, p99 = (None if ms is None else ms / 1000 for ms in (api.tpot_p95_ms, api.tpot_p99_ms))
    if api.tpot_p50_ms is not None:
        median = api.tpot_p50_ms / 1000
        return _points(lambda tail: median * tail, p95, p99)
    assert api.output_tokens_per_s is not None
    speed = api.output_tokens_per_s
    return _points(lambda tail: tail / speed, p95, p99)


def _points(scaled: Callable[[float], float], p95: float | None, p99: float | None) -> dict[float, float]:
    """p50, p95 and p99: what was measured; a tail alone gives the other one, as of one log-normal."""
    if p95 is None and p99 is None:
        return {level: scaled(tail) for level, tail in TAIL.items()}
    p50 = scaled(TAIL[0.5])
    if p95 is None and p99 is not None:
        p95 = p50 * (p99 / p50) ** (1 / REACH)
    if p99 is None and p95 is not None:
        p99 = p50 * (p95 / p50) ** REACH
    assert p95 is not None
    assert p99 is not None
    return {0.5: p50, 0.95: p95, 0.99: p99}


def _source(catalog: Catalog, ref: str, api: ApiRow) -> Provenance:
    """Where the medians are from, and what is known of the tails."""
    first = catalog.api_source(ref, "ttft_p50_s")
    speed = catalog.api_source(ref, "output_tokens_per_s" if api.tpot_p50_ms is None else "tpot_p50_ms")
    words = first.source if speed == first else f"{first.source} (first token); {speed.source} (speed)"
    tails = [
        _tails(catalog, ref, first, {"p95": api.ttft_p95_s, "p99": api.ttft_p99_s}, "ttft_{}_s"),
        _tails(catalog, ref, speed, {"p95": api.tpot_p95_ms, "p99": api.tpot_p99_ms}, "tpot_{}_ms"),
    ]
    if tails[0] == tails[1]:
        return replace(first, source=f"{words}; {tails[0]}")
    return replace(first, source=f"{words}; TTFT {tails[0]}; TPOT {tails[1]}")


def _tails(catalog: Catalog, ref: str, median: Provenance, given: dict[str, float | None], name: str) -> str:
    """Which tails were measured and which assumed, and by whom where it is not who measured the median."""
    levels = [level for level, value in given.items() if value is not None]
    if not levels:
        return f"tails assumed: {ASSUMED_TAILS}"
    source = catalog.api_source(ref, name.format(levels[0]))
    words = "tails measured" if len(levels) == 2 else f"tails: {levels[0]} measured, the other of the same log-normal"
    return words if source == median else f"{words} ({source.source})"
