from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillcalc.benchmark.sse import Answer, tokens_by_chunk


def line(said: Any, end: str = "\n") -> bytes:
    return f"data: {said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)}{end}{end}".encode()


def delta(end: str = "\n", finish: str | None = None, **delta: Any) -> bytes:
    return line({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}, end)


def read(data: bytes, at: float = 1.0) -> Answer:
    answer = Answer(keep_text=True)
    answer.read(data, at)
    return answer


USAGE = line({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})
DONE = line("[DONE]")


@given(cuts=st.lists(st.integers(0, 600), max_size=40), end=st.sampled_from(["\n", "\r\n"]))
def test_events_may_be_cut_anywhere(cuts: list[int], end: str) -> None:
    whole = b": keep-alive" + end.encode() * 2 + delta(end, role="assistant", content="") + delta(end, content="café")
    whole += b"event: chunk" + end.encode() + delta(end, content=" ñ") + delta(end, finish="stop") + USAGE + DONE
    answer = Answer(keep_text=True)
    bounds = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    for i, (start, stop) in enumerate(pairwise(bounds)):
        answer.read(whole[start:stop], float(i))
    assert answer.end(99.0) == "ok"
    assert answer.pieces == ["café", " ñ"]
    assert answer.lengths == [4, 2]
    assert (answer.input_tokens, answer.output_tokens) == (7, 3)
    # The moment is that of the piece in which the event ended: its empty line's line feed.
    ends = [whole.index(text.encode()) + whole[whole.index(text.encode()) :].index((end * 2).encode()) for text in
            ("café", " ñ")]  # fmt: skip
    pieces = [sum(bound <= stop + 2 * len(end) - 1 for bound in bounds[1:]) for stop in ends]
    assert answer.chunk_s == [float(piece) for piece in pieces]


def test_an_event_may_have_several_lines_and_need_no_space() -> None:
    answer = read(b'data:{"choices": [{"delta":\ndata:{"content": "a"}}]}\n\ndata:[DONE]\n\n')
    assert answer.pieces == ["a"]
    assert answer.end(2.0) == "ok"


def test_what_counts_as_output() -> None:
    nothing = delta(role="assistant", content="") + delta(content=None) + delta() + delta(content="", finish="length")
    assert read(nothing).chunk_s == []
    for some in (
        {"content": " "}, {"reasoning_content": "hm"}, {"reasoning": "hm"}, {"refusal": "no"},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]},
    ):  # fmt: skip
        assert read(delta(**some)).chunk_s == [1.0], some
    assert read(line({"choices": [{"text": "a", "index": 0}]})).pieces == ["a"]  # plain completions


def test_thoughts_are_output_but_no_part_of_the_text() -> None:
    answer = read(delta(reasoning_content="hm") + delta(content="yes"))
    assert answer.chunk_s == [1.0, 1.0]
    assert "".join(answer.pieces) == "yes"


def test_how_an_answer_ended() -> None:
    said = delta(content="a")
    assert read(said + DONE).end(2.0) == "ok"
    assert read(said + delta(finish="stop")).end(2.0) == "ok"  # [DONE] is missing
    assert read(said + delta(finish="stop")[:-1]).end(2.0) == "ok"  # and the last empty line, too
    assert read(said + DONE.strip()).end(2.0) == "ok"
    assert read(said).end(2.0) == "stream ended early"
    assert read(said + delta(content="b")[:20]).end(2.0) == "stream ended early"  # within an event
    assert read(delta(role="assistant") + DONE).end(2.0) == "no output"
    assert read(b'{"choices": [{"message": {"content": "whole"}}]}').end(2.0) == "not a stream"
    assert read(b"").end(2.0) == "not a stream"


def test_after_the_end_nothing_is_read() -> None:
    answer = read(delta(content="a") + DONE + delta(content="b"))
    assert answer.pieces == ["a"]


@pytest.mark.parametrize(
    ("said", "outcome", "message"),
    [
        ({"error": {"message": "out of memory", "code": 500}}, "error in the stream: 500", "out of memory"),
        ({"error": {"message": "m", "type": "server_error", "code": None}}, "error in the stream: server_error", "m"),
        ({"error": "out of memory"}, "error in the stream", "out of memory"),
        ({"error": {"message": "m", "code": "two words"}}, "error in the stream", "m"),
        ({"object": "error", "message": "too long", "code": 400}, "error in the stream: 400", "too long"),
    ],
)
def test_errors_in_the_stream(said: Any, outcome: str, message: str) -> None:
    answer = read(delta(content="a") + line(said) + DONE)
    assert answer.is_over
    assert answer.end(2.0) == outcome
    assert answer.message == message
    assert answer.chunk_s == [1.0]  # what came before stands


@pytest.mark.parametrize("said", ["{", "[1]", '"text"', '{"choices": [3]}', '{"choices": [{"delta": {"content": 3}}]}',
                                  '{"usage": {"completion_tokens": "many"}}', '{"usage": {"completion_tokens": -1}}',
                                  '{"usage": {"prompt_tokens": Infinity}}', "[" * 100_000])  # fmt: skip
def test_what_cannot_be_read_is_no_crash(said: str) -> None:
    assert read(line(said) + DONE).end(2.0) == "unreadable event"
    assert read(b"data: \xff\n\n").end(2.0) == "unreadable event"


def test_tokens_without_text_came_by_the_end() -> None:
    answer = Answer()
    answer.read(delta(role="assistant", content=""), 1.0)
    answer.read(delta(content="", finish="length"), 2.0)
    answer.read(USAGE + DONE, 3.0)
    assert answer.end(3.0) == "ok"
    assert answer.chunk_s == [2.0]


def test_counts_of_thoughts_that_are_not_shown() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 5}}
    counted = line({"choices": [], "usage": usage})
    assert read(delta(content="a") + counted).hidden_tokens == 5
    assert read(delta(reasoning_content="hm") + counted).hidden_tokens == 0
    # Counts in every event, and null ones: the last that says something.
    running = line({"choices": [{"delta": {"content": "a"}}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
    assert read(running + counted + line({"choices": [], "usage": None})).output_tokens == 9


def test_tokens_by_chunk_by_hand() -> None:
    assert tokens_by_chunk([3, 9, 1], 3).tolist() == [1, 1, 1]
    assert tokens_by_chunk([3, 9, 1], 0).tolist() == [1, 1, 1]  # not counted
    # 7 tokens: 7 x 15/35, 7 x 30/35, 7 x 35/35 reached.
    assert tokens_by_chunk([15, 15, 5], 7).tolist() == [3, 3, 1]
    assert tokens_by_chunk([5, 5, 5], 4).tolist() == [1, 1, 2]  # the end mark is the last's
    assert tokens_by_chunk([1, 98, 1], 4).tolist() == [1, 2, 1]
    assert tokens_by_chunk([98, 1, 1], 4).tolist() == [2, 1, 1]
    assert tokens_by_chunk([1, 1, 98], 4).tolist() == [1, 1, 2]
    # 2 tokens of 4 chunks: rounded up, 2 x 1/4 -> 1, 2/4 -> 1, 3/4 -> 2, 2.
    assert tokens_by_chunk([1, 1, 1, 1], 2).tolist() == [1, 0, 1, 0]
    assert tokens_by_chunk([], 5).tolist() == []


@given(lengths=st.lists(st.integers(1, 500), min_size=1, max_size=50), counted=st.integers(1, 5_000))
def test_tokens_by_chunk_sum_to_what_was_counted(lengths: list[int], counted: int) -> None:
    tokens = tokens_by_chunk(lengths, counted)
    assert tokens.sum() == counted
    assert tokens[0] >= 1
    assert (tokens >= (1 if counted >= len(lengths) else 0)).all()
    share = np.array([-(-counted * length // sum(lengths)) for length in lengths])  # rounded up
    assert (tokens <= share).all()
