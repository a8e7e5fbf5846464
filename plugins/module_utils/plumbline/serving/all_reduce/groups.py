"""Which tensor-parallel groups the layouts make, and on which nodes: what there is to measure.

vLLM numbers ranks through the nodes, the head's first, and those of one tensor-parallel group follow each other (its
``initialize_model_parallel``): a group of no more ranks than a node has stays within it, a larger one takes several nodes whole.
"""

from __future__ import annotations

from ..command import checked_layout, native, ranks_on

NO_CUSTOM = "--disable-custom-all-reduce"
# Variables of a layout that decide how its ranks reduce: two layouts that differ in others only are measured once.
DECIDING = ("NCCL_", "CUDA_", "VLLM_ALLREDUCE_", "VLLM_USE_NCCL_", "VLLM_BATCH_INVARIANT", "VLLM_SKIP_P2P_CHECK", "VLLM_DISTRIBUTED_")


def groups(layouts, extra_args=()):
    """Return the groups ``[{"tp", "nodes", "ranks_per_node", "custom", "env", "used_by", "layouts"}]`` of several ranks.

    ``nodes`` is how many one group spans, ``used_by`` how many nodes, from the first on, have such a group. Those over nodes come
    first: all nodes start them at once. ``extra_args`` are those of every layout. What is no layout is left out: preflight names it.
    """
    found = {}
    for given in layouts:
        try:
            layout = checked_layout(given)
        except (ValueError, AttributeError, TypeError):
            continue
        here = ranks_on(layout)
        if layout["tp"] < 2 or not here or (layout["tp"] > here and layout["tp"] % here):
            continue
        spans = max(1, layout["tp"] // here)
        # vLLM has no custom kernel in any group of a layout that it spreads over nodes itself (its ParallelConfig: nnodes > 1).
        custom = not native(dict(layout, executor=layout.get("executor"))) and NO_CUSTOM not in [
            str(item) for item in (*extra_args, *(layout.get("extra_args") or ()))
        ]
        env = {key: value for key, value in (layout.get("env") or {}).items() if str(key).startswith(DECIDING)}
        key = layout["tp"], spans, custom, tuple(sorted((key, str(value)) for key, value in env.items()))
        group = found.setdefault(
            key,
            {"tp": layout["tp"], "nodes": spans, "ranks_per_node": layout["tp"] // spans, "custom": custom, "env": env,
             "used_by": spans, "layouts": []},
        )  # fmt: skip
        if spans == 1:
            group["used_by"] = max(group["used_by"], layout["nodes"])
        group["layouts"].append(layout["name"])
    return sorted(found.values(), key=lambda group: (-group["nodes"], group["tp"], not group["custom"], group["layouts"]))


def of_node(found, node_rank):
    """Return those of the groups in which the node of this rank takes part."""
    return [group for group in found if node_rank < group["used_by"]]


def named(group):
    """Return a group in words: ``TP2 on 1 node``."""
    text = "TP%d on %d node%s" % (group["tp"], group["nodes"], "" if group["nodes"] == 1 else "s")
    return text + ("" if group["custom"] else " without the custom kernel")
