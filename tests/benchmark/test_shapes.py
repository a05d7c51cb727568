from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distillcalc.benchmark import memory
from distillcalc.benchmark.load import ClosedLoop
from distillcalc.benchmark.loads import make_prompts
from distillcalc.benchmark.shapes import FAMILIES, TokenIds, load_shape, random_model, shape_config
from distillcalc.catalog import Catalog
from distillcalc.distill.training.shapes import count_parameters, shape_of, shapes_alone
from distillcalc.errors import InputError, UnknownName
from distillcalc.workload.workload import Workload

CATALOG = Catalog.load()
DENSE = [
    name
    for name, row in CATALOG.models.items()
    if row.shape is not None
    and row.params_b is not None
    and row.params_b < 15
    and not row.shape.experts
    and name != "minilm-l6"  # an encoder: it writes nothing
]
SMALL = {"layers": 4, "hidden": 64, "heads": 4, "kv_heads": 2, "head_dim": 16, "vocab": 512, "intermediate": 128}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Of models this small, more cost more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small(name: str, **shape: Any) -> Catalog:
    """A catalog with a model of a small shape, under a name that tells its family."""
    row = {"name": name, "provider": "own", "kind": "open", "params_b": 0.001, "shape": SMALL | shape}
    return CATALOG.with_overrides({"models": {name: row | {"context_window": 128}}})


def test_there_are_students_to_be_measured() -> None:
    assert len(DENSE) >= 20
    assert "deepseek-r1-distill-qwen-7b" in DENSE


@pytest.mark.parametrize("name", DENSE)
def test_as_many_parameters_as_the_catalog_says(name: str) -> None:
    row = CATALOG.model(name)
    assert row.params_b is not None
    assert row.shape is not None
    model = shapes_alone(shape_config(name))
    assert count_parameters(model) / 1e9 == pytest.approx(row.params_b, rel=0.01)
    made, known = shape_of(model), row.shape.model_dump(exclude_none=True)
    for what in ("layers", "hidden", "heads", "kv_heads", "head_dim", "vocab", "intermediate", "tied_embeddings"):
        assert made[what] == known[what], what


def test_mixtures_of_experts_are_built_too() -> None:
    for name in ("qwen3-30b-a3b", "gpt-oss-20b"):
        row = CATALOG.model(name)
        assert count_parameters(shapes_alone(shape_config(name))) / 1e9 == pytest.approx(row.params_b, rel=0.01)


def test_what_the_shapes_do_not_tell() -> None:
    # Gemma 3: five layers in six see a window of 512 (1B) or 1,024 tokens (4B, 12B), as the catalog's notes say.
    one, four = shape_config("gemma-3-1b"), shape_config("gemma-3-4b").get_text_config()
    assert (one.sliding_window, four.sliding_window) == (512, 1024)
    assert one.layer_types[:6] == ["sliding_attention"] * 5 + ["full_attention"]
    # Qwen3.5: three layers in four keep a constant state; the others hold the cache that the catalog counts.
    hybrid, row = shape_config("qwen3.5-4b"), CATALOG.model("qwen3.5-4b")
    full = hybrid.layer_types.count("full_attention")
    assert row.shape is not None
    assert 2 * full * hybrid.num_key_value_heads * hybrid.head_dim * 2 == row.shape.kv_bytes_per_token_bf16
    assert shape_config("llama-3.1-8b").max_position_embeddings == CATALOG.model("llama-3.1-8b").context_window


KINDS = {
    "deepseek-r1-distill-qwen-tiny": {}, "llama-3-tiny": {}, "qwen3-tiny": {"head_dim": 32, "tied_embeddings": True},
    "qwen3.5-tiny": {"kv_bytes_per_token_bf16": 128}, "gemma-3-1b-tiny": {}, "phi-4-mini-tiny": {},
    "mistral-small-tiny": {}, "gpt-oss-tiny": {"experts": 4, "experts_per_token": 2},
    "qwen3-30b-tiny": {"experts": 4, "experts_per_token": 2},
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_random_weights_write_something(name: str, precision: Any) -> None:
    catalog = small(name, **KINDS[name])
    target = load_shape(name, precision, "cpu", catalog=catalog)
    wanted = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    matrices = [p for p in target.model.parameters() if p.dim() > 1]
    assert {p.dtype for p in matrices} == {wanted}
    assert torch.get_default_dtype() == torch.float32
    assert all(torch.isfinite(p).all() for p in target.model.parameters())
    assert 0.001 < float(matrices[-1].detach().float().std()) < 0.1
    traces = target.run(make_prompts(Workload(requests_per_day=1, input_tokens=9, output_tokens=4), 2, target), CLOSED)
    assert traces.ok.all()
    assert traces.input_tokens.tolist() == [9, 9]
    assert traces.output_tokens.tolist() == [4, 4]
    logits = target.model(torch.arange(6)[None]).logits
    assert torch.isfinite(logits).all()
    assert target.describe()["precision"] == precision
    assert (target.name, len(target.tokenizer)) == (name, 512)


CLOSED = ClosedLoop(2)


def test_the_seed_makes_the_weights() -> None:
    catalog = small("qwen3-tiny")
    one, same, other = (random_model("qwen3-tiny", "fp32", "cpu", catalog=catalog, seed=seed) for seed in (3, 3, 4))
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, same.state_dict()[name])
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)


def test_what_does_not_fit_is_told_before_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 8 * 2**30)
    # 7.6156 billion x 2 bytes = 14.2 GiB
    with pytest.raises(InputError, match=r"take 14\.2 GiB in bf16, and 8\.0 GiB are free.*At most 4\.3 billion"):
        random_model("deepseek-r1-distill-qwen-7b", "bf16", "cpu")


def test_what_cannot_be_built_is_told() -> None:
    with pytest.raises(UnknownName, match="qwen3-9b"):
        shape_config("qwen3-9b")
    family = next(name for name, row in CATALOG.models.items() if row.shape is None)
    with pytest.raises(InputError, match="knows no shape of"):
        shape_config(family)
    with pytest.raises(InputError, match=r"nothing is known of how my-own is built\. Give family"):
        shape_config("my-own", small("my-own"))
    assert shape_config("my-own", small("my-own"), family="qwen2").model_type == "qwen2"
    with pytest.raises(InputError, match="built as 'no-such-family'"):
        shape_config("my-own", small("my-own"), family="no-such-family")


def test_each_family_is_of_some_model() -> None:
    for start, _, _ in FAMILIES:
        assert any(name.startswith(start) for name in CATALOG.models), start


@given(st.lists(st.integers(0, 99)))
def test_ids_become_words_and_ids_again(ids: list[int]) -> None:
    words = TokenIds(100)
    assert words.encode(words.decode(ids)) == ids
    assert words(words.decode(ids))["input_ids"] == ids


def test_any_word_is_one_token_and_always_the_same() -> None:
    words = TokenIds(100)
    assert words.encode("107 7") == [7, 7]
    once = words.encode("able about able ²")
    assert once[0] == once[2]
    assert len(once) == 4
    assert all(0 <= one < 100 for one in once)
    with pytest.raises(InputError, match="2 ids or more"):
        TokenIds(1)


def test_prompts_of_a_workload_have_its_lengths_without_a_tokenizer() -> None:
    workload = Workload(requests_per_day=1, input_tokens={"p50": 40, "p95": 90}, output_tokens=3)
    made = make_prompts(workload, 30, TokenIds(500), 0)
    assert made.inexact == 0
    lengths = np.array([prompt.input_tokens for prompt in made])
    assert 25 < np.median(lengths) < 60
