from __future__ import annotations

import json
from collections import Counter
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillcalc.distill import filters
from distillcalc.distill.comparing import answer_key, as_number, final_answer, same_answer
from distillcalc.distill.filtered import Filtered, FilterReport
from distillcalc.distill.records import Record
from distillcalc.distill.refusals import is_refusal
from distillcalc.errors import InputError
from tests.distill.making import record, task_rows

EVERY = [
    filters.valid,
    filters.no_refusals,
    filters.self_consistency,
    filters.verified_chain,
    partial(filters.verified_chain, on=False),
    partial(filters.length, most=4),
    filters.exact_duplicates,
    filters.near_duplicates,
    partial(filters.decontaminated, evaluation=["where is my card"]),
    partial(filters.balanced, ratio=1),
    partial(filters.balanced, most_per_class=1),
    partial(filters.teacher_fails_student_passes, student_answers={"a": "card"}),
    partial(filters.teacher_fails_student_passes, student_answers={"a": "card"}, keep="only"),
]


def kept_ids(found: Filtered) -> list[str]:
    return [one.id for one in found.kept]


some_records = st.lists(
    st.builds(
        record,
        id=st.sampled_from("abcd"),
        sample=st.integers(0, 3),
        text=st.sampled_from(["", "Where is my card?", "where is  MY card", "ok", "🙂", "I lost my card on the train"]),
        answer=st.sampled_from(["", "card", "loss", "I'm sorry, but I can't help with that."]),
        value=st.sampled_from([None, "card", {"a": "card"}]),
        problems=st.sampled_from([(), ("not a label",)]),
        finish_reason=st.sampled_from(["stop", "length", "content_filter"]),
        human_label=st.sampled_from([None, "card", "loss"]),
        reasoning=st.sampled_from([None, "It is lost."]),
    ),
    max_size=12,
)


@pytest.mark.parametrize("one", EVERY)
@given(records=some_records)
def test_every_filter_keeps_the_order_and_counts_everything(one: filters.Filter, records: list[Record]) -> None:
    found = one(records)
    report = found.report
    assert report.read == len(records) == report.kept + len(report.removed)
    assert len(found.kept) == report.kept
    assert sum(report.by_reason.values()) == len(report.removed)
    places = iter(map(id, records))
    assert all(id(one) in places for one in found.kept)  # a subsequence
    went = Counter(r.key for r in records) - Counter(r.key for r in found.kept)
    assert went == Counter((one.id, one.sample) for one in report.removed)
    assert report.name.replace("_", " ") in str(report)
    assert json.loads(json.dumps(report.to_dict()))["by_reason"] == report.by_reason


def test_filters_run_one_after_the_other() -> None:
    records = [record("a"), record("b", problems=("not a label",)), record("c", "Where is my CARD?"), record("d", "Hi")]
    kept, reports = filters.apply_filters(
        records, [filters.valid, filters.exact_duplicates, partial(filters.length, least=1, most=10)]
    )
    assert [one.id for one in kept] == ["a", "d"]
    assert [(one.name, one.read, one.kept) for one in reports] == [
        ("valid", 4, 3),
        ("exact_duplicates", 3, 2),
        ("length", 2, 2),
    ]
    assert filters.apply_filters([], [filters.valid])[0] == ()


def test_a_report_reads_as_words() -> None:
    report = FilterReport("length", {"least": 1, "most": None, "on": True}, 2_000, 2_000, (), {"pairs": 1_234})
    assert str(report).splitlines() == [
        "length (least: 1, on: yes): 2,000 read, 2,000 kept, 0 removed",
        "  pairs: 1,234",
    ]
    assert str(FilterReport("no_refusals", {}, 1, 1)) == "no refusals: 1 read, 1 kept, 0 removed"


def test_only_whole_answers_of_the_right_form_are_valid() -> None:
    records = [
        record("a"),
        record("b", problems=("not one of the labels", "empty")),
        record("c", finish_reason="length"),
        record("d", finish_reason="content_filter"),
        record("e", finish_reason="MAX_TOKENS"),
    ]
    found = filters.valid(records)
    assert kept_ids(found) == ["a"]
    assert found.report.by_reason == {
        "cut off at the limit of output tokens": 2,
        "not one of the labels; empty": 1,
        "stopped by the teacher's content filter": 1,
    }
    assert "5 read, 1 kept, 4 removed" in str(found.report)


REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I’m sorry, but I can’t assist with that request.",
    "I'm sorry, but I can't provide instructions for making weapons.",
    "**I'm sorry**, but I can't comply.",
    "As an AI language model, I do not have opinions.",
    "I cannot fulfill this request.",
    "I'm unable to assist with that.",
    "Sorry, I can't do that.",
    "I apologize, but I cannot comply with this request.",
    "I must decline to answer this.",
    "I cannot provide medical advice.",
    "Es tut mir leid, aber dabei kann ich nicht helfen.",
    "Tut mir leid, ich kann diese Anfrage nicht beantworten.",
    "Ich kann Ihnen dabei leider nicht helfen.",
    "Als KI-Sprachmodell kann ich keine Meinung haben.",
    "Je suis désolé, mais je ne peux pas vous aider avec cela.",
    "Désolée, je ne peux pas répondre à cette demande.",
    "En tant qu'IA, je n'ai pas d'opinion.",
    "Lo siento, pero no puedo ayudarte con eso.",
    "Como modelo de lenguaje, no tengo opiniones.",
]

ANSWERS = [
    "Sorry for the delay, your card is on its way.",
    "I'm sorry, but I can't find your order. Could you send the number?",
    "I'm sorry, I can't see a payment of that amount.",
    "We are sorry to hear that. You can help yourself in the app.",
    "Unfortunately we cannot refund the fee after 30 days.",
    "As an airline passenger you have rights.",
    "I can't help but smile at this.",
    "I cannot recommend this film enough.",
    "The assistant said: I'm sorry, but I can't help with that.",
    "Es tut mir leid, dass die Karte nicht angekommen ist.",
    "Als Kind war ich nicht krank.",
    "Je suis désolé pour le retard, votre carte arrive.",
    "En tant que client, vous avez raison.",
    "Lo siento por el retraso, su tarjeta llega mañana.",
    "Como siempre, gracias.",
    "No",
    "",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals_are_known_by_how_they_begin(text: str) -> None:
    assert is_refusal(text)
    assert filters.no_refusals([record("a", answer=text, value=None)]).kept == ()
    assert filters.no_refusals([record("a", answer=json.dumps({"reply": [text]}), value={"reply": [text]})]).kept == ()


@pytest.mark.parametrize("text", ANSWERS)
def test_an_answer_that_says_sorry_is_no_refusal(text: str) -> None:
    assert not is_refusal(text)


def test_a_label_is_no_refusal_and_a_filtered_answer_is_one() -> None:
    said = "I'm sorry, but I can't help with that."
    records = [
        record("a", answer=said, value=said),  # a label that is called so
        record("b", answer=said, value=None, problems=("not one of the labels",)),
        record("c", finish_reason="content_filter"),
        record("d", answer="", value=None, problems=("refusal: I cannot",)),
        record("e", answer="{}", value={"n": 3, "text": "fine"}),
    ]
    found = filters.no_refusals(records)
    assert kept_ids(found) == ["a", "e"]
    assert list(found.report.by_reason) == [
        "begins as a refusal",
        "stopped by the teacher's content filter",
        "the teacher refused",
    ]


def test_hardly_any_message_of_a_real_corpus_is_a_refusal() -> None:
    # 5,574 text messages of people: "Sorry, I can't help you on this." is among them three times.
    said = [one.text for one in task_rows("sms_spam/sms_spam.csv") if is_refusal(one.text)]
    assert all(text.strip(' \t"') == "Sorry, I can't help you on this." for text in said)


def test_the_majority_of_a_row_is_kept_once() -> None:
    # a: x, y, y of 3 -> y with 2/3, its first sample 1. b: x, y -> a tie. c: x of 2, one invalid -> 1/2.
    records = [
        record("a", answer="x", sample=0),
        record("a", answer="y", sample=1),
        record("a", answer="y", sample=2),
        record("b", answer="x", sample=0),
        record("b", answer="y", sample=1),
        record("c", answer="x", sample=0),
        record("c", answer="x", sample=1, finish_reason="length"),
        record("d", problems=("empty",)),
    ]
    found = filters.self_consistency(records, threshold=0.5)
    assert [one.key for one in found.kept] == [("a", 1), ("c", 0)]
    assert found.report.details["agreement"] == {"a": 2 / 3, "b": 0.5, "c": 0.5, "d": 0.0}
    assert found.report.details["ties"] == 1
    assert found.report.details["mean_agreement"] == pytest.approx((2 / 3 + 0.5 + 0.5 + 0) / 4)
    assert {(one.id, one.sample): (one.reason, one.of) for one in found.report.removed} == {
        ("a", 0): ("outvoted", ("a", 1)),
        ("a", 2): ("says the same as the sample that is kept", ("a", 1)),
        ("b", 0): ("two answers have equally many votes", None),
        ("b", 1): ("two answers have equally many votes", None),
        ("c", 1): ("not valid", ("c", 0)),
        ("d", 0): ("no valid sample in its row", None),
    }
    strict = filters.self_consistency(records, threshold=0.6)
    assert [one.key for one in strict.kept] == [("a", 1)]
    assert strict.report.by_reason["agreement below 0.6"] == 2


def test_votes_are_counted_by_what_is_said() -> None:
    numbers = [
        record("a", answer="So it is 1,200.\n#### 1,200", value=None, sample=0),
        record("a", answer="Answer: $1200.00", value=None, sample=1),
        record("a", answer="7", value=None, sample=2),
    ]
    assert [one.sample for one in filters.self_consistency(numbers).kept] == [0]
    values = [record("a", answer="", value={"x": 1, "y": 2}), record("a", answer="", value={"y": 2, "x": 1}, sample=1)]
    assert filters.self_consistency(values, threshold=1).report.details["agreement"] == {"a": 1.0}
    with pytest.raises(InputError, match=r"between 0 and 1. Got 1.5"):
        filters.self_consistency([], threshold=1.5)


@pytest.mark.parametrize(
    ("said", "reference", "same"),
    [
        ("1,200.0", "1200", True),
        ("$18", "18", True),
        ("18.", "18", True),
        ("-5", "−5", True),
        ("20%", "20", True),
        ("0.2", "20%", False),
        ("12", "1.2", False),
        ("3,5", "35", False),  # a decimal comma, or a list: not 35
        ("1e3", "1000", True),
        ("She has 18 left. #### 18", "He made 9 * 2 = <<9*2=18>>18 dollars.\n#### 18", True),
        ("Think: 7 or 8?\nAnswer: 8\nThat is it.", "8", True),
        ("Answer: 7. No.\nThe answer is: 8", "8", True),
        (r"so \boxed{42}", "42", True),
        ("She has 18 apples left.", "18", True),
        ("She had 20 and has 18 left.", "18", False),  # two numbers: which one is not told
        ("Card_Arrival ", "card_arrival", True),
        ("card arrival", "card_arrival", False),
        ("", "", True),
        ("", "0", False),
        ("-0.00", "0", True),
        ("12345678901234567890123456789012", "12345678901234567890123456789013", False),
    ],
)
def test_answers_compare_by_what_they_say(said: str, reference: str, same: bool) -> None:
    assert same_answer(said, reference) is same


@given(st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**9), max_value=10**9))
def test_a_number_is_the_same_however_it_is_written(value: object) -> None:
    assert answer_key(f"{value:,}") == answer_key(f"{value}") == answer_key(f"#### ${value}")
    assert as_number(f"{value:,}") == value


@given(st.text())
def test_an_answer_is_what_it_says(text: str) -> None:
    assert same_answer(text, text)
    assert len(final_answer(text)) <= len(text)


def test_chains_that_end_in_a_wrong_answer_go_if_the_filter_is_on() -> None:
    records = [
        record("a", answer="#### 1,200", value=None, reasoning="...", human_label="1200"),
        record("b", answer="#### 7", value=None, reasoning="...", human_label="8"),
        record("c", answer="7", value=None, reasoning="..."),
        record("d", answer="7", value=None, human_label="8"),
        record("e", answer="8", value=None, reasoning="...", human_label="8"),
    ]
    found = filters.verified_chain(records)
    assert kept_ids(found) == ["a", "c", "d", "e"]
    counts = {"right": 2, "wrong": 1, "unverified": 1, "without_reasoning": 1, "would_remove": 1}
    assert found.report.details == {**counts, "accuracy_before": 2 / 3, "accuracy_after": 1.0}
    off = filters.verified_chain(records, on=False)
    assert off.kept == tuple(records)
    assert off.report.details == {**counts, "accuracy_before": 2 / 3, "accuracy_after": 2 / 3}
    asked = filters.verified_chain(records, reference=lambda r: {"a": "1", "c": "7"}.get(r.id))
    assert kept_ids(asked) == ["b", "c", "d", "e"]
    assert filters.verified_chain([]).report.details["accuracy_before"] is None


def test_lengths_are_bounds_both_allowed() -> None:
    records = [
        record("a", answer="1234"),
        record("b", answer="12345"),
        record("c", answer=""),
        record("d", answer="1", reasoning="123456"),
        record("e", answer="1", reasoning="1"),
    ]
    found = filters.length(records, least=1, most=4, least_reasoning=2, most_reasoning=5)
    assert kept_ids(found) == ["a"]
    assert found.report.by_reason == {
        "answer above 4 characters": 1,
        "answer below 1 characters": 1,
        "reasoning above 5 characters": 1,
        "reasoning below 2 characters": 1,
    }
    counted = filters.length(
        [record("a", answer="one two"), record("b", answer="one two three")],
        most=2,
        count=lambda text: len(text.split()),
        unit="words",
    )
    assert counted.report.by_reason == {"answer above 2 words": 1}
    with pytest.raises(InputError, match="at least 5 and at most 4 characters"):
        filters.length([], least=5, most=4)


def test_classes_are_capped_at_random_and_in_order() -> None:
    records = [record(str(i), answer="ham" if i % 4 else "spam") for i in range(40)]  # 30 ham, 10 spam
    found = filters.balanced(records, ratio=1.5, seed=3)
    assert found.report.details == {"before": {"ham": 30, "spam": 10}, "after": {"ham": 15, "spam": 10}}
    assert Counter(one.answer for one in found.kept) == {"ham": 15, "spam": 10}
    assert [int(one.id) for one in found.kept] == sorted(int(one.id) for one in found.kept)
    assert filters.balanced(records, ratio=1.5, seed=3) == found
    assert filters.balanced(records, ratio=1.5, seed=4).kept != found.kept
    assert Counter(r.answer for r in filters.balanced(records, most_per_class=12, ratio=1.5).kept)["ham"] == 12
    assert filters.balanced(records, most_per_class=100).kept == tuple(records)
    for options, message in [
        ({}, "needs a cap"),
        ({"ratio": 0.5}, "at least 1"),
        ({"most_per_class": 0}, "at least 1"),
    ]:
        with pytest.raises(InputError, match=message):
            filters.balanced(records, **options)


def test_records_from_which_the_student_would_unlearn_go() -> None:
    rows = {"a": ("x", "x"), "b": ("x", "y"), "c": ("y", "x"), "d": ("y", "z")}  # teacher, student; right is x
    records = [record(i, answer=teacher, human_label="x") for i, (teacher, _) in rows.items()]
    records += [record("e", answer="x"), record("f", answer="x", human_label="x")]
    students = {i: student for i, (_, student) in rows.items()} | {"e": "x"}
    found = filters.teacher_fails_student_passes(records, student_answers=students)
    assert kept_ids(found) == ["a", "b", "d", "e", "f"]
    assert found.report.details == {
        "cases": {"both_right": 1, "teacher_only": 1, "student_only": 1, "both_wrong": 1, "not_known": 2}
    }
    hard = filters.teacher_fails_student_passes(records, student_answers=students, easy=False)
    assert kept_ids(hard) == ["b", "d", "e", "f"]
    only = filters.teacher_fails_student_passes(records, student_answers=students, keep="only")
    assert kept_ids(only) == ["c"]
    labels = filters.teacher_fails_student_passes(records, student_answers=students, human_labels={"b": "y"})
    assert kept_ids(labels) == ["a", "c", "d", "e", "f"]
    with pytest.raises(InputError, match="'others' or 'only'"):
        filters.teacher_fails_student_passes(records, student_answers={}, keep="all")  # type: ignore[arg-type]


def test_exact_duplicates_are_the_same_text_differently_written() -> None:
    records = [
        record("a", "Where is my card?"),
        record("b", "  where IS my\tcard?"),
        record("c", "Where is my card?", answer="loss"),
        record("d", "Where is my card"),
        record("e", "Where is my ｃａｒｄ?"),  # noqa: RUF001
        record("f", "", answer="none"),
        record("g", " ", answer="none"),
    ]
    found = filters.exact_duplicates(records)
    assert kept_ids(found) == ["a", "d", "f"]
    assert [(one.id, one.reason, one.of) for one in found.report.removed] == [
        ("b", "duplicate", ("a", 0)),
        ("c", "duplicate with another answer", ("a", 0)),
        ("e", "duplicate", ("a", 0)),
        ("g", "duplicate", ("f", 0)),
    ]
    assert kept_ids(filters.exact_duplicates(records, punctuation=False)) == ["a", "f"]


def test_the_samples_of_a_row_are_no_duplicates_of_each_other() -> None:
    records = [
        record("a", answer="x"),
        record("a", answer="y", sample=1),
        record("b", answer="y"),
        record("c", answer="z"),
    ]
    for one in (filters.exact_duplicates, filters.near_duplicates):
        found = one(records)
        assert [r.key for r in found.kept] == [("a", 0), ("a", 1)]
        assert [removal.reason.endswith("another answer") for removal in found.report.removed] == [False, True]


def test_duplicates_of_a_real_corpus() -> None:
    records = task_rows("sms_spam/sms_spam.csv")
    raw = len(records) - len({one.text for one in records})
    assert (len(records), raw) == (5574, 403)  # as its note says
    found = filters.exact_duplicates(records)
    assert 403 <= len(found.report.removed) <= 415  # a few more differ by case and spaces alone
    texts = [" ".join(one.text.casefold().split()) for one in found.kept]
    assert len(set(texts)) == len(texts)
