"""Two records side by side: first in what their runs differ, then each metric at each load that both measured.

Metrics are compared as they were summarised. Answers to the same evaluation items are compared better, in pairs, by
:func:`distillcalc.distill.training.scores.paired_difference`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias

from distillcalc.benchmark.comparing_metrics import OVERALL, Metric, is_number, metrics_of_level, metrics_overall
from distillcalc.benchmark.record import Level, Record
from distillcalc.distill.training.four_way import one_line
from distillcalc.errors import UnknownName

Group: TypeAlias = Literal["workload", "settings", "machine", "versions", "measured"]

OBSTACLES: Final[tuple[Group, ...]] = ("workload", "settings", "machine", "versions")
VERSIONS = {"versions", "driver", "commit", "python"}  # of what a record says of its machine
WIDTH = 120  # columns of the plain text


@dataclass(frozen=True)
class Unlike:
    """One thing in which two runs differ; None where one does not say.

    Parameters
    ----------
    group : "workload", "settings", "machine" or "versions", which make figures hard to compare; or "measured", of which
        one is mostly what the comparison is about.
    name : where it stands, such as "lengths.mean".
    a, b : what either says.
    """

    group: Group
    name: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Comparison:
    """Two records side by side.

    Parameters
    ----------
    a, b : what they are called; where two runs have one name, with the time of each.
    unlike : in what they differ, what makes them hard to compare first.
    metrics : by load, in the order of a's.
    only_a, only_b : loads that the other did not measure.
    """

    a: str
    b: str
    unlike: tuple[Unlike, ...]
    metrics: tuple[Metric, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]

    @property
    def comparable(self) -> bool:
        """Whether nothing but what was measured differs."""
        return all(one.group == "measured" for one in self.unlike)

    @property
    def headline(self) -> str:
        """Whether they can be compared, in a sentence."""
        if self.comparable:
            return f"{self.a} and {self.b}: the same workload, settings, machine and versions"
        counts = Counter(one.group for one in self.unlike)
        told = ", ".join(f"{group} ({counts[group]})" for group in OBSTACLES if counts[group])
        return f"{self.a} and {self.b} differ in {told}: what follows compares these too"

    def metric(self, name: str, load: str = OVERALL) -> Metric:
        """One metric by its name and load; raises :class:`~distillcalc.errors.UnknownName` where there is none."""
        for one in self.metrics:
            if (one.name, one.load) == (name, load):
                return one
        raise UnknownName("metric", f"{name} at {load}", [f"{one.name} at {one.load}" for one in self.metrics])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "a": self.a, "b": self.b, "comparable": self.comparable, "headline": self.headline,
            "unlike": [asdict(one) for one in self.unlike], "metrics": [one.to_dict() for one in self.metrics],
            "only_a": list(self.only_a), "only_b": list(self.only_b),
        }  # fmt: skip

    def __str__(self) -> str:
        from io import StringIO

        from rich.console import Console

        text = StringIO()
        Console(file=text, width=WIDTH, color_system=None, legacy_windows=False, force_terminal=False).print(self)
        return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())

    def __rich__(self) -> Any:
        """In what they differ, then the metrics."""
        from distillcalc.benchmark.comparing_table import shown

        return shown(self)


def compare(a: Record, b: Record) -> Comparison:
    """Hold two records against each other.

    Parameters
    ----------
    a, b : the records; ratios are b / a.

    Returns
    -------
    Comparison
        Loads are matched by all that they say (kind, concurrency or rate, burstiness). Rates, memory and dollars were
        measured once and have no interval.
    """
    left, right = _by_load(a), _by_load(b)
    metrics = [
        metric for load, level in left.items() if load in right for metric in metrics_of_level(level, right[load])
    ]  # fmt: skip
    names = (a.name, b.name) if a.name != b.name else (f"{a.name} ({a.created})", f"{b.name} ({b.created})")
    return Comparison(
        a=one_line(names[0]),
        b=one_line(names[1]),
        unlike=tuple(_unlike(a, b)),
        metrics=(*metrics, *metrics_overall(a, b)),
        only_a=tuple(level.name for load, level in left.items() if load not in right),
        only_b=tuple(level.name for load, level in right.items() if load not in left),
    )


def _by_load(record: Record) -> dict[str, Level]:
    """Levels by what their loads say; of several with one load each by how often it came before."""
    found: dict[str, Level] = {}
    seen: Counter[str] = Counter()
    for level in record.levels:
        plain = {name: float(v) if is_number(v) else v for name, v in level.load.items()}
        load = json.dumps(plain, sort_keys=True, default=str)
        found[f"{load} {seen[load]}"] = level
        seen[load] += 1
    return found


def _unlike(a: Record, b: Record) -> Iterator[Unlike]:
    found: list[Unlike] = []
    for group in ("workload", "settings", "machine", "measured"):
        sides = [getattr(record, group) for record in (a, b)]
        one, other = (dict(_leaves(side if isinstance(side, dict) else side.model_dump(mode="json"))) for side in sides)
        for name in dict.fromkeys([*one, *other]):
            if one.get(name) != other.get(name):
                is_version = group == "machine" and name.split(".")[0] in VERSIONS
                found.append(Unlike("versions" if is_version else group, name, one.get(name), other.get(name)))
    order: tuple[Group, ...] = (*OBSTACLES, "measured")
    yield from sorted(found, key=lambda one: order.index(one.group))


def _leaves(plain: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in plain.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", list(value) if isinstance(value, tuple) else value
