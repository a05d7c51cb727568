"""What every benchmark shares: the target beside the number, and one summary at the end of the run.

A benchmark fails on a wrong result and never on a slow machine: a target that is missed is said, not raised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

ROWS = pytest.StashKey[list["Row"]]()


@dataclass(frozen=True)
class Row:
    """One number of the summary, and the limit it is held against; without one it is only reported."""

    what: str
    measured: float
    unit: str
    below: float | None = None
    at_least: float | None = None

    @property
    def target(self) -> str:
        if self.below is not None:
            return f"below {self.below:,g} {self.unit}"
        return f"at least {self.at_least:,g} {self.unit}" if self.at_least is not None else "-"

    @property
    def verdict(self) -> str:
        if self.below is not None:
            return "met" if self.measured < self.below else "missed"
        if self.at_least is not None:
            return "met" if self.measured >= self.at_least else "missed"
        return "reported"


@pytest.fixture
def record(request: pytest.FixtureRequest, benchmark: BenchmarkFixture) -> Callable[..., None]:
    """Keep a row, given field by field, in the summary and in the benchmark's own extra_info."""
    rows = request.config.stash.setdefault(ROWS, [])

    def keep(what: str, measured: float, unit: str, **limit: float) -> None:
        row = Row(what, measured, unit, **limit)
        rows.append(row)
        benchmark.extra_info[what] = asdict(row) | {"target": row.target, "verdict": row.verdict}

    return keep


@pytest.fixture
def median_s(benchmark: BenchmarkFixture) -> Callable[[], float]:
    """Median over the rounds of the benchmark [s]; nan where pytest ran it once, untimed."""
    return lambda: benchmark.stats.stats.median if benchmark.stats else float("nan")


def three_digits(number: float) -> str:
    return f"{float(f'{number:.3g}'):,g}"


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(ROWS, [])
    if not rows or not config.getoption("benchmark_enable"):
        return
    cells = [("", "target", "measured", "")]
    cells += [(row.what, row.target, f"{three_digits(row.measured)} {row.unit}", row.verdict) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    terminalreporter.section("targets")
    for what, target, measured, verdict in cells:
        terminalreporter.write_line(
            f"{what:<{widths[0]}}  {target:>{widths[1]}}  {measured:>{widths[2]}}  {verdict}".rstrip(),
            red=verdict == "missed",
        )
