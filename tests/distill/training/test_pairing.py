"""Student and teacher held against each other: ids, layers, heads, and texts in the teacher's own tokens."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config, GraniteConfig

from distillcalc.distill.training.batches import Collator
from distillcalc.distill.training.lesson_torch import check_head, head_of, logits_of
from distillcalc.distill.training.losses_torch import uld
from distillcalc.distill.training.pairing import OtherTokens, layer_pairs, pair, size_notes
from distillcalc.distill.training.recipe import Objective
from distillcalc.errors import InputError
from tests.distill.training import tiny
from tests.distill.training.tiny import one_thread  # noqa: F401

SOFT = Objective(hard=0.5, soft=0.5)
ULD = Objective(hard=0.5, soft=0.5, divergence="uld")


# vocabularies


def test_one_tokenizer_shares_all_ids() -> None:
    student = tiny.student(tiny.llama())
    assert pair(student, (tiny.llama(seed=1), tiny.tokenizer()), SOFT).vocabulary is None
    padded = tiny.llama(seed=1, vocabulary=320)
    assert pair(student, (padded, tiny.tokenizer()), SOFT).vocabulary == 300  # of 320 rows, the tokenizer's


def test_another_tokenizer_is_refused_but_for_uld() -> None:
    student, other = tiny.student(tiny.llama()), tiny.tokenizer(reverse=True)
    for objective in (SOFT, Objective(features=1.0), Objective(attention=1.0)):
        with pytest.raises(InputError, match="their tokenizers are not the same"):
            pair(student, (tiny.llama(seed=1), other), objective)
    paired = pair(student, (tiny.llama(seed=1), other), ULD)
    assert paired.vocabulary is None
    assert isinstance(paired.other_tokens, OtherTokens)
    for more in ({"features": 1.0}, {"attention": 1.0}):
        with pytest.raises(InputError, match="does not go together with features or attention"):
            pair(student, (tiny.llama(seed=1), other), ULD.model_copy(update=more))
    with pytest.raises(InputError, match="uld compares answers alone"):
        pair(student, (tiny.llama(seed=1), other), ULD.model_copy(update={"soft_on": "all"}))


def test_rows_of_the_head_that_no_token_has_change_nothing(tmp_path: Path) -> None:
    """A teacher of one family is padded to another size: a student equal to it is 0 away, and learns the same."""
    plain = tiny.llama(seed=1)
    padded = tiny.llama(seed=2, vocabulary=320)
    with torch.no_grad():
        for name, parameter in padded.state_dict().items():
            whole = plain.state_dict()[name]
            parameter[: len(whole)] = whole
    same, taught, cut = (
        tiny.train(model, tiny.examples(), tmp_path / name, objective=SOFT, teacher=(teacher, tiny.tokenizer()))
        for name, model, teacher in (
            ("same", plain, padded),
            ("taught", tiny.llama(), plain),
            ("cut", tiny.llama(), padded),
        )
    )
    assert same.losses[0]["soft"] == pytest.approx(0, abs=1e-6)
    assert taught.losses[0]["soft"] > 0.1
    assert tiny.curve(cut) == pytest.approx(tiny.curve(taught), abs=1e-5)


# sizes and layers


def test_a_student_that_is_larger_is_told() -> None:
    student = tiny.student(tiny.llama(hidden=48))
    (note,) = size_notes(student, tiny.llama())
    assert "it will cost more to serve" in note
    assert size_notes(tiny.student(tiny.llama()), student.model) == ()


@pytest.mark.parametrize(
    ("own", "other", "kept", "pairs"),
    [
        (2, 4, (), ((1, 2), (2, 4))),  # round(i 4 / 2)
        (3, 4, (), ((1, 1), (2, 3), (3, 4))),  # 1.33, 2.67, 4
        (4, 2, (), ((1, 1), (2, 1), (3, 2), (4, 2))),  # a deeper student: .5 and 1.5 round to even, and at least 1
        (2, 4, (0, 3), ((1, 3), (2, 4))),  # layer 0 answers for 0, 1 and 2; the last for the last
        (3, 6, (0, 2, 5), ((1, 2), (2, 5), (3, 6))),
        (2, 4, (0, 1, 3), ((1, 2), (2, 4))),  # of another student: not believed
    ],
)
def test_layers_are_paired(own: int, other: int, kept: tuple[int, ...], pairs: tuple[tuple[int, int], ...]) -> None:
    found = layer_pairs(tiny.llama(layers=own), tiny.llama(layers=other), None, kept)
    assert found == pairs


def test_pairs_that_a_person_gives_must_exist() -> None:
    student, teacher = tiny.llama(layers=2), tiny.llama(layers=4)
    assert layer_pairs(student, teacher, [(1, 4)]) == ((1, 4),)
    for wrong in ((0, 1), (3, 1), (1, 5)):
        with pytest.raises(InputError, match="pairs the student's layers 1 to 2 with the teacher's 1 to 4"):
            layer_pairs(student, teacher, [wrong])


# heads

SMALL: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
HEADS = {
    "gemma2": (Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=2.0), 1.0, 2.0),
    "cohere": (CohereConfig(**SMALL, logit_scale=0.25), 0.25, None),
    "granite": (GraniteConfig(**SMALL, logits_scaling=8.0), 0.125, None),  # divides
}


@pytest.mark.parametrize("family", HEADS)
def test_heads_that_scale_and_cap_are_known(tmp_path: Path, family: str) -> None:
    config, scale, cap = HEADS[family]
    model = tiny.model_of(config).eval()
    head = head_of(model)
    assert (head.scale, head.softcap) == (scale, cap)
    check_head(model)
    ids = torch.tensor([tiny.examples().sequences[1].ids])
    with torch.no_grad():
        logits = model(ids).logits
        ours = logits_of(model.get_decoder()(ids).last_hidden_state, head)
    assert torch.allclose(ours, logits, atol=1e-5)
    plain = logits_of(model.get_decoder()(ids).last_hidden_state, type(head)(head.weight))
    assert not torch.allclose(plain, logits, rtol=1e-2, atol=1e-2)  # the scale or the cap are felt
    fitted = tiny.train(model, tiny.examples(), tmp_path, settings={"steps": 2})
    first = 0.0
    with torch.no_grad():
        for one in tiny.examples().sequences:
            log_q = model(torch.tensor([one.ids])).logits[0].log_softmax(-1)
            first -= sum(float(log_q[place - 1, one.ids[place]]) for place in range(one.start, len(one.ids)))
    assert fitted.losses[0]["loss"] == pytest.approx(first / tiny.examples().supervised, abs=1e-5)


def test_a_head_that_is_none_is_refused(tmp_path: Path) -> None:
    class Bent(torch.nn.Linear):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return super().forward(hidden).square()

    model = tiny.llama(tie_word_embeddings=False)
    model.lm_head = Bent(32, 300, bias=False)
    model.train()
    with pytest.raises(InputError, match="the logits of LlamaForCausalLM are not its last hidden states"):
        check_head(model)
    assert model.training  # as it was
    with pytest.raises(InputError, match="losses here would be of another model"):
        tiny.train(model, tiny.examples(), tmp_path)
    with pytest.raises(InputError, match="losses here would be of another model"):
        tiny.train(tiny.llama(), tiny.examples(), tmp_path, objective=SOFT, teacher=(model, tiny.tokenizer()))


def test_a_head_with_a_bias_is_read() -> None:
    model = tiny.llama(tie_word_embeddings=False)
    model.lm_head = torch.nn.Linear(32, 300)
    torch.nn.init.normal_(model.lm_head.bias)
    check_head(model)
    assert head_of(model).bias is model.lm_head.bias


# other tokens


class Words:
    """A tokenizer of whole words, so that places can be counted by hand."""

    bos_token_id, eos_token_id, pad_token_id = None, 1, 0
    eos_token = "</s>"

    def __init__(self, begin: int | None = None, end: bool = False) -> None:
        self.begin, self.end = begin, end
        self.read: list[str] = []

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        self.read.append(text)
        ids = [10 + len(word) for word in text.split()]
        if add_special_tokens and self.begin is not None:
            ids = [self.begin, *ids]
        return {"input_ids": [*ids, 1] if add_special_tokens and self.end else ids}


def test_answers_stand_side_by_side_as_far_as_both_go() -> None:
    tokens = tiny.tokenizer()
    data = tiny.examples(2)
    batch = Collator(0)(list(data.dataset()))
    teacher = Words()
    found = OtherTokens(tokens, teacher)(batch)
    # Sequence 0: 19 tokens, of which 3 are the answer ("n", "o", end); its prompt is three words to the teacher
    # ("<|start|>user", "this", "is", "text", "number", "0<|end|>", "<|start|>assistant": seven), its answer is "no".
    assert [len(s.ids) - s.start for s in data.sequences] == [3, 19]
    assert teacher.read[1] == "no"
    prompt = "<|start|>user\nthis is text number 0<|end|>\n<|start|>assistant\n"
    assert teacher.read[0] == prompt
    assert teacher.read[3] == "yes, and here is why it is so"  # eight words, the student's nineteen tokens less the end
    # The teacher has 7 + 2 tokens ("no", end) and predicts them at 6 and 7; the student has three and predicts the
    # first two of them at 15 and 16, before its answer's places 16 and 17.
    first = data.sequences[0].start
    assert found["uld_student"][:2].tolist() == [first - 1, first]
    assert found["uld_ids"].shape == (2, 9 + 9)  # the second: nine words ("of some" more), "yes, ... so" and the end
    assert found["uld_places"][:2].tolist() == [6, 7]
    assert found["uld_mask"].sum(1).tolist() == [9, 18]
    # The second row begins at the width of the first: nine words asked, predicted from place 8 on; nine said.
    width, start = batch["input_ids"].shape[1], data.sequences[1].start
    assert found["uld_student"][2:].tolist() == [width + start - 1 + k for k in range(9)]
    assert found["uld_places"][2:].tolist() == [18 + 8 + k for k in range(9)]


def test_a_teacher_begins_a_text_as_it_is_used_to() -> None:
    batch = Collator(0)(list(tiny.examples(1).dataset()))
    plain, begun = (OtherTokens(tiny.tokenizer(), Words(begin))(batch) for begin in (None, 5))
    assert begun["uld_ids"][0].tolist() == [5, *plain["uld_ids"][0].tolist()]
    assert begun["uld_places"].tolist() == [place + 1 for place in plain["uld_places"].tolist()]
    ended = OtherTokens(tiny.tokenizer(), Words(5, end=True))(batch)  # and does not end it where the answer begins
    assert ended["uld_ids"].tolist() == begun["uld_ids"].tolist()


def test_what_the_student_wrote_is_compared_though_it_is_no_label() -> None:
    batch = Collator(0)(list(tiny.examples(2).dataset()))
    plain = OtherTokens(tiny.tokenizer(), Words())(batch)
    hidden = OtherTokens(tiny.tokenizer(), Words())(
        batch | {"shift_labels": torch.full_like(batch["shift_labels"], -100)}
    )
    assert all(torch.equal(plain[name], hidden[name]) for name in plain)


def test_a_student_learns_from_a_teacher_with_other_tokens(tmp_path: Path) -> None:
    other = tiny.tokenizer(280, reverse=True)
    teacher = tiny.llama(seed=1, hidden=48, vocabulary=len(other))
    # Sharp, as a trained teacher is; a student at random is flat, so there is something to learn.
    objective = Objective(hard=0.0, soft=1.0, divergence="uld")
    fitted = tiny.train(
        tiny.llama(), tiny.examples(), tmp_path, objective=objective, teacher=(teacher, other),
        settings={"steps": 20, "micro_batch": 4}, validation=tiny.examples(),
    )  # fmt: skip
    losses = tiny.curve(fitted, "soft")
    assert tiny.curve(fitted) == pytest.approx(losses, abs=1e-6)
    assert losses[-1] < 0.7 * losses[0]
    # The first by hand: both models alone on each sequence, ranked probabilities compared at the places of the answer.
    student, total = tiny.llama().eval(), 0.0
    for one in tiny.examples().dataset():
        batch = Collator(0)([one])
        found = OtherTokens(tiny.tokenizer(), other)(batch)
        with torch.no_grad():
            mine = student(batch["input_ids"]).logits[0][found["uld_student"]]
            theirs = teacher(found["uld_ids"]).logits[0][found["uld_places"]]
            total += float(uld(mine, theirs).sum())
    assert losses[0] == pytest.approx(total / tiny.examples().supervised, abs=1e-5)


def test_uld_is_exact_over_parts_of_a_batch(tmp_path: Path) -> None:
    other = tiny.tokenizer(280, reverse=True)
    teacher = tiny.llama(seed=1, hidden=48, vocabulary=len(other))
    found = [
        tiny.train(
            tiny.llama(), tiny.examples(), tmp_path / str(part), objective=ULD, teacher=(teacher, other),
            settings={"micro_batch": part},
        )
        for part in (8, 1)
    ]  # fmt: skip
    assert tiny.curve(found[1]) == pytest.approx(tiny.curve(found[0]), abs=1e-5)


def test_other_tokens_need_rows_of_their_own() -> None:
    packed = Collator(0, packing=True)(list(tiny.examples(2).dataset()))
    with pytest.raises(InputError, match="packing and uld do not go together"):
        OtherTokens(tiny.tokenizer(), copy.deepcopy(Words()))(packed)


def test_loading_what_was_saved_gives_the_family_back(tmp_path: Path) -> None:
    config, *_ = HEADS["gemma2"]
    fitted = tiny.train(tiny.model_of(config), tiny.examples(), tmp_path, settings={"steps": 1})
    assert AutoModelForCausalLM.from_pretrained(fitted.folder).config.final_logit_softcapping == 2.0
