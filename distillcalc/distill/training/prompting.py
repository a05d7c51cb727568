"""A prompt as the text and the tokens that a model is shown, and the token with which its turn ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from distillcalc.errors import InputError

Messages = Sequence[Mapping[str, str]]


def has_template(tokenizer: Any) -> bool:
    """Whether a tokenizer knows how its model writes a chat."""
    return getattr(tokenizer, "chat_template", None) is not None


def prompt_text(tokenizer: Any, messages: Messages) -> str:
    """A prompt as its model reads it, up to where the answer begins.

    A tokenizer without a chat template gets the messages' texts with an empty line after each.
    """
    if has_template(tokenizer):
        text = tokenizer.apply_chat_template([dict(m) for m in messages], tokenize=False, add_generation_prompt=True)
        return str(text)
    return "".join(f"{message['content']}\n\n" for message in messages)


def prompt_ids(tokenizer: Any, messages: Messages) -> list[int]:
    """Token ids of a prompt up to where the answer begins."""
    plain = not has_template(tokenizer)  # a template writes the token that begins a text by itself
    ids: list[int] = tokenizer(prompt_text(tokenizer, messages), add_special_tokens=plain)["input_ids"]
    ends = (tokenizer.eos_token_id, tokenizer.sep_token_id)
    if plain and ids and ids[-1] in ends and ids[-1] is not None:  # a text's end: the answer is still to come
        ids = ids[:-1]
    return ids


def end_of_turn(tokenizer: Any, messages: Messages = (), answer: str = "x") -> int:
    """The token that ends the assistant's turn: the first special one after an answer, else the end of a text.

    Raises
    ------
    InputError
        If the tokenizer has no such token: a student would never learn to stop.
    """
    if has_template(tokenizer):
        asked = [dict(m) for m in messages] or [{"role": "user", "content": "x"}]
        whole = tokenizer.apply_chat_template([*asked, {"role": "assistant", "content": answer}], tokenize=False)
        place = whole.rfind(answer.strip())
        after = whole[place + len(answer.strip()) :] if place >= 0 else ""
        for token in tokenizer(after, add_special_tokens=False)["input_ids"] if after else ():
            if token in tokenizer.all_special_ids:
                return int(token)
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"the tokenizer {tokenizer.name_or_path!r} has no token that ends a text, so a student would never learn "
            "to stop. Set its eos_token"
        )
    return int(tokenizer.eos_token_id)


def padding_id(tokenizer: Any) -> int:
    """The id that fills a batch; what is padding is told by length and mask, never by this id."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0
