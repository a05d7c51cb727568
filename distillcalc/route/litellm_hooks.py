"""The Python file beside a LiteLLM configuration, as text: what the proxy imports, and what asks the router."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from distillcalc.route.embedding import Embedder
    from distillcalc.route.router import Router


class HasParams(Protocol):
    """An endpoint of LiteLLM's."""

    def params(self) -> dict[str, str]:
        """Its ``litellm_params``."""
        ...


_LOADS = """
# Functions of your own that scores of the router are made of, by name: they are not saved with it.
FUNCTIONS = {{}}
{embedder}
ROUTER = Router.load(Path(__file__).resolve().parent / {folder!r}, student={student!r}, functions=FUNCTIONS{given})
"""

_CHOOSING = '''"""Chooses the model of each request to {name!r} before it is called; LiteLLM's proxy imports it."""

import os
from pathlib import Path

from litellm.integrations.custom_logger import CustomLogger

from distillcalc.route.calls import last_user_message
from distillcalc.route.deciding_live import Decider
from distillcalc.route.embedding import Embedder
from distillcalc.route.requests import Request
from distillcalc.route.router import Router
{loads}

class Choosing(CustomLogger):
    def __init__(self):
        super().__init__()
        self.decider = Decider(ROUTER)

    async def async_pre_call_hook(self, user_api_key_dict, cache, data, call_type):
        if data.get("model") == {name!r} and data.get("messages"):
            route = await self.decider.choose(Request(last_user_message(data["messages"])))
            data["model"] = route.model
            told = {{"model": route.model, "reason": route.reason, "router": ROUTER.version}}
            data["metadata"] = {{**(data.get("metadata") or {{}}), "distillcalc_route": told}}
        return data


choosing = Choosing()
'''

_CASCADE = '''"""Answers requests to {name!r}: asks, judges and sends on; LiteLLM's proxy imports it."""

import os
from pathlib import Path

import litellm
from litellm import CustomLLM, ModelResponse
from openai.types.chat import ChatCompletion

from distillcalc.route.client import RoutedClient
from distillcalc.route.embedding import Embedder
from distillcalc.route.router import Router

ENDPOINTS = {endpoints}
{loads}

class Completions:
    """Every model of the chain, asked through LiteLLM with the interface of openai's client."""

    async def create(self, *, model, messages, **options):
        endpoint = dict(ENDPOINTS[model])
        if "api_key" in endpoint:
            endpoint["api_key"] = os.environ[endpoint["api_key"].removeprefix("os.environ/")]
        answer = await litellm.acompletion(messages=messages, **endpoint, **options)
        return answer if options.get("stream") else ChatCompletion.model_validate(answer.model_dump())


class LiteLLM:
    def __init__(self):
        self.chat = self
        self.completions = Completions()

    async def close(self):
        pass


class Cascade(CustomLLM):
    def __init__(self):
        super().__init__()
        clients = dict.fromkeys(ROUTER.models, LiteLLM())
        self.client = RoutedClient(ROUTER, clients, on_teacher_failure={on_teacher_failure!r})

    async def acompletion(self, *args, messages, optional_params, **others):
        options = {{name: value for name, value in optional_params.items() if name not in ("stream", "stream_options")}}
        answer = await self.client.chat.completions.create(messages=messages, **options)
        return ModelResponse(**answer.model_dump())

    async def astreaming(self, *args, messages, optional_params, **others):
        options = {{**optional_params, "stream": True}}
        stream = await self.client.chat.completions.create(messages=messages, **options)
        async with stream:
            async for chunk in stream:
                for choice in chunk.choices:
                    yield {{
                        "text": choice.delta.content or "",
                        "tool_use": None,
                        "is_finished": choice.finish_reason is not None,
                        "finish_reason": choice.finish_reason or "",
                        "index": choice.index,
                        "usage": None,
                    }}


cascade = Cascade()
'''


def hook_text(
    router: Router, endpoints: Mapping[str, HasParams], *, name: str, folder: str, on_teacher_failure: str
) -> str:
    """The file for a router's kind.

    Parameters
    ----------
    router : as it is saved in ``folder`` beside the file.
    endpoints : of each model, by its name.
    name : by which users ask for the routed pair.
    folder : of the router.
    on_teacher_failure : of a cascade, as of :class:`.RoutedClient`.
    """
    embedder = _embedder(router)
    line, given = "", ""
    if embedder is not None:
        line = (
            f'EMBEDDER = Embedder(os.environ.get("DISTILLCALC_EMBEDDER", {embedder.model!r}), name={embedder.name!r})\n'
        )
        given = ", embedder=EMBEDDER"
    loads = _LOADS.format(embedder=line, folder=folder, student=router.models[0], given=given)
    if router.stage == "before":
        return _tidy(_CHOOSING.format(name=name, loads=loads), embedder is not None)
    params = {model: endpoints[model].params() for model in router.models}
    told = "{\n" + "".join(f"    {model!r}: {one!r},\n" for model, one in params.items()) + "}"
    filled = _CASCADE.format(name=name, loads=loads, endpoints=told, on_teacher_failure=on_teacher_failure)
    return _tidy(filled, embedder is not None)


def _embedder(router: Router) -> Embedder | None:
    """What the router's scores read texts by, where one does."""
    scores: list[Any] = list(router.scores)
    scores += [one for score in scores for one in getattr(score, "beside", ())]
    found = (getattr(one, "embedder", None) for one in (router, *scores))
    return next((one for one in found if one is not None), None)


def _tidy(text: str, embeds: bool) -> str:
    """Without imports that nothing uses."""
    unused = [] if embeds else ["from distillcalc.route.embedding import Embedder\n"]
    if "os.environ[" not in text and "os.environ.get" not in text:
        unused.append("import os\n")
    for line in unused:
        text = text.replace(line, "")
    return text
