"""Route between the banking77 teacher and its student, certify it, and decide with what was measured.

    python scripts/students_banking77.py DATA --folder runs/students    # trains both, about 80 minutes; once
    python scripts/route_banking77.py runs/students [--page docs/results/routing-banking77.md] [--figure ....png]

Two minutes on two cores. The student is MiniLM under a classification head (runs/students/minilm, the first seed), the
teacher SmolLM2 with an adapter; both answered the 480 test messages of twelve intents, which people labelled
(banking77: PolyAI, CC BY 4.0). The student's own probabilities are the score. Half of the messages
tune, half certify; how much depends on which half is which is told by twenty splits. Nothing was chosen on these
messages before.

The dollars are those of the shipped sample ``support-triage`` with this student: traffic, prices and objectives are the
sample's, only what the router does is measured here.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from distillcalc.decide.recommend import recommend
from distillcalc.decide.render import certified_cascades
from distillcalc.distill.training.classifier import Classifier
from distillcalc.estimate.outcome import Estimate
from distillcalc.route.confidence import CONFIDENCE, from_probabilities
from distillcalc.route.deciding import with_router
from distillcalc.route.figures import curve_figure, reliability_figure
from distillcalc.route.fit import Fitted, fit_router
from distillcalc.route.goal import Goal
from distillcalc.route.pairs import Pairs
from distillcalc.route.reading import write_pairs
from distillcalc.route.requests import Request
from distillcalc.workload.scenario import Scenario

STUDENT, TEACHER = "minilm-l6", "openai/gpt-6-sol"
ARMS = {
    "classifier": "distilled from the teacher's probabilities",
    "label-only": "trained on the teacher's answers alone",
}
LIMITS_S = (5.0, 8.0)  # for 95% of answers
RETENTIONS = (0.90, 0.95, 0.98)
SPLITS = 20


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("students", type=Path)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--reliability", type=Path)
    parser.add_argument("--scenario", type=Path, help="write the scenario with the measured router there")
    parser.add_argument(
        "--pairs", type=Path, help="write the distilled student's pairs there, for distillcalc route fit"
    )
    asked = parser.parse_args()
    sections = [about()]
    for arm, words in ARMS.items():
        pairs = read(asked.students, arm)
        if asked.pairs and arm == "classifier":
            write_pairs(replace(pairs, scores={}), asked.pairs)
        fitted = {retention: fit(pairs, retention, 0) for retention in RETENTIONS}
        sections += [of_arm(arm, words, pairs, fitted), splits(pairs)]
        sections.append(dollars(fitted, asked.scenario if arm == "classifier" else None))
        if arm == "classifier":
            first = fitted[0.95]
            for file, draw in ((asked.figure, figure), (asked.reliability, reliability)):
                if file:
                    draw(first).savefig(file, dpi=120)
                    sections.append(f"![]({file.name})")
    page = "\n\n".join(sections) + "\n"
    if asked.page:
        asked.page.write_text(page, encoding="utf-8")
    print(page)


def figure(fitted: Fitted) -> Any:
    """Quality over the share that is sent on."""
    assert fitted.bands is not None
    return curve_figure(fitted.bands, fitted.certificate, over="calls")


def reliability(fitted: Fitted) -> Any:
    """How honest the probabilities are."""
    return reliability_figure(fitted.reliability())


def read(folder: Path, arm: str) -> Pairs:
    """What student and teacher answered to the test messages."""
    rows = pd.read_csv(folder / "test.csv")
    said = json.loads((folder / "minilm" / "teacher-answers.json").read_text(encoding="utf-8"))["said"]
    student = Classifier.load(folder / "minilm" / arm / "seed-0" / "student")
    texts = list(rows["text"])
    probabilities = student.probabilities(texts).astype(float)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    answers = [student.labels[i] for i in probabilities.argmax(axis=1)]
    right = [[a == label, b == label] for a, b, label in zip(answers, said, rows["human_label"], strict=True)]
    pairs = Pairs.of(
        *np.array(right).T, texts=texts, scores=from_probabilities(probabilities), student=STUDENT, teacher=TEACHER
    )
    requests = (Request(t, a, list(map(float, p))) for t, a, p in zip(texts, answers, probabilities, strict=True))
    return replace(pairs, requests=tuple(requests), source="banking77, twelve intents, test messages")


def fit(pairs: Pairs, retention: float, seed: int) -> Fitted:
    """A router by the student's own probabilities, the best of three ways to read them."""
    scores = [name for name in CONFIDENCE if name in pairs.scores]
    return fit_router(pairs, Goal(retention=retention), scores=scores, seed=seed, kind="cascade")


def about() -> str:
    """What was done."""
    return (
        "# The banking77 student and its teacher, routed\n\n"
        "Made by `python scripts/route_banking77.py runs/students --page docs/results/routing-banking77.md --figure "
        "docs/results/routing-banking77.png --reliability docs/results/reliability-banking77.png` after "
        "`scripts/students_banking77.py`. 480 test messages of twelve intents, labelled by people (PolyAI, CC BY 4.0): "
        "240 tune (which of the student's maximum probability, margin and entropy to go by; the order in which "
        "thresholds are tested), 240 certify. The teacher is SmolLM2-135M with an adapter; in the dollars below it "
        f"plays the big model, {TEACHER}."
    )


def of_arm(arm: str, words: str, pairs: Pairs, fitted: dict[float, Fitted]) -> str:
    """What a student's own probabilities can do, at each retention."""
    alone = pairs.right.mean(axis=0)
    lines = [
        f"## The student {words}",
        "",
        f"Right by itself in {alone[0]:.1%}, the teacher in {alone[1]:.1%}.",
        "",
        "| asked of the teacher's | advice | by | sent on | quality (95%) | of the teacher's (95%) | APGR (95%) |",
        "|---|---|---|---|---|---|---|",
    ]
    for retention, one in fitted.items():
        c = one.certificate
        cells = [f"{c.escalation_rate.value:.0%}", str(c.quality), str(c.retention)] if c.escalation_rate else ["-"] * 3
        apgr = "-" if one.bands is None else str(one.bands.apgr)
        lines.append(
            f"| {retention:.0%} | {one.verdict.advice} | {one.router.score_name} | {' | '.join(cells)} | {apgr} |"
        )
    lines += ["", *(f"* {retention:.0%}: {one.verdict}" for retention, one in fitted.items())]
    return "\n".join(lines)


def splits(pairs: Pairs) -> str:
    """The same with other halves."""
    lines = [
        f"With {SPLITS} other splits of the same messages:",
        "",
        "| asked | certified in | sent on, median (least to most) | advice |",
        "|---|---|---|---|",
    ]
    for retention in RETENTIONS:
        found = [fit(pairs, retention, seed) for seed in range(1, SPLITS + 1)]
        rates = [one.certificate.escalation_rate.value for one in found if one.certificate.escalation_rate]
        said = [one.verdict.advice for one in found]
        advice = ", ".join(f"{name} {said.count(name)}" for name in dict.fromkeys(said))
        span = f"{median(rates):.0%} ({min(rates):.0%} to {max(rates):.0%})" if rates else "-"
        lines.append(f"| {retention:.0%} | {len(rates)} of {SPLITS} | {span} | {advice} |")
    return "\n".join(lines)


def dollars(fitted: dict[float, Fitted], file: Path | None) -> str:
    """What the decision makes of it: the sample support-triage with this student and the measured router."""
    lines = [
        "### In dollars",
        "",
        "The sample `support-triage` (40,000 messages a day, 24 months) with the student "
        f"{STUDENT} on two vCPUs, the counts of both models on the certifying messages, and the router above, as "
        "`distillcalc route scenario ROUTER SCENARIO` puts it there. The decision takes the threshold: the cheapest "
        "whose odds of being good enough are three to one. Beside it the cheapest that is certified. Saved is against "
        "calling the teacher, at equal quality in the sense asked for. The sample wants 95% of answers "
        "within 5 s, which a request that is sent on often misses, for the student's time comes first; with 8 s it "
        "does not.",
        "",
        "| asked | within | recommended | call the teacher | self-host alone | cascade | sent on | saved "
        "| certified cascade | sent on | saved |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for retention, one, limit in ((r, f, limit) for r, f in fitted.items() for limit in LIMITS_S):
        scenario = with_router(scenario_of(one, retention, limit), one.router)
        if file and retention == RETENTIONS[1]:
            scenario.save(file)
        decision = recommend(scenario)
        teacher, alone = decision.options["call-teacher"], decision.options["self-host"]
        sure = next(iter(certified_cascades(decision)), None)
        cells = [told(teacher), told(alone), *cascade(decision.options["cascade"], teacher), *cascade(sure, teacher)]
        lines.append(f"| {retention:.0%} | {limit:g} s | {decision.recommendation} | {' | '.join(cells)} |")
    return "\n".join(lines)


def told(one: Estimate) -> str:
    """Dollars, and how far the gates let it go."""
    why = f": {one.worst_gate()}" if one.worst_gate() else ""
    return f"${one.present_value_usd:,.0f} ({one.status}{why})"


def cascade(one: Estimate | None, teacher: Estimate) -> list[str]:
    """Dollars, escalation rate and saving of a cascade that may be chosen."""
    if one is None or one.status not in ("feasible", "provisional"):
        return ["-"] * 3 if one is None else [told(one), "-", "-"]
    saved = 1 - one.present_value_usd / teacher.present_value_usd
    return [told(one), f"{one.facts['escalation_rate']:.0%}", f"{saved:.0%}"]


def scenario_of(fitted: Fitted, retention: float, limit_s: float) -> Scenario:
    """The sample with this student, and both models' counts on the certifying messages."""
    plain = Scenario.load("support-triage").to_dict()
    plain["workload"] = {
        **plain["workload"],
        "quality": {"metric": "accuracy", "floor_relative_to_teacher": retention},
        "student_input_tokens": 40,
        "slo": {"e2e_p95_s": limit_s},
    }
    right, items = fitted.certifying.right.sum(axis=0), len(fitted.certifying)
    plain["choices"] = {
        **plain["choices"],
        "students": [STUDENT],
        "gpus": ["cloud-vcpu-2"],
        "serving": {"engine": "transformers", "precision": "fp32", "kv_precision": "fp32"},
        "evaluations": {
            "teacher": {"correct": int(right[1]), "total": items},
            STUDENT: {"correct": int(right[0]), "total": items},
        },
    }
    plain["use"] = {"kind": "classifier", "distributed": False, "competes_with_teacher": False}
    plain["overrides"] = {
        **plain.get("overrides", {}),
        "gpu_prices": {
            "two-vcpu": {
                "gpu": "cloud-vcpu-2", "provider": "aws", "commitment": "on-demand", "usd_per_gpu_hour": 0.0816,
                "source": "data/demo/choices.toml", "checked": "2026-11-28", "confidence": "medium",
            }
        },
    }  # fmt: skip
    return Scenario.from_dict(plain)


if __name__ == "__main__":
    main()
