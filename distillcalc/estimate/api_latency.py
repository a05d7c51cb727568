"""Latency of a per-token API from the catalog's dated figures, tails by a stated factor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distillcalc.catalog import Catalog, provenance_of
from distillcalc.estimate.inputs import Inputs
from distillcalc.provenance import Provenance, assumed
from distillcalc.workload.lengths import JointLengths

Floats = NDArray[np.float64]

# Catalog figures are medians. p95 and p99 of a log-normal whose p95 is twice its median (sigma 0.42).
TAIL = {0.5: 1.0, 0.95: 2.0, 0.99: 2.67}


def api_latency(
    x: Inputs, catalog: Catalog, ref: str, lengths: JointLengths, thinking: Floats
) -> tuple[dict[str, Floats], Provenance]:
    """TTFT, TPOT and E2E [s] by objective name ("ttft_p95"), shape (n, 1); nan where the catalog has no figure.

    TTFT is to the first visible token: thinking comes before it. Each holds one network round trip.
    """
    api = catalog.api(ref)
    if api is None or api.ttft_p50_s is None or api.output_tokens_per_s is None:
        nan = np.full((1, 1), np.nan)
        found = {f"{what}_p{round(level * 100)}": nan for what in ("ttft", "tpot", "e2e") for level in TAIL}
        return found, assumed(f"no dated latency known for {ref}; give one in [overrides.apis]")
    found = {}
    for level, tail in TAIL.items():
        name = f"p{round(level * 100)}"
        tpot = np.full((1, 1), tail / api.output_tokens_per_s)
        ttft = api.ttft_p50_s * tail + x["network_rtt_s"] + thinking * tpot
        found[f"ttft_{name}"] = ttft
        found[f"tpot_{name}"] = tpot
        found[f"e2e_{name}"] = ttft + np.maximum(lengths.output_quantile(level) - 1, 0) * tpot
    return found, provenance_of(api)
