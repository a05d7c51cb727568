"""Dear work after cheap: started when input has been quiet for a while, in one thread, and given up for newer input."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Found = TypeVar("Found")
Wanted = Callable[[], bool]


class Later(Generic[Asked, Found]):
    """Runs ``work`` for the latest thing asked for, once nothing newer was asked for a while; never two at once.

    Where no event loop runs (a script, a test), it works at once and in place.

    Parameters
    ----------
    delay_s : of quiet, before it starts [s].
    work : takes what was asked and a function that says whether that is still wanted; yields results.
    show : takes each result, in the thread that asked.
    failed : takes an error that ``work`` raised, in the same thread.
    """

    def __init__(
        self,
        delay_s: float,
        work: Callable[[Asked, Wanted], Iterator[Found]],
        show: Callable[[Found], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._delay_s, self._work, self._show, self._failed = delay_s, work, show, failed
        self._asked = 0
        self._timer: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether something is awaited."""
        return self._timer is not None or self._thread is not None

    def ask(self, what: Asked) -> None:
        """Work on this soon; what was asked before is given up."""
        self._asked += 1
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._at_once(what)
            return
        if self._timer is not None:
            self._timer.cancel()
        context = contextvars.copy_context()
        self._timer = loop.call_later(self._delay_s, self._start, loop, self._asked, what, context)

    def give_up(self) -> None:
        """Show nothing of what was asked before."""
        self._asked += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _at_once(self, what: Asked) -> None:
        number = self._asked
        try:
            for found in self._work(what, lambda: self._asked == number):
                self._show(found)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is shown where the result would be
            self._failed(error)

    def _start(self, loop: asyncio.AbstractEventLoop, number: int, what: Asked, context: contextvars.Context) -> None:
        if self._thread is not None:  # the one that runs is given up, and ends at its next step
            self._timer = loop.call_later(0.02, self._start, loop, number, what, context)
            return
        self._timer = None
        self._thread = threading.Thread(target=self._run, args=(loop, number, what, context), daemon=True)
        self._thread.start()

    def _run(self, loop: asyncio.AbstractEventLoop, number: int, what: Asked, context: contextvars.Context) -> None:
        def back(deliver: Callable[..., None], *arguments: object) -> None:
            try:
                loop.call_soon_threadsafe(deliver, *arguments, context=context)
            except RuntimeError:  # the loop is closed: nobody waits any more
                self._asked += 1

        try:
            for found in self._work(what, lambda: self._asked == number):
                back(self._deliver, number, self._show, found)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is shown where the result would be
            back(self._deliver, number, self._failed, error)
        finally:
            back(self._ended)

    def _deliver(self, number: int, take: Callable[[object], None], what: object) -> None:
        if number == self._asked:
            take(what)

    def _ended(self) -> None:
        self._thread = None
