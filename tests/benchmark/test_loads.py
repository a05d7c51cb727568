from __future__ import annotations

import numpy as np
import pytest

from distillcalc.benchmark.load import Prompt
from distillcalc.benchmark.loads import WORDS, closed_loops, lengths_of, make_prompts, open_loop
from distillcalc.errors import InputError
from distillcalc.estimate.simulation import Requests
from distillcalc.workload.workload import Workload


class OfWords:
    """A token a word, one that starts every text, and two for a word of more than six letters."""

    def encode(self, text: str) -> list[int]:
        return [0] + [1] * sum(1 + (len(word) > 6) for word in text.split())


class OfBytes:
    def encode(self, text: str) -> list[int]:
        return list(text.encode())


class OfThree:
    """Three letters a token: no word adds the same everywhere."""

    def encode(self, text: str) -> list[int]:
        return [0] * -(-len(text) // 3)


def workload(**given: object) -> Workload:
    fields = {
        "requests_per_day": 1000,
        "input_tokens": {"mean": 120, "p95": 300},
        "output_tokens": {"mean": 20, "p95": 40},
    }
    return Workload(**{**fields, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize("tokenizer", [OfWords(), OfBytes(), OfThree(), None])
def test_texts_have_exactly_the_tokens_that_are_wanted(tokenizer: OfWords | None) -> None:
    found = make_prompts(workload(), 200, tokenizer, seed=4)
    assert len(found) == 200
    assert (found.inexact, found.cut) == (0, 0)
    assert found.counted_by == ("tokenizer" if tokenizer else "words")
    for prompt in found:
        counted = len(tokenizer.encode(prompt.text)) if tokenizer else len(prompt.text.split())
        assert counted == prompt.input_tokens
    # The same lengths whatever counts them, and those of the workload.
    assert [prompt.input_tokens for prompt in found] == [
        prompt.input_tokens for prompt in make_prompts(workload(), 200, seed=4)
    ]
    assert np.mean([prompt.input_tokens for prompt in found]) == pytest.approx(120, rel=0.2)
    assert np.mean([prompt.output_tokens for prompt in found]) == pytest.approx(20, rel=0.2)


def test_a_real_tokenizer_with_a_chat_template() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    from distillcalc.distill.packaged import smollm2

    inner = tokenizers.Tokenizer.from_file(str(smollm2() / "tokenizer.json"))

    class Own:
        def encode(self, text: str) -> list[int]:
            return list(inner.encode(text).ids)

    def wrap(text: str) -> str:
        return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"

    found = make_prompts(workload(), 60, Own(), seed=1, wrap=wrap)
    assert found.inexact == 0
    assert all(len(inner.encode(wrap(prompt.text)).ids) == prompt.input_tokens for prompt in found)
    # Words of English, one token each, but for the first, which follows no space.
    around = len(inner.encode(wrap("")).ids)
    assert all(prompt.input_tokens - len(prompt.text.split()) <= around + 2 for prompt in found)


def test_no_two_prompts_start_alike_unless_it_is_asked_for() -> None:
    found = make_prompts(workload(), 500, seed=2)
    assert len({" ".join(prompt.text.split()[:3]) for prompt in found}) == 500
    assert make_prompts(workload(), 500, seed=2) == found
    other = make_prompts(workload(), 500, seed=3)
    assert not {prompt.text for prompt in found} & {prompt.text for prompt in other}
    shared = make_prompts(workload(input_tokens=100), 50, seed=2, cached_prefix_tokens=64)
    starts = {" ".join(prompt.text.split()[:64]) for prompt in shared}
    assert len(starts) == 1
    assert len({" ".join(prompt.text.split()[:67]) for prompt in shared}) == 50
    assert all(prompt.input_tokens == 100 for prompt in shared)


def test_prompts_that_are_too_short_or_too_long() -> None:
    tiny = make_prompts(workload(input_tokens=1, output_tokens=1), 3, OfWords())
    assert [prompt.input_tokens for prompt in tiny] == [2, 2, 2]  # a word, and what starts a text: no shorter one
    assert tiny.inexact == 3
    # 300 in, 50 out into 200: the prompt gives way; 300 out into 200: one token in, 199 out.
    cut = make_prompts(workload(input_tokens=300, output_tokens=50), 2, longest=200)
    assert [(prompt.input_tokens, prompt.output_tokens) for prompt in cut] == [(150, 50)] * 2
    assert cut.cut == 2
    cut = make_prompts(workload(input_tokens=300, output_tokens=300), 1, longest=200)
    assert (cut[0].input_tokens, cut[0].output_tokens) == (1, 199)
    assert isinstance(cut[0], Prompt)
    assert cut[0].whole
    with pytest.raises(InputError, match="count must be 1 or more"):
        make_prompts(workload(), 0)


def test_whose_lengths() -> None:
    both = workload(input_tokens=900, student_input_tokens=100, reasoning_tokens=500, student_reasoning_tokens=30,
                    output_tokens=20)  # fmt: skip
    student, teacher = make_prompts(both, 1)[0], make_prompts(both, 1, teacher=True)[0]
    assert (student.input_tokens, student.output_tokens) == (100, 50)  # 20 and 30 that it thinks
    assert (teacher.input_tokens, teacher.output_tokens) == (900, 520)
    assert float(lengths_of(both).mean_input.item()) == 100
    trace = Requests([0.0, 1.0, 3.0], [7, 8, 9], [1, 2, 3], [0, 5, 0])
    replayed = make_prompts(both, 4, trace=trace)
    assert [(prompt.input_tokens, prompt.output_tokens) for prompt in replayed] == [(7, 1), (8, 7), (9, 3), (7, 1)]


def test_the_open_loop_has_the_rate_and_the_burstiness() -> None:
    poisson = open_loop(workload(), 5.0, 20_000, seed=1)
    gaps = np.diff(poisson.due_s)
    assert poisson.due_s[0] == 0
    assert poisson.rate_per_s == pytest.approx(5.0, rel=1e-9)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.03)
    # The share of gaps above the mean is e^-1 for an exponential.
    assert (gaps > 0.2).mean() == pytest.approx(np.exp(-1), abs=0.015)
    bursty = np.diff(open_loop(workload(interarrival_cv=3), 5.0, 20_000, seed=1).due_s)
    assert bursty.std() / bursty.mean() == pytest.approx(3.0, abs=0.3)
    clock = open_loop(workload(interarrival_cv=0), 4.0, 9)
    np.testing.assert_allclose(clock.due_s, np.arange(9) / 4)
    # At twice the rate the same moments, twice as close.
    np.testing.assert_allclose(
        open_loop(workload(), 10.0, 100, seed=1).due_s * 2, open_loop(workload(), 5.0, 100, seed=1).due_s
    )
    assert open_loop(workload(), 3.0, 1).due_s.tolist() == [0.0]


def test_a_replayed_trace_is_stretched() -> None:
    trace = Requests([10.0, 11.0, 14.0, 20.0], 5, 5)
    # The first three, two gaps in 4 s, at 1 a second: in 2 s.
    np.testing.assert_allclose(open_loop(workload(), 1.0, 3, trace=trace).due_s, [0.0, 0.5, 2.0])
    # Twice the four: 0 1 4 10 s, and after a mean gap of 10 / 3 s once more; 7 gaps in 23.33 s, at 0.3 a second.
    twice = open_loop(workload(), 0.3, 8, trace=trace).due_s
    np.testing.assert_allclose(twice, np.array([0, 1, 4, 10, 40 / 3, 43 / 3, 52 / 3, 70 / 3]))
    with pytest.raises(InputError, match="no gaps to stretch"):
        open_loop(workload(), 1.0, 5, trace=Requests([1.0, 1.0], 5, 5))
    with pytest.raises(InputError, match="count must be 1 or more"):
        open_loop(workload(), 1.0, 0, trace=trace)


def test_closed_loops_double() -> None:
    assert [loop.concurrency for loop in closed_loops(20)] == [1, 2, 4, 8, 16, 20]
    assert [loop.concurrency for loop in closed_loops(16, least=4)] == [4, 8, 16]
    assert [loop.concurrency for loop in closed_loops(1)] == [1]
    with pytest.raises(InputError, match="least must not be above most"):
        closed_loops(2, least=3)


def test_the_words_are_all_different() -> None:
    assert len(set(WORDS)) == len(WORDS) > 300
    assert all(word.isascii() and word.islower() for word in WORDS)
