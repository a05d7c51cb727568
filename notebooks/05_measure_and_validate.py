# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Measure and validate
#
# **What this answers:** how good and how fast is the student on this machine, how far off was the estimate, and does
# the decision stand now that it is known?
#
# **How long it takes:** under a minute on two cores. No key, no GPU, no network. It writes into
# `runs/05_measure_and_validate` beside this notebook.

# %% [markdown]
# ## Check-up

# %%
from distillcalc.notebook.checkup import checkup

checkup("demo", "models")

# %% [markdown]
# ## 1. What was decided before anything was measured
#
# The web shop of notebook 02: its log tells the traffic; what it wants and may choose from stands in a file. Nobody
# knows yet how good a student would be, and so the big model is called.

# %%
from distillcalc import recommend
from distillcalc.demo import scenario_of
from distillcalc.resources import data_folder
from distillcalc.workload.logs import profile_logs

shop = data_folder() / "demo"
scenario = scenario_of(profile_logs(shop / "requests.parquet"), teacher="openai/gpt-6-sol")
print(recommend(scenario).reason)

# %% [markdown]
# ## 2. A student
#
# A classifier of 23 million parameters, trained for a few seconds on what the teacher answered to 128 messages.
# (Notebook 04 trains with more care.)
#
# **To measure a student that is trained already**, put its folder in place of `None`, such as
# `"runs/04_distill/four-way/student"`, which 04 leaves behind, or what `distillcalc train` names at its end: a folder
# that holds `classifier.json`. It is then loaded, and nothing is trained. If it was trained on another task than this
# one, put the task's labels and its messages into the cell below and into section 3 as well.

# %%
from pathlib import Path

from distillcalc.benchmark import InProcessClassifier
from distillcalc.distill import Dataset
from distillcalc.distill.packaged import minilm
from distillcalc.distill.training import train_classifier
from distillcalc.distill.training.classifier import ClassifierData

STUDENT = None  # or a folder of yours, such as "runs/04_distill/four-way/student"

folder = Path("runs/05_measure_and_validate")
labels = ("delivery", "return", "damage", "change", "payment", "account", "product", "feedback")
if STUDENT is None:
    answers = Dataset.load(shop / "answers" / "messages.jsonl").records[:128]
    trained = train_classifier(
        minilm(),
        ClassifierData.of_records(answers, labels),
        epochs=1,
        batch_size=16,
        learning_rate=1e-4,
        folder=folder,
    )
    print(f"{trained.steps} steps in {trained.seconds:.0f} s; kept in {folder / 'student'}")
    student = InProcessClassifier(trained.classifier, name="minilm-l6 (student)")
else:
    student = InProcessClassifier.load(STUDENT, name="minilm-l6 (student)")
    print(f"loaded {STUDENT}, labels: {', '.join(student.classifier.labels)}")

# %% [markdown]
# ## 3. How good is it?
#
# It sorts 336 messages that it has never seen, and that people labelled. Beside it stands the teacher, on the same
# messages: what it answered is stored. Intervals are at 95%.
#
# *Accuracy* is the share that is right; for labels, *exact match* is the same. *Macro F1* is the mean over the labels
# of F1, which is high only where a label is both found and meant; it counts a rare label as much as a common one.
# *Agreement* is how often student and teacher say the same, *retention* the share of the teacher's accuracy that is
# kept.

# %%
from distillcalc.benchmark import measure_quality
from distillcalc.distill import Task

task = Task(name="customer messages", system="Sort the message.", labels=labels, instruction=False)
test = Dataset.load(shop / "answers" / "test.jsonl").records
quality = measure_quality(
    student,
    task,
    test,
    teacher_answers=[record.answer for record in test],
    prompts=[[{"role": "user", "content": record.text}] for record in test],
)
print(quality)

# %% [markdown]
# ## 4. How fast is it?
#
# `benchmark` sends requests as long as the workload's: one at a time, then four at once. p50, p95 and p99 are the times
# that 50, 95 and 99 of 100 requests stay below: TTFT until the first token, E2E until the whole answer, which for a
# label is the same. The record keeps every request, and intervals of each figure.

# %%
from distillcalc import Workload
from distillcalc.benchmark import benchmark

messages = Workload(
    name="customer messages",
    requests_per_day=40_000,
    input_tokens={"mean": 34, "p95": 70},
    output_tokens=1,
)
of = {"model": "minilm-l6", "engine": "transformers"}  # what the estimate in section 6 looks up
first = benchmark(student, messages, concurrency=(1, 4), requests=64, name="first", **of)
print(first)

# %% [markdown]
# A second run with other requests will be needed below: an estimate may be fitted to one run and held against the
# other, never to the same.

# %%
again = benchmark(student, messages, concurrency=(1, 4), requests=64, seed=1, name="again", **of)
files = [run.save(folder / "benchmarks") for run in (first, again)]

# %% [markdown]
# ## 5. What this machine can do
#
# The estimate needs two figures of a machine: how fast it reads weights from memory, and how fast it multiplies. For a
# GPU they stand in the catalog; for this one they are measured in some seconds.

# %%
from distillcalc.benchmark import measure_machine

machine = measure_machine(5.0)
print(machine)

# %% [markdown]
# ## 6. The estimate beside the measurement
#
# The columns on the left are what the calculator says of this model on this machine, beside what was measured. Then its
# step times are fitted to the second run, and it says what stands on the right. What remains is how far to trust the
# same estimate elsewhere. **If this machine is busy with other things, the runs differ, and no fit can mend that**: run
# it again on a quiet one.

# %%
from distillcalc import Catalog
from distillcalc.benchmark import validate

catalog = Catalog.load().with_overrides({"gpus": {"cloud-vcpu-2": machine.row()}})
validation = validate(
    files[:1],
    machine="cloud-vcpu-2",
    engine="transformers",
    refit_on=files[1:],
    catalog=catalog,
)
print(validation)

# %% [markdown]
# ## 7. Decide again
#
# Two counts now stand where a guess was: right answers of the teacher and of the student, out of 336. The machine is
# the one that was measured.
#
# **In your own case, these counts are all that the decision needs.** Put them into the scenario file, as
# `[choices.evaluations]`, or into `recommend(..., evaluations=...)` as the next cell shows. The names are `teacher` and
# the student's catalog id. `recommend` makes a quality of them with its uncertainty: the more items, the narrower. A
# quality by counts stands over everything that was there before it: over the *prior* (what is believed of a model that
# nobody has measured on this task) and over `teacher_quality` and `student_retention`, where you had stated them. Count
# both models on the same items, labelled by people, and none of them trained on.

# %%
from distillcalc.benchmark import redecide

right = {
    "teacher": (round(quality.teacher.value * quality.items), quality.items),
    "minilm-l6": (round(quality.figures["accuracy"].value * quality.items), quality.items),
}
measured = {"gpus": {"cloud-vcpu-2": machine.row()}, **validation.overrides}
print(redecide(scenario, evaluations=right, overrides=measured))

# %% [markdown]
# The same counts as `recommend` takes them, on the machine as the catalog has it, and what is taken for the student's
# quality without them and with them:

# %%
counts = {name: {"correct": correct, "total": total} for name, (correct, total) in right.items()}
print("evaluations =", counts)
chosen = {"teacher": "openai/gpt-6-sol", "students": ["minilm-l6"], "use": scenario.use}
for known in ({}, counts):
    own = recommend(scenario.workload, **chosen, evaluations=known).options["self-host"]
    print(f"{own.quality_mean:.2f} ± {own.quality_sd:.2f}, {own.provenance['quality']}")

# %% [markdown]
# This student was trained for a few seconds, and the verdict is about it. The student of the full demo learnt from 320
# messages in ten passes and was right in 273 of the same 336. What would have been decided with that one?

# %%
print(redecide(scenario, evaluations={**right, "minilm-l6": (273, 336)}, overrides=measured))

# %% [markdown]
# A few points of quality, measured on a few hundred messages, move tens of thousands of dollars: that is why measuring
# comes before deciding.
#
# ## Do it with your own model
#
# A classifier: give its folder in section 2. A student that writes is loaded by
# `InProcess.load("folder", name="my student")` of `distillcalc.benchmark` in place of `InProcessClassifier`, and
# `benchmark` and `measure_quality` take it as they take this one (with a task and prompts of yours).
#
# The same from a terminal; `--model` takes the folder of either:
#
# ```
# distillcalc benchmark run mine.toml --model runs/four-way/student --concurrency 1,4
# distillcalc benchmark run mine.toml --base-url http://127.0.0.1:8000/v1 --model my-model --rates 1,2,4
# distillcalc benchmark machine -o machine.toml
# distillcalc validate A.json --machine this-machine --catalog machine.toml --refit-on B.json
# distillcalc recommend mine.toml
# ```
#
# The second measures an endpoint; the records `A.json` and `B.json` are what two runs wrote. The last decides, with the
# counts in `mine.toml`:
#
# ```toml
# [choices.evaluations]
# teacher = { correct = 282, total = 336 }
# minilm-l6 = { correct = 273, total = 336 }
# ```
#
# ## Where to go next
#
# If the student is good enough for most requests and not for all, [06 Route](06_route.ipynb) sends the rest on.
