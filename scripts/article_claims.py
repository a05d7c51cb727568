"""The claims of the article "Model Distillation Explained" (March 2026), run as distributions.

    python scripts/article_claims.py            # writes docs/results/article.md, a few seconds
    python scripts/article_claims.py --print    # to the terminal

Three tasks, each under three big models, over everything from 100 to 10 million requests a day; what else is not known
is as uncertain as the catalog's priors say. A claim about volume is a probability given the volume, read from the draws
that have it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from distillcalc import Catalog, Scenario
from distillcalc.decide.priors import with_priors
from distillcalc.decide.uncertainty import Uncertainty

DRAWS = 8_192
TEACHERS = ("openai/gpt-6-sol", "anthropic/claude-sonnet-5", "google/gemini-3.1-pro-preview")
OWN = ("self-host", "hosted-fine-tune", "cascade")
TASKS: dict[str, dict[str, Any]] = {
    "classification": {"input_tokens": 900, "output_tokens": 10, "use": "classifier"},
    "extraction": {"input_tokens": 1_500, "output_tokens": 150, "use": "generative"},
    "drafting": {"input_tokens": 600, "output_tokens": 500, "use": "generative"},
}
VOLUMES = np.geomspace(100, 10_000_000, 101)
BANDS = (("below 1,000", 0.0, 1_000.0), ("1,000 to 100,000", 1_000.0, 100_000.0), ("above 100,000", 100_000.0, np.inf))
OUT = Path(__file__).parents[1] / "docs/results/article.md"


def scenario(task: dict[str, Any], teacher: str, options: tuple[str, ...] | None = None) -> Scenario:
    """A task at any volume, its student not measured yet; two years from December 2026."""
    plain: dict[str, Any] = {
        "workload": {
            "requests_per_day": {"empirical": VOLUMES.tolist()},
            "input_tokens": {"mean": task["input_tokens"], "p95": task["input_tokens"] * 2},
            "output_tokens": {"mean": task["output_tokens"], "p95": task["output_tokens"] * 2},
            "horizon_months": 24,
            "start": "2026-12-01",
            "quality": {"floor_relative_to_teacher": 0.85},
        },
        "choices": {"teacher": teacher, "students": ["qwen3-8b"]},
        "use": {"kind": task["use"], "competes_with_teacher": False},
    }
    if options is not None:
        plain["choices"]["options"] = list(options)
    return with_priors(Scenario.from_dict(plain))


class Claims:
    """One task under one big model, drawn."""

    def __init__(self, task: str, teacher: str, draws: int) -> None:
        made = scenario(TASKS[task], teacher)
        self.task, self.teacher = task, teacher
        self.all = Uncertainty.of(made, draws=draws)
        two = scenario(TASKS[task], teacher, ("call-teacher", "hosted-fine-tune", "self-host"))
        self.two = Uncertainty.of(two, draws=draws)

    @staticmethod
    def volumes(u: Uncertainty) -> np.ndarray:
        """Requests a day of each draw."""
        return np.asarray(u.space.arrays(u.levels)["requests_per_day"])

    @staticmethod
    def share(u: Uncertainty, options: tuple[str, ...], low: float, high: float) -> float:
        """P(one of the options is the cheapest that passes, given the volume)."""
        volumes = Claims.volumes(u)
        rows = (volumes >= low) & (volumes < high)
        best = np.argmin(np.where(u.drawn.passes, u.drawn.present_value_usd, np.inf), axis=1)
        own = np.array([one.option in options for one in u.drawn.alternatives])
        return float(np.mean(own[best[rows]] & u.drawn.passes[rows].any(axis=1)))

    def cheaper(self, low: float, high: float) -> np.ndarray:
        """Big model's cost / self-hosted student's, everything paid, given the volume and that the student passes."""
        u = self.two
        volumes = Claims.volumes(u)
        a, teacher = u.column("self-host"), u.column("call-teacher")
        rows = (volumes >= low) & (volumes < high) & u.drawn.passes[:, a]
        usd = u.drawn.present_value_usd[rows]
        return np.asarray(usd[:, teacher] / usd[:, a])

    def retention(self) -> np.ndarray:
        """Student quality / teacher quality, as drawn."""
        u = self.two
        quality = u.drawn.quality
        return np.asarray(quality[:, u.column("self-host")] / quality[:, u.column("call-teacher")])


def tables(draws: int = DRAWS) -> Iterator[str]:
    """The report, line by line."""
    runs = [Claims(task, teacher, draws) for task in TASKS for teacher in TEACHERS]
    yield "# The article's claims, as distributions\n"
    yield (
        'What "Model Distillation Explained" (March 2026) says in single numbers, run as distributions with '
        "`python scripts/article_claims.py`, which writes this page. Every number below is of "
        f"{draws:,} draws (seed 0) for each of three tasks under each of three big models: 100 to 10 million requests "
        "a day, every volume as likely by its logarithm, two years from December 2026, a student of 8 billion "
        "parameters (qwen3-8b) that nobody has measured yet and that must keep 85% of the big model's quality. All "
        "else is as uncertain as the catalog's priors say (`distillcalc catalog priors`); prices are those of the "
        "installed genai-prices and of `data/`.\n"
    )
    yield "## 10 to 60 times cheaper\n"
    yield (
        "The big model's cost over two years / the self-hosted student's, everything paid that the student takes "
        "(labels, training, people, idle machines, operations), in the draws in which it is good enough.\n"
    )
    yield "| task | big model | requests a day | P10 | P50 | P90 | P(10 to 60) | P(cheaper at all) |"
    yield "|---|---|---|---|---|---|---|---|"
    for run in runs:
        for name, low, high in BANDS[1:]:
            ratio = run.cheaper(low, high)
            p10, p50, p90 = np.quantile(ratio, [0.1, 0.5, 0.9])
            inside = np.mean((ratio >= 10) & (ratio <= 60))
            yield (
                f"| {run.task} | {run.teacher} | {name} | {p10:.2g} | {p50:.2g} | {p90:.2g} | {inside:.2f} | "
                f"{np.mean(ratio > 1):.2f} |"
            )
    yield "\n## 80 to 95% of the quality kept\n"
    kept = runs[0].retention()
    low, middle, high = np.quantile(kept, [0.1, 0.5, 0.9])
    yield (
        f"The prior of an unmeasured student (P10 {low:.2f}, P50 {middle:.2f}, P90 {high:.2f}) is made from this "
        f"claim, so that {np.mean((kept >= 0.8) & (kept <= 0.95)):.0%} of draws lie inside it says nothing new. What "
        "was published of distilled models, benchmark by benchmark (`distillcalc catalog models`):\n"
    )
    yield "| benchmark | models | least | median | most | inside 80 to 95% | below 80% |"
    yield "|---|---|---|---|---|---|---|"
    for benchmark, values in published().items():
        inside = sum(0.8 <= v <= 0.95 for v in values)
        yield (
            f"| {benchmark} | {len(values)} | {min(values):.2f} | {np.median(values):.2f} | {max(values):.2f} | "
            f"{inside} | {sum(v < 0.8 for v in values)} |"
        )
    yield "\n## Below 1,000 requests a day call the big model, above 100,000 distill\n"
    yield (
        "P(cheapest that is good enough, given the volume). The first two columns of figures are the article's own "
        "question, the big model or a student of one's own (self-hosted or fine-tuned at a provider). The others let "
        "in what the article leaves out: somebody else's small model as it is, and a cascade.\n"
    )
    yield (
        "| task | big model | requests a day | big model | own student | with all options: big model | own student or "
        "cascade | somebody's small model |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for run in runs:
        for name, low, high in BANDS:
            two = [run.share(run.two, options, low, high) for options in (("call-teacher",), OWN)]
            small = ("call-small", "hosted-open-student")
            every = [run.share(run.all, options, low, high) for options in (("call-teacher",), OWN, small)]
            figures = " | ".join(f"{share:.2f}" for share in (*two, *every))
            yield f"| {run.task} | {run.teacher} | {name} | {figures} |"
    yield "\nWhat is missing to 1 are draws in which nothing is good enough.\n"
    yield "## What holds\n"
    yield from verdicts(runs)


def verdicts(runs: list[Claims]) -> Iterator[str]:
    """A sentence on each claim, from the same figures."""
    above = [run.cheaper(*BANDS[2][1:]) for run in runs]
    inside = span([float(np.mean((ratio >= 10) & (ratio <= 60))) for ratio in above], ".2f")
    middles = span([float(np.median(ratio)) for ratio in above], ".2g")
    between = span([float(np.median(run.cheaper(*BANDS[1][1:]))) for run in runs], ".2g")
    yield (
        f"- **10 to 60 times cheaper**: above 100,000 requests a day the median is {middles} times, and the odds of "
        f"lying between 10 and 60 are {inside}; from 1,000 to 100,000 the median is {between} times."
    )
    low = span([run.share(run.two, ("call-teacher",), *BANDS[0][1:]) for run in runs], ".2f")
    high = span([run.share(run.two, OWN, *BANDS[2][1:]) for run in runs], ".2f")
    yield f"- **Below 1,000 a day call the big model**: of the two it is the cheaper with a probability of {low}."
    yield (
        "- **Above 100,000 a day distill**: of the two an own student is the cheaper that is good enough with a "
        f"probability of {high}."
    )
    starts = [crossing(run) for run in runs]
    known = [start for start in starts if np.isfinite(start)]
    yield (
        f"- **The line between them** (an own student is the likelier of the two) lies at {min(known):,.0f} to "
        f"{max(known):,.0f} requests a day, by task and big model"
        + ("." if len(known) == len(starts) else f"; in {len(starts) - len(known)} of {len(starts)} it is nowhere.")
    )


def span(values: list[float], form: str) -> str:
    """The least and the most of some figures, once where they are the same."""
    low, high = (f"{value:{form}}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def crossing(run: Claims) -> float:
    """The least volume from which on an own student is the likelier of the two; infinite where it never is."""
    volumes = Claims.volumes(run.two)
    edges = np.geomspace(100, 10_000_000, 26)
    likelier = []
    for low, high in pairwise(edges):
        if not np.any((volumes >= low) & (volumes < high)):
            continue
        own, big = (run.share(run.two, options, low, high) for options in (OWN, ("call-teacher",)))
        likelier.append((low, own > big))
    start = np.inf
    for low, is_own in reversed(likelier):
        if not is_own:
            break
        start = low
    return float(np.round(start, -int(np.floor(np.log10(start))) + 1)) if np.isfinite(start) else np.inf


def published() -> dict[str, list[float]]:
    """Retention of the catalog's models by benchmark, those that at least three report."""
    found: dict[str, list[float]] = {}
    for row in Catalog.load().models.values():
        for benchmark, value in (row.retention or {}).items():
            found.setdefault(benchmark, []).append(value)
    return {name: values for name, values in sorted(found.items()) if len(values) >= 3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--print", action="store_true", help="to the terminal instead of docs/results/article.md")
    parser.add_argument("--draws", type=int, default=DRAWS)
    asked = parser.parse_args()
    text = "\n".join(tables(asked.draws)) + "\n"
    if asked.print:
        sys.stdout.write(text)
    else:
        OUT.write_text(text, encoding="utf-8")
        print(f"wrote {OUT.name}")


if __name__ == "__main__":
    main()
