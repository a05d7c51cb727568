"""From a decision to the labelling that it asks for: what it takes, before anything is sent.

    python examples/plan.py [SCENARIO] [QUESTIONS.csv]

SCENARIO is a scenario file or a shipped sample; QUESTIONS.csv has a column ``text``. Without one, a few are made up. A
second or two; no key, no network.
"""

from __future__ import annotations

import sys

from distillcalc import Scenario, recommend
from distillcalc.distill import Rows, Task, plan


def main(scenario: str = "email-classification", questions: str = "") -> None:
    """Decide, and plan the labelling of what may be labelled."""
    decision = recommend(Scenario.load(scenario))
    print(decision.reason)
    made_up = [{"text": f"Where is order {number}? It was to come on Monday."} for number in range(1_000, 1_200)]
    task = Task(name="triage", labels=("order status", "refund", "other"))
    labelling = plan(decision, task, Rows(questions or made_up))
    print(f"\nstudent: {labelling.task.student}\n{labelling}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
