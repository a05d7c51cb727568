"""What the demo's teacher and student answered, out of a finished demo: data/demo/answers/ and data/demo/pairs.jsonl.

The notebooks learn and route on these where asking the models again would take minutes. Run `distillcalc demo` first
(about ten minutes on two cores), then this (some seconds): `python scripts/make_demo_answers.py [runs/demo]`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from distillcalc.distill import Dataset
from distillcalc.distill.training import Classifier
from distillcalc.resources import data_folder

RUN = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
TARGET = data_folder() / "demo"
OF_ONE_SERVER = {"response_id": "", "version": ""}  # of no use to anybody else

for part in ("message", "test"):
    found = Dataset.load(RUN / f"{part}-answers.jsonl")
    records = tuple(r.model_copy(update={"origin": r.origin.model_copy(update=OF_ONE_SERVER)}) for r in found)
    name = {"message": "messages", "test": "test"}[part]
    print(Dataset(records, found.card).save(TARGET / "answers" / f"{name}.jsonl"), len(records))

student = Classifier.load(RUN / "student" / "student")
test = Dataset.load(TARGET / "answers" / "test.jsonl").records
probabilities = student.probabilities([record.text for record in test])
with (TARGET / "pairs.jsonl").open("w", encoding="utf-8") as out:
    for record, row in zip(test, probabilities, strict=True):
        pair = {
            "id": record.id, "text": record.text, "label": record.human_label,
            "student_answer": student.labels[int(row.argmax())], "teacher_answer": record.answer,
            "student_probabilities": [round(float(p), 4) for p in row],
        }  # fmt: skip
        out.write(json.dumps(pair, ensure_ascii=False) + "\n")
print(out.name, len(test))
