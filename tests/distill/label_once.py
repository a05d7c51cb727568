"""One labelling in a process of its own, to be killed: ``python -m tests.distill.label_once URL RUNS ROWS ENGINE``."""

from __future__ import annotations

import sys

from distillcalc.distill.labelling import label
from distillcalc.distill.teacher import Teacher
from tests.distill.making_runs import CATALOG, TASK, rows

if __name__ == "__main__":
    url, runs, count, engine = sys.argv[1:5]
    who = Teacher(model="test/model", base_url=url, temperature=0.0, max_output_tokens=8)
    label(
        TASK, who, rows(int(count)), budget_usd="1", catalog=CATALOG, runs=runs, probe=0, concurrency=8,
        engine=engine, poll_s=0.02,  # type: ignore[arg-type]
    )  # fmt: skip
