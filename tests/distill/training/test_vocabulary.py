"""Tokenizers held against each other: padded, extended, swapped, and with the same ids but other merges."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from distillcalc.distill.packaged import smollm2
from distillcalc.distill.training.pairing import refuse_unread
from distillcalc.distill.training.prompting import padding_id
from distillcalc.distill.training.vocabulary import align, vocabulary_fingerprint
from distillcalc.errors import InputError

VOCABULARY = {"<end>": 0, "a": 1, "b": 2, "c": 3, "ab": 4, "bc": 5}
MERGES = [("a", "b"), ("b", "c")]


def bpe(
    vocabulary: dict[str, int] | None = None,
    merges: list[tuple[str, str]] | None = None,
    *,
    added: tuple[str, ...] = (),
    end: str | None = "<end>",
    pad: str | None = None,
    **parts: Any,
) -> PreTrainedTokenizerFast:
    """A byte-pair tokenizer of six tokens, or of others."""
    made = Tokenizer(models.BPE(vocab=vocabulary or VOCABULARY, merges=merges or MERGES))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    for name, part in parts.items():
        setattr(made, name, part)
    made.add_special_tokens([AddedToken(token, special=True) for token in ("<end>", *added)])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=end, pad_token=pad)


@pytest.fixture(scope="module")
def real() -> Any:
    return AutoTokenizer.from_pretrained(smollm2())


def test_the_same_tokenizer_is_the_same() -> None:
    found = align(bpe(), bpe(), 6, 6)
    assert found.same
    assert (found.vocabulary, found.overlap, found.notes, found.mapping) == (6, 1.0, (), None)
    assert found.require("forward-kl") is found


def test_padded_output_layers_of_one_family_are_cut_to_the_shared_tokens() -> None:
    """As Qwen2.5: 151,936 rows against 152,064, both for the same tokens; here 8 against 16, for 6."""
    found = align(bpe(), bpe(), 8, 16)
    assert found.same
    assert found.vocabulary == 6
    assert "8 rows, the teacher's 16" in found.notes[0]
    assert found.outside([0, 5, 6, 7, -1]) == (-1, 6, 7)


@pytest.mark.parametrize("who", ["student", "teacher"])
def test_a_token_added_at_the_end_is_left_out_and_said(who: str) -> None:
    more, plain = bpe(added=("<tool>",)), bpe()
    student, teacher = (more, plain) if who == "student" else (plain, more)
    found = align(student, teacher, 8, 8)
    assert found.same
    assert found.vocabulary == 6
    assert any(f"only the {who} has 1 of the tokens (6 '<tool>')" in note for note in found.notes)
    assert any("cannot read" in note for note in found.notes) == (who == "student")


def test_a_hole_of_one_vocabulary_is_not_shared() -> None:
    """The student has <x> at 6 and both have <tool> at 7: id 6 is shared by nobody, and nothing is wrong."""
    student = bpe({**VOCABULARY, "<x>": 6, "<tool>": 7}, added=("<x>", "<tool>"))
    teacher = bpe({**VOCABULARY, "<tool>": 7}, added=("<tool>",))
    found = align(student, teacher, 8, 8)
    assert found.same
    assert found.vocabulary == 8
    assert found.outside([5, 6, 7]) == (6,)


def test_two_ids_swapped_are_refused_by_name() -> None:
    swapped = {**VOCABULARY, "a": 2, "b": 1}
    found = align(bpe(), bpe(swapped), 6, 6)
    assert not found.same
    assert found.vocabulary == 1  # <end>: the only id before the first that differs
    assert found.differences == ((1, "a", "b"), (2, "b", "a"))
    assert found.mapping == {0: 0, 1: 2, 2: 1, 3: 3, 4: 4, 5: 5}
    assert found.overlap == 1.0
    with pytest.raises(InputError, match=r"id 1 is 'a' to the student, 'b' to the teacher; id 2 .*\"uld\""):
        found.require("forward-kl")


def test_swapped_ids_near_the_end_are_refused_too() -> None:
    found = align(bpe(), bpe({**VOCABULARY, "ab": 5, "bc": 4}), 6, 6)
    assert found.vocabulary == 4
    assert not found.same


def test_special_tokens_of_one_id_and_two_names_are_refused() -> None:
    """As Qwen2.5 and what DeepSeek distilled into it: the teacher would read the student's prompt as something else."""
    with pytest.raises(InputError, match=r"1 ids differ \(id 6 is '<\|im_start\|>' to the student, '<\|User\|>'"):
        align(bpe(added=("<|im_start|>",)), bpe(added=("<|User|>",)), 7, 7).require("jsd")


def test_the_first_few_differences_are_named_and_the_rest_counted() -> None:
    names = [chr(ord("a") + n) for n in range(20)]
    one = {"<end>": 0} | {name: n + 1 for n, name in enumerate(names)}
    other = {"<end>": 0} | {name: n + 1 for n, name in enumerate(reversed(names))}
    found = align(wordlevel(one), wordlevel(other), 21, 21)
    assert found.differing == 20
    assert len(found.differences) == 5
    with pytest.raises(InputError, match="and 15 more"):
        found.require("forward-kl")


def wordlevel(vocabulary: dict[str, int]) -> PreTrainedTokenizerFast:
    made = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="<end>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>")


OTHER = {
    "merges differ": {"merges": [("b", "c"), ("a", "b")]},
    "normalisers differ": {"normalizer": normalizers.Lowercase()},
    "pre-tokenizers differ": {"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)},
}


@pytest.mark.parametrize("what", OTHER)
def test_the_same_ids_but_another_way_to_split_are_refused(what: str) -> None:
    one, other = bpe(), bpe(**OTHER[what])
    assert one.get_vocab() == other.get_vocab()
    found = align(one, other, 6, 6)
    assert not found.same
    assert found.differences == ()
    with pytest.raises(InputError, match=f"their {what}"):
        found.require("forward-kl")
    assert vocabulary_fingerprint(one) != vocabulary_fingerprint(other)


def test_other_merges_do_split_a_text_differently() -> None:
    """abc is ab c where a b joins first, and a bc where b c does: why the ids alone do not do."""
    assert bpe()("abc")["input_ids"] == [4, 3]
    assert bpe(**OTHER["merges differ"])("abc")["input_ids"] == [1, 5]


def test_a_longer_vocabulary_of_words_is_another_way_to_split() -> None:
    found = align(wordlevel({"<end>": 0, "one": 1, "two": 2}), wordlevel({"<end>": 0, "one": 1}), 3, 3)
    assert found.splits == ("tokens before any were added differ",)
    assert found.overlap == pytest.approx(2 / 3)


def test_what_only_moves_offsets_or_stands_around_a_text_is_not_refused() -> None:
    around = processors.TemplateProcessing(single="<end> $A", special_tokens=[("<end>", 0)])
    trimmed = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
    assert align(bpe(), bpe(post_processor=around), 6, 6).same
    assert align(bpe(), bpe(pre_tokenizer=trimmed), 6, 6).same
    assert vocabulary_fingerprint(bpe()) != vocabulary_fingerprint(bpe(post_processor=around))


def test_ends_of_a_text_that_differ_are_said() -> None:
    found = align(bpe(), bpe(added=("<|im_end|>",), end="<|im_end|>"), 6, 7)
    assert found.same
    assert any("ends a text with '<end>', the teacher with '<|im_end|>'" in note for note in found.notes)


def test_a_tokenizer_with_more_tokens_than_its_model_has_rows() -> None:
    found = align(bpe(added=("<tool>",)), bpe(added=("<tool>",)), 6, 7)
    assert found.vocabulary == 6
    assert any("the student's output layer has no row for 1 tokens" in note for note in found.notes)


def test_nothing_in_common() -> None:
    found = align(wordlevel({"one": 0}), wordlevel({"one": 7}), 1, 8)
    assert not found.same
    with pytest.raises(InputError, match="share no token"):
        found.require("forward-kl")


class Slow:
    """A tokenizer without a back end of the tokenizers library, as transformers' slow ones."""

    eos_token_id = pad_token_id = None

    def __init__(self, words: dict[str, int], cut: int = 1) -> None:
        self.words, self.cut = words, cut

    def get_vocab(self) -> dict[str, int]:
        return self.words

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [len(text[i : i + self.cut]) for i in range(0, len(text), self.cut)]}


def test_slow_tokenizers_are_told_apart_by_what_they_do() -> None:
    one, same, other = Slow({"a": 0, "b": 1}), Slow({"a": 0, "b": 1}), Slow({"a": 0, "b": 1}, cut=2)
    assert align(one, same, 2, 2).same
    assert align(one, other, 2, 2).splits == ("splits of the same texts differ",)
    assert vocabulary_fingerprint(one) == vocabulary_fingerprint(same) != vocabulary_fingerprint(other)


def test_a_fingerprint_survives_saving_padding_and_truncation(real: Any, tmp_path: Path) -> None:
    was = vocabulary_fingerprint(real)
    copied = copy.deepcopy(real)
    copied(["one", "two three"], padding="max_length", truncation=True, max_length=4)
    assert json.loads(copied.backend_tokenizer.to_str())["truncation"] is not None
    assert vocabulary_fingerprint(copied) == was
    copied.save_pretrained(tmp_path)
    assert vocabulary_fingerprint(AutoTokenizer.from_pretrained(tmp_path)) == was


def test_a_fingerprint_changes_with_a_token(real: Any) -> None:
    more = copy.deepcopy(real)
    more.add_tokens(["distillcalc"])
    assert vocabulary_fingerprint(more) != vocabulary_fingerprint(real)


def test_the_packaged_models_tokenizer_with_a_token_more(real: Any) -> None:
    more = copy.deepcopy(real)
    more.add_special_tokens({"additional_special_tokens": ["<tool>"]}, replace_extra_special_tokens=False)
    found = align(more, real, 49_280, 49_152)
    assert found.same
    assert found.vocabulary == 49_152
    assert any("49152 '<tool>'" in note for note in found.notes)


def test_a_batch_is_filled_with_the_padding_or_with_the_end_of_a_text(real: Any) -> None:
    assert padding_id(real) == real.eos_token_id == real.convert_tokens_to_ids("<|im_end|>")
    assert [padding_id(bpe(**given)) for given in ({"pad": "a"}, {}, {"pad": "<end>"}, {"end": None})] == [1, 0, 0, 0]


def test_a_token_that_was_added_to_the_student_alone_is_not_read_by_the_teacher(real: Any) -> None:
    more = copy.deepcopy(real)
    more.add_tokens(["<tool>"])
    found = align(more, real, 49_280, 49_152)
    refuse_unread(found, more("where is it?")["input_ids"])
    with pytest.raises(InputError, match=r"hold 1 token id that the teacher does not know, the first is 49152"):
        refuse_unread(found, more("where is <tool>?")["input_ids"])
