"""What a provider/model name means to genai-prices, refusing the names that it would quietly take for others."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from distillcalc.errors import InputError, UnknownName

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider


def split_ref(ref: str) -> tuple[str, str]:
    """("openai", "gpt-5") of "openai/gpt-5"."""
    provider, slash, model = ref.partition("/")
    if not slash or not provider or not model:
        raise InputError(f"a priced model is named provider/model, for example openai/gpt-6-sol. Got {ref!r}")
    return provider, model


@lru_cache(maxsize=4096)
def find(ref: str) -> tuple[Provider, ModelInfo]:
    """The provider and model that genai-prices means by a reference, refusing its look-alikes.

    genai-prices matches by prefix, so "openai/gpt-5-turbo" would quietly be priced as gpt-5; only an id
    or an alias that it spells out is taken here.

    Raises
    ------
    UnknownName
        With the nearest names.
    """
    from genai_prices.data_snapshot import get_snapshot

    provider_id, model_ref = split_ref(ref)
    snapshot = get_snapshot()
    provider = next((p for p in snapshot.providers if p.id == provider_id), None)
    if provider is None:
        raise UnknownName(
            "provider", provider_id, [p.id for p in snapshot.providers], "It is the part before the slash."
        )
    # Some models' rules match only the long name that the API wants, not their own id.
    own = next((m for m in provider.models if m.id.lower() == model_ref.lower()), None)
    model = own or provider.find_model(model_ref, all_providers=snapshot.providers)
    if model is None or not _spelt_out(model, model_ref):
        known = [f"{provider_id}/{m.id}" for m in provider.models]
        meant = f"genai-prices would price it as {provider_id}/{model.id}; name that if you mean it." if model else ""
        raise UnknownName(
            "model",
            ref,
            known,
            meant or f'See `distillcalc catalog prices`, or give its price in [overrides.token_prices."{ref}"].',
        )
    return provider, model


def _spelt_out(model: ModelInfo, ref: str) -> bool:
    """Whether a reference is the model's id or one of the aliases its rule lists, not just a prefix match."""
    wanted = ref.lower()
    if model.id.lower() == wanted:
        return True

    def equals(clause: Any) -> bool:
        if hasattr(clause, "equals"):
            return bool(clause.equals.lower() == wanted)
        return any(equals(inner) for inner in getattr(clause, "or_", ()))

    return equals(model.match)


@cache
def package_version() -> str:
    """Version of the installed genai-prices, the provenance of every list price."""
    from importlib.metadata import version

    return version("genai-prices")


def all_refs() -> list[str]:
    """Every provider/model that genai-prices knows."""
    from genai_prices.data_snapshot import get_snapshot

    return [f"{provider.id}/{model.id}" for provider in get_snapshot().providers for model in provider.models]
