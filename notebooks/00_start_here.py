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
# # Start here
#
# **What this answers:** for your traffic, should you keep calling a big model, distill a small one, or route between
# the two? This notebook shows a whole decision in five cells, and says where to go with traffic of your own.
#
# **How long it takes:** five seconds to run, ten minutes to read. It needs no key, no GPU and no network, and writes no
# files. To run a cell and go on to the next one, press Shift+Enter. (To open the notebooks, type `make lab` in the
# project's folder, or `.venv/bin/jupyter lab`: outside the project's environment, `jupyter` may not be found.)
#
# ### A few words
#
# | word | what it means here |
# |---|---|
# | **teacher** | the big model that you call today, behind an API that is paid by the token |
# | **student** | a small model that is trained on the teacher's answers: that is what *distilling* is |
# | **token** | about three quarters of a word; prompts and answers are measured and paid in them |
# | **retention** | quality of the student / quality of the teacher, on the same questions |
# | **gate** | a condition that an option must meet: quality, latency, terms, privacy, memory |
# | **router** | asks the student first, and sends on to the teacher what the student is unsure of |
# | **quality** | a share of answers that are right: of labels the accuracy, of texts those that people judge right |
# | **horizon** | the months that are looked at; a **present value** is what they cost, in dollars of today |
# | **p50, p95** | what 50 or 95 of 100 requests stay below, such as a length or a waiting time |
# | **SLO** | service-level objective: how fast answers must be, mostly at p95 |

# %% [markdown]
# ## Check-up
#
# The first cell of every notebook looks at what is installed. If something is missing, it says what to type.

# %%
from distillcalc.notebook.checkup import checkup

checkup()

# %% [markdown]
# ## 1. Describe the traffic
#
# A **scenario** is everything that the decision depends on: how many requests a day, how long prompts and answers are,
# how fast and how good the answers must be, which models and machines you would consider, and what the student is for.
#
# `support-triage` comes with the package: a support desk that has 40,000 messages a day sorted into queues. Printed
# below is the Python that makes it, so you can see every number that went in.

# %%
from distillcalc import Scenario
from distillcalc.notebook import as_python

scenario = Scenario.load("support-triage")
print(as_python(scenario))

# %% [markdown]
# ## 2. Decide
#
# `recommend` works out seven ways of serving this traffic, month by month, and recommends the cheapest one that passes
# every gate. Read the answer from the top: the verdict, then each option with what it costs over the whole horizon and
# why it lost, then **where each option starts to pay** (break-even) and **what would change the verdict** (tipping
# points). A rule of thumb of an article that this project started from stands beside it.

# %%
from distillcalc import recommend

decision = recommend(scenario)
decision

# %% [markdown]
# ### The words of the verdict
#
# The seven options. Of each, one candidate is shown (a model on a machine or at a host): the cheapest that may be
# recommended, or where none may, the cheapest of all. `decision.candidates` has all of them.
#
# | option | what it is |
# |---|---|
# | `call-teacher` | call the big model, as today |
# | `call-small` | call the same provider's small model, as it is |
# | `hosted-open-student` | call an open small model at a host that is paid by the token, as it is |
# | `hosted-fine-tune` | a provider trains the student and serves it |
# | `self-host` | a student distilled for this task, on GPUs of your own or rented by you |
# | `self-host-teacher` | the big model itself on such GPUs, where its weights are public |
# | `cascade` | the student first, and the big model for what a router sends on |
#
# How far the gates let an option go, its **status**:
#
# | status | what it means |
# |---|---|
# | feasible | every gate passes |
# | provisional | something is not known yet, but nothing fails and the odds are three to one or better |
# | unproven | the odds that some condition holds are worse than three to one: mostly, nobody has measured the quality |
# | ruled-out | a gate fails, or is so unlikely to pass that it counts as failed |
# | unpriced | no price is known, so it is not compared; a missing price is never taken to be zero |
#
# Only a feasible or a provisional option is recommended.
#
# * **Break-even:** from which month on, and above which volume, an option is cheaper than calling the big model.
# * **Tipping point:** the nearest value of one input at which another option would be recommended.
# * **P(accuracy >= ...) is ..., asked for ...:** the probability that the quality reaches what you asked, and the
#   probability with which you want to be sure of it.
# * **Not measured on this task yet:** the quality is a *prior*, which is what is believed before anybody has counted.
# * **Escalation rate, APGR:** of a router, the share of requests that it sends on to the teacher, and how well it picks
#   them (a router that picks by chance has 0.5, a perfect one 1).

# %% [markdown]
# ## 3. See where the money goes
#
# Every option has a cash flow: month by month, item by item. Month 0 is what is spent before the first request is
# answered, and month 1 begins on the same day. Here is distilling and self-hosting, in dollars: first the student is
# made, which is mostly the time of an engineer; then its machines are rented, mostly idle at this volume, and somebody
# looks after them.

# %%
flow = decision.options["self-host"].cash_flow()
flow.set_index("month_start", append=True).round().astype(int).head(5).T

# %% [markdown]
# ## 4. Ask "what if"
#
# A **sweep** decides again at other values, in one call. Here is the verdict at four volumes: at low volume calling the
# big model wins, because making a student costs the same however little it is used.

# %%
from distillcalc import sweep

table = sweep(scenario, {"requests_per_day": [1_000, 10_000, 100_000, 1_000_000]})
table[table["recommended"]][
    ["requests_per_day", "option", "label", "present_value_usd", "usd_per_1000_requests"]
].round(2)

# %% [markdown]
# ## 5. Ask where a number comes from
#
# No number is made up in silence. Each says whether it was measured, given by you, taken from a dated table, worked out
# by a formula, or assumed. These are the sources of the self-hosting option.

# %%
for name, source in decision.options["self-host"].provenance.items():
    print(f"{name}: {source}")

# %% [markdown]
# ## Now with your own numbers
#
# These few lines are all that a decision needs. Change the numbers, run the cell, and read the verdict. Token lengths
# may be one number, or a mean with the length that 95 of 100 requests stay below: `{"mean": 900, "p95": 2100}`.
# Where you do not say how good the student is, its quality is a guess, and the decision says so; the later notebooks
# replace the guess by a measurement.

# %%
from distillcalc import Workload

traffic = Workload(
    name="my traffic",
    requests_per_day=8_000,
    input_tokens={"mean": 900, "p95": 2_100},
    output_tokens=60,
    slo={"e2e_p95_s": 4.0},
    quality={"floor_relative_to_teacher": 0.9},
)
recommend(
    traffic,
    teacher="openai/gpt-6-sol",
    students=["qwen3-4b"],
    use={"kind": "classifier", "competes_with_teacher": False},
)

# %% [markdown]
# ## Where to go next
#
# The notebooks follow the loop that a team goes through. Each stands on its own. From 03 on they train and run small
# models on this machine, and need a few more packages; their check-up says which.
#
# | if you want to | open | it takes |
# |---|---|---|
# | move sliders and watch the verdict change | [01 Should I distill?](01_should_i_distill.ipynb) | seconds |
# | **decide on a log file of your own** | [02 Your traffic](02_your_traffic.ipynb) | seconds |
# | have a teacher label your data, within a budget | [03 Teach](03_teach.ipynb) | under a minute |
# | train a student, and see the ideas behind it live | [04 Distill](04_distill.ipynb) | about a minute |
# | measure it, and decide again | [05 Measure and validate](05_measure_and_validate.ipynb) | under a minute |
# | send only the hard requests on to the teacher | [06 Route](06_route.ipynb) | seconds |
#
# If you have a log of your requests, **go to 02 next**. Three places there are yours, and each is marked: the path of
# the log (with its columns, if they have names of their own), what you ask of the answers, and the models with what the
# student is for. With the first alone the notebook runs, and the decision is about your volume and lengths, under
# neutral statements; look at the other two before you believe it. If you have no log, go to 01 and set the sliders to
# what you know.
#
# **If your student is to write answers** (replies, summaries), take the same way. 03 to 06 show it on labels, because
# those train in seconds. 03 opens with what is different for texts: the task names no labels, the student is a small
# language model, and *right* means judged right by people, whom a judge model can help. 02 ends with the steps.
