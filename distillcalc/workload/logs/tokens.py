"""Counting the tokens of texts whose log has no counts, on this machine: nothing is sent or downloaded."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from distillcalc.errors import InputError, MissingExtra

if TYPE_CHECKING:
    import tiktoken

Tokenizer: TypeAlias = "str | os.PathLike[str] | tiktoken.Encoding"
Count: TypeAlias = Callable[[Sequence[str]], list[int]]

DEFAULT_ENCODING = "o200k_base"
BATCH = 2_048

# Where tiktoken has its encodings from and their sha256, as in tiktoken_ext/openai_public.py of tiktoken 0.14. They say
# whether its cache has one whole: asked for one that it has not, tiktoken would download it.
_PUBLIC = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
_SHA256 = {
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "p50k_base": "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069",
    "r50k_base": "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
}


def token_counter(tokenizer: Tokenizer | None, threads: int) -> tuple[Count, str] | None:
    """A function that counts the tokens of a batch of texts, and the name of its tokenizer.

    Parameters
    ----------
    tokenizer : a ``tokenizer.json``, the name of a tiktoken encoding that is in its cache, or an Encoding; ``None``
        takes ``o200k_base`` if it is in the cache
    threads : how many texts are encoded at once

    Returns
    -------
    ``None`` if no tokenizer was asked for and none is at hand.

    Raises
    ------
    InputError
        If the tokenizer asked for is not on this machine.
    """
    if tokenizer is None:
        return _from_cache(DEFAULT_ENCODING, threads) if _is_cached(DEFAULT_ENCODING) else None
    if not isinstance(tokenizer, (str, os.PathLike)):
        return _by_tiktoken(tokenizer, threads), tokenizer.name
    file = Path(tokenizer)
    if file.is_file():
        return _by_tokenizers(file), file.name
    if str(tokenizer) in _SHA256:
        if _is_cached(str(tokenizer)):
            return _from_cache(str(tokenizer), threads)
        raise InputError(f"the encoding {tokenizer} is not in tiktoken's cache ({_cache()}). {how_to_give_one()}")
    raise InputError(
        f"tokenizer must be a tokenizer.json file or one of {', '.join(_SHA256)}. Got {os.fspath(tokenizer)!r}"
    )


def how_to_give_one() -> str:
    """How to get a tokenizer onto this machine, as a sentence."""
    return (
        "Give a local tokenizer.json (tokenizer='path/to/tokenizer.json'), or fill tiktoken's cache once where there "
        "is a network: TIKTOKEN_CACHE_DIR=DIR python -c "
        f"\"import tiktoken; tiktoken.get_encoding('{DEFAULT_ENCODING}')\""
    )


def _by_tiktoken(encoding: Any, threads: int) -> Count:
    def length(text: str) -> int:
        return len(encoding.encode_ordinary(text))

    # As encode_ordinary_batch does it, but the tokens of a text go as soon as they are counted.
    def count(texts: Sequence[str]) -> list[int]:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(length, texts))

    return count


def _by_tokenizers(file: Path) -> Count:
    try:
        import tokenizers
    except ImportError as error:
        raise MissingExtra("tokenizers", "distill") from error
    try:
        loaded = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:
        raise InputError(f"{file} is not a tokenizer.json: {error}") from error
    loaded.no_padding()
    loaded.no_truncation()

    def count(texts: Sequence[str]) -> list[int]:
        return [len(encoded.ids) for encoded in loaded.encode_batch_fast(list(texts), add_special_tokens=False)]

    return count


def _from_cache(encoding: str, threads: int) -> tuple[Count, str]:
    import tiktoken

    return _by_tiktoken(tiktoken.get_encoding(encoding), threads), encoding


def _cache() -> Path:
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if variable in os.environ:
            return Path(os.environ[variable])
    return Path(tempfile.gettempdir()) / "data-gym-cache"


def _is_cached(encoding: str) -> bool:
    file = _cache() / hashlib.sha1(_PUBLIC.format(encoding).encode()).hexdigest()
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == _SHA256[encoding]
