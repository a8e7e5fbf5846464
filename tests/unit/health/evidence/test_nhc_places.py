"""Where NHC is found, and which version of it: by a clone's git files, by its own file, by the image's list."""

from __future__ import annotations

import shutil
import subprocess

import pytest
import stock_image
from ansible.module_utils.plumbline.health.evidence import nhc_places
from health_nodes import write

SHA = "0123456789abcdef0123456789abcdef01234567"
OTHER = SHA[::-1]


def test_the_places_in_order_and_what_is_given(tmp_path):
    root = str(tmp_path)
    assert nhc_places.find(None, root)["script"] is None
    assert nhc_places.find(None, "/")["looked"].split(" or ")[0].split(" (")[0] in nhc_places.PLACES
    stock_image.nhc(tmp_path, stock_image.NHC)
    assert nhc_places.find(None, root)["script"].endswith(nhc_places.PLACES[1])
    stock_image.nhc(tmp_path, "opt/azurehpc")
    assert nhc_places.find("", root)["script"].endswith(nhc_places.PLACES[0])
    assert nhc_places.find(root, root) == {"script": None, "looked": root}  # a folder is no runner


def test_the_conf_follows_the_script(tmp_path):
    script = str(tmp_path) + nhc_places.PLACES[0]
    places = nhc_places.confs(script, "Standard_ND96isr_H100_v5")
    assert places == [str(tmp_path) + folder + "/conf/nd96isr_h100_v5.conf" for folder in ("/opt/azurehpc", nhc_places.STOCK_FOLDER)]
    assert nhc_places.confs("/ours/run-health-checks.sh", "Standard_ND96isr_H100_v5") == ["/ours/conf/nd96isr_h100_v5.conf"]
    assert nhc_places.confs(script, "x", "/a.conf") == ["/a.conf"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"HEAD": SHA}, (SHA[:12], "git")),
        ({"HEAD": "ref: refs/heads/main", "refs/heads/main": SHA}, (SHA[:12], "git")),
        ({"HEAD": "ref: refs/heads/main", "packed-refs": "# pack-refs\n%s refs/heads/main" % SHA}, (SHA[:12], "git")),
        # git clone --branch v0.4.5 leaves HEAD at the commit, and the tag in the packed list: a plain one, or an annotated one.
        ({"HEAD": SHA, "packed-refs": "%s refs/tags/v0.4.4\n%s refs/tags/v0.4.5" % (OTHER, SHA)}, ("v0.4.5", "git")),
        ({"HEAD": SHA, "packed-refs": "%s refs/tags/v0.4.5\n^%s" % (OTHER, SHA)}, ("v0.4.5", "git")),
        ({"HEAD": SHA, "refs/tags/v0.4.6": SHA}, ("v0.4.6", "git")),
        # What git's files do not say, the image's list does.
        ({"HEAD": "ref: refs/heads/gone"}, ("0.4.6", "component_versions.txt")),
        ({}, ("0.4.6", "component_versions.txt")),
    ],
)
def test_the_version(tmp_path, files, expected):
    stock_image.nhc(tmp_path, stock_image.NHC)
    for name, text in files.items():
        write(tmp_path, "%s/.git/%s" % (stock_image.NHC, name), text)
    script = nhc_places.find(None, str(tmp_path))["script"]
    assert nhc_places.version(script, stock_image.COMPONENTS, str(tmp_path)) == expected
    assert nhc_places.version(script, None, str(tmp_path))[1] == (expected[1] if expected[1] == "git" else None)


def test_the_version_of_a_file_and_of_another_place(tmp_path):
    stock_image.nhc(tmp_path, "ours")
    script = str(tmp_path / "ours/run-health-checks.sh")
    assert nhc_places.version(script, stock_image.COMPONENTS, str(tmp_path)) == (None, None)
    write(tmp_path, "ours/version.txt", "0.4.7\nbuilt by us")
    assert nhc_places.version(script, stock_image.COMPONENTS, str(tmp_path)) == ("0.4.7", "version.txt")


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_a_real_clone(tmp_path):
    def git(*arguments):
        who = ("-c", "user.name=n", "-c", "user.email=n@localhost")
        return subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q", ".")
    git("commit", "-q", "--allow-empty", "-m", "one")
    head = git("rev-parse", "HEAD")
    assert nhc_places.commit(str(tmp_path)) == head
    git("tag", "-a", "v1", "-m", "one")
    git("pack-refs", "--all")
    assert nhc_places.commit(str(tmp_path)) == head and nhc_places.tag(str(tmp_path), head) == "v1"
