from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from distillcalc.benchmark import static_batches
from distillcalc.benchmark.decoding import Decoder, Step
from distillcalc.benchmark.in_process import InProcess, choose
from distillcalc.benchmark.load import ClosedLoop, OpenLoop, Prompt
from distillcalc.benchmark.loads import make_prompts
from distillcalc.benchmark.memory import is_out_of_memory
from distillcalc.benchmark.static_batches import OUT_OF_MEMORY
from distillcalc.benchmark.traces import TIMEOUT
from distillcalc.distill.packaged import smollm2
from distillcalc.errors import InputError
from distillcalc.workload.workload import Workload
from tests.benchmark.models import LENGTHS, engine, gemma, generated, llama, numbers, prompts, qwen


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Of models this small, more cost more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_writes_what_generate_writes_to_a_batch_of_different_lengths() -> None:
    target, asked = engine(), prompts(*LENGTHS)
    traces = target.run(asked, ClosedLoop(3))
    assert [numbers(text) for text in traces.texts] == generated(target.model, [numbers(p.text) for p in asked], 12)
    assert traces.ok.all()
    assert traces.input_tokens.tolist() == [3, 11, 7]
    assert traces.output_tokens.tolist() == [12, 12, 12]


def test_stops_where_generate_stops_unless_all_is_wanted() -> None:
    target = engine()
    free = numbers(target.run(prompts((3, 12)), ClosedLoop(1)).texts[0])
    end = free[5]
    target.model.generation_config.eos_token_id = [end]
    before = free.index(end) + 1
    assert before < 12
    stopped = target.run(prompts((3, 12), whole=False), ClosedLoop(1))
    assert numbers(stopped.texts[0]) == generated(target.model, [numbers(prompts((3, 12))[0].text)], 12)[0]
    assert stopped.output_tokens.tolist() == [before]  # the token that ends it was written too
    assert target.run(prompts((3, 12)), ClosedLoop(1)).output_tokens.tolist() == [12]


@pytest.mark.parametrize("build", [llama, gemma, qwen])
def test_every_cache_gives_the_same_tokens_and_padding_none_of_them(build: Any) -> None:
    model, asked = build(), prompts(*LENGTHS)
    static, dynamic = engine(model, cache="static"), engine(model, cache="dynamic")
    assert (static.decoder.kind, dynamic.decoder.kind) == ("static", "dynamic")
    together = static.run(asked, ClosedLoop(3)).texts
    assert together == dynamic.run(asked, ClosedLoop(3)).texts
    assert together == static.run(asked, ClosedLoop(1)).texts  # alone, and in a cache that others used
    assert len(set(together)) == 3


def test_the_cache_is_static_where_the_model_supports_it() -> None:
    model = llama()
    said = engine(model).describe()
    assert (said["cache"], said["precision"], said["device"]) == ("static", "fp32", "cpu")
    model._can_compile_fullgraph = False
    grows = engine(model)
    assert (grows.decoder.kind, grows.decoder.why) == ("dynamic", "the model supports no static cache")
    with pytest.raises(InputError, match="compiled for a static cache only"):
        engine(model, compile=True)


def test_the_packaged_model_writes_what_generate_writes() -> None:
    target = InProcess.load(str(smollm2()))
    said = [Prompt("Name a colour.", 0, 5), Prompt("What is two plus two? Answer with one number.", 0, 5)]
    traces = target.run(said, ClosedLoop(2))
    assert target.name == smollm2().name
    for prompt, text, tokens in zip(said, traces.texts, traces.input_tokens, strict=True):
        chat = target.tokenizer.apply_chat_template(
            prompt.chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        assert target.encode(prompt.text) == chat["input_ids"][0].tolist()
        assert tokens == chat["input_ids"].shape[1]
        out = target.model.generate(**chat, max_new_tokens=5, do_sample=False)[0, tokens:]
        assert text == target.tokenizer.decode(out, skip_special_tokens=True)
    assert target.last is not None
    assert target.last.memory.weights_bytes == 134_515_008 * 4 + 2 * 32 * 4  # and the frequencies of positions, twice


def test_facts_of_steps_by_hand() -> None:
    target = engine()
    # Prompts of 3 and 5 tokens; the second has enough after two tokens, and its row computes on for nothing.
    target.run(prompts((3, 4), (5, 2)), ClosedLoop(2))
    assert target.last is not None
    steps = target.last.steps
    assert steps.reads.tolist() == [True, False, False, False]
    assert steps.sequences.tolist() == [2, 2, 1, 1]
    assert steps.tokens.tolist() == [10, 2, 2, 2]
    assert steps.padding.tolist() == [2, 0, 1, 1]
    assert steps.context.tolist() == [0, 3 + 1 + 5 + 1, 3 + 2, 3 + 3]
    assert steps.pairs.tolist() == [(3**2 + 5**2) / 2, 0, 0, 0]
    assert steps.slots.tolist() == [2 * 64] * 4  # 5 + 4 tokens a row, rounded up
    said = steps.summary()
    assert said["read"]["steps"] == 1
    assert said["write"]["tokens"] == 2.0
    assert said["write"]["median_s"] == np.median(steps.seconds[1:])


def test_facts_add_up_to_the_traces() -> None:
    target = engine(max_batch=4)
    asked = prompts(*((3 + k, 2 + k % 3) for k in range(7)))
    traces = target.run(asked, ClosedLoop(4))
    assert target.last is not None
    steps = target.last.steps
    reads = steps.reads
    assert (steps.tokens - steps.padding)[reads].sum() == traces.input_tokens.sum()
    assert steps.sequences.sum() == traces.output_tokens.sum()  # each step gives each sequence a token
    assert (steps.tokens - steps.padding)[~reads].sum() == traces.output_tokens.sum() - len(asked)


def test_a_growing_cache_is_read_as_far_as_it_goes() -> None:
    target = engine(cache="dynamic")
    target.run(prompts((3, 3), (5, 3)), ClosedLoop(2))
    assert target.last is not None
    assert target.last.steps.slots.tolist() == [2 * 5, 2 * 6, 2 * 7]


def test_times_of_traces_are_those_of_steps() -> None:
    target = engine()
    traces = target.run(prompts((4, 6), (9, 3)), ClosedLoop(1))
    assert target.last is not None
    steps = target.last.steps
    ended = steps.began_s + steps.seconds
    np.testing.assert_allclose(traces.chunk_s, ended)
    assert traces.offsets.tolist() == [0, 6, 9]
    np.testing.assert_allclose(traces.first_s, ended[[0, 6]])
    np.testing.assert_allclose(traces.last_s, ended[[5, 8]])
    for i, one in ((0, slice(1, 6)), (1, slice(7, 9))):
        writing = steps.seconds[one].sum()
        between = (steps.began_s[one] - ended[one.start - 1 : one.stop - 1]).sum()
        assert traces.last_s[i] - traces.first_s[i] == pytest.approx(writing + between)
        assert between >= 0


def test_a_closed_loop_sends_as_answers_come() -> None:
    traces = engine(max_batch=1).run(prompts((3, 2), (3, 2), (3, 2)), ClosedLoop(2))
    assert traces.due_s[:2].tolist() == [0, 0]  # two in flight, of which one waits for the engine
    assert traces.first_s[1] > traces.last_s[0]
    assert traces.due_s[2] == traces.last_s[0]
    assert (traces.late_s == 0).all()


def test_a_closed_loop_is_served_in_lockstep() -> None:
    target = engine()
    traces = target.run(prompts(*[(3, 4)] * 6, (3, 2)), ClosedLoop(3))
    assert target.last is not None
    steps = target.last.steps
    assert steps.sequences.tolist() == [3] * 4 + [3] * 4 + [1] * 2
    assert steps.reads.nonzero()[0].tolist() == [0, 4, 8]
    for first in (0, 3):
        assert len(set(traces.last_s[first : first + 3])) == 1  # together
    assert traces.due_s[3:].tolist() == [traces.last_s[0]] * 3 + [traces.last_s[3]]


def test_who_has_a_longer_neighbour_lets_the_next_one_wait() -> None:
    # The second answer is short: its client asks again at once, and waits until the first one is written.
    traces = engine().run(prompts((3, 9), (3, 2), (3, 2)), ClosedLoop(2))
    assert traces.due_s[2] == traces.last_s[1] < traces.last_s[0] < traces.first_s[2]


def test_who_ends_first_is_followed_first() -> None:
    traces = engine().run(prompts((3, 5), (3, 2), (3, 1), (3, 1)), ClosedLoop(2))
    assert traces.due_s[2:].tolist() == [traces.last_s[1], traces.last_s[0]]


def test_an_open_loop_takes_what_is_due() -> None:
    target = engine()
    traces = target.run(prompts((3, 2), (4, 2), (5, 2), (6, 2)), OpenLoop(np.array([0.0, 0.0, 0.0, 0.2])))
    assert target.last is not None
    steps = target.last.steps
    assert steps.sequences[steps.reads].tolist() == [3, 1]
    assert traces.due_s.tolist() == [0.0, 0.0, 0.0, 0.2]
    assert traces.first_s[3] > 0.2
    with pytest.raises(InputError, match=r"a moment for each of 1 prompts\. Got 2"):
        target.run(prompts((3, 2)), OpenLoop(np.array([0.0, 1.0])))


class Scripted(Decoder):
    """Steps that end at given moments, or an error."""

    def script(self, *moments: float, error: Exception | None = None, most_rows: int = 99) -> Scripted:
        self.moments, self.error, self.most_rows = moments, error, most_rows
        self.tried: list[int] = []
        self.sizes: list[tuple[int, int]] = []
        return self

    def run(self, prompts: Sequence[Sequence[int]], steps: int, *, rows: int = 0, capacity: int = 0) -> Iterator[Step]:
        self.tried.append(len(prompts))
        self.sizes.append((rows, capacity))
        if self.error is not None and len(prompts) > self.most_rows:
            raise self.error
        began = time.perf_counter()
        for before, moment in zip((0.0, *self.moments), self.moments, strict=False):
            yield Step([1] * len(prompts), began + before, began + moment, len(prompts), len(prompts))


def scripted(*moments: float, **more: Any) -> tuple[InProcess, Scripted]:
    target = engine()
    target._ready = True
    target.decoder = decoder = Scripted(target.model).script(*moments, **more)
    return target, decoder


def test_a_stalled_request_is_given_up_and_counted() -> None:
    target, _ = scripted(1.0, 2.0, 60.0, 61.0)  # 58 s without a token
    traces = target.run(prompts((3, 4), (3, 2)), ClosedLoop(2), timeout_s=20.0)
    assert traces.outcome == (TIMEOUT, "ok")
    assert traces.output_tokens.tolist() == [2, 2]
    assert traces.last_s[0] == pytest.approx(traces.chunk_s[1] + 20.0)


def test_who_waits_for_the_engine_too_long_is_given_up() -> None:
    target, decoder = scripted(1.0)
    traces = target.run(prompts((3, 1), (3, 1)), ClosedLoop(2), timeout_s=0.0)
    assert traces.outcome == (TIMEOUT, TIMEOUT)
    assert decoder.tried == []
    assert traces.last_s.tolist() == [0.0, 0.0]
    assert np.isnan(traces.first_s).all()


def test_what_does_not_fit_is_told_and_never_halved_silently() -> None:
    target, decoder = scripted(1.0, error=torch.OutOfMemoryError("CUDA out of memory"), most_rows=2)
    traces = target.run(prompts(*[(3, 1)] * 6), ClosedLoop(6))
    assert traces.outcome == (OUT_OF_MEMORY,) * 6
    assert decoder.tried == [6]
    assert target.last is not None
    assert "ran out of memory with 6 sequences of up to 4 tokens" in target.last.out_of_memory
    assert target.last.out_of_memory.endswith("What would fit: max_batch = 3")  # half, where it seems that more fits
    target.max_batch = 2
    assert target.run(prompts(*[(3, 1)] * 6), ClosedLoop(6)).ok.all()
    assert target.last.out_of_memory == ""


def test_other_errors_are_not_taken_for_memory() -> None:
    target, _ = scripted(1.0, error=RuntimeError("shapes cannot be multiplied"), most_rows=0)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        target.run(prompts((3, 1)), ClosedLoop(1))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"))
    assert not is_out_of_memory(ValueError("not enough memory"))


def test_a_host_is_not_asked_for_more_than_it_has() -> None:
    target = engine(llama(max_position_embeddings=10**14))
    target.decoder = decoder = Scripted(target.model).script(1.0)
    target._ready = True
    # 2 x 2 layers x 2 KV heads x 8 numbers of 4 bytes = 256 bytes a token
    traces = target.run(prompts((3, 10**13)), ClosedLoop(1))
    assert traces.outcome == (OUT_OF_MEMORY,)
    assert decoder.tried == []
    assert target.last is not None
    assert "shorter sequences, or a smaller model" in target.last.out_of_memory


def test_memory_that_lacks_before_the_clock_starts_is_told_too() -> None:
    # Compiled steps are warmed up with batches of the full size.
    target, decoder = scripted(1.0, error=torch.OutOfMemoryError("CUDA out of memory"), most_rows=0)
    decoder.compiled = True
    traces = target.run(prompts((3, 2), (3, 2)), ClosedLoop(2))
    assert traces.outcome == (OUT_OF_MEMORY,) * 2
    assert decoder.tried == [2, 2]  # warming up, and the batch that says so
    assert target.last is not None
    assert "max_batch = 1" in target.last.out_of_memory


def test_a_host_is_not_warmed_up_beyond_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    target, decoder = scripted(1.0)
    decoder.compiled = True
    monkeypatch.setattr(static_batches, "free_bytes", lambda device: 1000)
    traces = target.run(prompts((3, 2), (3, 2)), ClosedLoop(2))
    assert traces.outcome == (OUT_OF_MEMORY,) * 2
    assert decoder.tried == []


def test_memory_of_the_cache_that_is_used_again_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    target = engine()
    asked = prompts(*[(3, 2)] * 4)
    # 2 x 2 layers x 2 KV heads x 8 numbers of 4 bytes = 256 bytes a token; 2 rows of 64 are 32,768. A batch needs
    # 2 x 3 x (8 x 32 + 3 x 64) x 4 = 10,752 more for reading, so 45,000 are enough for one, and for the next.
    monkeypatch.setattr(static_batches, "free_bytes", lambda device: 45_000 - target.decoder.held_bytes())
    assert target.run(asked, ClosedLoop(2)).ok.all()
    assert target.decoder.held_bytes() >= 32_768
    monkeypatch.setattr(static_batches, "free_bytes", lambda device: 43_000 - target.decoder.held_bytes())
    assert target.run(asked, ClosedLoop(2)).outcome == (OUT_OF_MEMORY,) * 4  # 43,520 would be needed


def test_a_refused_prompt_makes_no_cache_longer() -> None:
    target, decoder = scripted(1.0)
    decoder.compiled = True
    traces = target.run(prompts((200, 5000), (3, 1)), ClosedLoop(2))
    assert traces.outcome == ("longer than the model's 256 tokens", "ok")
    assert decoder.sizes == [(1, 4)] * 2  # rows and capacity: of the other one, warming up and serving


def test_what_the_model_cannot_see_is_refused() -> None:
    traces = engine().run(prompts((200, 57), (200, 56)), ClosedLoop(2))
    assert traces.outcome == ("longer than the model's 256 tokens", "ok")


@pytest.mark.parametrize(("build", "dynamic"), [(llama, False), (gemma, None)])
def test_compiled_steps_have_batches_of_one_size(
    build: Any, dynamic: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[dict[str, Any]] = []
    plain = torch.compile

    def traced(call: Any, **options: Any) -> Any:
        compiled.append(options)
        return plain(call, backend="eager", dynamic=options["dynamic"])  # traced, not translated to C++

    monkeypatch.setattr(torch, "compile", traced)
    model, asked = build(), prompts(*LENGTHS, (4, 3))
    target = engine(model, compile=True, max_batch=2)
    traces = target.run(asked, ClosedLoop(4))
    assert compiled == [{"mode": "reduce-overhead", "dynamic": dynamic}]
    assert traces.texts == engine(model).run(asked, ClosedLoop(4)).texts
    assert target.last is not None
    steps = target.last.steps
    assert set(steps.tokens[~steps.reads].tolist()) == {2}
    late = target.run(asked, OpenLoop(np.array([0.0, 0.3, 0.6, 0.9])))  # mostly alone, but batches of two
    assert late.texts == traces.texts
    assert set(target.last.steps.tokens[~target.last.steps.reads].tolist()) == {2}
    assert len(compiled) == 1
    target.run(asked, ClosedLoop(1))
    assert len(compiled) == 2  # for batches of one


def test_prompts_made_with_the_engine_have_the_wanted_lengths() -> None:
    target = InProcess.load(str(smollm2()))
    made = make_prompts(Workload(requests_per_day=1, input_tokens=60, output_tokens=3), 3, target)
    assert made.inexact == 0
    assert {len(target.encode(prompt.text)) for prompt in made} == {60}


def test_a_chat_is_read_as_one() -> None:
    target = engine()
    chat = ({"role": "system", "content": "1 2"}, {"role": "user", "content": "3"})
    traces = target.run([Prompt("9", 1, 2, messages=chat)], ClosedLoop(1))
    assert traces.input_tokens.tolist() == [3]
    assert traces.texts == target.run([Prompt("1 2 3", 3, 2)], ClosedLoop(1)).texts


def test_where_to_run() -> None:
    assert choose("auto", "auto").precision in ("fp32", "bf16")
    assert choose("bf16", "cpu").precision == "bf16"
    with pytest.raises(InputError, match=r"precision must be auto, fp32, bf16, fp8 or int8\. Got 'int3'"):
        choose("int3", "auto")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="device must be auto, cuda or cpu"):
        choose("auto", "tpu")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="max_batch must be 1 or more"):
        engine(max_batch=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_what_a_cpu_does_not_do() -> None:
    assert choose("auto", "auto").precision == "fp32"
    with pytest.raises(InputError, match="no CUDA device here"):
        choose("auto", "cuda")
    with pytest.raises(InputError, match="'int8' needs a CUDA device"):
        InProcess.load(str(smollm2()), precision="int8")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("build", [llama, gemma])
def test_graphs_on_a_gpu_write_what_single_steps_write(build: Any) -> None:
    model, asked = build().to("cuda"), prompts(*LENGTHS, (4, 3))
    plain, graphs = engine(model), engine(model, compile=True, max_batch=2)
    wanted = plain.run(asked, ClosedLoop(2)).texts
    assert graphs.run(asked, ClosedLoop(2)).texts == wanted
    assert graphs.run(asked, ClosedLoop(2)).texts == wanted  # the recorded graph, in the cache that it was recorded for
    assert graphs.last is not None
    assert graphs.last.memory.peak_bytes > graphs.last.memory.weights_bytes
    assert "allocator" in graphs.last.memory.how
