"""Findings about layouts: which is fastest, what crossing nodes costs, whether the numbers agree.

Standard library only.
"""

from __future__ import annotations

from ..format import digits, factor, interval
from ..records.benchmarks import METRICS
from ..records.layouts import describe
from ..records.reading import get, num

# Runs of one layout that differ by more than this are called unsteady: the study's own five runs
# differed by at most 1.2 % (0.4 of 34.3 tok/s), so 5 % is well outside of what a quiet node shows.
UNSTEADY_CV = 0.05

# Questions that are answered even where the two fastest layouts, which are compared anyway, answer them.
ALWAYS = ("layouts.tp_against_pp_across", "layouts.executor_parity", "layouts.runtime_parity")
# What a pair of these differs in, and nothing else: its difference is no doing of the network.
PARITY = {"layouts.executor_parity": "executor", "layouts.runtime_parity": "runtime"}

# Two starts of the same layout on the same nodes differ by so much: the study's five runs by 0.4 of 34.3 tok/s. Two starts of one server
# on an H200 differed by 0.62 % (tests/captures/h200: qwen7b, qwen7b.again), ten times as much as the samples of one start told.
STARTS_DIFFER = 0.012

# The summary's mean must be the mean of the runs; both are rounded to some digits by the tools.
AGREE = 0.01


def finding(name, level, claim, arithmetic=None, missing=None, values=None):
    """Return one finding; see :func:`.collect.findings`. ``values`` has what the claim is made of, for programs."""
    return {
        "id": name,
        "level": level,
        "claim": claim,
        "arithmetic": arithmetic,
        "missing": missing,
        "values": values or {},
    }


def mean(layout, metric):
    """Return the mean of a metric over a layout's runs, or None."""
    return num(get(layout["summary"], metric, "mean"))


def apart(one, two):
    """Return True/False: are two summaries told apart? None without intervals.

    Their 95 % intervals must not overlap, and their means must differ by more than two starts of one server do (:data:`STARTS_DIFFER`):
    the interval is of the samples of one start, and each layout was started once.
    """
    bounds = [num(get(item, key)) for item in (one, two) for key in ("ci95_low", "ci95_high")]
    if any(value is None for value in bounds) or min(num(get(item, "n")) or 0 for item in (one, two)) < 2:
        return None
    return not _overlap(*bounds) and not _as_two_starts(one, two)


def why_not_apart(one, two):
    """Return in words why two summaries are not told apart, where :func:`apart` says so."""
    if apart(one, two) is None:
        return "no interval is known"
    if _overlap(*[num(get(item, key)) for item in (one, two) for key in ("ci95_low", "ci95_high")]):
        return "the intervals overlap"
    return "two starts of the same layout differ by up to %s %%" % digits(100 * STARTS_DIFFER)


def _overlap(low, high, other_low, other_high):
    return not (high < other_low or other_high < low)


def _as_two_starts(one, two):
    means = [num(get(item, "mean")) or 0 for item in (one, two)]
    return min(means) > 0 and max(means) / min(means) <= 1 + STARTS_DIFFER


def layout_findings(found):
    """Return the findings about these layout records."""
    usable = [layout for layout in found if layout["usable"]]
    result = []
    ranked = sorted(usable, key=lambda layout: -mean(layout, "throughput_tok_s"))
    if len(ranked) > 1:
        result.append(_fastest(ranked[0], ranked[1]))
    elif not ranked:
        result.append(
            finding(
                "layouts.fastest",
                "no data",
                "No layout has a benchmark that may be compared.",
                missing="a healthy or degraded benchmark fact with summary.throughput_tok_s.mean",
            )
        )
    for name, one, two, lead in _pairs(usable):
        slow, fast = sorted((one, two), key=lambda layout: mean(layout, "throughput_tok_s"))
        if [fast, slow] != ranked[:2] or name in ALWAYS:
            result.append(_compare(name, fast, slow, lead))
    result += _left_out(found)
    result += _unsteady(usable)
    result += _disagreements(found)
    result += _identity(usable)
    return result


def _fastest(best, second):
    return _compare("layouts.fastest", best, second, "Of all layouts")


def _pairs(usable):
    """Yield ``(id, layout, layout, lead)`` for pairs that differ in one thing worth a sentence."""
    for one in usable:
        for two in usable:
            if one["name"] == two["name"] or not all(layout[key] for layout in (one, two) for key in ("ranks", "nodes")):
                continue
            same_ranks = one["ranks"] == two["ranks"]
            across = one["nodes"] > 1 and two["nodes"] > 1
            if all(one[key] and one[key] == two[key] for key in ("tp", "pp", "nodes")):
                yield from _parity(one, two)
            if across and same_ranks and one["tp"] > two["tp"]:
                yield (
                    "layouts.tp_against_pp_across",
                    one,
                    two,
                    "Tensor against pipeline parallelism across nodes, the same ranks",
                )
            if one["nodes"] > 1 and two["nodes"] == 1 and same_ranks and one["tp"] == two["tp"]:
                yield "layouts.crossing_nodes", one, two, "The same TP and PP across nodes and within one"
            if one["nodes"] == two["nodes"] == 1 and one["pp"] == two["pp"] and one["tp"] > two["tp"]:
                yield "layouts.more_ranks", one, two, "More ranks on one node"
            if one["nodes"] > 1 and two["nodes"] == 1 and same_ranks and one["pp"] > two["pp"]:
                yield "layouts.pipeline_across", one, two, "A pipeline across nodes against one node, the same ranks"


def _parity(one, two):
    """Yield what two runs of the same TP, PP and nodes answer: the executors under one runtime, the runtimes under one executor."""
    executors, runtimes = ([layout[key] for layout in (one, two)] for key in ("executor", "runtime"))
    if executors == ["ray", "mp"] and (None in runtimes or runtimes[0] == runtimes[1]):
        yield "layouts.executor_parity", one, two, "The same TP, PP and nodes under Ray and without it"
    if runtimes == ["docker", "host"] and executors[0] == executors[1]:
        yield "layouts.runtime_parity", one, two, "The same TP, PP and nodes in a container and on the host"


def _compare(name, fast, slow, lead):
    rates = [get(layout["summary"], "throughput_tok_s") for layout in (fast, slow)]
    ratio = rates[0]["mean"] / rates[1]["mean"] if rates[1]["mean"] else None
    disjoint = apart(*rates)
    numbers = "%s against %s" % tuple(interval(rate, "tok/s") for rate in rates)
    arithmetic = "%s / %s = %s (means; 95 %% intervals in brackets above)" % (
        digits(rates[0]["mean"]),
        digits(rates[1]["mean"]),
        digits(ratio),
    )
    names = describe(fast), describe(slow)
    if disjoint:
        level, end = "supported", "the intervals do not overlap"
        claim = "%s: %s is %s as fast as %s (%s); %s" % (lead, names[0], factor(ratio), names[1], numbers, end)
    elif disjoint is None:
        level, end = "no data", "no interval is known, so no difference is claimed"
        claim = "%s: %s measured %s as fast as %s (%s); %s" % (lead, names[0], factor(ratio), names[1], numbers, end)
    else:
        level, end = "overlap", why_not_apart(*rates)
        claim = "%s: %s and %s are not told apart (%s); %s" % (lead, names[0], names[1], numbers, end)
    if name in PARITY and disjoint:
        claim += ". Nothing but the %s differs: this is software, not the network" % PARITY[name]
    elif name not in PARITY:
        for key in ("executor", "runtime"):
            pair = [layout[key] for layout in (fast, slow)]
            if all(pair) and pair[0] != pair[1]:
                claim += ". They also differ in %s (%s, %s), so it need not all be the network" % (key, *pair)
    missing = "an interval for both: at least two runs each" if disjoint is None else None
    values = {"fast": fast["name"], "slow": slow["name"], "ratio": ratio}
    return finding(name, level, claim + ".", arithmetic, missing, values)


def _left_out(found):
    names = [layout["name"] for layout in found if not layout["usable"]]
    if names and len(names) < len(found):
        claim = "Not compared with the others: %s." % ", ".join(names)
        yield finding("layouts.left_out", "no data", claim, missing="a passing benchmark; the table above says why")


def _unsteady(usable):
    for layout in usable:
        cv = num(get(layout["summary"], "throughput_tok_s", "cv"))
        if cv is not None and cv > UNSTEADY_CV:
            stats = layout["summary"]["throughput_tok_s"]
            yield finding(
                "layouts.unsteady",
                "warning",
                "Runs of %s differ: coefficient of variation %s %%, above %s %%. Its mean says less than the spread."
                % (layout["name"], digits(cv * 100), digits(UNSTEADY_CV * 100)),
                "stdev / mean = %s / %s" % (digits(stats.get("stdev")), digits(stats.get("mean")))
                if num(stats.get("stdev")) is not None
                else None,
            )


def _disagreements(found):
    """Yield a warning wherever a summary's mean is not the mean of the runs that it summarises."""
    for layout in found:
        for metric in METRICS:
            values = [num(run.get(metric)) for run in layout["runs"]]
            stated = mean(layout, metric)
            if stated is None or not values or any(value is None for value in values):
                continue
            computed = sum(values) / len(values)
            if abs(computed - stated) > AGREE * max(abs(computed), abs(stated)):
                yield finding(
                    "layouts.summary_disagrees",
                    "warning",
                    "%s: the summary's mean %s is not the mean of its %d runs." % (layout["name"], metric, len(values)),
                    "summary %s, mean of runs %s" % (digits(stated), digits(computed)),
                )


def _identity(usable):
    """Check E2E = TTFT + (output tokens - 1) × TPOT, which holds when the three are one measurement."""
    worst = None
    for layout in usable:
        values = [mean(layout, metric) for metric in ("e2e_ms", "ttft_ms", "tpot_ms")]
        tokens = num(layout["measured"].get("output_len_tokens"))
        if tokens is None or any(not value for value in values):
            continue
        rebuilt = values[1] + (tokens - 1) * values[2]
        gap = abs(rebuilt - values[0]) / values[0]
        if worst is None or gap > worst[0]:
            worst = (gap, layout, values, tokens, rebuilt)
    if worst is None:
        return
    gap, layout, values, tokens, rebuilt = worst
    arithmetic = "%s: %s + (%d − 1) × %s = %s ms against E2E %s ms" % (
        layout["name"],
        digits(values[1]),
        tokens,
        digits(values[2]),
        digits(rebuilt),
        digits(values[0]),
    )
    if gap <= 0.02:
        claim = "TTFT, TPOT and E2E agree with each other to within %s %% in every layout." % digits(max(gap, 0.001) * 100)
        yield finding("layouts.identity", "supported", claim, "worst case, " + arithmetic)
    else:
        claim = "TTFT, TPOT and E2E of %s disagree by %s %%: they do not describe the same requests." % (
            layout["name"],
            digits(gap * 100),
        )
        yield finding("layouts.identity", "warning", claim, arithmetic)
