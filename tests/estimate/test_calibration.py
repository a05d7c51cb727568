"""Measured points read, predicted and fitted: by hand, against known constants, and on measurements of others.

The last ones are of ../shared, and skip where it is not: silybench (tgarg01/silybench-data, CC BY 4.0) and Splitwise
(Mutinifni/splitwise-sim, MIT). Neither was used in any fit, nor in choosing the model's form, but
for the row ``engines-2023``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from distillcalc.catalog import Catalog
from distillcalc.errors import InputError, UnknownName
from distillcalc.estimate.calibration import (
    AICONFIGURATOR,
    BELOW_THE_ROOFLINE,
    NOT_MODELLED,
    PROMPTS_NOT_COMPUTED,
    Points,
    calibrate,
    compute_share,
    fitted_engines,
    impossible,
    possible,
    predict,
    read_measurements,
    set_aside,
)
from distillcalc.estimate.step_time import Placement, StepTime
from tests.estimate.tiny import ROOFLINE, catalog

PERF = Path(__file__).resolve().parents[3] / "shared" / "data" / "perf"


def perf(name: str) -> pd.DataFrame:
    if not (PERF / name).is_file():
        pytest.skip(f"{name} lies in ../shared, which is not here")
    return pd.read_csv(PERF / name)


def runs(**columns: Any) -> pd.DataFrame:
    """Points on a toy; a column may be a list."""
    plain = {
        "model": "tiny", "gpu": "toy", "input_tokens": 1000, "output_tokens": 100, "concurrency": 9, "tpot_s": 0.05,
    }  # fmt: skip
    longest = max([1, *(len(value) for value in columns.values() if isinstance(value, list))])
    return pd.DataFrame({**plain, **columns}, index=range(longest))


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    runs(concurrency=[1, 9], ttft_s=[0.4, None]).to_csv(file, index=False)
    points = read_measurements(file, catalog())
    assert len(points) == 2
    assert points.family.tolist() == ["dense", "dense"]
    assert points.column("engine").tolist() == ["vllm", "vllm"]
    assert points.column("gpus").tolist() == [1, 1]
    assert np.isnan(points.column("ttft_s")[1])
    # 90 of 100 GB less 16 of weights, at 2,000 bytes a token and 1,100 tokens a request.
    assert points.room == pytest.approx(74e9 / (2000 * 1100))
    assert points.left_out == {}


def test_a_table_is_not_changed_by_being_read() -> None:
    table = runs(concurrency=["9", "10"])
    before = table.copy()
    read_measurements(table, catalog())
    pd.testing.assert_frame_equal(table, before)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tpot_s": 0}, ["row 1", "tpot_s must be above 0", "Got 0"]),
        ({"tpot_s": [0.1, -3]}, ["row 2", "tpot_s", "Got -3"]),
        ({"concurrency": "many"}, ["concurrency must be above 0", "Got many"]),
        ({"input_tokens": [None, 3]}, ["row 1", "input_tokens", "Got nothing"]),
        ({"output_tokens": float("inf")}, ["output_tokens", "Got inf"]),
        ({"ttft_s": [0.2, 0.0]}, ["row 2", "ttft_s must be above 0"]),
        ({"ttft_s": ["soon", 0.1]}, ["row 1", "ttft_s", "soon"]),
        ({"tensor_parallel": 1.5}, ["tensor_parallel must be a whole number above 0", "1.5"]),
        ({"precision": "fp7"}, ["precision must be one of fp32, bf16, fp8", "fp7"]),
        ({"kv_precision": "int4"}, ["kv_precision must be one of fp32, bf16, fp8", "int4"]),
        ({"model": "tinny"}, ["unknown model 'tinny'", "tiny"]),
        ({"gpu": "tooy"}, ["unknown GPU 'tooy'", "toy"]),
        ({"model": "big"}, ["the shape of big is not in the catalog", "overrides.models.big.shape"]),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], says: list[str]) -> None:
    with pytest.raises((InputError, UnknownName)) as refused:
        read_measurements(runs(**change), catalog())
    for words in says:
        assert words in str(refused.value)


def test_a_missing_column_names_the_nearest() -> None:
    table = runs().rename(columns={"tpot_s": "tpot_ms", "concurrency": "users"})
    with pytest.raises(InputError, match="has no column concurrency, tpot_s") as refused:
        read_measurements(table.rename(columns={"users": "concurency"}), catalog())
    assert "Did you mean 'concurency'" in str(refused.value)
    assert "in seconds" in str(refused.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read measurements from .*none\.csv"):
        read_measurements(tmp_path / "none.csv", catalog())
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(InputError, match="cannot read measurements"):
        read_measurements(tmp_path / "empty.csv", catalog())
    runs().head(0).to_csv(tmp_path / "head.csv", index=False)
    with pytest.raises(InputError, match="has no rows"):
        read_measurements(tmp_path / "head.csv", catalog())


def published(**columns: Any) -> pd.DataFrame:
    """Rows as aiconfigurator publishes them."""
    plain = {
        "silicon_data_source": "source_file=/x/1.0/M.csv; silicon_concurrency=8", "backend": "trtllm",
        "model_path": "meta-llama/Llama-3.1-70B", "system": "h100_sxm", "precision": "fp8", "isl": 1000, "osl": 100,
        "batch_size": 8, "tp_size": 4, "attention_dp_size": None, "moe_tp_size": None, "moe_ep_size": None,
        "silicon_ttft_ms": 200.0, "silicon_tpot_ms": 20.0,
    }  # fmt: skip
    assert set(plain) == set(AICONFIGURATOR)
    longest = max([1, *(len(value) for value in columns.values() if isinstance(value, list))])
    return pd.DataFrame({**plain, **columns}, index=range(longest))


def test_the_published_table_in_our_columns() -> None:
    sources = [
        "source_file=/a/1.0.0rc3/M.csv; silicon_concurrency=8",
        "source_file=2026-04-06.csv; silicon_concurrency=8",
    ]
    found = read_measurements(published(silicon_data_source=sources))
    first, second = found.table.to_dict("records")
    assert (first["model"], first["gpu"], first["engine"]) == ("llama-3.1-70b", "h100-sxm", "tensorrt-llm")
    assert (first["input_tokens"], first["concurrency"], first["tpot_s"], first["ttft_s"]) == (1000, 8, 0.02, 0.2)
    assert (first["kv_precision"], first["harness"]) == ("bf16", "1.0.0rc3 tensorrt-llm")
    # InferenceMAX draws lengths between 0.8 and 1 of the nominal ones, and keeps the cache in 8 bits.
    assert (second["input_tokens"], second["output_tokens"]) == (900, 90)
    assert (second["kv_precision"], second["harness"]) == ("fp8", "inferencemax tensorrt-llm")


def test_what_is_not_modelled_is_left_out_and_counted() -> None:
    # Attention on two GPUs each for itself, said or told by a batch that is not the concurrency; and 16 GPUs.
    source = "source_file=/a/b/c.csv; silicon_concurrency="
    table = published(
        attention_dp_size=[1.0, 2.0, None, None], tp_size=[4, 4, 4, 16],
        silicon_data_source=[f"{source}8", f"{source}8", f"{source}32", f"{source}8"],
    )  # fmt: skip
    found = read_measurements(table)
    assert len(found) == 1
    assert found.left_out == {NOT_MODELLED: 3}
    with pytest.raises(InputError, match="no rows that can be modelled"):
        read_measurements(table.iloc[1:])
    with pytest.raises(InputError, match="no column batch_size"):
        read_measurements(table.drop(columns="batch_size"))


# --- predicting ------------------------------------------------------------------------------------------------------


def test_a_prediction_by_hand() -> None:
    points = read_measurements(runs(), catalog())
    # A step of 9: 20 ms of weights + 9 x 1,050 x 2.5 ns of cache + 2 ms = 22.023625 ms; a prompt adds 0.32004 s.
    # TPOT: 22.023625 ms + 8 x 320.04 ms / 100.
    plain, prefill = 0.022023625, 0.32004
    tpot = plain + 8 * prefill / 100
    # E2E 0.32204 + 99 TPOT = 5.0371 s, in which 9 prompts are busy 57.2%; a tenth of the others come at once.
    whole = 0.32204 + 99 * tpot
    busy = 9 * prefill / whole
    queue = busy / (1 - busy) * prefill / 2 + 0.1 * 8 / 2 * prefill
    found = predict(points, catalog().engines)
    assert found.tpot_s == pytest.approx(tpot)
    assert found.ttft_s == pytest.approx(plain + prefill + plain / 2 + queue)
    # The way of measuring changes the TTFT: 2 of 9 wait for a whole other request, three steps until it is handed on.
    waits = predict(points, catalog().engines, {"burst": 0.0, "behind": 0.2, "steps": 3.0})
    assert waits.tpot_s == found.tpot_s
    assert waits.ttft_s == pytest.approx(4 * plain + prefill + busy / (1 - busy) * prefill / 2 + 0.2 * whole / 9)


def test_alone_a_request_waits_for_nobody() -> None:
    points = read_measurements(runs(concurrency=1), catalog())
    found = predict(points, catalog(engines={"vllm": {**ROOFLINE, "request_s": 0.01}}).engines, {"steps": 0.0})
    busy = 0.32004 / (0.32204 + 99 * 0.022002625)  # of its own prompt
    assert found.tpot_s == pytest.approx(0.022002625)
    assert found.ttft_s == pytest.approx(0.01 + 0.022002625 + 0.32004 + busy / (1 - busy) * 0.16002)


def test_requests_that_the_memory_does_not_hold_wait() -> None:
    # 90 - 16 GB hold 74 x 10^9 / (2,000 x 1,100 tokens); a toy of 18 GB in all holds 90.9 of them.
    small = catalog(gpus={"toy": {"memory_gb": 18}})
    points = read_measurements(runs(concurrency=[90, 400]), small)
    room = (0.9 * 18e9 - 16e9) / (2000 * 1100)
    assert points.room == pytest.approx(room)
    points = read_measurements(runs(concurrency=[room, 2 * room, 3 * room]), small)
    found = predict(points, small.engines)
    assert found.tpot_s == pytest.approx(found.tpot_s[0])
    waits = np.diff(found.ttft_s)
    assert waits[0] == pytest.approx(waits[1])
    assert waits[0] > 99 * found.tpot_s[0]  # a whole other request


def test_an_engine_that_is_not_known() -> None:
    points = read_measurements(runs(engine="vlm"), catalog())
    with pytest.raises(UnknownName, match=r"unknown engine 'vlm'\. Did you mean vllm"):
        predict(points, catalog().engines)
    with pytest.raises(UnknownName, match=r"unknown engine 'vlm'\. Did you mean vllm"):
        calibrate(runs(engine="vlm"), catalog())


# --- what the hardware cannot have done ------------------------------------------------------------------------------


def test_points_faster_than_the_hardware() -> None:
    # A request of 1,000 + 100 tokens is 1,100 x 16 x 10^9 + 4,000 x (5 x 10^5 + 10^5) = 1.76024 x 10^13 FLOPs. At 10^14
    # a second 9 of them take 1.584 s. With 99 x 15 ms + 0.1 they are said to take 1.585 s, which is 99.9% of the peak.
    table = runs(
        concurrency=[9, 1, 1, 9, 1], tpot_s=[0.015, 0.03, 0.03, 0.05, 0.0159], ttft_s=0.1,
        harness=["cached", "cached", "other", "other", "other"],
    )  # fmt: skip
    points = read_measurements(table, catalog())
    assert compute_share(points)[0] == pytest.approx(9 * 1.76024e13 / (1e14 * 1.585))
    found = set_aside(points)
    # The second was measured with the first. The last reads 16 GB in less than 16 ms, and nothing follows for others.
    assert found[PROMPTS_NOT_COMPUTED].tolist() == [True, True, False, False, False]
    assert found[BELOW_THE_ROOFLINE].tolist() == [False, False, False, False, True]
    assert impossible(points).tolist() == [True, True, False, False, True]
    assert possible(points).column("concurrency").tolist() == [1, 9]


def test_nothing_but_impossible_points_is_refused() -> None:
    table = runs(tpot_s=[15e-3, 15e-3], ttft_s=0.1)
    with pytest.raises(InputError, match="faster than the GPU can compute their prompts"):
        calibrate(table, catalog())
    with pytest.raises(InputError, match="faster than the GPU"):
        fitted_engines(read_measurements(runs(tpot_s=1e-6), catalog()))


# --- fitting ---------------------------------------------------------------------------------------------------------

TRUE = {
    "mbu": 0.62, "kv_mbu": 0.64, "mfu_bf16": 0.61, "mfu_fp8": 0.48, "attention_mfu": 0.46, "fixed_s": 6e-4,
    "layer_s": 5e-5, "quantise_s": 2e-6, "sequence_s": 9e-6, "all_reduce_s": 5e-6, "link_efficiency": 0.4,
    "request_s": 0.015,
}  # fmt: skip


def known(factor: float = 1.0, **changes: Any) -> Catalog:
    return Catalog.load({"engines": {"vllm": {name: value * factor for name, value in TRUE.items()} | changes}})


def measured(truth: Catalog, engine: str = "vllm") -> pd.DataFrame:
    """What an engine with known constants would be measured at: 3 models on machines, 3 lengths, 4 concurrencies."""
    rows = [
        (model, gpu, precision, n, inputs, outputs, sent)
        for model, gpu, precision, n in (
            ("llama-3.1-8b", "h100-sxm", "bf16", 1),
            ("llama-3.1-70b", "h200-sxm", "fp8", 2),
            ("llama-3.1-70b", "h100-sxm", "bf16", 8),
        )
        for inputs, outputs in ((500, 100), (4000, 500), (1000, 1000))
        for sent in (1, 4, 16, 64)
    ]
    names = ["model", "gpu", "precision", "tensor_parallel", "input_tokens", "output_tokens", "concurrency"]
    table = pd.DataFrame(rows, columns=names).assign(engine=engine, tpot_s=1.0)
    found = predict(read_measurements(table, truth), truth.engines)
    return table.assign(tpot_s=found.tpot_s, ttft_s=found.ttft_s)


def off(table: pd.DataFrame, fitted: Catalog, what: str) -> Any:
    found = predict(read_measurements(table, fitted), fitted.engines)
    return np.abs(getattr(found, what) / table[what] - 1)


@pytest.mark.parametrize("factor", [1.0, 0.7, 1.3])
def test_known_constants_are_recovered(factor: float) -> None:
    table = measured(known())
    before, after = known(factor), calibrate(table, known(factor))
    if factor != 1:
        assert off(table, before, "tpot_s").mean() > 0.1
        assert off(table, before, "ttft_s").mean() > 0.1
    assert off(table, after, "tpot_s").max() < 0.025
    assert off(table, after, "tpot_s").mean() < 0.01
    assert off(table, after, "ttft_s").mean() < 0.03


def test_what_fits_already_stays() -> None:
    table = measured(known())
    before, after = known().engines["vllm"], calibrate(table, known()).engines["vllm"]
    for name in TRUE:
        assert getattr(after, name) == pytest.approx(getattr(before, name), rel=0.03), name
    assert after.overlap == before.overlap == 0


def test_each_engine_starts_from_its_own_row_and_unmeasured_ones_stay() -> None:
    truth = known(overlap=0.3)
    table = pd.concat([measured(truth, "vllm"), measured(truth, "sglang")])
    found = calibrate(table, truth)
    for engine in ("vllm", "sglang"):
        old, new = truth.engines[engine], found.engines[engine]
        assert new.fixed_s == pytest.approx(old.fixed_s, rel=0.02)
        assert new.mbu == pytest.approx(old.mbu, rel=0.02)
        assert new.overlap == old.overlap
        assert (new.tpot_factor, new.ttft_factor_moe) == (old.tpot_factor, old.ttft_factor_moe)
        assert new.rows == 36
        assert new.source == "fitted to 36 points of one's own"
    for engine in ("tensorrt-llm", "llama-cpp"):
        assert found.engines[engine] == truth.engines[engine]
    assert found.models == truth.models


def test_tpot_alone_says_nothing_of_what_only_ttft_tells() -> None:
    table = measured(known()).drop(columns="ttft_s")
    found = calibrate(table, known(0.7)).engines["vllm"]
    assert found.request_s == pytest.approx(0.7 * TRUE["request_s"], rel=0.01)
    assert found.mbu == pytest.approx(TRUE["mbu"], rel=0.1)


def test_points_that_cannot_be_are_set_aside_and_said() -> None:
    table = measured(known())
    table.loc[0, "tpot_s"] = 1e-5
    found = calibrate(table, known())
    assert found.engines["vllm"].source == "fitted to 35 points of one's own; 1 set aside"
    assert off(table.iloc[1:], found, "tpot_s").max() < 0.01


def test_one_outlier_does_not_carry_the_fit() -> None:
    table = measured(known())
    table.loc[5, "tpot_s"] *= 4
    assert off(table.drop(index=5), calibrate(table, known()), "tpot_s").max() < 0.05


def test_looseness_is_how_far_constants_may_move() -> None:
    table = measured(known())
    tight, loose = (off(table, calibrate(table, known(1.3), looseness=x), "tpot_s").mean() for x in (0.01, 2))
    assert loose < 0.01 < 0.09 < tight
    with pytest.raises(InputError, match=r"looseness must be above 0\. Got 0"):
        calibrate(table, known(), looseness=0)


def test_a_fit_from_nothing_gives_what_the_engines_have_in_common() -> None:
    truth = known()
    points = read_measurements(pd.concat([measured(truth), measured(truth).assign(engine="another")]), truth)
    found = fitted_engines(points)
    assert set(found) == {"vllm", "another"}
    assert found["vllm"]["rows"] == found["another"]["rows"] == 36
    assert found["vllm"]["mbu"] == found["another"]["mbu"]


# --- measurements of others, which nothing was fitted to -------------------------------------------------------------


@pytest.fixture(scope="module")
def silybench() -> tuple[pd.DataFrame, Points]:
    """Qwen3-8B in FP8 with a cache in 16 bits on one H100 under vLLM."""
    table = perf("silybench/perf_points_qwen3_8b_fp8_h100_subset.csv")
    points = read_measurements(
        pd.DataFrame({
            "model": "qwen3-8b", "gpu": "h100-sxm", "precision": "fp8", "input_tokens": table.input_len,
            "output_tokens": table.output_len, "concurrency": table.concurrency, "tpot_s": table.tpot_p99_ms / 1000,
        })
    )  # fmt: skip
    return table, points


def mape(predicted: Any, found: Any) -> float:
    return float(np.abs(np.asarray(predicted) / np.asarray(found) - 1).mean())


def test_the_memory_of_silybench(silybench: tuple[pd.DataFrame, Points]) -> None:
    # Its own account of how many requests the cache holds: 1,680, 373, 105 and 49.
    table, points = silybench
    capacity = perf("silybench/capacity.csv").query("precision == 'fp8'").set_index("workload").max_users_kv_cache
    holds = table.workload.map(capacity)
    assert holds.notna().all()
    assert points.room == pytest.approx(holds.to_numpy(), rel=0.02)


def test_the_step_times_of_silybench(silybench: tuple[pd.DataFrame, Points]) -> None:
    table, points = silybench
    found = predict(points, Catalog.load().engines)
    held = table.concurrency.to_numpy() <= points.room
    assert held.sum() == 26
    # The mean TPOT is not published. Its p99 over requests, whose lengths are all the same, is near it: 8.5% off, at
    # most 14.3%. The median gap between tokens has no prompts in it where they are few, and lies below: 16.4%.
    ratio = found.tpot_s * 1000 / table.tpot_p99_ms
    assert mape(ratio[held], 1) == pytest.approx(0.085, abs=0.005)
    assert ratio[held].between(0.93, 1.15).all()
    median = found.tpot_s * 1000 / table.itl_median_ms
    assert mape(median[held], 1) == pytest.approx(0.164, abs=0.005)
    assert median[held].between(1.0, 1.45).all()
    # Where more are sent than the memory holds, vLLM computes some twice, and the p99 is that of those.
    assert (ratio[~held] < 0.95).all()


def test_the_throughput_of_silybench(silybench: tuple[pd.DataFrame, Points]) -> None:
    # Little's law: the mean E2E is concurrency / requests per second, at every concurrency, waiting included.
    table, points = silybench
    found = predict(points, Catalog.load().engines)
    predicted = found.ttft_s + (table.output_len - 1) * found.tpot_s
    ratio = predicted / (table.concurrency / table.request_throughput)
    assert mape(ratio, 1) == pytest.approx(0.068, abs=0.005)
    assert ratio.between(0.85, 1.15).all()


def test_the_first_token_of_silybench(silybench: tuple[pd.DataFrame, Points]) -> None:
    # Of TTFT only the p99 is published, which is no mean but where one request is in flight. There: 36% off.
    table, points = silybench
    alone = table.concurrency == 1
    found = predict(points, Catalog.load().engines).ttft_s[alone] * 1000
    assert mape(found, table.ttft_p99_ms[alone]) == pytest.approx(0.356, abs=0.02)
    assert (found / table.ttft_p99_ms[alone]).between(0.7, 1.6).all()


def test_one_workload_of_silybench_tells_of_the_others(silybench: tuple[pd.DataFrame, Points]) -> None:
    table, points = silybench
    held = table.concurrency.to_numpy() <= points.room
    fitted = held & table.workload.str.startswith("decode").to_numpy()
    rest = held & ~fitted
    mine = calibrate(points.table[fitted].drop(columns="ttft_s"))
    errors = [mape(predict(points, e).tpot_s[rest], points.column("tpot_s")[rest]) for e in (Catalog.load().engines,
                                                                                            mine.engines)]  # fmt: skip
    assert fitted.sum() == 7
    assert errors == pytest.approx([0.074, 0.045], abs=0.005)


LLAMA_2_70B = {
    "name": "Llama 2 70B", "provider": "meta", "kind": "open", "params_b": 69.0,
    "shape": {"layers": 80, "hidden": 8192, "heads": 64, "kv_heads": 8, "head_dim": 128, "vocab": 32000},
}  # fmt: skip


@pytest.fixture(scope="module")
def splitwise() -> pd.DataFrame:
    """Llama 2 70B in 16 bits on 2, 4 and 8 A100 or H100 under an engine of 2023: medians of the repeated runs.

    Batches of 64 are faulty (see the README beside the file).
    """
    table = perf("splitwise_perf_model.csv")
    names = {"a100-80gb": "a100-80gb-sxm", "h100-80gb": "h100-sxm"}
    table = table[(table.model == "llama2-70b") & table.hardware.isin(names) & (table.batch_size != 64)]
    keys = ["hardware", "tensor_parallel", "prompt_size", "batch_size", "token_size"]
    table = table.groupby(keys)[["prompt_time", "token_time"]].median().reset_index()
    return table.assign(gpu=table.hardware.map(names))


def test_engines_of_2023_took_twice_as_long(splitwise: pd.DataFrame) -> None:
    # The batch is computed in lockstep: all prompts in one step, then one token each. We are below what was measured
    # nearly everywhere: token 0.56 (median), prompt 0.70; the more GPUs, the more.
    catalog_2 = Catalog.load({"models": {"llama-2-70b": LLAMA_2_70B}})
    model, engine = catalog_2.model("llama-2-70b"), catalog_2.engines["vllm"]
    token, prompt = [], []
    for run in splitwise.itertuples():
        step = StepTime.of(Placement.of(model, catalog_2.gpu(run.gpu), "bf16", run.tensor_parallel), engine)
        b, s = run.batch_size, run.prompt_size
        token.append(float(step.seconds(b, b, b * (s + run.token_size / 2))) * 1000 / run.token_time)
        prompt.append(float(step.seconds(b, b * s, 0, b * s**2 / 2)) * 1000 / run.prompt_time)
    assert len(token) == 108
    assert np.median(token) == pytest.approx(0.56, abs=0.02)
    assert np.median(prompt) == pytest.approx(0.70, abs=0.02)
    assert max(token) < 0.85
    assert max(prompt) < 1.05
    by_gpus = splitwise.assign(token=token).groupby("tensor_parallel").token.median()
    assert by_gpus.tolist() == pytest.approx([0.75, 0.56, 0.35], abs=0.02)


def test_the_row_for_old_engines(splitwise: pd.DataFrame) -> None:
    """Its one constant was fitted to single requests; batches of 2 to 32 of the same runs were not."""
    known = Catalog.load({"models": {"llama-2-70b": LLAMA_2_70B}})
    model, engine = known.model("llama-2-70b"), known.engines["engines-2023"]
    token = []
    for run in splitwise.itertuples():
        step = StepTime.of(Placement.of(model, known.gpu(run.gpu), "bf16", run.tensor_parallel), engine)
        b = run.batch_size
        token.append(float(step.seconds(b, b, b * (run.prompt_size + run.token_size / 2))) * 1000 / run.token_time)
    ratio = np.array(token)
    alone = (splitwise.batch_size == 1).to_numpy()
    assert np.median(ratio[alone]) == pytest.approx(1, abs=0.05)
    assert np.mean(np.abs(np.log(ratio[alone])) <= np.log(engine.tpot_factor)) >= 0.9
    assert np.median(ratio[~alone]) == pytest.approx(1, abs=0.15)


def test_measured_once_an_old_engine_is_within_a_seventh(splitwise: pd.DataFrame) -> None:
    # Fitted to single requests on 2 and on 8 GPUs, those on 4 come out 13% off, instead of 44%.
    known = Catalog.load({"models": {"llama-2-70b": LLAMA_2_70B}})
    alone = splitwise[splitwise.batch_size == 1]
    table = pd.DataFrame({
        "model": "llama-2-70b", "gpu": alone.gpu, "tensor_parallel": alone.tensor_parallel,
        "input_tokens": alone.prompt_size, "output_tokens": alone.token_size, "concurrency": 1,
        "tpot_s": alone.token_time / 1000, "ttft_s": alone.prompt_time / 1000,
    })  # fmt: skip
    four = table.tensor_parallel == 4
    mine = calibrate(table[~four], known)
    before, after = (float(off(table[four], each, "tpot_s").mean()) for each in (known, mine))
    assert before == pytest.approx(0.44, abs=0.02)
    assert after == pytest.approx(0.13, abs=0.02)
