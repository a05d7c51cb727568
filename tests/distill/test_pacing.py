"""Calls in flight: never more than the limit, fewer when refused, all served in the end. No test looks at a clock."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillcalc.distill import pacing
from distillcalc.distill.pacing import LONGEST_WAIT_S, Pacer, backoff_s, retry_after_s


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []
        sleep = asyncio.sleep

        async def pass_time(seconds: float) -> None:
            self.slept.append(seconds)
            self.now += seconds
            await sleep(0)

        monkeypatch.setattr(pacing.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(pacing.asyncio, "sleep", pass_time)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_burst_of_refusals_halves_once(clock: Clock) -> None:
    pacer = Pacer(16)
    sent = clock.now
    clock.now += 1
    for _ in range(16):  # all in flight together
        pacer.refused(sent, {"retry-after": "1"})
    assert (pacer.limit, pacer.refusals) == (8, 16)
    clock.now += 1
    pacer.refused(clock.now, {"retry-after": "1"})  # sent after the cut
    assert pacer.limit == 4
    for _ in range(10):
        clock.now += 1
        pacer.refused(clock.now, {})
    assert pacer.limit == pacer.least_limit == 1


def test_it_grows_by_one_for_each_round_of_answers(clock: Clock) -> None:
    pacer = Pacer(16)
    pacer.refused(clock.now, {})
    for _ in range(8):
        pacer.answered()
    assert 8.9 < pacer.limit < 9  # eight answers, each 1/limit: a little less than one
    for _ in range(1_000):
        pacer.answered()
    assert pacer.limit == 16
    assert pacer.least_limit == 8


def test_a_refusal_holds_everybody(clock: Clock) -> None:
    async def work() -> None:
        pacer = Pacer(4)
        assert pacer.refused(clock.now, {"retry-after": "7"}) == 7
        await pacer.enter()
        assert clock.slept == [7]
        assert pacer.active == 1

    asyncio.run(work())


@pytest.mark.parametrize("stated", ["86400", "inf", "1e300"])
def test_nobody_waits_forever(clock: Clock, stated: str) -> None:
    assert Pacer(4).refused(clock.now, {"retry-after": stated}) == LONGEST_WAIT_S


def test_a_refusal_that_asks_for_no_pause_gets_one_all_the_same(clock: Clock) -> None:
    for headers in ({}, {"retry-after": "0"}, {"retry-after": "soon"}, {"retry-after": "-3"}):
        assert 0.25 <= Pacer(4).refused(clock.now, headers) <= 0.5


@given(most=st.integers(1, 8), steps=st.lists(st.sampled_from(["answered", "refused", "cancelled"]), max_size=40))
def test_never_more_than_the_limit_and_nobody_is_forgotten(most: int, steps: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(patch)
        asyncio.run(_everybody_is_served(clock, most, steps))


async def _everybody_is_served(clock: Clock, most: int, steps: list[str]) -> None:
    pacer, done = Pacer(most), list[int]()

    async def call(number: int, outcome: str) -> None:
        await pacer.enter()
        try:
            assert 0 < pacer.active <= most
            sent = clock.now
            await asyncio.sleep(0.1)
            if outcome == "refused":
                before = pacer.limit
                pacer.refused(sent, {})
                assert pacer.limit in (before, max(1.0, before / 2))
            else:
                pacer.answered()
            assert 1 <= pacer.least_limit <= pacer.limit <= most
        finally:
            pacer.leave()
        done.append(number)

    tasks = [asyncio.create_task(call(i, step)) for i, step in enumerate(steps)]
    for task, step in zip(tasks, steps, strict=True):
        if step == "cancelled":
            await asyncio.sleep(0)
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert pacer.active == 0
    kept = {i for i, step in enumerate(steps) if step != "cancelled"}
    assert kept <= set(done)
    await pacer.enter()  # still open


def test_no_more_enter_than_the_cut_limit(clock: Clock) -> None:
    async def work() -> None:
        pacer = Pacer(4)
        for _ in range(4):
            await pacer.enter()
        pacer.refused(clock.now, {"retry-after": "1"})
        waiting = [asyncio.create_task(pacer.enter()) for _ in range(4)]
        pacer.leave()
        pacer.leave()  # two are still in flight, and that is the limit
        for _ in range(10):
            await asyncio.sleep(0)
        assert pacer.active == 2
        pacer.leave()
        for _ in range(10):
            await asyncio.sleep(0)
        assert pacer.active == 2
        assert sum(task.done() for task in waiting) == 1
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(work())


@given(failures=st.integers(-5, 10_000))
def test_a_backoff_doubles_up_to_a_minute(failures: int) -> None:
    longest = 0.5 * 2 ** min(max(failures, 1) - 1, 7)  # 0.5, 1, 2, ... 64
    assert 0.5 * min(longest, 60) <= backoff_s(failures) <= min(longest, 60)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "-1"}, 0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00"}, 0),
        ({"retry-after": "Wed, 99 Foo 2015 07:28:00 GMT"}, None),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "nan", "retry-after": "7"}, 7),
        ({"retry-after-ms": "x", "retry-after": "7"}, 7),
        ({"retry-after-ms": "-4"}, 0),
    ],
)
def test_the_pause_that_a_server_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


def test_a_date_is_a_pause_until_then() -> None:
    found = retry_after_s({"retry-after": format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)})
    assert found is not None
    assert 3_000 < found <= 3_600


@given(st.one_of(st.text(max_size=20), st.from_regex(r"\w{3}, \d{1,3} \w{3} \d{1,6} \d{1,3}:\d\d:\d\d [+-]\d{4,9}")))
def test_no_header_stops_the_run(text: str) -> None:
    for name in ("retry-after", "retry-after-ms"):
        found = retry_after_s({name: text})
        assert found is None or found >= 0
