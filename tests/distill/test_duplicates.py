from __future__ import annotations

import random
from collections import defaultdict
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Indel

from distillcalc.distill.duplicates import Near, bands_and_rows, clusters, near_duplicates
from distillcalc.distill.wording import jaccard, n_grams, normalised, shingles, words
from distillcalc.errors import InputError
from tests.distill.making import record, task_rows


def same(texts: list[str], ids: list[int]) -> set[frozenset[int]]:
    """Clusters as sets of places."""
    found = defaultdict(set)
    for place, one in enumerate(ids):
        found[one].add(place)
    assert len(ids) == len(texts)
    return {frozenset(one) for one in found.values()}


def near_by_hand(a: str, b: str, threshold: float) -> bool:
    """The definition: equal, or Jaccard of 5-character shingles, or the ratio where one has fewer than 5 of them."""
    a, b = normalised(a), normalised(b)
    if a == b:
        return True
    one, other = shingles(a), shingles(b)
    if min(len(one), len(other)) < 5:
        return bool(a and b) and Indel.normalized_similarity(a, b) >= threshold - 1e-9
    return jaccard(one, other) >= threshold


def clusters_by_hand(texts: list[str], threshold: float) -> set[frozenset[int]]:
    """Connected components over all pairs."""
    parts = [{i} for i in range(len(texts))]
    for i, j in combinations(range(len(texts)), 2):
        if near_by_hand(texts[i], texts[j], threshold):
            one, other = (next(part for part in parts if k in part) for k in (i, j))
            if one is not other:
                one |= other
                parts.remove(other)
    return {frozenset(part) for part in parts}


def varied(rnd: random.Random, count: int) -> list[str]:
    """Sentences of which many differ by a word or two."""
    vocabulary = ["card", "money", "transfer", "account", "lost", "blocked", "why", "when", "please", "today", "euro"]
    found: list[str] = []
    while len(found) < count:
        said = rnd.choices(vocabulary, k=rnd.randint(6, 25))
        found.append(" ".join(said))
        for _ in range(rnd.randint(0, 3)):
            said = list(said)
            said[rnd.randrange(len(said))] = rnd.choice(vocabulary)
            found.append(" ".join(said))
    return found[:count]


def test_shingles_by_hand() -> None:
    assert shingles("ABCD ef", size=5) == {"abcd ", "bcd e", "cd ef"}
    assert shingles("abc", size=5) == frozenset()
    assert shingles("To be or  not", size=2, unit="words") == {"to be", "be or", "or not"}
    assert jaccard(frozenset("abc"), frozenset("bcd")) == 0.5  # 2 of 4
    assert jaccard(frozenset(), frozenset()) == 1
    assert words("Don't stop, it's 3.50 €!") == ["don't", "stop", "it's", "3", "50"]
    assert n_grams(["a", "b", "c"], 2) == [("a", "b"), ("b", "c")]
    assert n_grams(["a"], 2) == []
    assert normalised(" Straße\tﬁne  ") == "strasse fine"
    assert normalised("Hi, you :-)", punctuation=False) == "hi you"
    assert normalised(":-)", punctuation=False) == ":-)"
    with pytest.raises(InputError, match="size=0"):
        shingles("abc", size=0)


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
@pytest.mark.parametrize("recall", [0.9, 0.995, 0.9999])
def test_bands_reach_the_recall_that_is_asked_for(threshold: float, recall: float) -> None:
    bands, rows = bands_and_rows(threshold, recall=recall)
    assert bands * rows <= 128
    assert 1 - (1 - threshold**rows) ** bands >= recall
    # By hand: 0.8^6 = 0.262, 1 - 0.738^21 = 0.9983; one row more, 0.8^7 = 0.2097, 1 - 0.7903^18 = 0.9855.
    assert bands_and_rows(0.8, recall=0.995) == (21, 6)


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_hashing_finds_nearly_all_pairs_that_comparing_all_finds(threshold: float) -> None:
    texts = [text for text in dict.fromkeys(varied(random.Random(5), 400)) if len(shingles(text)) >= 5]
    near = Near(texts, threshold=threshold, recall=0.995)
    buckets = near.buckets
    right = [(i, j) for i, j in combinations(range(len(texts)), 2) if near_by_hand(texts[i], texts[j], threshold)]
    met = sum(bool((buckets[i] == buckets[j]).any()) for i, j in right)
    assert len(right) > 100
    assert met / len(right) >= 0.99
    assert all(near.near(i, j) for i, j in right)


def test_clusters_are_those_of_comparing_all() -> None:
    texts = [*varied(random.Random(7), 300), "", " ", "ok", "OK", "okay", "hi", "🙂", "🙂🙂", "12345", "12346"]
    assert same(texts, clusters(texts)) == clusters_by_hand(texts, 0.8)


def test_clusters_by_hand() -> None:
    base = "please tell me where my new card is, it is late"  # 47 characters, 43 shingles
    texts = [base, base.upper() + "!", "a different text altogether, of money", "", "my card", "my carD", "my cars", ""]
    # base and base! share 43 of 44. "my card" and "my cars": 1 - 2/14 = 0.86 by the ratio.
    assert clusters(texts) == [0, 0, 1, 2, 3, 3, 3, 2]
    assert clusters([]) == []
    assert clusters(["one"]) == [0]
    assert clusters(["all the same text"] * 5) == [0] * 5
    assert clusters(["12345", "12346", "98765"]) == [0, 0, 1]  # 1 - 2/10 is at the threshold, and rounds below it
    assert clusters(["12345", "12346"], threshold=0.81) == [0, 1]


def test_a_chain_of_near_duplicates_is_one_cluster_and_two_leaders() -> None:
    # Each drops four characters of the one before, at one end and the other.
    whole = "abcdefghijklmnopqrstuvwxyz0123456789+-*/=#@!"  # 44 characters, 40 shingles
    chain = [whole, whole[4:], whole[4:-4]]
    assert [jaccard(shingles(a), shingles(b)) for a, b in combinations(chain, 2)] == [36 / 40, 32 / 40, 32 / 36]
    assert clusters(chain, threshold=0.85) == [0, 0, 0]
    found = near_duplicates([record(str(i), text) for i, text in enumerate(chain)], threshold=0.85)
    assert [one.id for one in found.kept] == ["0", "2"]  # the last is near the second, which is not kept
    assert found.report.removed[0].of == ("0", 0)
    assert clusters(chain, threshold=0.95) == [0, 1, 2]


def test_a_chain_of_short_texts_too() -> None:
    # The ratio is twice the shorter over both: 8/9 = 0.89, 10/11 = 0.91, and of the ends 8/10 = 0.8.
    chain = ["abcd", "abcde", "abcdef"]
    assert clusters(chain, threshold=0.85) == [0, 0, 0]
    assert clusters(chain, threshold=0.9) == [0, 1, 1]
    assert clusters(["abcdef", "abcdefgh"]) == [0, 0]  # 12/14 = 0.86: lengths that differ by a third
    found = near_duplicates([record(str(i), text) for i, text in enumerate(chain)], threshold=0.85)
    assert [one.id for one in found.kept] == ["0", "2"]


pieces = st.lists(st.sampled_from(["card ", "lost ", "money ", "é", "ß", "🙂", "the transfer is late "]), max_size=8)


@settings(derandomize=True)
@given(st.lists(pieces.map("".join), max_size=12), st.randoms(use_true_random=False))
def test_who_is_together_does_not_depend_on_the_order(texts: list[str], rnd: random.Random) -> None:
    order = list(range(len(texts)))
    rnd.shuffle(order)
    straight = clusters(texts)
    shuffled = clusters([texts[i] for i in order])
    assert same(texts, straight) == {frozenset(order[i] for i in one) for one in same(texts, shuffled)}
    assert list(dict.fromkeys(straight)) == list(range(len(set(straight))))


@settings(derandomize=True)
@given(st.lists(pieces.map("".join), max_size=12), st.sampled_from([0.5, 0.8, 1.0]))
def test_a_cluster_holds_no_text_that_is_near_none_of_it(texts: list[str], threshold: float) -> None:
    for one in same(texts, clusters(texts, threshold=threshold)):
        for i in one:
            others = one - {i}
            assert not others or any(near_by_hand(texts[i], texts[j], threshold) for j in others)


@settings(derandomize=True)
@given(st.lists(pieces.map("".join), max_size=12))
def test_what_is_removed_is_near_what_is_kept_and_what_is_kept_is_not(texts: list[str]) -> None:
    records = [record(str(i), text) for i, text in enumerate(texts)]
    found = near_duplicates(records)
    for removal in found.report.removed:
        assert removal.of is not None
        assert near_by_hand(texts[int(removal.id)], texts[int(removal.of[0])], 0.8)
        assert int(removal.of[0]) < int(removal.id)
        assert removal.of in {one.key for one in found.kept}
    assert not any(near_by_hand(a.text, b.text, 0.8) for a, b in combinations(found.kept, 2))


def test_words_as_shingles() -> None:
    texts = ["one two three four five six seven eight", "one two three four five six seven nine"]
    # 3-word shingles: 5 shared of 7 together = 0.71.
    assert clusters(texts, size=3, unit="words", threshold=0.7) == [0, 0]
    assert clusters(texts, size=3, unit="words", threshold=0.72) == [0, 1]


def test_a_template_filled_many_times_is_one_cluster() -> None:
    texts = [f"Where is my order {i}? I have been waiting for it since last Tuesday." for i in range(3000)]
    assert set(clusters(texts)) == {0}


def test_shares_out_of_bounds_are_refused() -> None:
    with pytest.raises(InputError, match="threshold is a Jaccard index"):
        clusters(["a"], threshold=0)
    with pytest.raises(InputError, match="recall is a chance"):
        clusters(["a"], recall=1)


def test_near_duplicates_of_a_real_corpus_are_near() -> None:
    records = task_rows("sms_spam/sms_spam.csv")
    found = near_duplicates(records)
    assert 410 < len(found.report.removed) < 700
    texts = {one.id: one.text for one in records}
    for removal in found.report.removed:
        assert removal.of is not None
        assert near_by_hand(texts[removal.id], texts[removal.of[0]], 0.8)
    again = near_duplicates(found.kept)
    assert len(again.report.removed) <= 1  # what the bands miss
