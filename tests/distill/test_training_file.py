"""A training file is refused here for what OpenAI would refuse it for, and its bill is told beforehand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillcalc.distill.training_example import example_problems
from distillcalc.distill.training_file import check_training_file, default_epochs
from distillcalc.errors import InputError


def example(text: str = "Hi", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "Hello"}], **more}


def lines(count: int = 10, start: int = 0) -> list[str]:
    return [json.dumps(example(f"Text {n}")) for n in range(start, start + count)]


def write(file: Path, content: list[str] | bytes, end: str = "\n") -> Path:
    file.write_bytes(content if isinstance(content, bytes) else "".join(line + end for line in content).encode())
    return file


def by_words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def test_a_sound_file(tmp_path: Path) -> None:
    report = check_training_file(write(tmp_path / "a.jsonl", lines()), count_tokens=by_words)
    # of an example: roles 1 + 1, "Text n" 2, "Hello" 1, 3 for each of 2 messages, 3 for the example: 14
    assert report.ok
    assert (report.rows, report.tokens, report.truncated) == (10, 140, 0)
    assert report.per_example == {"mean": 14, "p50": 14, "p95": 14, "max": 14}
    assert report.epochs == 10  # 100 // 10
    assert report.billed_tokens == 1_400
    assert not report.tokens_are_estimated
    assert "ok; 10 examples, 140 tokens" in str(report)
    json.dumps(report.to_dict())


def test_an_estimate_says_so(tmp_path: Path) -> None:
    report = check_training_file(write(tmp_path / "a.jsonl", lines()))
    # roles 1 + 1, "Text n" 6 bytes -> 2, "Hello" 5 bytes -> 2, 9 of the format: 15
    assert report.tokens == 150
    assert report.tokens_are_estimated
    assert "about 150 tokens" in str(report)
    assert "estimated as bytes / 4" in str(report)


def test_what_is_beyond_the_training_context_is_not_billed(tmp_path: Path) -> None:
    content = [*lines(10), json.dumps(example(" ".join("w" for _ in range(100))))]
    report = check_training_file(
        write(tmp_path / "a.jsonl", content), count_tokens=by_words, max_tokens_per_example=50, epochs=2
    )
    # 100 words + 12 = 112 tokens, of which 50 are billed; (10 x 14 + 50) x 2 = 380
    assert (report.truncated, report.tokens, report.billed_tokens) == (1, 252, 380)
    assert report.per_example["max"] == 112
    assert report.per_example["p95"] == 112
    assert report.per_example["p50"] == 14


@pytest.mark.parametrize(
    ("examples", "epochs"),
    [
        (0, 3),
        (1, 25),
        (4, 25),
        (10, 10),
        (33, 3),
        (34, 3),
        (100, 3),
        (8_333, 3),
        (8_334, 2),
        (12_500, 2),
        (25_000, 1),
        (90_000, 1),
    ],
)
def test_default_epochs_are_the_cookbooks(examples: int, epochs: int) -> None:
    assert default_epochs(examples) == epochs


@pytest.mark.parametrize(
    ("bad", "code", "words"),
    [
        (b"\xff\xfe", "not_utf8", "byte 1 is 0xff"),
        (b'{"messages": "\xe9"}', "not_utf8", "byte 15 is 0xe9"),
        (lines(1, 90)[0].encode() + b",", "invalid_json", "ends in a comma"),
        (b'{"messages": [', "invalid_json", "is not JSON: Expecting value at character 15"),
        (b'{"messages": NaN}', "invalid_json", "NaN is no JSON value"),
        (b"[" * 100_000, "invalid_json", "nested too deep"),
        (b"", "blank_line", "is blank"),
        (b"   ", "blank_line", "is blank"),
        (b"[1]", "data_type", "Got a list"),
        (b"null", "data_type", "Got null"),
        (b"3", "data_type", "Got a number"),
        (b"{}", "missing_messages_list", "needs a list of messages"),
        (b'{"messages": []}', "missing_messages_list", "not empty"),
        (b'{"prompt": "a", "completion": "b"}', "missing_messages_list", "have no chat"),
        (b'{"input": {}, "preferred_output": []}', "missing_messages_list", "preference tuning"),
        (json.dumps(example("x" * 2_000_000)).encode(), "line_too_long", "2,000,"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: bytes, code: str, words: str) -> None:
    content = "\n".join(lines(5)).encode() + b"\n" + bad + b"\n" + "\n".join(lines(6, 5)).encode()
    report = check_training_file(write(tmp_path / "a.jsonl", content))
    assert [(p.line, p.code) for p in report.problems] == [(6, code)]
    assert words in report.problems[0].what
    assert report.rows == 11 + (code != "blank_line")
    assert not report.ok
    assert "line 6: " in str(report)


def test_a_byte_order_mark_is_named(tmp_path: Path) -> None:
    report = check_training_file(write(tmp_path / "a.jsonl", b"\xef\xbb\xbf" + "\n".join(lines()).encode()))
    assert [(p.line, p.code) for p in report.problems] == [(1, "bom")]
    assert report.rows == 10


def test_windows_lines_are_warned_of_once(tmp_path: Path) -> None:
    report = check_training_file(write(tmp_path / "a.jsonl", lines(), end="\r\n"))
    assert report.ok
    assert [(w.line, w.code) for w in report.warnings] == [(1, "crlf")]


def test_lines_that_occur_twice_are_warned_of(tmp_path: Path) -> None:
    report = check_training_file(write(tmp_path / "a.jsonl", [*lines(10), *lines(2)]))
    assert report.ok
    assert [(w.line, w.code) for w in report.warnings] == [(11, "duplicate"), (12, "duplicate")]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("size", [10, 2_000_000])
def test_an_array_instead_of_lines_is_told_once(tmp_path: Path, indent: int | None, size: int) -> None:
    file = write(tmp_path / "a.json", json.dumps([example("x" * size)] * 12, indent=indent).encode())
    report = check_training_file(file)
    assert [(p.line, p.code) for p in report.problems] == [(1, "array")]
    assert "one object a line" in str(report)


def test_too_few_and_none(tmp_path: Path) -> None:
    assert (
        check_training_file(write(tmp_path / "a.jsonl", lines(9))).problems[0].what
        == "9 examples; at least 10 are needed"
    )
    empty = check_training_file(write(tmp_path / "b.jsonl", b""))
    assert (empty.rows, empty.tokens, empty.billed_tokens, empty.per_example) == (0, 0, 0, {})
    assert not empty.ok
    assert check_training_file(tmp_path / "b.jsonl", minimum_rows=0).ok
    with pytest.raises(InputError, match="no training file"):
        check_training_file(tmp_path / "c.jsonl")
    with pytest.raises(InputError, match="must be 1 or more"):
        check_training_file(tmp_path / "b.jsonl", epochs=0)


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distillcalc.distill.training_file.LARGEST_FILE", 100)
    report = check_training_file(write(tmp_path / "a.jsonl", lines()))
    assert [(p.line, p.code) for p in report.problems] == [(0, "file_size")]


def test_the_first_problems_are_listed_and_all_counted(tmp_path: Path) -> None:
    report = check_training_file(write(tmp_path / "a.jsonl", ["{}"] * 50), listed=3)
    assert len(report.problems) == 3
    assert (report.problem_count, report.by_code) == (50, {"missing_messages_list": 50})
    assert (len(report.warnings), report.warning_count) == (3, 49)
    assert "and 47 more problems" in str(report)


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("messages", "codes"),
    [
        ([{"role": "system", "content": "s"}, *example()["messages"]], []),
        ([{"role": "developer", "content": "s"}, *example()["messages"]], []),
        ([{"role": "user", "content": "q"}, {"role": "assistant", "content": None, "tool_calls": [CALL]}], []),
        (
            [
                {"role": "user", "content": "q"},
                {"role": "assistant", "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "c", "content": "1"},
                {"role": "assistant", "content": "a", "weight": 1},
            ],
            [],
        ),
        ([{"role": "user", "content": [{"type": "text", "text": "q"}]}, {"role": "assistant", "content": "a"}], []),
        ([{"role": "user", "content": "q"}, {"role": "assistant", "refusal": "no"}], []),
        ([{"role": "user", "content": "q", "name": "bob"}, {"role": "assistant", "content": "a", "weight": 0}], []),
        ([{"role": "user", "content": "q"}], ["example_missing_assistant_message"]),
        ([*example()["messages"], {"role": "user", "content": "q"}], ["last_not_assistant"]),
        ([{"role": "human", "content": "q"}, {"role": "assistant", "content": "a"}], ["unrecognized_role"]),
        ([{"content": "q"}, {"role": "assistant", "content": "a"}], ["message_missing_key"]),
        ([{"role": "user"}, {"role": "assistant", "content": "a"}], ["message_missing_key"]),
        ([{"role": "user", "content": ""}, {"role": "assistant", "content": "a"}], ["missing_content"]),
        ([{"role": "user", "content": 3}, {"role": "assistant", "content": "a"}], ["missing_content"]),
        ([{"role": "user", "content": []}, {"role": "assistant", "content": "a"}], ["missing_content"]),
        ([{"role": "user", "content": ["q"]}, {"role": "assistant", "content": "a"}], ["missing_content"]),
        ([{"role": "user", "content": "q"}, {"role": "assistant", "content": None}], ["missing_content"]),
        (
            [{"role": "user", "content": "q", "id": 1}, {"role": "assistant", "content": "a"}],
            ["message_unrecognized_key"],
        ),
        ([{"role": "user", "content": "q", "weight": 1}, {"role": "assistant", "content": "a"}], ["weight"]),
        ([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0.5}], ["weight"]),
        ([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": True}], ["weight"]),
        (
            [{"role": "user", "content": "q", "tool_calls": [CALL]}, {"role": "assistant", "content": "a"}],
            ["tool_calls"],
        ),
        ([{"role": "tool", "content": "q"}, {"role": "assistant", "content": "a"}], ["message_missing_key"]),
        (["q", {"role": "assistant", "content": "a"}], ["data_type"]),
    ],
)
def test_messages_are_held_to_the_rules(messages: list[Any], codes: list[str]) -> None:
    assert [code for _, code in example_problems({"messages": messages})] == codes


def test_mistakes_that_are_taken_are_warned_of(tmp_path: Path) -> None:
    muted = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}]}
    report = check_training_file(write(tmp_path / "a.jsonl", [*lines(), json.dumps(muted), json.dumps(example(id=3))]))
    assert report.ok
    assert [(w.line, w.code) for w in report.warnings] == [(11, "no_weight"), (12, "unrecognized_key")]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["user", "assistant"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["messages", "role", "content", "weight", "name", "tool_calls", "type", "text"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_judged_without_falling_over(value: Any) -> None:
    list(example_problems(value))


@given(content=st.binary(max_size=200))
def test_any_bytes_are_judged_without_falling_over(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    report = check_training_file(write(tmp_path_factory.getbasetemp() / "any.jsonl", content))
    assert not report.ok
    assert str(report)
