"""What the first node needs before nccl-tests can run, each thing with what to do where it is missing."""

from __future__ import annotations

import os

from ...machine import gpu_choice, nvidia
from . import command as nccl_command
from . import output as nccl_output
from . import run as nccl_run


class NotReady(Exception):
    """Something is missing; ``args`` are those of ``Measurement.add``: check, status, seen, threshold and remedy."""


def prepare(args):
    """Return ``{program, launcher, mpirun, base, ranks_per_node, options, gpus, agent}`` for a module's ``args``; raise :class:`NotReady`.

    ``base`` is the environment to start from, ``agent`` the part of it by which mpirun reaches other nodes, ``gpus`` what makes the
    ranks see the chosen GPUs only, ``options`` are the option letters that this build of nccl-tests knows.
    """
    chosen = find_chosen(args.get("gpus") or [], args["clock_window"].get("nvidia_smi") if args.get("clock_window") else None)
    ranks_per_node = find_gpus(args["ranks_per_node"], len(chosen))
    program = find_program(args["folder"], args["op"])
    launcher, mpirun = choose_launcher(args)
    base = nccl_command.base_environment(os.environ, args["library_path"], mpirun)
    agent = nccl_command.agent_environment(args.get("ssh_config"))
    base.update(agent)
    options = find_options(program, base)
    if launcher == "mpirun":
        check_ssh(args["addresses"][1:], base, args.get("ssh_config"))
    return {
        "program": program, "launcher": launcher, "mpirun": mpirun, "base": base, "ranks_per_node": ranks_per_node, "options": options,
        "gpus": gpu_choice.environment(chosen), "agent": agent,
    }  # fmt: skip


def find_chosen(choices, tool=None):
    """Return the GPUs that the nodes may use (``gpu_choice``), [] for all; ``choices`` has each node's, this one's first."""
    try:
        texts = [gpu_choice.read(one) for one in choices]
        if any(one != texts[0] for one in texts):
            raise NotReady(
                "collective.gpu_choice", "failed", "the nodes have different GPUs in %s: %s" % (gpu_choice.VARIABLE, texts),
                "the same indexes on each node, since mpirun gives all ranks one environment",
                "set fabric_baseline_nccl_tests: never, or the same indexes on each node",
            )  # fmt: skip
        return gpu_choice.look_only_at(texts[0], tool) if texts else []
    except (gpu_choice.WrongChoice, nvidia.NvidiaError) as error:
        raise NotReady("collective.gpu_choice", "failed", str(error), gpu_choice.EXPECTED, "mend %s" % gpu_choice.VARIABLE) from error


def find_gpus(wanted, chosen=0):
    """Return the ranks on each node: ``wanted``, or with 0 as many as were ``chosen``, or as this node has GPUs."""
    present = nccl_run.gpus()
    present = min(present, chosen) if chosen else present
    if not present:
        raise NotReady("collective.gpu", "skipped", "no GPU", "an NVIDIA GPU")
    if wanted > present:
        raise NotReady(
            "collective.gpu", "failed", "%d GPU(s)" % present, "%d GPUs on each node" % wanted,
            "see the health verdict of this node: a GPU is missing",
        )  # fmt: skip
    return wanted or present


def find_program(folder, op):
    """Return the path of the test."""
    program = os.path.join(folder, nccl_command.PROGRAMS[op])
    if not os.access(program, os.X_OK):
        raise NotReady(
            "collective.program", "failed", "no executable %s" % program, "nccl-tests, built with MPI=1 for more than one node",
            "install nccl-tests there (the Azure HPC image has /opt/nccl-tests/build) or set fabric_baseline_nccl_folder",
        )  # fmt: skip
    return program


def choose_launcher(args):
    """Return ``(launcher, path of mpirun or None)``."""
    path = nccl_command.find_mpirun(args["mpirun"], os.environ.get("PATH", ""))
    if args["launcher"] == "none" or (args["launcher"] == "auto" and not path and args["scope"] == "within"):
        return "none", None
    if not path:
        where = "at %s" % args["mpirun"] if args["mpirun"] else "on PATH or at %s" % ", ".join(nccl_command.MPIRUN_PLACES)
        raise NotReady(
            "collective.mpirun", "failed", "no mpirun %s" % where,
            "Open MPI on the first node", "install Open MPI or HPC-X, or set fabric_baseline_nccl_mpirun",
        )  # fmt: skip
    return "mpirun", path


def find_options(program, base):
    """Return the options of this build, which has to start for it."""
    usage, problem = nccl_run.usage(program, base)
    if problem:
        raise NotReady(
            "collective.program", "failed", "%s does not start: %s" % (program, problem), "a usage text from -h",
            "set fabric_baseline_nccl_library_path to the folders of its libraries (libnccl.so.2, libcudart, libmpi)",
        )  # fmt: skip
    return nccl_output.supported(usage)


OWN_KEY = (
    "see that the tasks which read its host keys and let mpirun's key in succeeded there, and what its sshd says (PermitRootLogin, "
    "AllowUsers, AuthorizedKeysFile, a locked account); a key is let in from the first node's own address only: where a node sees it by "
    "another one, or keys are managed elsewhere, set up ssh by hand and fabric_baseline_nccl_own_key: false"
)
OPERATORS_KEY = "give the first node's user a key that the others accept, and their host keys; see roles/fabric_baseline/README.md"


def check_ssh(addresses, base, config=None):
    """Raise where mpirun could not start its daemon on another node, with the key that was made for it where there is a ``config``."""
    if config and not os.access(config, os.R_OK):
        raise NotReady(
            "collective.ssh", "failed", "no readable %s" % config, "the key that was made for mpirun",
            "see the task that makes it: it failed, or another run's reset took it away; then run it again",
        )  # fmt: skip
    answers = [(address, nccl_run.reaches(address, base)) for address in addresses]
    unreachable = ["%s: %s" % (address, why) for address, why in answers if why]
    if unreachable:
        raise NotReady(
            "collective.ssh", "failed", "; ".join(unreachable), "ssh without a password from the first node to each other node",
            OWN_KEY if config else OPERATORS_KEY,
        )  # fmt: skip
