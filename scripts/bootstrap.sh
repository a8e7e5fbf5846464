#!/bin/sh
# Makes sure that this machine has what `make` needs, and prints the path of a Python >= 3.11 as its last line.
# As root on Debian or Ubuntu it installs, with apt, only what is missing; else it says what to run, and goes on when only
# tools of the lab are missing, which another inventory does without. Quiet when nothing is missing.
# Set PYTHON to choose the interpreter.
set -eu

# Tools that the lab calls live in sbin, which a user's PATH may lack.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

say() { printf '%s\n' "$*" >&2; }

id=""
like=""
if [ -r /etc/os-release ]; then
    # shellcheck source=/dev/null
    id=$(. /etc/os-release && printf '%s' "${ID:-}")
    # shellcheck source=/dev/null
    like=$(. /etc/os-release && printf '%s' "${ID_LIKE:-}")
fi

# Prints the path of the first Python >= 3.11.
find_python() {
    for name in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        path=$(command -v "$name" 2>/dev/null) || continue
        if "$path" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            # The interpreter itself, not a shim in front of it.
            "$path" -c 'import sys; print(sys.executable)'
            return 0
        fi
    done
    return 1
}

# Prints the package that the found Python needs for `python -m venv`, if it lacks it.
venv_package() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null && return 0
    "$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'
}

missing=""
need() { missing="$missing $1"; }
need_command() { command -v "$1" > /dev/null 2>&1 || need "$2"; }

# What site.yml needs anywhere.
python=$(find_python) || python=""
if [ -n "$python" ]; then
    package=$(venv_package "$python")
    [ -z "$package" ] || need "$package"
elif command -v apt-cache > /dev/null 2>&1; then
    for version in 3.13 3.12 3.11; do
        apt-cache show "python$version" > /dev/null 2>&1 || continue
        need "python$version"
        need "python$version-venv"
        break
    done
    [ -n "$missing" ] || need python3 # with the package lists not fetched yet
    [ "$missing" != " python3" ] || need python3-venv
else
    need python3
fi
need_command ssh openssh-client
need_command rsync rsync

required=$missing

# What the lab needs, on the machine that carries it.
need_command debootstrap debootstrap
need_command ip iproute2
need_command tc iproute2
need_command unshare util-linux
need_command nsenter util-linux
need_command mount mount
need_command losetup mount
need_command mkfs.ext4 e2fsprogs
# Only Debian carries the keys that its own archive is signed with.
case " $id $like " in
    *" debian "* | *" ubuntu "*)
        [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || need debian-archive-keyring
        [ -e /etc/ssl/certs/ca-certificates.crt ] || need ca-certificates
        ;;
esac

# shellcheck disable=SC2086 # a list of words
missing=$(printf '%s\n' $missing | sort -u | tr '\n' ' ')
missing=${missing% }

if [ -n "$missing" ] && { ! command -v apt-get > /dev/null 2>&1 || [ "$(id -u)" -ne 0 ]; }; then
    say "bootstrap: missing: $missing"
    if command -v apt-get > /dev/null 2>&1; then
        say "bootstrap: run this as root, then make again:"
        say "    apt-get update && apt-get install --yes --no-install-recommends $missing"
    else
        say "bootstrap: no apt-get here; install these (Debian's names) and a Python >= 3.11, then run make again."
    fi
    [ -z "$required" ] || exit 1
    say "bootstrap: only the lab needs these; going on without."
elif [ -n "$missing" ]; then
    say "bootstrap: installing with apt: $missing"
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    export DEBIAN_FRONTEND=noninteractive
    # $missing is a list of words.
    # shellcheck disable=SC2086
    if ! { apt-get update && apt-get install --yes --no-install-recommends $missing; } > "$log" 2>&1; then
        tail -n 20 "$log" >&2
        say "bootstrap: apt could not install: $missing (its words are above)"
        exit 1
    fi
    python=$(find_python) || python=""
    if [ -n "$python" ]; then
        package=$(venv_package "$python")
        if [ -n "$package" ] && ! apt-get install --yes --no-install-recommends "$package" > "$log" 2>&1; then
            tail -n 20 "$log" >&2
            exit 1
        fi
    fi
fi

if [ -z "$python" ]; then
    say "bootstrap: no Python >= 3.11 found (tried: ${PYTHON:-} python3 python3.13 python3.12 python3.11)."
    say "bootstrap: install one (python3 of Debian 12, Ubuntu 24.04) or set PYTHON=/path/to/it, then run make again."
    exit 1
fi
printf '%s\n' "$python"
