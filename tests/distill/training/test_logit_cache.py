"""The cache of the teacher's logits: round trips, what it refuses, and a writer that is killed."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distillcalc.distill.training.logit_cache import (
    LogitCache,
    LogitCacheWriter,
    data_fingerprint,
    top_k,
    weights_fingerprint,
)
from distillcalc.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
OF: dict[str, Any] = {"tokenizer": "tok", "data": "data", "temperature": 2.0}
VOCABULARY, K = 300, 4


def writer(folder: Path, **changed: Any) -> LogitCacheWriter:
    return LogitCacheWriter(folder, **{"k": K, "vocabulary": VOCABULARY, **OF, **changed})


def distribution(seed: int, tokens: int, vocabulary: int = VOCABULARY, k: int = K) -> tuple[Any, Any, Any]:
    generator = torch.Generator().manual_seed(seed)
    return top_k(torch.randn(tokens, vocabulary, generator=generator) * 4, k)


def made(folder: Path, samples: int = 5, **changed: Any) -> dict[str, tuple[Any, Any, Any]]:
    """A whole cache of samples s0, s1, ... of 1, 2, ... tokens."""
    arrays = {f"s{n}": distribution(n, n + 1) for n in range(samples)}
    with writer(folder, **changed) as out:
        for name, arrays_of in arrays.items():
            out.add(name, *arrays_of)
        out.finish()
    return arrays


def assert_same(found: tuple[Any, Any, Any], wanted: tuple[Any, Any, Any]) -> None:
    ids, logprobs, tail = (np.asarray(values) for values in wanted)
    np.testing.assert_array_equal(found[0], ids)
    np.testing.assert_allclose(found[1], logprobs, rtol=2**-11, atol=2**-25)  # as 16 bits round, near 0 too
    np.testing.assert_array_equal(found[2], tail)


# --- top_k


def test_top_k_by_hand() -> None:
    """Logits log 4, log 2, log 1, log 1: probabilities 1/2, 1/4, 1/8, 1/8."""
    logits = torch.tensor([[4.0, 1.0, 2.0, 1.0]]).log()
    ids, logprobs, tail = top_k(logits, 2)
    assert ids.tolist() == [[0, 2]]
    torch.testing.assert_close(logprobs.exp(), torch.tensor([[0.5, 0.25]]))
    torch.testing.assert_close(tail, torch.tensor([0.25]))


def test_top_k_at_a_temperature() -> None:
    """At T = 2 the odds 4 : 2 : 1 : 1 become 2 : 1.41 : 1 : 1, which sum to 5.4142."""
    _, logprobs, tail = top_k(torch.tensor([[4.0, 1.0, 2.0, 1.0]]).log(), 2, temperature=2.0)
    torch.testing.assert_close(logprobs.exp(), torch.tensor([[2.0, 2**0.5]]) / (4 + 2**0.5))
    torch.testing.assert_close(tail, torch.tensor([2 / (4 + 2**0.5)]))


def test_rows_of_padding_are_cut_before_the_softmax() -> None:
    """The fifth logit is of no token: without the cut it would take nearly everything."""
    logits = torch.cat([torch.tensor([[4.0, 1.0, 2.0, 1.0]]).log(), torch.tensor([[50.0]])], dim=1)
    ids, logprobs, tail = top_k(logits, 1, vocabulary=4)
    assert ids.tolist() == [[0]]
    torch.testing.assert_close(logprobs.exp(), torch.tensor([[0.5]]))
    torch.testing.assert_close(tail, torch.tensor([0.5]))


def test_a_tiny_tail_is_right() -> None:
    """One logit of 60 over 1,000 zeros: the rest has 999 e^-60 = 8.75e-24, where 1 - sum is 0 in any float."""
    logits = torch.zeros(1, 1_000)
    logits[0, 7] = 60.0
    ids, logprobs, tail = top_k(logits, 1)
    assert ids.item() == 7
    assert 1.0 - logprobs.exp().item() == 0.0
    assert tail.item() == pytest.approx(999 * np.exp(-60.0), rel=1e-5)


def test_the_whole_vocabulary_leaves_no_tail() -> None:
    ids, logprobs, tail = top_k(torch.randn(3, 7), 9)
    assert ids.shape == logprobs.shape == (3, 7)
    assert tail.tolist() == [0.0, 0.0, 0.0]


def test_no_positions() -> None:
    ids, _, tail = top_k(torch.empty(0, 7), 2)
    assert ids.shape == (0, 2)
    assert tail.shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_many_rows_of_any_type_sum_to_one(dtype: torch.dtype) -> None:
    """600 rows: more than are computed at once."""
    logits = (torch.randn(600, 50, generator=torch.Generator().manual_seed(1)) * 5).to(dtype)
    ids, logprobs, tail = top_k(logits, 8)
    torch.testing.assert_close(logprobs.exp().sum(-1) + tail, torch.ones(600))
    torch.testing.assert_close(ids, logits.float().topk(8).indices)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32), scale=st.floats(0, 60), temperature=st.floats(0.3, 20), k=st.integers(1, 40),
    impossible=st.integers(0, 30),
)  # fmt: skip
def test_top_k_is_the_softmax_in_double_precision(
    seed: int, scale: float, temperature: float, k: int, impossible: int
) -> None:
    logits = torch.randn(3, 40, generator=torch.Generator().manual_seed(seed)) * scale
    logits[:, :impossible] = -torch.inf
    given = logits.clone()
    ids, logprobs, tail = top_k(logits, k, temperature)
    assert torch.equal(logits, given)
    wanted = torch.log_softmax(given.double() / temperature, -1)
    off = 1e-6 * (1 + float(given.nan_to_num(neginf=0.0).abs().max()) / temperature)  # a float has 24 bits
    torch.testing.assert_close(logprobs.double(), wanted.gather(1, ids), rtol=0, atol=off)
    left = wanted.scatter(1, ids, -torch.inf).logsumexp(-1).exp()
    torch.testing.assert_close(tail.double(), left, rtol=2 * off, atol=1e-37)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_logits_that_are_no_numbers_are_refused_with_their_place(wrong: float) -> None:
    logits = torch.zeros(300, 5)
    logits[280, 3] = wrong
    with pytest.raises(InputError, match="position 280"):
        top_k(logits, 2)


@pytest.mark.parametrize("given", [{"k": 0}, {"temperature": 0.0}, {"vocabulary": 6}, {"vocabulary": 0}])
def test_top_k_refuses_what_cannot_be_right(given: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        top_k(torch.zeros(1, 5), **{"k": 2, **given})


# --- fingerprints


def test_a_data_fingerprint_does_not_know_the_order() -> None:
    samples = [(f"s{n}", [n, n + 1], [False, True]) for n in range(20)]
    shuffled = random.Random(3).sample(samples, k=20)
    assert data_fingerprint(samples) == data_fingerprint(shuffled)


@pytest.mark.parametrize(
    "other",
    [
        [("a", (1, 2), (False, True)), ("c", (3,), (True,))],  # a name
        [("a", (1, 9), (False, True)), ("b", (3,), (True,))],  # a token
        [("a", (1, 2), (True, True)), ("b", (3,), (True,))],  # the mask
        [("a", (1, 2), (False, True))],  # a sample less
    ],
)
def test_a_data_fingerprint_knows_the_rest(other: Any) -> None:
    assert data_fingerprint(other) != data_fingerprint(
        [("a", (1, 2), (False, True)), ("b", (3,), (True,))],
    )


def test_two_samples_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="two samples are called 'a'"):
        data_fingerprint([("a", [1], [True]), ("a", [2], [True])])
    with pytest.raises(InputError, match="2 tokens and a mask of 1"):
        data_fingerprint([("a", [1, 2], [True])])


def test_a_fingerprint_of_weights_changes_with_one_of_them() -> None:
    model = torch.nn.Linear(3, 2).to(torch.bfloat16)
    was = weights_fingerprint(model)
    assert weights_fingerprint(model) == was
    with torch.no_grad():
        model.weight[1, 2] += 1
    assert weights_fingerprint(model) != was


# --- round trips


@st.composite
def samples(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.text(min_size=1, max_size=8), min_size=0, max_size=6, unique=True))
    return {name: (draw(st.integers(0, 2**16)), draw(st.integers(0, 9))) for name in names}


@settings(max_examples=20, deadline=None)
@given(
    samples=samples(), vocabulary=st.sampled_from([3, 65_536, 70_000]), k=st.integers(1, 5),
    dtype=st.sampled_from(["float16", "float32"]), every=st.integers(1, 12), order=st.randoms(use_true_random=False),
)  # fmt: skip
def test_what_was_added_comes_back(
    samples: dict[str, Any], vocabulary: int, k: int, dtype: Any, every: int, order: random.Random
) -> None:
    arrays = {}
    for name, (seed, tokens) in samples.items():
        dice = np.random.default_rng(seed)
        width = min(k, vocabulary)
        ids = np.array([dice.permutation(vocabulary)[:width] for _ in range(tokens)]).reshape(tokens, width)
        shares = dice.dirichlet(np.full(width + 1, 0.3), size=tokens) + 1e-12
        arrays[name] = (ids, np.log(shares[:, :-1]), shares[:, -1].astype(np.float32))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "cache"
        with writer(place, vocabulary=vocabulary, k=k, dtype=dtype) as out:
            for number, (name, arrays_of) in enumerate(arrays.items()):
                out.add(name, *arrays_of)
                if number % every == 0:
                    out.flush()
            out.finish(samples)
        cache = LogitCache.open(place, **OF)
        assert len(cache) == len(samples)
        assert list(cache) == list(samples)
        for name, wanted in arrays.items():
            assert name in cache
            assert_same(cache[name], wanted)
        names = order.sample(list(samples), k=len(samples))
        found = cache.batch(names)
        for place_, column in enumerate(found):
            parts = [cache[name][place_] for name in names]
            np.testing.assert_array_equal(column, np.concatenate(parts) if parts else column[:0])
        assert [column.dtype for column in found] == [np.int64, np.float32, np.float32]


def test_samples_are_found_by_name_in_any_order(tmp_path: Path) -> None:
    """An epoch in one order and the next shuffled: every sample keeps its own distributions."""
    arrays = made(tmp_path, 30)
    cache = LogitCache.open(tmp_path, **OF)
    for seed in range(3):
        names = random.Random(seed).sample(sorted(arrays), k=30)
        for first in range(0, 30, 7):
            batch = names[first : first + 7]
            wanted = [torch.cat([arrays[name][part] for name in batch]) for part in range(3)]
            assert_same(cache.batch(batch), (wanted[0], wanted[1], wanted[2]))


def test_ids_of_65_536_tokens_fit_into_two_bytes_and_one_more_does_not(tmp_path: Path) -> None:
    for vocabulary, name, size in ((65_536, "ids.u16", 2), (65_537, "ids.u32", 4)):
        folder = tmp_path / str(vocabulary)
        with writer(folder, vocabulary=vocabulary, k=1) as out:
            out.add("last", [[vocabulary - 1]], [[0.0]], [0.0])
            out.finish()
        assert (folder / name).stat().st_size == size
        assert LogitCache.open(folder, **OF)["last"][0].tolist() == [[vocabulary - 1]]


def test_positions_with_fewer_tokens_and_tokens_without_mass(tmp_path: Path) -> None:
    """-1 fills a position, as an API's targets do; a token at -inf, which a teacher may never write, reads as none."""
    with writer(tmp_path) as out:
        out.add("a", [[5, 6], [7, -1]], [[np.log(0.5), -np.inf], [np.log(0.25), 0.0]], [0.5, 0.75])
        out.finish()
    ids, logprobs, tail = LogitCache.open(tmp_path, **OF)["a"]
    assert ids.tolist() == [[5, -1, -1, -1], [7, -1, -1, -1]]
    assert np.isneginf(logprobs).tolist() == [[False, True, True, True]] * 2
    assert tail.tolist() == [0.5, 0.75]


def test_a_size_by_hand(tmp_path: Path) -> None:
    """k = 64 of 49,152 ids: 64 x (2 + 2) + 4 = 260 bytes a token."""
    out = writer(tmp_path, k=64, vocabulary=49_152)
    out.close()
    assert out.settings.bytes_per_token == 260
    assert writer(tmp_path / "b", k=64, vocabulary=151_936).settings.bytes_per_token == 388


def exact_kl(logprobs: Any, tail: Any, stored_logprobs: Any, stored_tail: Any) -> Any:
    """KL of k + 1 outcomes, the stored ones scaled to sum to one as the losses do [nats]."""
    p = np.concatenate([np.exp(logprobs), tail[:, None]], 1, dtype=np.float64)
    q = np.concatenate([np.exp(stored_logprobs.astype(np.float64)), stored_tail[:, None]], 1)
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    return (p * np.log(p / q)).sum(1)


@pytest.mark.parametrize("scale", [0.5, 2.0, 8.0])
def test_sixteen_bits_are_enough(tmp_path: Path, scale: float) -> None:
    """The docstring's bound: KL at most 2^-23 E[(log p)^2], with a little room for its second order."""
    generator = torch.Generator().manual_seed(0)
    ids, logprobs, tail = (x.numpy() for x in top_k(torch.randn(200, 8_000, generator=generator) * scale, 64))
    with writer(tmp_path, k=64, vocabulary=8_000) as out:
        out.add("a", ids, logprobs, tail)
        out.finish()
    _, stored, stored_tail = LogitCache.open(tmp_path, **OF)["a"]
    kl = exact_kl(logprobs, tail, stored, stored_tail)
    bound = 2.0**-23 * (np.exp(logprobs) * logprobs**2).sum(1)
    assert (kl <= 1.01 * bound + 1e-9).all()
    assert kl.max() < 1e-5


# --- what is refused


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({"tokenizer": "other"}, "another tokenizer: 'tok', not 'other'"),
        ({"data": "other"}, r"another data \(samples, tokens or mask\)"),
        ({"temperature": 1.0}, "another temperature: 2.0, not 1.0"),
        ({"weights": "w2"}, r"another teacher \(weights\): 'w1'"),
        ({"k": 8}, "another k: 4, not 8"),
        ({"vocabulary": 299}, "another vocabulary size: 300, not 299"),
    ],
)
def test_a_cache_of_something_else_is_refused(tmp_path: Path, asked: dict[str, Any], word: str) -> None:
    made(tmp_path, weights="w1")
    assert len(LogitCache.open(tmp_path, **OF, weights="w1", k=4, vocabulary=300)) == 5
    with pytest.raises(InputError, match=f"{word}.*delete the folder"):
        LogitCache.open(tmp_path, **{**OF, **asked})


def test_more_entries_than_tokens_are_as_many_as_tokens(tmp_path: Path) -> None:
    with writer(tmp_path, k=64, vocabulary=2) as out:
        out.add("a", [[1, 0]], [[np.log(0.75), np.log(0.25)]], [0.0])
        out.finish()
    assert LogitCache.open(tmp_path, **OF, k=64, vocabulary=2).header.k == 2


FILES = ["ids.u16", "logprobs.f16", "tail.f32", "offsets.i64", "samples.json"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["truncated", "missing", "changed"])
def test_a_damaged_cache_is_refused(tmp_path: Path, name: str, how: str) -> None:
    made(tmp_path)
    file = tmp_path / name
    raw = file.read_bytes()
    if how == "missing":
        file.unlink()
    else:
        file.write_bytes(raw[:-1] if how == "truncated" else bytes([raw[0] ^ 1]) + raw[1:])
    with pytest.raises(InputError, match=f"damaged. {name}.*Delete the folder"):
        LogitCache.open(tmp_path, **OF)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"schema_version": 2}, "schema_version 2; this distillcalc reads 1"),
        ({"files": {}}, "names no"),
        ({"k": 0}, "greater than or equal to 1"),
        ({"pickle": "x"}, "Extra inputs"),
        ({"tokens": 3}, "do not fit together"),
        ({"samples": "many"}, "valid integer"),
    ],
)
def test_a_header_that_cannot_be_right_is_refused(tmp_path: Path, change: dict[str, Any], word: str) -> None:
    made(tmp_path)
    header = json.loads((tmp_path / "header.json").read_text())
    (tmp_path / "header.json").write_text(json.dumps(header | change))
    with pytest.raises(InputError, match=word):
        LogitCache.open(tmp_path, **OF)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": '])
def test_a_header_that_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    made(tmp_path)
    (tmp_path / "header.json").write_text(text)
    with pytest.raises(InputError, match=r"header\.json is not JSON"):
        LogitCache.open(tmp_path, **OF)


def test_no_cache_and_half_a_cache(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no cache of logits"):
        LogitCache.open(tmp_path / "none", **OF)
    with writer(tmp_path) as out:
        out.add("a", *distribution(0, 2))
    assert not LogitCache.is_whole(tmp_path)
    with pytest.raises(InputError, match="half-written cache: run the writer again"):
        LogitCache.open(tmp_path, **OF)


def test_a_sample_that_is_not_there(tmp_path: Path) -> None:
    made(tmp_path)
    cache = LogitCache.open(tmp_path, **OF)
    assert "s9" not in cache
    with pytest.raises(InputError, match="no sample 's9'; it has 5, such as 's0', 's1', 's2'"):
        cache["s9"]


@pytest.mark.parametrize(
    ("arrays", "word"),
    [
        (([[1, 2]], [[-0.1, -3.0]], [0.0, 0.0]), "the tail mass"),
        (([[1, 2, 3, 4, 5]], [[-2.0] * 5], [0.3]), r"up to 4\)"),
        (([[1, 300]], [[np.log(0.5)] * 2], [0.0]), "below 300"),
        (([[1, -2]], [[np.log(0.5)] * 2], [0.0]), "or -1 for none"),
        (([[7, 7]], [[np.log(0.5)] * 2], [0.0]), "an id twice"),
        (([[1, 2]], [[3.0, 2.0]], [0.0]), "At position 0 they are 27.47"),  # logits: e^3 + e^2 = 20.09 + 7.39
        (([[1, 2], [1, 2]], [[np.log(0.5)] * 2, [np.nan, 0.0]], [0.0, 0.0]), "At position 1 they are nan"),
        (([[1, 2]], [[0.0, np.log(0.5)]], [-0.5]), "sum to 1"),
    ],
)
def test_arrays_that_are_no_distributions_are_refused(tmp_path: Path, arrays: Any, word: str) -> None:
    with writer(tmp_path) as out, pytest.raises(InputError, match=word):
        out.add("a", *arrays)


@pytest.mark.parametrize("given", [{"k": 0}, {"vocabulary": 0}, {"temperature": 0.0}, {"dtype": "int8"}])
def test_settings_that_cannot_be_right_are_refused(tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"cannot have this {next(iter(given))}"):
        writer(tmp_path, **given)


def test_a_sample_is_added_once(tmp_path: Path) -> None:
    with writer(tmp_path) as out:
        out.add("a", *distribution(0, 2))
        with pytest.raises(InputError, match="in the cache already"):
            out.add("a", *distribution(0, 2))
        with pytest.raises(InputError, match="1 samples were not added, the first is 'b'"):
            out.finish(["a", "b"])
        out.add("b", *distribution(1, 2))
        out.finish(["a", "b"])
        with pytest.raises(InputError, match="closed"):
            out.add("c", *distribution(2, 2))
    with pytest.raises(InputError, match="holds a whole cache"):
        writer(tmp_path)


# --- killed, and taken up again


def test_two_writers_do_not_write_one_folder(tmp_path: Path) -> None:
    with writer(tmp_path), pytest.raises(InputError, match="another process is working"):
        writer(tmp_path)


@pytest.mark.parametrize(
    ("changed", "word"),
    [({"tokenizer": "x"}, "tokenizer"), ({"k": 3}, "k"), ({"data": "x", "weights": "w"}, "data, weights")],
)
def test_half_a_cache_of_something_else_is_not_gone_on_with(tmp_path: Path, changed: dict[str, Any], word: str) -> None:
    writer(tmp_path).close()
    with pytest.raises(InputError, match=f"differs in {word}. Delete"):
        writer(tmp_path, **changed)
    writer(tmp_path).close()  # the refusal let the folder go


def test_a_torn_end_is_cut_off(tmp_path: Path) -> None:
    arrays = {f"s{n}": distribution(n, 3) for n in range(4)}
    with writer(tmp_path) as out:
        out.add("s0", *arrays["s0"])
    for name in ("ids.u16", "logprobs.f16", "tail.f32"):
        with (tmp_path / name).open("ab") as file:
            file.write(b"\xff" * 11)
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b'{"crc":"00000000","samples":["s1"')
    with writer(tmp_path) as out:
        assert "s0" in out
        assert "s1" not in out
        for name in ("s1", "s2", "s3"):
            out.add(name, *arrays[name])
        out.finish(arrays)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*FILES, "header.json"])
    for name, wanted in arrays.items():
        assert_same(LogitCache.open(tmp_path, **OF)[name], wanted)


def test_a_torn_end_is_cut_off_where_nothing_was_left_to_add(tmp_path: Path) -> None:
    with writer(tmp_path) as out:
        out.add("s0", *distribution(0, 3))
    with (tmp_path / "tail.f32").open("ab") as file:
        file.write(b"\xff" * 11)
    with writer(tmp_path) as out:
        out.finish(["s0"])
    assert (tmp_path / "tail.f32").stat().st_size == 3 * 4
    assert_same(LogitCache.open(tmp_path, **OF)["s0"], distribution(0, 3))


def test_data_shorter_than_the_journal_says_is_refused(tmp_path: Path) -> None:
    with writer(tmp_path) as out:
        out.add("s0", *distribution(0, 3))
    (tmp_path / "tail.f32").write_bytes(b"")
    with pytest.raises(InputError, match="shorter than its journal"):
        writer(tmp_path)


def test_what_was_added_before_an_error_is_kept(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="an id twice"), writer(tmp_path) as out:  # noqa: PT012
        for name, arrays in (("s0", distribution(0, 3)), ("s1", ([[7, 7]], [[-0.7, -0.7]], [0.0]))):
            out.add(name, *arrays)
    with writer(tmp_path) as out:
        assert "s0" in out
        assert len(out) == 1


def test_a_flush_that_failed_half_way_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full after the first of three files: the next flush starts where the journal ends."""
    wanted = distribution(0, 3)
    with writer(tmp_path) as out:
        out.add("s0", *wanted)
        with monkeypatch.context() as patched:
            patched.setattr("os.fsync", _full)
            with pytest.raises(OSError, match="No space"):
                out.flush()
        assert (tmp_path / "ids.u16").stat().st_size == 3 * K * 2
        out.add("s1", *distribution(1, 1))
        out.finish()
    cache = LogitCache.open(tmp_path, **OF)
    assert_same(cache["s0"], wanted)
    assert_same(cache["s1"], distribution(1, 1))


def _full(_: int) -> None:
    raise OSError(28, "No space left on device")


VICTIM = """
import sys
from tests.distill.training.test_logit_cache import LogitCacheWriter, Path, distribution, writer
with writer(Path(sys.argv[1])) as out:
    for n in range(100_000):
        if f"s{n}" in out:
            continue
        out.add(f"s{n}", *distribution(n, n % 5 + 1))
        if n % 3 == 0:
            out.flush()
            print(n, flush=True)
"""


def test_a_killed_writer_is_taken_up_again(tmp_path: Path) -> None:
    """SIGKILL in the middle of the work, twice: nothing that was synced is lost, and what comes out is whole."""
    folder = tmp_path / "cache"
    reached = -1
    for rounds in (5, 3):
        victim = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", VICTIM, str(folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert victim.stdout is not None
        for _ in range(rounds):
            told = int(victim.stdout.readline())
            assert told > reached
            reached = told
        victim.send_signal(signal.SIGKILL)
        rest = victim.stdout.read().split()
        victim.stdout.close()
        assert victim.wait() == -signal.SIGKILL
        reached = int(rest[-1]) if rest else reached
        assert not LogitCache.is_whole(folder)
        with pytest.raises(InputError, match="half-written"):
            LogitCache.open(folder, **OF)
    names = [f"s{n}" for n in range(reached + 10)]
    with writer(folder) as out:
        kept = len(out)
        assert kept >= reached + 1
        assert all(f"s{n}" in out for n in range(reached + 1))
        for n in range(reached + 10):
            if f"s{n}" not in out:
                out.add(f"s{n}", *distribution(n, n % 5 + 1))
        out.finish(names)
    cache = LogitCache.open(folder, **OF)
    for n in random.Random(0).sample(range(reached + 10), k=reached + 10):
        assert_same(cache[f"s{n}"], distribution(n, n % 5 + 1))


def test_killed_before_its_first_word_is_a_writer_anew(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_bytes(b'{"crc":"0')
    (tmp_path / "ids.u16").write_bytes(b"\1\2\3")
    made(tmp_path)
    assert len(LogitCache.open(tmp_path, **OF)) == 5


def test_a_moved_cache_is_the_same(tmp_path: Path) -> None:
    arrays = made(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    shutil.rmtree(tmp_path / "a")
    assert_same(LogitCache.open(tmp_path / "b", **OF, verify=False)["s3"], arrays["s3"])
