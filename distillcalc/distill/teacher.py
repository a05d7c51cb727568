"""Who is asked, and how: an OpenAI-compatible endpoint, its sampling, its key's variable, what may be sent there."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal
from unicodedata import normalize
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from distillcalc.catalog.names import split_ref
from distillcalc.distill.records import Strict
from distillcalc.distill.task import Messages, Task, refuse_unwritable
from distillcalc.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

    from distillcalc.catalog import Catalog

# Tokens that a chat template may add: roles and marks per message; a system prompt of the template's own, per request.
TOKENS_PER_MESSAGE = 16
TOKENS_PER_REQUEST = 64
FORMS: tuple[Literal["NFC", "NFD", "NFKC", "NFKD"], ...] = ("NFC", "NFD", "NFKC", "NFKD")
SCHEMA_FACTOR = 2  # a server may show the schema to the model again

CONNECTIONS_EACH = 32  # of one HTTP client

# Fields that the plan itself sets: extra_body must not.
OWN_FIELDS = {
    "model", "messages", "n", "temperature", "top_p", "seed", "max_tokens", "max_completion_tokens", "logprobs",
    "top_logprobs", "response_format", "reasoning_effort", "stream",
}  # fmt: skip


# Fields that make a request cost more than its tokens within their limits.
UNPRICED_FIELDS = {"best_of", "web_search_options"}


class Teacher(Strict):
    """The model that labels, and how it is asked.

    Parameters
    ----------
    model : provider/model as the catalog's prices know it, or a catalog id.
    base_url : of the endpoint; left out, the provider's own.
    send_as : the model's name at the endpoint; left out, what follows the provider.
    key_env : environment variable that holds the key; left out, the provider's usual one. Local endpoints need none.
    samples : answers wanted for each prompt.
    one_call : ask for all samples in one call (``n``), whose input is billed once; a server that ignores ``n`` is
        asked again for what is missing.
    temperature, top_p, seed, reasoning_effort : as the API takes them; left out, not sent. The seed is of the first
        sample, the next ones count on from it.
    max_output_tokens : the most that one answer may take, thoughts included; budgets are reserved from it.
    max_tokens_field : what the endpoint calls it; left out, ``max_completion_tokens`` at OpenAI, else ``max_tokens``.
    top_logprobs : how many of the most likely tokens to ask for at each position; 0 asks for none.
    structured : how a schema is asked for: "json_schema", "json_object", or "none" (in the prompt alone).
    strict : of the schema, as OpenAI's structured outputs have it.
    extra_body : other fields of the request, such as ``{ "chat_template_kwargs" = { ... } }``.
    timeout_s : to give up on one call.
    """

    model: str = Field(min_length=1)
    base_url: str | None = None
    send_as: str | None = None
    key_env: str | None = None
    samples: int = Field(1, ge=1, le=256)
    one_call: bool = False
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = None
    reasoning_effort: str | None = None
    max_output_tokens: int = Field(512, ge=1, le=1_000_000)
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    top_logprobs: int = Field(0, ge=0, le=20)
    structured: Literal["json_schema", "json_object", "none"] = "json_schema"
    strict: bool = False
    extra_body: dict[str, Any] = Field(default_factory=dict)
    timeout_s: float = Field(120.0, gt=0, le=3_600)

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, url: str | None) -> str | None:
        if url is not None:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("base_url is written https://host/v1")
            _ = parts.port  # raises where it is none
            if parts.query or parts.fragment:
                raise ValueError(
                    "base_url must end with its path, such as https://host/v1: what stands after ? or # is not sent"
                )
            if parts.username or parts.password:
                raise ValueError("base_url must not hold a name or a key: name the key's variable in key_env")
        return url

    @field_validator("extra_body")
    @classmethod
    def _not_ours(cls, body: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(OWN_FIELDS & body.keys()):
            raise ValueError(f"extra_body must not set {', '.join(taken)}: they have fields of their own here")
        if body.get("service_tier", "default") not in ("default", "flex"):
            raise ValueError(
                f"extra_body asks for service_tier {body['service_tier']!r}, which may cost more than the prices that "
                "the budget is reserved by. Leave it out, or write default or flex"
            )
        if dearer := sorted(UNPRICED_FIELDS & body.keys()):
            raise ValueError(
                f"extra_body must not set {', '.join(dearer)}: it is billed beside the tokens, or beyond their limit"
            )
        refuse_unwritable(body, "extra_body")
        return body

    @property
    def provider(self) -> str:
        """The provider's id; empty for a bare catalog id."""
        return split_ref(self.model)[0] if "/" in self.model else ""

    @property
    def name_sent(self) -> str:
        """The model's name at the endpoint."""
        return self.send_as or (self.model.split("/", 1)[1] if "/" in self.model else self.model)

    @property
    def limit_field(self) -> Literal["max_tokens", "max_completion_tokens"]:
        """What the endpoint calls the most tokens that an answer may take."""
        if self.max_tokens_field is not None:
            return self.max_tokens_field
        return "max_completion_tokens" if self.provider in ("openai", "azure") else "max_tokens"

    def key_variable(self, catalog: Catalog) -> str | None:
        """The environment variable that holds the key: named, or the provider's usual one at its own endpoint."""
        known = catalog.api(self.model) if self.provider else None
        return self.key_env or (known.key_env if known and self.base_url is None else None)

    def url(self, catalog: Catalog) -> str:
        """The endpoint's address; raises :class:`InputError` where neither the user nor the catalog knows it."""
        known = catalog.api(self.model) if self.provider else None
        url = self.base_url or (known.base_url if known else None)
        if url is None:
            raise InputError(
                f"the catalog knows no OpenAI-compatible endpoint of {self.provider or self.model!r}. Give base_url in "
                "[teacher], such as https://host/v1"
            )
        return url

    def key(self, catalog: Catalog) -> str:
        """The key from the environment; a placeholder for endpoints on this machine that name no variable."""
        variable = self.key_variable(catalog)
        if variable is None:
            if is_local(host_of(self.url(catalog))):
                return "none"
            raise InputError(f"name the environment variable that holds the key of {self.model}: key_env in [teacher]")
        key = os.environ.get(variable, "").strip()
        if not key:
            raise InputError(f"the environment variable {variable} is not set: it must hold the key of {self.model}")
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise InputError(
                f"the environment variable {variable} holds characters that no key has (spaces, line breaks, or beyond "
                "ASCII): copy the key anew"
            )
        return key

    def body(self, task: Task, messages: Messages, count: int = 1, **changed: Any) -> dict[str, Any]:
        """The request's body, for ``count`` samples; ``changed`` fields are laid over."""
        body: dict[str, Any] = {"model": self.name_sent, "messages": list(messages)}
        body[self.limit_field] = self.max_output_tokens
        for name in ("temperature", "top_p", "seed", "reasoning_effort"):
            if getattr(self, name) is not None:
                body[name] = getattr(self, name)
        if count > 1:
            body["n"] = count
        if self.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": self.top_logprobs}
        # A visible chain of thought before the JSON does not fit a schema: it is asked for in words.
        if task.output_schema is not None and self.structured != "none" and task.reasoning == "none":
            body["response_format"] = (
                {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": task.output_schema, "strict": self.strict},
                }
                if self.structured == "json_schema"
                else {"type": "json_object"}
            )
        return body | self.extra_body | changed

    def most_input_tokens(self, task: Task, messages: Sequence[Mapping[str, str]]) -> int:
        """A bound that no tokenizer exceeds: a token is at least a byte of text, as the tokenizer normalises it."""
        schema = task.output_schema
        extra = SCHEMA_FACTOR * _bytes(repr(schema)) if schema is not None and self.structured != "none" else 0
        if self.extra_body:  # tools and arguments of the chat template are shown to the model too
            extra += SCHEMA_FACTOR * _bytes(repr(self.extra_body))
        text = sum(_bytes(message["content"]) + TOKENS_PER_MESSAGE for message in messages)
        return text + TOKENS_PER_REQUEST + extra


def _bytes(text: str) -> int:
    """The most bytes that a text has in UTF-8 once a tokenizer has normalised it, whatever its normal form."""
    if text.isascii():
        return len(text)
    return max(len(text.encode()), *(len(normalize(form, text).encode()) for form in FORMS))


class Privacy(Strict):
    """What may leave the machine.

    Parameters
    ----------
    private : texts go only to hosts of ``allow_hosts`` and to this machine.
    allow_hosts : host names, such as "llm.internal.example"; a leading dot means all names below it.
    redact : what is masked before a prompt is sent, and put back after: email, phone, card, iban, key.
    phone_region : country whose national phone numbers are recognised, such as "US"; left out, only +numbers.
    """

    private: bool = False
    allow_hosts: tuple[str, ...] = ()
    redact: tuple[Literal["email", "phone", "card", "iban", "key"], ...] = ()
    phone_region: str | None = Field(None, pattern="^[A-Z]{2}$")

    def check(self, url: str) -> None:
        """Refuse an endpoint that the task's texts must not reach; raises :class:`InputError`."""
        host = host_of(url)
        if not self.private or is_local(host):
            return
        allowed = [name.lower() for name in self.allow_hosts]
        if any(host == name or (name.startswith(".") and host.endswith(name)) for name in allowed):
            if urlsplit(url).scheme == "https":
                return
            raise InputError(f"the task is private, and {url} is not encrypted. Use https, or a server on this machine")
        raise InputError(
            f"the task is private, and {host} is not on its list of hosts (allow_hosts in [privacy]: "
            f"{', '.join(self.allow_hosts) or 'none'}). Nothing was sent"
        )


def host_of(url: str) -> str:
    """The host's name in an address, lower case."""
    return (urlsplit(url).hostname or "").lower().rstrip(".")


def is_local(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def http_settings(privacy: Privacy, connections: int, timeout_s: float) -> dict[str, Any]:
    """Settings of the HTTP client: no redirects to other hosts; of a private task, no proxy either."""
    import httpx2

    return {
        "follow_redirects": False,
        "trust_env": not privacy.private,
        "timeout": httpx2.Timeout(timeout_s, connect=min(timeout_s, 30.0)),
        # Servers close idle connections after some seconds (uvicorn after 5): ours are closed before that, since a
        # request on a connection that is just being closed is a call of which nobody knows whether it was billed.
        "limits": httpx2.Limits(
            max_connections=connections + 4, max_keepalive_connections=connections + 4, keepalive_expiry=3.0
        ),
    }


def async_clients(teacher: Teacher, catalog: Catalog, privacy: Privacy, *, connections: int) -> list[AsyncOpenAI]:
    """Clients of the teacher's endpoint that neither retry nor follow redirects, for so many calls at once.

    There are several because a client looks at each of its open connections before each call: with 256 in one, that
    takes longer than the call's own work.

    Raises
    ------
    MissingExtra
        If openai is not installed.
    InputError
        If the task is private and the host not allowed, or the key is missing.
    """
    openai = _openai()
    url = teacher.url(catalog)
    privacy.check(url)
    key = teacher.key(catalog)
    count = -(-connections // CONNECTIONS_EACH)
    settings = http_settings(privacy, -(-connections // count), teacher.timeout_s)
    import httpx2

    settings["verify"] = httpx2.create_ssl_context(trust_env=not privacy.private)  # read once, for all of them
    return [
        openai.AsyncOpenAI(
            base_url=url, api_key=key, max_retries=0, timeout=settings["timeout"],
            default_headers=_headers(teacher), http_client=openai.DefaultAsyncHttpxClient(**settings),
        )
        for _ in range(count)
    ]  # fmt: skip


def client(teacher: Teacher, catalog: Catalog, privacy: Privacy) -> OpenAI:
    """The same, for calls that are made one after the other (files and batches)."""
    openai = _openai()
    url = teacher.url(catalog)
    privacy.check(url)
    settings = http_settings(privacy, 4, teacher.timeout_s)
    return openai.OpenAI(
        base_url=url, api_key=teacher.key(catalog), max_retries=0, timeout=settings["timeout"],
        default_headers=_headers(teacher), http_client=openai.DefaultHttpxClient(**settings),
    )  # fmt: skip


def _headers(teacher: Teacher) -> dict[str, Any]:
    """Names of an OpenAI account, which the client takes from the environment, go to OpenAI only."""
    if teacher.provider == "openai" and teacher.base_url is None:
        return {}
    omitted = _openai().Omit()
    return {"OpenAI-Organization": omitted, "OpenAI-Project": omitted}


def _openai() -> Any:
    try:
        import openai
    except ImportError as error:
        raise MissingExtra("openai", "distill") from error
    return openai
