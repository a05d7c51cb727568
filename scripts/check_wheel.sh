#!/usr/bin/env bash
# Builds the sdist, and the wheel from it; installs the wheel alone in an empty environment, and asks it for
# a recommendation from another folder: what a user gets from `pip install distillcalc`, without the checkout.
# Usage: scripts/check_wheel.sh [DIST]   What passed is copied to DIST. Needs `make .venv/.dev` (make does it).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
dist=${1:-}
python=$root/.venv/bin/python
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
unset PYTHONPATH

"$python" -m build --no-isolation --outdir "$scratch/dist" . >"$scratch/build.log" 2>&1 || {
    cat "$scratch/build.log" >&2
    exit 1
}
wheel=$(ls "$scratch"/dist/*.whl)

"$python" - "$wheel" "$root" <<'PY'
import sys, zipfile
from pathlib import Path

wheel, root = sys.argv[1:]
packed = set(zipfile.ZipFile(wheel).namelist())
tables = {f"distillcalc/_data/{p.relative_to(root + '/data').as_posix()}" for p in Path(root, "data").rglob("*.toml")}
notebooks = {f"distillcalc/_notebooks/{p.name}" for p in Path(root, "notebooks").glob("*.ipynb")}
page = "distillcalc/notebook/jupyter/nbconvert/templates/distillcalc/index.html.j2"
missing = sorted((tables | notebooks | {"distillcalc/py.typed", "distillcalc/cli.py", page}) - packed)
if missing or not tables or not notebooks:
    sys.exit(
        f"{Path(wheel).name} must hold data/*.toml as distillcalc/_data/*.toml and notebooks/*.ipynb as "
        f"distillcalc/_notebooks/*.ipynb. Missing: {missing or 'every one'}"
    )
rooms = ("distillcalc/", "distillcalc-")
strays = sorted(n for n in packed if not n.startswith(rooms) or "__pycache__" in n or ".ipynb_checkpoints" in n)
if strays:
    sys.exit(f"{Path(wheel).name} holds files that are no part of distillcalc: {strays}")
PY

"$python" -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install -qq --disable-pip-version-check -c constraints.txt "$wheel"
mkdir "$scratch/elsewhere"
cd "$scratch/elsewhere"
"$scratch/venv/bin/distillcalc" recommend support-triage --json >"$scratch/decision.json"
"$scratch/venv/bin/distillcalc" notebooks mine >"$scratch/notebooks.log"
(cd "$root/notebooks" && ls ./*.ipynb) | diff - <(cd mine && ls ./*) || {
    echo "distillcalc notebooks must copy what notebooks/ holds" >&2
    exit 1
}
"$scratch/venv/bin/python" - "$scratch/decision.json" "$root" <<'PY'
import json, sys
from pathlib import Path

import distillcalc

answer, root = sys.argv[1:]
lines = Path(answer).read_text(encoding="utf-8").splitlines()
if len(lines) != 1:
    sys.exit(f"--json must print one line. Got {len(lines)}.")
if "recommendation" not in json.loads(lines[0]):
    sys.exit(f"--json must print an object with the key 'recommendation'. Got {lines[0][:200]}")
if Path(distillcalc.__file__).is_relative_to(root):
    sys.exit(f"the check must run the installed wheel. Got {distillcalc.__file__}")
PY
cd "$root"

if [[ -n $dist ]]; then
    mkdir -p "$dist"
    rm -f "$dist"/distillcalc-*.whl "$dist"/distillcalc-*.tar.gz
    cp "$scratch"/dist/* "$dist/"
fi
echo "$(basename "$wheel"): installed alone, it recommends and copies the notebooks"
