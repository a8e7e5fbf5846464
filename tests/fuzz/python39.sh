#!/bin/sh
# Prints the path of a CPython 3.9, the oldest that runs on nodes, or says why there is none and ends with 1.
#   python39.sh              looks for one: $PYTHON39, PATH, pyenv, .venv/python3.9
#   python39.sh --get        and, where there is none, takes Debian 11's into .venv/python3.9: 30 MB, nothing is installed
set -eu

here=$(cd "$(dirname "$0")/../.." && pwd)
own=${VENV:-$here/.venv}/python3.9

# A shim that stands for no interpreter fails here.
works() { [ -n "$1" ] && "$1" -c 'import sys, json, xml.etree.ElementTree; sys.exit(sys.version_info[:2] != (3, 9))' > /dev/null 2>&1; }

find_python() {
    for path in "${PYTHON39:-}" "$(command -v python3.9 || true)" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.9.*/bin/python3.9 "$own/python3.9"; do
        if works "$path"; then printf '%s\n' "$path"; return 0; fi
    done
    return 1
}

die() { printf 'no Python 3.9: %s\n' "$*" >&2; exit 1; }

find_python && exit 0
[ "${1:-}" = --get ] || die "not on PATH, not in pyenv, not in $own; tests/fuzz/python39.sh --get takes Debian 11's"
command -v apt-get > /dev/null 2>&1 || die "there is none here, and no apt-get to take Debian's with"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keyring" ] || die "there is none here, and Debian's cannot be verified without $keyring (package debian-archive-keyring)"

# A state of apt of its own: nothing of this machine's is read or written but the keyring, and no root is needed.
state=$(mktemp -d)
trap 'rm -rf "$state"' EXIT
mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/debs" "$state/tree"
: > "$state/status"
apt() {
    apt-get -qq -o "Dir::Etc::sourcelist=$state/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$state/lists" \
        -o "Dir::Cache=$state/cache" -o "Dir::State::status=$state/status" -o "APT::Sandbox::User=$(id -un)" \
        -o Acquire::Retries=2 -o Acquire::http::Timeout=20 "$@"
}
# Debian moves a release that is no longer maintained to its archive, whose index is no longer renewed.
fetch() {
    printf 'deb [signed-by=%s%s] %s bullseye main\n' "$keyring" "$2" "$1" > "$state/sources.list"
    apt update > "$state/log" 2>&1 || return 1
    cd "$state/debs"
    apt download python3.9-minimal libpython3.9-minimal libpython3.9-stdlib libssl1.1 libffi7 libmpdec3 >> "$state/log" 2>&1
}
fetch http://deb.debian.org/debian "" || fetch http://archive.debian.org/debian " check-valid-until=no" ||
    die "Debian 11's could not be taken: $(grep -v '^$' "$state/log" | tail -n 1)"
for package in "$state"/debs/*.deb; do dpkg-deb -x "$package" "$state/tree"; done

libraries=$(dirname "$(find "$state/tree/usr/lib" -name 'libssl.so.1.1')")
rm -rf "$own"
mkdir -p "$(dirname "$own")"
mv "$state/tree" "$own"
cat > "$own/python3.9" << END
#!/bin/sh
LD_LIBRARY_PATH="$own/${libraries#"$state/tree/"}" exec "$own/usr/bin/python3.9" "\$@"
END
chmod 755 "$own/python3.9"
find_python || die "Debian 11's does not run here: $("$own/python3.9" -c 'import json' 2>&1 | tail -n 1)"
