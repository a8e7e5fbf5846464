"""From the rows of nccl-tests to a fact: what was measured, and each way in which it is bad."""

from __future__ import annotations

from ...core.stats import quantile
from .. import collective, transport
from . import graph, output

OUTLIER_SHARE = 0.05  # of the median: a value further away than this, and than 1.5 interquartile ranges, is an outlier


def placement_of(op, ranks):
    """Return the placement that stands for a row: in place, as published numbers are.

    In-place sendrecv is printed and not checked ("We don't support in-place sendrecv", sendrecv.cu), and an in-place
    all-reduce of one rank moves nothing: out of place there.
    """
    return "in_place" if op == "all_reduce" and ranks > 1 else "out_of_place"


def _times(item):
    """Return ``time_us``: all statistics where each iteration is known (``-I 1``), else only the mean that is printed."""
    mean = {"mean": item["time_us"]}
    times = item.get("times_us")
    if not times:
        return mean
    return dict(
        mean,
        min=round(min(times), 3),
        median=round(quantile(times, 0.5), 3),
        p90=round(quantile(times, 0.9), 3),
        max=round(max(times), 3),
    )


def row(item, op, ranks, iterations):
    """Return a row of the fact's sweep. ``time_us``, algbw and busbw are those of ``placement``; both are kept beside."""
    name = placement_of(op, ranks)
    if not item[name]:
        name = "in_place" if name == "out_of_place" else "out_of_place"
    main = item[name]
    return {
        "size_bytes": item["size_bytes"],
        "iterations": iterations,
        "placement": name,
        "time_us": _times(main),
        "algbw_gbps": main["algbw_gbps"],
        "busbw_gbps": main["busbw_gbps"],
        **{
            each: {key: item[each][key] for key in ("time_us", "algbw_gbps", "busbw_gbps", "wrong")} if item[each] else None
            for each in ("out_of_place", "in_place")
        },
    }


def spread(values):
    """Return the median, the range, and the outliers of bus bandwidths."""
    median = quantile(values, 0.5)
    reach = 1.5 * (quantile(values, 0.75) - quantile(values, 0.25))
    reach = max(reach, OUTLIER_SHARE * median)
    outliers = sorted(value for value in values if abs(value - median) > reach)
    return {
        "n": len(values),
        "median": collective.significant(median),
        "min": min(values),
        "max": max(values),
        "outliers": len(outliers),
        "outlier_low": outliers[0] if outliers else None,
        "outlier_high": outliers[-1] if outliers else None,
    }


def point(rows, size_bytes, iterations):
    """Return the point: bus bandwidth of each cycle at one size, for both placements; None without a row."""
    mine = [item for item in rows if item["size_bytes"] == size_bytes]
    if not mine:
        return None
    result = {"size_bytes": size_bytes, "cycles": len(mine), "iterations_per_cycle": iterations}
    for name in ("in_place", "out_of_place"):
        values = [item[name]["busbw_gbps"] for item in mine if item[name] and item[name]["busbw_gbps"] is not None]
        result[name] = dict(spread(values), busbw_gbps=values) if values else None
    return result


def measured(op, ranks, nodes, results):
    """Return a fact's ``measured`` from ``[(run, result)]``. Without a row only ranks and nodes are there."""
    found = {"ranks": ranks, "nodes": nodes}
    sweep, at = {}, None
    plain, in_graph = graph.split(results)
    for run, result in plain:
        iterations = result["iterations"] or run["options"]["-n"]
        if run["what"] == "point":
            at = point(result["rows"], run["sizes"][0], iterations)
            continue
        for item in result["rows"]:
            if item["in_place"] or item["out_of_place"]:
                sweep[item["size_bytes"]] = row(item, op, ranks, iterations)
    rows = [sweep[size] for size in sorted(sweep)]
    in_a_graph = graph.add(rows, placement_of(op, ranks), in_graph)
    if rows:
        found.update(collective.summary(rows))
    if in_a_graph:
        found["graph"] = in_a_graph
    if at:
        found["point"] = at
    return found


def judge_completeness(measurement, results):
    """Add the reasons on rows that are missing, and on memory that made the test stop at smaller messages."""
    missing, reduced, problems = [], [], []
    total = 0
    for run, result in results:
        total += len(run["sizes"])
        left = list(run["sizes"])
        for item in result["rows"]:
            if item["size_bytes"] in left:
                left.remove(item["size_bytes"])
        limit = result["reduced_max_bytes"]
        if limit:
            reduced.append(limit)
            if run["what"] == "sweep":
                left = [size for size in left if size <= limit]
        missing += left
        problems += result["problems"] + _surplus(run, result)
    if reduced:
        measurement.add(
            "collective.memory", "degraded", f"the test reduced the largest message to {min(reduced)} bytes: not enough GPU memory",
            "the asked largest message", "free the GPUs (nvidia-smi: who holds memory?) or ask for less (fabric_baseline_nccl_max_bytes)",
        )  # fmt: skip
    if missing or not total:
        sizes = ", ".join(map(str, sorted(set(missing))[:12]))
        measurement.add(
            "collective.sweep", "incomplete", f"{total - len(missing)} of {total} rows, missing {sizes or 'all'} bytes",
            "every size of the sweep, and every cycle of the point", "read the reason beside this one, then run it again",
        )  # fmt: skip
    else:
        measurement.add("collective.sweep", "healthy", f"{total} rows", "every size of the sweep, and every cycle of the point")
    if problems:
        measurement.add(
            "collective.output", "incomplete", "; ".join(dict.fromkeys(problems))[:600], "output of a known format, without an error",
            "run the fact's command by hand and compare with the formats in docs/fabric.md",
        )  # fmt: skip
    transport.judge_warnings(measurement, [text for _run, result in results for text in result["warnings"]], "collective.warnings")


def _surplus(run, result):
    """Return what is wrong with rows that nobody asked for: another process wrote them, and which number is this run's is not known.

    A size may have rows of several types and operations (``-d all``, ``-o all``). A test that was short of memory measures its limit.
    """
    found = {}
    for item in result["rows"]:
        if not (result["reduced_max_bytes"] and item["size_bytes"] <= result["reduced_max_bytes"]):
            key = (item["size_bytes"], item.get("type"), item.get("redop"), item.get("root"))
            found[key] = found.get(key, 0) + 1
    return [
        f"{count} row(s) of {key[0]} bytes where {run['sizes'].count(key[0])} were asked for"
        for key, count in found.items()
        if run["sizes"] and count > run["sizes"].count(key[0])
    ]


def judge_values(measurement, op, results):
    """Add the reason on wrong results: ``#wrong`` and ``Out of bounds values`` both count, unchecked ones are no pass."""
    wrong, unchecked, checked, bounds, unbounded = [], [], 0, [], 0
    for run, result in results:
        for item in result["rows"]:
            for name in ("out_of_place", "in_place"):
                if op == "sendrecv" and name == "in_place":
                    continue  # never checked by the tests
                half = item[name]
                if half and half["wrong"]:
                    wrong.append(f"{half['wrong']} at {item['size_bytes']} bytes {name.replace('_', ' ')}")
                elif half and half["wrong"] is None:
                    unchecked.append(item["size_bytes"])
                elif half:
                    checked += 1
        if result["out_of_bounds"] and not result["out_of_bounds"]["ok"]:
            bounds.append(f"out of bounds values: {result['out_of_bounds']['count']} in the run of {run['what']}")
        unbounded += result["rows"] != [] and not result["out_of_bounds"]
    threshold = "#wrong 0 in every row, and Out of bounds values: 0 OK"
    if wrong or bounds:
        measurement.add(
            "collective.values", "failed", "; ".join(wrong[:8] + bounds), threshold,
            "do not use these nodes: data was corrupted; look at ECC, NVLink and link error counters, and at the NCCL version",
        )  # fmt: skip
    elif unchecked or unbounded:
        measurement.add(
            "collective.values", "incomplete", f"{len(unchecked)} results were not checked, {unbounded} runs have no line on bounds",
            threshold, "let nccl-tests check (fabric_baseline_nccl_check: 1), and let the run end",
        )  # fmt: skip
    elif checked:
        measurement.add("collective.values", "healthy", f"{checked} results checked, none wrong", threshold)
    elif any(result["rows"] for _run, result in results):
        measurement.add(
            "collective.values", "incomplete", "no result was checked", threshold,
            "measure out of place too: nccl-tests never check a sendrecv in place",
        )  # fmt: skip


def judge_devices(measurement, results, ranks, hosts):
    """Add a failure where the ranks are not those that were asked for.

    nccl-tests built without MPI start once for each process and measure nothing between them: every process is rank 0. A list
    that lacks a rank in its middle, or has a line that cannot be read, was damaged on its way: that says nothing of the ranks.
    """
    for _run, result in results:
        if _right_devices(measurement, result, ranks, hosts):
            continue
        devices = result["devices"]
        numbers = sorted(item["rank"] for item in devices if item["rank"] is not None)
        names = {str(item["host"]) for item in devices}
        seen = f"{len(devices)} devices with ranks {', '.join(map(str, numbers[:16]))} on {len(names)} host(s) {', '.join(sorted(names))}"
        threshold = f"ranks 0 to {ranks - 1} on {hosts} host(s)"
        if _damaged(result, numbers, ranks):
            measurement.add(
                "collective.ranks", "incomplete", seen + ": the list is not whole", threshold,
                "run it again with nothing else writing into its output, or with tags (mpirun --tag-output)",
            )  # fmt: skip
        else:
            measurement.add(
                "collective.ranks", "failed", seen, threshold,
                "nccl-tests were built without MPI=1: each process measured itself; install a build with MPI"
                if numbers.count(0) > 1 or len(devices) < ranks else "check the host file's addresses and the host names of the nodes",
            )  # fmt: skip
        return


def _right_devices(measurement, result, ranks, hosts):
    """Return whether a result's devices are the right ones, or nothing was measured that they could tell of."""
    devices = result["devices"]
    if not devices:
        return result["format"] != "text" or not result["rows"]
    numbers = sorted(item["rank"] for item in devices if item["rank"] is not None)
    if len({str(item["host"]) for item in devices}) != hosts:
        return False
    each = result["devices_per_process"] or 1
    if numbers == list(range(ranks)):
        if result["devices_listed"] is not None:
            seen = f"ranks 0 to {ranks - 1} by the text's list of devices, the JSON lists {result['devices_listed']}"
            measurement.add("collective.ranks", "healthy", seen, "every rank")
        return True
    # The JSON has the first device of each process only.
    if result["devices_from"] == "json" and each > 1 and len(numbers) * each == ranks and numbers == list(range(0, ranks, each)):
        seen = f"{len(numbers)} process(es) of {each} GPUs by the JSON's config, which lists the first device of each"
        measurement.add("collective.ranks", "healthy", seen, "every rank")
        return True
    return False


def _damaged(result, numbers, ranks):
    """Return whether a list of devices is no whole one, so that what it lacks may have been there."""
    distinct = len(set(numbers)) == len(numbers) and set(numbers) <= set(range(ranks))
    if result["devices_from"] == "json" and numbers == list(range(0, ranks, result["devices_per_process"] or 1)):
        return False  # the first device of each process, and all of them
    torn = any(problem.startswith(output.DEVICE_LINE) for problem in result["problems"])
    return distinct and (torn or numbers != list(range(len(numbers))) or not numbers)


def _bandwidth(found, item):
    """Return ``(bus bandwidth, what it is)`` at a threshold's size: the point's median, else the sweep's row."""
    name = item.get("placement", "in_place")
    at = found.get("point")
    if at and at["size_bytes"] == item["size_bytes"] and at.get(name):
        return at[name]["median"], f"median of {at[name]['n']} cycles"
    for each in found.get("sweep", []):
        if each["size_bytes"] == item["size_bytes"] and each.get(name):
            return each[name]["busbw_gbps"], "sweep"
    return None, "not measured"


def fits(item, op, scope, ranks, nodes):
    """Return whether a threshold is about this measurement."""
    return item["op"] == op and item["scope"] == scope and item.get("ranks", ranks) == ranks and item.get("nodes", nodes) == nodes


def wrong_threshold(thresholds):
    """Return what is wrong with the first threshold that :func:`judge_thresholds` cannot take, None when nothing is."""
    for item in thresholds:
        missing = {"op", "scope", "size_bytes"} - set(item)
        one = {"min_busbw_gbps", "expect_busbw_gbps", "expect_time_us"} & set(item)
        if missing or len(one) != 1:
            return f"threshold {item}: needs op, scope, size_bytes and exactly one of min_busbw_gbps, expect_busbw_gbps, expect_time_us"
    return None


def judge_thresholds(measurement, thresholds, op, scope):
    """Add a reason for each threshold of this SKU; without one, ``skipped``: no baseline is known.

    A threshold has ``op``, ``scope``, ``size_bytes``, ``source``, perhaps ``ranks``, ``nodes`` and ``placement``, and one of
    ``min_busbw_gbps`` (below it: failed), ``expect_busbw_gbps`` or ``expect_time_us`` with ``tolerance`` (off by more:
    degraded).
    """
    found = measurement.measured
    mine = [item for item in thresholds if fits(item, op, scope, found["ranks"], found["nodes"])]
    if not any("min_busbw_gbps" in item for item in mine):
        measurement.add(
            "collective.baseline", "skipped", "no baseline is known for this machine, operation and number of ranks", None,
            "set sku_name, or nccl.thresholds of the SKU in sku_overrides",
        )  # fmt: skip
    for item in mine:
        size, source = item["size_bytes"], item.get("source", "the inventory")
        if "expect_time_us" in item:
            _judge_latency(measurement, found, item, size, source)
            continue
        value, how = _bandwidth(found, item)
        where = f"{value} GB/s bus bandwidth at {size} bytes, {item.get('placement', 'in_place').replace('_', ' ')} ({how})"
        if "min_busbw_gbps" in item:
            limit, check, bad = item["min_busbw_gbps"], "collective.baseline", "failed"
            threshold = f"at least {limit} GB/s ({source})"
            remedy = "run the pairwise rounds to find the node, and look at NVLink, link widths, topology file and clocks"
        else:
            limit = item["expect_busbw_gbps"] * (1 - item.get("tolerance", 0.05))
            check, bad = "collective.expectation", "degraded"
            threshold = f"{item['expect_busbw_gbps']} GB/s, less {item.get('tolerance', 0.05):.0%} ({source})"
            remedy = "compare the environment with the SKU's (docs/fabric.md); repeat it when nothing else runs"
        if value is None:
            measurement.add(check, "incomplete", f"{size} bytes were not measured", threshold, "let the sweep or the point have this size")
        elif value < limit:
            measurement.add(check, bad, where, threshold, remedy)
        else:
            measurement.add(check, "healthy", where, threshold)


def _judge_latency(measurement, found, item, size, source):
    limit = item["expect_time_us"] * (1 + item.get("tolerance", 0.5))
    threshold = f"{item['expect_time_us']} µs, plus {item.get('tolerance', 0.5):.0%} ({source})"
    times = [each["time_us"] for each in found.get("sweep", []) if each["size_bytes"] == size]
    if not times:
        measurement.add("collective.latency", "incomplete", f"{size} bytes were not measured", threshold, "let the sweep have this size")
        return
    value, _name = collective.typical(times[0])
    bad = value is None or value > limit
    measurement.add(
        "collective.latency", "degraded" if bad else "healthy", f"{value} µs at {size} bytes", threshold,
        "decode sends this message: check clocks, CPU affinity, NCCL_ALGO and NCCL_PROTO, and the transport" if bad else None,
    )  # fmt: skip


def traffic(op, ranks, nodes, results):
    """Return the bytes that one node sends to the others at least, by a ring that crosses its links once."""
    if nodes < 2 or ranks < 2:
        return 0
    total = 0
    for run, result in results:
        iterations = result["iterations"] or run["options"]["-n"]
        halves = sum(bool(item[name]) * item["size_bytes"] for item in result["rows"] for name in ("out_of_place", "in_place"))
        total += halves * iterations * run.get("graph", 1)
    return int(total * collective.busbw_factor(op, ranks))
