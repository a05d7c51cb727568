"""One labelling, or one bare loop of the openai client, in a process of its own: prints a line of JSON.

python benchmarks/labelling_once.py label|bare URL ROWS.jsonl IN_FLIGHT
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

PRICE = {"local/tiny": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0}}
SYSTEM = "You sort questions of a bank's customers. " * 8


def bare(url: str, file: Path, in_flight: int) -> int:
    """What a careful user writes with the openai client alone: so many workers, answers in a list."""
    import openai

    rows = [json.loads(line) for line in file.read_text().splitlines()]
    answers: list[str | None] = []

    async def work(client: openai.AsyncOpenAI, left: object) -> None:
        for row in left:  # type: ignore[attr-defined]
            said = await client.chat.completions.create(
                model="tiny", temperature=0, max_tokens=8,
                messages=[{"role": "system", "content": SYSTEM}, {"role": "user", "content": row["text"]}],
            )  # fmt: skip
            answers.append(said.choices[0].message.content)

    async def all_of_them() -> None:
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            left = iter(rows)
            await asyncio.gather(*(work(client, left) for _ in range(in_flight)))

    asyncio.run(all_of_them())
    return len(answers)


def ours(url: str, file: Path, in_flight: int) -> int:
    """The same through distillcalc: planned, reserved, journaled, parsed and written as a dataset."""
    from distillcalc.catalog import Catalog
    from distillcalc.distill.labelling import label
    from distillcalc.distill.rows import Rows
    from distillcalc.distill.task import Task
    from distillcalc.distill.teacher import Teacher

    with tempfile.TemporaryDirectory() as runs:
        made = label(
            Task(name="bench", labels=("yes", "no"), system=SYSTEM, instruction=False),
            Teacher(model="local/tiny", base_url=url, temperature=0, max_output_tokens=8),
            Rows(file), budget_usd=1_000, catalog=Catalog.load().with_overrides({"token_prices": PRICE}), runs=runs,
            accept_unclear_terms=True, probe=0, concurrency=in_flight,
        )  # fmt: skip
        assert made.is_done
        return made.answers


if __name__ == "__main__":
    what, url, file, in_flight = sys.argv[1:5]
    import openai

    began = time.perf_counter()
    count = {"bare": bare, "label": ours}[what](url, Path(file), int(in_flight))
    seconds = time.perf_counter() - began
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rows": count, "seconds": seconds, "peak_mib": peak_mib}))
