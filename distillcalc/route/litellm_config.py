"""A configuration of LiteLLM's proxy for a router: its models, the router itself, and the hook that asks it.

A router that chooses before is asked by a hook before each call (``CustomLogger.async_pre_call_hook``); a cascade is a
provider of its own (``CustomLLM``) that asks its models through LiteLLM. Formats: docs.litellm.ai/docs/proxy/configs,
/proxy/call_hooks and /providers/custom_llm_server, as LiteLLM 1.108 reads them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillcalc.errors import InputError
from distillcalc.route.litellm_hooks import hook_text

if TYPE_CHECKING:
    from distillcalc.route.attempting import OnTeacherFailure
    from distillcalc.route.router import Router

HEAD = "# Written by distillcalc"
MASTER_KEY = "LITELLM_MASTER_KEY"  # of the proxy's users; without one it does not start
CONFIG, HOOK, FOLDER = "config.yaml", "distillcalc_hook.py", "router"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]*")
_PLAIN = (
    "model_list", "model_name", "litellm_params", "model", "api_base", "api_key", "router_settings", "fallbacks",
    "litellm_settings", "callbacks", "custom_provider_map", "provider", "custom_handler", "general_settings",
    "master_key",
)  # fmt: skip
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Endpoint:
    """Where LiteLLM asks a model.

    Parameters
    ----------
    model : LiteLLM's name of it, provider first: "openai/gpt-6-sol", "hosted_vllm/qwen3-4b".
    api_base : address of the server; left out, the provider's.
    api_key_env : name of the environment variable that holds the key, never the key.

    Raises
    ------
    InputError
        For a model without a provider, or a variable that can be none.
    """

    model: str
    api_base: str | None = None
    api_key_env: str | None = None

    def __post_init__(self) -> None:
        if "/" not in self.model:
            raise InputError(f"a model of LiteLLM's has its provider first, openai/{self.model}. Got {self.model!r}")
        if self.api_key_env is not None and not _VARIABLE.fullmatch(self.api_key_env):
            raise InputError("api_key_env is the name of an environment variable, such as OPENAI_API_KEY, not the key")

    def params(self) -> dict[str, str]:
        """Its ``litellm_params``."""
        found = {"model": self.model}
        if self.api_base is not None:
            found["api_base"] = self.api_base
        if self.api_key_env is not None:
            found["api_key"] = f"os.environ/{self.api_key_env}"
        return found


def litellm_config(router: Router, endpoints: Mapping[str, Endpoint], *, name: str = "routed") -> dict[str, Any]:
    """The configuration as plain values.

    Parameters
    ----------
    router : its kind decides between a hook before each call and a provider of its own.
    endpoints : of each model of the router, by its name, by which the proxy serves it too.
    name : by which the proxy's users ask for the routed pair.

    Raises
    ------
    InputError
        If the endpoints are not those of the router's models, or the name is one of theirs.
    """
    if set(endpoints) != set(router.models):
        raise InputError(f"endpoints are of {', '.join(router.models)}. Got {', '.join(endpoints) or 'none'}")
    if name in router.models or not _NAME.fullmatch(name):
        raise InputError(f"name is what users ask for, no model's own, of letters, digits and ._:/-. Got {name!r}")
    teacher = router.models[-1]
    listed = [{"model_name": model, "litellm_params": endpoints[model].params()} for model in router.models]
    hook = HOOK.removesuffix(".py")
    settings: dict[str, Any]
    if router.stage == "before":
        # Without the hook the teacher answers.
        listed.append({"model_name": name, "litellm_params": endpoints[teacher].params()})
        settings = {"callbacks": [f"{hook}.choosing"]}
    else:
        listed.append({"model_name": name, "litellm_params": {"model": "distillcalc/cascade"}})
        settings = {"custom_provider_map": [{"provider": "distillcalc", "custom_handler": f"{hook}.cascade"}]}
    failing = [*router.models[:-1], *([name] if router.stage == "after" else [])]
    return {
        "model_list": listed,
        "router_settings": {"fallbacks": [{model: [teacher]} for model in failing]},
        "litellm_settings": settings,
        "general_settings": {"master_key": f"os.environ/{MASTER_KEY}"},
    }


def write_litellm(
    router: Router,
    folder: str | Path,
    endpoints: Mapping[str, Endpoint],
    *,
    name: str = "routed",
    on_teacher_failure: OnTeacherFailure = "raise",
) -> Path:
    """Write what LiteLLM's proxy needs into a folder: ``config.yaml``, its hook and the router.

    Run it with ``litellm --config FOLDER/config.yaml`` where distillcalc is installed too. The proxy reads its users'
    key from ``LITELLM_MASTER_KEY``, the models' keys from the variables that the endpoints name. Calls of tools in a
    cascade's stream are not passed on; those of a whole answer are.

    Parameters
    ----------
    router, endpoints, name : as of :func:`litellm_config`.
    folder : made if it is not there; a configuration that distillcalc wrote is replaced.
    on_teacher_failure : of a cascade, as of :class:`.RoutedClient`.

    Returns
    -------
    The configuration file.

    Raises
    ------
    InputError
        As :func:`litellm_config`; or if a file there was written by somebody else.
    """
    config = litellm_config(router, endpoints, name=name)
    place = Path(folder)
    for file in (place / CONFIG, place / HOOK):
        if file.exists() and not file.read_text(encoding="utf-8", errors="replace").startswith(HEAD):
            raise InputError(f"{file} was not written by distillcalc: name another folder")
    place.mkdir(parents=True, exist_ok=True)
    router.save(place / FOLDER)
    about = f"{HEAD} for router {router.version}. Run: litellm --config {CONFIG}\n"
    hook = hook_text(router, endpoints, name=name, folder=FOLDER, on_teacher_failure=on_teacher_failure)
    (place / HOOK).write_text(about + hook, encoding="utf-8")
    (place / CONFIG).write_text(f"{about}{yaml_of(config)}\n", encoding="utf-8")
    return place / CONFIG


def yaml_of(value: Any, depth: int = 0) -> str:
    """Plain values as YAML in block style; texts are quoted as JSON quotes them, which is YAML too."""
    pad = "  " * depth
    if isinstance(value, dict) and value:
        return "\n".join(f"{pad}{_key(key)}:{_after(one, depth)}" for key, one in value.items())
    if isinstance(value, list) and value:
        items = (yaml_of(one, depth + 1) for one in value)
        return "\n".join(f"{pad}- {item.lstrip(' ')}" for item in items)
    return pad + _scalar(value)


def _key(key: str) -> str:
    return key if key in _PLAIN else _scalar(key)


def _after(value: Any, depth: int) -> str:
    nested = isinstance(value, (dict, list)) and bool(value)
    return "\n" + yaml_of(value, depth + 1) if nested else f" {_scalar(value)}"


def _scalar(value: Any) -> str:
    """As JSON; but YAML knows no pairs of surrogates, in which JSON writes what is beyond the first plane."""
    if not isinstance(value, str):
        return json.dumps(value)
    escaped = (json.dumps(one)[1:-1] if ord(one) <= 0xFFFF else f"\\U{ord(one):08x}" for one in value)
    return f'"{"".join(escaped)}"'
