"""Composed answers of ``dcgmi diag -j``, and a stand-in for dcgmi: no GPU with DCGM was at hand.

The answers have the members, names and messages that DCGM's source writes (NVIDIA/DCGM: ``dcgmi/Diag.cpp``, ``NvvsJsonStrings.h``,
``PluginStrings.h`` and ``dcgm_errors.h`` of v3.3.9 and v4.0.0 to v4.6.0). The table of GPUs is that of ``dcgmi/Query.cpp``.
"""

from __future__ import annotations

import json

DEPLOYMENT_3 = (
    "Denylist", "NVML Library", "CUDA Main Library", "Permissions and OS Blocks", "Persistence Mode", "Environment Variables",
    "Page Retirement/Row Remap", "Graphics Processes", "Inforom",
)  # fmt: skip
TESTS_3 = {
    2: (("Integration", "PCIe"), ("Hardware", "GPU Memory")),
    3: (("Hardware", "Diagnostic"), ("Stress", "Memory Bandwidth"), ("Stress", "Targeted Stress"), ("Stress", "Targeted Power")),
    4: (("Stress", "Memtest"), ("Hardware", "Pulse Test")),
}
TESTS_4 = {
    1: (("Deployment", "software"),),
    2: (("Hardware", "memory"), ("Integration", "pcie")),
    3: (
        ("Hardware", "diagnostic"), ("Hardware", "nvbandwidth"), ("Stress", "memory_bandwidth"), ("Stress", "targeted_stress"),
        ("Stress", "targeted_power"),
    ),
    4: (("Stress", "memtest"), ("Hardware", "pulse_test")),
}  # fmt: skip
ALLOCATION = (56, 4, "Couldn't allocate at least 75.0% of GPU memory on GPU 1 Run a field diagnostic on the GPU.")
COPY_UTIL = (
    38, 2, "The memory copy utilization for the GPU: 1 is greater than 10%. This may affect the results of the nvbandwidth test.",
)  # fmt: skip
PERSISTENCE = (29, 5, "Persistence Mode: Persistence mode for GPU 0 is disabled. Enable persistence mode by running nvidia-smi -pm 1.")
MISMATCH = (58, 2, "A memory mismatch was detected on GPU 1, but no error was reported by CUDA or NVML. Run a field diagnostic on the GPU.")


def _warnings(errors, key="warning"):
    return [{key: text, "error_id": code, "error_category": 8, "error_severity": severity} for code, severity, text in errors]


def v3(level=3, gpus=(0, 1), version="3.3.9"):
    """Return the document of DCGM 3 in which everything passes."""
    categories = {"Deployment": [{"name": name, "results": [{"status": "Pass"}]} for name in DEPLOYMENT_3]}
    for step, tests in TESTS_3.items():
        for category, name in tests if step <= level else ():
            results = [{"gpu_id": str(gpu), "status": "Pass"} for gpu in gpus]
            categories.setdefault(category, []).append({"name": name, "results": results})
    return {
        "DCGM GPU Diagnostic": {"test_categories": [{"category": name, "tests": tests} for name, tests in categories.items()]},
        "Driver Version Detected": "550.90.07",
        "GPU Device IDs": ["2330"] * len(gpus),
        "version": version,
    }


def v4(level=3, gpus=(0, 1), version="4.6.0"):
    """Return the document of DCGM 4 in which everything passes."""
    categories = {}
    for step, tests in TESTS_4.items():
        for category, name in tests if step <= level else ():
            results = [{"entity_group": "GPU", "entity_group_id": 1, "entity_id": gpu, "status": "Pass"} for gpu in gpus]
            categories.setdefault(category, []).append({"name": name, "results": results, "test_summary": {"status": "Pass"}})
    entities = [{"device_id": "2330", "entity_id": gpu, "serial_num": "165000000000%d" % gpu} for gpu in gpus]
    return {
        "DCGM Diagnostic": {"test_categories": [{"category": name, "tests": tests} for name, tests in categories.items()]},
        "entity_groups": [{"entities": entities, "entity_group": "GPU", "entity_group_id": 1}],
        "metadata": {"version": version, "Driver Version Detected": "570.148.08"},
    }


def test_of(document, name):
    """Return the entry of a test, to change it."""
    root = document.get("DCGM Diagnostic") or document["DCGM GPU Diagnostic"]
    return next(test for category in root["test_categories"] for test in category["tests"] if test["name"] == name)


def change(document, name, status=None, errors=(), info=(), which=None):
    """Give results of a test another status, errors or messages; ``which`` are places among its results, None for all; return it."""
    test = test_of(document, name)
    older = "DCGM GPU Diagnostic" in document
    for place, result in enumerate(test["results"]):
        if which is None or place in which:
            result.update({"status": status} if status else {})
            if errors:
                # Of a deployment check DCGM 3 writes "warnings" where all else has "warning", and the GPU of the error.
                result["warnings"] = _warnings(errors, "warnings" if older and name in DEPLOYMENT_3 else "warning")
            if info:
                result["info"] = ", ".join(info) if older else list(info)
    if "test_summary" in test:
        words = {result["status"] for result in test["results"]}
        test["test_summary"]["status"] = "Fail" if "Fail" in words else "Pass" if "Pass" in words else "Skip"
        if errors:
            test["test_summary"]["warnings"] = _warnings(errors)
    return document


def text(document):
    """Return a document as dcgmi prints it (jsoncpp's styled writer, by its indentation)."""
    return json.dumps(document, indent=3) + "\n"


def runtime_error(words, version="4.6.0"):
    """Return what is printed instead of results."""
    return text({"DCGM Diagnostic" if version.startswith("4") else "DCGM GPU Diagnostic": {"version": version, "runtime_error": words}})


def discovery(bus_ids, first=0):
    """Return the table of ``dcgmi discovery -l``; ``first`` is DCGM's number of the first GPU."""
    line = "+--------+----------------------------------------------------------------------+\n"
    out = "%d GPUs found.\n%s| GPU ID | Device Information%s|\n%s" % (len(bus_ids), line, " " * 51, line)
    for place, bus_id in enumerate(bus_ids):
        told = ("Name: NVIDIA H100 80GB HBM3", "PCI Bus ID: " + bus_id, "Device UUID: GPU-%08d-0000-0000-0000-000000000000" % place)
        for row, words in enumerate(told):
            out += "| %-6s | %-68s |\n" % (place + first if row == 0 else "", words)
        out += line
    return (
        out
        + "0 NvSwitches found.\n+-----------+\n| Switch ID |\n+-----------+\n0 CPUs found.\n"
        + line.replace("GPU", "CPU")
        + ("| CPU ID | Device Information                                                   |\n" + line)
    )


MOCK = """#!/bin/sh
# mock-dcgmi: answers as dcgmi would, with composed texts; it tests no GPU
echo "$@" >> {folder}/calls
case "$1 $2 $3" in
"discovery -l "*) {discovery} ;;
"diag -r nvbandwidth") cat {folder}/again.json ;;
*) {diag} ;;
esac
"""
MOCK_SMI = """#!/bin/sh
# mock-nvidia-smi: lists the GPUs, and who uses them
case "$*" in
*compute-apps*) cat {folder}/apps.csv ;;
*) cat {folder}/gpus.csv ;;
esac
"""
BUS_IDS = ("00000001:00:00.0", "00000002:00:00.0")


def install(folder, answer, exit_code=0, diag=None, discovered=None, again=None, apps=""):
    """Write the stand-ins; return ``(dcgmi, nvidia-smi)``. ``diag`` is shell to run instead of printing ``answer``."""
    (folder / "answer.json").write_text(answer)
    (folder / "again.json").write_text(again or "")
    table = discovery(BUS_IDS) if discovered is None else discovered
    (folder / "discovery.txt").write_text(table)
    told = "cat %s/discovery.txt%s" % (folder, "" if table.startswith(str(len(BUS_IDS))) else "; exit 235")
    says = diag or "cat %s/answer.json; exit %d" % (folder, exit_code)
    rows = ["%d, GPU-%08d-0000-0000-0000-000000000000, %s" % (place, place, bus_id) for place, bus_id in enumerate(BUS_IDS)]
    (folder / "gpus.csv").write_text("index, uuid, pci.bus_id\n" + "\n".join(rows) + "\n")
    (folder / "apps.csv").write_text("pid, used_gpu_memory [MiB], process_name, gpu_uuid\n" + apps)
    paths = []
    for name, body in (
        ("mock-dcgmi", MOCK.format(folder=folder, discovery=told, diag=says)),
        ("mock-nvidia-smi", MOCK_SMI.format(folder=folder)),
    ):
        path = folder / name
        path.write_text(body)
        path.chmod(0o755)
        paths.append(str(path))
    return paths
