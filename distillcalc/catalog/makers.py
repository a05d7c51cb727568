"""Who made a model that somebody else resells: whose terms and whose shutdown dates follow it.

genai-prices names a model by who bills for it. Terms on training and announced ends belong to who made it.
"""

from __future__ import annotations

import re
from functools import cache

# The maker's id, as in terms.toml and genai-prices, by how its models are named.
MAKERS: tuple[tuple[str, str], ...] = (
    (r"gpt-oss", "openai-weights"),
    (r"gpt-|chatgpt|o[134](-|$)|davinci|text-embedding", "openai"),
    (r"claude", "anthropic"),
    (r"gemini", "google"),
    (r"grok", "x-ai"),
    (r"glm", "zai"),
    (r"deepseek", "deepseek"),
    (r"mistral|ministral|codestral|magistral|devstral|pixtral|mixtral", "mistral"),
)

# Those that pass requests on to the maker; others host the weights, or a copy with its own dates.
PASSED_ON = ("openrouter", "github-copilot", "cursor")
CLOSED = ("openai", "anthropic", "google", "x-ai")  # makers whose models nobody else can keep alive


@cache
def maker(ref: str) -> str | None:
    """Provider id of a model's maker, or None where its name does not tell."""
    name = ref.lower().rsplit("/", 1)[-1].removeprefix("ft:")
    name = re.sub(
        r"^((us|eu|apac|global|regional)\.)?((anthropic|openai|google|deepseek|mistral|zai|meta)\.)?", "", name
    )
    return next((found for pattern, found in MAKERS if re.match(pattern, name)), None)


@cache
def passed_on(ref: str) -> str:
    """The maker's own provider/model behind a reference that is only passed on; else the reference itself.

    Resellers write claude-sonnet-4.5 where the maker writes claude-sonnet-4-5, so both spellings of Anthropic's
    names are one.
    """
    provider, _, model = ref.partition("/")
    found = maker(ref)
    if provider not in PASSED_ON or found not in CLOSED:
        return ref
    name = model.rsplit("/", 1)[-1].split(":", 1)[0]
    return f"{found}/{name.replace('.', '-') if found == 'anthropic' else name}"
