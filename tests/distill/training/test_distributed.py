"""Two processes, each with the whole model (DDP) or with half of it (FSDP), learn what one learns."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from distillcalc.distill.training.fit import Fitted
from distillcalc.errors import InputError
from tests.distill.training import tiny, together
from tests.distill.training.tiny import one_thread  # noqa: F401

ROOT = Path(__file__).parents[3]
TERMS = ("loss", "hard", "soft", "features", "router", "grad_norm", "learning_rate")


def launch(folder: Path, names: list[str], *options: str) -> subprocess.CompletedProcess[str]:
    """Two processes of one training after the other, over gloo."""
    return subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *options, "--num_processes", "2", "--num_machines", "1",
         "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m",
         "tests.distill.training.together", str(folder), *names],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process learns."""
    folder = tmp_path_factory.mktemp("alone")
    for name in together.CASES:
        if name != "diverges":
            together.training(name, folder / name)
    return folder


def assert_same(one: Path, other: Path) -> None:
    """Both learnt the same: at each step, over the validation set, and in the end."""
    ours, theirs = Fitted.load(one), Fitted.load(other)
    assert ours is not None
    assert theirs is not None
    assert (ours.micro_batch, ours.accumulation, ours.machine["count"]) == (2, 2, 2)
    assert (theirs.micro_batch, theirs.accumulation, theirs.machine["count"]) == (2, 4, 1)
    for term in TERMS:
        if term in theirs.losses[0]:
            assert tiny.curve(ours, term) == pytest.approx(tiny.curve(theirs, term), abs=1e-4)
    # Five sequences in batches of two are three batches, so one process has one more: none is counted twice.
    assert [told["step"] for told in ours.evaluations] == [told["step"] for told in theirs.evaluations]
    for mine, other_ in zip(ours.evaluations, theirs.evaluations, strict=True):
        assert mine["eval_loss"] == pytest.approx(other_["eval_loss"], abs=1e-4)
        assert mine["eval_token_accuracy"] == pytest.approx(other_["eval_token_accuracy"], abs=1e-6)
    assert (ours.steps, ours.tokens, ours.best_step) == (theirs.steps, theirs.tokens, theirs.best_step)
    own, whole = (load_file(fitted.folder / "model.safetensors") for fitted in (ours, theirs))
    assert own.keys() == whole.keys()
    assert max(float((own[name] - whole[name]).abs().max()) for name in own) < 1e-4


DDP = ["hard", "features", "moe", "adapters", "uld", "features-stopped", "patience"]


@pytest.fixture(scope="module")
def ddp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ddp")
    done = launch(folder, [*DDP, "on-policy", "diverges"], "--multi_gpu")  # over CPUs where there is no GPU
    assert done.returncode != 0  # the last one diverges: both processes end, none waits for the other
    assert "TrainingDiverged: the loss of step 2 is no number" in done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", DDP)
def test_two_processes_learn_what_one_does(alone: Path, ddp: Path, name: str) -> None:
    assert_same(ddp / name, alone / name)


@pytest.mark.slow
def test_each_process_writes_its_own_prompts(alone: Path, ddp: Path) -> None:
    ours, theirs = Fitted.load(ddp / "on-policy"), Fitted.load(alone / "on-policy")
    assert ours is not None
    assert theirs is not None
    # Other draws than one process makes; the same prompts, so about the same loss.
    assert tiny.curve(ours, "soft") == pytest.approx(tiny.curve(theirs, "soft"), rel=0.3)
    assert tiny.curve(ours, "hard") == [0.0] * 4


FSDP = ["hard", "features", "moe", "adapters", "features-stopped", "patience"]


@pytest.fixture(scope="module")
def fsdp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fsdp")
    done = launch(
        folder, [*FSDP, "coarse", "on-policy"], "--use_fsdp", "--fsdp_version", "2", "--fsdp_auto_wrap_policy",
        "TRANSFORMER_BASED_WRAP", "--fsdp_state_dict_type", "SHARDED_STATE_DICT",
    )  # fmt: skip
    assert done.returncode != 0
    assert "InputError: the student cannot write while its weights are sharded (FSDP)" in done.stderr
    return folder


@pytest.mark.slow
def test_sixteen_bits_round_no_loss_and_no_soft_label(alone: Path, fsdp: Path) -> None:
    """FSDP casts what goes into a model and comes out of it to 16 bits; labels, and what is told of a loss, stay."""
    ours, theirs = Fitted.load(fsdp / "coarse"), Fitted.load(alone / "coarse")
    assert ours is not None
    assert theirs is not None
    assert tiny.curve(ours) == pytest.approx(tiny.curve(theirs), abs=0.03)
    told = torch.tensor([[told["eval_loss"], told["eval_soft"], told["eval_features"]] for told in ours.evaluations])
    assert not torch.any(told.bfloat16().float() == told)


@pytest.mark.slow
@pytest.mark.parametrize("name", FSDP)
def test_sharded_weights_learn_what_whole_ones_do(alone: Path, fsdp: Path, name: str) -> None:
    assert_same(fsdp / name, alone / name)


def test_a_batch_that_processes_cannot_share_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distillcalc.distill.training import devices

    monkeypatch.setattr(devices, "machine", lambda precision: tiny.machine(count=3))
    monkeypatch.setattr("distillcalc.distill.training.fit._least", lambda value: value)
    with pytest.raises(InputError, match=r"a multiple of the 3 processes\. Got 8"):
        tiny.train(tiny.llama(), tiny.examples(), tmp_path)


def test_parts_of_a_batch_divide_what_a_process_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve sequences over two processes are six each: a micro_batch of four, which divides twelve, becomes three."""
    from distillcalc.distill.training import devices, fit

    plans = []
    monkeypatch.setattr(devices, "machine", lambda precision: tiny.machine(count=2))
    monkeypatch.setattr(fit, "_least", lambda value: value)

    def noted(plan: fit._Plan, *_: object) -> None:
        plans.append(plan)
        raise KeyboardInterrupt

    monkeypatch.setattr(fit, "_build", noted)
    with pytest.raises(KeyboardInterrupt):
        tiny.train(tiny.llama(), tiny.examples(), tmp_path, settings={"batch_size": 12, "micro_batch": 4})
    assert (plans[0].per_process, plans[0].micro_batch, plans[0].accumulation) == (6, 3, 2)


def test_the_first_fsdp_is_refused() -> None:
    from distillcalc.distill.training.wrapping_torch import refuse_first_fsdp

    with pytest.raises(InputError, match="--fsdp_version 2"):
        refuse_first_fsdp(SimpleNamespace(fsdp_plugin=SimpleNamespace(fsdp_version=1)))
    refuse_first_fsdp(SimpleNamespace(fsdp_plugin=SimpleNamespace(fsdp_version=2)))
    refuse_first_fsdp(SimpleNamespace())


def test_processes_agree_on_what_is_free() -> None:
    from distillcalc.distill.training.fit import _least

    assert _least(12) == 12  # alone
    assert torch.distributed.is_initialized() is False
