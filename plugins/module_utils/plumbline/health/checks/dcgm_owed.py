"""Which tests each level of ``dcgmi diag`` owes, and what DCGM's own errors, skips and returns mean.

From DCGM's source: ``FillTestVectors`` in ``nvvs/src/NvidiaValidationSuite.cpp`` of v3.3.9, v4.0.0, v4.2.3, v4.4.2, v4.5.0 and v4.6.0 for
the levels; ``dcgmlib/dcgm_errors.h`` for the errors; ``dcgmlib/src/dcgm_errors.c`` for the returns.
"""

from __future__ import annotations

import re

LEVELS = (1, 2, 3, 4)
# One result for the whole node each.
DEPLOYMENT_3 = (
    "denylist", "nvml_library", "cuda_main_library", "permissions_and_os_blocks", "persistence_mode", "environment_variables",
    "page_retirement_row_remap", "graphics_processes", "inforom",
)  # fmt: skip
SOFTWARE = "software"
NVBANDWIDTH = "nvbandwidth"
MEMORY = "memory"
# What a level adds, by its number; one result for each GPU.
ADDED = {
    2: ("pcie", MEMORY),
    3: ("diagnostic", "memory_bandwidth", "targeted_stress", "targeted_power"),
    4: ("memtest", "pulse_test"),
}
ADDED_4 = {3: (NVBANDWIDTH,)}  # with DCGM 4
# Run where their own package, program or right is there. Nothing is owed of them; what they say counts.
OPTIONAL = ("eud", "cpu_eud", "nccl_tests", "rist")

# Errors by code (dcgmError_t).
PERSISTENCE_MODE = 29
FIELD_THRESHOLD_TS = 38
ABORTED = 47
MEMORY_ALLOC = 56
# The test could not be made: nothing is known of the GPU. A library, DCGM itself, EUD's setup, a program that may not be executed.
NOT_MADE = (22, 26, 27, 32, 44, ABORTED, 53, 67, 89, 90, 91, 92, 93, 124)

# Words of a skip that is DCGM's own choice for this GPU: its table of SKUs does not allow the test (is_allowed), or there is no ECC.
NOT_FOR_THIS_GPU = re.compile(r"test is skipped(?: for this GPU)?\.|is unsupported\. Skipping test", re.I)
# nvbandwidth before 4.5.2 (its own text has "utilitization" up to 4.4), and what takes its place since.
MEMORY_COPY = re.compile(r"memory copy util", re.I)

# DCGM keeps so many messages of one answer, of all tests together (dcgm_structs.h: DCGM_DIAG_RESPONSE_INFO_MAX, ..._ERRORS_MAX).
INFO_MAX_40 = 16  # 4.0 and 4.1; 128 since 4.2
ERRORS_MAX_4 = 32

LOOK = "look at nv-hostengine.log and nvvs.log on the node (/var/log/nvidia-dcgm), then run again with --tags node_health"
UNTOLD = "see nvvs.log (/var/log/nvidia-dcgm) for why; DCGM 4.2 and newer tell it; where it is not to run, lower node_health_dcgm_level"
SERVICE = "start the host engine (`systemctl start nvidia-dcgm`), then run again with --tags node_health"
VERSIONS = (
    "dcgmi and the host engine are of different versions: `dcgmi -v` shows both; install one version, then `systemctl restart nvidia-dcgm`"
)
PACKAGES = (
    "install the whole DCGM: datacenter-gpu-manager-4-proprietary and -4-cuda<driver's major> beside -4-core (DCGM 4), "
    "datacenter-gpu-manager (DCGM 3); then `systemctl restart nvidia-dcgm`"
)
RESET = "reset the GPU (`nvidia-smi --gpu-reset -i <index>`) or reboot the node; give it back if that does not help"
# What does not apply to this machine, by DCGM's own word: nothing is wrong with it.
NOT_HERE = "skipped"
# Of a GPU in MIG mode (BuildCommonGpusList in nvvs): it has no return of its own.
MIG = re.compile(r"\bMIG\b")
MIG_REMEDY = "a diagnostic takes whole GPUs: turn MIG off to test them, or set node_health_dcgm: never here"
# Returns of DCGM (dcgmReturn_t) that have a remedy of their own: words of errorString(), in lower case, status, what to do.
RETURNS = {
    -6: ("feature not supported", NOT_HERE, "DCGM does not run it with this driver or GPU; set node_health_dcgm: never here"),
    -11: ("timeout", "incomplete", LOOK),
    -12: ("version mismatch", "incomplete", VERSIONS),
    -18: ("gpu is lost", "failed", RESET),
    -19: ("gpu requires reset", "failed", RESET),
    -21: ("host engine connection invalid", "incomplete", SERVICE),
    -22: ("this gpu is not supported by dcgm", NOT_HERE, "set node_health_dcgm: never on this node"),
    -23: (
        "incompatible with each other", NOT_HERE,
        "a diagnostic takes GPUs of one product: choose them with plumbline_gpus, or set node_health_dcgm: never here",
    ),
    -29: ("running as non-root", "incomplete", "run the host engine as root (the unit nvidia-dcgm does)"),
    -33: ("not currently loaded", "incomplete", PACKAGES),
    -34: ("resource is in use", "incomplete", "end what uses the GPUs, then run again with --tags node_health"),
    -39: (
        "already running", "incomplete",
        "another diagnostic runs: wait for it, or find who starts it (a scheduler's prolog, a GPU operator); then run again",
    ),
    -40: ("json that cannot be parsed", "incomplete", LOOK),
    -41: ("error while launching", "incomplete", PACKAGES),
    -44: ("driver version is insufficient", "incomplete", "install the driver that this DCGM needs, or an older DCGM"),
    -52: ("nvvs binary was not found", "incomplete", PACKAGES),
    -53: ("killed by a signal", "incomplete", "somebody ended it, or memory ran out: look at the kernel log, then run again"),
    -54: ("paused", "incomplete", "`systemctl restart nvidia-dcgm`, then run again"),
    -56: ("nvml doesn't exist", "incomplete", "load the NVIDIA driver, then `systemctl restart nvidia-dcgm`"),
    -57: ("nvml driver timeout", "incomplete", "the driver hangs: look at the kernel log, reboot the node"),
    -58: ("not found among possible test choices", "incomplete", PACKAGES),
    -64: ("child process received a signal", "incomplete", LOOK),
    -66: ("diagnostic was stopped", "incomplete", "somebody stopped it: run again"),
    -67: ("gpus are detached", "incomplete", "attach the GPUs again (`systemctl restart nvidia-dcgm`), then run again"),
}  # fmt: skip


def owed(generation, level):
    """Return ``(tests of the whole node, tests of each GPU)`` that a level owes, as names."""
    each = [] if generation == 3 else [SOFTWARE]
    for step in LEVELS:
        if step <= level:
            each += ADDED.get(step, ())
            each += ADDED_4.get(step, ()) if generation == 4 else ()
    return (DEPLOYMENT_3 if generation == 3 else ()), tuple(each)


def meaning(text, exit_code=None):
    """Return ``(status, remedy)`` of a diagnostic that ended without results: by the return's number, its words, or the exit code.

    dcgmi ends with its return, which is negative: 226 is -30.
    """
    if MIG.search(text or ""):
        return NOT_HERE, MIG_REMEDY
    number = re.search(r"Return: \((-?[0-9]{1,3})\)", text or "")
    numbers = [int(number.group(1))] if number else []
    by_words = [code for code, row in RETURNS.items() if row[0] in (text or "").lower()]
    numbers += sorted(by_words, key=lambda code: -len(RETURNS[code][0]))
    numbers += [exit_code - 256] if exit_code is not None and exit_code > 0 else []
    return next((RETURNS[code][1:] for code in numbers if code in RETURNS), ("incomplete", LOOK))


def version_of(text):
    """Return ``4.5.0`` as ``(4, 5, 0)``; ``()`` for what is no version."""
    match = re.match(r"([0-9]+)\.([0-9]+)(?:\.([0-9]+))?", text or "")
    return tuple(int(part or 0) for part in match.groups()) if match else ()
