"""The real path: transformers serve with the packaged SmolLM2, through the code that a paid API would use."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from distillcalc.catalog import Catalog
from distillcalc.distill.labelling import label
from distillcalc.distill.packaged import smollm2
from distillcalc.distill.rows import Rows
from distillcalc.distill.task import Example, Task
from distillcalc.distill.teacher import Teacher
from distillcalc.errors import DistillcalcError
from distillcalc.workload.scenario import Use

FREE = {"smollm2-135m": {"input_usd_per_mtok": 0.0, "output_usd_per_mtok": 0.0}}


@pytest.fixture(scope="module")
def model() -> Path:
    try:
        return smollm2()
    except DistillcalcError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def url(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path_factory.mktemp("serve") / "log").open("w")
    process = subprocess.Popen(
        [Path(sys.executable).parent / "transformers", "serve", model, "--host", "127.0.0.1", "--port", str(port)],
        stdout=log, stderr=subprocess.STDOUT,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"},
    )  # fmt: skip
    try:
        for _ in range(900):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, Path(log.name).read_text()
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()
        log.close()


@pytest.mark.slow
def test_smollm2_labels_through_the_same_code(model: Path, url: str, tmp_path: Path) -> None:
    task = Task(
        name="sentiment",
        labels=("good", "bad"),
        examples=(
            Example(input={"text": "I love it"}, answer="good"),
            Example(input={"text": "It broke at once"}, answer="bad"),
        ),
        use=Use(kind="classifier"),
    )
    who = Teacher(
        model="smollm2-135m", base_url=url, send_as=str(model), temperature=0.0, max_output_tokens=6, samples=2,
        one_call=True, top_logprobs=2,
    )  # fmt: skip
    rows = Rows([{"text": "What a wonderful day"}, {"text": "The worst food I ever had"}])
    made = label(
        task, who, rows, budget_usd=0, catalog=Catalog.load().with_overrides({"token_prices": FREE}),
        runs=tmp_path, probe=2, concurrency=2,
    )  # fmt: skip
    assert made.is_done
    assert made.answers == 4
    assert made.spent_usd == 0
    assert made.probe is not None
    # The server ignores n and logprobs, and the probe says so: two answers a row took two calls.
    assert made.probe.samples_in_one_call == 1
    assert made.probe.logprobs is False
    assert len(made.probe.warnings(made.plan)) >= 2
    assert made.probe.agreement.total == 2
    assert made.probe.agreement.share == 1.0  # at temperature 0 it says the same twice
    record = made.dataset().records[0]
    assert record.origin.input_tokens > 20
    assert record.origin.output_tokens <= 6
    assert "smollm2" in record.origin.version
    assert record.origin.response_id
    # The bound that budgets are reserved from holds for a real tokenizer and its template.
    prompt = made.plan.prompts.prompt({"text": "What a wonderful day"})[0]
    assert record.origin.input_tokens <= who.most_input_tokens(task, prompt)
