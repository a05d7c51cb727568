"""POST /v1/chat/completions and GET /v1/models."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.distill.server.harness import MODEL_VERSION, Fault, Served, Server, body_of, cut_short, error, failing

KINDS = (
    "429", "quota", "500", "502", "503", "html", "400", "401", "404", "slow", "timeout", "cut", "invalid_json",
    "deep", "refusal", "empty",
    "bad_answer", "content_filter", "wrong_usage", "huge_usage", "no_usage", "no_choices", "duplicate_id", "redirect",
)  # fmt: skip


def routes(server: Server) -> list[Route]:
    async def complete(request: Request) -> Response:
        raw, body = await body_of(request)
        server.keys.add(request.headers.get("authorization", ""))
        server.requests += 1
        server.in_flight += 1
        server.most_in_flight = max(server.most_in_flight, server.in_flight)
        try:
            return await _respond(server, raw, body)
        finally:
            server.in_flight -= 1

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": "fake-model", "object": "model", "owned_by": "us"}]})

    return [
        Route("/v1/chat/completions", complete, methods=["POST"]),
        Route("/v1/models", models, methods=["GET"]),
    ]


async def _respond(server: Server, raw: str, body: dict[str, Any]) -> Response:
    if not body.get("messages"):
        return error(400, "messages must not be empty")
    fault = server.fault(raw, *KINDS)
    if fault is not None and (failed := failing(server, fault)) is not None:
        return failed
    if fault is not None and fault.kind == "html":
        return Response("<html>Welcome to our portal</html>", media_type="text/html")
    if fault is not None and fault.kind == "deep":
        return Response(b'{"choices": ' + b"[" * 100_000, media_type="application/json")
    if fault is not None and fault.kind == "redirect":
        return Response(status_code=307, headers={"location": "http://localhost:1/v1/chat/completions"})
    if fault is not None and fault.kind == "slow":
        await asyncio.sleep(fault.seconds)
    if server.latency_s:
        await asyncio.sleep(server.latency_s)
    answer = completion(server, body, fault)
    server.served.append(
        Served(answer["id"], body if server.keeps_bodies else {}, answer.get("usage") or {}, fault and fault.kind)
    )
    if fault is not None and fault.kind == "timeout":  # billed, and never heard of
        await asyncio.sleep(fault.seconds)
    payload = json.dumps(answer).encode()
    if fault is not None and fault.kind == "cut":
        return cut_short(payload)
    if fault is not None and fault.kind == "invalid_json":
        return Response(payload[:-20], media_type="application/json")
    return Response(payload, media_type="application/json")


def completion(server: Server, body: dict[str, Any], fault: Fault | None = None) -> dict[str, Any]:
    """The answer to one request, as the API words it; tokens are words."""
    most = body.get("max_completion_tokens") or body.get("max_tokens") or 10**9
    count = body.get("n", 1) if server.honours_n else 1
    kind = fault.kind if fault else ""
    choices, written = [], 0
    for place in range(count):
        content: str | None = server.answer(body)
        words = content.split(" ") if content else []
        cut = len(words) > most
        content = " ".join(words[:most]) if cut else content
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if kind == "refusal":
            message |= {"content": None, "refusal": "I can't help with that."}
        elif kind == "empty":
            message["content"] = ""
        elif kind == "bad_answer":
            message["content"] = '{"not": '
        if server.reasoning:
            message["reasoning_content"] = server.reasoning
        choice: dict[str, Any] = {
            "index": place,
            "message": message,
            "finish_reason": "content_filter" if kind == "content_filter" else "length" if cut else "stop",
        }
        if body.get("logprobs") and server.honours_logprobs:
            choice["logprobs"] = {"content": [_logprob(word, body.get("top_logprobs", 0)) for word in words[:most]]}
        choices.append(choice)
        written += min(len(words), most) + len(server.reasoning.split())
    read = sum(len(str(message["content"]).split()) for message in body["messages"])
    usage: dict[str, Any] = {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": len(server.reasoning.split()) * count},
    }
    if kind == "wrong_usage":
        usage["prompt_tokens"] = -5
    elif kind == "huge_usage":
        usage["completion_tokens"] = 10**6
    answer = {
        "id": "chatcmpl-same" if kind == "duplicate_id" else server.next_id("chatcmpl"),
        "object": "chat.completion",
        "created": 1_795_000_000,
        "model": MODEL_VERSION,
        "system_fingerprint": "fp_1",
        "choices": [] if kind == "no_choices" else choices,
        "usage": usage,
    }
    if kind == "no_usage":
        del answer["usage"]
    return answer


def _logprob(token: str, top: int) -> dict[str, Any]:
    """0.7 to the token that is written, half of what is left to each next one."""
    others = [(f"other{i}", 0.3 * 0.5 ** (i + 1)) for i in range(max(top - 1, 0))]
    listed = [(token, 0.7), *others] if top else []
    return {
        "token": token,
        "logprob": math.log(0.7),
        "bytes": None,
        "top_logprobs": [{"token": t, "logprob": math.log(p), "bytes": None} for t, p in listed],
    }
