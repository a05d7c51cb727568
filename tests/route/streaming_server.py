"""The server of tests/distill, which streams too; ``stream_cut`` breaks a stream off after its first words."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.distill.server import Served, Server
from tests.distill.server.chat import KINDS, _respond, completion
from tests.distill.server.harness import body_of, failing


class StreamingServer(Server):
    def app(self) -> Starlette:
        async def complete(request: Request) -> Response:
            raw, body = await body_of(request)
            self.keys.add(request.headers.get("authorization", ""))
            self.requests += 1
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            try:
                if not body.get("stream"):
                    return await _respond(self, raw, body)
                fault = self.fault(raw, "stream_cut", *KINDS)
                if fault is not None and (failed := failing(self, fault)) is not None:
                    return failed
                return StreamingResponse(self.words(body, fault is not None), media_type="text/event-stream")
            finally:
                self.in_flight -= 1

        return Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"]), *super().app().routes])

    async def words(self, body: dict[str, Any], cut: bool) -> AsyncIterator[str]:
        whole = completion(self, body)
        base = {name: whole[name] for name in ("id", "created", "model")} | {"object": "chat.completion.chunk"}

        def line(choices: list[dict[str, Any]], **more: Any) -> str:
            return f"data: {json.dumps({**base, 'choices': choices, **more})}\n\n"

        yield line([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
        for place, word in enumerate(whole["choices"][0]["message"]["content"].split(" ")):
            if cut and place:
                raise ConnectionResetError("cut on order")
            text = f" {word}" if place else word
            yield line([{"index": 0, "delta": {"content": text}, "finish_reason": None}])
        yield line([{"index": 0, "delta": {}, "finish_reason": "stop"}])
        self.served.append(Served(whole["id"], body, whole["usage"]))
        if (body.get("stream_options") or {}).get("include_usage"):
            yield line([], usage=whole["usage"])
        yield "data: [DONE]\n\n"
