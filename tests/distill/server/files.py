"""The files endpoint: upload, list, look at, read, delete."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.distill.server.harness import Server, error, failing


def shown(file: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in file.items() if key != "content"}


def add_file(server: Server, content: bytes, name: str, purpose: str) -> dict[str, Any]:
    file = {
        "id": server.next_id("file"),
        "object": "file",
        "bytes": len(content),
        "created_at": 1_795_000_000,
        "filename": name,
        "purpose": purpose,
        "status": "processed",
        "content": content,
    }
    server.files[file["id"]] = file
    return file


def routes(server: Server) -> list[Route]:
    async def create(request: Request) -> Response:
        form = await request.form()
        upload: Any = form["file"]
        content = await upload.read()
        await upload.close()
        purpose = str(form["purpose"])
        fault = server.fault(f"files {purpose}", "upload_500", "upload_401")
        if fault is not None:
            fault.kind = fault.kind.removeprefix("upload_")
            failed = failing(server, fault)
            assert failed is not None
            fault.kind = f"upload_{fault.kind}"
            return failed
        return JSONResponse(shown(add_file(server, content, upload.filename, purpose)))

    async def listed(request: Request) -> Response:
        purpose = request.query_params.get("purpose")
        data = [shown(file) for file in server.files.values() if purpose in (None, file["purpose"])]
        return JSONResponse({"object": "list", "data": data, "has_more": False})

    async def one(request: Request) -> Response:
        name = request.path_params["id"]
        if name not in server.files:
            return error(404, f"No such File object: {name}", code="not_found")
        if request.method == "DELETE":
            del server.files[name]
            return JSONResponse({"id": name, "object": "file", "deleted": True})
        return JSONResponse(shown(server.files[name]))

    async def content(request: Request) -> Response:
        name = request.path_params["id"]
        if name not in server.files:
            return error(404, f"No such File object: {name}", code="not_found")
        return Response(server.files[name]["content"], media_type="application/octet-stream")

    return [
        Route("/v1/files", create, methods=["POST"]),
        Route("/v1/files", listed, methods=["GET"]),
        Route("/v1/files/{id}", one, methods=["GET", "DELETE"]),
        Route("/v1/files/{id}/content", content, methods=["GET"]),
    ]
