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

table = pd.read_json(shop / "pairs.jsonl", lines=True)
table = table.assign(student_usd=student_usd, teacher_usd=teacher_usd)
print("columns:", ", ".join(table.columns))
table[["id", "label", "student_answer", "teacher_answer", "text"]].head(3)

# %% [markdown]
# Reading them compares each answer with the label, and rejects with a reason what is no pair. `names` says which models
# these are: the student by its catalog id, the teacher as provider/model, both as the scenario of section 1 names them.

# %%
from distillcalc.route import read_pairs

names = {"student": "minilm-l6", "teacher": "openai/gpt-6-sol"}
pairs = read_pairs(table, id="id", label="label", names=names)
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
#
# The verdict tells a figure by which routers are compared. *PGR*, the performance gap recovered, is the share of the
# way from the student's quality to the teacher's that a router makes good: 0 is the student alone, 1 the teacher alone.
# *APGR* is its average over all shares that may be sent on, 0% to 100%. Sending on at random has 0.5. **It can exceed
# 1**: where the student is right about requests that the teacher gets wrong, and the router keeps those, the two
# together are better than the teacher alone. Its interval is wide here, because the two models are close and the gap
# that it is a share of is small. (Elsewhere you may read *CPT(50%)*, the call-performance threshold: the least share
# that must be sent on to make good half of the gap.)

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
# Where the router says "the student is right with 80%", it should be right in 80 of 100. On the diagonal it is. The
# *ECE* in the picture, the expected calibration error, is the average distance from the diagonal: smaller is better.

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
#
# **Its threshold need not be the certified one of section 3.** The decision looks at many thresholds, and its rule is
# milder: an option may be recommended where the odds that it meets what you asked for are at least three to one. If it
# is not certified, it is called *provisional*, a note that begins with *router* says what the cheapest certified
# threshold would cost, and *still to find out* how surely the picked one is good enough and how many more labelled
# pairs would certify it. (How surely a threshold must be certified here is `confidence` of the workload's `Quality`,
# 0.9 where nothing is said; section 3 asked for 0.95.)

# %%
from distillcalc import Quality
from distillcalc.route import with_router

workload = scenario.workload.model_copy(update={"quality": Quality(floor_relative_to_teacher=0.95)})
stricter = scenario.model_copy(update={"workload": workload})
decision = recommend(with_router(stricter, fitted.router))
decision

# %% [markdown]
# The two thresholds side by side: what the decision picked, and the cheapest that is certified.

# %%
from distillcalc.decide.render import certified_cascades

months = stricter.workload.horizon_months
cascade = decision.options["cascade"]
both = {"picked": [cascade], "certified": certified_cascades(decision)[:1]}
for which, cascades in both.items():
    for one in cascades:
        print(
            f"{which}: score below {one.facts['threshold']:.4f} is sent on, "
            f"{one.facts['escalation_rate']:.1%} of requests; "
            f"${one.present_value_usd:,.0f} over {months} months, {one.status}"
        )
print(f"calling the teacher: ${decision.options['call-teacher'].present_value_usd:,.0f}")
for gate in cascade.gates:
    if gate.name == "router":
        print(fill(f"the picked one: {gate.detail}", 100))

# %% [markdown]
# **What to do:** where the two differ, run the certified one. Its cost is what you may plan with today, and it is what
# section 8 keeps. The cheaper one is an offer: label as many more pairs as the last line says (new ones, not those that
# the threshold was chosen on), fit again, and if it is certified then, take it. Sooner is a bet whose odds are printed
# above, and what is at stake is the quality that you promised.

# %% [markdown]
# ## 8. Keep it
#
# The router is a folder of plain files, with the threshold that section 3 certified. `Router.load` reads it;
# `RoutedClient` puts it behind the interface of the openai client; `distillcalc route drift` tells when it no longer
# does what it promised.

# %%
fitted.router.save("runs/06_route/router")

# %% [markdown]
# ## Where to go next
#
# That is the loop. With pairs of your own, change three things:
#
# * `scenario` in section 1: `Scenario.load("runs/02_your_traffic/mine.toml")`. The student of your pairs must be among
#   its `students`, and the teacher be its `teacher`: both stand in the file under `[choices]`
#   (`students = ["minilm-l6"]`);
# * `table` in section 2;
# * `names` in section 2: the same two, `{"student": "minilm-l6", "teacher": "openai/gpt-6-sol"}` here. (In a terminal
#   these are `--student` and `--teacher`.)
#
# In a terminal, `distillcalc route fit pairs.jsonl --retention 0.9 --score margin -o router` does the same. To start
# again from your traffic, go back to [02 Your traffic](02_your_traffic.ipynb).
