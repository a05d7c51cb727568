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
# # Should I distill?
#
# **What this answers:** at which volume, prompt length, price and quality does a small model of your own pay, and what
# would change the verdict? Move the sliders; the verdict follows while you move, the rest when you let go.
#
# **How long it takes:** a few seconds to start. No key, no GPU, no network. In a notebook, what you move is remembered
# on this machine (in your cache folder) until you press *Start over*; nothing else is written unless you press *Save*.
# As a page of its own (`distillcalc dashboard`), what you move stands in the page's address instead: it survives a
# reload, can be kept as a bookmark or sent to somebody, and a new page starts afresh.

# %% [markdown]
# ## Check-up

# %%
from distillcalc.notebook.checkup import checkup

checkup()

# %% [markdown]
# ## The panel
#
# * **The verdict** stands on top, with the point at which it would tip over. It turns amber where the answer is unsure.
# * **Every slider has a number box**: type a number there, also one beyond the slider's ends. Tab goes from box to box.
# * **Start from** takes one of five kinds of traffic, or a scenario file of your own (notebook 02 writes one,
#   `runs/02_your_traffic/mine.toml` beside the notebooks).
# * **Pin as A** keeps what you see; whatever you move then is B, and the difference is told in dollars, milliseconds
#   and quality.
# * **Point at a number**, or reach it with Tab, to see where it comes from; amber where its price is older than 30
#   days.
# * **Copy as Python**, at the bottom, gives the exact code of what you see, to run anywhere.

# %%
from distillcalc.notebook.served import served_panel

shown = served_panel("support-triage")  # or a file of yours: served_panel("runs/02_your_traffic/mine.toml")
shown

# %% [markdown]
# ## The rule of thumb beside it
#
# An article of March 2026, "Model Distillation Explained", gives these rules. They are easy to remember, and they leave
# out what the panel counts: token lengths, prices, latency, what people cost, and whether the student is good enough.
#
# | the article: when ... | ... do |
# |---|---|
# | fewer than 1,000 requests a day | call the big model |
# | 1,000 to 100,000 requests a day | consider distilling |
# | more than 100,000 requests a day | distill |
# | latency below 200 ms | distill |
# | private data | distill and self-host |
# | a task that changes frequently | call the big model |
#
# Where a rule applies to what the sliders say, the panel has it beside what was computed, with a word on why it holds
# or does not: look for *The article's rule of thumb*.

# %% [markdown]
# ## Keep what you found
#
# *Save* writes a scenario file, which `distillcalc recommend scenario.toml` and `Scenario.load("scenario.toml")` read.
# In the next cells you may add, `shown.scenario` is what the sliders stand for at that moment, and `shown.view` what is
# shown of it. The decision with everything behind it:
#
# ```python
# from distillcalc import recommend
#
# recommend(shown.scenario)
# ```

# %% [markdown]
# ## Where to go next
#
# Do you know your volume and lengths, or did you guess them? [02 Your traffic](02_your_traffic.ipynb) measures them
# from a log file. Is the verdict amber because nobody knows how good the student is? [03 Teach](03_teach.ipynb),
# [04 Distill](04_distill.ipynb) and [05 Measure and validate](05_measure_and_validate.ipynb) find that out.
