"""How many calls are in flight: fewer when the server says that it is too much, more again as it answers."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_WAIT_S = 600.0
FIRST_BACKOFF_S = 0.5


class Pacer:
    """Bounded concurrency that halves on a refusal and grows by one for each round of answers (AIMD).

    Parameters
    ----------
    most : calls in flight at the most.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(most)
        self.active = 0
        self.refusals = 0
        self.least_limit = float(most)
        self._refused_in_a_row = 0
        self._cut_at = 0.0
        self._open_at = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Wait for a place among the calls in flight."""
        while True:
            pause = self._open_at - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
            elif self.active < int(self.limit):
                self.active += 1
                return
            else:
                turn = asyncio.get_running_loop().create_future()
                self._waiting.append(turn)
                try:
                    await turn
                except asyncio.CancelledError:
                    self._wake()
                    raise

    def leave(self) -> None:
        """Give the place back."""
        self.active -= 1
        self._wake()

    def _wake(self) -> None:
        free = int(self.limit) - self.active
        while self._waiting and free > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1

    def answered(self) -> None:
        """The server answered: it can take a little more."""
        self._refused_in_a_row = 0
        if self.limit < self.most:
            self.limit = min(float(self.most), self.limit + 1.0 / self.limit)
            self._wake()

    def refused(self, sent_at: float, headers: Mapping[str, str]) -> float:
        """The server said that it is too much; returns for how long nothing is sent [s].

        Refusals of calls that were sent before the last cut were in flight together: they cut once.
        """
        self.refusals += 1
        now = time.monotonic()
        if sent_at >= self._cut_at:
            self._refused_in_a_row += 1
            self.limit = max(1.0, self.limit / 2)
            self.least_limit = min(self.least_limit, self.limit)
            self._cut_at = now
        asked = retry_after_s(headers)
        # A server that says "at once" to a call that it refuses would be asked again and again.
        pause = min(asked or backoff_s(self._refused_in_a_row), LONGEST_WAIT_S)
        self._open_at = max(self._open_at, now + pause)
        return pause


def backoff_s(failures: int) -> float:
    """A pause after so many failures in a row [s]: doubling, at most a minute, half of it by chance."""
    longest = min(FIRST_BACKOFF_S * 2.0 ** min(max(failures, 1) - 1, 10), 60.0)
    return longest * (0.5 + 0.5 * random.random())


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The pause that a server asks for [s]; None where it asks for none that can be read.

    ``Retry-After`` is seconds or a date (RFC 9110, 10.2.3); OpenAI sends ``retry-after-ms`` too.
    """
    milliseconds = headers.get("retry-after-ms")
    if milliseconds is not None:
        try:
            asked_s = float(milliseconds) / 1000
        except ValueError:
            asked_s = math.nan
        if not math.isnan(asked_s):
            return max(asked_s, 0.0)
    stated = headers.get("retry-after")
    if stated is None:
        return None
    try:
        seconds = float(stated)
    except ValueError:
        try:
            at = parsedate_to_datetime(stated)
            seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - datetime.now(UTC).timestamp()
        except (ValueError, OverflowError):
            return None
    return None if math.isnan(seconds) else max(seconds, 0.0)
