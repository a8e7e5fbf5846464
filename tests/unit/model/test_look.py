"""The program that says whether a copy is whole, as the node runs it: in a Python of its own."""

import json
import os
import subprocess
import sys

import pytest
from ansible.module_utils.plumbline.core import marks
from ansible.module_utils.plumbline.model import look
from ansible.module_utils.plumbline.model import manifest as manifests


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/a").write_bytes(os.urandom(5000))
    (folder / "b").write_bytes(b"")
    manifests.save(str(folder), manifests.build(str(folder), 1))
    return folder


def asked(folder, digest=None):
    digest = digest or manifests.digest(manifests.load(str(folder)))
    words = json.dumps({"path": str(folder), "digest": digest, "threads": 0, "mark": marks.measuring()})
    with open(look.__file__, encoding="utf-8") as stream:
        done = subprocess.run([sys.executable, "-c", stream.read(), words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_a_whole_copy_is_whole_whatever_hidden_lies_there(model):
    (model / ".plumbline-chunks").write_text("x")
    (model / "sub/.cache").mkdir()
    (model / "sub/.cache/y").write_text("x")
    (model / ".plumbline-sync").mkdir()  # empty
    (model / "empty").mkdir()
    said = asked(model)
    assert said["whole"] is True and said["verify_s"] >= 0


@pytest.mark.parametrize(
    "what",
    [
        "bytes",
        "size",
        "gone",
        "manifest",
        "another",
        "no manifest",
        "no folder",
        "a file more",
        "a file more below",
        "a linked folder",
        "parts",
        "mark",
    ],
)
def test_anything_else_is_not(model, what):
    digest = manifests.digest(manifests.load(str(model)))
    if what == "bytes":
        data = bytearray((model / "sub/a").read_bytes())
        data[77] ^= 1
        (model / "sub/a").write_bytes(data)
    elif what == "size":
        (model / "b").write_bytes(b"x")
    elif what == "gone":
        (model / "b").unlink()
    elif what == "manifest":
        (model / "manifest.json").write_text("{}")
    elif what == "another":
        digest = "0" * 64
    elif what.startswith("a file more"):
        (model / ("sub" if "below" in what else "") / "model.safetensors.index.json").write_text("{}")
    elif what == "a linked folder":
        (model.parent / "other").mkdir()
        (model.parent / "other" / "x").write_text("x")
        (model / "linked").symlink_to(model.parent / "other")
    elif what == "parts":
        (model / ".plumbline-sync" / "part").mkdir(parents=True)
    elif what == "mark":
        (model / ".plumbline-unfinished").write_text("{}")
    elif what == "no manifest":
        (model / "manifest.json").unlink()
    assert asked(model / "nowhere" if what == "no folder" else model, digest)["whole"] is False


def test_it_can_be_found_by_reset_while_it_hashes():
    with open(look.__file__, encoding="utf-8") as stream:
        program = stream.read().replace("    started = time.monotonic()\n", "    print(open('/proc/self/limits').read()); sys.exit(0)\n", 1)
    words = json.dumps({"path": "/x", "digest": "", "threads": 0, "mark": marks.measuring()})
    done = subprocess.run([sys.executable, "-c", program, words], capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("Max file locks"))
    assert marks.is_ours(int(line.split()[3]), measurements=True)
