#!/bin/sh
# Installs what build/image would put into an execution environment into the empty virtual environment $1, from the same files, where no
# image can be built. Needs `make image-context`, a minute and 1 GB.
set -eu

venv=$1
context=${2:-build/image/_build}
python -m venv "$venv"
PATH="$venv/bin:$PATH"
export PIP_CONSTRAINT="$context/plumbline/constraints.txt"
pip() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }

# In the order of the Containerfile: ansible-core and ansible-runner, the collections, what these and the project ask for.
refs=$(sed -n 's/^ARG ANSIBLE_INSTALL_REFS="\(.*\)"$/\1/p' "$(dirname "$context")/Dockerfile" | head -n 1)
# shellcheck disable=SC2086 -- several words
pip $refs
"$venv/bin/ansible-galaxy" collection install "$context/plumbline/collection.tar.gz" -p "$venv/collections" > /dev/null
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check bindep pyyaml packaging
"$venv/bin/python" "$context/scripts/introspect.py" introspect "$venv/collections" --user-pip="$context/requirements.txt" \
    --exclude-collection-reqs="$context/exclude-collections.txt" --write-pip="$venv/requirements.txt" > /dev/null
pip -r "$venv/requirements.txt"
"$venv/bin/python" -m pip check
