"""The server and the key that every test of hosted fine-tuning has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.distill.finetune.common import APIS, KEY, SECRET
from tests.distill.server import Server, running


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, SECRET)
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "TOGETHER_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as served:
        yield served


@pytest.fixture(params=APIS)
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)
