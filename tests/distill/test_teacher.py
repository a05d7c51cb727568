"""Who is asked: address and key, what may be sent there, and what a request can hold at the most."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from distillcalc.catalog import Catalog
from distillcalc.distill.task import Task
from distillcalc.distill.teacher import (
    CONNECTIONS_EACH,
    TOKENS_PER_MESSAGE,
    TOKENS_PER_REQUEST,
    Privacy,
    Teacher,
    async_clients,
    client,
    host_of,
    is_local,
)
from distillcalc.errors import DistillcalcError, InputError

CATALOG = Catalog.load()
MESSAGES = [{"role": "user", "content": "hi"}]
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
ANSWER = {
    "id": "c", "object": "chat.completion", "created": 0, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "yes"}}],
}  # fmt: skip


class Listener:
    """An HTTP server on loopback that keeps what it is asked; as a proxy it is asked for whole addresses."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.redirect_to = ""
        listener = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version: ClassVar[str] = "HTTP/1.0"

            def do_POST(self) -> None:
                listener.paths.append(self.path)
                listener.headers.append({name.lower(): value for name, value in self.headers.items()})
                self.rfile.read(int(self.headers.get("content-length", 0)))
                body = json.dumps(ANSWER).encode()
                self.send_response(307 if listener.redirect_to else 200)
                if listener.redirect_to:
                    self.send_header("location", listener.redirect_to)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_CONNECT = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    with closing(Listener()) as listening:
        yield listening


@pytest.fixture
def other() -> Iterator[Listener]:
    with closing(Listener()) as listening:
        yield listening


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, *(name.lower() for name in PROXIES), "OPENAI_API_KEY", "MY_KEY"):
        monkeypatch.delenv(name, raising=False)


def ask(teacher: Teacher, privacy: Privacy | None = None) -> str:
    """One call by the client of many calls, one by the other."""

    async def asked() -> str:
        (one,) = async_clients(teacher, CATALOG, privacy or Privacy(), connections=1)
        async with one:
            found = await one.chat.completions.create(model="m", messages=MESSAGES)  # type: ignore[arg-type]
        return str(found.choices[0].message.content)

    first = asyncio.run(asked())
    with client(teacher, CATALOG, privacy or Privacy()) as api:
        found = api.chat.completions.create(model="m", messages=MESSAGES)  # type: ignore[arg-type]
    assert found.choices[0].message.content == first
    return first


# --- address and key


def test_the_providers_own_address_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = Teacher(model="openai/gpt-6-sol")
    assert teacher.url(CATALOG) == "https://api.openai.com/v1"
    with pytest.raises(InputError, match="OPENAI_API_KEY is not set"):
        teacher.key(CATALOG)
    monkeypatch.setenv("OPENAI_API_KEY", " \t")
    with pytest.raises(InputError, match="OPENAI_API_KEY is not set"):
        teacher.key(CATALOG)
    monkeypatch.setenv("OPENAI_API_KEY", " sk-1\n")
    assert teacher.key(CATALOG) == "sk-1"


def test_a_providers_key_does_not_go_to_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    teacher = Teacher(model="openai/gpt-6-sol", base_url="https://gateway.example/v1")
    with pytest.raises(InputError, match="name the environment variable"):
        teacher.key(CATALOG)
    monkeypatch.setenv("MY_KEY", "mine")
    assert teacher.model_copy(update={"key_env": "MY_KEY"}).key(CATALOG) == "mine"


def test_a_server_on_this_machine_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    teacher = Teacher(model="openai/gpt-6-sol", base_url="http://localhost:8000/v1")
    assert teacher.key(CATALOG) == "none"
    with pytest.raises(InputError, match="MY_KEY is not set"):
        teacher.model_copy(update={"key_env": "MY_KEY"}).key(CATALOG)


@pytest.mark.parametrize("key", ["sk-“1”", "sk-1\nsk-2", "sk 1", "sk-\x7f"])
def test_a_key_that_no_header_can_hold_is_not_shown(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(InputError, match="copy the key anew") as error:
        Teacher(model="openai/gpt-6-sol").key(CATALOG)
    assert "sk" not in str(error.value)


@pytest.mark.parametrize("model", ["nobody/model", "smollm2-135m"])
def test_nobody_knows_the_address(model: str) -> None:
    with pytest.raises(InputError, match="Give base_url"):
        Teacher(model=model).url(CATALOG)


@pytest.mark.parametrize("model", ["/", "openai/", "/model"])
def test_a_model_that_is_half_a_name(model: str) -> None:
    with pytest.raises(DistillcalcError, match="provider/model"):
        Teacher(model=model).url(CATALOG)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("api.example.com/v1", "is written https://host/v1"),
        ("ftp://example.com/v1", "is written https://host/v1"),
        ("https:///v1", "is written https://host/v1"),
        ("", "is written https://host/v1"),
        ("https://key@example.com/v1", "must not hold a name or a key"),
        ("https://a:b@example.com/v1", "must not hold a name or a key"),
        ("https://example.com/v1?key=secret", "must end with its path"),
        ("https://example.com/v1#x", "must end with its path"),
        ("https://example.com:99999/v1", "Port out of range"),
        ("https://example.com:x/v1", "[Pp]ort"),
        ("https://[::1/v1", "IPv6"),
    ],
)
def test_an_address_that_is_none(url: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Teacher(model="a/b", base_url=url)


# --- what may be sent where


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_this_machine(host: str) -> None:
    assert is_local(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "10.0.0.1", "localhost.example", "127.0.0.1.example", "example"])
def test_not_this_machine(host: str) -> None:
    assert not is_local(host)


def test_hosts_are_compared_as_dns_does() -> None:
    assert host_of("HTTPS://LLM.Example.:8000/v1") == "llm.example"


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://llm.example/v1", ("llm.example",)),
        ("https://LLM.example.:8443/v1", ("LLM.Example",)),
        ("https://a.b.example/v1", (".example",)),
        ("http://127.0.0.1:1/v1", ()),
        ("http://localhost/v1", ()),
    ],
)
def test_private_texts_go_to_hosts_on_the_list(url: str, allowed: tuple[str, ...]) -> None:
    Privacy(private=True, allow_hosts=allowed).check(url)


@pytest.mark.parametrize(
    ("url", "allowed", "says"),
    [
        ("https://api.openai.com/v1", (), "api.openai.com is not on its list.*none.*Nothing was sent"),
        ("https://evil-llm.example/v1", ("llm.example",), "not on its list"),
        ("https://llm.example.evil/v1", ("llm.example", ".example"), "not on its list"),
        ("https://sub.llm.example/v1", ("llm.example",), "not on its list"),
        ("https://example/v1", (".example",), "not on its list"),
        ("https://llm.example/v1", ("",), "not on its list"),
        ("http://llm.example/v1", ("llm.example",), "not encrypted"),
    ],
)
def test_private_texts_go_nowhere_else(url: str, allowed: tuple[str, ...], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Privacy(private=True, allow_hosts=allowed).check(url)
    Privacy(private=False, allow_hosts=allowed).check(url)


def test_no_client_is_made_for_a_host_that_is_not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    teacher = Teacher(model="openai/gpt-6-sol")
    for make in (
        lambda: async_clients(teacher, CATALOG, Privacy(private=True), connections=1),
        lambda: client(teacher, CATALOG, Privacy(private=True)),
    ):
        with pytest.raises(InputError, match="Nothing was sent"):
            make()


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"])
def test_private_texts_go_through_no_proxy(
    listener: Listener, other: Listener, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, other.url)
    teacher = Teacher(model="local/m", base_url=listener.url + "/v1")
    assert ask(teacher, Privacy(private=True)) == "yes"
    assert (len(listener.paths), other.paths) == (2, [])
    ask(teacher, Privacy())  # the variable does lead elsewhere: others' texts go by it
    assert other.paths == [listener.url + "/v1/chat/completions"] * 2
    assert len(listener.paths) == 2


@pytest.mark.parametrize("private", [True, False])
def test_redirects_are_not_followed(listener: Listener, other: Listener, private: bool) -> None:
    listener.redirect_to = other.url + "/v1/chat/completions"
    teacher = Teacher(model="local/m", base_url=listener.url + "/v1")
    with pytest.raises(openai.APIStatusError) as error:
        ask(teacher, Privacy(private=private))
    assert error.value.status_code == 307
    assert other.paths == []


def test_names_of_an_openai_account_and_its_keys_stay_here(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "secret-of-openai")
    monkeypatch.setenv("MY_KEY", "mine")
    for model in ("local/m", "openai/gpt-6-sol"):
        ask(Teacher(model=model, base_url=listener.url + "/v1", key_env="MY_KEY"))
    assert len(listener.headers) == 4
    for headers in listener.headers:
        assert "secret-of-openai" not in str(headers)
        assert headers["authorization"] == "Bearer mine"


def test_openai_is_told_its_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, name.lower())
    with client(Teacher(model="openai/gpt-6-sol"), CATALOG, Privacy()) as api:
        assert api.default_headers["OpenAI-Organization"] == "openai_org_id"


def test_clients_share_many_calls_and_never_retry() -> None:
    teacher = Teacher(model="local/m", base_url="http://127.0.0.1:1/v1")

    async def made(connections: int) -> int:
        clients = async_clients(teacher, CATALOG, Privacy(), connections=connections)
        for one in clients:
            assert one.max_retries == 0
            await one.close()
        return len(clients)

    counts = [asyncio.run(made(n)) for n in (1, CONNECTIONS_EACH, CONNECTIONS_EACH + 1, 256)]
    assert counts == [1, 1, 2, 8]


def test_timeouts_are_as_stated() -> None:
    with client(Teacher(model="local/m", base_url="http://localhost:1/v1", timeout_s=7), CATALOG, Privacy()) as api:
        assert api.timeout == httpx2.Timeout(7, connect=7)


# --- the request


def test_the_body_holds_what_was_asked_for_and_no_more() -> None:
    assert Teacher(model="local/org/m").body(Task(), ({"role": "user", "content": "hi"},)) == {
        "model": "org/m", "messages": MESSAGES, "max_tokens": 512,
    }  # fmt: skip
    teacher = Teacher(
        model="openai/m", send_as="m-2", temperature=0, top_p=0.5, seed=0, reasoning_effort="low", top_logprobs=3,
        max_output_tokens=9, extra_body={"user": "me"},
    )  # fmt: skip
    task = Task(output_schema={"type": "object"})
    body = teacher.body(task, task.messages({"text": "hi"}), 4, temperature=1)
    assert body.pop("messages")[-1] == MESSAGES[0]
    assert body == {
        "model": "m-2", "max_completion_tokens": 9, "temperature": 1, "top_p": 0.5, "seed": 0,
        "reasoning_effort": "low", "n": 4, "logprobs": True, "top_logprobs": 3, "user": "me",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": False},
        },
    }  # fmt: skip


def test_a_schema_is_asked_for_as_the_endpoint_can() -> None:
    task = Task(output_schema={})
    loose, none = (Teacher(model="a/b", structured=kind) for kind in ("json_object", "none"))  # type: ignore[arg-type]
    assert loose.body(task, ())["response_format"] == {"type": "json_object"}
    assert "response_format" not in none.body(task, ())
    thinking = Task(output_schema={}, reasoning="visible")
    assert "response_format" not in Teacher(model="a/b").body(thinking, ())


@pytest.mark.parametrize("field", ["model", "messages", "n", "max_tokens", "max_completion_tokens", "stream", "seed"])
def test_extra_fields_do_not_replace_our_own(field: str) -> None:
    with pytest.raises(ValidationError, match=f"extra_body must not set {field}"):
        Teacher(model="a/b", extra_body={field: 1, "user": "me"})


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"service_tier": "priority"}, "may cost more than the prices"),
        ({"service_tier": "auto"}, "may cost more than the prices"),
        ({"best_of": 5}, "billed beside the tokens"),
        ({"web_search_options": {}}, "billed beside the tokens"),
        ({"a": float("nan")}, "plain JSON"),
        ({"a": {1, 2}}, "plain JSON"),
    ],
)
def test_extra_fields_that_break_the_budget_or_the_request(body: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Teacher(model="a/b", extra_body=body)
    Teacher(model="a/b", extra_body={"service_tier": "flex", "chat_template_kwargs": {"enable_thinking": False}})


@pytest.mark.parametrize(
    "fields",
    [
        {"samples": 0}, {"samples": 257}, {"temperature": -0.1}, {"temperature": 2.1}, {"temperature": float("nan")},
        {"top_p": 0}, {"max_output_tokens": 0}, {"top_logprobs": 21}, {"timeout_s": 0}, {"structured": "yaml"},
        {"max_tokens_field": "tokens"}, {"unknown": 1}, {"model": ""},
    ],
)  # fmt: skip
def test_values_out_of_their_bounds(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Teacher(**{"model": "a/b", **fields})


# --- the bound of a prompt's tokens


def most(text: str, task: Task | None = None, **fields: Any) -> int:
    return Teacher(model="a/b", **fields).most_input_tokens(task or Task(), [{"role": "user", "content": text}])


def test_a_bound_worked_by_hand() -> None:
    assert most("héllo") == 6 + TOKENS_PER_MESSAGE + TOKENS_PER_REQUEST + 1  # é is two bytes, decomposed three
    schema = {"a": 1}  # {'a': 1} are 8 characters, shown twice
    assert most("hi", Task(output_schema=schema)) == most("hi") + 16
    assert most("hi", Task(output_schema=schema), structured="none") == most("hi")
    assert most("hi", extra_body={"a": 1}) == most("hi") + 16  # tools are input too


@pytest.fixture(scope="module")
def tokenizers() -> list[Any]:
    """Byte-level ones without a single merge, the worst there are, for each normal form."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    found = []
    for normalizer in (None, normalizers.NFC(), normalizers.NFD(), normalizers.NFKC(), normalizers.NFKD()):
        tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        if normalizer is not None:
            tokenizer.normalizer = normalizer
        found.append(tokenizer)
    return found


@given(text=st.text(max_size=60))
def test_no_tokenizer_makes_more_of_a_text(tokenizers: list[Any], text: str) -> None:
    assert all(len(t.encode(text, add_special_tokens=False).ids) <= most(text) for t in tokenizers)


@pytest.mark.parametrize("text", ["\u0958" * 200, "\ufdfa" * 200, "\U0001d160" * 200, "Å" * 200, "ﬃ" * 200, "a" * 200])
def test_no_tokenizer_makes_more_of_what_grows_as_it_is_normalised(tokenizers: list[Any], text: str) -> None:
    counts = [len(t.encode(text, add_special_tokens=False).ids) for t in tokenizers]
    assert max(counts) <= most(text)
    assert most(text) <= max(counts) + TOKENS_PER_MESSAGE + TOKENS_PER_REQUEST


@given(text=st.text(max_size=60), more=st.text(max_size=10))
def test_tiktokens_count_is_within_the_bound_too(text: str, more: str) -> None:
    import tiktoken

    bytes_only = tiktoken.Encoding(
        "bytes", pat_str=r"\S+|\s+", mergeable_ranks={bytes([i]): i for i in range(256)}, special_tokens={}
    )
    assert len(bytes_only.encode_ordinary(text)) <= most(text)
    assert most(text + more) >= len(bytes_only.encode_ordinary(text))
