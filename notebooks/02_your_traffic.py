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
#
# **For a log of your own, three places are yours.** Each is marked `CHANGE THIS` in its cell:
#
# 1. where the log lies, and which of its columns are which (section 1): without this nothing is about your traffic;
# 2. what the log cannot know: how fast and how good answers must be, and how long the system will live (section 5);
# 3. which models you call and would consider, and what the student is for (section 6).
#
# What holds for the shop of the example is kept apart, and is used for the shop's log alone. If you change the first
# place only, your log meets neutral statements: nothing asked of the speed, and an answer good enough where the student
# reaches nine tenths of the teacher's quality. The decision is then about your volume and lengths, and a first look.

# %% [markdown]
# ## Check-up

# %%
from distillcalc.notebook.checkup import checkup

checkup()

# %% [markdown]
# ## 1. The log
#
# **First place to change:** put the path of your own log in the line that begins with `LOGS`, then choose *Run All
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
# 4 tells more, and says what can be named. For a log with the columns `when`, `tokens.in`, `tokens.out` and `http` it
# is
#
# ```python
# COLUMNS = {"at": "when", "input_tokens": "tokens.in", "output_tokens": "tokens.out", "status": "http"}
# ```
#
# The time and the two token counts must be there. **Map `status` as well if calls that failed are in the log** (an HTTP
# status such as 200 or 429, or a word such as `error`): else they count as traffic.

# %%
from distillcalc.resources import data_folder

SHOP = data_folder() / "demo" / "requests.parquet"

LOGS = SHOP  # CHANGE THIS (1 of 3): the path of your log
COLUMNS = None  # and this, if its columns are not known by themselves

# %% [markdown]
# What does it look like? Three rows are enough to see which columns there are. Of a folder, a pattern or a list, the
# first file is shown.

# %%
import duckdb

from distillcalc.workload.logs import find_sources

first = find_sources(LOGS)[0][0]
log = {
    "csv": f"read_csv('{first.path}', ignore_errors=true)",
    "jsonl": f"read_ndjson('{first.path}', ignore_errors=true, maximum_depth=2)",  # an object a line
    "array": f"read_json('{first.path}', maximum_depth=2)",  # one list of objects
    "parquet": f"read_parquet('{first.path}')",
}["array" if first.array else first.format]
duckdb.sql(f"SELECT * FROM {log} LIMIT 3").df()

# %% [markdown]
# ## 2. What the log says
#
# `profile_logs` reads every row once. Rows read are rows used plus rows rejected, always, and each rejected row has a
# reason. What the log cannot say is told as *unknown*, and never taken to be zero.
#
# If more than a small share of the rows is rejected, it stops, and says what is wrong with them and in which lines.
# Mostly the mapping is wrong. `profile_logs(LOGS, columns=COLUMNS, max_rejected_share=0.2)` goes on all the same, here
# with up to a fifth rejected; **the rejected rows are then missing from the volume**, which is too low by so much.

# %%
from distillcalc.workload.logs import profile_logs

profile = profile_logs(LOGS, columns=COLUMNS)
profile

# %% [markdown]
# Some words of this table. **p50, p95, p99** are what 50, 95 and 99 of 100 requests stay below. The **trend** is the
# growth in a month, with the interval that it lies in. **Interarrival** is the time from one request to the next, and
# its **CV** (coefficient of variation) the spread of these gaps divided by their mean: 1 if requests come independently
# of each other, which is called **Poisson**, and above 1 if they come in bursts. **Dispersion** says the same of the
# number of requests in a second or a minute. The **rank correlation** of the lengths is near 1 if long prompts get long
# answers, and near 0 if the one tells nothing of the other.

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
# This section shows a column mapping on an example, whatever `LOGS` is; there is nothing to change in it. Suppose a log
# names its columns in its own way. This cell writes 20,000 of the shop's requests under such names, separated by
# commas, and shows the first.

# %%
from pathlib import Path

folder = Path("runs/02_your_traffic")
folder.mkdir(parents=True, exist_ok=True)
odd = duckdb.sql(
    f"SELECT created_at AS asked_when, prompt_tokens AS size_of_question, completion_tokens AS size_of_answer, "
    f"status AS how_it_went FROM '{SHOP}' LIMIT 20000"
)
odd.write_csv(str(folder / "odd.csv"))
odd.limit(3).df()

# %% [markdown]
# On the left of a mapping stands what is wanted, on the right your column; in JSONL, a dotted path such as
# `"usage.tokens.in"`. The time and the two token counts must be named; `status` tells the calls that failed, which are
# then counted apart and left out of the volume that is decided on. Without it they count as traffic.

# %%
mapped = profile_logs(
    folder / "odd.csv",
    columns={
        "at": "asked_when",
        "input_tokens": "size_of_question",
        "output_tokens": "size_of_answer",
        "status": "how_it_went",
    },
)
print(mapped.headline)
print(f"failed: {mapped.failures.failed:.2%}")

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
# **Second place to change.** These are yours to say; a line that is left out is not asked for, or taken as said here:
#
# * `name`: what the traffic is called in tables and files;
# * `quality`: how good answers must be. `floor_relative_to_teacher` is a share of the teacher's quality;
#   `{"metric": ..., "floor": 0.9}` asks for a share right instead. `metric` is only the name of what you will count.
#   For labels it is *accuracy*, the share that is right. For written answers it is the share that people judge right;
# * `slo` (service-level objective): `e2e_p95_s` is how fast 95 of 100 answers must be there, from end to end, in
#   seconds; leave it out if it does not matter;
# * `student_input_tokens`: how long the prompt is once instructions and examples have moved into the student's weights:
#   often no more than the message itself. Leave it out if you do not know: the whole prompt is taken;
# * `cacheable_prefix_tokens`: how many tokens all prompts begin with (logs with texts tell it themselves). A provider
#   remembers such a beginning and charges less for it, but only from a least length on: a shorter one changes nothing.
#   Section 6 prints the least length for your teacher; the shop's prompts begin with fewer tokens, so it has no such
#   line;
# * `network_rtt_s`: the way to the API and back in seconds; 0 if the speed that you state in section 6 holds it;
# * `horizon_months`: how long the system will live;
# * `start`: when. Here, the first day of next month.

# %%
from datetime import date, timedelta

next_month = (date.today().replace(day=1) + timedelta(days=32)).replace(day=1)

of_the_shop = {
    "name": "customer messages",
    "quality": {"metric": "accuracy", "floor_relative_to_teacher": 0.9},
    "slo": {"e2e_p95_s": 2.0},
    "student_input_tokens": {"mean": 34, "p95": 70},
    "horizon_months": 24,
    "start": next_month,
}

of_your_own = {  # CHANGE THIS (2 of 3) to what holds for you
    "name": "my traffic",
    "quality": {"metric": "share right", "floor_relative_to_teacher": 0.9},
    # "slo": {"e2e_p95_s": 5.0},
    # "student_input_tokens": {"mean": 300, "p95": 800},
    # "cacheable_prefix_tokens": 1500,
    # "network_rtt_s": 0,
    "horizon_months": 24,
    "start": next_month,
}

mine = of_the_shop if LOGS is SHOP else of_your_own
workload = profile.workload(**mine)

# %% [markdown]
# The workload now holds what was measured and what you said, and knows which is which.
# (`Workload.from_logs(LOGS, columns=COLUMNS, **mine)` goes from a log to a workload in one step.)

# %%
for figure, origin in profile.provenance_of(**mine).items():
    print(f"{figure}: {origin}")

# %% [markdown]
# ## 6. Decide
#
# Three names are left to choose, and the calculator knows many:
#
# * `teacher`: the model that you call today, as provider/model (the table in section 2 ends with the models of the log,
#   if it names them). In a terminal, `distillcalc catalog prices` lists those with a price (from the project's folder,
#   `.venv/bin/distillcalc`).
# * `students`: small models to consider, by their id. `distillcalc catalog models` lists them, the next cell a few.
#   The more parameters, the better and the dearer a model tends to be. `minilm-l6` can sort and not write.
# * `use`: what the student will do.

# %%
import pandas as pd

from distillcalc import Catalog

catalog = Catalog.load()
small = [(id, row.name, row.params_b) for id, row in catalog.models.items() if 0 < (row.params_b or 0) < 10]
pd.DataFrame(small, columns=["id", "model", "billion parameters"]).sort_values("billion parameters").set_index("id")

# %% [markdown]
# `use` is what providers' terms ask. Its `kind` is one of those printed below: `generative` writes, `classifier` gives
# one of a few labels, `embedding` turns a text into numbers to search by. Most providers' terms forbid training a model
# on their answers that **competes with the teacher**, such as a general assistant offered to others:
# `competes_with_teacher` says whether yours does. `None` is *not said*, which some terms leave open, and others settle.
# If other people get the weights, in an app or for sale, add `"distributed": True`.

# %%
from typing import get_args

from distillcalc.workload import Use

get_args(Use.model_fields["kind"].annotation)

# %% [markdown]
# **Third place to change.** The shop's messages are sorted into eight kinds, so a small classifier might do. For a log
# of your own the cell takes the same teacher, a small student and a larger one, and a student that writes.

# %%
choices_of_the_shop = {"teacher": "openai/gpt-6-sol", "students": ["minilm-l6", "qwen3-0.6b"]}
use_of_the_shop = {"kind": "classifier", "competes_with_teacher": False}

your_choices = {"teacher": "openai/gpt-6-sol", "students": ["qwen3-0.6b", "qwen3-8b"]}  # CHANGE THIS (3 of 3)
your_use = {"kind": "generative", "competes_with_teacher": None}  # and this

choices = choices_of_the_shop if LOGS is SHOP else your_choices
use = use_of_the_shop if LOGS is SHOP else your_use

# %% [markdown]
# How fast is your teacher's API? Your log was not asked: the catalog has a dated figure that somebody measured, the
# median time to the first token (TTFT) and the median number of tokens a second after it. How long the slowest answers
# take, the *tail*, is **assumed**: at p95 twice the median. Nothing may be known of a model; it is then printed as
# `None`.

# %%
api = catalog.api(choices["teacher"])
for figure in ("ttft_p50_s", "ttft_p95_s", "output_tokens_per_s", "cache_min_prefix_tokens", "source", "checked"):
    print(f"{figure}: {getattr(api, figure, None)}")

# %% [markdown]
# **If you have an `slo`, what you measured should stand in its place.** Put it into `MEASURED`, by the name of the
# model; what you leave out stays as it is:
#
# ```python
# MEASURED = {
#     "openai/gpt-6-sol": {"ttft_p50_s": 0.62, "ttft_p95_s": 1.45, "tpot_p50_ms": 11.0, "tpot_p95_ms": 17.0}
# }
# ```
#
# `tpot` is the time of each token after the first (the reciprocal of tokens a second), in milliseconds. If your log
# holds the time of whole answers only, a straight line through times and answer lengths gives the time of a token: its
# slope. The median time to the first token is what is left of a usual request. Its p95 is chosen so that the whole
# answer's p95 is the one of your log, since the calculator adds a slow first token to a long answer. With times in
# milliseconds in a column `ms`, answer lengths in `tokens_out`, and a status in `http`:
#
# ```python
# answered = f"(SELECT ms, tokens_out AS n FROM {log} WHERE http = 200)"
# slope, p95, long = duckdb.sql(
#     f"SELECT regr_slope(ms, n), quantile_cont(ms, 0.95), quantile_cont(n, 0.95) FROM {answered}"
# ).fetchall()[0]
# rest = duckdb.sql(f"SELECT median(ms - {slope} * (n - 1)) FROM {answered}").fetchall()[0][0]
# MEASURED = {
#     choices["teacher"]: {
#         "ttft_p50_s": rest / 1000,
#         "ttft_p95_s": max(p95 - slope * (long - 1), rest) / 1000,
#         "tpot_p50_ms": slope,
#         "tpot_p95_ms": slope,
#     }
# }
# print(f"p95 of whole answers: {p95 / 1000:.2f} s")
# ```
#
# What it comes to for a whole answer is printed below the decision (`e2e_p95_s`). **Compare it with the p95 of your
# log.** If it lies above, the calculator is too strict with your teacher, and its verdict on the `slo` is not to be
# believed.

# %%
MEASURED = {}  # may stay empty

# %% [markdown]
# A scenario holds all of it: the workload, the choices, the use, and what you lay over the catalog. Nobody has measured
# yet how good a student would be, and the verdict takes that seriously. If no option passes what you asked for above,
# the verdict says which condition to relax, and what that buys. ([00 Start here](00_start_here.ipynb), section 2,
# explains the names of the options and words such as *unproven*.)

# %%
from distillcalc import Scenario, recommend

scenario = Scenario(workload=workload, choices=choices, use=use, overrides={"apis": MEASURED})
decision = recommend(scenario)
decision

# %% [markdown]
# **Of each option the best candidate is shown.** An option has several, one for each student and machine or host. Shown
# is the cheapest that may be recommended; where none may, the cheapest of all. So an option can stand as *ruled-out*
# above while a dearer candidate, such as a larger student, is only *unproven*. All that were looked at are in
# `decision.candidates`; the present value is the cost over the whole horizon, in today's dollars, and `NaN` where no
# price is known.

# %%
looked_at = [
    (option, one.label, one.status, one.present_value_usd)
    for option, group in decision.candidates.items()
    for one in group
]
pd.DataFrame(looked_at, columns=["option", "candidate", "status", "present value, USD"]).round(0)

# %% [markdown]
# How fast would the teacher be, and where does that figure come from? With `MEASURED` filled in, it says *given*.

# %%
called = decision.options["call-teacher"]
for figure, value in called.latency.items():
    print(f"{figure}: {value:.3g}")
print(called.provenance.get("latency"))

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
# The scenario file holds your traffic and your choices; texts are not in it. It can be edited by hand. **A file of this
# name that is there already is replaced**: to keep the decision of an earlier run, change `mine.toml` in the cell.

# %%
kept = decision.scenario.save(folder / "mine.toml")
print(kept)

# %% [markdown]
# Everything reads it: in a terminal in this notebook's folder, `distillcalc recommend runs/02_your_traffic/mine.toml`;
# in Python
#
# ```python
# from distillcalc import Scenario, recommend
#
# recommend(Scenario.load("runs/02_your_traffic/mine.toml"))
# ```
#
# and as sliders, in a cell of a notebook in this folder:
#
# ```python
# from distillcalc.notebook import panel
#
# panel("runs/02_your_traffic/mine.toml")
# ```

# %% [markdown]
# ## Where to go next
#
# * Move your own traffic on the sliders: in [01 Should I distill?](01_should_i_distill.ipynb), type
#   `runs/02_your_traffic/mine.toml` beside *Load*.
# * If the verdict says that an option is held back because **its quality is not measured**, measure it. For a student
#   that gives labels, go on with [03 Teach](03_teach.ipynb): a few hundred labelled examples settle it.
# * **If your student writes answers**, the loop is the same, and the opening of [03 Teach](03_teach.ipynb) says what
#   changes in it. In short: a task that names no labels (`distillcalc label task.toml --plan`, then without `--plan`,
#   has the teacher answer your prompts within a budget); a small language model trained on the answers, as
#   [04 Distill](04_distill.ipynb) tells; then both models answer a few hundred requests that were not trained on.
#   *Right* now means: judged right by people. Their counts are what the decision takes, `choices["evaluations"]`, as
#   in [05 Measure and validate](05_measure_and_validate.ipynb), section 7. A strong model that is asked which of two
#   answers is better (`distillcalc.benchmark.Judge`, in both orders) can say beforehand whether the student comes near
#   the teacher. It compares and does not count, and people should check a sample of what it says.
# * An option that needs no training, such as a provider's small model, is measured in the same way, before any other:
#   let it answer the same requests, and count.
# * If calling the big model wins and the tipping points are far away, you are done: keep calling it, and look again
#   when your volume or its price has changed.
