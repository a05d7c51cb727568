"""Errors: one base for all, the near names, the install line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillcalc import errors
from distillcalc.errors import (
    DistillcalcError,
    InputError,
    MissingExtra,
    MissingPrice,
    Retired,
    UnknownName,
    near_matches,
)


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (InputError("x"), ValueError),
        (Retired("x"), ValueError),
        (UnknownName("model", "x", []), LookupError),
        (MissingPrice("x"), LookupError),
        (MissingExtra("torch", "distill"), ImportError),
    ],
)
def test_every_error_is_ours_and_a_builtin(error: Exception, builtin: type[Exception]) -> None:
    assert isinstance(error, DistillcalcError)
    assert isinstance(error, builtin)


def test_nothing_else_is_raised() -> None:
    raised = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert all(issubclass(kind, DistillcalcError) for kind in raised)


def test_an_unknown_name_says_what_was_meant() -> None:
    error = UnknownName("GPU", "h100-smx", ["h100-sxm", "h200-sxm", "l4"], "See `distillcalc catalog gpus`.")
    assert str(error).startswith("unknown GPU 'h100-smx'. Did you mean h100-sxm")
    assert str(error).endswith("See `distillcalc catalog gpus`.")
    assert error.near[0] == "h100-sxm"


def test_an_unknown_name_far_from_all_others_guesses_nothing() -> None:
    assert str(UnknownName("GPU", "zzz", ["h100-sxm"])) == "unknown GPU 'zzz'."


def test_a_missing_extra_is_the_install_line() -> None:
    assert str(MissingExtra("torch", "distill")).endswith("pip install 'distillcalc[distill]'")


KNOWN = ["openai/gpt-5", "openai/gpt-5-mini", "together/Qwen/Qwen3-8B", "anthropic/claude-sonnet-4-0"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("openai/gpt5", "openai/gpt-5"),
        ("OPENAI/GPT-5", "openai/gpt-5"),  # case is not what was wrong
        ("antropic/claude", "anthropic/claude-sonnet-4-0"),  # only as a whole
        ("qwen3-8b", "together/Qwen/Qwen3-8B"),  # the part after the last slash
        ("sonnet", "anthropic/claude-sonnet-4-0"),  # a part of a name
    ],
)
def test_the_nearest_name(name: str, nearest: str) -> None:
    assert near_matches(name, KNOWN)[0] == nearest


@given(name=st.text(max_size=20), count=st.integers(0, 5))
def test_near_matches_are_known_names_without_repeats(name: str, count: int) -> None:
    found = near_matches(name, KNOWN, max(count, 1))
    assert set(found) <= set(KNOWN)
    assert len(found) == len(set(found)) <= max(count, 1)
