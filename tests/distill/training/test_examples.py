"""Records as token sequences: what is asked, what is supervised, where a turn ends, what is left out."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from distillcalc.distill.answers import parse
from distillcalc.distill.exports import THINK
from distillcalc.distill.packaged import minilm
from distillcalc.distill.records import Record
from distillcalc.distill.training.examples import (
    EXPLAIN,
    EXPLAIN_PROMPT,
    IGNORED,
    PREDICT,
    Examples,
    Sequence_,
    make_examples,
    tokens_of,
)
from distillcalc.distill.training.prompting import end_of_turn, padding_id, prompt_ids, prompt_text
from distillcalc.errors import InputError
from tests.distill.training.making import TASK, records, tokenizer

USER = [{"role": "user", "content": "hi"}]


def another(template: str | None, **changed: Any) -> Any:
    """The packaged tokenizer with another chat template, and other names for its special tokens."""
    made = copy.deepcopy(tokenizer())
    made.chat_template = template
    for name, value in changed.items():
        setattr(made, name, value)
    return made


def one(**changed: Any) -> Record:
    return records(1)[0].model_copy(update=changed)


def decoded(ids: Any) -> str:
    return str(tokenizer().decode(ids))


def test_the_answer_and_the_end_of_the_turn_are_supervised_and_nothing_else() -> None:
    record = one(answer="yes")
    sequence = make_examples([record], tokenizer()).sequences[0]
    # SmolLM2's template: each turn is <|im_start|>role\ntext<|im_end|>\n; the answer follows "assistant\n".
    asked = (
        f"<|im_start|>system\nIs it red?<|im_end|>\n<|im_start|>user\n{record.text}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert decoded(sequence.ids) == asked + "yes<|im_end|>"
    assert decoded(sequence.ids[: sequence.start]) == asked
    assert sequence.labels[: sequence.start] == [IGNORED] * sequence.start
    assert decoded(sequence.labels[sequence.start :]) == "yes<|im_end|>"
    assert sequence.sample == f"{record.id}:0:0"
    # The template writes a line's end after <|im_end|>: the student need not.
    whole = tokenizer().apply_chat_template([*record.messages, {"role": "assistant", "content": "yes"}], tokenize=False)
    assert whole == decoded(sequence.ids) + "\n"


def test_a_tokenizer_that_pads_with_the_end_of_a_turn_still_teaches_it() -> None:
    tokens = tokenizer()
    assert tokens.pad_token_id == tokens.eos_token_id == padding_id(tokens)
    sequence = make_examples([one()], tokens).sequences[0]
    assert sequence.labels[-1] == tokens.eos_token_id
    row = make_examples([one()], tokens).dataset()[0]
    assert row["labels"] == sequence.labels
    assert row["input_ids"] == list(sequence.ids)
    assert (row["length"], row["group"], row["sample"]) == (len(sequence.ids), PREDICT, 0)


def test_the_prompt_is_what_the_student_will_be_asked() -> None:
    record = one()
    for system, prompt in ((None, None), ("", "Red? {text}"), ("Say.", None)):
        sequence = make_examples([record], tokenizer(), system=system, prompt=prompt).sequences[0]
        text = record.text if prompt is None else f"Red? {record.text}"
        head = {None: "Is it red?", "": "", "Say.": "Say."}[system]
        messages = ([{"role": "system", "content": head}] if head else []) + [{"role": "user", "content": text}]
        assert list(sequence.ids[: sequence.start]) == prompt_ids(tokenizer(), messages)


def test_without_a_template_texts_stand_one_below_the_other() -> None:
    plain = another(None)
    ids, start = tokens_of(plain, TASK.messages({"text": "a b"}), "yes")
    assert decoded(ids) == "Is it red?\n\na b\n\nyes<|im_end|>"
    assert decoded(ids[:start]) == "Is it red?\n\na b\n\n"
    with pytest.raises(InputError, match="no token that ends a text"):
        tokens_of(another(None, eos_token=None), USER, "yes")
    # BERT's tokenizer ends a text by itself, where the answer is still to come.
    bert = AutoTokenizer.from_pretrained(minilm())
    assert bert.convert_ids_to_tokens(prompt_ids(bert, USER)) == ["[CLS]", "hi"]


@pytest.mark.parametrize("answer", ["hi", "user", "im_end", "end", "<", "x", "|>", "assistant\n", " padded ", "ß→日本"])
def test_an_answer_that_stands_elsewhere_too_ends_as_all_do(answer: str) -> None:
    # Its eos is another token than the one that ends a turn, as in the base models of many families.
    base = another(tokenizer().chat_template, eos_token="<|endoftext|>")
    end = base.convert_tokens_to_ids("<|im_end|>")
    messages = [{"role": "system", "content": answer}, *USER, {"role": "assistant", "content": answer}, *USER]
    assert end_of_turn(base, messages, answer) == end
    assert tokens_of(base, messages, answer)[0][-1] == end


def test_an_end_of_turn_that_has_no_name_of_its_own() -> None:
    """Gemma and Phi mark theirs as special, but name only the end of a text."""
    made = another("{% for m in messages %}[{{ m.role }}]{{ m.content }}<over>{% endfor %}")
    made.add_tokens(["<over>"], special_tokens=True)
    assert made.convert_tokens_to_ids("<over>") not in made.all_special_ids
    assert end_of_turn(made, USER) == made.convert_tokens_to_ids("<over>")


def test_a_template_that_writes_a_chat_otherwise_in_its_middle() -> None:
    """The prompt is that of the question, also where a chat with the answer would be written otherwise."""
    changing = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' %}{{ m.content.split('</think>')[-1] | trim }}{% else %}{{ m.content | trim }}"
        "{% if not loop.last %} (asked before){% endif %}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n\n</think>\n\n{% endif %}"
    )
    made = another(changing, eos_token="<|endoftext|>")
    answer = THINK.format(reasoning="red is red", answer="yes")
    ids, start = tokens_of(made, [{"role": "user", "content": " hi "}], answer)
    assert decoded(ids[:start]) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert decoded(ids[start:]) == "<think>\nred is red\n</think>\n\nyes<|im_end|>"


def test_a_template_that_knows_no_system_message_says_so() -> None:
    strict = another(
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
        "{{ m.content }}{% endfor %}"
    )
    with pytest.raises(InputError, match=r"refuses messages of system, user: no system here.*system = \"\""):
        make_examples(records(1), strict)
    assert prompt_text(strict, USER) == "hi"
    assert len(make_examples(records(1), strict, system="")) == 1


def test_two_tasks_are_two_sequences_in_groups_of_their_own() -> None:
    record = records(1, reasoning=True)[0]
    predict, explain = make_examples([record], tokenizer(), chain="two-task").sequences
    assert (predict.group, explain.group) == (PREDICT, EXPLAIN)
    assert (predict.sample, explain.sample) == (f"{record.id}:0:0", f"{record.id}:0:1")
    assert decoded(predict.ids[predict.start :]) == "yes<|im_end|>"
    assert decoded(explain.ids[explain.start :]) == "the text says red<|im_end|>"
    assert f"user\n{EXPLAIN_PROMPT}{record.text}<|im_end|>" in decoded(explain.ids[: explain.start])
    assert EXPLAIN_PROMPT not in decoded(predict.ids)


# Letters that the tokenizer has all bytes of; SmolLM2's lacks some.
TEXTS = st.text("ab zé=+09.,{}%\\\"'\n<>ßπ日本🙂", min_size=1, max_size=40).map(str.strip).filter(bool)


@settings(max_examples=100)
@given(TEXTS, st.sampled_from(["yes", "no"]))
def test_a_chain_as_target_is_read_back_as_it_was(reasoning: str, answer: str) -> None:
    record = one(reasoning=reasoning, answer=answer, value=answer)
    sequence = make_examples([record], tokenizer(), chain="target").sequences[0]
    said = tokenizer().decode(sequence.ids[sequence.start :], skip_special_tokens=True)
    parsed = parse({"content": said}, "stop", TASK)
    assert (parsed.answer, parsed.reasoning, parsed.problems) == (answer, reasoning, ())


def test_a_chain_is_written_as_an_export_writes_it() -> None:
    record = one(reasoning="\nfirst {a}, then {b}\n", answer="yes")
    sequence = make_examples([record], tokenizer(), chain="target").sequences[0]
    assert decoded(sequence.ids[sequence.start :]) == "<think>\nfirst {a}, then {b}\n</think>\n\nyes<|im_end|>"


def test_what_people_said_can_be_learnt_instead() -> None:
    found = [one(human_label="no"), one(id="b", human_label=None), one(id="c", human_label="yes", problems=("cut",))]
    made = make_examples(found, tokenizer(), human=True)
    assert [decoded(s.ids[s.start :]) for s in made.sequences] == ["no<|im_end|>", "yes<|im_end|>"]
    assert made.left_out == {"nobody has labelled it": 1}


def test_what_is_left_out_is_counted_by_reason() -> None:
    found = [
        *records(4, reasoning=True),
        one(id="p1", problems=("not one of the labels: 'maybe'",)),
        one(id="p2", problems=("not one of the labels: 'perhaps'",)),
        one(id="no chain"),
        one(id="long", reasoning="so " * 300),
        one(id="empty", answer="", reasoning="r"),
    ]
    made = make_examples(found, tokenizer(), chain="two-task", max_length=100)
    assert made.left_out == {
        "the teacher's answer has a problem (not one of the labels)": 2,
        "it has no chain of thought": 1,
        "longer than 100 tokens": 1,  # the explanation; its prediction is short
    }
    # Each of the four, the prediction of "long", and of "empty" both: an empty answer is the end of the turn alone.
    assert len(made) == 2 * 4 + 1 + 2
    assert made.tokens == sum(len(s.ids) for s in made.sequences)
    assert made.supervised == sum(len(s.ids) - s.start for s in made.sequences)


def test_the_longest_that_fits_is_kept() -> None:
    whole = make_examples([one()], tokenizer()).sequences[0]
    assert make_examples([one()], tokenizer(), max_length=len(whole.ids)).sequences == (whole,)
    with pytest.raises(InputError, match=f"1 x longer than {len(whole.ids) - 1} tokens"):
        make_examples([one()], tokenizer(), max_length=len(whole.ids) - 1)


def test_nothing_to_learn_from_says_why() -> None:
    with pytest.raises(InputError, match="nothing to learn from in 0 records: there are no records"):
        make_examples([], tokenizer())
    found = [one(), one(id="b"), one(id="c", problems=("refused",)), one(id="d", reasoning="so </think> no")]
    with pytest.raises(InputError, match=r"in 4 records: 2 x it has no chain of thought; 1 x .*\(refused\); 1 x its "):
        make_examples(found, tokenizer(), chain="target")


def test_the_fingerprint_is_of_what_is_learnt_and_not_of_its_order() -> None:
    made = make_examples(records(6), tokenizer())
    mixed = list(made.sequences)
    random.Random(1).shuffle(mixed)
    assert Examples(tuple(mixed)).fingerprint() == made.fingerprint()
    first = made.sequences[0]
    for other in (
        Sequence_(first.sample, first.ids, first.start - 1),  # another token is supervised
        Sequence_(first.sample, (*first.ids[:-1], 5), first.start),
        Sequence_("other", first.ids, first.start),
    ):
        assert Examples((other, *made.sequences[1:])).fingerprint() != made.fingerprint()
