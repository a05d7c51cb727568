"""What all tests share: Hypothesis without a clock, and browser tests that stay in one process.

How long an example takes depends on the machine, and no test asserts on that.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("distillcalc", deadline=None)
settings.load_profile("distillcalc")

BROWSER = "tests/notebook/browser/"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Every test to the next free process, but for those with a browser: the tests of a file share a server.

    (xdist's own loadgroup marks tests by an attribute that pytest 9.2 no longer has.)
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid.split("::", 1)[0] if nodeid.startswith(BROWSER) else nodeid

    return Scheduling(config, log) if config.getvalue("dist") == "load" else None
