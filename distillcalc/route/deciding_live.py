"""A router beside an event loop: quick scores at once, slow ones in a thread of their own, what a score needs told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from distillcalc.route.calls import described
from distillcalc.route.confidence import Confidence, needs
from distillcalc.route.given import Given
from distillcalc.route.requests import Request, Route

if TYPE_CHECKING:
    from distillcalc.route.router import Router

T = TypeVar("T")


class Decider:
    """A router's decisions for one event loop.

    Confidence scores take microseconds and are worked out at once. Embeddings, languages and functions of the user's
    take longer: one thread works on them in turn, so that the loop goes on and no score must bear two threads.

    Parameters
    ----------
    router : whose decisions.
    also_needs : fields of :class:`.Request` that a function of the user's reads: "logprobs", "samples".
    """

    def __init__(self, router: Router, also_needs: Collection[str] = ()) -> None:
        self.router = router
        self.needs = needed(router.scores) | frozenset(also_needs)
        self._quick = not router.rules.rules and all(isinstance(one, (Confidence, Given)) for one in router.scores)
        self._thread: ThreadPoolExecutor | None = None

    async def _run(self, function: Callable[[], T]) -> T:
        if self._quick:
            return function()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="router")
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    async def decide(self, request: Request, at: int = 0) -> Route:
        """As :meth:`.Router.decide`."""
        return await self._run(partial(self.router.decide, request, at))

    async def choose(self, request: Request) -> Route:
        """Of a router that chooses before: its choice, or the teacher where it cannot make one."""
        try:
            return await self.decide(request)
        except Exception as failure:  # noqa: BLE001 - a score that fails must not take the answer away
            reason = f"the router could not choose: {described(failure)}"
            return Route(self.router.teacher, reason, float("nan"))

    async def ruled(self, request: Request) -> Route | None:
        """Of a cascade: what a rule says before anybody answers; None where none holds."""
        router = self.router
        if not router.rules.rules:
            return None
        verdict = await self._run(partial(router.rules.first, request, embedder=router.embedder))
        if verdict is None:
            return None
        return Route(router.models[-1 if verdict.then == "teacher" else 0], verdict.reason, float("nan"))

    async def score(self, request: Request) -> float | None:
        """The first model's score even where a rule decides; None where it cannot be worked out."""
        try:
            return float(await self._run(partial(self.router.scores[0].one, request)))
        except Exception:  # noqa: BLE001
            return None

    def close(self) -> None:
        """Let the thread go once it has nothing to do."""
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None


def needed(scores: Iterable[Any]) -> frozenset[str]:
    """Fields of a request that scores read of the student's answer; functions of the user's do not say."""
    found = set()
    for score in scores:
        if isinstance(score, Confidence):
            found.add(needs(score.name))
        found |= needed(getattr(score, "beside", ()))
    return frozenset(found)
