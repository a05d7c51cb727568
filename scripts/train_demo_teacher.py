"""Train the demo's teacher: a small adapter for the packaged SmolLM2 on the messages of data/demo/teacher.csv.

    python scripts/train_demo_teacher.py [--data data/demo] [--folder runs/demo-teacher]

About 5 minutes on two cores; killed at any point, the same command goes on. It writes teacher-adapter/ beside the data
(PEFT, safetensors), and prints how often the teacher is right on messages that it has not seen: those of messages.csv,
never test.csv, which is the demo's to ask.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tomllib
from pathlib import Path

import pandas as pd

from distillcalc.distill.packaged import smollm2
from distillcalc.distill.records import Origin, Record
from distillcalc.distill.task import Task
from distillcalc.distill.training.examples import make_examples
from distillcalc.distill.training.fit import fit
from distillcalc.distill.training.local_teacher import LocalTeacher
from distillcalc.distill.training.progress import Progress
from distillcalc.distill.training.recipe import Lora, Settings, StudentStart
from distillcalc.distill.training.students import start_student

LORA = Lora(rank=8, alpha=16, modules=("q_proj", "v_proj"))
SETTINGS = Settings(epochs=3, batch_size=16, learning_rate=2e-3, evaluations=0, checkpoints=1)
PARTS = ("adapter_config.json", "adapter_model.safetensors")


def main() -> None:
    """Train, keep the adapter, and say what it is worth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/demo"))
    parser.add_argument("--folder", type=Path, default=Path("runs/demo-teacher"))
    asked = parser.parse_args()
    task = Task(**tomllib.loads((asked.data / "task.toml").read_text(encoding="utf-8")))
    student = start_student(StudentStart(model=str(smollm2()), lora=LORA), seed=0)
    examples = make_examples(records(asked.data / "teacher.csv", task), student.tokenizer, human=True)
    done = fit(student, examples, asked.folder, settings=SETTINGS, report=tell, keep_checkpoints=True)
    keep_adapter(asked.folder, asked.data / "teacher-adapter")
    print(f"{len(examples)} messages, {done.seconds / 60:.1f} minutes, last loss {done.losses[-1]['loss']:.3f}")
    teacher = LocalTeacher.load(smollm2(), asked.data / "teacher-adapter", name="demo teacher")
    unseen = pd.read_csv(asked.data / "messages.csv")
    said = teacher.answers([task.messages({"text": text}) for text in unseen["text"]], max_new_tokens=8)
    right = [one.text.strip() == label for one, label in zip(said, unseen["label"], strict=True)]
    print(f"right in {sum(right)} of {len(right)} messages that it has not seen ({sum(right) / len(right):.1%})")


def records(file: Path, task: Task) -> list[Record]:
    """Messages with the labels that their author gave them."""
    origin = Origin(run="demo", call="", teacher="author")
    return [
        Record(id=row.id, input={"text": row.text}, messages=task.messages({"text": row.text}), answer=row.label,
               value=row.label, human_label=row.label, origin=origin)
        for row in pd.read_csv(file).itertuples()
    ]  # fmt: skip


def keep_adapter(folder: Path, target: Path) -> None:
    """The last checkpoint's adapter, whose base is named by its package and not by a folder of this machine."""
    import json

    last = max(folder.glob("checkpoint-*"), key=lambda one: int(one.name.rsplit("-", 1)[-1]))
    target.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        shutil.copy(last / part, target / part)
    config = json.loads((target / PARTS[0]).read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = "HuggingFaceTB/SmolLM2-135M-Instruct"
    (target / PARTS[0]).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def tell(progress: Progress) -> None:
    """A line now and then."""
    if progress.step % 10 == 0 or progress.step == progress.steps:
        print(f"step {progress.step} of {progress.steps}, loss {progress.loss}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
