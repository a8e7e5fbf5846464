"""One run of ``dcgmi diag`` as one measurement: whether it may run, on which GPUs, the run, and what came of it."""

from __future__ import annotations

import time

from ..core.fact import Measurement
from ..machine import gpu_choice, gpu_memory, nvidia
from .checks import dcgm, dcgm_owed
from .evidence import dcgm_output, dcgm_run

NAME = "dcgm_diag"
# Seconds for a level. NVIDIA says seconds, 2 minutes, 15 minutes and longer (`dcgmi diag --help` of 3.3.9 and 4.6.0); eight GPUs, and the
# first load of CUDA, take more.
TIMEOUTS_S = {1: 300, 2: 900, 3: 3600, 4: 14400}
ALONE_S = 300  # nvbandwidth by itself
HIGHEST_LEVEL_BESIDE = 1  # it looks at software and settings, and loads no GPU
INSTALL = "install DCGM (the package datacenter-gpu-manager), set node_health_dcgm_tool to where dcgmi is, or set node_health_dcgm: auto"


class Stop(Exception):
    """The diagnostic is not run; the arguments are those of ``Measurement.add``."""


def measure(level, required=False, tool=None, gpus=None, nvidia_smi=None, timeout_s=0, serving=None, check_mode=False):
    """Return the :class:`Measurement`.

    ``gpus`` is ``plumbline_gpus``; ``timeout_s`` 0 takes that of :data:`TIMEOUTS_S`; ``serving`` says who serves on this node, None where
    nobody does.
    """
    found = Measurement("health", NAME)
    found.measured = {"level": level}
    try:
        path = _tool(tool, required)
        asked = _asked(path, gpus, nvidia_smi)
        found.context.update(host_engine=asked["engine"], gpus=asked["gpus"])
        _may_run(level, nvidia_smi, serving)
        argv = dcgm_run.command(path, level, asked["entities"])
        found.command = " ".join(argv)
        if check_mode:
            raise Stop("check_mode", "skipped", "would run %s" % found.command)
        _run(found, path, level, asked, timeout_s or TIMEOUTS_S[level])
    except Stop as stop:
        found.add(*stop.args)
    if required:
        # It does not apply to this machine, and somebody counts on it.
        found.reasons = [dict(item, status="incomplete") if _is_not_here(item) else item for item in found.reasons]
    return found


def _is_not_here(item):
    return item["check"] == "dcgm" and item["status"] == dcgm_owed.NOT_HERE


def _tool(given, required):
    path = dcgm_run.find(given)
    if path:
        return path
    text = "dcgmi is not %s" % (("at %s, or not executable" % given) if given else "installed")
    if required or given:
        raise Stop("dcgm", "incomplete", text, "dcgmi, since node_health_dcgm or node_health_dcgm_tool asks for it", INSTALL)
    raise Stop("dcgm", "skipped", text, "run where it is installed")


def _asked(path, choice, nvidia_smi):
    """Return ``{"engine", "entities", "ids", "gpus"}``: what dcgmi is given (none for all), DCGM's numbers, and which GPUs these are."""
    try:
        here = gpu_choice.listed(nvidia_smi)
        chosen = gpu_choice.look_only_at(choice, nvidia_smi)
    except gpu_choice.WrongChoice as error:
        raise Stop("dcgm.gpus", "failed", str(error), gpu_choice.EXPECTED, "mend %s of this node" % gpu_choice.VARIABLE) from error
    except nvidia.NvidiaError as error:
        remedy = "look at the reasons of the fact node, which says what is wrong with the driver"
        raise Stop("dcgm.gpus", "incomplete", "which GPUs are here is not known: %s" % error, None, remedy) from error
    wanted = chosen or here
    if not wanted:
        raise Stop("dcgm.gpus", "skipped", "no GPU here", None)
    try:
        listed = dcgm_run.discover(path)
    except dcgm_run.DcgmError as error:
        if not error.no_engine:
            status, remedy = dcgm_owed.meaning(str(error))
            raise Stop("dcgm", status, str(error), "the host engine says which GPUs there are", remedy) from error
        return _without_engine(path, wanted, bool(chosen))
    ids = {gpu["bus_id"]: gpu["id"] for gpu in listed}
    lost = [gpu["bus_id"] for gpu in wanted if gpu["bus_id"] not in ids]
    if lost:
        text = "the host engine does not know %s, which nvidia-smi shows" % ", ".join(lost)
        raise Stop(
            "dcgm.gpus", "incomplete", text, "all of them", "`systemctl restart nvidia-dcgm`, then run again with --tags node_health"
        )
    return _numbered("running", [(ids[gpu["bus_id"]], gpu) for gpu in wanted], by_id=bool(chosen))


def _without_engine(path, wanted, chosen):
    """Return the same where no host engine runs: ``dcgmi diag`` starts one in itself, which numbers GPUs as the driver does.

    Which of them are meant is then left to no guess: with a choice it is asked for.
    """
    if chosen:
        raise Stop(
            "dcgm", "incomplete", "no host engine answers, and %s names GPUs by which only it can be asked" % gpu_choice.VARIABLE,
            "a running nv-hostengine", dcgm_owed.SERVICE,
        )  # fmt: skip
    return _numbered("embedded", [(gpu["index"], gpu) for gpu in wanted], by_id=False)


def _numbered(engine, pairs, by_id):
    ids = [number for number, _gpu in pairs]
    gpus = [{"id": number, "bus_id": gpu["bus_id"], "uuid": gpu["uuid"]} for number, gpu in pairs]
    return {"engine": engine, "entities": ids if by_id else [], "ids": ids, "gpus": gpus}


def _may_run(level, nvidia_smi, serving):
    """Stop where somebody uses the GPUs: a test would fail by it, and disturb them."""
    if level <= HIGHEST_LEVEL_BESIDE:
        return
    remedy = "run again when the GPUs are free, or set node_health_dcgm_level: %d" % HIGHEST_LEVEL_BESIDE
    holders = gpu_memory.holders(nvidia_smi)
    if holders:
        names = ", ".join("%s (%s)" % (item["pid"], item["name"] or "no name") for item in holders[:4])
        raise Stop("dcgm", "incomplete", "not run: the GPUs are in use by process %s" % names, "GPUs that nobody uses", remedy)
    if serving:
        raise Stop("dcgm", "incomplete", "not run: %s serves on this node" % serving, "a node that does not serve", remedy)


def _run(found, path, level, asked, timeout_s):
    """Run it, and nvbandwidth once more alone where its failure is one of the known false ones."""
    began = time.monotonic()
    answer, seen = _once(found, dcgm_run.command(path, level, asked["entities"]), timeout_s)
    found.measured["duration_s"] = seen["duration_s"]
    if answer is None:
        return
    exit_code = seen["exit_code"]
    if dcgm.false_alarm(answer):
        left_s = max(60, min(ALONE_S, timeout_s - (time.monotonic() - began)))
        answer, exit_code = _again(found, path, asked, answer, exit_code, left_s)
    found.measured.update(gpus_count=len(asked["ids"]), tests=dcgm.counts(answer))
    found.context.update(version=answer["version"], driver=answer["driver"], exit_code=seen["exit_code"])
    found.reasons += dcgm.judge(answer, level, asked["ids"], exit_code)


def _again(found, path, asked, answer, exit_code, timeout_s):
    """Return the answer and exit code with nvbandwidth run alone; the first ones where that gave no result."""
    seen = dcgm_run.diagnose(dcgm_run.command(path, dcgm_owed.NVBANDWIDTH, asked["entities"]), timeout_s)
    try:
        changed = dcgm.put_in(answer, dcgm_output.parse(seen["stdout"]))
    except dcgm_output.UnreadableOutput:
        changed = answer
    if changed is answer:
        return answer, exit_code
    text = "nvbandwidth failed as in DCGM issue 272 (DCGM %s), and was run again alone: that result counts"
    found.add("dcgm.nvbandwidth.again", "skipped", text % answer["version"], None)
    found.context["run_again"] = [dcgm_owed.NVBANDWIDTH]
    # The first exit code was of that failure, and of whatever else failed: its results say that.
    return changed, seen["exit_code"]


def _once(found, argv, timeout_s):
    """Return ``(answer, what was seen)``; the answer is None where there is none to judge, and then a reason says why."""
    seen = dcgm_run.diagnose(argv, timeout_s)
    what = "results of every test"
    if seen["error"]:
        found.add("dcgm", "incomplete", seen["error"], what, dcgm_owed.LOOK)
        return None, seen
    if seen["timed_out"]:
        text = "not at its end after %d s, and told to stop; it said: %s"
        said = dcgm_output.tail(seen["stdout"] + seen["stderr"]) or "nothing"
        remedy = "raise node_health_dcgm_timeout_s, or look why it hangs (nvvs.log in /var/log/nvidia-dcgm, the kernel log)"
        found.add("dcgm", "incomplete", text % (timeout_s, said), what, remedy)
        return None, seen
    try:
        return dcgm_output.parse(seen["stdout"]), seen
    except dcgm_output.UnreadableOutput as error:
        _unreadable(found, seen, error)
        return None, seen


def _unreadable(found, seen, error):
    code = seen["exit_code"]
    if code is not None and code < 0:
        text, status, remedy = "dcgmi was killed by signal %d" % -code, "incomplete", dcgm_owed.RETURNS[-53][2]
    else:
        # Words of half an answer are of some test in it, and not of why there is no whole one.
        said = seen["stderr"] + ("" if "{" in seen["stdout"] else " " + seen["stdout"])
        text = "dcgmi ended with %s: %s" % (code, error)
        status, remedy = dcgm_owed.meaning(said, code)
    found.context["exit_code"] = code
    found.add("dcgm", status, text[:600], "JSON with results of every test", remedy)
