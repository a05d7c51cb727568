from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillcalc.benchmark.endpoint import Endpoint
from distillcalc.benchmark.load import Load, Prompt
from distillcalc.benchmark.macro_f1 import macro_f1_interval
from distillcalc.benchmark.quality import Quality, measure_quality, quality_of
from distillcalc.benchmark.rouge import rouge_l, rouge_tokens
from distillcalc.benchmark.traces import Traces
from distillcalc.distill.rows import Rows
from distillcalc.distill.task import Example, Task
from distillcalc.distill.training.scores import Answers, score
from distillcalc.errors import InputError, MissingExtra
from tests.distill.making import record

MAIL = Task(name="mail", labels=("billing", "shipping", "refund"))
WORDS = Task(name="words")


class Scripted:
    """A target that says what it is told to; "!timeout" fails so."""

    name = "scripted"

    def __init__(self, answer: Callable[[Prompt], str], keep_texts: bool = True) -> None:
        self.answer, self.keep_texts = answer, keep_texts
        self.asked: list[Prompt] = []

    def run(self, prompts: Sequence[Prompt], load: Load, *, timeout_s: float = 120.0) -> Traces:
        self.asked += prompts
        said = [self.answer(prompt) for prompt in prompts]
        n, zeros = len(said), np.zeros(len(said))
        failed = [one.startswith("!") for one in said]
        tokens = np.array([0 if bad else len(one.split()) for one, bad in zip(said, failed, strict=True)])
        return Traces(
            due_s=zeros, sent_s=zeros, first_s=zeros, last_s=zeros, input_tokens=zeros.astype(np.int64),
            output_tokens=tokens.astype(np.int64),
            outcome=tuple(one[1:] if bad else "ok" for one, bad in zip(said, failed, strict=True)),
            chunk_s=np.zeros(0), chunk_tokens=np.zeros(0, np.int64), offsets=np.zeros(n + 1, np.int64),
            texts=tuple("" if bad else one for one, bad in zip(said, failed, strict=True)),
        )  # fmt: skip


def rows(labels: Sequence[str]) -> Rows:
    return Rows([{"text": f"text {i}", "human_label": label} for i, label in enumerate(labels)])


def saying(*texts: str) -> Scripted:
    """Says the i-th text about "text i"."""
    return Scripted(lambda prompt: texts[int(prompt.chat[-1]["content"].split()[-1])])


def value(quality: Quality, name: str) -> float:
    return quality.figures[name].value


def test_a_classification_by_hand() -> None:
    people = ["billing", "billing", "shipping", "refund"]
    target = saying("billing", "Shipping.", "!timeout", "the refund")
    found = measure_quality(target, MAIL, rows(people), ["billing", "billing", "", "the refund"])
    # Right: the first alone. "the refund" is no label, and what was not answered is wrong.
    assert found.items == 4
    assert value(found, "accuracy") == 0.25
    # billing: TP 1, FN 1: F1 = 2/3. shipping: FP 1, FN 1: 0. refund: FN 1: 0. Mean over three classes: 2/9.
    assert value(found, "macro_f1") == pytest.approx(2 / 9)
    assert found.per_class["billing"].recall == 0.5
    # Both said "billing" about the first. Both silent, or both unusable, is no agreement.
    assert value(found, "agreement") == 0.25
    # The teacher is right about the first two.
    assert found.teacher is not None
    assert found.teacher.value == 0.5
    assert value(found, "retention") == 0.5
    assert found.against_teacher is not None
    assert found.against_teacher.mean == -0.25
    assert found.failed == {"timeout": 1}
    assert found.unusable == {"not one of the labels": 1}
    assert found.notes[0] == "1 of 4 requests failed and count as wrong: 1 x timeout"
    assert found.answers.right.tolist() == [1, 0, 0, 0]
    for figure in found.figures.values():
        assert figure.interval is not None
        assert figure.interval[0] <= figure.value <= figure.interval[1]
    # Wilson for 1 of 4: middle (0.25 + 3.8415/8) / (1 + 3.8415/4) = 0.3725, half 0.3269 (z = 1.96).
    assert found.figures["accuracy"].interval == pytest.approx((0.0456, 0.6994), abs=2e-4)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["figures"]["accuracy"]["value"] == 0.25
    assert plain["judge"] is None
    assert "accuracy 0.250 (0.046 to 0.699)" in str(found)


def test_texts_are_compared_by_their_words_and_order() -> None:
    # Lin, ROUGE (2004), section 3.1: S2 has a longest common subsequence of 3 of 4 words with S1, S3 one of 2 of 4.
    said = ["police kill the gunman", "the gunman kill police", ""]
    found = quality_of(said, WORDS, rows(["police killed the gunman"] * 3), said[::-1], metric="rouge_l")
    assert found.answers.right.tolist() == [0.75, 0.5, 0.0]
    assert value(found, "rouge_l") == pytest.approx(1.25 / 3)
    assert value(found, "exact_match") == 0.0
    assert found.unusable == {"empty answer": 1}
    assert found.teacher is not None
    assert found.teacher.value == pytest.approx(1.25 / 3)
    assert found.against_teacher is not None
    assert found.against_teacher.mean == pytest.approx(0)
    assert value(found, "retention") == pytest.approx(1)


def test_rouge_l_in_other_scripts_and_at_its_limits() -> None:
    # "the gunman police killed" (S4 of Lin 2004) counts one of the two common subsequences: 2 of 4 words.
    found = rouge_l(
        ["the gunman police killed", "Straße", "สวัสดี", "日本語です", "...", "", "a b c d"],
        ["police killed the gunman", "STRASSE", "สวัสดี", "日本語だ", "...", "x", "d c b a"],
    )
    # Characters of Japanese: 3 common of 5 and of 4, 2 x 3 / 9. A text without a letter has no token.
    np.testing.assert_allclose(found, [0.5, 1, 1, 6 / 9, 0, 0, 0.25])
    # Tokens of an ASCII text are those of Google's rouge-score: lower case, split at all but letters and digits.
    assert rouge_tokens("Don't stop_it, 3.5!") == ["don", "t", "stop", "it", "3", "5"]
    with pytest.raises(InputError, match="2 answers cannot be compared with 1 references"):
        rouge_l(["a", "b"], ["a"])


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_rouge_l_is_the_plain_recurrence(one: list[str], other: list[str]) -> None:
    table = np.zeros((len(one) + 1, len(other) + 1), dtype=int)
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            table[i + 1, j + 1] = table[i, j] + 1 if a == b else max(table[i, j + 1], table[i + 1, j])
    wanted = 2 * table[-1, -1] / (len(one) + len(other)) if one and other else 0.0
    assert rouge_l([" ".join(one)], [" ".join(other)])[0] == pytest.approx(wanted)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidfuzz.distance", None)
    with pytest.raises(MissingExtra, match=r"rapidfuzz is not installed. Run: pip install 'distillcalc\[distill\]'"):
        rouge_l(["a"], ["a"])


def test_json_is_compared_by_its_content() -> None:
    task = Task(name="json", output_schema={"type": "object", "required": ["a"]})
    people = ['{"a": 1, "b": [2]}', '{"a": 1}', '{"a": 2}']
    said = ['{"b": [2], "a": 1.0}', '{"b": 1}', '```json\n{"a": 2}\n```']
    found = quality_of(said, task, rows(people), ['{"a": 1, "b": [2]}', '{"a": 1}', '{"a":2}'])
    assert found.answers.right.tolist() == [1, 0, 1]  # the second lacks "a": it does not fit the schema
    assert found.unusable == {"does not fit the schema": 1}
    assert "rouge_l" not in found.figures
    with pytest.raises(InputError, match="ROUGE-L compares texts, and the task's answers are JSON"):
        quality_of(said, task, rows(people), metric="rouge_l")


def test_an_exact_match_looks_at_the_answer_and_accuracy_at_its_form_too() -> None:
    people = ["billing", "billing", "refund"]
    found = quality_of(["Answer: billing", "<think>hm</think>billing", "refunded"], MAIL, rows(people))
    assert found.answers.right.tolist() == [0, 1, 0]
    assert value(found, "exact_match") == pytest.approx(2 / 3)
    # Where the task asks for visible reasoning, a student that writes the label alone is right, a teacher is not.
    visible = MAIL.model_copy(update={"reasoning": "visible"})
    for marked, right in ((False, [1, 1]), (True, [0, 1])):
        heard = quality_of(["billing", "So it is.\nAnswer: billing"], visible, rows(people[:2]), marked=marked)
        assert heard.answers.right.tolist() == right


def test_the_teachers_answers_may_be_read_already() -> None:
    people = ["billing", "refund"]
    teacher = Answers(("billing", "billing"), np.array([1.0, 0.0]))
    found = quality_of(["billing", "refund"], MAIL, rows(people), teacher)
    assert found.teacher is not None
    assert found.teacher.value == 0.5
    assert value(found, "agreement") == 0.5
    by_words = quality_of(["a b", "c"], WORDS, rows(["a b", "c d"]), Answers(("a", "c d"), np.ones(2)), "rouge_l")
    assert by_words.teacher is not None
    assert by_words.teacher.value == pytest.approx((2 / 3 + 1) / 2)  # P 1, R 1/2; and the whole
    exact = quality_of(["a", "b"], WORDS, rows(["a", "b"]), Answers(("A.", ""), np.ones(2)), "exact_match")
    assert exact.teacher is not None
    assert exact.teacher.value == 0.5


def test_answers_at_their_limit_are_told() -> None:
    found = measure_quality(saying("a b c", "a"), WORDS, rows(["a b c", "a"]), max_output_tokens=3)
    assert found.at_limit == 1
    assert found.notes == ("1 of 2 answers have as many tokens as they may: they may have been cut",)
    assert value(found, "accuracy") == 1.0


def test_rows_that_cannot_be_used_are_counted() -> None:
    some = Rows([{"text": "text 0", "human_label": "billing"}, {"text": "text 1", "human_label": None}])
    found = measure_quality(saying("billing", "x"), MAIL, some)
    assert (found.items, found.rejected) == (1, 1)
    assert found.notes == ("rows that are no evaluation items: 1; the first: nobody has labelled it",)
    made = [record("1", "text 0", human_label="billing"), record("2", "text 1", human_label="refund")]
    assert measure_quality(saying("billing", "refund"), MAIL, made).answers.right.tolist() == [1, 1]
    assert quality_of(["billing", "billing"], MAIL, made).answers.right.tolist() == [1, 0]


def test_what_cannot_be_measured_is_refused_before_anything_is_asked() -> None:
    target = saying("billing")
    for kind, options in [
        ("teacher_answers must be one for each of 1 items. Got 2", {"teacher_answers": ["a", "b"]}),
        ("prompts must be one for each of 1 items. Got 0", {"prompts": []}),
        ("metric must be one of accuracy, exact_match, rouge_l. Got 'bleu'", {"metric": "bleu"}),
        ("a judge compares with the teacher's answers", {"judge": object()}),
    ]:
        arguments: Any = options
        with pytest.raises(InputError, match=kind):
            measure_quality(target, MAIL, rows(["billing"]), **arguments)
    with pytest.raises(InputError, match=r"scripted keeps no texts, .* Set keep_texts=True"):
        measure_quality(Scripted(target.answer, keep_texts=False), MAIL, rows(["billing"]))
    with pytest.raises(InputError, match="nobody has labelled the evaluation item '1'"):
        measure_quality(target, MAIL, [record("1", "text 0")])
    with pytest.raises(InputError, match="there are no evaluation items"):
        measure_quality(target, MAIL, [])
    with pytest.raises(InputError, match=r"texts must be one for each of 1 items\. Got 2"):
        quality_of(["a", "b"], MAIL, rows(["billing"]))
    assert not target.asked


@settings(max_examples=20)
@given(st.lists(st.tuples(*[st.sampled_from([*(MAIL.labels or ()), "", "?"])] * 3), min_size=1, max_size=12), st.data())
def test_the_order_of_the_items_does_not_matter(items: list[tuple[str, str, str]], data: st.DataObject) -> None:
    items = [(said, taught, person if person in (MAIL.labels or ()) else "refund") for said, taught, person in items]
    shuffled = data.draw(st.permutations(items))

    def of(some: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
        said, taught, people = zip(*some, strict=True)
        return quality_of(said, MAIL, rows(people), taught).to_dict()

    one, other = of(items), of(shuffled)
    for name, figure in one["figures"].items():
        assert figure == pytest.approx(other["figures"][name])
    assert one["against_teacher"]["interval"] == pytest.approx(other["against_teacher"]["interval"])
    assert (one["unusable"], one["teacher"]) == (other["unusable"], pytest.approx(other["teacher"]))


def test_macro_f1_has_an_interval_also_where_all_is_right() -> None:
    labels = ["a"] * 30 + ["b"] * 30
    low, high = macro_f1_interval(labels, labels)
    assert 0.85 < low < 0.97  # Wilson's lower end for 60 of 60 is 0.940
    assert high == 1.0
    assert macro_f1_interval(["x"] * 4, ["a"] * 4)[0] == 0.0
    with pytest.raises(InputError, match="Got 1 for 2"):
        macro_f1_interval(["a"], ["a", "b"])


def test_the_interval_of_macro_f1_holds_it_as_often_as_it_says() -> None:
    # Three classes of 50, 30 and 20%, each told right 4 of 5 times, else taken for the next.
    share, right = np.array([0.5, 0.3, 0.2]), 0.8
    given_ = share * right + np.roll(share, 1) * (1 - right)
    true = float(np.mean(2 * share * right / (share + given_)))
    rng, held, samples = np.random.default_rng(5), 0, 120
    for _ in range(samples):
        people = rng.choice(3, size=100, p=share)
        said = np.where(rng.random(100) < right, people, (people + 1) % 3)
        labels, answers = [str(one) for one in people], [str(one) for one in said]
        low, high = macro_f1_interval(answers, labels)
        point = score(Answers(tuple(answers), (said == people).astype(float)), labels=labels).macro_f1
        assert point is not None
        assert low <= point <= high
        held += low <= true <= high
    assert held / samples >= 0.9  # 95% is within 1.96 standard errors of 0.911 to 0.989


def chunk(text: str, finish: str | None = None) -> bytes:
    delta = {"content": text} if text else {}
    return f"data: {json.dumps({'choices': [{'delta': delta, 'finish_reason': finish}]})}\n\n".encode()


@contextmanager
def serving(answer: Callable[[Mapping[str, Any]], str]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A streaming endpoint on loopback: its address, and the bodies that it was sent. "503" is such an answer."""
    bodies: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            bodies.append(body)
            said = answer(body)
            self.send_response(503 if said == "503" else 200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            for word in said.split(" "):
                self.wfile.write(chunk(word + " "))
            self.wfile.write(chunk("", "stop") + b"data: [DONE]\n\n")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1", bodies
        server.shutdown()
        thread.join()


def test_an_endpoint_is_asked_with_the_system_message_and_the_examples() -> None:
    task = Task(
        name="mail", prompt="Which? {text}", system="You sort mail.", labels=("yes", "no"), instruction=False,
        examples=(Example(input={"text": "hello"}, answer="no"),),
    )  # fmt: skip
    with serving(lambda body: {"Which? text 0": "yes", "Which? text 1": "503"}[body["messages"][-1]["content"]]) as at:
        target = Endpoint(at[0], "student", keep_texts=True, ignore_eos=True)
        found = measure_quality(target, task, rows(["yes", "no"]), concurrency=1, max_output_tokens=7)
    assert at[1][0]["messages"] == [
        {"role": "system", "content": "You sort mail."},
        {"role": "user", "content": "Which? hello"},
        {"role": "assistant", "content": "no"},
        {"role": "user", "content": "Which? text 0"},
    ]
    assert at[1][0]["max_tokens"] == 7
    assert "ignore_eos" not in at[1][0]  # an answer ends where it ends
    assert found.answers.right.tolist() == [1, 0]
    assert found.failed == {"http 503": 1}


def test_a_student_may_be_asked_for_less() -> None:
    target = saying("billing")
    asked = ({"role": "user", "content": "just text 0"},)
    measure_quality(target, MAIL, rows(["billing"]), prompts=[asked])
    assert target.asked[0].chat == list(asked)
    assert target.asked[0].text == "just text 0"
    assert Prompt("alone", 1, 1).chat == [{"role": "user", "content": "alone"}]
    plain = Endpoint("http://127.0.0.1:1/v1", "m", chat=False).body(target.asked[0])
    assert plain["prompt"] == "just text 0"
    assert "messages" not in plain
