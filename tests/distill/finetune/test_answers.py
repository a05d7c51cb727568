"""Answers that differ between servers, and answers that are none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from distillcalc.distill.finetune import ProviderError
from distillcalc.distill.finetune.calls import Calls
from distillcalc.distill.finetune.openai_api import answers, job_of
from distillcalc.distill.finetune.together_api import job_of as together_job_of
from distillcalc.errors import InputError
from tests.distill.finetune.common import KEY, SECRET, Clock
from tests.distill.server import Server, running


class Odd(Server):
    """A server with routes of its own."""

    odd: list[Route]

    def app(self):  # type: ignore[no-untyped-def]
        app = super().app()
        app.router.routes[:0] = self.odd
        return app


@contextmanager
def calls_to(*odd: Route) -> Iterator[Calls]:
    server = Odd()
    server.odd = list(odd)
    with running(server), closing(Calls(server.base_url, KEY, tries=2, sleep=Clock().sleep)) as calls:
        yield calls


def test_a_model_that_refuses_max_tokens_is_asked_in_the_newer_words() -> None:
    async def chat(request: Request) -> Response:
        if "max_tokens" in await request.json():
            return JSONResponse({"error": {"message": "Unsupported parameter: 'max_tokens'"}}, status_code=400)
        return JSONResponse({"choices": []})

    with calls_to(Route("/v1/chat/completions", chat, methods=["POST"])) as calls:
        assert answers(calls, "ft:new")


def test_an_answer_that_is_not_json_may_have_been_done() -> None:
    async def page(request: Request) -> Response:
        return PlainTextResponse("<html>a proxy's page</html>")

    with calls_to(Route("/v1/odd", page, methods=["GET", "POST"])) as calls:
        for ask in (calls.get, calls.post):
            with pytest.raises(ProviderError, match="not a JSON object") as told:
                ask("/odd")
            assert told.value.lost


def test_a_server_that_repeats_the_key_is_not_quoted() -> None:
    async def refuse(request: Request) -> Response:
        said = request.headers["authorization"]
        return JSONResponse({"error": {"message": f"Incorrect API key: {said}"}}, status_code=401)

    with (
        calls_to(Route("/v1/odd", refuse, methods=["POST"])) as calls,
        pytest.raises(ProviderError, match=r"Incorrect API key: Bearer \[key\]") as told,
    ):
        calls.post("/odd")
    assert SECRET not in str(told.value)


def test_nobody_at_the_address(tmp_path: Path) -> None:
    with running() as server:
        address = server.base_url
    with closing(Calls(address, KEY, tries=2, sleep=Clock().sleep)) as calls:
        with pytest.raises(ProviderError, match="no answer came") as told:
            calls.get("/models")
        assert told.value.lost


def test_addresses_that_are_none() -> None:
    with pytest.raises(InputError, match="base_url must be an address"):
        Calls("api.openai.com/v1", KEY)


def test_errors_in_several_forms() -> None:
    job = {"id": "ft-1", "status": "failed", "model": "m"}
    assert str(job_of(job | {"error": {"code": "bad", "message": "Line 3", "param": None}}).error) == "bad: Line 3"
    assert job_of(job | {"error": {"code": None, "message": None, "param": None}}).error is None
    assert job_of(job | {"error": {}}).error is None
    assert str(job_of(job | {"error": "it broke"}).error) == "it broke"
    assert "see the job's events" in str(together_job_of({"id": "ft-1", "status": "error"}).error)
    with pytest.raises(ProviderError, match="no id"):
        job_of({})


def test_a_status_that_is_not_known_is_not_an_end() -> None:
    job = job_of({"id": "ft-1", "status": "warming_up", "model": "m"})
    assert (job.status, job.service_status, job.over) == ("unknown", "warming_up", False)
