"""From request logs to a workload: logs of any common format as one relation, with nothing dropped in silence."""

from __future__ import annotations

import os
from collections.abc import Mapping

from distillcalc.workload.logs.ingest import Ingested, ingest
from distillcalc.workload.logs.measure import measure
from distillcalc.workload.logs.profile import WorkloadProfile
from distillcalc.workload.logs.sources import Paths, Source, find_sources
from distillcalc.workload.logs.tokens import Tokenizer

__all__ = ["Ingested", "Source", "WorkloadProfile", "find_sources", "ingest", "measure", "profile_logs"]


def profile_logs(
    paths: Paths,
    *,
    columns: Mapping[str, str] | None = None,
    memory_limit: str = "1GiB",
    threads: int | None = None,
    max_rejected_share: float = 0.01,
    rejects: str | os.PathLike[str] | None = None,
    time_zone: str = "UTC",
    tokenizer: Tokenizer | None = None,
) -> WorkloadProfile:
    """What a log tells of its traffic: volume, cycle, arrivals, lengths, repeats, prefixes, failures, models.

    Parameters are those of :func:`distillcalc.workload.logs.ingest.ingest`; what is staged on disk, texts included,
    is deleted before this returns.

    Raises
    ------
    InputError
        If there is no log, its schema is unknown, too many rows are rejected, or no request is left.
    """
    with ingest(
        paths,
        columns=columns,
        memory_limit=memory_limit,
        threads=threads,
        max_rejected_share=max_rejected_share,
        rejects=rejects,
        time_zone=time_zone,
        tokenizer=tokenizer,
    ) as ingested:
        return measure(ingested)
