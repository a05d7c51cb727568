"""What a student is before it learns: cut, fresh, loaded or adapted, and the size that the calculator means."""

from __future__ import annotations

import copy
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
    SmolLM3Config,
)

from distillcalc.catalog import Catalog
from distillcalc.decide import recommend
from distillcalc.distill.packaged import smollm2
from distillcalc.distill.training.recipe import Fresh, Lora, StudentStart
from distillcalc.distill.training.students import (
    SAME_SIZE,
    catalog_row,
    count_parameters,
    cut_layers,
    decoder_layers,
    describe_shape,
    fresh_config,
    fresh_model,
    layers_to_keep,
    load_model,
    start_student,
    with_lora,
)
from distillcalc.errors import InputError, UnknownName
from distillcalc.workload import Scenario
from tests.distill.training.making import llama, saved, tokenizer

SHAPE: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "initializer_range": 0.2,
}  # fmt: skip
EXPERTS: dict[str, Any] = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
SLIDES = ["sliding_attention", "sliding_attention", "full_attention"] * 2
FAMILIES: dict[str, Any] = {
    "llama": LlamaConfig(**SHAPE, num_hidden_layers=6),
    "qwen3 with windows": Qwen3Config(
        **SHAPE, num_hidden_layers=6, head_dim=8, layer_types=SLIDES, sliding_window=4, use_sliding_window=True
    ),
    "gemma3": Gemma3TextConfig(**SHAPE, num_hidden_layers=6, head_dim=8, layer_types=SLIDES, sliding_window=4),
    "smollm3 without positions in every third": SmolLM3Config(
        **SHAPE, num_hidden_layers=6, no_rope_layers=[1, 1, 0, 1, 1, 0]
    ),
    "qwen3-moe with dense layers": Qwen3MoeConfig(
        **SHAPE, **EXPERTS, num_hidden_layers=6, head_dim=8, num_experts=4, mlp_only_layers=[0, 5]
    ),
    "qwen3-moe in every second": Qwen3MoeConfig(
        **SHAPE, **EXPERTS, num_hidden_layers=6, head_dim=8, num_experts=4, decoder_sparse_step=2
    ),
    "deepseek-v3": DeepseekV3Config(
        **SHAPE | {"num_key_value_heads": 4}, **EXPERTS, num_hidden_layers=6, n_routed_experts=4, n_group=1,
        topk_group=1, first_k_dense_replace=2, kv_lora_rank=8, q_lora_rank=8, qk_rope_head_dim=4, qk_nope_head_dim=4,
        v_head_dim=8,
    ),
}  # fmt: skip
IDS = torch.tensor([[5, 9, 40, 7, 7, 81, 12, 3, 60, 22, 8, 17]])


def model_of(name: str) -> Any:
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(FAMILIES[name])).eval()
    model.config.use_cache = False
    return model


def logits(model: Any, **options: Any) -> Any:
    with torch.no_grad():
        return model.eval()(input_ids=IDS, use_cache=False, **options).logits


def test_layers_that_stay_are_spaced_evenly() -> None:
    # i 29 / 5 for i = 0 to 5 is 0, 5.8, 11.6, 17.4, 23.2, 29; rounded 0, 6, 12, 17, 23, 29.
    assert layers_to_keep(30, 6) == (0, 6, 12, 17, 23, 29)
    # i 11 / 5: 0, 2.2, 4.4, 6.6, 8.8, 11.
    assert layers_to_keep(12, 6) == (0, 2, 4, 7, 9, 11)
    assert layers_to_keep(30, 1) == (0,)
    assert layers_to_keep(4, 4) == (0, 1, 2, 3)
    assert layers_to_keep(4, (1, 3)) == (1, 3)
    with pytest.raises(InputError, match=r"at most 4, the teacher's number of layers\. Got 5"):
        layers_to_keep(4, 5)
    with pytest.raises(InputError, match=r"below 4, the teacher's number of layers\. Got 4"):
        layers_to_keep(4, (0, 4))


@given(st.integers(2, 200).flatmap(lambda total: st.tuples(st.just(total), st.integers(2, total))))
def test_as_many_layers_stay_as_are_asked_for_with_both_ends(sizes: tuple[int, int]) -> None:
    total, asked = sizes
    kept = layers_to_keep(total, asked)
    assert len(set(kept)) == asked
    assert (kept[0], kept[-1]) == (0, total - 1)
    assert list(kept) == sorted(kept)
    gaps = [b - a for a, b in pairwise(kept)]
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("name", FAMILIES)
def test_with_all_its_layers_it_is_the_teacher(name: str) -> None:
    model = model_of(name)
    student = cut_layers(model, range(6))
    assert torch.equal(logits(student), logits(model))
    for one in (student, model):  # which of two ways to say of every second layer does not count
        one.config.update({"decoder_sparse_step": 1, "mlp_only_layers": []} if "every second" in name else {})
    assert student.config.to_dict() == model.config.to_dict()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_cut_student_is_the_teacher_without_the_other_layers(name: str, tmp_path: Path) -> None:
    model = model_of(name)
    before, config = logits(model), model.config.to_dict()
    keep = (1, 2, 5)
    student = cut_layers(model, keep)
    # The teacher whose other layers hand on what they are given: the same function.
    skipped = [decoder_layers(model)[i].register_forward_hook(_hands_on, with_kwargs=True) for i in (0, 3, 4)]
    assert torch.allclose(logits(student), logits(model), atol=1e-6)
    for hook in skipped:
        hook.remove()
    # Nothing of the teacher was touched.
    assert torch.equal(logits(model), before)
    assert model.config.to_dict() == config
    with torch.no_grad():
        next(decoder_layers(student)[0].parameters()).zero_()
    assert torch.equal(logits(model), before)
    # Its configuration speaks of it: what is saved is what is read.
    student = cut_layers(model, keep)
    student.save_pretrained(tmp_path)
    read = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.allclose(logits(read), logits(student), atol=1e-6)


def _hands_on(_: Any, given: tuple[Any, ...], named: dict[str, Any], out: Any) -> Any:
    states = given[0] if given else named["hidden_states"]
    return (states, *out[1:]) if isinstance(out, tuple) else states


@pytest.mark.parametrize("name", FAMILIES)
def test_a_cut_student_writes_with_a_cache_what_it_writes_without(name: str) -> None:
    student = cut_layers(model_of(name), (0, 2, 4)).eval()
    numbers = [m.layer_idx for m in decoder_layers(student).modules() if hasattr(m, "layer_idx")]
    assert sorted(set(numbers)) == [0, 1, 2]
    written = [
        student.generate(IDS, max_new_tokens=8, do_sample=False, use_cache=cached, eos_token_id=None, pad_token_id=2)
        for cached in (True, False)
    ]
    assert torch.equal(*written)


def test_what_a_configuration_says_of_layers_is_cut_with_them() -> None:
    windows = cut_layers(model_of("gemma3"), (0, 2, 5)).config
    assert windows.layer_types == ["sliding_attention", "full_attention", "full_attention"]
    assert cut_layers(model_of("smollm3 without positions in every third"), (1, 2)).config.no_rope_layers == [1, 0]
    dense = cut_layers(model_of("qwen3-moe with dense layers"), (0, 3, 5)).config
    assert dense.mlp_only_layers == [0, 2]
    # Every second layer is sparse, the odd ones from 0: of 1, 2 and 3 the middle one is dense.
    second = cut_layers(model_of("qwen3-moe in every second"), (1, 2, 3)).config
    assert (second.mlp_only_layers, second.decoder_sparse_step) == ([1], 1)
    assert cut_layers(model_of("deepseek-v3"), (1, 3, 5)).config.first_k_dense_replace == 1


def test_layers_that_lie_elsewhere_or_cannot_be_told_are_refused() -> None:
    gpt = AutoModelForCausalLM.from_config(GPT2Config(vocab_size=96, n_embd=32, n_layer=2, n_head=4))
    with pytest.raises(InputError, match="does not keep its layers as a decoder's `layers`"):
        cut_layers(gpt, (0,))
    odd = model_of("llama")
    odd.model.layers[3].mlp.gate_proj = torch.nn.Linear(32, 48, bias=True)
    with pytest.raises(InputError, match="cannot say of some of them"):
        cut_layers(odd, (0, 3))
    assert cut_layers(odd, (0, 2)).config.num_hidden_layers == 2


def test_starts_from_a_teacher() -> None:
    teacher = (llama(layers=4), tokenizer())
    cut = start_student(StudentStart(layers=2), teacher)
    assert (cut.kept_layers, cut.origin) == ((0, 3), "2 of the layers of the teacher (0, 3)")
    # Embeddings, tied; a layer: q and o 32 x 32, k and v 32 x 16, three of 32 x 64, norms 2 x 32; the last norm.
    assert cut.parameters == 49_152 * 32 + 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 2 * 32) + 32
    whole = start_student(StudentStart(), teacher)
    assert whole.origin == "a copy of the teacher"
    assert whole.model is not teacher[0]
    assert torch.equal(logits(whole.model), logits(teacher[0]))
    assert not whole.model.config.use_cache
    with pytest.raises(InputError, match="nothing to start from"):
        start_student(StudentStart(layers=2))


def test_a_student_of_a_frozen_teacher_in_16_bits_learns_in_32() -> None:
    teacher = llama(layers=2).bfloat16().requires_grad_(False)
    for start in (StudentStart(), StudentStart(layers=1), StudentStart(fresh=Fresh(layers=1))):
        student = start_student(start, (teacher, tokenizer()))
        assert {p.dtype for p in student.model.parameters()} == {torch.float32}
        assert all(p.requires_grad for p in student.model.parameters())
    assert {p.dtype for p in teacher.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in teacher.parameters())


def test_starts_from_a_folder(tmp_path: Path) -> None:
    model = llama(layers=3)
    folder = str(saved(model, tmp_path / "m"))
    student = start_student(StudentStart(model=folder))
    assert student.origin == folder
    assert torch.equal(logits(student.model), logits(model))
    assert start_student(StudentStart(model=folder, layers=(1,))).kept_layers == (1,)
    # A shape needs no weights.
    (tmp_path / "m" / "model.safetensors").unlink()
    fresh = start_student(StudentStart(model=folder, fresh=Fresh(layers=1)), seed=1)
    assert fresh.model.config.num_hidden_layers == 1
    with pytest.raises(InputError, match=r"cannot load the model .*Give a local folder with config\.json"):
        start_student(StudentStart(model=folder))
    for wrong in (str(tmp_path / "nothing"), "./nothing", "a/b/c"):  # no name of a hub: nobody is asked
        with pytest.raises(InputError, match=f"no folder '{wrong}' of the model"):
            load_model(wrong)
    with pytest.raises(InputError, match="cannot load the model 'no owner/no model'"):
        load_model("no owner/no model")


def test_weights_that_are_broken_or_pickled_are_refused(tmp_path: Path) -> None:
    folder = saved(llama(layers=1), tmp_path)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:2000])
    with pytest.raises(InputError, match="cannot load the model"):
        load_model(str(folder))
    weights.unlink()
    torch.save({"x": torch.zeros(1)}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot load the model"):
        load_model(str(folder))


def test_an_adapter_is_merged_into_the_teacher(tmp_path: Path) -> None:
    model = llama(layers=1)
    folder = saved(model, tmp_path / "m")
    before = logits(model)
    adapted = with_lora(model, Lora(rank=2, modules=("q_proj",)))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.5)
    adapted.save_pretrained(tmp_path / "adapter")
    merged, _ = load_model(str(folder), adapter=str(tmp_path / "adapter"))
    assert torch.allclose(logits(merged), logits(adapted), atol=1e-4)
    assert not torch.allclose(logits(merged), before, atol=1e-3)
    with pytest.raises(InputError, match="with the adapter"):
        load_model(str(folder), adapter=str(tmp_path))


def test_adapters_alone_learn_and_do_not_count() -> None:
    teacher = (llama(layers=2), tokenizer())
    student = start_student(StudentStart(lora=Lora(rank=4, modules=("q_proj", "v_proj"))), teacher)
    learns = {name: p for name, p in student.model.named_parameters() if p.requires_grad}
    assert learns
    assert all("lora_" in name for name in learns)
    # q: 4 x 32 and 32 x 4; v: 4 x 32 and 16 x 4; two layers.
    assert sum(p.numel() for p in learns.values()) == 2 * (4 * 32 + 32 * 4 + 4 * 32 + 16 * 4)
    assert student.parameters == count_parameters(teacher[0])
    assert torch.equal(logits(student.model), logits(teacher[0]))  # one of its two matrices begins at zero
    with pytest.raises(InputError, match=r"\['query'\] are not all in the model. There are: down_proj, .*q_proj"):
        start_student(StudentStart(lora=Lora(modules=("query",))), teacher)


def test_fresh_sizes_and_their_seed() -> None:
    base = FAMILIES["llama"]
    sizes = Fresh(layers=2, hidden=48, intermediate=100, heads=6, kv_heads=3)
    model = fresh_model(base, sizes)
    assert describe_shape(model.config) == "2 layers, hidden 48, 6 heads, vocabulary 96"
    assert tuple(model.model.layers[0].mlp.gate_proj.weight.shape) == (100, 48)
    assert tuple(model.model.layers[0].self_attn.k_proj.weight.shape) == (3 * 8, 48)
    assert base.hidden_size == 32
    teacher = (llama(layers=2), tokenizer())
    one, same, other = (
        start_student(StudentStart(fresh=Fresh(layers=1)), teacher, seed=seed).model for seed in (1, 1, 2)
    )
    assert torch.equal(logits(one), logits(same))
    assert not torch.equal(logits(one), logits(other))


def test_fresh_models_of_other_families() -> None:
    # Fewer heads than the base has groups: three groups do not divide four heads, two do.
    three = LlamaConfig(**SHAPE | {"num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 36})
    assert fresh_model(three, Fresh(layers=1, hidden=32, heads=4)).config.num_key_value_heads == 2
    experts = fresh_model(FAMILIES["qwen3-moe with dense layers"], Fresh(layers=4, experts=6, intermediate=24))
    assert experts.config.mlp_only_layers == [0]
    assert tuple(experts.model.layers[1].mlp.experts.down_proj.shape) == (6, 32, 24)
    assert describe_shape(experts.config).endswith(", 6 experts")
    windows = fresh_model(FAMILIES["gemma3"], Fresh(layers=4, hidden=64, heads=2))
    assert windows.config.layer_types == [*SLIDES[:3], "sliding_attention"]
    assert windows.config.head_dim == 32
    for model in (experts, windows):
        assert torch.isfinite(logits(model)).all()


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (Fresh(hidden=50), "hidden must be a multiple of heads. Got 50 and 4"),
        (Fresh(kv_heads=3), "heads must be a multiple of kv_heads. Got 4 and 3"),
        (Fresh(hidden=36), "must be even.*36 / 4 = 9"),
        (Fresh(experts=4), "family llama has no experts. Leave fresh.experts out"),
    ],
)
def test_fresh_sizes_that_do_not_go_together(shape: Fresh, words: str) -> None:
    with pytest.raises(InputError, match=words):
        fresh_model(FAMILIES["llama"], shape)


BASES: dict[str, Any] = {
    # Published sizes stand in the catalog with their sources; the bases here are tiny.
    "qwen3-0.6b": Qwen3Config(**SHAPE, num_hidden_layers=2, head_dim=8),
    "qwen3-30b-a3b": Qwen3MoeConfig(**SHAPE, **EXPERTS, num_hidden_layers=2, head_dim=8, num_experts=4),
    "deepseek-r1-distill-qwen-1.5b": Qwen2Config(**SHAPE, num_hidden_layers=2),
    "smollm2-135m": LlamaConfig(**SHAPE, num_hidden_layers=2),
}  # fmt: skip


@pytest.mark.parametrize("name", BASES)
def test_the_shape_of_the_catalog_has_the_size_of_the_catalog(name: str) -> None:
    row = Catalog.load().model(name)
    with torch.device("meta"):  # names and shapes, no memory
        model = AutoModelForCausalLM.from_config(fresh_config(BASES[name], Fresh(), row))
    assert row.params_b is not None
    assert count_parameters(model) / 1e9 == pytest.approx(row.params_b, rel=5e-3)
    made = catalog_row(model, name="s", source="here", checked="2026-11-28")
    assert row.shape is not None
    assert made["shape"] == row.shape.model_dump(exclude_none=True, exclude={"kv_bytes_per_token_bf16"})
    if row.active_params_b:
        assert made["active_params_b"] == pytest.approx(row.active_params_b, rel=0.02)


def test_the_catalogs_shape_is_built_where_the_recipe_asks_for_it() -> None:
    shape = {"layers": 2, "hidden": 32, "heads": 4, "kv_heads": 2, "head_dim": 16, "vocab": 49_152,
             "intermediate": 40, "tied_embeddings": True}  # fmt: skip
    own = {"name": "Small", "provider": "own", "kind": "open", "shape": shape, "params_b": 0.00159}
    known = Catalog.load({"models": {"small": own}})
    teacher = (llama(layers=4), tokenizer())
    student = start_student(StudentStart(catalog="small", fresh=Fresh()), teacher, catalog=known)
    assert student.catalog_id == "small"
    assert student.model.config.head_dim == 16
    # A layer: q and o 32 x 64, k and v 32 x 32, three of 32 x 40, norms 2 x 32.
    assert student.parameters == 49_152 * 32 + 2 * (2 * 32 * 64 + 2 * 32 * 32 + 3 * 32 * 40 + 64) + 32
    for fresh, words in (
        (Fresh(layers=3), "the student has 3 layers, and the catalog's small 2"),
        (Fresh(kv_heads=1), "has 1 kv_heads, and the catalog's small 2"),
    ):
        with pytest.raises(InputError, match=words):
            start_student(StudentStart(catalog="small", fresh=fresh), teacher, catalog=known)


def test_a_shape_that_is_too_large_for_the_machine_is_refused_before_it_is_built() -> None:
    """30 billion parameters of another shape: 120 GB, were they built."""
    teacher = (AutoModelForCausalLM.from_config(BASES["qwen3-30b-a3b"]), tokenizer())
    with pytest.raises(InputError, match="the student has 48 layers, and the catalog's qwen3-8b"):
        start_student(StudentStart(catalog="qwen3-8b", fresh=Fresh(layers=48, hidden=2048, experts=128)), teacher)


def test_the_packaged_model_is_the_catalogs() -> None:
    student = start_student(StudentStart(model=str(smollm2()), catalog="smollm2-135m"))
    assert student.parameters == 134_515_008  # Hugging Face's count of SmolLM2-135M
    assert student.catalog_id == "smollm2-135m"
    cut = start_student(StudentStart(layers=6), (student.model, student.tokenizer))
    # 30 layers of 576 x (2 x 576 + 2 x 192 + 3 x 1536) + 2 x 576 each; 24 of them go.
    assert cut.parameters == 134_515_008 - 24 * (576 * (2 * 576 + 2 * 192 + 3 * 1536) + 2 * 576)
    with pytest.raises(InputError, match=r"has 30 layers, and the catalog's qwen3-0\.6b 28"):
        start_student(StudentStart(catalog="qwen3-0.6b"), (student.model, student.tokenizer))
    with pytest.raises(InputError, match="has 6 layers, and the catalog's smollm2-135m 30"):
        start_student(StudentStart(layers=6, catalog="smollm2-135m"), (student.model, student.tokenizer))


def test_a_catalog_id_must_say_a_size() -> None:
    teacher = (llama(layers=1), tokenizer())
    with pytest.raises(UnknownName, match="smollm2-135m"):
        start_student(StudentStart(catalog="smollm-135m"), teacher)
    families = [name for name, row in Catalog.load().models.items() if row.shape is None and row.params_b is None]
    with pytest.raises(InputError, match="does not say how large"):
        start_student(StudentStart(catalog=families[0]), teacher)
    known = Catalog.load({"models": {"s": {"name": "S", "provider": "own", "kind": "open", "params_b": 0.01}}})
    size = count_parameters(teacher[0]) / 1e9
    with pytest.raises(InputError, match=f"has {size:.4g} billion parameters, and the catalog's s 0.01"):
        start_student(StudentStart(catalog="s"), teacher, catalog=known)
    for off in (1 - 0.9 * SAME_SIZE, 1 + 0.9 * SAME_SIZE):
        row = {"name": "S", "provider": "own", "kind": "open", "params_b": size / off}
        start_student(StudentStart(catalog="s"), teacher, catalog=Catalog.load({"models": {"s": row}}))


@pytest.mark.parametrize("name", ["llama", "qwen3-moe with dense layers"])
def test_the_calculator_sizes_the_student_that_was_trained(name: str, tmp_path: Path) -> None:
    model = cut_layers(model_of(name), (0, 2, 5))
    row = catalog_row(model, name="mine", source="config.json", checked="2026-11-28", licence="Apache-2.0")
    written = tomllib.loads(tomli_w.dumps({"overrides": {"models": {"my-student": row}}}))
    read = Catalog.load().with_overrides(written["overrides"]).model("my-student")
    assert read.shape is not None
    assert (read.shape.layers, read.shape.hidden, read.shape.kv_heads, read.shape.vocab) == (3, 32, 2, 96)
    assert read.params_b == count_parameters(model) / 1e9
    if "moe" in name:
        # Layers 0 and 5 are dense; of the sparse one two of four experts are idle: 2 x 3 x 32 x 16 parameters.
        assert read.active_params_b == (count_parameters(model) - 2 * 3 * 32 * 16) / 1e9
    asked = Scenario.load("support-triage").to_dict()
    asked.setdefault("overrides", {}).setdefault("models", {})["my-student"] = row
    asked["choices"] |= {"students": ["my-student"], "evaluations": {}}
    decision = recommend(Scenario.model_validate(asked))
    assert "my-student" in decision.options["self-host"].label


def test_a_row_of_a_family_that_names_no_sizes_of_its_layers() -> None:
    gpt = AutoModelForCausalLM.from_config(GPT2Config(vocab_size=96, n_embd=32, n_layer=2, n_head=4))
    shape = catalog_row(gpt, name="g", source="here", checked="2026-11-28")["shape"]
    assert shape == {"layers": 2, "hidden": 32, "heads": 4, "kv_heads": 4, "head_dim": 8, "vocab": 96,
                     "tied_embeddings": True}  # fmt: skip
