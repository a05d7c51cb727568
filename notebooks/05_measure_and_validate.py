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
# (Notebook 04 trains with more care. To measure a student of your own, give its folder in the next cell.)

# %%
from pathlib import Path

from distillcalc.distill import Dataset
from distillcalc.distill.packaged import minilm
from distillcalc.distill.training import train_classifier
from distillcalc.distill.training.classifier import ClassifierData

folder = Path("runs/05_measure_and_validate")
labels = ("delivery", "return", "damage", "change", "payment", "account", "product", "feedback")
answers = Dataset.load(shop / "answers" / "messages.jsonl").records[:128]
trained = train_classifier(
    minilm(), ClassifierData.of_records(answers, labels), epochs=1, batch_size=16, learning_rate=1e-4, folder=folder
)
print(f"{trained.steps} steps in {trained.seconds:.0f} s")

# %% [markdown]
# ## 3. How good is it?
#
# It sorts 336 messages that it has never seen, and that people labelled. Beside it stands the teacher, on the same
# messages: what it answered is stored. Intervals are at 95%.

# %%
from distillcalc.benchmark import InProcessClassifier, measure_quality
from distillcalc.distill import Task

student = InProcessClassifier(trained.classifier, name="minilm-l6 (student)")
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
    name="customer messages", requests_per_day=40_000, input_tokens={"mean": 34, "p95": 70}, output_tokens=1
)
first = benchmark(
    student, messages, concurrency=(1, 4), requests=64, name="first", model="minilm-l6", engine="transformers"
)
print(first)

# %% [markdown]
# A second run with other requests will be needed below: an estimate may be fitted to one run and held against the
# other, never to the same.

# %%
again = benchmark(
    student, messages, concurrency=(1, 4), requests=64, seed=1, name="again", model="minilm-l6", engine="transformers"
)
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
validation = validate(files[:1], machine="cloud-vcpu-2", engine="transformers", refit_on=files[1:], catalog=catalog)
print(validation)

# %% [markdown]
# ## 7. Decide again
#
# Two counts now stand where a guess was: right answers of the teacher and of the student, out of 336. The machine is
# the one that was measured. **In your own case, these counts are all that the decision needs**: put them into the
# scenario file, or into `recommend(..., evaluations={"teacher": {"correct": 282, "total": 336}, ...})`.

# %%
from distillcalc.benchmark import redecide

right = {
    "teacher": (round(quality.teacher.value * quality.items), quality.items),
    "minilm-l6": (round(quality.figures["accuracy"].value * quality.items), quality.items),
}
redecision = redecide(
    scenario, evaluations=right, overrides={"gpus": {"cloud-vcpu-2": machine.row()}, **validation.overrides}
)
print(redecision)

# %% [markdown]
# This student was trained for a few seconds, and the verdict is about it. The student of the full demo learnt from 320
# messages in ten passes and was right in 273 of the same 336. What would have been decided with that one?

# %%
better = redecide(
    scenario,
    evaluations={**right, "minilm-l6": (273, 336)},
    overrides={"gpus": {"cloud-vcpu-2": machine.row()}, **validation.overrides},
)
print(better)

# %% [markdown]
# A few points of quality, measured on a few hundred messages, move tens of thousands of dollars: that is why measuring
# comes before deciding.
#
# ## Do it with your own model
#
# The same from a terminal, for an endpoint as well: `distillcalc benchmark run mine.toml --base-url
# http://127.0.0.1:8000/v1 --model my-model --rates 1,2,4`, then `distillcalc validate`. The README shows both.
#
# ## Where to go next
#
# If the student is good enough for most requests and not for all, [06 Route](06_route.ipynb) sends the rest on.
