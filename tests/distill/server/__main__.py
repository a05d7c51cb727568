"""Serve in a process of its own: ``python -m tests.distill.server PORT_FILE [LATENCY_S]``; stops with its parent."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from tests.distill.server.harness import Server, running

if __name__ == "__main__":
    latency_s = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    with running(Server(latency_s=latency_s, answer=lambda body: "yes", keeps_bodies=False)) as served:
        file = Path(sys.argv[1])
        file.with_suffix(".part").write_text(str(served.port))
        file.with_suffix(".part").rename(file)
        threading.Thread(target=lambda: (sys.stdin.read(), None), daemon=False).start()
        for thread in threading.enumerate():
            if thread.name.startswith("Thread-") and not thread.daemon:
                thread.join()
