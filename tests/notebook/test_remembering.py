"""What outlives a kernel: written whole, read back, and told where it cannot be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from distillcalc.errors import InputError
from distillcalc.notebook.remembering import Remembered, forget, place_of, recall, remember


def test_what_is_kept_is_recalled(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "one.json"
    assert recall(place) is None
    for state in (Remembered("v=1&from=rag-answers"), Remembered("v=1&from=rag-answers", "v=1&from=on-device")):
        remember(state, place)
        assert recall(place) == state
    assert [file.name for file in place.parent.iterdir()] == ["one.json"]
    forget(place)
    forget(place)
    assert recall(place) is None


def test_each_folder_and_each_start_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    one, other = place_of("support-triage"), place_of("rag-answers")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    assert len({one, other, place_of("support-triage")}) == 3
    assert one.is_relative_to(tmp_path / "cache" / "distillcalc")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 2, "now": "x", "pinned": null}', '{"version": 1, "now": 3, "pinned": null}']
)
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    place = tmp_path / "one.json"
    place.write_text(text)
    with pytest.raises(InputError, match=r"one\.json"):
        recall(place)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot keep"):
        remember(Remembered("x"), tmp_path / "deep" / "one.json")


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "deep").write_text("")
    with pytest.raises(InputError, match="cannot keep"):
        remember(Remembered("x"), tmp_path / "deep" / "one.json")
