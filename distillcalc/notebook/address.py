"""The state of a panel as a short text: for a query string, and for the file that outlives a kernel.

``v=1&from=support-triage&requests_per_day=6200``: a preset and what was moved; a scenario of one's own is packed.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode

from distillcalc.errors import DistillcalcError, InputError
from distillcalc.notebook.controls import CONTROLS, moved
from distillcalc.notebook.presets import PRESETS, preset
from distillcalc.workload.files import parse_toml, samples, scenario_toml
from distillcalc.workload.scenario import Scenario

VERSION = "1"
GIVEN = "given"  # what a page starts from that was given a scenario of one's own: too long for an address
MOST_CHARACTERS = 8_000  # what browsers and servers take in an address without complaint
MOST_BYTES = 1_000_000  # of a scenario that is unpacked


def packed(start: str | Scenario, values: Mapping[str, float], *, most: int | None = MOST_CHARACTERS) -> str:
    """A panel's state as a query string.

    Parameters
    ----------
    start : id of a preset or a shipped sample, or a scenario of one's own.
    values : the controls that were moved, in the scenario's units.
    most : characters that it may have; None for a file.

    Raises
    ------
    InputError
        If a scenario of one's own is too long for an address.
    """
    if isinstance(start, str):
        parts = {"v": VERSION, "from": start}
    else:
        squeezed = zlib.compress(scenario_toml(start).encode(), 9)
        parts = {"v": VERSION, "own": base64.urlsafe_b64encode(squeezed).decode().rstrip("=")}
    text = urlencode({**parts, **{name: repr(float(value)).removesuffix(".0") for name, value in values.items()}})
    if most is not None and len(text) > most:
        raise InputError(
            f"this scenario takes {len(text):,} characters, and an address holds {most:,}: save it as a file instead"
        )
    return text


def unpacked(
    text: str, *, most: int | None = MOST_CHARACTERS, given: Scenario | None = None
) -> tuple[str | Scenario, dict[str, float]]:
    """What :func:`packed` packed: the preset's id or the scenario, and the controls that were moved.

    Parameters
    ----------
    text : a query string, with or without its question mark; names that are not the panel's are refused.
    most : characters that are read; None for a file.
    given : what ``from=given`` stands for.

    Raises
    ------
    InputError
        If it is none, or what it says cannot be right.
    """
    if most is not None and len(text) > most:
        raise InputError(f"this address has {len(text):,} characters; a panel's has at most {most:,}")
    try:
        pairs = parse_qsl(text.lstrip("?"), keep_blank_values=True, strict_parsing=bool(text.lstrip("?")))
    except ValueError as error:
        raise InputError(f"this is not the address of a panel: {text[:60]!r}") from error
    parts = dict(pairs)
    if len(parts) != len(pairs):
        raise InputError("this address of a panel says something twice")
    version = parts.pop("v", None)
    if version != VERSION:
        raise InputError(f"an address of a panel begins with v={VERSION}. Got v={version}")
    if ("from" in parts) == ("own" in parts):
        raise InputError("an address of a panel names what it starts from, once: from=NAME or own=...")
    start: str | Scenario
    if given is not None and parts.get("from") == GIVEN:
        start, _ = given, parts.pop("from")
    else:
        start = _start(parts.pop("from", None), parts.pop("own", None))
    values = {name: _number(name, said) for name, said in parts.items()}
    moved(preset(start) if isinstance(start, str) else start, values)  # what cannot be right is refused here
    return start, values


def _start(name: str | None, own: str | None) -> str | Scenario:
    if name is not None:
        if name not in PRESETS and name not in samples():
            raise InputError(f"no preset {name[:60]!r}. Presets: {', '.join(PRESETS)}")
        return name
    assert own is not None
    try:
        squeezed = base64.b64decode(own + "=" * (-len(own) % 4), altchars=b"-_", validate=True)
        unzipper = zlib.decompressobj()
        text = unzipper.decompress(squeezed, MOST_BYTES)
        if not unzipper.eof:
            raise InputError("the scenario in this address is cut off or larger than a megabyte")
        return Scenario.from_dict(parse_toml(text.decode(), "the address"))
    except (binascii.Error, zlib.error, ValueError) as error:
        if isinstance(error, DistillcalcError):
            raise
        raise InputError("the scenario in this address is damaged") from error


def _number(name: str, said: str) -> float:
    if name not in CONTROLS:
        raise InputError(f"a panel has no {name[:60]!r}. It has {', '.join(CONTROLS)}")
    try:
        return float(said)
    except ValueError as error:
        raise InputError(f"{name} is a number. Got {said[:60]!r}") from error
