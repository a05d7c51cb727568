"""A scenario as the Python that makes it: copied out of the panel, pasted anywhere, deciding the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distillcalc.workload.scenario import Scenario

WIDTH = 100


def as_python(scenario: Scenario) -> str:
    """Code that, run, leaves an equal ``scenario`` and its ``decision``.

    Parameters
    ----------
    scenario : what to write down; fields at their defaults are left out, and distributions stand as their tables.
    """
    plain = scenario.to_dict()
    workload, choices = plain.pop("workload"), plain.pop("choices")
    lines = ["from datetime import date", "", "from distillcalc import Choices, Scenario, Workload, recommend", ""]
    lines += [f"workload = {_call('Workload', workload)}", f"choices = {_call('Choices', choices)}"]
    rest = "".join(f"    {name}={_literal(value, 4)},\n" for name, value in plain.items())
    lines.append(f"scenario = Scenario(\n    workload=workload,\n    choices=choices,\n{rest})")
    lines += ["decision = recommend(scenario)", "print(decision)"]
    return "\n".join(lines) + "\n"


def _call(name: str, values: dict[str, Any]) -> str:
    arguments = "".join(f"    {key}={_literal(value, 4)},\n" for key, value in values.items())
    return f"{name}(\n{arguments})" if arguments else f"{name}()"


def _literal(value: Any, indent: int) -> str:
    """A value as a literal, broken over lines where it is long."""
    from datetime import date

    if isinstance(value, date):
        return f"date({value.year}, {value.month}, {value.day})"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"{int(value):_}"
    if isinstance(value, dict):
        parts = [f"{json.dumps(key, ensure_ascii=False)}: {_literal(one, indent + 4)}" for key, one in value.items()]
        return _wrapped("{", parts, "}", indent)
    if isinstance(value, (list, tuple)):
        parts = [_literal(one, indent + 4) for one in value]
        return _wrapped("[", parts, "]", indent)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _wrapped(opening: str, parts: list[str], closing: str, indent: int) -> str:
    flat = f"{opening}{', '.join(parts)}{closing}"
    if len(flat) + indent <= WIDTH and "\n" not in flat:
        return flat
    pad = " " * (indent + 4)
    return f"{opening}\n" + "".join(f"{pad}{part},\n" for part in parts) + " " * indent + closing
