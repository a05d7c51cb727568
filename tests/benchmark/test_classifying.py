"""A classifier as a target: what it answers, how it is served, and its record held against an estimate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distillcalc.benchmark import static_batches
from distillcalc.benchmark.classifying import InProcessClassifier
from distillcalc.benchmark.load import ClosedLoop, OpenLoop, Prompt
from distillcalc.benchmark.loads import make_prompts
from distillcalc.benchmark.record import Record, Samples
from distillcalc.benchmark.refit import MeasuredSteps
from distillcalc.benchmark.run import benchmark
from distillcalc.benchmark.static_batches import OUT_OF_MEMORY
from distillcalc.benchmark.static_estimate import estimate_static
from distillcalc.benchmark.traces import TIMEOUT
from distillcalc.benchmark.validation import validate, without_head, without_table
from distillcalc.catalog import Catalog
from distillcalc.distill.packaged import minilm
from distillcalc.distill.training.classifier import Classifier, new_classifier
from distillcalc.errors import InputError
from distillcalc.estimate.step_time import Placement, StepTime
from distillcalc.workload import Workload
from tests.distill.training.classifiers import KINDS, LABELS, saved, texts_of

CATALOG = Catalog.load()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Of models this small, more cost more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return _at_rest(new_classifier(saved(tmp_path_factory.mktemp("tiny"), "mean"), LABELS, max_length=16))


@pytest.fixture(scope="module")
def encoder() -> InProcessClassifier:
    return InProcessClassifier(new_classifier(minilm(), LABELS), "minilm")


def _at_rest(made: Classifier) -> Classifier:
    """In evaluation mode: nothing is dropped."""
    made.model.eval()
    return made


def prompts(texts: list[str]) -> list[Prompt]:
    return [Prompt(text, 0, 3) for text in texts]


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_the_classifier(kind: str, tmp_path: Path) -> None:
    start, texts = saved(tmp_path / "start", kind), texts_of(30)[0]
    heads = (new_classifier(start, LABELS, max_length=16, seed=seed) for seed in range(20))
    made = next(
        one for one in map(_at_rest, heads) if len(set(one.predict(texts))) > 1
    )  # a random head may say one thing to all
    target = InProcessClassifier.load(made.save(tmp_path / "student"), device="cpu")
    traces = target.run(prompts(texts), ClosedLoop(4))
    assert list(traces.texts) == made.predict(texts)
    assert (target.name, target.precision) == ("student", "fp32")
    assert traces.input_tokens.tolist() == [len(target.encode(text)) for text in texts]


def test_the_answer_is_one_token(tiny: Classifier) -> None:
    traces = InProcessClassifier(tiny).run(prompts(texts_of(5)[0]), ClosedLoop(2))
    assert traces.ok.all()
    assert traces.output_tokens.tolist() == [1] * 5
    assert traces.first_s.tolist() == traces.last_s.tolist() == traces.chunk_s.tolist()
    assert np.isnan(traces.tpot_s).all()
    assert traces.itl_s().size == 0


def test_a_closed_loop_is_served_in_lockstep(tiny: Classifier) -> None:
    target = InProcessClassifier(tiny)
    traces = target.run(prompts(texts_of(10)[0]), ClosedLoop(4))
    assert target.last is not None
    assert target.last.steps.sequences.tolist() == [4, 4, 2]
    for rows in (slice(0, 4), slice(4, 8), slice(8, 10)):
        assert len(set(traces.last_s[rows])) == 1
    assert traces.due_s.tolist() == [0.0] * 4 + [traces.last_s[0]] * 4 + [traces.last_s[4]] * 2
    assert (traces.late_s == 0).all()
    np.testing.assert_allclose(target.last.steps.began_s + target.last.steps.seconds, traces.last_s[[0, 4, 8]])


def test_facts_of_steps_by_hand(tiny: Classifier) -> None:
    target = InProcessClassifier(tiny)
    # [CLS] and [SEP] beside two, four and no words: of 4, 6 and 2 tokens.
    target.run(prompts(["the card", "where is the fee", ""]), ClosedLoop(3))
    assert target.last is not None
    (step,) = zip(*target.last.steps.arrays().values(), strict=True)
    facts = dict(zip(target.last.steps.arrays(), step, strict=True))
    assert facts["sequences"] == 3
    assert facts["tokens"] == 3 * 6
    assert facts["padding"] == 2 + 4
    assert facts["pairs"] == (4**2 + 6**2 + 2**2) / 2
    assert facts["context"] == facts["slots"] == 0
    assert target.last.steps.reads.all()
    # With what stands in buffers: 32 numbers of positions and 32 of segments, 8 bytes each.
    assert target.last.memory.weights_bytes == 4 * tiny.parameters + 2 * 32 * 8
    assert target.last.memory.peak_bytes >= target.last.memory.weights_bytes


def test_a_batch_holds_no_more_than_it_may(tiny: Classifier) -> None:
    target = InProcessClassifier(tiny, max_batch=2)
    traces = target.run(prompts(texts_of(5)[0]), ClosedLoop(4))
    assert target.last is not None
    assert target.last.steps.sequences.tolist() == [2, 2, 1]
    assert traces.due_s[:4].tolist() == [0.0] * 4  # four in flight, of which two wait
    with pytest.raises(InputError, match="max_batch must be 1 or more"):
        InProcessClassifier(tiny, max_batch=0)


def test_an_open_loop_takes_what_is_due(tiny: Classifier) -> None:
    target = InProcessClassifier(tiny)
    moments = np.array([0.0, 0.0, 0.0, 0.3, 0.6])
    traces = target.run(prompts(texts_of(5)[0]), OpenLoop(moments))
    assert target.last is not None
    assert target.last.steps.sequences.tolist() == [3, 1, 1]
    assert traces.due_s.tolist() == moments.tolist()
    assert (traces.first_s > traces.due_s).all()
    with pytest.raises(InputError, match=r"a moment for each of 1 prompts\. Got 2"):
        target.run(prompts(["card"]), OpenLoop(np.array([0.0, 1.0])))


@settings(max_examples=6, deadline=None)
@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=12),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_facts_add_up_to_the_traces(tiny: Classifier, words: list[int], in_flight: int, most: int) -> None:
    target = InProcessClassifier(tiny, max_batch=most)
    texts = [" ".join(["card"] * count) for count in words]
    traces = target.run(prompts(texts), ClosedLoop(in_flight))
    assert target.last is not None
    steps = target.last.steps
    assert traces.input_tokens.tolist() == [min(count + 2, 16) for count in words]
    assert (steps.tokens - steps.padding).sum() == traces.input_tokens.sum()
    assert steps.sequences.sum() == len(words)
    assert steps.sequences.max() <= min(in_flight, most)
    assert (np.diff(traces.last_s) >= 0).all()
    assert (traces.due_s <= traces.first_s).all()
    assert list(traces.texts) == tiny.predict(texts)


def test_longer_texts_are_cut_and_it_is_said(tiny: Classifier) -> None:
    target = InProcessClassifier(tiny, "student")
    long = " ".join(["card"] * 50)
    traces = target.run(prompts([long, "fee"]), ClosedLoop(1))
    assert traces.input_tokens.tolist() == [16, 3]
    assert len(target.encode(long)) == 52
    assert target.notes == ("texts of more than 16 tokens were cut: student reads no more",)
    target.run(prompts(["fee"]), ClosedLoop(1))
    assert target.notes == ()


def test_of_a_chat_the_text_is_read(tiny: Classifier) -> None:
    chat = ({"role": "user", "content": "please about the loan"},)
    traces = InProcessClassifier(tiny).run([Prompt("fee", 3, 1, messages=chat)], ClosedLoop(1))
    assert traces.input_tokens.tolist() == [3]


def test_who_waits_too_long_is_given_up(tiny: Classifier) -> None:
    traces = InProcessClassifier(tiny).run(prompts(["fee", "card"]), ClosedLoop(2), timeout_s=0.0)
    assert traces.outcome == (TIMEOUT, TIMEOUT)
    assert traces.texts == ("", "")


def test_a_host_is_not_asked_for_more_than_it_has(tiny: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    target = InProcessClassifier(tiny)
    # A token at work takes (8 x 32 + 3 x 64) x 4 = 1,792 bytes: three texts of 3 tokens 16,128, two of them 10,752.
    monkeypatch.setattr(static_batches, "free_bytes", lambda device: 15_000)
    assert target.run(prompts(["fee"] * 3), ClosedLoop(3)).outcome == (OUT_OF_MEMORY,) * 3
    assert target.last is not None
    assert "max_batch = 1" in target.last.out_of_memory
    assert target.run(prompts(["fee"] * 4), ClosedLoop(2)).ok.all()


def test_prompts_made_with_it_have_the_wanted_lengths(encoder: InProcessClassifier) -> None:
    made = make_prompts(Workload(requests_per_day=1, input_tokens=600, output_tokens=9), 2, encoder)
    assert made.inexact == 0
    assert {prompt.input_tokens for prompt in made} == {600}
    assert encoder.run(list(made), ClosedLoop(2)).input_tokens.tolist() == [128, 128]


def test_what_it_says_of_itself(encoder: InProcessClassifier) -> None:
    said = encoder.describe()
    # 22,534,656 numbers in matrices and tables, and what the norms, biases and three labels have.
    assert said["weights_bytes"] == pytest.approx(4 * 22_534_656, rel=0.01)
    assert {"engine": "transformers", "batching": "static", "kind": "encoder", "precision": "fp32"}.items() <= (
        said.items()
    )
    assert (said["device"], said["threads"], said["max_length"], said["labels"]) == ("cpu", 1, 128, 3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_device_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no CUDA device here"):
        InProcessClassifier.load(tmp_path, device="cuda")
    with pytest.raises(InputError, match=r"it has no classifier\.json"):
        InProcessClassifier.load(tmp_path)


# --- as a record ----------------------------------------------------------------------------------------------------

TRAFFIC: dict[str, Any] = {
    "name": "messages", "requests_per_day": 1000, "input_tokens": {"mean": 30, "p95": 60}, "output_tokens": 5,
}  # fmt: skip


@pytest.fixture(scope="module")
def records(encoder: InProcessClassifier, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("records")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    made = [
        benchmark(
            encoder, Workload(**TRAFFIC), concurrency=[1, 4, 8], requests=16, rates_per_s=[20.0][:seed],
            slo=Workload(**TRAFFIC, slo={"e2e_p50_s": 30.0, "tpot_p50_ms": 1.0}).slo, name=f"run-{seed}", seed=seed,
        ).save(folder)
        for seed in (0, 1)
    ]  # fmt: skip
    torch.set_num_threads(threads)
    return made


def test_a_record_is_written_and_read(records: list[Path]) -> None:
    record, held = Record.load(records[1]), Samples.of(records[1]).arrays
    measured = record.measured
    assert (measured.kind, measured.weights, measured.engine) == ("in-process", "trained", "transformers")
    assert (measured.name, measured.precision, measured.details["kind"]) == ("minilm", "fp32", "encoder")
    shape = CATALOG.model("minilm-l6").shape
    assert shape is not None
    assert measured.details["catalog_row"]["shape"] == shape.model_dump(
        exclude={"experts", "experts_per_token", "kv_bytes_per_token_bf16"}
    )
    assert record.workload["counted_by"] == "tokenizer"
    assert [level.name for level in record.levels] == ["1 in flight", "4 in flight", "8 in flight", "20 a second"]
    for place, level in enumerate(record.levels):
        assert level.summary["outcomes"] == {"ok": 16}
        assert level.summary["tpot"]["p50"]["value"] is None
        assert level.summary["verdict"] == "met"  # who writes one token alone keeps any limit of the time between two
        assert level.steps is not None
        assert level.steps["write"] == {"steps": 0}
        assert level.steps["read"]["steps"] == len(held[f"{place}.step.seconds"])
        assert held[f"{place}.output_tokens"].tolist() == [1] * 16
        assert level.peak_memory_bytes is not None
        assert level.peak_memory_bytes >= measured.details["weights_bytes"]
    assert held["1.step.sequences"].tolist() == [4] * 4


def test_an_estimate_is_held_against_it_and_fitted_to_it(records: list[Path]) -> None:
    first, second = records
    found = validate([second], machine="cloud-vcpu-2", engine="llama-cpp", refit_on=[first])
    assert [one.what for one in found.before] == ["TTFT", "E2E", "throughput", "memory"] * 3
    assert [one.what for one in found.after] == [one.what for one in found.before]
    assert all(np.isfinite([one.estimate, one.measured]).all() and one.estimate > 0 for one in found.after)
    for ttft, e2e in zip(found.before[::4], found.before[1::4], strict=True):  # the last token is the first
        assert (ttft.estimate, ttft.measured) == (e2e.estimate, e2e.measured)
    # 22.57 million numbers of 4 bytes, no cache, and of the longest text and its answer 8 x 384 + 3 x 1,536 a token.
    longest = int(Samples.of(second).arrays["0.input_tokens"].max())
    assert found.before[3].estimate == pytest.approx(4 * 22.57e6 + (longest + 1) * 7680 * 4, rel=1e-3)
    assert found.fitted is not None
    assert "TPOT" not in str(found)


def as_if(file: Path, folder: Path, step: StepTime) -> Path:
    """The record, of a machine whose steps take what the model says."""
    record, arrays = Record.load(file), dict(Samples.of(file).arrays)
    for place, level in enumerate(record.levels[:3]):
        inputs, b = arrays[f"{place}.input_tokens"], level.load["concurrency"]
        made = estimate_static(step, inputs, np.ones_like(inputs), b)
        longest = inputs.reshape(-1, b).max(axis=1)
        facts = {"sequences": np.full(len(longest), b), "tokens": b * longest, "pairs": b * longest**2 / 2}
        facts["slots"] = np.zeros(len(longest))
        facts["seconds"] = step.seconds(facts["sequences"], facts["tokens"], 0, facts["pairs"])
        ends = np.repeat(facts["seconds"].cumsum(), b)
        arrays |= {f"{place}.step.{name}": value for name, value in facts.items()}
        arrays |= {f"{place}.due_s": ends - made.ttft_s, f"{place}.first_s": ends, f"{place}.last_s": ends}
    return record.model_copy(update={"levels": record.levels[:3]}).save(folder, arrays)


def test_of_a_machine_that_is_as_the_model_says_nothing_is_off(records: list[Path], tmp_path: Path) -> None:
    row, engine = CATALOG.model("minilm-l6"), CATALOG.engine("llama-cpp").model_copy(update={"request_s": 0.0})
    place = without_head(Placement.of(row, CATALOG.gpu("cloud-vcpu-2"), "fp32", 1, kv_precision="fp32"), row)
    known = CATALOG.with_overrides({"engines": {"llama-cpp": engine.model_dump()}})
    slower = engine.model_copy(update={"mfu_bf16": engine.mfu_bf16 / 2, "fixed_s": engine.fixed_s + 5e-3})

    def made(name: str, constants: Any, file: Path) -> Path:
        step = StepTime.of(without_table(place, row, "fp32"), constants)
        same = Record.load(file).measured.model_copy(update={"model": "minilm-l6"})
        moved = Record.load(file).model_copy(update={"measured": same}).save(tmp_path / name, Samples.of(file).arrays)
        return as_if(moved, tmp_path / name, step)

    right = validate([made("right", engine, records[1])], machine="cloud-vcpu-2", engine="llama-cpp", catalog=known)
    for what in ("TTFT", "E2E", "throughput"):
        assert right.worst(what) < 1e-9
    fits = [made("fitted", slower, records[0])]
    found = validate(
        [made("held", slower, records[1])], machine="cloud-vcpu-2", engine="llama-cpp", refit_on=fits, catalog=known
    )
    for what in ("TTFT", "E2E", "throughput"):
        assert found.worst(what) > 0.2
        assert found.worst(what, after=True) < 0.05


def test_of_an_encoder_no_output_layer_is_read() -> None:
    row = CATALOG.model("minilm-l6")
    place = without_head(Placement.of(row, CATALOG.gpu("cloud-vcpu-2"), "fp32", 1, kv_precision="fp32"), row)
    # 22.7 million parameters less a table of 30,522 x 384 = 11,720,448.
    assert without_table(place, row, "fp32").weights_bytes == pytest.approx(4 * (22.7e6 - 11_720_448))
    assert place.token_flop == pytest.approx(2 * (22.7e6 - 11_720_448))
    steps = {name: [1.0] for name in ("seconds", "sequences", "tokens", "pairs")} | {"slots": [0.0]}
    assert MeasuredSteps.of(place, steps).context.tolist() == [0.0]
