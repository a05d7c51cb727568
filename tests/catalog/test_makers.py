"""Makers: whose a model is by its name, and which references are only passed on to the maker."""

from __future__ import annotations

import pytest

from distillcalc.catalog import Catalog
from distillcalc.catalog.makers import maker, passed_on

CATALOG = Catalog.load()


@pytest.mark.parametrize(
    ("ref", "made_by"),
    [
        ("openai/gpt-5", "openai"),
        ("openai/ft:gpt-4o-mini", "openai"),
        ("openai/o4-mini", "openai"),
        ("azure/gpt-4o", "openai"),
        ("groq/openai/gpt-oss-120b", "openai-weights"),
        ("aws/openai.gpt-oss-20b-1:0", "openai-weights"),
        ("openrouter/anthropic/claude-sonnet-4.5", "anthropic"),
        ("aws/global.anthropic.claude-opus-4-6-v1:0", "anthropic"),
        ("aws/us.anthropic.claude-opus-4-6-v1:0", "anthropic"),
        ("openrouter/google/gemini-2.5-pro", "google"),
        ("x-ai/grok-4.20", "x-ai"),
        ("zai/GLM-5.3-Flash", "zai"),
        ("mistral/mistral-large-4", "mistral"),
        ("together/Qwen/Qwen3.5-9B", None),
        ("groq/llama-3.3-70b-versatile", None),
        ("nobody/orca-4", None),
    ],
)
def test_a_maker_is_told_by_the_models_name(ref: str, made_by: str | None) -> None:
    assert maker(ref) == made_by


@pytest.mark.parametrize(
    ("ref", "behind"),
    [
        ("openrouter/openai/gpt-5", "openai/gpt-5"),
        ("openrouter/anthropic/claude-sonnet-4.5", "anthropic/claude-sonnet-4-5"),
        ("openrouter/google/gemini-2.5-pro", "google/gemini-2.5-pro"),
        ("openrouter/openai/gpt-5:batch", "openai/gpt-5"),
        # Not passed on: the maker itself, hosts with dates of their own, weights that anybody may host
        ("openai/gpt-5", "openai/gpt-5"),
        ("azure/gpt-5", "azure/gpt-5"),
        ("openrouter/openai/gpt-oss-120b", "openrouter/openai/gpt-oss-120b"),
        ("openrouter/qwen/qwen3-8b", "openrouter/qwen/qwen3-8b"),
    ],
)
def test_what_is_passed_on_is_the_makers_own(ref: str, behind: str) -> None:
    assert passed_on(ref) == behind


@pytest.mark.parametrize("key", [key for key, row in CATALOG.models.items() if row.kind == "commercial"])
def test_a_commercial_models_maker_is_its_provider(key: str) -> None:
    row = CATALOG.models[key]
    for ref in row.price_refs:
        assert maker(ref) in (row.provider, None), ref
