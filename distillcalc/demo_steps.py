"""What the steps of the demo need: its folder, its teacher behind an endpoint, its task, targets and workloads.

The big model is played by the packaged SmolLM2 with an adapter that the project ships, merged and served by
``transformers serve`` on this machine: the same client talks to it that talks to a paid API.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from distillcalc.errors import DistillcalcError, InputError, MissingExtra
from distillcalc.resources import data_folder

if TYPE_CHECKING:
    from distillcalc.benchmark.load import Target
    from distillcalc.catalog import Catalog
    from distillcalc.distill.labelling import LabelRun
    from distillcalc.distill.rows import Rows
    from distillcalc.distill.state import State
    from distillcalc.distill.task import Task
    from distillcalc.distill.teacher import Teacher
    from distillcalc.distill.training.progress import Progress
    from distillcalc.distill.training.recipe import Recipe
    from distillcalc.workload import Workload

Made = TypeVar("Made")

STUDENT = "minilm-l6"  # catalog id
MACHINE = "cloud-vcpu-2"  # the catalog's row that this machine stands for
ENGINE = "transformers"
BIG = "openai/gpt-6-sol"
STAND_IN = "smollm2-135m"
BUDGET_USD = Decimal("1.00")
CONCURRENCY = (1, 4)  # of the benchmarks
EXAMPLES_EACH = 2  # in the prompt of a big model, of each label
MAX_OUTPUT_TOKENS = 8
PID = "serve.pid"
STEPS = (
    "read the log", "decide", "start the teacher", "label", "train the student", "measure the teacher",
    "measure the student", "measure this machine", "validate", "route", "decide again",
)  # fmt: skip


@dataclass(frozen=True)
class Size:
    """How much is done.

    Parameters
    ----------
    messages, test : of the shipped files, from the start.
    epochs : of the training.
    machine_s : of the micro-benchmark [s].
    teacher_requests, student_requests : at each load of the benchmarks.
    """

    messages: int
    test: int
    epochs: int
    machine_s: float
    teacher_requests: int
    student_requests: int


FULL = Size(messages=320, test=336, epochs=10, machine_s=15.0, teacher_requests=32, student_requests=256)
SMALL = Size(messages=24, test=24, epochs=1, machine_s=1.0, teacher_requests=4, student_requests=16)


class Watcher(Protocol):
    """Who is told how far the demo is."""

    def step(self, number: int, title: str) -> None:
        """A step begins; numbers count from 1 to len(STEPS)."""

    def progress(self, what: str, done: int, total: int) -> None:
        """So much of something is done."""

    def show(self, made: object) -> None:
        """A step made this."""


class Nobody:
    """A watcher that looks away."""

    def step(self, number: int, title: str) -> None:
        """Look away."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Look away."""

    def show(self, made: object) -> None:
        """Look away."""


def data() -> Path:
    """The folder of the demo's task: messages, log, choices, the teacher's adapter."""
    return data_folder() / "demo"


class Demo:
    """One run of the demo in its folder.

    Parameters
    ----------
    folder : of everything that it makes.
    teacher : a big model at an endpoint; None: the packaged small one plays it.
    budget_usd : of a paid teacher.
    catalog : the shipped one, or the user's.

    Raises
    ------
    InputError
        If the folder holds a demo of other settings.
    """

    def __init__(
        self, folder: Path, size: Size, teacher: Teacher | None, budget_usd: Decimal, watcher: Watcher, catalog: Catalog
    ) -> None:
        self.folder, self.size, self.teacher, self.watcher, self.catalog = (
            folder.resolve(), size, teacher, watcher, catalog,
        )  # fmt: skip
        self.budget_usd = budget_usd
        self.plays = teacher is None
        if teacher is not None:
            teacher.key(catalog)  # refused before anything is done, where it is not set
        self.seconds: dict[str, float] = {}
        asked = {"size": vars(size), "teacher": teacher.model_dump(mode="json") if teacher else STAND_IN}
        kept = self.kept("asked.json", lambda: asked)
        if kept != json.loads(json.dumps(asked)):
            raise InputError(
                f"{folder} holds a demo of other settings or another teacher. Name another folder, or remove it"
            )

    # --- how far it is -----------------------------------------------------------------------------------------------

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Tell that a step begins, and keep how long it took."""
        self.watcher.step(STEPS.index(title) + 1, title)
        began = time.monotonic()
        yield
        self.seconds[title] = time.monotonic() - began

    def show(self, made: Made) -> Made:
        """Show what a step made, and hand it on."""
        self.watcher.show(made)
        return made

    def labelled(self, state: State) -> None:
        """Progress of the labelling."""
        self.watcher.progress("messages labelled", state.got, state.rows * state.samples)

    def trained(self, progress: Progress) -> None:
        """Progress of the training."""
        self.watcher.progress(progress.what, progress.step, progress.steps)

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        """Plain values from a file of the folder; made and written where it is not there."""
        from distillcalc.benchmark.record import plain

        file = self.folder / name
        try:
            if not file.is_file():
                self.folder.mkdir(parents=True, exist_ok=True)
                part = file.with_name(name + ".part")
                part.write_text(json.dumps(plain(make()), indent=1) + "\n", encoding="utf-8")
                part.replace(file)
            return json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(
                f"cannot write to the folder {self.folder}: {error.strerror}. Name another one with --folder"
            ) from error
        except ValueError as error:
            raise InputError(
                f"{file} is no longer what the demo wrote ({error}). Remove it, and run it again"
            ) from error

    # --- the teacher -------------------------------------------------------------------------------------------------

    @property
    def priced_as(self) -> str:
        """Whose price the decision and the ledger go by, provider/model."""
        return BIG if self.teacher is None else self.teacher.model

    @property
    def who(self) -> dict[str, str]:
        """Who answered, for the report."""
        if not self.plays:
            return {"name": self.priced_as, "played_by": "", "sentence": f"{self.priced_as} answered itself."}
        return {
            "name": BIG,
            "played_by": STAND_IN,
            "sentence": (
                f"No key, no cloud: {BIG} is played by a small model on this machine (SmolLM2, 135 million parameters, "
                "trained for this task by the project). Traffic, prices and the arithmetic are the big model's; how "
                "good the teacher is, and what was measured, are the small one's. It shows the method and is no advice "
                f"on {BIG}, which may well sort more messages right. To keep as much of its quality, the student would "
                "then have to as well."
            ),
        }

    @cached_property
    def priced(self) -> Catalog:
        """The catalog, with the stand-in's tokens at the big model's price."""
        if not self.plays:
            return self.catalog
        from datetime import date

        of = self.catalog.token_prices(self.priced_as, date.today())
        price = {
            "input_usd_per_mtok": float(of.input[0, 0]), "output_usd_per_mtok": float(of.output[0, 0]),
            "source": f"the list price of {self.priced_as}, as if it had answered",
        }  # fmt: skip
        return self.catalog.with_overrides({"token_prices": {STAND_IN: price}})

    @property
    def weights(self) -> Path:
        """The stand-in's own folder: the packaged model with the shipped adapter merged into it."""
        target = self.folder / "teacher"
        if not (target / "config.json").is_file():
            from distillcalc.distill.packaged import smollm2
            from distillcalc.distill.training.local_teacher import quiet
            from distillcalc.distill.training.students import load_model

            with quiet():
                model, tokenizer = load_model(str(smollm2()), adapter=str(data() / "teacher-adapter"))
                part = target.with_name("teacher.part")
                model.save_pretrained(part)
                tokenizer.save_pretrained(part)
            part.rename(target)
        return target

    def teacher_at_an_endpoint(self) -> Any:
        """A context in which the teacher answers at its endpoint; gives the :class:`Teacher` to ask."""
        if self.teacher is not None:
            return _as_it_is(self.teacher)
        end_left_over(self.folder / PID, self.weights)
        port = self.kept("port.json", _free_port)  # the plan of the labels knows the address: a resumed run keeps it
        if not _is_free(port):  # another program has it by now; the labels are asked for again, which costs nothing
            (self.folder / "port.json").unlink()
            port = self.kept("port.json", _free_port)
        return served(self.weights, self.folder / "serve.log", port)

    @property
    def in_flight(self) -> int:
        """Calls at once."""
        return 4 if self.plays else 16

    # --- the task ----------------------------------------------------------------------------------------------------

    @cached_property
    def task(self) -> Task:
        """What the teacher is asked: a small one that has learnt the task needs no instruction, a big one does."""
        from distillcalc.distill.task import Task

        asked = tomllib.loads((data() / "task.toml").read_text(encoding="utf-8"))
        if not self.plays:
            import pandas as pd

            examples = pd.read_csv(data() / "teacher.csv").groupby("label").head(EXAMPLES_EACH)
            asked |= {
                "instruction": True,
                "system": "You sort messages of a web shop's customers by what the customer wants done.",
                "examples": [{"input": {"text": r.text}, "answer": r.label} for r in examples.itertuples()],
            }
        return Task(**asked, student=STUDENT, use={"kind": "classifier", "competes_with_teacher": False})

    def rows(self) -> Rows:
        """The messages to learn from, and those that judge: the teacher is asked for both."""
        from distillcalc.distill.rows import Rows

        return Rows([*self._messages("messages", self.size.messages), *self._messages("test", self.size.test)],
                    "id", "label")  # fmt: skip

    def _messages(self, part: str, count: int) -> list[dict[str, Any]]:
        import pandas as pd

        return pd.read_csv(data() / f"{part}.csv").head(count).to_dict("records")  # type: ignore[return-value]

    def labelling_budget(self, asked: Teacher) -> Decimal:
        """What is left for the labels once the benchmark of a paid teacher is set aside [USD]."""
        if self.plays:
            return self.budget_usd
        from datetime import date

        of = self.catalog.token_prices(asked.model, date.today())
        requests = 2 * len(CONCURRENCY) * self.size.teacher_requests
        tokens_in = 2 * self.prompt_tokens()  # twice what is counted here: the endpoint may count otherwise
        usd = requests * (tokens_in * float(of.input[0, 0]) + MAX_OUTPUT_TOKENS * float(of.output[0, 0])) / 1e6
        left = self.budget_usd - Decimal(f"{usd:.6f}")
        if left <= 0:
            raise InputError(
                f"measuring the teacher takes up to ${usd:.2f}, and the budget is ${self.budget_usd}. Give more"
            )
        return left

    def prompt_tokens(self) -> int:
        """Tokens of the longest prompt, roughly: characters / 3."""
        longest = max(self._messages("messages", self.size.messages), key=lambda row: len(row["text"]))
        return sum(len(m["content"]) for m in self.task.messages({"text": longest["text"]})) // 3 + 64

    def recipe(self, labels: LabelRun) -> Recipe:
        """How the student is trained: on what the teacher said, and on how sure it was where its weights are here."""
        from distillcalc.distill.packaged import minilm
        from distillcalc.distill.records import Dataset
        from distillcalc.distill.training.recipe import Recipe

        every = labels.dataset()
        files = {}
        for part in ("message", "test"):
            kept = tuple(record for record in every if record.id.startswith(part))
            files[part] = str(Dataset(kept, every.card).save(self.folder / f"{part}-answers.jsonl"))
        test = self.folder / "test.csv"
        import pandas as pd

        pd.DataFrame(self._messages("test", self.size.test)).to_csv(test, index=False)
        own: dict[str, Any] = {}
        if self.plays:
            own = {
                "teacher": {"model": str(self.weights), "name": STAND_IN},
                "objective": {"hard": 0.5, "soft": 0.5, "temperature": 2.0},
            }
        return Recipe(
            name="student", technique="classifier", task=self.task,
            data={
                "train": [files["message"]], "evaluation": str(test), "evaluation_answers": files["test"],
                "human_label": "label", "id": "id", "validation_share": 0.0,
            },
            student={"model": str(minilm()), "catalog": STUDENT},
            training={"epochs": self.size.epochs, "batch_size": 16, "learning_rate": 1e-4, "evaluations": 0},
            use={"kind": "classifier", "competes_with_teacher": False}, **own,
        )  # fmt: skip

    # --- measuring ---------------------------------------------------------------------------------------------------

    def teacher_target(self, asked: Teacher) -> Target:
        """The stand-in in this process, whose steps can be seen; or the endpoint."""
        if self.plays:
            from distillcalc.benchmark.in_process import InProcess
            from distillcalc.distill.training.local_teacher import quiet

            with quiet():
                return InProcess.load(str(self.weights), name=f"{STAND_IN} (teacher)", device="cpu")
        from distillcalc.benchmark.endpoint import Endpoint

        return Endpoint(
            asked.url(self.catalog), asked.name_sent, key_env=asked.key_variable(self.catalog),
            temperature=asked.temperature, max_tokens_field=asked.limit_field,
        )  # fmt: skip

    def teacher_workload(self) -> Workload:
        """Prompts as long as those that were sent, answers of a few tokens."""
        return self._workload([self.task.messages({"text": row["text"]}) for row in self._some()], MAX_OUTPUT_TOKENS)

    def student_target(self, student: Path) -> Target:
        """The trained classifier in this process."""
        from distillcalc.benchmark.classifying import InProcessClassifier

        return InProcessClassifier.load(student, name=f"{STUDENT} (student)")

    def student_workload(self) -> Workload:
        """Messages alone; the label counts as a token."""
        return self._workload([[{"role": "user", "content": row["text"]}] for row in self._some()], 1)

    def _some(self) -> list[dict[str, Any]]:
        return self._messages("messages", self.size.messages)

    def _workload(self, chats: list[Any], output_tokens: int) -> Workload:
        """Lengths of chats by the stand-in's tokenizer, which is near enough to every other's."""
        from transformers import AutoTokenizer

        from distillcalc.distill.packaged import smollm2
        from distillcalc.distill.training.prompting import prompt_ids
        from distillcalc.workload import Workload

        tokenizer = AutoTokenizer.from_pretrained(str(smollm2()))
        one = len(chats[0]) == 1
        lengths = [
            len(tokenizer(chat[0]["content"])["input_ids"]) if one else len(prompt_ids(tokenizer, chat))
            for chat in chats
        ]
        return Workload(
            name="customer messages", requests_per_day=1_000, length_sample=[(n, output_tokens, 1.0) for n in lengths]
        )

    def measured(self, name: str, target: Callable[[], Target], workload: Callable[[], Workload]) -> Runs:
        """Two runs with other prompts: the estimate is held against the first, and fitted to the second."""
        from distillcalc.benchmark.run import benchmark

        requests = self.size.teacher_requests if name == "teacher" else self.size.student_requests
        here = name == "student" or self.plays
        runs = Runs(self.folder / "benchmarks" / f"{name}.json", self.folder / "benchmarks" / f"{name}-again.json")
        missing = [(seed, file) for seed, file in enumerate((runs.first, runs.again)) if not file.is_file()]
        if not missing:
            return runs
        loaded, asked = target(), workload()
        for seed, file in missing:
            made = benchmark(
                loaded, asked, concurrency=CONCURRENCY, requests=requests, seed=seed, name=file.stem,
                model=(STUDENT if name == "student" else STAND_IN) if here else "", engine=ENGINE if here else "",
                weights="trained" if here else "unknown", report=lambda said: self.watcher.progress(said, 0, 0),
            )  # fmt: skip
            made.save(file.parent)
            if file == runs.first:
                self.show(made)
        return runs


@dataclass(frozen=True)
class Runs:
    """The records of a target's two benchmarks."""

    first: Path
    again: Path

    def record(self) -> dict[str, Any]:
        """The first one, as plain values."""
        found: dict[str, Any] = json.loads(self.first.read_text(encoding="utf-8"))
        return found


@contextmanager
def _as_it_is(teacher: Teacher) -> Iterator[Teacher]:
    yield teacher


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def end_left_over(file: Path, model: Path) -> None:
    """End the server of a run that was killed before it could: its process, if that still serves this model.

    Raises
    ------
    InputError
        If the run that started it is still there: two in one folder would take each other's server.
    """
    import psutil

    if not file.is_file():
        return
    working = None
    try:
        server, demo = map(int, file.read_text(encoding="utf-8").split())
        left = psutil.Process(server)
        if str(model) in left.cmdline():
            if left.ppid() == demo:
                working = demo
            else:  # an orphan
                left.terminate()
                left.wait(30)
    except (ValueError, psutil.Error):
        pass  # it has ended, or the number is another's by now
    if working is not None:
        raise InputError(f"another demo works in {file.parent} (process {working}). Wait for it, or stop it")
    file.unlink(missing_ok=True)


@contextmanager
def served(model: Path, log: Path, port: int) -> Iterator[Teacher]:
    """``transformers serve`` on a port of this machine, while the context lasts."""
    from distillcalc.distill.teacher import Teacher

    for module in ("fastapi", "uvicorn", "python_multipart"):
        if find_spec(module) is None:
            raise MissingExtra(module, "demo")
    pid = log.with_name(PID)
    command = [str(Path(sys.executable).parent / "transformers"), "serve", str(model)]
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--log-level", "error"],
            stdout=out, stderr=subprocess.STDOUT,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"},
        )  # fmt: skip
        pid.write_text(f"{process.pid} {os.getpid()}", encoding="utf-8")
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process, log)
            yield Teacher(
                model=STAND_IN, base_url=f"http://127.0.0.1:{port}/v1", send_as=str(model), temperature=0.0,
                max_output_tokens=MAX_OUTPUT_TOKENS,
            )  # fmt: skip
        finally:
            process.terminate()
            process.wait()
            pid.unlink(missing_ok=True)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback: through no proxy
    for _ in range(600):
        try:
            opener.open(url, timeout=5).close()
            return
        except OSError:
            if process.poll() is not None:
                raise DistillcalcError(f"the teacher's server ended: see {log}") from None
            time.sleep(0.2)
    raise DistillcalcError(f"the teacher's server did not start within two minutes: see {log}")
