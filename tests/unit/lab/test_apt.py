"""Which Debian mirror the machine uses, in both of apt's formats."""

import pytest
from ansible.module_utils.plumbline.lab import apt as lab_apt

BOOKWORM = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_CODENAME=bookworm\n'
DEB822 = """\
# mirror of the house
Types: deb deb-src
URIs: http://deb.debian.org/debian-security
Suites: bookworm-security
Components: main

Types: deb
Enabled: no
URIs: http://disabled.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://mirror.example/debian/
Suites: bookworm
 bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 Version: none
"""


def test_deb822():
    entries = list(lab_apt.parse_deb822(DEB822))
    assert ("http://mirror.example/debian/", "bookworm-updates", ["main"]) in entries
    assert not any("disabled" in uri for uri, _suite, _components in entries)
    assert lab_apt.pick_mirror(BOOKWORM, entries) == "http://mirror.example/debian"


def test_one_line():
    text = (
        "# deb http://commented.example/debian bookworm main\n"
        "deb-src http://source.example/debian bookworm main\n"
        "deb [ arch=amd64 signed-by=/k.gpg ] https://mirror.example/debian bookworm main contrib # ours\n"
    )
    assert list(lab_apt.parse_one_line(text)) == [("https://mirror.example/debian", "bookworm", ["main", "contrib"])]


@pytest.mark.parametrize(
    ("release", "entry"),
    [
        (BOOKWORM, ("cdrom:[Debian]/", "bookworm", ["main"])),
        (BOOKWORM, ("http://vendor.example/apt", "bookworm", ["stable"])),
        (BOOKWORM, ("http://vendor.example/apt", "bookworm-security", ["main"])),
        ("ID=ubuntu\nVERSION_CODENAME=noble\n", ("http://archive.ubuntu.com/ubuntu", "noble", ["main"])),
    ],
)
def test_falls_back_to_debian(release, entry):
    assert lab_apt.pick_mirror(release, [entry]) == lab_apt.DEFAULT_MIRROR
