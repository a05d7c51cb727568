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
# # Route
#
# **What this answers:** if the student answers what it is sure of, and the teacher the rest, how many requests must be
# sent on for the quality that you promise, and what does the month then cost?
#
# **How long it takes:** ten seconds. No key, no GPU, no network. It writes into `runs/06_route` beside this notebook.

# %% [markdown]
# ## Check-up

# %%
from distillcalc.notebook.checkup import checkup

checkup()

# %% [markdown]
# ## 1. What a request costs
#
# The web shop of notebook 02, with its traffic and its prices. A request that is sent on costs what the big model
# bills; one that the student answers has a share in its machine.

# %%
from distillcalc import recommend
from distillcalc.demo import scenario_of
from distillcalc.resources import data_folder
from distillcalc.workload.logs import profile_logs

shop = data_folder() / "demo"
scenario = scenario_of(profile_logs(shop / "requests.parquet"), teacher="openai/gpt-6-sol")
options = recommend(scenario).options
requests_per_month = scenario.workload.requests_per_day * 365 / 12
teacher_usd = float(options["call-teacher"].monthly_total_usd[0]) / requests_per_month
student_usd = float(options["self-host"].monthly_total_usd[0]) / requests_per_month
print(f"{requests_per_month:,.0f} requests a month")
print(f"teacher: ${1000 * teacher_usd:.2f} per 1,000 requests, student: ${1000 * student_usd:.2f}")

# %% [markdown]
# ## 2. Pairs
#
# A router is made from **pairs**: requests that both models answered and people judged. These 336 are of the demo,
# whose teacher is right in 83.9% and whose student in 81.2%. For each the student also says how probable it finds every
# label.
#
# **Your own file** is CSV, JSONL or Parquet with the columns below; `label` is what people say. In place of an answer,
# `student_right` and `teacher_right` (0 or 1) will do.

# %%
import pandas as pd

table = pd.read_json(shop / "pairs.jsonl", lines=True).assign(student_usd=student_usd, teacher_usd=teacher_usd)
table.head(3)

# %% [markdown]
# Reading them compares each answer with the label, and rejects with a reason what is no pair.

# %%
from distillcalc.route import read_pairs

pairs = read_pairs(table, id="id", label="label", names={"student": "minilm-l6", "teacher": "openai/gpt-6-sol"})
print(f"{len(pairs):,} pairs, {len(pairs.rejected)} rows rejected")

# %% [markdown]
# ## 3. Fit, and certify
#
# The score is the student's **margin**: by how much its first label is ahead of its second. A request whose score is
# below a threshold is sent on. The threshold is chosen on one half of the pairs and tested on the other: what is
# *certified* holds, with 95% confidence, for new requests and not for these alone.
#
# First the shop asks for 90% of the teacher's quality, at least cost.

# %%
from textwrap import fill

from distillcalc.route import Goal, fit_router

easier = fit_router(pairs, Goal(retention=0.9), scores=["margin"])
print(fill(str(easier.verdict), 100))

# %% [markdown]
# If the student alone is good enough for that, a router would only cost. What if 95% is to be promised?

# %%
fitted = fit_router(pairs, Goal(retention=0.95), scores=["margin"])
print(fill(str(fitted.verdict), 100))

# %% [markdown]
# ## 4. Move the threshold
#
# The slider goes from the student alone, 0%, to sending everything on, 100%; of the thresholds that were tried, the
# nearest is taken. Watch the month's bill and the share that is right. It turns amber where the goal is not certified.
# On the dashed line requests are sent on at random: a router must lie above it. Its curve may rise above the teacher
# alone, because the two are not wrong about the same messages; and it ends to the right of the teacher alone, because a
# request that is sent on pays both.

# %%
from distillcalc.notebook import threshold_panel

threshold_panel(fitted, requests_per_month)

# %% [markdown]
# ## 5. Can its probabilities be believed?
#
# Where the router says "the student is right with 80%", it should be right in 80 of 100. On the diagonal it is.

# %%
# %matplotlib inline
from distillcalc.route import reliability_figure

reliability_figure(fitted.reliability())

# %% [markdown]
# ## 6. One request
#
# At work, a router takes some microseconds for a decision, and says why.

# %%
from distillcalc.route import Request

unsure = table.loc[table["student_probabilities"].map(max).idxmin()]
route = fitted.router.decide(Request(unsure["text"], probabilities=unsure["student_probabilities"]))
print(unsure["text"])
print(route.model, "-", route.reason)

# %% [markdown]
# ## 7. Decide again, with the router
#
# The scenario takes what was measured, and the decision takes the threshold: *cascade* is the router, beside the
# student alone and the teacher alone.

# %%
from distillcalc import Quality
from distillcalc.route import with_router

workload = scenario.workload.model_copy(update={"quality": Quality(floor_relative_to_teacher=0.95)})
stricter = scenario.model_copy(update={"workload": workload})
decision = recommend(with_router(stricter, fitted.router))
decision

# %% [markdown]
# ## 8. Keep it
#
# The router is a folder of plain files. `Router.load` reads it; `RoutedClient` puts it behind the interface of the
# openai client; `distillcalc route drift` tells when it no longer does what it promised.

# %%
fitted.router.save("runs/06_route/router")

# %% [markdown]
# ## Where to go next
#
# That is the loop. With pairs of your own, change `table` in section 2 and the scenario in section 1
# (`Scenario.load("runs/02_your_traffic/mine.toml")`). In a terminal, `distillcalc route fit pairs.jsonl --retention 0.9
# --score margin -o router` does the same. To start again from your traffic, go back to
# [02 Your traffic](02_your_traffic.ipynb).
