from __future__ import annotations

import json
import math
from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillcalc.distill.records import Record
from distillcalc.distill.splits import SHARES, Splits, split
from distillcalc.distill.wording import normalised, shingles
from distillcalc.errors import InputError
from tests.distill.making import record, task_rows
from tests.distill.test_duplicates import near_by_hand, pieces


def unlike(count: int, answer: str = "card", start: int = 0) -> list[Record]:
    """Records whose texts share nothing."""
    return [record(f"{answer}{i}", f"{chr(0x4E00 + start + i)}" * 9, answer) for i in range(count)]


def place(splits: Splits) -> dict[tuple[str, int], str]:
    return {one.key: name for name, part in splits.parts.items() for one in part}


def test_shares_and_classes_by_hand() -> None:
    records = unlike(100, "ham") + unlike(20, "spam", start=1000)
    found = split(records)
    assert {name: len(part) for name, part in found.parts.items()} == {"train": 96, "validation": 12, "test": 12}
    assert found.classes == {
        "train": {"ham": 80, "spam": 16},
        "validation": {"ham": 10, "spam": 2},
        "test": {"ham": 10, "spam": 2},
    }
    assert found.realised == {"train": 0.8, "validation": 0.1, "test": 0.1}
    assert (found.groups, found.largest_group, found.warnings) == (120, 1, ())
    assert json.loads(json.dumps(found.to_dict()))["records"]["train"] == 96
    assert str(found).startswith("train: 96 records, 80.0% (asked: 80.0%)")
    for name in SHARES:
        ids = [records.index(one) for one in found[name]]
        assert ids == sorted(ids)


def test_many_rare_classes_fill_all_splits() -> None:
    records = [one for c in range(50) for one in unlike(4, f"class {c}", start=10 * c)]
    found = split(records, shares={"a": 0.5, "b": 0.25, "c": 0.25})
    for name, share in found.shares.items():
        assert abs(len(found[name]) - 200 * share) <= 1
        assert all(abs(found.classes[name].get(f"class {c}", 0) - 4 * share) <= 1 for c in range(50))
    single = split([one for c in range(100) for one in unlike(1, f"class {c}", start=10 * c)])
    assert {name: len(part) for name, part in single.parts.items()} == {"train": 80, "validation": 10, "test": 10}


def test_a_seed_draws_and_none_of_it_depends_on_the_order() -> None:
    records = unlike(60)
    assert place(split(records, seed=1)) == place(split(records[::-1], seed=1))
    assert place(split(records, seed=1)) != place(split(records, seed=2))
    assert split(records, seed=1) == split(records, seed=1)


def test_limits() -> None:
    none = split([])
    assert none.parts == {"train": (), "validation": (), "test": ()}
    assert math.isnan(none.realised["train"])
    assert none.to_dict()["realised"]["train"] is None
    one = split([record("a")])
    assert place(one) == {("a", 0): "train"}
    assert one.warnings == ("validation is empty", "test is empty")
    same = split([record(str(i)) for i in range(30)])
    assert len(same["train"]) == 30
    assert same.groups == 1
    assert "a group of 30 records is larger than the share of train, validation, test" in same.warnings
    assert "Warning: test is empty" in str(same)
    whole = split(unlike(5), shares={"all": 1.0})
    assert len(whole["all"]) == 5


def test_shares_that_cannot_be_are_refused() -> None:
    for shares in ({}, {"a": 0.5}, {"a": 1.5, "b": -0.5}, {"a": 1.0, "b": 0.0}):
        with pytest.raises(InputError, match="sum to 1"):
            split([], shares=shares)
    with pytest.raises(InputError, match="Got 1 for 2 records"):
        split(unlike(2), groups=["x"])


def test_groups_that_are_given_stay_together_and_so_do_samples() -> None:
    records = unlike(40)
    by_ten = split(records, groups=[i // 10 for i in range(40)], shares={"a": 0.5, "b": 0.5})
    assert by_ten.groups == 4
    for ten in range(4):
        assert len({place(by_ten)[one.key] for one in records[10 * ten : 10 * ten + 10]}) == 1
    called = split(records, groups=lambda one: int(one.id.removeprefix("card")) // 10, shares={"a": 0.5, "b": 0.5})
    assert called == by_ten
    samples = [
        record(f"row {i}", f"{chr(0x4E00 + i)}" * 9 + f"{sample}" * 30, sample=sample)
        for i in range(20)
        for sample in range(3)
    ]
    where = place(split(samples))
    assert all(where[f"row {i}", 0] == where[f"row {i}", 1] == where[f"row {i}", 2] for i in range(20))


def test_answers_that_are_no_labels_are_one_class() -> None:
    records = [one.model_copy(update={"value": {"n": i}}) for i, one in enumerate(unlike(20))]
    found = split(records)
    assert found.classes == {}
    assert len(found["train"]) == 16
    assert split(unlike(20), stratify=False).classes == {}


@settings(derandomize=True)
@given(
    st.lists(
        st.tuples(pieces.map("".join), st.sampled_from(["x", "y", None]), st.sampled_from("abcdefghij")), max_size=14
    ),
    st.integers(0, 5),
    st.sampled_from([SHARES, {"a": 0.34, "b": 0.33, "c": 0.33}, {"a": 0.999, "b": 0.001}]),
    st.randoms(use_true_random=False),
)
def test_nothing_near_crosses_the_splits(rows, seed, shares, rnd) -> None:  # type: ignore[no-untyped-def]
    records = [record(row, text, value=value, sample=i) for i, (text, value, row) in enumerate(rows)]
    found = split(records, shares=shares, seed=seed)
    assert sum(map(len, found.parts.values())) == len(records)
    where = place(found)
    for one, other in combinations(records, 2):
        if one.id == other.id or near_by_hand(one.text, other.text, 0.8):
            assert where[one.key] == where[other.key]
    shuffled = rnd.sample(records, len(records))
    assert place(split(shuffled, shares=shares, seed=seed)) == where


def test_a_real_corpus_is_parted_without_a_text_in_common() -> None:
    records = task_rows("sms_spam/sms_spam.csv")
    found = split(records, shares={"train": 0.7, "validation": 0.15, "test": 0.15})
    for one, other in combinations(found.parts.values(), 2):
        assert not {normalised(r.text) for r in one} & {normalised(r.text) for r in other}
    total = Counter(one.answer for one in records)
    for name, share in found.shares.items():
        assert found.realised[name] == pytest.approx(share, abs=0.002)
        for label, n in total.items():
            assert found.classes[name][label] == pytest.approx(share * n, abs=3)
    # Near-duplicates too: every test text against the training texts that share a shingle of its own.
    holders: dict[str, list[frozenset[str]]] = {}
    for one in found["train"]:
        grams = shingles(one.text)
        for gram in grams:
            holders.setdefault(gram, []).append(grams)
    crossing = 0
    for one in found["test"]:
        grams = shingles(one.text)
        if len(grams) < 5:
            continue
        rare = sorted(grams, key=lambda gram: len(holders.get(gram, ())))[: len(grams) // 5 + 1]
        others = {id(o): o for gram in rare for o in holders.get(gram, ()) if len(o) >= 5}
        crossing += any(len(grams & o) >= 0.8 * len(grams | o) for o in others.values())
    assert crossing == 0
