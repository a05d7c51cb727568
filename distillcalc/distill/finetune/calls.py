"""Calls to a fine-tuning service over HTTP, through the openai client: reading is repeated, making is not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from distillcalc.distill.finetune.provider import ProviderError
from distillcalc.distill.pacing import retry_after_s
from distillcalc.errors import InputError, MissingExtra

LONGEST_WAIT_S = 60.0


class Calls:
    """GET, POST and upload, with errors that say what was asked and whether it may have been done.

    Parameters
    ----------
    base_url : of the API, such as "https://api.openai.com/v1".
    key_env : name of the environment variable that holds the key.
    tries : how often a GET is sent before its error is raised.
    timeout_s : for one answer [s]; an upload has ten times that.
    sleep : waits [s]; for tests.

    Raises
    ------
    InputError
        If the address is none, or the variable is not set.
    MissingExtra
        If openai is not installed.
    """

    def __init__(
        self,
        base_url: str,
        key_env: str,
        *,
        tries: int = 6,
        timeout_s: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"base_url must be an address such as https://api.openai.com/v1. Got {base_url!r}")
        key = os.environ.get(key_env, "").strip()
        if not key:
            raise InputError(f"no API key: the environment variable {key_env} is not set. Set it, or name another one")
        try:
            import openai
        except ImportError as error:
            raise MissingExtra("openai", "distill") from error
        self.host = parts.hostname
        self._key, self._tries, self._timeout_s, self._sleep = key, tries, timeout_s, sleep
        self._client = openai.OpenAI(api_key=key, base_url=base_url, max_retries=0, timeout=timeout_s)

    def close(self) -> None:
        """Let the connections go."""
        self._client.close()

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Read, and read again with growing waits where that may help; raises :class:`ProviderError`."""
        asked = {key: value for key, value in (query or {}).items() if value is not None}
        for tried in range(self._tries):
            try:
                return self._once("GET", path, options={"params": asked})
            except ProviderError as error:
                if not error.passing or tried == self._tries - 1:
                    raise
                self._sleep(pause_s(tried, error.retry_after_s))
        raise AssertionError("unreachable")

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask once; raises :class:`ProviderError`, ``lost`` where it may have been done all the same."""
        return self._once("POST", path, body=dict(body or {}))

    def upload(self, path: str, file: Path, *, name: str, fields: Mapping[str, str]) -> dict[str, Any]:
        """Send a file once as multipart/form-data; raises :class:`ProviderError`."""
        headers = {"Content-Type": "multipart/form-data"}
        with file.open("rb") as stream:
            return self._once(
                "POST",
                path,
                body=dict(fields),
                files=[("file", (name, stream, "application/jsonl"))],
                options={"headers": headers, "timeout": 10 * self._timeout_s},
            )

    def _once(self, method: str, path: str, **given: Any) -> dict[str, Any]:
        import openai

        send = self._client.get if method == "GET" else self._client.post
        asked = f"{method} {path} at {self.host}"
        try:
            answer = send(path, cast_to=object, **given)
        except openai.APIStatusError as error:
            raise self._refused(asked, error) from error
        except openai.APIError as error:  # no connection, no answer in time, an answer that broke off
            cause = error.__cause__ or error
            why = self._clean(f"{type(cause).__name__}: {cause}")
            raise ProviderError(f"{asked}: no answer came ({why})", lost=True) from error
        except ValueError as error:  # a body that is not JSON
            raise ProviderError(f"{asked}: the answer is not JSON ({error})", lost=True) from error
        if not isinstance(answer, dict):
            raise ProviderError(f"{asked}: the answer is not a JSON object. Got {str(answer)[:100]!r}", lost=True)
        return answer

    def _refused(self, asked: str, error: Any) -> ProviderError:
        body = error.body if isinstance(error.body, dict) else {}
        body = body["error"] if isinstance(body.get("error"), dict) else body
        code = str(body.get("code") or body.get("type") or "")
        said = self._clean(str(body.get("message") or error.response.text[:200] or "no reason was given"))
        status = int(error.status_code)
        return ProviderError(
            f"{asked}: {status}{f' ({code})' if code else ''}: {said}",
            status=status,
            code=code,
            lost=status >= 500 or status == 408,
            retry_after_s=retry_after_s(error.response.headers),
        )

    def _clean(self, text: str) -> str:
        """A server's words without the key, which some of them repeat."""
        return text.replace(self._key, "[key]")


def pause_s(tried: int, asked_s: float | None = None) -> float:
    """How long to wait after so many tries [s]: doubling from half a second, at least what the service asks for."""
    return max(min(0.5 * 2.0**tried, 30.0), min(asked_s or 0.0, LONGEST_WAIT_S))


def moment(value: Any) -> datetime | None:
    """A time of a service, in seconds since 1970 or ISO 8601, as UTC; None where it is neither."""
    if isinstance(value, bool) or value in (None, "", 0):
        return None
    try:
        if isinstance(value, (int, float)):
            return datetime.fromtimestamp(value, UTC)
        at = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
