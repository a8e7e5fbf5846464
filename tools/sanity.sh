#!/bin/sh
# ansible-test sanity on the collection in $1, without containers, in virtual environments of its own. More arguments go to ansible-test.
# It asks the internet for a script that brings pip into them; here pip comes with Python, and packages by pip's own configuration.
set -eu

out=$(cd "$1" && pwd)
shift
here=$(cd "$(dirname "$0")" && pwd)
home="$out/sanity-home"
tree="$out/sanity"
mkdir -p "$home/.ansible/test/cache"
cp "$here/get_pip.py" "$home/.ansible/test/cache/get_pip_24_2.py"

# ansible-test looks at what git knows, and never at files of a folder that another repository ignores.
rm -rf "$tree"
mkdir -p "$tree"
cp -r "$out/ansible_collections" "$tree/"
cd "$tree/ansible_collections/plumbline/cluster"
git init --quiet
git add --all --force
HOME="$home" ansible-test sanity --python default --requirements --color no "$@"
