"""Dear work: after quiet, for the latest alone, never two at once, and its errors are told."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

from distillcalc.notebook.later import Later, Wanted

DELAY = 0.05


class Bench:
    """Counts what runs and what is shown."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self.takes_s = takes_s
        self.started: list[int] = []
        self.shown: list[int] = []
        self.errors: list[Exception] = []
        self.running = self.most_running = 0
        self.threads: set[int] = set()
        self.later: Later[int, int] = Later(DELAY, self.work, self.show, self.errors.append)

    def work(self, what: int, wanted: Wanted) -> Iterator[int]:
        self.started.append(what)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if what < 0:
                raise RuntimeError("none of this")
            end = time.monotonic() + self.takes_s
            while time.monotonic() < end:
                time.sleep(0.005)
                if not wanted():
                    return
            yield what
            yield what * 10
        finally:
            self.running -= 1

    def show(self, found: int) -> None:
        self.threads.add(threading.get_ident())
        self.shown.append(found)

    async def settle(self) -> None:
        while self.later.busy:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)


def test_without_a_loop_it_works_at_once() -> None:
    bench = Bench()
    bench.later.ask(3)
    assert bench.shown == [3, 30]
    bench.later.ask(-1)
    assert str(bench.errors[0]) == "none of this"
    assert not bench.later.busy


def test_a_burst_of_input_is_worked_on_once_for_its_last() -> None:
    async def burst() -> Bench:
        bench = Bench()
        for what in range(1, 9):
            bench.later.ask(what)
            await asyncio.sleep(DELAY / 10)
        assert bench.started == []
        await bench.settle()
        return bench

    bench = asyncio.run(burst())
    assert bench.started == [8]
    assert bench.shown == [8, 80]
    assert bench.threads == {threading.get_ident()}  # shown in the thread that asked


def test_newer_input_gives_up_what_runs_and_two_never_run_at_once() -> None:
    async def overtaken() -> Bench:
        bench = Bench(takes_s=0.3)
        bench.later.ask(1)
        while not bench.started:
            await asyncio.sleep(0.005)
        bench.later.ask(2)
        await bench.settle()
        return bench

    bench = asyncio.run(overtaken())
    assert bench.started == [1, 2]
    assert bench.shown == [2, 20]
    assert bench.most_running == 1


def test_what_is_given_up_is_not_shown() -> None:
    async def given_up() -> Bench:
        bench = Bench(takes_s=0.1)
        bench.later.ask(1)
        bench.later.give_up()
        await bench.settle()
        assert bench.started == []
        bench.later.ask(2)
        while not bench.started:
            await asyncio.sleep(0.005)
        bench.later.give_up()
        await bench.settle()
        return bench

    bench = asyncio.run(given_up())
    assert bench.shown == []


def test_an_error_is_told_where_the_result_would_be_shown() -> None:
    async def wrong() -> Bench:
        bench = Bench()
        bench.later.ask(-1)
        await bench.settle()
        bench.later.ask(5)
        await bench.settle()
        return bench

    bench = asyncio.run(wrong())
    assert [str(error) for error in bench.errors] == ["none of this"]
    assert bench.shown == [5, 50]


def test_a_loop_that_ended_is_no_error() -> None:
    bench = Bench(takes_s=0.05)

    async def left() -> None:
        bench.later.ask(1)
        while not bench.started:
            await asyncio.sleep(0.005)

    asyncio.run(left())
    deadline = time.monotonic() + 5
    while bench.running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert bench.shown == []
    assert bench.errors == []
