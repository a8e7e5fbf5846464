"""A stock ND H100 v5 node, as a folder tree, through the module: healthy whole, and one verdict with words for each part that is broken."""

from __future__ import annotations

import json
import shutil

import node_health
import pytest
import stock_image
from ansible.module_utils.plumbline.fabric.nccl import command, ready
from ansible.module_utils.plumbline.health import collect
from health_nodes import COMPOSED, SKUS, bare, kernel_log, smi_xml
from jsonschema import Draft202012Validator
from module_run import run_module
from nhc_mock import ERROR, after
from project import SCHEMAS

SCHEMA = json.loads((SCHEMAS / "health.schema.json").read_text())
PROPRIETARY = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Release Build"


@pytest.fixture
def judge(tmp_path, capsys, monkeypatch):
    """Return the stock tree and a function that judges it, ``judge(**arguments)``; what no folder shows is that of a healthy node."""
    root = stock_image.make(tmp_path / "node")
    good = bare()
    monkeypatch.setattr(collect.kernel_log, "collect", lambda _root, _timeout_s: kernel_log(["Linux version 5.15.0-1104-azure"]))
    monkeypatch.setattr(collect.clock, "kernel_clock", lambda: good["kernel_clock"])
    monkeypatch.setattr(collect.nic, "nic", lambda _address, _root: good["nic"])
    monkeypatch.setattr(collect.disk, "disk", lambda _path, _probe: good["disks"][0])
    answers = {"-q -x": tmp_path / "smi.xml"}
    answers["-q -x"].write_text(smi_xml())
    answers.update({"nvlink -%s" % letter: COMPOSED / ("nvidia-smi.nvlink_%s.h100.txt" % letter) for letter in "se"})
    answers["topo -m"] = COMPOSED / "nvidia-smi.topo_m.nd96isr_h100_v5.txt"
    cases = "".join('"%s") cat %s;; ' % item for item in answers.items())
    stock_image.program(tmp_path, "nvidia-smi", '#!/bin/sh\ncase "$*" in %s*) exit 2;; esac' % cases)

    def run(**arguments):
        given = {
            "sku": "Standard_ND96isr_H100_v5", "skus": SKUS, "nvidia_smi": str(tmp_path / "nvidia-smi"), "root": str(root),
            "nhc": "require", "nhc_log_dir": str(tmp_path / "log"), "clock_samples": [{"sent": 1.0, "node": 1.0, "received": 1.001}],
        }  # fmt: skip
        fact = run_module(node_health, capsys, **dict(given, **arguments))["fact"]
        Draft202012Validator(SCHEMA).validate(fact)
        return fact

    run.root = root
    return run


def found(fact):
    """Return ``{check: reason}`` of what is neither healthy nor skipped."""
    return {item["check"]: item for item in fact["reasons"] if item["status"] not in ("healthy", "skipped")}


def said(fact, check):
    """Return the reason of one check."""
    return next(item for item in fact["reasons"] if item["check"] == check)


def test_a_stock_node_is_healthy(judge):
    fact = judge()
    assert found(fact) == {} and fact["status"] == "healthy"
    nhc = fact["context"]["nhc"]
    assert nhc["script"] == "%s/%s/run-health-checks.sh" % (judge.root, stock_image.NHC)
    assert (nhc["version"], nhc["version_from"]) == ("0.4.6", "component_versions.txt")
    assert fact["context"]["image"]["version"] == "22.04.2026051201"
    assert fact["context"]["image"]["components"]["NCCL"] == "2.29.2-1" and "ImageVersion" not in fact["context"]["image"]["components"]
    assert fact["measured"]["nhc"]["nccl_allreduce_gbps"] == 477.8
    for check in ("image.versions", "image.topology", "ib.gpu_direct", "memory.lock", "services.active"):
        assert said(fact, check)["status"] == "healthy"
    assert "virtual machine" in said(fact, "pci.acs")["seen"] and "madvise" in said(fact, "memory.huge_pages")["seen"]


def test_the_studys_place_and_a_given_path(judge, tmp_path):
    # The study's place comes first, and has its own conf; the image's list does not speak of a clone.
    stock_image.nhc(judge.root, "opt/azurehpc")
    stock_image.write(judge.root, "opt/azurehpc/.git/HEAD", "0123456789abcdef0123456789abcdef01234567")
    fact = judge()
    assert fact["context"]["nhc"]["script"] == "%s/%s" % (judge.root, stock_image.STUDY) and fact["status"] == "healthy"
    assert (fact["context"]["nhc"]["version"], fact["context"]["nhc"]["version_from"]) == ("0123456789ab", "git")
    stock_image.nhc(tmp_path, "ours")
    fact = judge(nhc_script=str(tmp_path / "ours/run-health-checks.sh"))
    assert fact["context"]["nhc"]["script"] == str(tmp_path / "ours/run-health-checks.sh") and fact["status"] == "healthy"
    assert fact["context"]["nhc"]["version"] is None
    # What is given is not replaced.
    fact = judge(nhc_script="/nowhere/run-health-checks.sh")
    assert fact["status"] == "incomplete" and said(fact, "nhc")["seen"] == "Azure NHC is not at /nowhere/run-health-checks.sh"


def test_a_runner_at_the_studys_place_that_calls_the_images(judge):
    stock_image.program(
        judge.root, stock_image.STUDY, '#!/bin/sh\nexec "$(dirname "$0")/test/azurehpc-health-checks/run-health-checks.sh" "$@"'
    )
    assert judge()["status"] == "healthy"


def test_without_nhc_it_says_where_it_looked(judge):
    shutil.rmtree(judge.root / stock_image.NHC)
    fact = judge()
    assert {check: item["status"] for check, item in found(fact).items()} == {"nhc": "incomplete"}
    for place in (stock_image.STUDY, stock_image.NHC + "/run-health-checks.sh"):
        assert "%s/%s" % (judge.root, place) in said(fact, "nhc")["seen"]
    assert "node_health_nhc_script" in said(fact, "nhc")["remedy"]
    fact = judge(nhc="auto")
    assert fact["status"] == "healthy" and said(fact, "nhc")["status"] == "skipped" and stock_image.NHC in said(fact, "nhc")["seen"]


def unlink(path):
    return lambda root: (root / path).unlink()


def put(path, text):
    return lambda root: stock_image.write(root, path, text)


def no_peermem(version, kernel):
    def change(root):
        shutil.rmtree(root / "sys/module/nvidia_peermem")
        stock_image.write(root, "proc/driver/nvidia/version", version)
        stock_image.write(root, "proc/sys/kernel/osrelease", kernel)

    return change


OPEN = PROPRIETARY.replace("UNIX x86_64", "UNIX Open").replace("Kernel Module", "Kernel Module for x86_64")
FAILED = "LoadState=loaded\\nActiveState=failed\\nSubState=failed\\nResult=exit-code"
LOW_BANDWIDTH = ERROR + "check_ib_bw_gdr: ib_write_bw, IB=mlx5_ib5, IB BW (expected > 380 Gbps, but measured 12.3 Gbps. FaultCode: NHC2003"


@pytest.mark.parametrize(
    ("change", "check", "status", "words"),
    [
        (lambda root: (root / stock_image.NHC / "run-health-checks.sh").chmod(0o644), "nhc", "incomplete", "there, but not executable"),
        (unlink(stock_image.NHC + "/conf/nd96isr_h100_v5.conf"), "nhc", "incomplete", "there is no conf for this size at"),
        (
            lambda root: stock_image.nhc(root, stock_image.NHC, after('Running check:  "check_ib_bw_gdr', LOW_BANDWIDTH)),
            "nhc.check_ib_bw_gdr", "failed", "12.3 Gbps",
        ),
        (unlink(stock_image.TOPOLOGY), "image.topology", "degraded", "NCCL warns"),
        (put(stock_image.TOPOLOGY, "<system version"), "image.topology", "failed", "cannot be read"),
        (put(stock_image.TOPOLOGY, "<html/>"), "image.topology", "failed", "its root is <html>"),
        (no_peermem(PROPRIETARY, "5.15.0-1104-azure"), "ib.gpu_direct", "degraded", "proprietary driver on kernel 5.15"),
        (no_peermem(OPEN, "4.18.0-553.el8_10.x86_64"), "ib.gpu_direct", "degraded", "open driver on kernel 4.18"),
        (lambda root: stock_image.memory_lock(root, "8388608", "0"), "memory.lock", "degraded", "8.0 MiB may be locked"),
        (lambda root: stock_image.memory_lock(root, "65536", users="0 1000 1"), "memory.lock", "degraded", "65536 bytes may be locked"),
        (unlink("proc/self/limits"), "memory.lock", "incomplete", "does not tell"),
        (
            lambda root: stock_image.systemd(root, sku_customizations=FAILED),
            "services.active", "degraded", "sku-customizations is failed (exit-code)",
        ),
        (
            lambda root: stock_image.systemd(root, nvidia_fabricmanager="LoadState=masked\\nActiveState=inactive"),
            "services.active", "degraded", "nvidia-fabricmanager is masked",
        ),
        (
            put("usr/bin/systemctl", "#!/bin/sh\necho 'Failed to connect to bus' >&2; exit 1"),
            "services", "incomplete", "Failed to connect to bus",
        ),
    ],
)  # fmt: skip
def test_one_broken_part_is_one_verdict(judge, change, check, status, words):
    change(judge.root)
    fact = judge()
    incomplete_metrics = {name for name, item in found(fact).items() if item["status"] == "incomplete" and name.startswith("nhc.")}
    assert set(found(fact)) - incomplete_metrics == {check}
    assert said(fact, check)["status"] == status and words in said(fact, check)["seen"]
    assert said(fact, check)["threshold"] and said(fact, check)["remedy"]


@pytest.mark.parametrize(
    ("change", "check", "status", "words"),
    [
        (unlink(stock_image.VERSIONS), "image.versions", "skipped", "there is no /opt/azurehpc/component_versions.txt"),
        (put(stock_image.VERSIONS, "NCCL 2.29"), "image.versions", "skipped", "cannot be read"),
        (put(stock_image.VERSIONS, "[]"), "image.versions", "skipped", "a JSON list, no object"),
        (put(stock_image.VERSIONS, '{"NCCL": "2.18"}'), "image.versions", "healthy", "no image version, 1 components"),
        (no_peermem(OPEN, "7.0.0-1004-azure"), "ib.gpu_direct", "healthy", "DMA-BUF"),
        # sudo to root over SSH: pam gives root the limits of init, and the capability lifts them.
        (lambda root: stock_image.memory_lock(root, "8388608"), "memory.lock", "healthy", "CAP_IPC_LOCK lifts that"),
        (lambda root: stock_image.memory_lock(root, "unlimited", "0"), "memory.lock", "healthy", "no limit"),
        (
            lambda root: stock_image.systemd(root, sku_customizations="LoadState=not-found\\nActiveState=inactive"),
            "services.active", "healthy", "not installed: sku-customizations",
        ),
        (lambda root: (root / "run/systemd/system").rmdir(), "services", "skipped", "systemd does not run here"),
    ],
)  # fmt: skip
def test_what_is_only_otherwise_is_no_alarm(judge, change, check, status, words):
    change(judge.root)
    fact = judge()
    assert found(fact) == {} and fact["status"] == "healthy"
    assert said(fact, check)["status"] == status and words in said(fact, check)["seen"]


def test_nccl_tests_and_mpirun_where_the_image_has_them(tmp_path):
    root = stock_image.make(tmp_path)
    places = [str(root) + place for place in command.MPIRUN_PLACES]
    assert "/opt/hpcx-v2.25.1" in command.find_mpirun("", "/nonexistent", places)
    shutil.rmtree(next((root / "opt").glob("hpcx-*")))
    assert "/opt/openmpi-5.0.8/" in command.find_mpirun("", "/nonexistent", places)
    assert ready.find_program(str(root / "opt/nccl-tests/build"), "all_reduce").endswith("all_reduce_perf")


def test_without_mpirun_it_says_where_it_looked(monkeypatch):
    monkeypatch.setattr(command, "find_mpirun", lambda _path, _search: None)
    with pytest.raises(ready.NotReady) as error:
        ready.choose_launcher({"mpirun": "", "launcher": "mpirun", "scope": "across"})
    assert all(place in error.value.args[2] for place in command.MPIRUN_PLACES)
