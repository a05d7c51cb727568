"""What the demo's result says in plain words: the decision, why, and the numbers that a manager looks for.

Of plain values alone, so that a result that was read from its file says the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distillcalc.decide.rules import volumes
from distillcalc.decide.words import count, duration, usd
from distillcalc.demo_result import DemoResult
from distillcalc.demo_words import (
    CASCADE,
    CHOOSABLE,
    GATES,
    HEADLINES,
    NAMES,
    STUDENTS,
    TEACHER,
    Share,
    capital,
    dollars,
    mean,
    mid,
    name_of,
    odds,
    percent,
    whole,
)


@dataclass(frozen=True)
class Told:
    """A result of the demo, asked for what a person wants to know.

    Parameters
    ----------
    result : of :func:`distillcalc.demo.run_demo`.
    """

    result: DemoResult

    # --- options -----------------------------------------------------------------------------------------------------

    @property
    def before(self) -> str | None:
        """Option that was recommended before anything was measured."""
        found: str | None = self.result.redecision.get("before")
        return found

    @property
    def after(self) -> str | None:
        """Option that is recommended with what was measured and paid; None where none may be chosen."""
        found: str | None = self.result.redecision.get("after")
        return found

    @property
    def stands(self) -> bool:
        """Whether measuring changed nothing."""
        return self.before == self.after

    @property
    def options(self) -> dict[str, dict[str, Any]]:
        """Of the decision after measuring."""
        found: dict[str, dict[str, Any]] = self.result.after.get("options", {})
        return found

    def value(self, option: str | None) -> float:
        """Cost over the horizon with what was measured and paid [USD]; nan where there is no price."""
        if option is None:
            return math.nan
        found = self.result.redecision.get("present_value_usd", {}).get(option)
        if found is None:
            found = self.options.get(option, {}).get("present_value_usd")
        return math.nan if found is None else float(found)

    @property
    def student_option(self) -> str | None:
        """The cheapest way to have a student that has a price; the recommended one where it is one."""
        if self.after in STUDENTS:
            return self.after
        priced = [name for name in STUDENTS if name in self.options and math.isfinite(self.value(name))]
        # One that sends nearly everything on may always be chosen: it tells of the student only where it saves.
        telling = [name for name in priced if name != CASCADE or self.value(name) < self.value(TEACHER)] or priced
        may = [name for name in telling if self.options[name].get("status") in CHOOSABLE]
        return min(may or telling, key=self.value, default=None)

    @property
    def instead(self) -> str | None:
        """What stands beside the big model: what is recommended in its place, or else what a student would take."""
        return self.after if self.after not in (None, TEACHER) else self.student_option

    def monthly(self, option: str | None) -> float:
        """Running cost a month, mean over the horizon [USD]."""
        return mean(self.options.get(option or "", {}).get("monthly_total_usd", []))

    def once(self, option: str | None) -> float:
        """What is paid before the first request, with what was really paid for labels and the like [USD]."""
        items = self.options.get(option or "", {}).get("one_off_usd", {})
        paid = self.result.redecision.get("actual_usd", {})
        return math.fsum(paid.get(item, amount) or 0.0 for item, amount in items.items())

    # --- the workload ------------------------------------------------------------------------------------------------

    @property
    def workload(self) -> dict[str, Any]:
        """Of the scenario that was decided on."""
        found: dict[str, Any] = self.result.decision.get("scenario", {}).get("workload", {})
        return found

    @property
    def horizon(self) -> str:
        """Such as "24 months"."""
        every = [*self.options.values(), *self.result.decision.get("options", {}).values()]
        months = max((len(one.get("monthly_total_usd", [])) for one in every), default=0)
        return f"{months} months" if months > 1 else "the horizon"

    @property
    def floor(self) -> tuple[float, str] | None:
        """Quality that a small model must reach, and what that is in words; None where nothing was measured."""
        asked = self.workload.get("quality") or {}
        if asked.get("floor") is not None:
            return float(asked["floor"]), f"{whole(asked['floor'])} right"
        relative = asked.get("floor_relative_to_teacher")
        relative = 0.9 if relative is None else float(relative)
        teacher = self.quality("teacher")
        return (relative * teacher.share, f"{whole(relative)} of the big model") if teacher.known else None

    def quality(self, who: str) -> Share:
        """Of "teacher" or "student" on the test messages."""
        right, total = self.result.quality.get(who, (0, 0))
        return Share(right, total)

    @property
    def enough(self) -> str:
        """What the small model must reach, and how likely it does, as the decision reckons after measuring."""
        asked = self.floor
        if asked is None:
            return ""
        estimate = self.options.get(self.student_option or "", {})
        gate = next((one for one in estimate.get("gates", []) if one["name"] == "quality"), None)
        share = f" ({percent(asked[0], 1)})" if "of the" in asked[1] else ""
        told = f"The small model must reach {asked[1]}{share}"
        if gate is None or gate.get("probability") is None:
            return f"{told}."
        sure = (self.workload.get("quality") or {}).get("confidence") or 0.9
        return f"{told}; the chance that it does is {odds(float(gate['probability']))}, and {whole(sure)} is asked for."

    # --- why ---------------------------------------------------------------------------------------------------------

    def why(self, option: str, decision: Mapping[str, Any], best: str | None, values: Mapping[str, float]) -> str:
        """Why an option is or is not the one, in a decision in which ``best`` is recommended.

        Parameters
        ----------
        values : cost over the horizon by option [USD].
        """
        one = decision["options"][option]
        if option == best:
            return "recommended: the cheapest that may be chosen"
        if one["status"] == "unpriced":
            return str(one.get("unpriced") or "no price is known")
        held = self.held(one)
        if held:
            return held
        more = values.get(option, math.nan) - values.get(best or "", math.nan)
        if not math.isfinite(more):
            return ""
        return f"costs {usd(abs(more))} {'more' if more >= 0 else 'less'} over {self.horizon}"

    def held(self, estimate: Mapping[str, Any]) -> str:
        """What keeps an option from being chosen, in words; empty where nothing does."""
        gates = estimate.get("gates", [])
        if estimate.get("status") == "ruled-out":
            held = [gate for gate in gates if gate["verdict"] == "fail"]
        elif estimate.get("status") == "unproven":
            doubts = [g for g in gates if g["verdict"] == "unknown" and g.get("probability") is not None]
            held = sorted(doubts, key=lambda gate: float(gate["probability"]))[:1]
        else:
            held = []
        measured = estimate.get("provenance", {}).get("quality", {}).get("kind") == "measured"
        return "; ".join(self._gate(gate, measured) for gate in held)

    def _gate(self, gate: Mapping[str, Any], measured: bool) -> str:
        name, chance = gate["name"], gate.get("probability")
        if name != "quality" or chance is None:
            return f"{GATES.get(name, name)}: {gate['detail']}"
        asked = self.workload.get("quality") or {}
        sure = whole(asked.get("confidence") or 0.9)
        told = f"the chance that it is {self._enough} is {odds(float(chance))}, and {sure} is asked for"
        return f"quality: {told}{'' if measured else '; it was not measured on this task'}"

    @property
    def _enough(self) -> str:
        """What good enough means."""
        asked = self.workload.get("quality") or {}
        floor, relative = asked.get("floor"), asked.get("floor_relative_to_teacher")
        if floor is not None:
            return f"right in at least {whole(floor)} of cases"
        return f"at least {whole(0.9 if relative is None else relative)} as good as the big model"

    # --- the decision in words ---------------------------------------------------------------------------------------

    @property
    def headline(self) -> str:
        """The decision after measuring in a sentence."""
        best, over = self.after, f"over {self.horizon}"
        now, then = self.value(TEACHER), self.value(best)
        if best is None:
            return "Choose nothing yet: no option meets what was asked for."
        if best == TEACHER:
            cost = f"{usd(then)} {over}" if math.isfinite(then) else f"what it costs {over} is not known"
            return f"Keep calling the big model: {cost}."
        cost = f"{usd(then)} {over}" if math.isfinite(then) else f"a sum that is not known {over}"
        start = HEADLINES.get(best, f"Switch to {best}: it does this")
        return f"{start} for {cost}{f' instead of {usd(now)}' if math.isfinite(now) else ''}."

    @property
    def lead(self) -> list[str]:
        """What follows the headline: by how much or why, whether measuring changed it, what was not tried."""
        return [one for one in (*self._because(), self.unrouted, self._changed(), self.cheaper) if one]

    def _because(self) -> list[str]:
        best = self.after
        if best is None:
            return [self._blocked(TEACHER), self._blocked(self.student_option), *self.helps[:1]]
        if best == TEACHER:
            return [self._no_student()]
        if self.options.get(TEACHER, {}).get("status") not in CHOOSABLE:
            return [self._blocked(TEACHER)]
        saved = self.value(TEACHER) - self.value(best)
        if not math.isfinite(saved):
            return []
        share = saved / self.value(TEACHER) if self.value(TEACHER) else 0.0
        told = f"That is {usd(abs(saved))} {'less' if saved >= 0 else 'more'} ({percent(abs(share))})"
        months = self.result.after.get("break_even", {}).get(best, {}).get("months")
        once = self.once(best)
        if once > 0 and months:
            told += f"; the {usd(once)} that it takes at the start is back in {duration(months)}"
        return [f"{told}."]

    @property
    def helps(self) -> list[str]:
        """What would let an option in, where none may be chosen."""
        return [
            f"What would help: {one['change']}. That lets in {mid(name_of(one['option']))} at "
            f"{dollars(one['present_value_usd'])}."
            for one in self.result.after.get("relaxations") or []
        ]

    def _blocked(self, option: str | None) -> str:
        """That an option would cost so much, and why it may not be chosen."""
        estimate = self.options.get(option or "")
        if option is None or estimate is None:
            return ""
        cost = self.value(option)
        if not math.isfinite(cost):
            why = mid(str(estimate.get("unpriced") or ""))
            return f"{name_of(option)} has no known price{f': {why}' if why else ''}."
        held = self.held(estimate)
        because = f", but may not be chosen because of {held}" if held else ""
        return f"{name_of(option)} would cost {usd(cost)} over {self.horizon}{because}."

    def _no_student(self) -> str:
        option = self.student_option
        if option is None:
            return "No way of having a small model of your own has a known price."
        if self.options[option].get("status") not in CHOOSABLE:
            return self._blocked(option)
        more = self.value(option) - self.value(TEACHER)
        return (
            f"{name_of(option)} would cost {usd(self.value(option))} over {self.horizon}, {usd(more)} more."
            if more >= 0
            else ""
        )

    def _changed(self) -> str:
        first = mid(name_of(self.before)) if self.before else "to choose nothing"
        if not self.stands:
            return f"Measuring changed the answer. Before it, the recommendation was: {first}."
        if self.after is None:
            return "It was so before measuring, too."
        return "Measuring did not change the answer."

    @property
    def unrouted(self) -> str:
        """What speaks against a router that the decision takes, by the odds, while its own verdict is another."""
        made = self.result.routing
        if self.after != CASCADE or not made or made.get("advice") == "router":
            return ""
        head = str(made.get("verdict", "")).removesuffix(" ".join(map(str, made.get("reasons", [])))).rstrip()
        return (
            "The decision goes by the odds, and they allow the router. That it is worth having is not shown (part 7): "
            f"{mid(head)}"
        )

    @property
    def cheaper(self) -> str:
        """An option that was not measured and would cost less; empty where there is none."""
        one = self.result.after.get("opportunity")
        if not one or one.get("option") == self.after:
            return ""
        cost = one.get("present_value_usd")
        if cost is None or not (self.after is None or cost < self.value(self.after)):
            return ""
        gates = self.options.get(one["option"], {}).get("gates", [])
        chances = [gate["probability"] for gate in gates if gate.get("probability") is not None]
        sure = f" The chance that it is good enough is put at {odds(min(chances))}." if chances else ""
        return (
            f"Cheaper still, but not tried here: {mid(name_of(one['option']))} ({one['label']}) would cost {usd(cost)} "
            f"over {self.horizon}.{sure} Try it on the same test messages before anything is built."
        )

    @property
    def honest(self) -> list[str]:
        """What must be known of this run before its numbers are believed."""
        found = [self.result.teacher.get("sentence", "")]
        if self.result.small:
            found.append(
                "This run had small settings, as tests do: few messages, short measurements. Its numbers say little."
            )
        return [one for one in found if one]

    @property
    def regret(self) -> str:
        """What staying with the first decision would cost."""
        lost = self.result.redecision.get("regret_usd")
        if self.stands:
            return "The first decision stands, so there is nothing to regret."
        first = mid(name_of(self.before))
        if lost is None:
            return (
                f"What staying with the first decision ({first}) would cost cannot be said: nothing that may be chosen "
                "stands against it."
            )
        word = "more" if lost >= 0 else "less, but it may not be chosen"
        return f"Staying with the first decision ({first}) would cost {usd(abs(lost))} {word}, over {self.horizon}."

    @property
    def changes(self) -> list[str]:
        """The sentences of the second decision, with options by their names; what :attr:`regret` says is left out."""
        ids = sorted(NAMES, key=len, reverse=True)
        known = re.compile(r"(?<![\w/-])(" + "|".join(map(re.escape, ids)) + r")(?![\w/-])")
        found = [str(one) for one in self.result.redecision.get("sentences", [])]
        named = [known.sub(lambda match: mid(name_of(match[1])), one) for one in found]
        return [capital(one) for one in named if not one.startswith("Staying with ")]

    @property
    def tipping(self) -> list[str]:
        """What would change the second decision, nearest first."""
        from distillcalc.decide.explain import FACTORS, words_of
        from distillcalc.decide.render import number

        said = []
        for point in self.result.after.get("tipping_points") or []:
            unit = FACTORS.get(point["input"], point.get("unit") or "")

            def worded(value: float, unit: str = unit) -> str:
                return usd(value) if unit == "USD" else number(value)

            at = f"{worded(point['flips_at'])} {'' if unit == 'USD' else unit.replace('/', ' a ')}".strip()
            now = "" if point.get("value") is None else f" (now {worded(point['value'])})"
            to = mid(name_of(point["to"])) if point.get("to") else "that nothing may be chosen"
            said.append(f"{capital(words_of(point['input']))}: at {at}{now} the answer is {to}.")
        return said

    def break_even(self, option: str | None, decision: Mapping[str, Any]) -> str:
        """Where an option begins to pay against calling the big model."""
        found = decision.get("break_even", {}).get(option or "")
        if option is None or not found:
            return ""
        spans = tuple((low, math.inf if high is None else high) for low, high in found["requests_per_day"])
        where = f"costs less than the big model {volumes(spans)}" if spans else "costs less at no volume"
        months = found.get("months")
        back = "" if months is None else " from the first day" if months == 0 else ""
        told = f"{name_of(option)} {where}{back}"
        if months:
            told += f", and has paid back after {duration(months)}" + (f" ({found['day']})" if found.get("day") else "")
        now = self.workload.get("requests_per_day")
        return f"{told}. The log has {count(now)} a day." if isinstance(now, (int, float)) else f"{told}."
