from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz import fuzz

from distillcalc.distill.decontaminate import decontaminated
from distillcalc.distill.wording import n_grams, words
from distillcalc.errors import InputError
from tests.distill.making import record, task_rows

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def rule(text: str, *evaluation: str, **options: object) -> tuple[str, str] | None:
    """The first words of the reason that a text goes for, and the item that it gives away."""
    found = decontaminated([record("a", text)], evaluation=evaluation, **options)  # type: ignore[arg-type]
    if found.kept:
        return None
    [removal] = found.report.removed
    assert removal.of is not None
    assert removal.of[1] == 0
    return removal.reason.split(" evaluation item")[0], removal.of[0]


def test_rules_by_hand() -> None:
    assert rule("Where is my card?", "I lost it", "where is my CARD") == ("equal to an", "1")
    # 13 words of the item, in a text of others.
    shared = " ".join(LONG.split()[:13])
    assert rule(f"I say {shared}, yes", LONG) == ("13 words in a row of an", "0")
    assert rule(f"I say {' '.join(LONG.split()[:12])} or other things, many of them", LONG) is None
    assert rule(f"I say {' '.join(LONG.split()[:12])} or other things, many of them", LONG, n=12) is not None
    # An item of 8 to 12 words counts where it is held whole, and a text of so many where an item holds it.
    eight = " ".join(LONG.split()[:8])
    assert rule(f"before that there were {eight} and then others", eight) == ("holds an", "0")
    assert rule(eight, f"before that there were {eight} and then others") == ("within an", "0")
    seven = " ".join(LONG.split()[:7])
    assert rule(f"before that there were {seven} and then others", seven) is None
    assert rule(f"before that there were {seven} and then others", seven, fewest=7) == ("holds an", "0")
    # Words in another order, and a slip of the pen.
    assert rule("is my card where?", "where is my card") == ("nearly equal to an", "0")
    assert rule("where is my credit card now", "where is my credit crad now") == ("nearly equal to an", "0")
    assert rule("is my card where?", "where is my card", ratio=None) is None
    assert rule("where is my money", "where is my card") is None


def test_a_formula_is_given_away_by_an_equal_one_alone() -> None:
    assert rule("7 + 5 - 3", "7+5-3") == ("equal to an", "0")
    for other in ("7 + 5 + 3", "5 + 7 - 3", "7 - 5 + 3", "7 + 5 - 30", "7 plus 5 minus 3", "7 5 3"):
        assert rule("7 + 5 - 3", other) is None
        assert rule(other, "7 + 5 - 3") is None
    assert rule("x + 2 = 5", "x - 2 = 5") is None
    assert rule("x + 2 = 5", "X+2=5") == ("equal to an", "0")
    nine = "1 + 2 + 3 + 4 + 5"
    assert rule(f"0 + {nine}", nine) == ("holds an", "0")
    # Words with a number are no formula, of whatever script.
    assert rule("where is my 50 euro", "is my euro 50 where") == ("nearly equal to an", "0")
    assert rule("मेरा कार्ड 5 कहाँ है", "कहाँ मेरा कार्ड 5 है") == ("nearly equal to an", "0")


def test_likeness_right_at_the_bound_counts() -> None:
    # "aaaaaaaaab" and "aaaaaaaaac": 1 - 2/20 = 0.9.
    assert rule("aaaaaaaaab", "aaaaaaaaac") == ("nearly equal to an", "0")
    assert rule("aaaaaaaaab", "aaaaaaaaac", ratio=0.91) is None


def test_a_piece_counts_if_asked_for() -> None:
    item = "please can you tell me where my new card is"
    text = "hello there my friend, pleese can you tell me where my new card is, as I have waited for a very long time"
    assert rule(text, item) is None
    assert rule(text, item, partial=0.9) == ("a piece nearly equal to an", "0")


def test_evaluation_sets_of_every_form() -> None:
    texts = [record("a", "Where is my card?"), record("b", "Something else")]
    for evaluation, name in [
        (["where is my card"], "0"),
        ({"q7": "where is my card"}, "q7"),
        ([record("e", "where is my card")], "e"),
        ((text for text in ["where is my card"]), "0"),
    ]:
        found = decontaminated(texts, evaluation=evaluation)
        assert [one.id for one in found.kept] == ["b"]
        assert found.report.removed[0].of == (name, 0)
        assert found.report.details == {"evaluation_items": 1, "items_given_away": 1}


def test_nothing_is_given_away_by_nothing() -> None:
    assert decontaminated([], evaluation=["a"]).kept == ()
    some = [record("a", ""), record("b", "?!"), record("c", "🙂"), record("d", "card")]
    assert decontaminated(some, evaluation=[]).kept == tuple(some)
    assert decontaminated(some, evaluation=["", "...", "🙃"]).kept == tuple(some)
    assert [one.id for one in decontaminated(some, evaluation=["", "?!", "🙂"]).kept] == [
        "a",
        "d",
    ]  # no words, but equal
    with pytest.raises(InputError, match="Got one text"):
        decontaminated(some, evaluation="card")
    with pytest.raises(InputError, match="n=0"):
        decontaminated(some, evaluation=[], n=0)
    with pytest.raises(InputError, match="ratio is a likeness"):
        decontaminated(some, evaluation=[], ratio=90)


def by_hand(text: str, items: list[str], n: int, fewest: int, ratio: float) -> bool:
    """The four rules, over all pairs."""

    def formula(of: str) -> bool:
        return re.search(r"\d", of) is not None and re.search(r"[^\W\d_]{2}", of) is None

    mine = text.split() if formula(text) else words(text)
    for one in items:
        item = one.split() if formula(one) else words(one)
        if not mine or not item:
            continue
        size = min(n, len(mine), len(item))
        if mine == item or (size >= min(fewest, n) and set(n_grams(mine, size)) & set(n_grams(item, size))):
            return True
        if formula(text) or formula(one):
            continue
        if fuzz.token_sort_ratio(" ".join(mine), " ".join(item)) >= 100 * ratio - 1e-6:
            return True
    return False


VOCABULARY = ["card", "lost", "money", "é", "my", "is", "where", "7", "transferred"]
sentences = st.lists(st.sampled_from(VOCABULARY), max_size=9).map(" ".join)


@given(
    st.lists(sentences, max_size=8),
    st.lists(sentences, max_size=8),
    st.integers(2, 6),
    st.integers(1, 4),
    st.sampled_from([0.6, 0.8, 0.9, 1.0]),
)
def test_the_index_finds_what_comparing_all_finds(
    texts: list[str], items: list[str], n: int, fewest: int, ratio: float
) -> None:
    records = [record(str(i), text) for i, text in enumerate(texts)]
    found = decontaminated(records, evaluation=items, n=n, fewest=fewest, ratio=ratio)
    went = {int(one.id) for one in found.report.removed}
    assert went == {i for i, text in enumerate(texts) if by_hand(text, items, n, fewest, ratio)}
    assert decontaminated(found.kept, evaluation=items, n=n, fewest=fewest, ratio=ratio).kept == found.kept


def test_a_real_training_set_gives_some_of_its_test_set_away() -> None:
    train, test = task_rows("banking77/train.csv"), task_rows("banking77/test.csv")
    found = decontaminated(train, evaluation=test)
    assert found.report.by_reason["equal to an evaluation item"] >= 7
    assert 400 < len(found.report.removed) < 1000
    texts = {one.id: one.text for one in [*train, *test]}
    for removal in found.report.removed:
        assert removal.of is not None
        assert by_hand(texts[removal.id], [texts[removal.of[0]]], 13, 8, 0.9)
    items = [one.text for one in test]
    for one in random.Random(1).sample(found.kept, 20):
        assert not by_hand(one.text, items, 13, 8, 0.9)
