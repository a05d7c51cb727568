"""From request logs to a workload: logs of any common format as one relation, with nothing dropped in silence."""

from distillcalc.workload.logs.ingest import Ingested, ingest
from distillcalc.workload.logs.sources import Source, find_sources

__all__ = ["Ingested", "Source", "find_sources", "ingest"]
