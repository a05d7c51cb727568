"""A prompt as the text and the tokens that a model is shown, and the token with which its turn ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from distillcalc.errors import InputError

Messages = Sequence[Mapping[str, str]]
MARK = "theAnswerEndsHere7f3a"  # no text has it


def has_template(tokenizer: Any) -> bool:
    """Whether a tokenizer knows how its model writes a chat."""
    return getattr(tokenizer, "chat_template", None) is not None


def prompt_text(tokenizer: Any, messages: Messages) -> str:
    """A prompt as its model reads it, up to where the answer begins.

    A tokenizer without a chat template gets the messages' texts with an empty line after each.

    Raises
    ------
    InputError
        If the chat template takes no such messages: some know no system message.
    """
    if has_template(tokenizer):
        return _rendered(tokenizer, messages, add_generation_prompt=True)
    return "".join(f"{message['content']}\n\n" for message in messages)


def _rendered(tokenizer: Any, messages: Messages, *, add_generation_prompt: bool = False) -> str:
    from jinja2 import TemplateError

    try:
        text = tokenizer.apply_chat_template(
            [dict(m) for m in messages], tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        raise InputError(
            f"the chat template of {tokenizer.name_or_path!r} refuses messages of {roles}: {error}. Where it knows no "
            'system message, set system = "" and put the instructions into the prompt'
        ) from error
    return str(text)


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
        asked = list(messages) or [{"role": "user", "content": "x"}]
        # The mark is found where the answer might not be: answers stand in prompts, too, and in the names of tokens.
        whole = _rendered(tokenizer, [*asked, {"role": "assistant", "content": answer.strip() + MARK}])
        after = whole.rpartition(MARK)[2] if MARK in whole else ""
        special = special_ids(tokenizer)
        for token in tokenizer(after, add_special_tokens=False)["input_ids"] if after else ():
            if token in special:
                return int(token)
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"the tokenizer {tokenizer.name_or_path!r} has no token that ends a text, so a student would never learn "
            "to stop. Set its eos_token"
        )
    return int(tokenizer.eos_token_id)


def special_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of tokens that steer, such as ends of turns; those without a name of their own count too."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return frozenset([*tokenizer.all_special_ids, *(i for i, token in added.items() if token.special)])


def padding_id(tokenizer: Any) -> int:
    """The id that fills a batch; what is padding is told by length and mask, never by this id."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0
