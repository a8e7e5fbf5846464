"""How fast a GPU reads its memory: measured numbers only, by the name that ``nvidia-smi`` prints."""

from __future__ import annotations

from . import nvidia


def gpu_names(tool=None):
    """Return the different names of this node's GPUs, in order; empty without one, or where the driver does not answer."""
    if not nvidia.is_present(nvidia.presence(tool)):
        return []
    try:
        code, stdout, _stderr = nvidia.run(nvidia.find_tool(tool), ["--query-gpu=name", "--format=csv,noheader"])
    except nvidia.NvidiaError:
        return []
    return list(dict.fromkeys(line.strip() for line in stdout.splitlines() if line.strip())) if code == 0 else []


def context(names, given_gbps, known):
    """Return ``{gpu_name, hbm_read_gbps, hbm_read_source}`` for the fact; rates in 10⁹ bytes per second, None where unknown.

    ``given_gbps`` above 0 wins; else ``known``, ``{name: {hbm_read_gbps, source}}``, decides. Of two models of GPU in one node neither
    stands for the layout.
    """
    name = names[0] if len(names) == 1 else None
    if given_gbps > 0:
        return {"gpu_name": name, "hbm_read_gbps": given_gbps, "hbm_read_source": "the variable hbm_read_gbps"}
    found = known.get(name) or {}
    return {"gpu_name": name, "hbm_read_gbps": found.get("hbm_read_gbps"), "hbm_read_source": found.get("source")}
