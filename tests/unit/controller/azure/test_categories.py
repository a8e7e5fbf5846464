"""Every failed check that the code can write is one of Azure's categories, or says why it is none."""

from __future__ import annotations

import ast

import pytest
from ansible.module_utils.plumbline.controller.azure import categories
from ansible.module_utils.plumbline.health import remedy
from ansible.module_utils.plumbline.health.checks import xids
from ansible.module_utils.plumbline.health.evidence import nhc_faults, nhc_log
from health_nodes import COMPOSED
from project import ROOT

P = categories.PREFIX

# The page of September 2025, with its own capitals: what Azure does not know it refuses.
PUBLISHED = """
HpcMissingGpu MissingIB IBPerformance IBPortDown IBPortFlapping HpcGpuDcgmDiagFailure HpcRowRemapFailure HpcInforomCorruption
HpcGenericFailure ManualInvestigation XID95UncontainedECCError XID94ContainedECCError XID79FallenOffBus XID48DoubleBitECC
UnhealthyGPUNvidiasmi NvLink HpcDcgmiThermalReport ECCPageRetirementTableFull DBEOverLimit GpuXIDError AmdGpuResetFailed EROTFailure
GPUMemoryBWFailure CPUPerformance
""".split()


def test_the_categories_are_those_that_azure_publishes():
    assert sorted(categories.CATEGORIES) == sorted(PUBLISHED)
    named = set(categories.BY_CODE.values()) | {name for _beginning, name in categories.BY_BEGINNING} | {"GpuXIDError"}
    assert named <= set(PUBLISHED)


def test_every_fault_code_of_ours_has_a_category():
    codes = {code for _kind, code in remedy.BY_CHECK.values()} | {row[3] for row in remedy.WORSE}
    codes |= {code for _kind, code in xids.FATAL.values()} | {xids.OTHER[1], xids.NVLINK_FATAL[1], xids.ACTION_CODE}
    codes |= {row[3] for row in nhc_faults.WORDS} | set(remedy.BY_FAULT)
    codes |= set(nhc_log.fault_codes((COMPOSED / "nhc.nd96isr_h100_v5.log").read_text())) - {nhc_log.NO_FAULT}
    assert codes - {None} <= set(categories.BY_CODE)


def names_in(path):
    """Return the names of checks that a source file writes as a text: first arguments of add and reason, and keys of tables."""
    found = set()
    for item in ast.walk(ast.parse(path.read_text())):
        if isinstance(item, ast.Call) and item.args and isinstance(item.args[0], ast.Constant) and isinstance(item.args[0].value, str):
            called = item.func.attr if isinstance(item.func, ast.Attribute) else getattr(item.func, "id", "")
            if called in ("reason", "_reason") or (called == "add" and len(item.args) >= 3):
                found.add(item.args[0].value)
    return found


def test_every_check_that_the_code_writes_is_known():
    sources = [
        *(ROOT / "plugins/module_utils/plumbline").rglob("*.py"),
        *(ROOT / "library").glob("*.py"),
        *(ROOT / "plugins").glob("*/*.py"),
    ]
    # pair_verdict.py writes what comes behind "pairwise.".
    checks = set(remedy.BY_CHECK).union(*(names_in(path) for path in sources))
    assert len(checks) > 60 and {"gpu.count", "ib.state", "disk.free", "clock.skew", "serve.ready"} <= checks
    checks = {"pairwise." + check if check in ("link", "node", "value") else check for check in checks}
    unknown = [check for check in sorted(checks) if categories.category(check, "seen") == (None, "no category is known for it")]
    assert unknown == [], "say in categories.py which category these are, or why they have none"


def test_a_check_that_nobody_knows_says_so():
    assert categories.category("quantum.flux", "") == (None, "no category is known for it")


@pytest.mark.parametrize(
    ("check", "seen", "name"),
    [
        ("gpu.count", "7 GPUs", "HpcMissingGpu"),
        ("gpu_baseline.read.baseline", "GPU 3 0001:00:00.0 reads 2700 GB/s", "GPUMemoryBWFailure"),
        ("gpu_baseline.values", "GPU 3 0001:00:00.0: 1 wrong element", "ManualInvestigation"),
        ("ib_counters.link_downed", "mlx5_ib3/1 +2", "IBPortFlapping"),
        ("ib_counters.symbol_error", "mlx5_ib3/1 +200", "IBPerformance"),
        ("gpu.remap", "0001:00:00.0 failed to remap a row", "HpcRowRemapFailure"),
        ("gpu.inforom", "0001:00:00.0 corrupted", "HpcInforomCorruption"),
        ("gpu.throttle", "0001:00:00.0 is held down by hw_thermal_slowdown", "HpcDcgmiThermalReport"),
        ("gpu.nvlink", "0001:00:00.0 17 of 18 links", "NvLink"),
        ("gpu", "did not answer within 60 s", "UnhealthyGPUNvidiasmi"),
        ("ib.state", "mlx5_ib3 is missing", "MissingIB"),
        ("ib.state", "mlx5_ib3 is Down", "IBPortDown"),
        ("ib.state", "mlx5_ib3 at 200 Gbit/s", "IBPerformance"),
        ("ib.flaps", "ib3 flapped", "IBPortFlapping"),
        ("nvme.count", "7 of 8", "HpcGenericFailure"),
        ("kernel_log.xid", "XID 48 at 0001:00:00", "XID48DoubleBitECC"),
        ("kernel_log.xid", "XID 79 at 0001:00:00", "XID79FallenOffBus"),
        ("kernel_log.xid", "XID 94 at 0001:00:00", "XID94ContainedECCError"),
        ("kernel_log.xid", "XID 95 at 0001:00:00", "XID95UncontainedECCError"),
        ("kernel_log.xid", "XID 119 at 0001:00:00", "GpuXIDError"),
        ("kernel_log.xid", "XID 140 at 0001:00:00", "GpuXIDError"),
        ("kernel_log.xid", "XID 64 at 0001:00:00", "HpcRowRemapFailure"),
        ("kernel_log.xid", "XID 74 at 0001:00:00", "NvLink"),
        ("nhc.check_gpu_xid", "NVRM: Xid (PCI:0001:00:00): 62, pid=1", "GpuXIDError"),
        ("nhc.nccl_allreduce_gbps", "400 GB/s", "ManualInvestigation"),
        ("nhc.ib_write_gbit_s", "mlx5_ib3: 300", "IBPerformance"),
        ("pairwise.node.mlx5_ib3", "slow", "IBPerformance"),
        ("pairwise.node", "slow", "ManualInvestigation"),
    ],
)
def test_what_a_finding_is(check, seen, name):
    assert categories.category(check, seen) == (P + name, None)


@pytest.mark.parametrize(
    "check", ["disk.free", "clock.skew", "services.active", "model.verified", "serve.ready", "link.run", "fleet.driver"]
)
def test_what_is_mended_on_the_node_is_no_matter_of_azures(check):
    name, why = categories.category(check, "seen")
    assert name is None and len(why) > 10


def test_addresses_in_a_finding():
    seen = "XID 79 at 0008:00:00; NVRM: Xid (PCI:0008:00:00): 79; 0001:00:00.0 failed; 00000002:0A:00.0; at 19:06:45; 12:34"
    assert categories.gpu_addresses(seen) == ["0008:00:00.0", "0001:00:00.0", "0002:0a:00.0"]


@pytest.mark.parametrize(
    ("check", "seen", "first"),
    [
        # The XID that has the category, and not the one that stands first.
        ("kernel_log.xid", "XID 119 at 0001:00:00, XID 79 at 0008:00:00; the last: NVRM: Xid (PCI:0001:00:00): 119", "0008:00:00.0"),
        ("kernel_log.xid", "XID 79 at 0008:00:00, XID 119 at 0001:00:00; the last: NVRM: Xid (PCI:0001:00:00): 119", "0008:00:00.0"),
        ("gpu.count", "7 GPUs answer; no GPU in PCI domain 000c; missing from the PCI bus: 000c:00:00.0", "000c:00:00.0"),
        ("gpu.throttle", "0002:00:00.0 is held down by hw_slowdown", "0002:00:00.0"),
        ("ib.state", "0101:00:00.0 mlx5_ib3 is Down", "0101:00:00.0"),
    ],
)
def test_the_gpu_that_has_the_fault(check, seen, first):
    assert categories.gpus_behind(check, seen)[0] == first


def test_a_finding_without_an_address_names_no_gpu():
    assert categories.gpus_behind("gpu", "did not answer within 60 s") == []
    assert categories.gpus_behind(None, "") == []
