"""The notebooks copied out of the package, and the dashboard: a real server, what it lets in, how it ends."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from distillcalc.cli import app
from distillcalc.errors import InputError, MissingExtra, UnknownName
from distillcalc.resources import notebooks_folder

SECONDS = 60


def test_the_notebooks_are_copied_as_they_are_and_without_their_twins(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["notebooks", str(tmp_path / "new" / "mine")])
    assert done.exit_code == 0, done.output
    copied = {file.name: file.read_bytes() for file in (tmp_path / "new" / "mine").iterdir()}
    assert copied == {file.name: file.read_bytes() for file in notebooks_folder().glob("*.ipynb")}
    assert f"jupyter lab {tmp_path / 'new' / 'mine' / '00_start_here.ipynb'}" in done.output


def test_a_notebook_of_ones_own_is_overwritten_only_by_force(tmp_path: Path) -> None:
    mine = tmp_path / "00_start_here.ipynb"
    mine.write_text("what I wrote")
    refused = CliRunner().invoke(app, ["notebooks", str(tmp_path)])
    assert isinstance(refused.exception, InputError)
    assert "holds 00_start_here.ipynb already. --force overwrites" in str(refused.exception)
    assert [file.name for file in tmp_path.iterdir()] == [mine.name]  # nothing was copied beside it
    assert mine.read_text() == "what I wrote"
    assert CliRunner().invoke(app, ["notebooks", str(tmp_path), "--force"]).exit_code == 0
    assert mine.read_bytes() == (notebooks_folder() / mine.name).read_bytes()


def test_a_file_is_no_folder_to_copy_to(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    refused = CliRunner().invoke(app, ["notebooks", str(file)])
    assert isinstance(refused.exception, InputError)
    assert str(refused.exception).startswith(f"cannot copy the notebooks to {file}: ")


@pytest.mark.parametrize("module", ["voila", "ipywidgets"])
def test_without_the_extra_the_install_line_is_told(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    refused = CliRunner().invoke(app, ["dashboard"])
    assert isinstance(refused.exception, MissingExtra)
    assert str(refused.exception) == f"{module} is not installed. Run: pip install 'distillcalc[notebook]'"


def test_a_scenario_that_is_not_there_is_told_before_anything_is_served() -> None:
    refused = CliRunner().invoke(app, ["dashboard", "--scenario", "support-triag"])
    assert isinstance(refused.exception, UnknownName)
    assert "Did you mean support-triage?" in str(refused.exception)


def test_a_taken_port_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = CliRunner().invoke(app, ["dashboard", "--port", str(port)])
    assert isinstance(refused.exception, InputError)
    assert str(refused.exception).startswith(f"port {port} is taken")


@contextmanager
def served(home: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`distillcalc dashboard` in a folder of its own; the process, and the address that it printed."""
    env = os.environ | {"HOME": str(home), "XDG_CACHE_HOME": str(home), "JUPYTER_CONFIG_DIR": str(home)}
    process = subprocess.Popen(
        [sys.executable, "-m", "distillcalc", "dashboard", "--no-browser", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=home, env=env,
    )  # fmt: skip
    killer = threading.Timer(SECONDS, process.kill)
    killer.start()
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", first)
        assert found, first + process.communicate()[1]
        yield process, found[0]
    finally:
        killer.cancel()
        process.kill()
        process.wait()


def get(address: str, host: str | None = None) -> tuple[int, str]:
    place = address.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(place, timeout=SECONDS)
    try:
        connection.request("GET", "/", headers={"Host": host or place})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_the_dashboard_answers_this_machine_only_and_ends_by_ctrl_c(tmp_path: Path) -> None:
    with served(tmp_path) as (process, address):
        port = int(address.rstrip("/").rsplit(":", 1)[1])
        # Another address of this machine stands for the network: 127.0.0.2 is as far away as eth0.
        with socket.socket() as elsewhere:
            assert elsewhere.connect_ex(("127.0.0.2", port)) != 0
        assert get(address, "rebound.example")[0] == 403  # a name of another site's that leads here
        status, page = get(address)
        assert status == 200
        assert 'lang="en"' in page
        assert "There was an error when executing" not in page
        fetched = re.findall(r"""(?:src|href)=["']((?:https?:)?//[^"']+)""", page)
        assert fetched == []
        assert "served_panel" not in page  # the code is not shown
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SECONDS)
        assert process.returncode == 0
        assert [line for line in err.splitlines() if "rebound.example" not in line and "403 GET /" not in line] == []
        assert out.endswith("ended\n")
