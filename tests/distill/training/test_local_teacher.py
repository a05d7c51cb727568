"""The teacher in process: labels scored as a tree equal labels scored one by one, batches equal single prompts."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from distillcalc.distill.packaged import smollm2
from distillcalc.distill.records import Dataset
from distillcalc.distill.rows import Rows
from distillcalc.distill.task import Task
from distillcalc.distill.training import local_teacher
from distillcalc.distill.training.label_tree import ancestors, label_tree, path_scores, tree_mask
from distillcalc.distill.training.local_teacher import LocalTeacher, SoftLabels, label_locally, quiet
from distillcalc.distill.training.prompting import end_of_turn, prompt_ids
from distillcalc.errors import DistillcalcError, InputError

LETTERS = "abcdefghijklmnopqrstuvwxyz_ ?.\n"
TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SPECIAL = ("<pad>", "<end>", "<system>", "<user>", "<assistant>")
LABELS = ("card_lost", "card_late", "card", "cash_fee", "top_up")
ASKED = ("where is my card?", "a fee", "it is late. i lost it", "top up", "why was i charged a fee for cash?")


def letter_tokenizer(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """A token for each letter, and the five that write a chat."""
    words = {token: i for i, token in enumerate((*SPECIAL, *LETTERS))}
    tokenizer = Tokenizer(WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = Split(Regex("."), "isolated")
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", additional_special_tokens=list(SPECIAL[2:]),
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    made.chat_template = template
    return made


SHAPE: dict[str, Any] = {
    "vocab_size": len(SPECIAL) + len(LETTERS), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": None,
    "eos_token_id": 1,
}  # fmt: skip


def spread(model: Any) -> Any:
    """Weights that are large enough for probabilities to differ."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6.0)
    return model


def llama(seed: int = 0, **changed: Any) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return spread(
        LlamaForCausalLM(LlamaConfig(**SHAPE | {"num_key_value_heads": 2, "initializer_range": 0.05} | changed))
    )


def teacher(model: Any = None, template: str | None = TEMPLATE) -> LocalTeacher:
    return LocalTeacher(model if model is not None else llama(), letter_tokenizer(template), "tiny")


def asked(*texts: str, system: str = "name the intent.") -> list[list[dict[str, str]]]:
    head = [{"role": "system", "content": system}] if system else []
    return [[*head, {"role": "user", "content": text}] for text in texts]


def one_by_one(who: LocalTeacher, prompts: Sequence[Any], labels: Sequence[str]) -> Any:
    """Log-probability of each label after each prompt: whole sequences, one at a time, no cache, no mask."""
    scores = np.zeros((len(prompts), len(labels)))
    for row, messages in enumerate(prompts):
        start = prompt_ids(who.tokenizer, messages)
        for column, label in enumerate(labels):
            said = [*who.tokenizer(label, add_special_tokens=False)["input_ids"], end_of_turn(who.tokenizer, messages)]
            with torch.no_grad():
                logits = who.model(torch.tensor([start + said]), use_cache=False).logits[0].double()
            logp = torch.log_softmax(logits, -1)
            scores[row, column] = sum(float(logp[len(start) + i - 1, token]) for i, token in enumerate(said))
    return scores


def test_a_tree_holds_what_labels_share_once() -> None:
    # Labels 1 2 9, 1 3 9 and 1 2 4 9 (9 ends the turn). Nodes besides the prompt's end: 1, 12, 13, 124. Edges: to 1,
    # 12 and its end, 13 and its end, 124 and its end: seven, where the labels have ten tokens.
    tree = label_tree([(1, 2, 9), (1, 3, 9), (1, 2, 4, 9)])
    assert tree.tokens == (1, 2, 3, 4)
    assert tree.depths == (1, 2, 2, 3)
    assert tree.parents == (0, 1, 1, 2)
    assert len(tree.edges) == 7
    assert tree.paths[0][:2] == tree.paths[2][:2]
    assert ancestors(tree) == [
        [True, False, False, False],
        [True, True, False, False],
        [True, False, True, False],
        [True, True, False, True],
    ]
    # Behind a prompt of one token and one of padding, with one kept before them: who sees kept, padding, prompt, nodes.
    mask = tree_mask(torch.tensor([[0, 1]]), 1, tree, torch.float32)[0, 0] == 0
    assert mask[1].tolist() == [True, False, True, False, False, False, False]
    assert mask[4].tolist() == [True, False, True, True, False, True, False]


def test_paths_sum_their_edges() -> None:
    # Uniform over four tokens everywhere: a label of k tokens has k log(1/4); a logit of log 2 at node 0 gives token 1
    # the probability 2/5.
    tree = label_tree([(1, 3), (2, 3)])
    logits = torch.zeros(1, 3, 4)
    logits[0, 0, 1] = math.log(2)
    np.testing.assert_allclose(
        path_scores(logits, tree).numpy(), [[math.log(2 / 5 / 4), math.log(1 / 5 / 4)]], rtol=1e-6
    )


@pytest.mark.parametrize("template", [TEMPLATE, None])
def test_labels_as_a_tree_equal_labels_one_by_one(template: str | None) -> None:
    who, prompts = teacher(template=template), asked(*ASKED)
    expected = one_by_one(who, prompts, LABELS)
    np.testing.assert_allclose(who.label_logprobs(prompts, LABELS), expected, atol=1e-4)
    odds = np.exp(expected)
    found = who.label_distribution(prompts, LABELS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, odds / odds.sum(1, keepdims=True), atol=1e-4)
    assert np.ptp(expected, axis=0).max() > 1  # prompts differ, and so do their answers
    tokens = who._label_tokens(LABELS, prompts[0])
    assert who._tree_holds(prompt_ids(who.tokenizer, prompts[0]), tokens)  # it was the tree that scored them
    assert who._shared([prompt_ids(who.tokenizer, p) for p in prompts])[0] > 10


@given(
    labels=st.lists(st.text("abc", min_size=1, max_size=5), min_size=2, max_size=6, unique=True),
    texts=st.lists(st.text("abc d", min_size=1, max_size=9), min_size=1, max_size=4),
)
@settings(max_examples=15)
def test_any_labels_after_any_prompts(labels: list[str], texts: list[str]) -> None:
    who, prompts = teacher(), asked(*texts, system="")
    found = who.label_logprobs(prompts, labels)
    np.testing.assert_allclose(found, one_by_one(who, prompts, labels), atol=1e-4)
    assert (np.exp(found).sum(1) <= 1 + 1e-6).all()  # no answer is two labels


def test_a_label_more_changes_no_ratio_of_the_others() -> None:
    who, prompts = teacher(), asked(*ASKED)
    few, more = who.label_distribution(prompts, LABELS[:3]), who.label_distribution(prompts, LABELS)
    np.testing.assert_allclose(more[:, :3] / more[:, :3].sum(1, keepdims=True), few, rtol=1e-3)


def test_the_mass_of_a_closed_set_of_one_letter_answers() -> None:
    # By the chain rule: summed over all first tokens but the end, P(token) x P(end | token) is the probability of an
    # answer of one token, which the logits of the prompt and of its one-token continuations give.
    who, prompts = teacher(), asked("a fee", "late")
    singles = [c for c in LETTERS if c.strip()]
    found = np.exp(who.label_logprobs(prompts, singles)).sum(1)
    for row, messages in enumerate(prompts):
        start = prompt_ids(who.tokenizer, messages)
        ids = who.tokenizer.convert_tokens_to_ids(singles)
        rows = torch.tensor([[*start, token] for token in ids])
        with torch.no_grad():
            p = torch.softmax(who.model(rows).logits.double(), -1)
        expected = sum(float(p[i, -2, token] * p[i, -1, 1]) for i, token in enumerate(ids))
        assert found[row] == pytest.approx(expected, rel=1e-4)


def without_a_tree(name: str) -> Any:
    torch.manual_seed(0)
    if name == "sliding window":
        return spread(MistralForCausalLM(MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=5)))
    return spread(BloomForCausalLM(BloomConfig(
        vocab_size=SHAPE["vocab_size"], hidden_size=32, n_layer=2, n_head=4, eos_token_id=1, pad_token_id=0,
    )))  # fmt: skip


@pytest.mark.parametrize("name", ["sliding window", "positions of its own"])
def test_models_that_read_no_tree_are_scored_sequence_by_sequence(name: str) -> None:
    who, prompts = teacher(without_a_tree(name)), asked(*ASKED)
    np.testing.assert_allclose(who.label_logprobs(prompts, LABELS), one_by_one(who, prompts, LABELS), atol=1e-4)


def test_learned_positions_read_a_tree() -> None:
    torch.manual_seed(0)
    model = spread(GPT2LMHeadModel(GPT2Config(
        vocab_size=SHAPE["vocab_size"], n_embd=32, n_layer=2, n_head=4, n_positions=128, eos_token_id=1, bos_token_id=1,
    )))  # fmt: skip
    who, prompts = teacher(model), asked(*ASKED)
    ids = prompt_ids(who.tokenizer, prompts[0])
    assert who._shares
    assert who._tree_holds(ids, who._label_tokens(LABELS, prompts[0]))
    np.testing.assert_allclose(who.label_logprobs(prompts, LABELS), one_by_one(who, prompts, LABELS), atol=1e-4)


def alone(who: LocalTeacher, messages: Any, most: int) -> tuple[list[int], float]:
    """Greedy tokens of one prompt by reading the whole text anew for each, and their mean log-probability."""
    ids, written, total = prompt_ids(who.tokenizer, messages), [], 0.0
    while len(written) < most and (not written or written[-1] != 1):
        with torch.no_grad():
            logp = torch.log_softmax(who.model(torch.tensor([ids + written]), use_cache=False).logits[0, -1], -1)
        written.append(int(logp.argmax()))
        total += float(logp.max())
    return written, total / len(written)


@pytest.mark.parametrize("batch_size", [1, 3, None])
@pytest.mark.parametrize("kind", ["full attention", "sliding window"])
def test_answers_in_batches_equal_answers_alone(kind: str, batch_size: int | None) -> None:
    model = llama(3) if kind == "full attention" else without_a_tree("sliding window")
    with torch.no_grad():
        model.lm_head.weight[1] *= 1.5  # so that some answers end by themselves
    who, prompts = teacher(model), asked(*ASKED, "lost", "cash?", "up")
    spoken = who.answers(prompts, max_new_tokens=8, batch_size=batch_size)
    assert {said.finish_reason for said in spoken} == {"stop", "length"}
    for messages, said in zip(prompts, spoken, strict=True):
        written, mean = alone(who, messages, 8)
        assert said.text == who.tokenizer.decode(written, skip_special_tokens=True)
        assert said.finish_reason == ("stop" if written[-1] == 1 else "length")
        assert (said.input_tokens, said.output_tokens) == (len(prompt_ids(who.tokenizer, messages)), len(written))
        assert said.mean_logprob == pytest.approx(mean, abs=1e-4)


def test_draws_follow_the_seed_and_not_the_batch() -> None:
    who, prompts = teacher(), asked(*ASKED)
    first = [said.text for said in who.answers(prompts, max_new_tokens=6, temperature=1.0, seed=5)]
    again = [said.text for said in who.answers(prompts, max_new_tokens=6, temperature=1.0, seed=5, batch_size=2)]
    other = [said.text for said in who.answers(prompts, max_new_tokens=6, temperature=1.0, seed=6)]
    cold = [said.text for said in who.answers(prompts, max_new_tokens=6, temperature=1e-4, seed=5)]
    assert first == again
    assert first != other
    assert cold == [said.text for said in who.answers(prompts, max_new_tokens=6)]


def test_draws_have_the_models_frequencies() -> None:
    # One token drawn 400 times at temperature 2: the share of the likeliest token is within four standard errors.
    who = teacher()
    prompts = asked(*["a fee"] * 400)
    with torch.no_grad():
        logits = who.model(torch.tensor([prompt_ids(who.tokenizer, prompts[0])])).logits[0, -1]
    expected = torch.softmax(logits / 2.0, -1)
    token = int(expected[5:].argmax()) + 5  # not one that the text leaves out
    drawn = [said.text for said in who.answers(prompts, max_new_tokens=1, temperature=2.0, batch_size=100)]
    p = float(expected[token])
    assert abs(drawn.count(who.tokenizer.decode([token])) / 400 - p) < 4 * math.sqrt(p * (1 - p) / 400)


def test_progress_ends_at_all_prompts() -> None:
    told: list[tuple[int, int]] = []
    teacher().answers(asked(*ASKED), max_new_tokens=2, batch_size=2, progress=lambda *at: told.append(at))
    teacher().label_logprobs(asked(*ASKED), LABELS, progress=lambda *at: told.append(at))
    assert [at for at in told if at == (5, 5)] == [(5, 5), (5, 5)]
    assert teacher().answers([], max_new_tokens=2) == []
    assert teacher().label_distribution([], LABELS).shape == (0, 5)


@pytest.mark.parametrize(
    ("labels", "says"),
    [(["card"], "two labels or more. Got 1"), (["card", "card"], "are the same tokens")],
)
def test_labels_that_are_no_choice_are_refused(labels: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        teacher().label_distribution(asked("a fee"), labels)


def test_what_cannot_be_answered_is_refused() -> None:
    who = teacher()
    with pytest.raises(InputError, match=r"max_new_tokens must be at least 1\. Got 0"):
        who.answers(asked("a fee"), max_new_tokens=0)
    with pytest.raises(InputError, match=r"temperature must be 0 or above\. Got -1"):
        who.answers(asked("a fee"), max_new_tokens=1, temperature=-1)
    with pytest.raises(InputError, match=r"prompt 1 has \d+ tokens.*more than the 128 of tiny"):
        who.answers(asked("a fee", "a" * 120), max_new_tokens=8)
    config = MambaConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, state_size=4)
    with pytest.raises(InputError, match="MambaForCausalLM keeps no keys and values"):
        LocalTeacher(MambaForCausalLM(config), letter_tokenizer(), "mamba")
    nameless = letter_tokenizer(None)
    nameless.eos_token = None
    with pytest.raises(InputError, match="has no token that ends a text"):
        LocalTeacher(llama(), nameless, "endless")


def test_a_folder_and_an_adapter_are_loaded_and_merged(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    model = llama()
    model.save_pretrained(tmp_path / "big")
    letter_tokenizer().save_pretrained(tmp_path / "big")
    with quiet():
        adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.3)
    adapted.save_pretrained(tmp_path / "own")
    prompts = asked(*ASKED)
    expected = one_by_one(LocalTeacher(adapted.merge_and_unload(), letter_tokenizer(), "merged"), prompts, LABELS)
    loaded = LocalTeacher.load(tmp_path / "big", tmp_path / "own", "cpu")
    plain = LocalTeacher.load(tmp_path / "big", device="cpu", name="the big one")
    assert (loaded.name, plain.name) == ("big+own", "the big one")
    assert loaded.model.dtype == torch.float32
    assert not loaded.model.training
    np.testing.assert_allclose(loaded.label_logprobs(prompts, LABELS), expected, atol=1e-4)
    assert abs(plain.label_logprobs(prompts, LABELS) - expected).max() > 0.01
    with pytest.raises(InputError, match="no folder"):
        LocalTeacher.load(tmp_path / "nothing", device="cpu")


TASK = Task(name="cards", labels=("card_lost", "fee", "top_up"), system="name the intent.", instruction=False)
INPUTS = [
    {"text": "where is my card?", "id": "a", "truth": "card_lost"},
    {"text": "", "id": "b", "truth": "fee"},
    {"text": "a fee", "id": "c", "truth": "fee"},
]
ROWS = Rows(INPUTS, id="id", human_label="truth")


def test_rows_labelled_here_are_records_like_paid_ones(tmp_path: Path) -> None:
    who = teacher()
    told: list[tuple[int, int]] = []
    data, soft = label_locally(who, TASK, ROWS, max_new_tokens=4, soft=True, progress=lambda *at: told.append(at))
    plain = label_locally(who, TASK, ROWS, max_new_tokens=4)
    assert [(r.answer, r.problems) for r in data] == [(r.answer, r.problems) for r in plain]
    assert told[-1] == (4, 4)
    assert [r.id for r in data] == ["a", "c"]
    first = data.records[0]
    assert first.messages == TASK.messages({"text": "where is my card?"})
    assert (first.origin.teacher, first.origin.host, first.origin.usd) == ("tiny", "localhost", "0")
    assert first.origin.input_tokens == len(prompt_ids(who.tokenizer, first.messages))
    assert first.origin.output_tokens >= 1
    assert first.origin.latency_s is not None
    assert first.human_label == "card_lost"
    assert first.is_right is False  # a model of random weights
    assert first.problems
    assert data.card["rejected"] == [{"row": 2, "reason": "text is empty", "text": data.card["rejected"][0]["text"]}]
    assert data.card["records"]["total"] == 2
    assert soft.ids == ("a", "c")
    np.testing.assert_allclose(
        soft.probabilities, who.label_distribution([r.messages for r in data], list(TASK.labels or ())), atol=1e-6
    )
    assert Dataset.load(data.save(tmp_path / "labels.jsonl")).records == data.records


class Knows(LocalTeacher):
    """A teacher that always says the same."""

    def answers(self, prompts: Any, **options: Any) -> Any:
        return [local_teacher.Spoken(" Card-Lost.", "stop", 9, 3, -0.1, 0.2) for _ in prompts]


def test_answers_go_through_the_parser_of_paid_answers() -> None:
    data = label_locally(Knows(llama(), letter_tokenizer(), "sure"), TASK, ROWS)
    assert [(r.answer, r.value, r.problems, r.is_right) for r in data] == [
        ("card_lost", "card_lost", (), True), ("card_lost", "card_lost", (), False),
    ]  # fmt: skip


def test_soft_labels_are_of_tasks_with_labels_read_after_the_prompt() -> None:
    with pytest.raises(InputError, match="the task 'free' has none"):
        label_locally(teacher(), Task(name="free"), ROWS, soft=True)
    with pytest.raises(InputError, match="without a chain of thought"):
        label_locally(teacher(), TASK.model_copy(update={"reasoning": "visible"}), ROWS, soft=True)
    with pytest.raises(
        InputError, match="no row of rows given in memory can be labelled: 1 were rejected; the first: text"
    ):
        label_locally(teacher(), TASK, Rows([{"text": ""}]))


SOFT = SoftLabels(("a", "ü"), ("fee", "card"), np.array([[0.25, 0.75], [1.0, 0.0]], dtype=np.float32))


def test_soft_labels_come_back_by_record_and_label(tmp_path: Path) -> None:
    found = SoftLabels.load(SOFT.save(tmp_path / "soft.npz"))
    assert (found.ids, found.labels) == (SOFT.ids, SOFT.labels)
    assert (found.probabilities == SOFT.probabilities).all()
    turned = found.targets(["ü", "nobody", "a"], ["card", "fee"])
    assert turned[0].tolist() == [0.0, 1.0]
    assert np.isnan(turned[1]).all()
    assert turned[2].tolist() == [0.75, 0.25]
    assert list(tmp_path.iterdir()) == [tmp_path / "soft.npz"]


def test_soft_labels_that_cannot_be_right_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="soft labels of another task: loan"):
        SOFT.targets(["a"], ["fee", "card", "loan"])
    with pytest.raises(InputError, match=r"Got a sum of 0.9 for record 'b'"):
        SoftLabels(("a", "b"), ("x", "y"), np.array([[0.5, 0.5], [0.5, 0.4]], dtype=np.float32))
    with pytest.raises(InputError, match="must be 0 or above"):
        SoftLabels(("a",), ("x", "y"), np.array([[1.5, -0.5]], dtype=np.float32))
    with pytest.raises(InputError, match=r"sum to 1\. Got a sum of nan"):
        SoftLabels(("a",), ("x", "y"), np.array([[np.nan, 1.0]], dtype=np.float32))
    with pytest.raises(InputError, match="name a record twice: 'a'"):
        SoftLabels(("a", "a"), ("x", "y"), np.full((2, 2), 0.5, dtype=np.float32))
    with pytest.raises(InputError, match=r"a row for each record.*Got \(1, 3\)"):
        SoftLabels(("a",), ("x", "y"), np.ones((1, 3), dtype=np.float32))
    with pytest.raises(InputError, match=r"ends in .npz. Got 'soft.json'"):
        SOFT.save(tmp_path / "soft.json")
    with pytest.raises(InputError, match="no soft labels"):
        SoftLabels.load(tmp_path / "none.npz")
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, ids=np.array(["a", None], dtype=object), labels=np.array(["x"]), probabilities=np.ones((1, 1)))
    with pytest.raises(InputError, match="does not hold soft labels"):
        SoftLabels.load(pickled)
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(InputError, match="does not hold soft labels"):
        SoftLabels.load(tmp_path / "text.npz")


def test_quiet_puts_back_what_it_found() -> None:
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with contextlib.suppress(KeyError), quiet():
        assert not logging.is_progress_bar_enabled()
        raise KeyError
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


@pytest.mark.slow
def test_the_packaged_model_scores_a_tree_as_sequences() -> None:
    try:
        who = LocalTeacher.load(smollm2(), device="cpu")
    except DistillcalcError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    labels = ("card_arrival", "card_about_to_expire", "cash_withdrawal_charge")
    prompts = [
        ({"role": "system", "content": "Name the intent."}, {"role": "user", "content": text})
        for text in ("Where is my new card?", "I was charged for taking out cash. Why?")
    ]
    found = who.label_logprobs(prompts, labels)
    np.testing.assert_allclose(found, one_by_one(who, prompts, labels), atol=2e-3)
    odds = np.exp(found - found.max(1, keepdims=True))
    np.testing.assert_allclose(who.label_distribution(prompts, labels), odds / odds.sum(1, keepdims=True), atol=1e-4)
    assert [said.output_tokens for said in who.answers(prompts, max_new_tokens=3)] == [3, 3]
