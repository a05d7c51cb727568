from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillcalc.distill import diversity as module
from distillcalc.distill.diversity import diversity
from distillcalc.distill.wording import jaccard, normalised, shingles
from tests.distill.making import task_rows


def test_by_hand() -> None:
    found = diversity(["a b a", "a b c"])
    # words: a b a a b c -> 3 of 6; pairs: ab ba ab bc -> 3 of 4; triples: aba abc -> 2 of 2.
    assert (found.texts, found.words) == (2, 6)
    assert (found.distinct_1, found.distinct_2, found.distinct_3) == (0.5, 0.75, 1.0)
    assert found.exact_duplicates == 0
    # "a b a" and "a b c" are one shingle each, and not the same one; their ratio is 1 - 2/10, right at 0.8.
    assert (found.near_duplicates, found.nearest_jaccard, found.compared) == (0.5, 0, 2)
    assert found.against is None
    assert "2 texts, 6 words" in str(found)


def test_nearest_is_the_other_most_alike() -> None:
    texts = ["abcdefghij", "abcdefghix", "something else"]  # 6 shingles each; 5 shared of 7
    assert diversity(texts).nearest_jaccard == pytest.approx((5 / 7 + 5 / 7 + 0) / 3)
    assert diversity(["abcdefghij"] * 3).nearest_jaccard == 1


def test_against_seeds_by_hand() -> None:
    seeds = ["where is my new card, please", "my money is gone"]
    texts = ["Where is my new card, please", "where is my new card, please!", "a wholly other thing"]
    found = diversity(texts, seeds).against
    assert found is not None
    assert found.equal == 1 / 3
    assert found.near == 2 / 3  # 24 of 25 shingles
    assert found.nearest_jaccard == pytest.approx((1 + 24 / 25 + 0) / 3)
    # Pairs of words: where-is, is-my, my-new, new-card, card-please, a-wholly, wholly-other, other-thing: 3 of 8 new.
    assert found.new_bigrams == 3 / 8
    assert found.seeds == diversity(seeds)
    assert "against 2 seeds: 33.3% equal" in str(diversity(texts, seeds))


def test_limits() -> None:
    none = diversity([], [])
    assert (none.texts, none.words, none.compared) == (0, 0, 0)
    assert all(
        math.isnan(x) for x in (none.distinct_1, none.exact_duplicates, none.nearest_jaccard, none.compression_ratio)
    )
    assert none.against is not None
    assert math.isnan(none.against.equal)
    assert json.loads(json.dumps(none.to_dict(), allow_nan=False))["against"]["seeds"]["distinct_1"] is None
    one = diversity(["Grüße 🙂"])
    assert (one.words, one.distinct_1, one.exact_duplicates, one.compared) == (1, 1, 0, 0)
    assert math.isnan(one.nearest_jaccard)
    assert math.isnan(one.distinct_2)
    blank = diversity(["", " ", ""])
    assert blank.exact_duplicates == 2 / 3
    assert blank.near_duplicates == 2 / 3
    assert blank.nearest_jaccard == 1
    alike = diversity(["all the same text, every time"] * 200)
    assert alike.exact_duplicates == alike.near_duplicates == 199 / 200
    assert alike.compression_ratio > 20


@settings(derandomize=True)
@given(
    st.lists(st.text(alphabet="ab c🙂é", max_size=14), max_size=8),
    st.lists(st.text(alphabet="ab c", max_size=14), max_size=3),
)
def test_shares_are_shares_and_the_nearest_is_that_of_comparing_all(texts: list[str], seeds: list[str]) -> None:
    found = diversity(texts, seeds)
    json.dumps(found.to_dict(), allow_nan=False)
    assert found.against is not None
    shares = [found.distinct_1, found.distinct_3, found.near_duplicates, found.against.near, found.against.new_bigrams]
    assert all(math.isnan(x) or 0 <= x <= 1 for x in shares)
    if texts:
        assert found.exact_duplicates <= found.near_duplicates
        assert found.against.equal <= found.against.near
    sets = [shingles(text) or frozenset([normalised(text)]) for text in texts]
    if len(texts) > 1:
        nearest = [max(jaccard(a, b) for j, b in enumerate(sets) if j != i) for i, a in enumerate(sets)]
        assert found.nearest_jaccard == pytest.approx(sum(nearest) / len(nearest))


def test_many_texts_are_compared_by_a_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    rnd = random.Random(0)
    texts = ["".join(rnd.choices("abcdef", k=12)) for _ in range(300)]
    whole = diversity(texts)
    monkeypatch.setattr(module, "MOST_COMPARED", 100)
    monkeypatch.setattr(module, "CELLS", 1000)  # several steps
    drawn = diversity(texts, texts[:50], seed=1)
    assert (whole.compared, drawn.compared) == (300, 100)
    assert drawn.nearest_jaccard == pytest.approx(whole.nearest_jaccard, abs=0.05)
    assert diversity(texts, texts[:50], seed=1) == drawn


def test_real_questions_are_less_varied_than_messages_of_all_kinds() -> None:
    banking = [one.text for one in task_rows("banking77/train.csv")][:2000]
    messages = [one.text for one in task_rows("sms_spam/sms_spam.csv")][:2000]
    narrow, wide = diversity(banking), diversity(messages)
    assert narrow.distinct_2 < wide.distinct_2
    assert narrow.nearest_jaccard > wide.nearest_jaccard
    assert narrow.compression_ratio > wide.compression_ratio
