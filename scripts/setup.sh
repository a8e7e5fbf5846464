#!/bin/sh
# Makes the controller's virtual environment in $1: what the machine lacks, then the pinned Python packages.
# An interrupted run is simply repeated: the mark that says "ready" is written last.
set -eu

venv=$1
here=$(cd "$(dirname "$0")/.." && pwd)

python=$("$here/scripts/bootstrap.sh" | tail -n 1)
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"

echo "plumbline: installing the controller's Python packages into $venv (about a minute the first time)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check "pip==26.0.1"
cd "$here"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint constraints.txt --group dev --editable .
touch "$venv/.ready"
echo "plumbline: $("$venv/bin/ansible" --version | head -n 1), ready"
