"""A configuration for LiteLLM's proxy: its YAML, and its hook run against two servers on loopback.

LiteLLM is played by a few lines where it is not installed; that its proxy 1.108 takes both configurations was tried.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import openai
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from distillcalc.errors import InputError
from distillcalc.route.confidence import Confidence
from distillcalc.route.given import Given, UserScore
from distillcalc.route.litellm_config import Endpoint, litellm_config, write_litellm, yaml_of
from distillcalc.route.router import Router
from distillcalc.route.rules import Length, Rules
from tests.route.live import STUDENT, TEACHER, cascade, pair, user
from tests.route.streaming_server import StreamingServer

LONG = Length(above=4, then="teacher")
ROUTER = Router(
    models=(STUDENT, TEACHER), kind="router", scores=(Given("x", "before"),), thresholds=(0.5,),
    rules=Rules(rules=(LONG, Length(below=5, then="student"))),
)  # fmt: skip
CASCADE = cascade(Confidence("mean_logprob"), -1.0, rules=Rules(rules=(LONG,)))
ENDPOINTS = {
    STUDENT: Endpoint("hosted_vllm/qwen3-4b", "http://10.0.0.1:8000/v1"),
    TEACHER: Endpoint("openai/gpt-6-sol", api_key_env="OPENAI_API_KEY"),
}


def test_a_router_is_a_hook_before_each_call_and_the_teacher_without_it() -> None:
    assert litellm_config(ROUTER, ENDPOINTS, name="support") == {
        "model_list": [
            {
                "model_name": "student",
                "litellm_params": {"model": "hosted_vllm/qwen3-4b", "api_base": "http://10.0.0.1:8000/v1"},
            },
            {
                "model_name": "teacher",
                "litellm_params": {"model": "openai/gpt-6-sol", "api_key": "os.environ/OPENAI_API_KEY"},
            },
            {
                "model_name": "support",
                "litellm_params": {"model": "openai/gpt-6-sol", "api_key": "os.environ/OPENAI_API_KEY"},
            },
        ],
        "router_settings": {"fallbacks": [{"student": ["teacher"]}]},
        "litellm_settings": {"callbacks": ["distillcalc_hook.choosing"]},
        "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
    }


def test_a_cascade_is_a_provider_of_its_own() -> None:
    found = litellm_config(CASCADE, ENDPOINTS)
    assert found["model_list"][2] == {"model_name": "routed", "litellm_params": {"model": "distillcalc/cascade"}}
    assert found["litellm_settings"] == {
        "custom_provider_map": [{"provider": "distillcalc", "custom_handler": "distillcalc_hook.cascade"}]
    }
    assert found["router_settings"] == {"fallbacks": [{"student": ["teacher"]}, {"routed": ["teacher"]}]}


KEYS = st.text(max_size=60)  # YAML takes keys of 1,024 characters, escapes included; a configuration's are names
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
def test_what_is_written_is_yaml_of_the_same_values(value: Any) -> None:
    assert yaml.safe_load(yaml_of(value)) == value


def test_the_folder_holds_what_the_proxy_needs_and_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    for router in (ROUTER, CASCADE):
        file = write_litellm(router, tmp_path / "proxy", ENDPOINTS)  # the second replaces the first
        assert yaml.safe_load(file.read_text()) == litellm_config(router, ENDPOINTS)
        assert Router.load(file.parent / "router").version == router.version
        assert sorted(one.name for one in file.parent.iterdir()) == ["config.yaml", "distillcalc_hook.py", "router"]
        for one in file.parent.rglob("*"):
            assert one.is_dir() or b"sk-secret" not in one.read_bytes()
        compile((file.parent / "distillcalc_hook.py").read_text(), "hook", "exec")
    (tmp_path / "proxy" / "config.yaml").write_text("model_list: []\n")
    with pytest.raises(InputError, match="was not written by distillcalc"):
        write_litellm(ROUTER, tmp_path / "proxy", ENDPOINTS)


def test_what_does_not_fit_is_refused_and_a_key_is_not_repeated() -> None:
    with pytest.raises(InputError, match=r"endpoints are of student, teacher\. Got student"):
        litellm_config(ROUTER, {STUDENT: ENDPOINTS[STUDENT]})
    for name in ("teacher", "", '"""'):
        with pytest.raises(InputError, match="name is what users ask for"):
            litellm_config(ROUTER, ENDPOINTS, name=name)
    with pytest.raises(InputError, match="has its provider first, openai/gpt"):
        Endpoint("gpt")
    with pytest.raises(InputError) as found:
        Endpoint("openai/gpt", api_key_env="sk-secret-1")
    assert "secret" not in str(found.value)


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the hooks use of LiteLLM, where it is not installed."""
    if importlib.util.find_spec("litellm") is not None:
        return

    async def acompletion(*, model: str, messages: Any, api_base: str, api_key: str, **options: Any) -> Any:
        client = openai.AsyncOpenAI(api_key=api_key, base_url=api_base, max_retries=0)
        asked = {"model": model.split("/", 1)[1], "messages": messages, **options}

        async def chunks() -> AsyncIterator[Any]:
            async with client, await client.chat.completions.create(**asked) as stream:
                async for chunk in stream:
                    yield chunk

        if options.get("stream"):
            return chunks()
        async with client:
            return await client.chat.completions.create(**asked)

    class Base:
        pass

    parts = {
        "litellm": {
            "acompletion": acompletion, "CustomLLM": Base,
            "ModelResponse": lambda **values: ChatCompletion.model_validate(values),
        },
        "litellm.integrations": {},
        "litellm.integrations.custom_logger": {"CustomLogger": Base},
    }  # fmt: skip
    for name, values in parts.items():
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def servers() -> Iterator[tuple[StreamingServer, StreamingServer]]:
    with pair() as both:
        yield both


def hook(
    router: Router, folder: Path, servers: tuple[StreamingServer, StreamingServer], monkeypatch: pytest.MonkeyPatch
) -> ModuleType:
    """The module as the proxy would import it."""
    endpoints = {}
    for name, server in zip((STUDENT, TEACHER), servers, strict=True):
        monkeypatch.setenv(f"{name.upper()}_KEY", f"sk-{name}")
        endpoints[name] = Endpoint(f"openai/{name}-1", server.base_url, f"{name.upper()}_KEY")
    file = write_litellm(router, folder, endpoints).parent / "distillcalc_hook.py"
    spec = importlib.util.spec_from_file_location("distillcalc_hook", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.usefixtures("litellm")
def test_the_hook_chooses_the_model_before_the_call(
    tmp_path: Path, servers: tuple[StreamingServer, StreamingServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = hook(ROUTER, tmp_path, servers, monkeypatch)

    async def chosen(**data: Any) -> Any:
        return await module.choosing.async_pre_call_hook(None, None, data, "acompletion")

    short = asyncio.run(chosen(model="routed", messages=user("one two"), metadata={"mine": 1}))
    assert short["model"] == STUDENT
    assert short["metadata"]["mine"] == 1
    assert short["metadata"]["distillcalc_route"]["router"] == ROUTER.version
    long = asyncio.run(chosen(model="routed", messages=user("one two three four five")))
    assert long["model"] == TEACHER
    other = {"model": "teacher", "messages": user("one")}
    assert asyncio.run(chosen(**other)) == other
    assert asyncio.run(chosen(model="routed", input="an embedding"))["model"] == "routed"


@pytest.mark.usefixtures("litellm")
def test_the_cascade_asks_judges_and_sends_on(
    tmp_path: Path, servers: tuple[StreamingServer, StreamingServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = hook(CASCADE, tmp_path, servers, monkeypatch)

    async def answer(text: str) -> Any:
        return await module.cascade.acompletion(
            "model", messages=user(text), optional_params={"max_tokens": 9, "stream": False}, timeout=1, api_key=None
        )

    async def streamed(text: str) -> list[dict[str, Any]]:
        return [one async for one in module.cascade.astreaming(messages=user(text), optional_params={"stream": True})]

    kept, sent = asyncio.run(answer("one")), asyncio.run(answer("one two three four five"))
    assert (kept.choices[0].message.content, sent.choices[0].message.content) == (
        "from the student",
        "from the teacher",
    )
    assert servers[0].served[0].body["max_tokens"] == 9
    assert [server.keys for server in servers] == [{"Bearer sk-student"}, {"Bearer sk-teacher"}]
    for text, words in (("one", "from the student"), ("one two three four five", "from the teacher")):
        chunks = asyncio.run(streamed(text))
        assert "".join(chunk["text"] for chunk in chunks) == words
        assert [chunk["finish_reason"] for chunk in chunks if chunk["is_finished"]] == ["stop"]


@pytest.mark.usefixtures("litellm")
def test_functions_of_the_users_own_are_asked_for(
    tmp_path: Path, servers: tuple[StreamingServer, StreamingServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    router = cascade(UserScore("mine", lambda request: 1.0, "after"))
    with pytest.raises(InputError, match="the score 'mine' is a function of yours"):
        hook(router, tmp_path, servers, monkeypatch)
