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
# The inventory plugin's documentation has parts of azure.azcollection, which the project's environment brings.
azure=$(python -c 'import ansible, os; print(os.path.join(os.path.dirname(os.path.dirname(ansible.__file__)), "ansible_collections", "azure"))')
ln -s "$azure" "$tree/ansible_collections/azure"
cd "$tree/ansible_collections/plumbline/cluster"
git init --quiet
git add --all --force
# Not what pyenv puts in the place of Pythons that are not there.
PATH="$(dirname "$(command -v ansible-test)"):/usr/local/bin:/usr/bin:/bin"
HOME="$home" ansible-test sanity --python default --requirements --color no "$@"
