"""Chromium, and the servers that it looks at: Voila as `distillcalc dashboard` starts it, and JupyterLab.

Everything lives on loopback and in temporary folders, without a token and without anything of the user's own.
A machine without Chromium skips these tests and says so; in CI (the variable CI is set) that is a failure.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.notebook.browser.watching import SCREENSHOTS, SETTLED_MS, Watched

STARTS_S = 90
MISSING = "no Chromium on this machine. Install it: apt-get install chromium"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if SCREENSHOTS.is_dir():
        terminalreporter.write_line(f"screenshots: {SCREENSHOTS}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium, headless."""
    found = shutil.which("chromium")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        expect.set_options(timeout=SETTLED_MS)  # other tests run beside these
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def watched(browser: Any) -> Iterator[Callable[..., Watched]]:
    """Makes watched pages: ``watched(width=800, dark=True)``; all of them are held to be clean at the end."""
    made: list[Watched] = []

    def make(width: int = 1280, height: int = 900, *, dark: bool = False) -> Watched:
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        made.append(Watched(context))
        return made[-1]

    yield make
    for one in made:
        one.page.context.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the servers and their kernels live."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def environment(home: Path) -> dict[str, str]:
    """Of a server that knows nothing of this user."""
    kept = {
        name: said for name, said in os.environ.items() if not name.startswith(("JUPYTER", "XDG_", "VOILA", "PYTEST"))
    }
    folders = {"HOME": home, "XDG_CACHE_HOME": home / "cache", "JUPYTER_CONFIG_DIR": home / "config"}
    return kept | {name: str(folder) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def voila(home: Path, environment: dict[str, str]) -> Iterator[str]:
    """Address of the dashboard, as the command serves it."""
    address = f"http://127.0.0.1:{_free_port()}/"
    command = ["-m", "distillcalc", "dashboard", "--no-browser", "--port", address.rstrip("/").rsplit(":", 1)[1]]
    with _server(command, home, environment, address):
        yield address


@pytest.fixture(scope="module")
def lab(home: Path, environment: dict[str, str]) -> Iterator[str]:
    """Address of JupyterLab in a folder with the notebooks."""
    yield from _jupyter("jupyterlab", home, environment)


@pytest.fixture(scope="module")
def notebook7(home: Path, environment: dict[str, str]) -> Iterator[str]:
    """Address of Notebook 7 in a folder with the notebooks."""
    yield from _jupyter("notebook", home, environment)


def _jupyter(module: str, home: Path, environment: dict[str, str]) -> Iterator[str]:
    work = home / "work"
    subprocess.run(
        [sys.executable, "-m", "distillcalc", "notebooks", str(work)], check=True, capture_output=True, timeout=STARTS_S
    )
    settings = home / "config" / "labconfig"
    settings.mkdir(parents=True)
    asks_the_net = ("@jupyterlab/apputils-extension:announcements", "@jupyterlab/extensionmanager-extension")
    disabled = {"disabledExtensions": dict.fromkeys(asks_the_net, True)}
    (settings / "page_config.json").write_text(json.dumps(disabled))
    address = f"http://127.0.0.1:{_free_port()}/"
    command = [
        "-m", module, "--no-browser", "--allow-root", "--expose-app-in-browser", "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={address.rstrip('/').rsplit(':', 1)[1]}", "--ServerApp.port_retries=0",
        "--IdentityProvider.token=", f"--ServerApp.root_dir={work}", "--log-level=ERROR",
    ]  # fmt: skip
    with _server(command, work, environment, address):
        yield address


class _server:
    """A server in a process of its own, from its first answer until it is told to end."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str], address: str) -> None:
        self.log = Path(environment["HOME"]) / "server.log"
        self.address = address
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command], cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
            )

    def __enter__(self) -> None:
        until = time.monotonic() + STARTS_S
        while time.monotonic() < until and self.process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", int(self.address.split(":")[2].split("/")[0])), timeout=1):
                    return
            except OSError:
                time.sleep(0.1)
        self.__exit__()
        pytest.fail(f"{self.address} does not answer:\n{self.log.read_text()[-2000:]}")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
