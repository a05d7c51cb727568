"""The panel as a page of its own: a guided notebook served by Voila on this machine, to this machine."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from traitlets.config import Config
from voila.app import Voila

from distillcalc.errors import InputError
from distillcalc.notebook.served import SCENARIO_VARIABLE

LOOPBACK = "127.0.0.1"
PORT = 8866
WIDGETS = ["@jupyter-widgets/jupyterlab-manager", "@voila-dashboards/widgets-manager8"]
TRIES = 50  # ports after the first
TEMPLATES = Path(__file__).with_name("jupyter")  # Voila's page, without what it would fetch from the net


def serve(
    notebook: Path, *, port: int | None = None, scenario: str | None = None, started: Callable[[str], None]
) -> None:
    """Serve a notebook until it is interrupted; only this machine can reach it, and it reaches for nothing else.

    Parameters
    ----------
    notebook : what to serve, without its code.
    port : left out, the first free one from 8866.
    scenario : id of a sample or path of a file that panels start from; left out, what the notebook says.
    started : called with the address once it answers.

    Raises
    ------
    InputError
        If the port is taken.
    """
    taken = free_port(port)
    data = os.environ.get("JUPYTER_PATH")
    os.environ["JUPYTER_PATH"] = os.pathsep.join([str(TEMPLATES), data] if data else [str(TEMPLATES)])
    if scenario is not None:
        os.environ[SCENARIO_VARIABLE] = scenario  # kernels inherit it
    app = _dashboard(notebook, taken, started)
    app.initialize([])
    app.start()


def free_port(wanted: int | None = None) -> int:
    """A port on loopback that nobody listens on.

    Parameters
    ----------
    wanted : left out, the first free one from 8866.

    Raises
    ------
    InputError
        If it is taken.
    """
    for port in range(PORT, PORT + TRIES) if wanted is None else (wanted,):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    if wanted is None:
        raise InputError(f"no port from {PORT} to {PORT + TRIES - 1} is free: give one with --port")
    raise InputError(f"port {wanted} is taken or not allowed. Leave --port out to take a free one")


class _Kernels(AsyncMappingKernelManager):  # type: ignore[misc]
    """Kernels whose terminal is nowhere: what they write past the notebook is about their sockets."""

    async def start_kernel(self, **options: Any) -> str:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        kernel: str = await super().start_kernel(**options | quiet)
        return kernel


class _Dashboard(Voila):  # type: ignore[misc]
    """Voila for one notebook and one user."""

    started: Callable[[str], None]

    def init_settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = super().init_settings()
        # What users save lands where they called the command, not beside the notebook in site-packages.
        self.kernel_manager.root_dir = os.getcwd()
        # A page of another site that gives its own name the address 127.0.0.1 is refused.
        return settings | {"allow_remote_access": False, "local_hostnames": ["localhost"]}

    def launch_browser(self) -> None:
        self.started(f"http://{LOOPBACK}:{self.port}/")


def _dashboard(notebook: Path, port: int, started: Callable[[str], None]) -> _Dashboard:
    options = Config()
    options.Voila.ip, options.Voila.port, options.Voila.port_retries = LOOPBACK, port, 0
    options.Voila.open_browser = True  # which calls launch_browser above
    options.Voila.notebook_path = str(notebook)
    options.Voila.log_level = "ERROR"
    options.VoilaConfiguration.template = "distillcalc"
    options.VoilaConfiguration.resources = {"follow_system": True}
    options.VoilaConfiguration.multi_kernel_manager_class = _Kernels
    options.VoilaConfiguration.preheat_kernel = True  # the next page's panel is made while nobody waits for it
    options.VoilaKernelManager.fill_delay = 4.0  # [s]: this page's own panel is there by then
    # Extensions of JupyterLab that are installed beside this are made for another version than Voila's own.
    options.VoilaConfiguration.extension_allowlist = WIDGETS
    # A page that is left ends its kernel by a request without Jupyter's token against forged ones.
    options.Voila.tornado_settings = {"disable_check_xsrf": True}
    if os.name == "posix":
        options.KernelManager.transport = "ipc"  # files of this user instead of ports that anybody here may read
    app = _Dashboard(config=options)
    app.started = started
    return app
