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
# # Your traffic
#
# **What this answers:** what does a log of your requests say about your traffic, and what should be done with that
# traffic? It goes from a log file to a decision, and from there to a scenario file that the other notebooks read.
#
# **How long it takes:** ten seconds with the log that comes with the package, 277,339 requests of a made-up web shop.
# Your own may be much larger than this machine's memory. Nothing is sent anywhere, and texts are not kept. It writes
# into the folder `runs/02_your_traffic`, beside this notebook.

# %% [markdown]
# ## Check-up

# %%
from distillcalc.notebook.checkup import checkup

checkup()

# %% [markdown]
# ## 1. The log
#
# **The line that begins with `LOGS` is the one to change.** Put the path of your own log there, then choose *Run All
# Cells* in the menu *Run*. A pattern such as `"/home/me/logs/2026-*.csv.gz"`, a folder, or a list of paths will do,
# too:
#
# ```python
# LOGS = "/home/me/logs/requests.jsonl"
# ```
#
# Read are **CSV, JSONL and Parquet** (also gzipped CSV and JSONL). The layouts of these are known by themselves: OpenAI
# (chat completions, responses, batches, usage exports), LiteLLM, OpenTelemetry GenAI, Langfuse, Anthropic, Bedrock,
# Azure and BurstGPT traces, and tables with plain names such as `timestamp`, `prompt_tokens`, `completion_tokens`,
# `model`. Anything else takes a **column mapping** in the line below: which of your columns holds which figure. Section
# 4 tells more, and says what can be named. For a log with the columns `when`, `tokens.in` and `tokens.out` it is
#
# ```python
# COLUMNS = {"at": "when", "input_tokens": "tokens.in", "output_tokens": "tokens.out"}
# ```

# %%
from distillcalc.resources import data_folder

LOGS = data_folder() / "demo" / "requests.parquet"
COLUMNS = None

# %% [markdown]
# What does it look like? Three rows are enough to see which columns there are. (Of a folder or a list of files, name
# one of them here in place of `{LOGS}`.)

# %%
import duckdb

duckdb.sql(f"SELECT * FROM '{LOGS}' LIMIT 3").df()

# %% [markdown]
# ## 2. What the log says
#
# `profile_logs` reads every row once. Rows read are rows used plus rows rejected, always, and each rejected row has a
# reason. What the log cannot say is told as *unknown*, and never taken to be zero.

# %%
from distillcalc.workload.logs import profile_logs

profile = profile_logs(LOGS, columns=COLUMNS)
profile

# %% [markdown]
# ## 3. The same as a picture
#
# Volume over time, lengths of prompts and answers, how evenly requests come, and how many are repeats. The peak
# matters: machines of your own are sized for the busiest hour, while an API is paid by the request.

# %%
# %matplotlib inline
profile.figure()

# %% [markdown]
# ## 4. A log with columns of its own
#
# Suppose a log names its columns in its own way. To try it, this cell writes 20,000 of the shop's requests under such
# names, separated by commas, and shows the first.

# %%
from pathlib import Path

folder = Path("runs/02_your_traffic")
folder.mkdir(parents=True, exist_ok=True)
shop = data_folder() / "demo" / "requests.parquet"
odd = duckdb.sql(
    f"SELECT created_at AS asked_when, prompt_tokens AS size_of_question, completion_tokens AS size_of_answer "
    f"FROM '{shop}' LIMIT 20000"
)
odd.write_csv(str(folder / "odd.csv"))
odd.limit(3).df()

# %% [markdown]
# On the left of a mapping stands what is wanted, on the right your column; in JSONL, a dotted path such as
# `"usage.tokens.in"`. The time and the two token counts are enough.

# %%
mapped = profile_logs(
    folder / "odd.csv",
    columns={"at": "asked_when", "input_tokens": "size_of_question", "output_tokens": "size_of_answer"},
)
print(mapped.headline)

# %% [markdown]
# This is everything that a mapping can name. An empty column, `{"cost_usd": ""}`, says that a figure is not to be read.

# %%
from distillcalc.workload.logs.schemas import FIELDS

for name, meaning in FIELDS.items():
    print(f"{name:<20} {meaning}")

# %% [markdown]
# A log of texts without token counts is read as well (map `prompt` and `response`): tokens are then counted on this
# machine, for which a tokenizer must be here; the message says how to give one. Times without a zone are UTC unless you
# give `time_zone="Europe/Berlin"`.

# %% [markdown]
# ## 5. What the log cannot know
#
# Six things are yours to say. **Change them to what holds for you:**
#
# * `slo`: how fast 95 of 100 answers must be there, in seconds (leave it out if it does not matter);
# * `quality`: how good answers must be: a share of the teacher's quality, or `{"floor": 0.9}` for a share right;
# * `student_input_tokens`: how long the prompt is once instructions and examples have moved into the student's weights:
#   often no more than the message itself. Leave it out if you do not know: the whole prompt is taken;
# * `cacheable_prefix_tokens`: how many tokens all prompts begin with (logs with texts tell it themselves);
# * `horizon_months`: how long the system will live;
# * `start`: when. A date, after today.

# %%
from datetime import date

mine = {
    "name": "customer messages",
    "slo": {"e2e_p95_s": 2.0},
    "quality": {"metric": "accuracy", "floor_relative_to_teacher": 0.9},
    "student_input_tokens": {"mean": 34, "p95": 70},
    "cacheable_prefix_tokens": 420,
    "horizon_months": 24,
    "start": date(2026, 12, 1),
}
workload = profile.workload(**mine)

# %% [markdown]
# The workload now holds what was measured and what you said, and knows which is which.
# (`Workload.from_logs(LOGS, **mine)` goes from a log to a workload in one step.)

# %%
for figure, origin in profile.provenance_of(**mine).items():
    print(f"{figure}: {origin}")

# %% [markdown]
# ## 6. Decide
#
# Three names are left to choose, and the calculator knows many:
#
# * `teacher`: the model that you call today, as provider/model. In a terminal, `distillcalc catalog prices` lists them.
# * `students`: small models to consider, by their id. `distillcalc catalog models` lists them, the next cell a few.
# * `use`: what the student will do. Providers' terms differ between a private classifier and a model that writes.

# %%
import pandas as pd

from distillcalc import Catalog

small = [(id, row.name, row.params_b) for id, row in Catalog.load().models.items() if 0 < (row.params_b or 0) < 8]
pd.DataFrame(small, columns=["id", "model", "billion parameters"]).sort_values("billion parameters").set_index("id")

# %% [markdown]
# Here the shop's messages are sorted into eight kinds, so a small classifier might do. Nobody has measured yet how good
# it would be, and the verdict takes that seriously. If no option passes what you asked for above, the verdict says
# which condition to relax, and what that buys.

# %%
from distillcalc import recommend

decision = recommend(
    workload,
    teacher="openai/gpt-6-sol",
    students=["minilm-l6", "qwen3-0.6b"],
    use={"kind": "classifier", "competes_with_teacher": False},
)
decision

# %% [markdown]
# ## 7. Read it as a manager would
#
# Three sentences, for whoever signs.

# %%
from textwrap import fill

from distillcalc import explain

print(fill(explain(decision), 100))

# %% [markdown]
# ## 8. Keep it
#
# The scenario file holds your traffic and your choices; texts are not in it. It can be edited by hand, and everything
# reads it: `distillcalc recommend mine.toml` in a terminal, `Scenario.load` in Python, and the sliders of notebook 01
# (*Scenario file*, then *Load*; or `panel("mine.toml")`).

# %%
decision.scenario.save(folder / "mine.toml")

# %% [markdown]
# ## Where to go next
#
# * Move your own traffic on the sliders: in [01 Should I distill?](01_should_i_distill.ipynb), type
#   `runs/02_your_traffic/mine.toml` beside *Load*.
# * If the verdict says that an option is held back because **its quality is not measured**, go on with
#   [03 Teach](03_teach.ipynb): a few hundred labelled examples settle it.
# * If calling the big model wins and the tipping points are far away, you are done: keep calling it, and look again
#   when your volume or its price has changed.
