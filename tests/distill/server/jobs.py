"""Fine-tuning jobs, as OpenAI and as Together speak of them: made, polled until they are done, misbehaving on order.

Misdeeds of a creation: ``job_429``, ``job_500``, ``job_401`` (nothing is made), ``job_lost`` (made, answered with a
502), ``job_cut`` (made, the answer breaks off). Of a job, decided when it is made: ``job_failed``, ``job_invalid`` (its
training file), ``job_stuck`` (never leaves the queue), ``job_slow`` (``seconds`` more polls), ``job_nameless``
(succeeds without a model), ``job_unmarked`` (metadata and suffix are not given back), ``job_hidden`` (left out of
``seconds`` lists). Of reading: ``poll_429``, ``poll_500``, ``list_500``, ``events_500``. Of an upload that is kept and
whose answer is lost: ``upload_lost`` (Together's path).
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.distill.server.files import add_file, shown
from tests.distill.server.harness import Server, body_of, cut_short, error, failing

NOW = 1_795_000_000
OF_A_JOB = (
    "job_failed", "job_invalid", "job_stuck", "job_slow", "job_nameless", "job_unmarked", "job_hidden",
)  # fmt: skip
COURSE = ("validating", "queued", "running", "succeeded")
WORDS = {
    "openai": {"validating": "validating_files"},
    "together": {"validating": "pending", "succeeded": "completed", "failed": "error"},
}


def refused(server: Server, of: str, *kinds: str) -> Response | None:
    """The answer to a request that a misdeed of these kinds makes fail, such as job_429."""
    fault = server.fault(of, *kinds)
    if fault is None:
        return None
    return failing(server, replace(fault, kind=fault.kind.rpartition("_")[2]))


def routes(server: Server) -> list[Route]:
    return [*openai_routes(server), *together_routes(server)]


def openai_routes(server: Server) -> list[Route]:
    async def create(request: Request) -> Response:
        return await _create(server, request, "openai")

    async def listed(request: Request) -> Response:
        if (failed := refused(server, "list", "list_500")) is not None:
            return failed
        jobs = [show(job) for job in reversed(_jobs(server, "openai"))]
        return _page(jobs, request)

    async def one(request: Request) -> Response:
        return _one(server, request, "openai")

    async def events(request: Request) -> Response:
        if (failed := refused(server, "events", "events_500")) is not None:
            return failed
        return _page(server.jobs[request.path_params["id"]]["log"][::-1], request)

    async def checkpoints(request: Request) -> Response:
        job = server.jobs[request.path_params["id"]]
        data = [
            {
                "id": f"ckpt-{step}",
                "object": "fine_tuning.job.checkpoint",
                "created_at": NOW + step,
                "fine_tuned_model_checkpoint": f"{job['result']}:ckpt-step-{step}",
                "fine_tuning_job_id": job["id"],
                "metrics": {"step": step, "train_loss": 1.0 / step},
                "step_number": step,
            }
            for step in ((20, 10) if job["status"] == "succeeded" else ())
        ]
        return _page(data, request)

    async def cancel(request: Request) -> Response:
        job = server.jobs[request.path_params["id"]]
        _turn(job, "cancelled")
        return JSONResponse(show(job))

    jobs = "/v1/fine_tuning/jobs"
    return [
        Route(jobs, create, methods=["POST"]),
        Route(jobs, listed, methods=["GET"]),
        Route(jobs + "/{id}", one, methods=["GET"]),
        Route(jobs + "/{id}/events", events, methods=["GET"]),
        Route(jobs + "/{id}/checkpoints", checkpoints, methods=["GET"]),
        Route(jobs + "/{id}/cancel", cancel, methods=["POST"]),
    ]


def together_routes(server: Server) -> list[Route]:
    async def upload(request: Request) -> Response:
        form = await request.form()
        sent: Any = form["file"]
        content = await sent.read()
        await sent.close()
        assert form["purpose"] == "fine-tune"
        assert form["file_type"] == "jsonl"
        if (failed := refused(server, "files fine-tune", "upload_500", "upload_401")) is not None:
            return failed
        file = add_file(server, content, str(form["file_name"]), "fine-tune")
        if server.fault("files fine-tune", "upload_lost") is not None:
            return Response(b"", status_code=502)
        return JSONResponse(shown(file) | {"Processed": True, "FileType": "jsonl", "LineCount": 1})

    async def create(request: Request) -> Response:
        return await _create(server, request, "together")

    async def estimate(request: Request) -> Response:
        _, body = await body_of(request)
        tokens = _tokens(server, body)
        return JSONResponse(
            {
                "estimation_available": True,
                "allowed_to_proceed": True,
                "estimated_train_token_count": tokens,
                "estimated_total_price": tokens / 1e6,
            }
        )

    async def listed(request: Request) -> Response:
        if (failed := refused(server, "list", "list_500")) is not None:
            return failed
        return JSONResponse({"data": [show(job) for job in _jobs(server, "together")]})

    async def one(request: Request) -> Response:
        return _one(server, request, "together")

    async def events(request: Request) -> Response:
        if (failed := refused(server, "events", "events_500")) is not None:
            return failed
        return JSONResponse({"data": _together_log(server.jobs[request.path_params["id"]])})

    async def checkpoints(request: Request) -> Response:
        job = server.jobs[request.path_params["id"]]
        data = [
            {"checkpoint_type": "Intermediate", "created_at": _iso(NOW + step), "path": f"s3://{step}", "step": step}
            for step in ((20, 10) if job["status"] == "succeeded" else ())
        ]
        return JSONResponse({"data": data})

    async def cancel(request: Request) -> Response:
        job = server.jobs[request.path_params["id"]]
        _turn(job, "cancelled")
        return JSONResponse(show(job))

    jobs = "/v1/fine-tunes"
    return [
        Route("/v1/files/upload", upload, methods=["POST"]),
        Route(jobs, create, methods=["POST"]),
        Route(jobs + "/estimate-price", estimate, methods=["POST"]),
        Route(jobs, listed, methods=["GET"]),
        Route(jobs + "/{id}", one, methods=["GET"]),
        Route(jobs + "/{id}/events", events, methods=["GET"]),
        Route(jobs + "/{id}/checkpoints", checkpoints, methods=["GET"]),
        Route(jobs + "/{id}/cancel", cancel, methods=["POST"]),
    ]


async def _create(server: Server, request: Request, api: str) -> Response:
    raw, body = await body_of(request)
    server.keys.add(request.headers.get("authorization", ""))
    if (failed := refused(server, raw, "job_429", "job_500", "job_401", "job_quota")) is not None:
        return failed
    if body.get("training_file") not in server.files:
        return error(400, f"{body.get('training_file')} is no file", code="invalid_training_file")
    fault = server.fault(raw, *OF_A_JOB)
    suffix = body.get("suffix") or "tuned"
    number = server.next_id("job")
    job = {
        "id": f"ft{number}",
        "api": api,
        "body": body,
        "status": "validating",
        "polls": 0,
        "extra": int(fault.seconds) if fault else 0,
        "misdeed": fault.kind if fault else "",
        "tokens": _tokens(server, body),
        "result": f"ft:{body['model']}:us:{suffix}:{number}" if api == "openai" else f"us/{body['model']}-{suffix}",
        "log": [],
    }
    _log(job, "Created fine-tuning job")
    server.jobs[job["id"]] = job
    if server.fault(raw, "job_lost") is not None:
        return Response(b"", status_code=502)
    if server.fault(raw, "job_cut") is not None:
        return cut_short(json.dumps(show(job)).encode())
    return JSONResponse(show(job))


def _one(server: Server, request: Request, api: str) -> Response:
    if (failed := refused(server, "poll", "poll_429", "poll_500")) is not None:
        return failed
    job = server.jobs.get(request.path_params["id"])
    if job is None or job["api"] != api:
        return error(404, "Could not find fine-tune", code="fine_tune_not_found")
    _advance(job)
    return JSONResponse(show(job))


def _jobs(server: Server, api: str) -> list[dict[str, Any]]:
    shown_jobs = []
    for job in server.jobs.values():
        if job["misdeed"] == "job_hidden" and job["extra"] > 0:
            job["extra"] -= 1
        elif job["api"] == api:
            shown_jobs.append(job)
    return shown_jobs


def _advance(job: dict[str, Any]) -> None:
    """One poll further along its course."""
    if job["status"] not in COURSE[:-1]:
        return
    misdeed = job["misdeed"]
    if misdeed == "job_slow" and job["extra"] > 0:
        job["extra"] -= 1
        return
    job["polls"] += 1
    if misdeed == "job_invalid":
        _fail(job, "invalid_training_file", "The job failed due to an invalid training file. Line 3 is not JSON")
    elif misdeed == "job_failed" and job["polls"] > 2:
        _fail(job, "server_error", "The job failed due to an internal error")
    elif misdeed == "job_stuck" and job["status"] == "queued":
        return
    else:
        _turn(job, COURSE[COURSE.index(job["status"]) + 1])


def _turn(job: dict[str, Any], status: str) -> None:
    job["status"] = status
    _log(job, f"The job is {status}")


def _fail(job: dict[str, Any], code: str, message: str) -> None:
    job["error"] = {"code": code, "message": message, "param": "training_file"}
    job["status"] = "failed"
    _log(job, message, level="error", kind=code)


def _log(job: dict[str, Any], message: str, *, level: str = "info", kind: str = "message") -> None:
    place = len(job["log"])
    job["log"].append(
        {
            "id": f"ftevent-{place}",
            "object": "fine_tuning.job.event",
            "created_at": NOW + place,
            "level": level,
            "message": message,
            "type": kind,
            "data": {},
        }
    )


def show(job: dict[str, Any]) -> dict[str, Any]:
    """A job as its API writes it."""
    body, status, api = job["body"], job["status"], job["api"]
    done, named = status == "succeeded", job["misdeed"] != "job_nameless"
    marked = job["misdeed"] != "job_unmarked"
    common = {
        "id": job["id"],
        "model": body["model"],
        "status": WORDS[api].get(status, status),
        "training_file": body["training_file"],
        "validation_file": body.get("validation_file"),
    }
    if api == "together":
        return common | {
            "created_at": _iso(NOW),
            "updated_at": _iso(NOW + 600),
            "suffix": body.get("suffix") if marked else None,
            "model_output_name": job["result"] if named else None,
            "token_count": job["tokens"] if done else 0,
            "total_price": round(job["tokens"] * 500) if done else 0,  # billionths of a dollar, at 0.50 a million
            "events": _together_log(job),
        }
    return common | {
        "object": "fine_tuning.job",
        "created_at": NOW,
        "finished_at": NOW + 600 if status in ("succeeded", "failed", "cancelled") else None,
        "estimated_finish": NOW + 600 if status == "running" else None,
        "fine_tuned_model": job["result"] if done and named else None,
        "trained_tokens": job["tokens"] if done else None,
        "error": job.get("error"),
        "metadata": body.get("metadata") if marked else None,
        "hyperparameters": {"n_epochs": _epochs(body)},
        "organization_id": "org-us",
        "result_files": [],
        "seed": body.get("seed", 0),
    }


def _together_log(job: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "object": "fine-tune-event",
            "created_at": _iso(line["created_at"]),
            "level": line["level"],
            "message": line["message"],
            "type": line["type"].upper(),
        }
        for line in job["log"]
    ]


def _page(data: list[dict[str, Any]], request: Request) -> JSONResponse:
    after, limit = request.query_params.get("after"), int(request.query_params.get("limit", 20))
    ids = [item["id"] for item in data]
    start = ids.index(after) + 1 if after in ids else 0
    page = data[start : start + limit]
    return JSONResponse({"object": "list", "data": page, "has_more": start + limit < len(data)})


def _epochs(body: dict[str, Any]) -> int:
    method = body.get("method") or {}
    given = (method.get("supervised") or {}).get("hyperparameters") or body.get("hyperparameters") or body
    return int(given.get("n_epochs", 1))


def _tokens(server: Server, body: dict[str, Any]) -> int:
    """Words of the training file, all epochs."""
    return len(server.files[body["training_file"]]["content"].split()) * _epochs(body)


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
