#!/usr/bin/env bash
# Measures one GPU unattended, in at most 8 minutes and without a network: the machine, students' shapes, training steps.
# Usage: scripts/gpu_benchmark.sh [--minutes 8] [--out data/benchmarks] [--device cuda|cpu] [--small] [--only STEP]...
# Runs from a checkout: nothing needs to be installed but the packages named below. PYTHON=... picks another Python.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

python=${PYTHON:-}
if [[ -z $python ]]; then
    python=$root/.venv/bin/python
    if ! "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' 2>/dev/null; then
        python=python3
    fi
fi
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 TOKENIZERS_PARALLELISM=false

"$python" - <<'PY'
import sys
from importlib.util import find_spec

if sys.version_info < (3, 11):
    sys.exit(f"distillcalc needs Python 3.11 or newer. Got {sys.version.split()[0]} ({sys.executable}). Set PYTHON=...")
needed = ("torch", "transformers", "accelerate", "safetensors", "numpy", "psutil", "pydantic", "pydantic_core",
          "annotated_types", "typing_inspection", "typing_extensions")
missing = [name for name in needed if find_spec(name) is None]
if missing:
    names = " ".join(name.replace("_", "-") for name in missing)
    sys.exit(
        f"{sys.executable} lacks {', '.join(missing)}. Install them: {sys.executable} -m pip install {names}\n"
        "Without a network, bring their wheels: pip download there, pip install --no-index --target FOLDER here, and "
        "set PYTHONPATH=FOLDER"
    )
PY
exec "$python" "$root/scripts/gpu_benchmark.py" "$@"
