from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distillcalc.benchmark.record import Level, Measured, Record
from distillcalc.benchmark.static_estimate import estimate_static
from distillcalc.benchmark.validation import Check, validate, without_head
from distillcalc.catalog import Catalog, EngineRow
from distillcalc.errors import InputError
from distillcalc.estimate.step_time import Placement, StepTime

SHAPE = {
    "layers": 30, "hidden": 576, "heads": 9, "kv_heads": 3, "head_dim": 64, "vocab": 49152, "tied_embeddings": True,
}  # fmt: skip
ROW = {
    "name": "a student", "provider": "own", "kind": "open", "params_b": 0.1345, "shape": SHAPE, "licence": "",
    "source": "the model that was measured", "checked": "2026-11-28", "confidence": "high",
}  # fmt: skip
MACHINE = {
    "this-machine": {
        "name": "a processor", "kind": "cpu", "memory_gb": 24, "bandwidth_gb_s": 20, "bf16_tflops": 0.1,
        "source": "measured", "checked": "2026-11-28",
    }
}  # fmt: skip
CATALOG = Catalog.load({"gpus": MACHINE, "models": {"measured": ROW}})


def engine(**changes: Any) -> EngineRow:
    return CATALOG.engine("llama-cpp").model_copy(update={"request_s": 0.0, **changes})


def record(folder: Path, name: str, true: EngineRow, seed: int = 0, **changes: Any) -> Path:
    """A record of a machine whose steps take what the model says of them under these constants."""
    place = Placement.of(CATALOG.model("measured"), CATALOG.gpu("this-machine"), "fp32", 1, kv_precision="fp32")
    step = StepTime.of(without_head(place, CATALOG.model("measured")), true)
    rng = np.random.default_rng(seed)
    levels, arrays = [], {}
    for i, b in enumerate((1, 4, 8)):
        inputs, outputs = rng.integers(20, 100, 16), rng.integers(2, 30, 16)
        made = estimate_static(step, inputs, outputs, b)
        due, facts, now = np.empty(16), [], 0.0
        for first in range(0, 16, b):
            rows = slice(first, first + b)
            longest, most, wanted = int(inputs[rows].max()), int(outputs[rows].max()), outputs[rows]
            facts.append((b, b * longest, b * (longest + most), b * longest**2 / 2))
            facts += [(int((wanted > k).sum()), b, b * (longest + k), 0.0) for k in range(1, most)]
            spent = [float(step.seconds(n, t, 0 if p else c, p)) for n, t, c, p in facts[-most:]]
            due[rows] = now + spent[0] - made.ttft_s[rows]  # who had a short answer has asked and waits
            now += sum(spent)
        sequences, tokens, slots, pairs = np.array(facts).T
        seconds = step.seconds(sequences, tokens, np.where(pairs > 0, 0, slots), pairs)
        held = {"seconds": seconds, "sequences": sequences, "tokens": tokens, "slots": slots, "pairs": pairs}
        arrays |= {f"{i}.step.{key}": value for key, value in held.items()}
        arrays |= {
            f"{i}.input_tokens": inputs, f"{i}.output_tokens": outputs, f"{i}.due_s": due,
            f"{i}.first_s": due + made.ttft_s, f"{i}.last_s": due + made.e2e_s,
        }  # fmt: skip
        summary = {"requests": 16, "outcomes": {"ok": 16}}
        levels.append(Level(load={"kind": "closed", "concurrency": b}, summary=summary, peak_memory_bytes=600_000_000))
    measured = {"name": "student", "kind": "in-process", "precision": "fp32", "details": {"catalog_row": ROW}}
    return Record(
        name=name, created="2026-11-28T12:00:00+00:00", measured=Measured(**{**measured, **changes}), machine={},
        workload={}, settings={}, levels=tuple(levels),
    ).save(folder, arrays)  # fmt: skip


def known(row: EngineRow) -> Catalog:
    return CATALOG.with_overrides({"engines": {"transformers": {**row.model_dump(), "name": "transformers"}}})


def test_an_estimate_that_is_right_has_no_error(tmp_path: Path) -> None:
    true = engine()
    found = validate(
        [record(tmp_path, "run", true)], machine="this-machine", engine="transformers", catalog=known(true)
    )
    assert len(found.before) == 15  # five figures at three loads
    for what in ("TTFT", "TPOT", "E2E", "throughput"):
        assert found.worst(what) < 1e-9
    # Weights of 134.5 million numbers of 4 bytes, 538.0 MB; at most 128 tokens in the cache, 2 x 30 x 3 x 64 x 4 =
    # 46,080 bytes each; at most 99 of a prompt in the layer at work, (8 x 576 + 3 x 1,536) x 4 = 36,864 bytes each:
    # 547.5 MB at the most of these, against 600.
    assert -0.10 < found.before[4].error < -0.08
    assert found.before[4].what == "memory"
    assert not found.after
    assert found.overrides == {}
    assert "before the re-fit: TPOT 0% off on average" in str(found)


def test_a_re_fit_on_one_run_predicts_another(tmp_path: Path) -> None:
    true = engine(mbu=0.35, mfu_bf16=0.7, fixed_s=4e-3)
    first, second = record(tmp_path, "first", true, 1), record(tmp_path, "second", true, 2)
    found = validate([second], machine="this-machine", engine="transformers", refit_on=[first], catalog=known(engine()))
    assert found.worst("TPOT") > 0.1
    assert found.worst("TPOT", after=True) < 0.03
    assert found.worst("throughput", after=True) < 0.03
    assert found.fitted_on == ("first",)
    row = Catalog.load(found.overrides).engine("transformers")
    assert row.mbu == pytest.approx(found.fitted.mbu if found.fitted else 0)
    assert found.to_dict()["after"][0]["error"] == found.after[0].error
    with pytest.raises(InputError, match="second: a record that is fitted to cannot show"):
        validate([second], machine="this-machine", engine="transformers", refit_on=[second], catalog=known(true))


def test_prompts_do_not_pass_the_output_layer() -> None:
    row = CATALOG.model("measured")
    place = Placement.of(row, CATALOG.gpu("this-machine"), "fp32", 1, kv_precision="fp32")
    # 134.5 million parameters less a table of 49,152 x 576, twice.
    assert without_head(place, row).token_flop == pytest.approx(2 * (134.5e6 - 28_311_552))
    assert without_head(place, row).weights_bytes == place.weights_bytes  # it is read all the same


def test_a_check_by_hand() -> None:
    one = Check("run", "1 in flight", "TPOT", estimate=0.10, measured=0.08, factor=1.3)
    assert one.error == pytest.approx(0.25)
    assert one.inside  # .077 to .130
    assert not Check("run", "1 in flight", "TPOT", 0.10, 0.07, 1.3).inside


def test_what_cannot_be_validated_is_refused(tmp_path: Path) -> None:
    true = engine()
    with pytest.raises(InputError, match="name a record"):
        validate([], machine="this-machine", engine="transformers", catalog=known(true))
    for changes, message in (
        ({"kind": "endpoint"}, "is of an endpoint"),
        ({"details": {}}, "names no model of the catalog and holds no shape"),
        ({"precision": "fp64"}, "was measured in 'fp64'"),
    ):
        with pytest.raises(InputError, match=message):
            validate(
                [record(tmp_path, "x", true, **changes)],
                machine="this-machine",
                engine="transformers",
                catalog=known(true),
            )
