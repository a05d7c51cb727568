"""One folder, one recipe: what another one trained, or this one on other data, is never taken for this one's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from distillcalc.distill.training.recipe import Recipe
from distillcalc.errors import InputError

FILE = "recipe.json"
CHANGES_NOTHING = {"costs", "accept_unclear_terms", "use", "task", "task_file"}  # the task is held apart from its file
HOW_IT_FITS = {"micro_batch", "gradient_checkpointing"}  # of the settings: the same student, in less memory
BLOCKS, BLOCK = 64, 64 * 1024  # of a file of weights that are read: all of it would take seconds a gigabyte
ABOUT_A_MODEL = ("config.json", "adapter_config.json", "tokenizer.json", "*.safetensors")


def claim(folder: Path, recipe: Recipe, process: int = 0) -> None:
    """Take a folder for a recipe.

    A folder in which nothing has been trained yet can be taken for another one: the first was perhaps a slip.

    Parameters
    ----------
    process : number of this process, where there are several.

    Raises
    ------
    InputError
        If it holds what another recipe trained, or this one on other data; it says what differs.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder} of the run: {error.strerror or error}") from error
    plain = recipe.model_dump(mode="json", exclude={"costs", "accept_unclear_terms"})
    asked = json.loads(json.dumps(_asked(recipe)))
    file = folder / FILE
    if file.is_file():
        known = json.loads(file.read_text(encoding="utf-8"))
        said = recipe.model_dump(mode="json", exclude_defaults=True)
        if "asked" in known:
            other = sorted(_differences(known["asked"], asked, said))
        else:  # written before the data were looked at
            old, new = ({k: v for k, v in one.items() if k != "use"} for one in (known["recipe"], plain))
            other = sorted(_differences(old, new, said))
        if not other:
            return
        if any(folder.glob("*/seed-*")):
            shown = ", ".join(other[:5]) + (", ..." if len(other) > 5 else "")
            raise InputError(
                f"{folder} holds a run of another recipe or of other data: {shown} differ"
                f"{'s' if len(other) == 1 else ''}. Give this one another name, or delete that folder"
            )
    part = file.with_name(f"recipe.{process}.part")
    part.write_text(json.dumps({"recipe": plain, "asked": asked}, indent=1) + "\n", encoding="utf-8")
    part.replace(file)


def _asked(recipe: Recipe) -> dict[str, Any]:
    """What a recipe asks for, with what files hold in place of their names."""
    plain: dict[str, Any] = recipe.model_dump(mode="json", exclude=CHANGES_NOTHING)
    plain["task"] = recipe.asked.model_dump(mode="json", exclude={"use", "student", "student_host"})
    for name in HOW_IT_FITS:
        del plain["training"][name]
    data = plain["data"]
    for name in ("train", "inputs"):
        data[name] = [signature(file) for file in data[name]]
    for name in ("evaluation", "evaluation_answers"):
        data[name] = None if data[name] is None else signature(data[name])
    models = [(plain["teacher"], "model"), (plain["teacher"], "adapter"), (plain["student"], "model")]
    models += [(hop["start"], "model") for hop in plain["hops"]]
    for held, name in models:
        if held is not None and held[name] is not None:
            held[name] = signature(held[name])
    return plain


def signature(name: str | Path) -> str:
    """A digest of what a file holds, or of the model that a folder does; the name itself where there is neither."""
    place = Path(name)
    if place.is_dir():
        files = sorted({file for pattern in ABOUT_A_MODEL for file in place.glob(pattern)})
        return digest({file.name: _blocks(file) for file in files})
    return _blocks(place, whole=True) if place.is_file() else str(name)


def digest(plain: Any) -> str:
    """A digest of plain values."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _blocks(file: Path, *, whole: bool = False) -> str:
    """A digest of a file: of all of it, or of blocks all over a large one and of its size."""
    size = file.stat().st_size
    found = hashlib.sha256(str(size).encode())
    try:
        with file.open("rb") as held:
            if whole or size <= BLOCKS * BLOCK:
                while part := held.read(1 << 20):
                    found.update(part)
            else:
                for number in range(BLOCKS):
                    held.seek(number * (size - BLOCK) // (BLOCKS - 1))
                    found.update(held.read(BLOCK))
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error
    return found.hexdigest()


def _differences(known: Any, asked: Any, said: Any, at: str = "") -> Iterator[str]:
    """Names of what is not the same in two mappings of plain values.

    What an older version did not know is what it is by default: no difference, unless the recipe has said it. What is
    not asked any more makes none.
    """
    if isinstance(known, Mapping) and isinstance(asked, Mapping):
        told = said if isinstance(said, Mapping) else {}
        for name in known.keys() | asked.keys():
            if name in asked and (name in known or name in told):
                where = f"{at}.{name}" if at else str(name)
                yield from _differences(known.get(name), asked.get(name), told.get(name), where)
    elif known != asked:
        yield at
