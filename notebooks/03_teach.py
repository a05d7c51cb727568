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
# # Teach
#
# **What this answers:** what does it take to have a big model label your data: how many calls, dollars and minutes, may
# you use the answers, how good are they, and which of them should a student learn from?
#
# **How long it takes:** under a minute on two cores. No key and no network: **the big model is played by a small one on
# this machine**, SmolLM2 with an adapter that the project trained for this task, behind the same kind of endpoint that
# a paid model has. Running it a second time pays for nothing twice. Everything is written into `runs/03_teach` beside
# this notebook, 0.6 GB of it the small model; delete the folder to start afresh.
#
# **Answers that are labels, or text.** The task below has eight possible answers, its *labels*, and the student will be
# a *classifier*: a model that gives a label and nothing else. If your student is to write (replies, summaries,
# extracts), the steps are the same, and four things change:
#
# * the **task** names no `labels`: an answer is any text, or JSON of the form given as `output_schema`. Its `use` is
#   `{"kind": "generative", ...}`, for which many terms are stricter;
# * the **teacher** needs room (`max_output_tokens`), so that labels cost more; the plan in section 3 tells how much;
# * **quality** is not a share of labels that are right. Where there is one right answer it is still counted
#   (`exact_match`); for free text a strong model judges which of two answers is better, asked in both orders, and
#   people check a sample of its verdicts (`measure_quality(..., judge=...)`; 05 uses `measure_quality` without one);
# * the **student** is a small language model, trained by another technique (04, section 6, lists them).

# %% [markdown]
# ## Check-up

# %%
from distillcalc.notebook.checkup import checkup

checkup("demo", "models")

# %% [markdown]
# ## 1. The rows
#
# A web shop for household goods wants its customers' messages sorted. There are 320 of them in a CSV file; the column
# `label` holds what a person says, so that we can tell how often the teacher is right. It is never sent. **Your own
# file** may be CSV, JSONL or Parquet, and needs no such column.

# %%
from distillcalc.distill import Rows
from distillcalc.resources import data_folder

shop = data_folder() / "demo"
rows = Rows(shop / "messages.csv", id="id", human_label="label")

# %% [markdown]
# ## 2. The task
#
# What is asked, which answers count, and what the student will be for. The last is what providers' terms turn on.

# %%
from distillcalc.distill import Task

labels = ("delivery", "return", "damage", "change", "payment", "account", "product", "feedback")
task = Task(
    name="customer messages",
    system="You sort messages of a web shop's customers by what the customer wants done.",
    labels=labels,
    student="minilm-l6",
    use={"kind": "classifier", "competes_with_teacher": False},
)
for message in task.messages({"text": "Where is my parcel?"}):
    print(f"{message['role']}: {message['content']}", end="\n\n")

# %% [markdown]
# ## 3. The plan
#
# Before anything is sent: calls, tokens, dollars at list price and as a batch, minutes, and whether the teacher's terms
# allow what you are about to do. This plan is for a real big model. Nothing leaves this machine.

# %%
from distillcalc.distill import Teacher, plan_labels

big = Teacher(model="openai/gpt-6-sol", temperature=0.0, max_output_tokens=8)
plan = plan_labels(task, big, rows)
print(plan)

# %% [markdown]
# How many rows does one need? A few hundred are often enough for a classifier: the student below learns from 320.
# Labels are the cheap part: here they cost cents, while the labels of *people*, which tell how good anything is, cost
# about a dollar each.

# %% [markdown]
# ## 4. The teacher that we have
#
# To go on without a key, SmolLM2 is loaded, its adapter merged, and served on a port of this machine. It was trained
# for this task, so it is asked in fewer words. With a key, this cell is not needed: `big` above is the teacher.

# %%
from pathlib import Path
from textwrap import fill

from distillcalc import Catalog
from distillcalc.demo_steps import SMALL, Demo, Nobody

folder = Path("runs/03_teach")
catalog = Catalog.load()
stand_in = Demo(folder, SMALL, teacher=None, budget_usd="1.00", watcher=Nobody(), catalog=catalog)
print(fill(stand_in.who["sentence"], 100))

# %% [markdown]
# ## 5. Label, within a budget
#
# `budget_usd` is a ceiling: what a call may cost is set aside before it is sent, and the run stops before it is
# crossed. First a **probe** of a few rows tells whether the answers fit and whether the teacher agrees with itself;
# then the rest follows. Each answer is on disk before it counts: if you interrupt this cell and run it again, it goes
# on.
#
# To keep this short, 12 messages are labelled. With a key it would read
# `label(task, big, rows, budget_usd="0.50", runs=folder)`.

# %%
import pandas as pd

from distillcalc.distill import label

some = Rows(pd.read_csv(shop / "messages.csv").head(12).to_dict("records"), "id", "label")
with stand_in.teacher_at_an_endpoint() as teacher:
    run = label(
        stand_in.task,
        teacher,
        some,
        budget_usd="0.10",
        probe=3,
        concurrency=4,
        runs=folder,
        catalog=stand_in.priced,
    )
print(run)

# %% [markdown]
# What did the probe say? Few rows tell little, and the intervals say so. (In a second run nothing is left to try, and
# this is `None`.)

# %%
print(run.probe)

# %% [markdown]
# ## 6. Look at the data
#
# No number replaces reading. These are the answers beside what people said; where they differ, ask who is right.

# %%
pd.set_option("display.max_colwidth", 120)
answers = pd.DataFrame(
    [(record.text, record.answer, record.human_label) for record in run.dataset().records],
    columns=["message", "teacher", "person"],
)
answers[answers["teacher"] != answers["person"]]

# %% [markdown]
# ## 7. Filter
#
# Some answers teach the wrong thing: refusals, answers cut off, doubles, and whatever gives an evaluation item away.
# Each filter tells what it threw out. From here on we take all 320 answers that this teacher gave when the demo was
# run, which come with the package.

# %%
from distillcalc.distill import Dataset, Filters, prepare

every = Dataset.load(shop / "answers" / "messages.jsonl")
prepared = prepare(every, stand_in.task, Filters(evaluation=str(shop / "test.csv")))
print(prepared)

# %% [markdown]
# How is what stays spread over the labels? A label that the teacher hardly ever gives is one that the student will not
# learn.

# %%
pd.Series([record.answer for record in prepared.records]).value_counts().rename("records")

# %% [markdown]
# ## 8. Keep it
#
# Splits for training, near-duplicates on the same side, in the format that providers' fine-tuning takes (or `"jsonl"`,
# `"csv"`, `"parquet"`, `"huggingface"`). Beside them stands a card: who answered, when, how it was asked, what it cost,
# what was thrown out, and under which terms.

# %%
written = prepared.save(folder / "training", format="openai", overwrite=True)
sorted(file.name for file in (folder / "training").iterdir())

# %% [markdown]
# ## Do it with your own data
#
# Change `rows` in section 1, `task` in section 2 and `big` in section 3; with a key in the environment (for OpenAI
# `OPENAI_API_KEY`), section 5 is `label(task, big, rows, budget_usd="0.50", runs=folder)`, and section 7 begins with
# `every = run.dataset()`.
#
# The same from a terminal, with everything in one file, `task.toml`:
#
# ```toml
# [task]
# name = "customer messages"
# system = "You sort messages of a web shop's customers by what the customer wants done."
# labels = ["delivery", "return", "damage"]     # leave this line out for a student that writes
# student = "minilm-l6"                         # what is trained on the answers: the terms ask
# [inputs]
# file = "messages.csv"                         # beside this file; or .jsonl, .parquet
# human_label = "label"                         # where people labelled; never sent
# [teacher]
# model = "openai/gpt-6-sol"
# temperature = 0
# max_output_tokens = 8
# [labelling]
# budget_usd = 0.50                             # a ceiling
# [filters]
# evaluation = "test.csv"                       # what would give an evaluation item away is thrown out
# [use]
# kind = "classifier"                           # or "generative"
# competes_with_teacher = false
# ```
#
# Then `distillcalc label task.toml --plan` (nothing is sent), `distillcalc label task.toml`, and
# `distillcalc dataset task.toml -o training`.
#
# ## Where to go next
#
# [04 Distill](04_distill.ipynb) trains a student on these answers.
