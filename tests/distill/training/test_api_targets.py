"""An API's log-probabilities as soft labels: mapped by text, where it split the answer as the student does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from distillcalc.distill.logprobs import top_logprobs
from distillcalc.distill.packaged import smollm2
from distillcalc.distill.records import Record
from distillcalc.distill.training.api_targets import Mismatch, Targets, collect_targets, targets_of
from distillcalc.distill.training.logit_cache import LogitCache, LogitCacheWriter
from distillcalc.distill.training.spelling import Spelling
from distillcalc.errors import InputError
from tests.distill.making import record

LOG = {share: math.log(share) for share in (0.5, 0.25, 0.125, 0.0625)}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(smollm2())


@pytest.fixture(scope="module")
def spelling(tokenizer: Any) -> Spelling:
    return Spelling(tokenizer)


def answer(tokenizer: Any, text: str) -> list[int]:
    """An answer as the student learns it: its tokens and the end of the turn."""
    return [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def said(text: str, *places: tuple[str, Sequence[tuple[str, float]]]) -> Record:
    """A record as one of an API's choice is made; each place is the token written, and the likely ones."""
    content = [
        {
            "token": token,
            "logprob": dict(top).get(token, -9999.0),
            "top_logprobs": [{"token": other, "logprob": logprob} for other, logprob in top],
        }
        for token, top in places
    ]
    logprobs = top_logprobs({"logprobs": {"content": content}}, "api#1")
    return record("r", answer=text, logprobs=logprobs)


def plain(spelling: Spelling, text: str, *, share: float = 0.5) -> Record:
    """A record whose tokens are the student's, each with a share of the mass and nothing else listed."""
    tokens = [spelling.bytes_of[i].decode() for i in spelling.tokenizer(text, add_special_tokens=False)["input_ids"]]
    return said(text, *((token, [(token, math.log(share))]) for token in tokens))


def test_targets_by_hand(tokenizer: Any, spelling: Spelling) -> None:
    """Two tokens. At the first, " cards" is one token of the student's and "carding?!" is none: its 1/8 joins the tail.

    Tail of the first place: 1 - 1/2 - 1/4 - 1/8 = 1/8, and 1/8 of the unknown one: 1/4.
    """
    ids = answer(tokenizer, "card payment")
    assert [spelling.bytes_of[i] for i in ids] == [b"card", b" payment", b"<|im_end|>"]
    found = targets_of(
        said(
            "card payment",
            ("card", [("card", LOG[0.5]), (" cards", LOG[0.25]), ("carding?!", LOG[0.125])]),
            (" payment", [(" payment", LOG[0.5])]),
        ),
        spelling,
        ids,
    )
    assert isinstance(found, Targets)
    cards = tokenizer.convert_tokens_to_ids("Ġcards")
    assert found.ids.tolist() == [[ids[0], cards], [ids[1], -1], [-1, -1]]
    np.testing.assert_allclose(np.exp(found.logprobs), [[0.5, 0.25], [0.5, 0], [0, 0]])
    np.testing.assert_allclose(found.tail_mass, [0.25, 0.5, 1.0])
    assert found.soft.tolist() == [True, True, False]
    assert [column.dtype for column in found.arrays] == [np.int64, np.float32, np.float32]


def test_a_position_without_targets_costs_nothing(tokenizer: Any, spelling: Spelling) -> None:
    """All mass in the tail: one outcome of probability 1 for both, whose divergence is 0 whatever the student says."""
    from distillcalc.distill.training.losses_torch import sparse_divergence

    found = targets_of(plain(spelling, "card"), spelling, answer(tokenizer, "card"))
    assert isinstance(found, Targets)
    logits = torch.randn(2, 49_152, generator=torch.Generator().manual_seed(0))
    lost = sparse_divergence(logits, *map(torch.from_numpy, found.arrays))
    assert lost[0] > 0.1
    assert lost[1] == pytest.approx(0.0, abs=1e-5)


def test_an_end_of_turn_that_the_api_lists_is_soft(tokenizer: Any) -> None:
    ends = ("<|im_end|>", [("<|im_end|>", LOG[0.5]), (" payment", LOG[0.25])])
    found = targets_of(said("card", ("card", [("card", LOG[0.5])]), ends), tokenizer, answer(tokenizer, "card"))
    assert isinstance(found, Targets)
    assert found.soft.tolist() == [True, True]
    assert found.ids[1].tolist() == [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("Ġpayment")]
    np.testing.assert_allclose(found.tail_mass, [0.5, 0.25])


def test_names_that_mean_one_token_are_added_up(tokenizer: Any) -> None:
    """A byte written plainly and escaped: 1/4 + 1/8 = 3/8 on one id; the escaped parts of a letter are tokens too."""
    top = [("A", LOG[0.5]), ("x", LOG[0.25]), ("\\x78", LOG[0.125]), ("bytes:\\xe2\\x80", LOG[0.0625])]
    found = targets_of(said("A", ("A", top)), tokenizer, answer(tokenizer, "A"))
    assert isinstance(found, Targets)
    x, dash = tokenizer.convert_tokens_to_ids("x"), tokenizer.convert_tokens_to_ids("âĢ")
    assert found.ids[0].tolist() == [tokenizer.convert_tokens_to_ids("A"), x, dash]
    np.testing.assert_allclose(np.exp(found.logprobs[0]), [0.5, 0.375, 0.0625], rtol=1e-6)
    np.testing.assert_allclose(found.tail_mass[0], 0.0625)


def test_what_the_api_calls_impossible_is_of_unknown_mass(tokenizer: Any) -> None:
    """-9999 says "not among the most likely": no id, the tail keeps what is left; never quite nothing."""
    found = targets_of(
        said("card", ("card", [("cards", LOG[0.5]), (" cards", LOG[0.5])])), tokenizer, answer(tokenizer, "card")
    )
    assert isinstance(found, Targets)
    assert tokenizer.convert_tokens_to_ids("card") not in found.ids[0]
    assert found.tail_mass[0] == pytest.approx(1e-7)


# --- where the API wrote more than the answer


def test_the_answer_after_a_chain_of_thought_and_before_a_line_break(tokenizer: Any) -> None:
    found = targets_of(
        said(
            "card",
            *((token, [(token, LOG[0.25])]) for token in ("It", " is", " card", ".\n", "Answer", ":")),
            ("card", [("card", LOG[0.5])]),
            ("\n", [("\n", LOG[0.25])]),
        ),
        tokenizer,
        answer(tokenizer, "card"),
    )
    assert isinstance(found, Targets)
    np.testing.assert_allclose(np.exp(found.logprobs[0]), [0.5])
    assert found.soft.tolist() == [True, False]  # the student ends where the API broke the line


def test_an_answer_that_goes_on_is_not_the_answer(tokenizer: Any, spelling: Spelling) -> None:
    found = targets_of(plain(spelling, "card payment"), spelling, answer(tokenizer, "card"))
    assert isinstance(found, Mismatch)


# --- splits


def test_another_split_has_no_targets_and_says_where(tokenizer: Any) -> None:
    places = [(token, [(token, LOG[0.5])]) for token in ("car", "d", " payment")]
    found = targets_of(said("card payment", *places), tokenizer, answer(tokenizer, "card payment"))
    assert found == Mismatch(
        "the API splits the answer into other tokens", "'card' ' payment' against 'car' 'd' ' payment'"
    )


def test_another_answer_has_no_targets(tokenizer: Any, spelling: Spelling) -> None:
    found = targets_of(plain(spelling, "refund"), spelling, answer(tokenizer, "card"))
    assert found == Mismatch("the API's tokens do not spell the answer that is learnt", "'card' against 'refund'")


def test_no_log_probabilities(tokenizer: Any) -> None:
    found = targets_of(record("r"), tokenizer, answer(tokenizer, "card"))
    assert found == Mismatch("the API gave no log-probabilities")


def test_parts_of_a_letter_come_as_escapes(tokenizer: Any, spelling: Spelling) -> None:
    """An emoji that the student has in pieces, as OpenAI's API writes them."""
    ids = answer(tokenizer, "ok 🫠")
    parts = [spelling.bytes_of[i] for i in ids[:-1]]
    assert any(_is_part(part) for part in parts)
    names = ["".join(f"\\x{byte:02x}" for byte in part) if _is_part(part) else part.decode() for part in parts]
    found = targets_of(said("ok 🫠", *((name, [(name, LOG[0.5])]) for name in names)), spelling, ids)
    assert isinstance(found, Targets)
    assert found.ids[:-1, 0].tolist() == ids[:-1]


def test_parts_of_a_letter_as_replacement_characters_are_hard_labels_only(tokenizer: Any, spelling: Spelling) -> None:
    """What the API wrote cannot be told there; the record keeps its other positions."""
    ids = answer(tokenizer, "ok 🫠")
    parts = [spelling.bytes_of[i] for i in ids[:-1]]
    names = [part.decode(errors="replace") for part in parts]
    found = targets_of(said("ok 🫠", *((name, [(name, LOG[0.5])]) for name in names)), spelling, ids)
    assert isinstance(found, Targets)
    assert found.soft.tolist() == [*(not _is_part(part) for part in parts), False]
    assert (found.tail_mass[~found.soft] == 1).all()
    alone = targets_of(said("🫠", *((name, [(name, LOG[0.5])]) for name in names if "\ufffd" in name)), spelling,
                       [i for i, part in zip(ids, parts, strict=False) if _is_part(part)])  # fmt: skip
    assert alone == Mismatch("the API wrote none of the answer's tokens readably")


def _is_part(part: bytes) -> bool:
    return "\ufffd" in part.decode(errors="replace")


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(min_size=1, max_size=30).filter(lambda t: t.strip() and "\ufffd" not in t), share=st.floats(0.01, 0.99)
)
def test_the_students_own_tokens_always_fit(tokenizer: Any, spelling: Spelling, text: str, share: float) -> None:
    """Any text, split as the student splits it and written as an API writes it, has targets at every token."""
    ids = answer(tokenizer, text)
    parts = [spelling.bytes_of[i] for i in ids[:-1]]
    assume(b"".join(parts) == text.encode() and text.strip())  # it has no token for some control characters
    assume("\ufffd" not in text)
    names = ["".join(f"\\x{byte:02x}" for byte in part) if _is_part(part) else part.decode() for part in parts]
    found = targets_of(said(text, *((name, [(name, math.log(share))]) for name in names)), spelling, ids)
    assert isinstance(found, Targets)
    assert found.ids[:-1, 0].tolist() == ids[:-1]
    np.testing.assert_allclose(np.exp(found.logprobs).sum(1) + found.tail_mass, 1, rtol=1e-5)


# --- spelling


def test_every_token_of_the_packaged_model_is_spelt_once(spelling: Spelling) -> None:
    assert all(len(ids) == 1 for ids in spelling.ids_of.values())
    assert len(spelling.ids_of) == 49_152


def sentencepiece() -> PreTrainedTokenizerFast:
    """A tokenizer as Llama 2's: a space before a text, spaces as a sign, bytes as <0x..>."""
    pieces = ["<unk>", "</s>", "<0x41>", "<0xE2>", "A", "▁", "▁card", "card", "▁pay"]
    vocabulary: list[tuple[str, float]] = [(piece, -float(n)) for n, piece in enumerate(pieces)]
    made = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first")
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens([AddedToken("</s>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>")


def test_a_tokenizer_that_puts_a_space_before_a_text() -> None:
    """Its "▁card" at the beginning is what the API calls "card", as all tokens there; later ones keep their names."""
    student = sentencepiece()
    ids = answer(student, "card pay")
    assert student.convert_ids_to_tokens(ids) == ["▁card", "▁pay", "</s>"]
    found = targets_of(
        said(
            "card pay",
            ("card", [("card", LOG[0.5]), ("pay", LOG[0.25])]),
            (" pay", [(" pay", LOG[0.5]), ("card", LOG[0.25])]),
        ),
        student,
        ids,
    )
    assert isinstance(found, Targets)
    assert [student.convert_ids_to_tokens(row.tolist()) for row in found.ids[:2]] == [
        ["▁card", "▁pay"],
        ["▁pay", "card"],
    ]


def test_a_byte_of_its_own_is_not_the_letter() -> None:
    spelling = Spelling(sentencepiece())
    assert spelling.ids_of[b"A"] == (4,)
    assert spelling.ids_of[b"\xe2"] == (3,)


def test_a_tokenizer_of_words() -> None:
    made = Tokenizer(models.WordLevel({"<end>": 0, "yes": 1, "no": 2}, unk_token="<end>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    student = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>")
    found = targets_of(said("yes", ("yes", [("yes", LOG[0.5]), ("no", LOG[0.25])])), student, [1, 0])
    assert isinstance(found, Targets)
    assert found.ids.tolist() == [[1, 2], [-1, -1]]


# --- many records


def test_a_report_counts_what_fits_and_why_the_rest_does_not(tokenizer: Any, spelling: Spelling) -> None:
    """Three of five fit; of their 2 + 1 + 1 tokens and three ends four are soft, each with half its mass known."""
    samples = [
        ("a", plain(spelling, "card payment"), answer(tokenizer, "card payment")),
        ("b", plain(spelling, "card"), answer(tokenizer, "card")),
        ("c", plain(spelling, "refund"), answer(tokenizer, "card")),
        ("d", record("d"), answer(tokenizer, "card")),
        ("e", plain(spelling, "card"), answer(tokenizer, "card")),
    ]
    found = collect_targets(samples, spelling)
    report = found.report
    assert (report.records, report.with_targets, report.positions, report.soft_positions) == (5, 3, 7, 4)
    assert report.why_not == {
        "the API's tokens do not spell the answer that is learnt": 1,
        "the API gave no log-probabilities": 1,
    }
    assert report.known_mass == pytest.approx(0.5)
    assert str(report).startswith("3 of 5 records have soft labels; 1: the API")
    assert report.example["the API gave no log-probabilities"] == "d"
    assert found.of("c", 2).soft.tolist() == [False, False]
    assert found.of("c", 2).ids.shape == (2, found.k)
    assert found.of("b", 2) is found.by_sample["b"]


def test_fewer_than_half_are_refused(tokenizer: Any, spelling: Spelling) -> None:
    fits = ("a", plain(spelling, "card"), answer(tokenizer, "card"))
    not_ = [(name, record(name), answer(tokenizer, "card")) for name in "bc"]
    with pytest.raises(InputError, match=r"1 of 3 records have soft labels; 2: .*hard labels instead; uld does not"):
        collect_targets([fits, *not_], spelling)
    assert collect_targets([fits, not_[0]], spelling).report.with_targets == 1  # half is enough
    with pytest.raises(InputError, match="0 of 0"):
        collect_targets([], tokenizer)


def test_all_targets_have_one_width_and_go_through_the_cache(
    tokenizer: Any, spelling: Spelling, tmp_path: Path
) -> None:
    wide = said("card", ("card", [("card", LOG[0.5]), (" card", LOG[0.25]), ("cards", LOG[0.125])]))
    samples = [
        ("a", plain(spelling, "card payment"), answer(tokenizer, "card payment")),
        ("b", wide, answer(tokenizer, "card")),
    ]
    found = collect_targets(samples, spelling)
    assert {made.ids.shape[1] for made in found.by_sample.values()} == {found.k}
    assert found.k == 3
    of: dict[str, Any] = {"tokenizer": "t", "data": "d", "temperature": 1.0}
    with LogitCacheWriter(tmp_path, k=found.k, vocabulary=49_152, **of) as out:
        for name, made in found.by_sample.items():
            out.add(name, *made.arrays)
        out.finish()
    ids, logprobs, tail = LogitCache.open(tmp_path, **of).batch(["b", "a"])
    wanted = [np.concatenate([found.by_sample[name].arrays[part] for name in "ba"]) for part in range(3)]
    np.testing.assert_array_equal(ids, wanted[0])
    np.testing.assert_allclose(logprobs, wanted[1], rtol=2**-11)
    np.testing.assert_array_equal(tail, wanted[2])
