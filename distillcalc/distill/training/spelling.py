"""How a tokenizer spells its tokens, in bytes, and which token a server means that names it by its text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

_ESCAPED = re.compile(rb"\\x([0-9a-fA-F]{2})")
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
_UNREADABLE = "\N{REPLACEMENT CHARACTER}"
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # what SentencePiece writes for one


class Spelling:
    """How a tokenizer spells each of its tokens, in bytes; made once for many records.

    Parameters
    ----------
    tokenizer : the student's.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.special = {int(i) for i in tokenizer.all_special_ids}

    @cached_property
    def _decoder(self) -> Literal["bytes", "metaspace", "other"]:
        """How a fast tokenizer's tokens become text."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        decoder = "" if backend is None else json.dumps(json.loads(backend.to_str())["decoder"], ensure_ascii=False)
        return "bytes" if '"ByteLevel"' in decoder else "metaspace" if _SPACE in decoder else "other"

    @property
    def lead(self) -> bytes:
        """What the tokenizer may put before a text of its own accord."""
        return b" " if self._decoder == "metaspace" else b""

    @cached_property
    def bytes_of(self) -> dict[int, bytes]:
        """Bytes that each id stands for, as they follow other text: a leading space stays."""
        tokens: dict[int, str] = {int(i): str(token) for token, i in self.tokenizer.get_vocab().items()}
        added = {int(i): str(token.content) for i, token in self.tokenizer.added_tokens_decoder.items()}
        if self._decoder == "bytes":
            letters = _byte_letters()
            spelt = {i: _from_letters(token, letters) for i, token in tokens.items()}
        elif self._decoder == "metaspace":
            spelt = {i: _from_metaspace(token) for i, token in tokens.items()}
        else:
            spelt = {i: self.tokenizer.decode([i]).encode() for i in tokens}
        return spelt | {i: token.encode() for i, token in added.items()}

    @cached_property
    def ids_of(self) -> dict[bytes, tuple[int, ...]]:
        """Ids that are spelt so: one, save for a few tokens.

        A byte of its own (``<0x41>``) only counts where no other token is that byte: text is never split into it then.
        """
        found: dict[bytes, list[int]] = {}
        for i, spelt in self.bytes_of.items():
            found.setdefault(spelt, []).append(i)
        alone = {i for token, i in self.tokenizer.get_vocab().items() if _BYTE_TOKEN.fullmatch(token)}
        return {spelt: tuple(i for i in ids if i not in alone) or tuple(ids) for spelt, ids in found.items()}

    def read(self, token: str) -> bytes | None:
        """The bytes of a token as an API writes it; None where it did not keep them.

        Bytes that are no text of their own come as escapes (``\\xe2\\x80``, with ``bytes:`` before them from some), or
        as the replacement character, which says nothing.
        """
        if _UNREADABLE in token:  # also where the vocabulary has that character: most often it is not what was meant
            return None
        text = token.encode("utf-8", errors="surrogatepass")
        if text not in self.ids_of and _ESCAPED.search(text):
            return _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), text.removeprefix(b"bytes:"))
        return text


def _byte_letters() -> dict[str, int]:
    """The letter that stands for each byte in a byte-level vocabulary (Radford et al. 2019, GPT-2)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + n): byte for n, byte in enumerate(rest)}


def _from_letters(token: str, letters: Mapping[str, int]) -> bytes:
    if all(letter in letters for letter in token):
        return bytes(letters[letter] for letter in token)
    return token.encode()


def _from_metaspace(token: str) -> bytes:
    byte = _BYTE_TOKEN.fullmatch(token)
    return bytes.fromhex(byte[1]) if byte else token.replace(_SPACE, " ").encode()
