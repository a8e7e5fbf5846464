"""The commands that run nccl-tests: which runs a measurement needs, mpirun's options, the environment.

Everything that a site may want otherwise is data: an environment variable, MCA parameter or test option whose value
is None or "" is left out, so that an override can remove what a SKU sets.
"""

from __future__ import annotations

import glob
import os

from . import graph

PROGRAMS = {"all_reduce": "all_reduce_perf", "sendrecv": "sendrecv_perf"}

# Of the caller's environment only what finding programs, libraries and other nodes needs. NCCL_* is not among it, since what
# decides a measurement stands in the inventory, but for the switch with which a shared machine turns NVLink multicast off:
# dropping that could disturb others. Tokens are not either: nccl-tests write their environment to a file.
KEPT = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "SHELL", "TMPDIR", "LD_LIBRARY_PATH", "SSH_AUTH_SOCK", "CUDA_VISIBLE_DEVICES",
    "CUDA_HOME", "NCCL_NVLS_ENABLE",
)  # fmt: skip
EXPORTED = ("LD_LIBRARY_PATH", "NCCL_NVLS_ENABLE")  # to the other nodes too, with the value they have here
KEPT_PREFIXES = ("OMPI_", "OPAL_", "PMIX_", "PRTE_", "HPCX_")
# Azure's HPC images have HPC-X in /opt/hpcx-<version> and a plain Open MPI beside it; nccl-tests are built there with the first.
MPIRUN_PLACES = (
    "/opt/hpcx*/ompi/bin/mpirun",
    "/opt/openmpi-*/bin/mpirun",
    "/usr/mpi/gcc/openmpi*/bin/mpirun",
    "/usr/local/mpi/bin/mpirun",
    "/opt/amazon/openmpi/bin/mpirun",
)


def given(options):
    """Return the options that have a value, as text."""
    return {str(key): str(value) for key, value in options.items() if value is not None and str(value) != ""}


def find_mpirun(path, search="", places=MPIRUN_PLACES):
    """Return the mpirun at ``path``, or the first on the PATH ``search`` or where distributions of Open MPI put it; None without one."""
    if path:
        return path if os.access(path, os.X_OK) else None
    for folder in search.split(os.pathsep):
        candidate = os.path.join(folder, "mpirun")
        if folder and os.access(candidate, os.X_OK):
            return candidate
    found = [item for pattern in places for item in sorted(glob.glob(pattern)) if os.access(item, os.X_OK)]
    return found[0] if found else None


def base_environment(environ, library_path, mpirun):
    """Return the environment to start from; libraries of ``library_path`` and of mpirun go in front."""
    env = {key: value for key, value in environ.items() if key in KEPT or key.startswith(KEPT_PREFIXES)}
    folders = list(library_path)
    if mpirun:
        prefix = os.path.dirname(os.path.dirname(os.path.realpath(mpirun)))
        folders.append(os.path.join(prefix, "lib"))
        env["PATH"] = os.pathsep.join([os.path.dirname(mpirun), env.get("PATH", "/usr/bin:/bin")])
        if "hpcx" in prefix:
            env.setdefault("OPAL_PREFIX", prefix)  # HPC-X is relocatable and must be told where it is
    folders += [item for item in env.get("LD_LIBRARY_PATH", "").split(os.pathsep) if item]
    if folders:
        env["LD_LIBRARY_PATH"] = os.pathsep.join(dict.fromkeys(folders))
    return env


def ssh_argv(env):
    """Return the ssh that mpirun is told in its environment, as a command; ``ssh`` where it is told nothing or something else."""
    told = env.get("OMPI_MCA_plm_rsh_agent", "").split()
    return told if told[:1] == ["ssh"] else ["ssh"]


def agent_environment(config):
    """Return what makes mpirun start its daemons with ``config``, {} without one.

    The agent, and not its arguments (``plm_rsh_args``): mpirun's first look at the other node's shell leaves those out. Open MPI 4 and
    HPC-X read the first two. Open MPI 5 starts by PRRTE, whose component is called ssh; its environment reads alike in all releases, while
    ``--mca plm_rsh_agent`` is translated only since the end of 2023 (openpmix/prrte#1850). Without the tree each daemon is started from
    here, since only this node has the key. (orte/mca/plm/rsh/plm_rsh_component.c, prrte src/mca/plm/ssh/plm_ssh_component.c)
    """
    if not config:
        return {}
    agent = "ssh -F %s" % config  # mpirun splits it at blanks and colons
    return {
        "OMPI_MCA_plm_rsh_agent": agent, "OMPI_MCA_plm_rsh_no_tree_spawn": "1",
        "PRTE_MCA_plm_ssh_agent": agent, "PRTE_MCA_plm_ssh_no_tree_spawn": "1",
    }  # fmt: skip


def runs(plan, supports_json):
    """Return the runs ``[{"what", "options", "sizes"}]`` of a plan.

    ``plan`` has ``sizes`` (the grid, ascending, of one factor; may be empty), ``factor``, ``extra`` (sizes off the
    grid), ``point_bytes`` and ``cycles`` (0: no point), ``iterations``, ``warmup``, ``check``, ``per_iteration``. The
    tests step by a factor, so a size off the grid is a run of its own, and a point is one size with ``-N`` cycles. (The
    often copied ``-i 0 -f 0`` repeats a size too, for ever.) Those in a CUDA graph come last (``graph.runs``).
    """
    common = {"-n": plan["iterations"], "-w": plan["warmup"], "-c": plan["check"]}
    if plan.get("per_iteration"):
        common["-I"] = 1
    found = []
    if plan["sizes"]:
        span = {"-b": plan["sizes"][0], "-e": plan["sizes"][-1], "-f": plan["factor"]}
        found.append({"what": "sweep", "options": dict(span, **common), "sizes": list(plan["sizes"])})
    for size in plan["extra"]:
        found.append({"what": f"{size} bytes", "options": dict({"-b": size, "-e": size}, **common), "sizes": [size]})
    if plan["point_bytes"] and plan["cycles"]:
        point = {"-b": plan["point_bytes"], "-e": plan["point_bytes"], "-N": plan["cycles"]}
        found.append({"what": "point", "options": dict(point, **common), "sizes": [plan["point_bytes"]] * plan["cycles"]})
    found += graph.runs(plan)
    for number, item in enumerate(found):
        item["json"] = f"run{number}.json" if supports_json else None
    return found


def test_argv(program, gpus, run, test_options, folder):
    """Return the argv of one process of a test. ``test_options`` ({"-R": 1}) add to the run's and override them."""
    options = dict({"-g": gpus, "-t": 1}, **run["options"])
    options.update(test_options)
    if run["json"]:
        options["-J"] = os.path.join(folder, run["json"])
    return [program] + [part for key, value in given(options).items() for part in (key, value)]


def mpirun_argv(mpirun, nodes, ranks_per_node, hostfile, mca, extra_args, env, exported, as_root):
    """Return mpirun and its options; the test's argv follows. ``exported`` names variables whose value mpirun takes from its own."""
    argv = [mpirun]
    if as_root:
        argv.append("--allow-run-as-root")
    argv += ["-np", str(nodes * ranks_per_node), "--map-by", f"ppr:{ranks_per_node}:node"]
    if hostfile:
        argv += ["-hostfile", hostfile]
    for key, value in given(mca).items():
        argv += ["-mca", key, value]
    argv += list(extra_args)
    for name in exported:
        argv += ["-x", name]
    for name, value in given(env).items():
        argv += ["-x", f"{name}={value}"]
    return argv


def hostfile(addresses, ranks_per_node):
    """Return the text of an Open MPI host file."""
    return "".join(f"{address} slots={ranks_per_node}\n" for address in addresses)
