"""The batches endpoint: an input file of requests, polled until output and error files are there."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.distill.server.chat import completion
from tests.distill.server.files import add_file
from tests.distill.server.harness import Served, Server, body_of, error


def routes(server: Server) -> list[Route]:
    async def create(request: Request) -> Response:
        _, body = await body_of(request)
        source = server.files.get(body.get("input_file_id", ""))
        if source is None:
            return error(400, "input_file_id names no file")
        lines = source["content"].decode().splitlines()
        batch = {
            "id": server.next_id("batch"),
            "object": "batch",
            "endpoint": body["endpoint"],
            "errors": None,
            "input_file_id": source["id"],
            "completion_window": body["completion_window"],
            "status": "validating",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": 1_795_000_000,
            "metadata": body.get("metadata") or {},
            "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
        }
        server.batches[batch["id"]] = batch | {"polls": 0}
        if server.fault(source["content"].decode(), "batch_lost") is not None:  # made, and the answer never arrives
            return Response(b"", status_code=502)
        return JSONResponse(batch)

    async def one(request: Request) -> Response:
        batch = server.batches.get(request.path_params["id"])
        if batch is None:
            return error(404, "No such batch", code="not_found")
        _advance(server, batch)
        return JSONResponse({key: value for key, value in batch.items() if key != "polls"})

    async def listed(request: Request) -> Response:
        data = [{key: value for key, value in batch.items() if key != "polls"} for batch in server.batches.values()]
        return JSONResponse({"object": "list", "data": data, "has_more": False})

    async def cancel(request: Request) -> Response:
        batch = server.batches[request.path_params["id"]]
        batch["status"] = "cancelled"
        return JSONResponse({key: value for key, value in batch.items() if key != "polls"})

    return [
        Route("/v1/batches", create, methods=["POST"]),
        Route("/v1/batches", listed, methods=["GET"]),
        Route("/v1/batches/{id}", one, methods=["GET"]),
        Route("/v1/batches/{id}/cancel", cancel, methods=["POST"]),
    ]


def _advance(server: Server, batch: dict[str, Any]) -> None:
    if batch["status"] not in ("validating", "in_progress"):
        return
    batch["polls"] += 1
    source = server.files[batch["input_file_id"]]["content"].decode()
    if server.fault(source, "batch_failed") is not None:
        batch["status"] = "failed"
        batch["errors"] = {"object": "list", "data": [{"code": "invalid_json_line", "message": "bad", "line": 1}]}
        return
    batch["status"] = "in_progress"
    if batch["polls"] < server.polls:
        return
    lines = [json.loads(line) for line in source.splitlines()]
    expired = server.fault(source, "batch_expired") is not None
    answers, errors = [], []
    for place, line in enumerate(lines):
        if expired and place >= len(lines) // 2:
            error_ = {"code": "batch_expired", "message": "This request could not be executed before the window ended"}
            errors.append(_line(server, line, None, error_))
            continue
        if server.fault(json.dumps(line), "batch_line") is not None:
            errors.append(_line(server, line, {"status_code": 500, "body": {"error": {"message": "oops"}}}, None))
            continue
        body = completion(server, line["body"])
        server.served.append(Served(body["id"], line["body"], body["usage"], "batch"))
        answers.append(_line(server, line, {"status_code": 200, "request_id": "r", "body": body}, None))
    if server.fault(source, "batch_garbage") is not None:
        content = json.dumps(answers.pop())
        answers.append({"custom_id": content[:20], "cut": True})
    answers.reverse()  # in an order of their own
    if answers:
        batch["output_file_id"] = _file(server, answers)
    if errors:
        batch["error_file_id"] = _file(server, errors)
    batch["status"] = "expired" if expired else "completed"
    batch["request_counts"] = {"total": len(lines), "completed": len(answers), "failed": len(errors)}


def _line(server: Server, line: dict[str, Any], response: Any, error_: Any) -> dict[str, Any]:
    return {
        "id": server.next_id("batch_req"), "custom_id": line["custom_id"], "response": response, "error": error_,
    }  # fmt: skip


def _file(server: Server, lines: list[dict[str, Any]]) -> str:
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    return str(add_file(server, content, "output.jsonl", "batch_output")["id"])
