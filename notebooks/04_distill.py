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
# # Distill
#
# **What this answers:** what can a student learn from a teacher besides its answers, how is a student made, and does
# distilling gain anything over training on the answers alone? Each idea is shown on a real model, and a student is
# trained and judged at the end.
#
# **How long it takes:** about a minute on two cores, half of it the training. No key, no GPU, no network: the teacher
# is SmolLM2 (135 million parameters) with the project's adapter for sorting a web shop's messages, the student MiniLM
# (23 million). It writes into `runs/04_distill` beside this notebook; a second run finds the trained student there.

# %% [markdown]
# ## Check-up

# %%
from distillcalc.notebook.checkup import checkup

checkup("demo", "models")

# %% [markdown]
# ## 1. A teacher whose weights are here
#
# Behind an API, a teacher gives its answers and, sometimes, the probabilities of a few tokens. Weights on this machine
# give everything. The adapter holds what the teacher learnt of this task.

# %%
from distillcalc.distill.packaged import smollm2
from distillcalc.distill.training import LocalTeacher
from distillcalc.resources import data_folder

shop = data_folder() / "demo"
teacher = LocalTeacher.load(smollm2(), adapter=shop / "teacher-adapter", name="smollm2-135m")

# %% [markdown]
# The task: eight kinds of messages. This teacher was trained on it, and needs no longer instruction.

# %%
from distillcalc.distill import Task

labels = ("delivery", "return", "damage", "change", "payment", "account", "product", "feedback")
task = Task(name="customer messages", system="Sort the message.", labels=labels, instruction=False)

# %% [markdown]
# ## 2. What a teacher knows besides its answer
#
# To a message that could be sorted in three ways, the teacher gives one answer. Before that, it gives every token of
# its vocabulary a score, a *logit*. Here they are for the first token of its answer.

# %%
import torch

from distillcalc.distill.training.prompting import prompt_ids

message = "The wrong colour came and I want my money back."
prompt = torch.tensor([prompt_ids(teacher.tokenizer, task.messages({"text": message}))])
with torch.no_grad():
    logits = teacher.model(prompt).logits[0, -1]
tokens = teacher.tokenizer.batch_decode([[i] for i in range(len(logits))])
len(tokens), teacher.tokenizer.decode(logits.argmax())

# %% [markdown]
# Move the slider, or type a temperature. At 1 this is what the teacher believes: a return most likely, and perhaps
# about payment or damage (the token `dam` begins it). Learning from the answer alone, a student sees *return* and
# nothing else. Learning from the distribution, a **soft label**, it sees that the three lie near each other, which says
# something about every message of that sort.
#
# A higher temperature makes the small differences larger, near 0 only the answer is left. Training at 2 or so is
# common: high enough to see the runners-up, low enough that 49,000 tokens which mean nothing do not drown them.

# %%
from distillcalc.notebook import temperature_panel

temperature_panel(logits, tokens)

# %% [markdown]
# ## 3. A student cut from its teacher
#
# A student need not begin from nothing. This one keeps six of the teacher's thirty layers, evenly spaced with the first
# and the last (as DistilBERT does), and all of its vocabulary.

# %%
from distillcalc.distill.training import StudentStart, start_student

student = start_student(StudentStart(layers=6), (teacher.model, teacher.tokenizer))
print(student.origin)
whole = sum(parameter.numel() for parameter in teacher.model.parameters())
print(f"{student.parameters:,} parameters of the teacher's {whole:,}")

# %% [markdown]
# **Which layer learns from which.** In feature-based distillation a student's layers are also compared with the
# teacher's by what they put out. A layer of the student answers for the teacher's layers that were cut after it, so it
# is compared with the last of those.

# %%
import pandas as pd

from distillcalc.distill.training.pairing import layer_pairs

pairs = layer_pairs(student.model, teacher.model, kept=student.kept_layers)
pd.DataFrame(pairs, columns=["student's layer", "is compared with the teacher's"]).assign(
    **{"was cut from": [layer + 1 for layer in student.kept_layers]}
).set_index("student's layer")

# %% [markdown]
# ## 4. How far the student is from its teacher
#
# Distilling makes this distance small. A **divergence** measures it, and which one is chosen decides what the student
# does where it cannot follow: *forward KL* makes it spread over everything that the teacher finds possible, *reverse
# KL* makes it keep to what the teacher finds likely, *JSD* lies between. Here they are for the message above, before
# any training, times the temperature squared, as a training takes them.
#
# **What to see in the table:** all are far above 0, which is what they are where two models agree, because this student
# has been cut and not yet trained; that is the only thing to read here. Compare numbers down a column or across a row
# with care: each divergence has a scale of its own (*JSD* cannot exceed ln 2, 0.69, before the temperature comes in),
# and the square of the temperature is in them, so that rising and falling with it says nothing about the student.

# %%
from distillcalc.distill.training.losses_torch import divergence

with torch.no_grad():
    own = student.model(prompt).logits[0, -1:]
temperatures = [1.0, 2.0, 4.0]
pd.DataFrame(
    {
        kind: [float(divergence(own, logits[None], kind=kind, temperature=t)) for t in temperatures]
        for kind in ("forward-kl", "reverse-kl", "jsd")
    },
    index=pd.Index(temperatures, name="temperature"),
).round(2)

# %% [markdown]
# ## 5. A chain of thought
#
# A teacher that writes down how it gets to an answer gives the student something to learn from, too. Here SmolLM2,
# without the adapter, adds numbers after three examples. It is a very small teacher, and its chains are not always
# right: where answers can be checked, check them (`Filters(verify=True)`) before anybody learns from them.

# %%
from distillcalc.distill import Rows
from distillcalc.distill.training import label_locally

examples = [
    {"input": {"sum": "2 + 3 + 4"}, "reasoning": "2 + 3 = 5. 5 + 4 = 9.", "answer": "9"},
    {"input": {"sum": "1 + 6 + 2"}, "reasoning": "1 + 6 = 7. 7 + 2 = 9.", "answer": "9"},
    {"input": {"sum": "4 + 1 + 3"}, "reasoning": "4 + 1 = 5. 5 + 3 = 8.", "answer": "8"},
]
sums = Task(
    name="sums",
    system="You add numbers step by step.",
    prompt="{sum}",
    reasoning="visible",
    examples=examples,
)
questions = Rows([{"sum": "3 + 2 + 2"}, {"sum": "5 + 2 + 1"}])
chains = label_locally(LocalTeacher.load(smollm2()), sums, questions, max_new_tokens=40)
pd.DataFrame(
    [(record.input["sum"], record.reasoning, record.answer) for record in chains.records],
    columns=["sum", "chain", "answer"],
)

# %% [markdown]
# A record with a chain becomes **two things to learn** (*Distilling step-by-step*, arXiv:2305.02301): the answer to the
# question, and, asked to explain, the chain. Asked at work, the student gives the answer alone, and is as quick as one
# that never saw a chain. This is what is supervised.

# %%
from distillcalc.distill.training import make_examples

for sequence in make_examples(chains.records[:1], teacher.tokenizer, chain="two-task").sequences:
    print(repr(teacher.tokenizer.decode(sequence.ids[sequence.start :])))

# %% [markdown]
# ## 6. Does it gain anything? The four-way table
#
# Four models on the same test messages: the **teacher**; the **raw** student as it comes; the student trained on the
# teacher's **labels alone**; and the **distilled** one, which also learns from the teacher's probabilities at
# temperature 2. The third is what tells whether distilling was worth it. The answers come from the run of the demo that
# comes with the package; the probabilities are computed now.
#
# To keep this below a minute, 64 messages are learnt from, in two passes, and 96 judge. `technique` could also be
# `hard-label`, `soft-label`, `feature-based`, `chain-of-thought`, `on-policy`, `chain` or `self-distillation`, for
# students that write.
#
# **Before you change a number here**, give the recipe another `name` as well: a folder belongs to one recipe, so that
# what another one trained is never taken for this one's. Under the same name, `train` refuses a changed recipe and says
# what differs; deleting `runs/04_distill/four-way` does as well. A value that cannot be right is told in a sentence.

# %%
from distillcalc.distill import Recipe, train
from distillcalc.distill.packaged import minilm

recipe = Recipe.of(
    name="four-way",
    technique="classifier",
    task=task,
    data={
        "train": [str(shop / "answers" / "messages.jsonl")],
        "evaluation": str(shop / "test.csv"),
        "evaluation_answers": str(shop / "answers" / "test.jsonl"),
        "human_label": "label",
        "id": "id",
        "limit": 64,
        "evaluation_limit": 96,
        "validation_share": 0.0,
    },
    teacher={
        "model": str(smollm2()),
        "adapter": str(shop / "teacher-adapter"),
        "name": "smollm2-135m",
    },
    student={"model": str(minilm()), "catalog": "minilm-l6"},
    objective={"hard": 0.5, "soft": 0.5, "temperature": 2.0},
    training={
        "epochs": 2,
        "batch_size": 16,
        "learning_rate": 2e-4,
        "evaluations": 0,
        "checkpoints": 0,
    },
    use={"kind": "classifier", "competes_with_teacher": False},
)
run = train(recipe, runs="runs/04_distill")
run.table

# %% [markdown]
# **How to read it.**
#
# * *Accuracy* is the share that is right, with its 95% interval: 96 messages leave it wide.
# * *Retention* is the share of the teacher's accuracy that is kept; the teacher keeps all of its own.
# * *Agreement*, how often student and teacher say the same, is no quality: they may agree on what is wrong.
# * *Macro F1* is the mean over the labels of F1, which is high only where a label is both found (of the messages that
#   have it, most get it) and meant (of the messages that get it, most have it). It counts a rare label as much as a
#   common one: where it is far below the accuracy, the rare ones are missed.
# * *ECE*, the expected calibration error, is how far the model's confidence is from the truth on average: at 0.05, of
#   answers given with "80% sure" some 75 or 85 in 100 are right. A router ([06](06_route.ipynb)) needs it small.
# * The *Brier score* is the mean of (confidence - right)², where right is 1 or 0. Smaller is better.
#
# **A small ECE alone is worth nothing.** The raw student's ECE and Brier score are the smallest of the table: it has
# learnt nothing, is hardly surer of one label than of the seven others, about as sure as one is who guesses among
# eight, and it is right about as rarely. Calibrated, and useless: a router could not tell by it which answers to keep.
# The trained students are right far more often, and after so short a training surer of themselves than they should be,
# which is what their ECE shows. Read ECE beside accuracy, and among students that are good enough.
#
# Below the table stands what may be concluded, which after so short a training is often: nothing yet. The next cell
# prints what the run tells besides.

# %%
from textwrap import fill

for sentence in run.sentences:
    print(fill(f"* {sentence}", 100))

# %% [markdown]
# The same drawn: quality over time per message. The teacher stands at the height of the dashed line.

# %%
# %matplotlib inline
from distillcalc.distill.training.four_way_figure import four_way_figure

four_way_figure(run.table)

# %% [markdown]
# With all 320 messages and ten passes, which takes three minutes and is what `make demo` does, the student trained on
# labels alone was right in 75.3% of 336 test messages and the distilled one in 81.2% (+6.0 points, 95% interval +2.4 to
# +9.5), where the teacher is right in 83.9%.
#
# ## Do it with your own data
#
# A recipe is a file, too: `distillcalc train recipe.toml` trains it, goes on after a kill, and leaves a student with
# its card in `runs/<name>/student`. These are the lines of such a file, for the recipe of section 6. Put your own data
# into `[data]`: `train` is what `distillcalc label` wrote (a `dataset.jsonl`), `evaluation` rows that people labelled.
# Paths may be relative to the file's folder.

# %%
print(recipe.to_toml())

# %% [markdown]
# The student that was trained here is in this folder; 05 can measure it.

# %%
print(run.student)

# %% [markdown]
# ## Where to go next
#
# [05 Measure and validate](05_measure_and_validate.ipynb) measures a student on this machine and decides again.
