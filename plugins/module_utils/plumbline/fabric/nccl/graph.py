"""nccl-tests in a CUDA graph (``-G``), which is how decoding launches NCCL.

``-G n`` captures the ``-n`` operations of a size in one graph, launches that graph ``n`` times, and prints the host's time of all
launches, divided by the operations and by ``n`` (nccl-tests 2.19.6, src/common.cu, BenchTime): a mean, as without it, but with no
launch of an operation in it. The values are checked in a graph of one operation. ``-I`` does not go with it. A build for NCCL before
2.9 or CUDA before 11.3 ignores ``-G`` with a word, and its settings then say ``graph: 0``.

These runs come behind all others, which stand whatever becomes of them.
"""

from __future__ import annotations

OPTION = "G"
LIMIT_S = 180  # of one run: small messages take seconds, and a hang must not take the time of what was measured


def runs(plan):
    """Return the runs of a plan's small sizes: ``graph_launches`` (0: none) and ``graph_max_bytes``, besides those of ``command.runs``."""
    launches, most = plan.get("graph_launches", 0), plan.get("graph_max_bytes", 0)
    if not launches:
        return []
    common = {"-n": plan["iterations"], "-w": plan["warmup"], "-c": plan["check"], "-G": launches}
    grid = [size for size in plan["sizes"] if size <= most]
    found = []
    if grid:
        span = {"-b": grid[0], "-e": grid[-1], "-f": plan["factor"]}
        found.append({"what": "sweep in a graph", "options": dict(span, **common), "sizes": grid, "graph": launches})
    for size in plan["extra"]:
        if size <= most:
            options = dict({"-b": size, "-e": size}, **common)
            found.append({"what": f"{size} bytes in a graph", "options": options, "sizes": [size], "graph": launches})
    return found


def split(results):
    """Return ``(plain, in a graph)`` of ``[(run, result)]``."""
    return [item for item in results if not item[0].get("graph")], [item for item in results if item[0].get("graph")]


def whole(results):
    """Return those of the results in a graph that came to their end, in a graph, and those that have wrong values."""
    return [item for item in results if (item[1]["graph"] and item[1]["out_of_bounds"] and not item[1]["problems"]) or _wrong(item[1])]


def _wrong(result):
    return any((row[place] or {}).get("wrong") for row in result["rows"] for place in ("out_of_place", "in_place"))


def times(place, results):
    """Return ``{size: (mean µs of the placement, operations)}`` of the results in a graph that are whole."""
    found = {}
    for run, result in whole(results):
        operations = (result["iterations"] or run["options"]["-n"]) * run["graph"]
        for row in result["rows"]:
            half = row[place]
            if result["graph"] and half and half["time_us"]:
                found[row["size_bytes"]] = half["time_us"], operations
    return found


def add(sweep, place, results):
    """Add to the rows of a sweep their mean in a graph; return what that is, None where nothing was measured in one."""
    known = times(place, results)
    for row in sweep:
        if row["size_bytes"] in known:
            row["graph_time_us"] = {"mean": known[row["size_bytes"]][0]}
            row["graph_operations_per_sample"] = known[row["size_bytes"]][1]
    if not known:
        return None
    launches = results[0][0]["graph"]
    return {
        "option": f"-{OPTION} {launches}",
        "launches": launches,
        "time_us": "the host's time of all launches of a graph of -n operations, divided by both; the ranks' mean",
    }


def judge(measurement, options, planned, place, results, ended):
    """Say what became of the runs in a graph: ``planned`` are all, ``ended`` says why the last did not end well, None where it did."""
    if not planned or (OPTION in options and not results):
        return  # none were asked for, or a plain run failed before them and says so
    threshold = "the messages that decoding sends, in a CUDA graph"
    plain = "the plain numbers stand"
    if OPTION not in options:
        measurement.add(
            "collective.graph", "skipped", f"this build has no option -{OPTION}; {plain}", threshold, "install a newer nccl-tests"
        )
        return
    if ended:
        measurement.add(
            "collective.graph", "degraded", f"{ended}; {plain}", threshold,
            "serving launches graphs too: try vllm serve with --enforce-eager if it hangs as well; run the fact's command with "
            f"-{OPTION} {planned[0]['graph']} to see all it says",
        )  # fmt: skip
        return
    ignored = [run["what"] for run, result in results if not result["graph"]]
    lacking = sum(len(run["sizes"]) for run in planned) - len(times(place, results))
    if ignored:
        seen = f"nccl-tests do not say that they took -{OPTION} for the {', '.join(ignored)} (graph: in their settings); {plain}"
        measurement.add("collective.graph", "skipped", seen, threshold, "use a build for NCCL 2.9 and CUDA 11.3 or newer")
    elif lacking > 0:
        problems = "; ".join(dict.fromkeys(text for _run, result in results for text in result["problems"]))[:300]
        seen = f"{lacking} sizes lack a whole row: {problems or 'nothing says why'}; {plain}"
        measurement.add("collective.graph", "skipped", seen, threshold, "run it again")
