from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillcalc.distill.journal import Journal, entries, entry_at
from distillcalc.errors import InputError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
found_entries = st.lists(
    st.dictionaries(st.text(min_size=1, max_size=8), json_values, min_size=1, max_size=4), max_size=6
)


@given(found_entries)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, written: list[dict[str, object]]
) -> None:
    file = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    with Journal.open(file) as journal:
        places = [journal.write(entry) for entry in written]
    assert [entry for _, entry in entries(file)] == [_kept(entry) for entry in written]
    assert [place for place, _ in entries(file)] == places
    with file.open("rb") as stream:
        for place, entry in zip(places, written, strict=True):
            assert entry_at(stream, place) == _kept(entry)
    for line in file.read_bytes().split(b"\n")[:-1]:
        assert "crc" in json.loads(line)


def _kept(entry: dict[str, object]) -> dict[str, object]:
    return json.loads(json.dumps(entry))  # type: ignore[no-any-return]


@given(data=st.data())
def test_a_file_cut_anywhere_keeps_every_whole_entry_before_the_cut(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    with Journal.open(file) as journal:
        places = [journal.write({"t": "response", "n": n, "text": "é\n" * n}) for n in range(6)]
    whole = file.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    file.write_bytes(whole[:cut])
    with Journal.open(file) as journal:
        kept = [entry["n"] for _, entry in journal.entries()]
        ends = [*places[1:], len(whole)]
        assert kept == [n for n, end in enumerate(ends) if end <= cut]
        journal.write({"t": "after"})
    assert [entry.get("n", "after") for _, entry in entries(file)] == [*kept, "after"]
    torn = file.with_suffix(".torn")
    lost = whole[places[len(kept)] if len(kept) < 6 else len(whole) : cut]
    assert (torn.read_bytes() if torn.exists() else b"") == lost


def test_garbage_at_the_end_is_cut_off_and_kept_aside(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    with Journal.open(file) as journal:
        journal.write({"n": 1})
    with file.open("ab") as out:
        out.write(b"\0" * 4096 + b"\nhalf")
    with Journal.open(file) as journal:
        assert [entry["n"] for _, entry in journal.entries()] == [1]
    assert file.with_suffix(".torn").read_bytes().endswith(b"half")


def test_damage_before_the_end_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    with Journal.open(file) as journal:
        for n in range(3):
            journal.write({"n": n})
    lines = file.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"n":1', b'"n":7')
    damaged = b"".join(lines)
    file.write_bytes(damaged)
    with pytest.raises(InputError, match="damaged at line 2"):
        Journal.open(file)
    assert file.read_bytes() == damaged


def test_two_processes_do_not_share_a_journal(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    code = (
        f"from pathlib import Path\nfrom distillcalc.distill.journal import Journal\nJournal.open(Path({str(file)!r}))"
    )
    with Journal.open(file):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "another process is working on this run" in done.stderr
    with Journal.open(file) as journal:  # let go by the first
        journal.write({"n": 1})


def test_entries_that_wait_together_share_a_sync(tmp_path: Path) -> None:
    async def many(journal: Journal) -> list[int]:
        return await asyncio.gather(*(journal.commit({"n": n}) for n in range(500)))

    with Journal.open(tmp_path / "journal.jsonl") as journal:
        places = asyncio.run(many(journal))
        assert sorted(places) == places
        assert [entry["n"] for _, entry in journal.entries()] == list(range(500))
        assert journal.syncs < 250
        assert journal.write_all([{"n": 1}, {"n": 2}]) == [place for place, _ in journal.entries()][-2:]


def test_an_entry_is_on_disk_when_commit_returns(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"

    async def one(journal: Journal) -> None:
        await journal.commit('{"t":"response","body":{"a": 1}}')
        assert [entry["body"] for _, entry in entries(file)] == [{"a": 1}]

    with Journal.open(file) as journal:
        asyncio.run(one(journal))


def test_a_full_disk_stops_the_run_and_leaves_whole_entries(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.jsonl") as journal:
        journal.write({"n": 1})
        full = os.open("/dev/full", os.O_WRONLY)
        own, journal._descriptor = journal._descriptor, full
        try:
            with pytest.raises(InputError, match="cannot write the journal"):
                journal.write({"n": 2})
            with pytest.raises(InputError, match="cannot write the journal"):
                journal.write({"n": 3})
        finally:
            journal._descriptor = own
            os.close(full)
        assert [entry["n"] for _, entry in journal.entries()] == [1]


def test_a_closed_journal_takes_nothing(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.jsonl")
    journal.close()
    journal.close()
    with pytest.raises(InputError, match="closed"):
        journal.write({"n": 1})
