"""Judges what ``dcgmi diag`` answered: every test that its level owes, on each GPU, is accounted for.

What DCGM says is not taken at its word in three cases, each an issue of NVIDIA/DCGM:

- **284**: the memory test could not allocate memory, says so, and passes (before 4.6.0, where it fails).
- **272**: nvbandwidth fails before it measured, because the test before it still shows in the utilization (up to 4.5.0; 4.5.2 waits).
- **215**: 4.0 and 4.1 keep 16 messages of an answer. What is not told there is no evidence of anything.
"""

from __future__ import annotations

from ...core.fact import reason, worst
from ..evidence.dcgm_output import WHOLE_NODE
from . import dcgm_owed as known

ISSUE = "https://github.com/NVIDIA/DCGM/issues/%d"
REPLACE = "run the test again by name (`dcgmi diag -r %s -v`); if it fails again, give the node back with this text"
SHOWN = 3


def judge(answer, level, gpus, exit_code=0):
    """Return the reasons for an answer (``dcgm_output.parse``) of ``level``; ``gpus`` are DCGM's numbers of all that were asked for."""
    if answer["runtime_error"] is not None:
        status, remedy = known.meaning(answer["runtime_error"], exit_code)
        return [reason("dcgm", status, "DCGM %s: %s" % (answer["version"], answer["runtime_error"][:400]), "it runs to its end", remedy)]
    of_node, of_each = known.owed(answer["generation"], level)
    tests = answer["tests"]
    names = list(of_node) + list(of_each) + [name for name in tests if name not in of_node + of_each]
    reasons = []
    for name in names:
        expected = [WHOLE_NODE] if name in of_node else gpus if name in of_each else None
        reasons += _test(answer, name, tests.get(name), expected, gpus)
    return reasons + _messages(answer) + _exit(exit_code, reasons)


def false_alarm(answer):
    """Tell whether nvbandwidth failed with words about the utilization before it: then it is to be run again, alone (issue 272)."""
    test = answer["tests"].get(known.NVBANDWIDTH)
    if test is None or not any(item["status"] == "Fail" for item in test["results"]):
        return False
    return any(_is_memory_copy(error) for error in _all_errors(test))


def put_in(answer, again):
    """Return ``answer`` with nvbandwidth as the run of it alone, ``again``, has it; as it was where that has no results."""
    test = again["tests"].get(known.NVBANDWIDTH)
    if not test or not test["results"]:
        return answer
    return dict(answer, tests=dict(answer["tests"], **{known.NVBANDWIDTH: test}))


def counts(answer):
    """Return ``{test: {status in lower case: results}}``, for the fact."""
    found = {}
    for name, test in answer["tests"].items():
        for item in test["results"]:
            status = item["status"].lower().replace(" ", "_") or "none"
            found.setdefault(name, {}).setdefault(status, 0)
            found[name][status] += 1
    return found


def _all_errors(test):
    """Return all errors of a test, those that stand in its summary too once."""
    found = [error for item in test["results"] for error in item["errors"]]
    return found + [error for error in test["errors"] if error not in found]


def _is_memory_copy(error):
    return error["code"] == known.FIELD_THRESHOLD_TS and bool(known.MEMORY_COPY.search(error["text"]))


def _test(answer, name, test, expected, gpus):
    """Return the reasons for one test; ``expected`` are the GPUs that owe a result, None where nothing is owed."""
    check = "dcgm." + (name or "unnamed")
    if test is None or not test["results"]:
        return [_missing(check, name, expected)] if expected else []
    judged = {}
    for item in test["results"]:
        if expected == [WHOLE_NODE]:
            item = dict(item, gpu=WHOLE_NODE)  # with an error it has the GPU of that
        if item["gpu"] is not WHOLE_NODE and item["gpu"] not in gpus:
            continue  # a GPU that was not asked for
        status, text, remedy = _result(answer, name, test, item)
        judged.setdefault((status, text, remedy), []).append(item["gpu"])
    reasons = [
        reason(check, status, "%s: %s" % (_names(which), text), None if status in ("healthy", "skipped") else "passes", remedy)
        for (status, text, remedy), which in judged.items()
    ]
    told = {gpu for which in judged.values() for gpu in which}
    lost = [gpu for gpu in expected or () if gpu not in told]
    if lost:
        reasons.append(_missing(check, name, lost))
    return reasons + _summary(check, test, reasons)


def _missing(check, name, which):
    where = "" if which == [WHOLE_NODE] else " of %s" % _names(which)
    return reason(check, "incomplete", "no result%s: DCGM left the test out" % where, "a result of each owed test", known.PACKAGES)


def _summary(check, test, reasons):
    """Return what the test's own summary says beyond its results: a failure, or an error of no GPU."""
    elsewhere = any(item["status"] == "Fail" for item in test["results"])  # at a GPU that was not asked for
    if elsewhere or worst(item["status"] for item in reasons) in ("failed", "incomplete", "degraded"):
        return []
    told = [error for item in test["results"] for error in item["errors"]]
    alone = [error for error in test["errors"] if error not in told]
    if test["summary"] == "Fail" or alone:
        text = "no result of it is bad, its summary says %s%s" % (test["summary"] or "nothing", _words(alone))
        return [reason(check, "incomplete", text, "results and summary agree", known.LOOK)]
    return []


def _names(which):
    numbered = sorted(gpu for gpu in which if gpu is not WHOLE_NODE)
    return "GPU %s" % ", ".join(map(str, numbered)) if numbered else "the node"


def _words(errors):
    texts = list(dict.fromkeys(error["text"] or "error %s" % error["code"] for error in errors))
    more = " and %d more" % (len(texts) - SHOWN) if len(texts) > SHOWN else ""
    return ": " + "; ".join(text[:300] for text in texts[:SHOWN]) + more if texts else ""


def _result(answer, name, test, item):
    """Return ``(status, text, remedy)`` of one result."""
    status = item["status"].lower()
    if status == "pass":
        return _passed(answer, name, item["errors"])
    if status == "skip":
        return _skipped(answer, name, test, item)
    if status in ("fail", "warn"):
        return _failed(answer, name, test, item)
    return "incomplete", "DCGM says %r, neither pass, fail nor skip" % item["status"], known.LOOK


def _passed(answer, name, errors):
    if not errors:
        return "healthy", "passed", None
    if any(error["code"] == known.MEMORY_ALLOC for error in errors):
        text = "DCGM %s says Pass, and that it could not allocate the memory to test%s (DCGM issue 284, %s)"
        remedy = "see who holds GPU memory (nvidia-smi), end it and run again; DCGM 4.6.0 and newer call this a failure"
        return "incomplete", text % (answer["version"], _words(errors), ISSUE % 284), remedy
    if name == known.NVBANDWIDTH and all(_is_memory_copy(error) for error in errors):
        return "degraded", "passed, while something else copied memory%s" % _words(errors), "see what uses the GPUs, then run again"
    return "incomplete", "DCGM says Pass, and an error with it%s" % _words(errors), REPLACE % name


def _skipped(answer, name, test, item):
    errors = item["errors"] or _all_errors(test)
    said = [text for text in item["info"] + test["info"] + [error["text"] for error in errors] if text]
    aborted = any(error["code"] == known.ABORTED for error in errors)
    why = "; ".join(dict.fromkeys(said))[:300]
    if aborted:
        return "incomplete", "stopped before its end: %s" % why, "somebody stopped the diagnostic: run again"
    if name in known.OPTIONAL:
        return "skipped", "not run: %s" % (why or "its program is not installed"), None
    if said and all(known.NOT_FOR_THIS_GPU.search(text) for text in said):
        return "skipped", "DCGM does not run it on this GPU: %s" % why, None
    if not why:
        return "incomplete", "skipped, and no reason is told%s" % _why_untold(answer), known.UNTOLD
    return "incomplete", "skipped: %s" % why, "put right what it names, then run again with --tags node_health"


def _why_untold(answer):
    if _is_full(answer):
        return " (DCGM %s keeps %d messages of an answer, all places are taken: issue 215)" % (answer["version"], known.INFO_MAX_40)
    # Its words for a test that the table of SKUs does not allow go to its log alone (Plugin::AddInfo in nvvs).
    return " (DCGM 3 does not tell when its table of SKUs does not allow a test: issue 55)" if answer["generation"] == 3 else ""


def _failed(answer, name, test, item):
    # Where a test ends at one GPU's error, all others fail with it and have no word of their own.
    own = item["errors"] or _all_errors(test)
    if name == known.NVBANDWIDTH and own and all(_is_memory_copy(error) for error in own):
        text = "DCGM %s says Fail before it measured anything%s (DCGM issue 272, %s)" % (answer["version"], _words(own), ISSUE % 272)
        return "incomplete", text, "see what uses the GPUs; update DCGM to 4.5.2 or newer; `dcgmi diag -r nvbandwidth` runs it alone"
    text = "failed" + (_words(own) or ", without a word why")
    codes = {error["code"] for error in own}
    if codes and codes <= {known.PERSISTENCE_MODE}:
        return "degraded", text, "`systemctl enable --now nvidia-persistenced`"
    if codes and codes <= set(known.NOT_MADE):
        return "incomplete", "could not be made%s" % _words(own), known.LOOK
    return "failed", text, REPLACE % name


def _is_full(answer):
    """Tell whether messages may have been dropped: issue 215."""
    return known.version_of(answer["version"])[:2] in ((4, 0), (4, 1)) and answer["info_count"] >= known.INFO_MAX_40


def _exit(exit_code, reasons):
    """Return what is wrong with the exit code of a whole answer: it may not contradict the results."""
    if not exit_code or any(item["status"] in ("failed", "incomplete", "degraded") for item in reasons):
        return []
    status, remedy = known.meaning("", exit_code)
    return [
        reason("dcgm", worst(["incomplete", status]), "every result passes, and dcgmi ended with %d" % exit_code, "exit code 0", remedy)
    ]


def _messages(answer):
    """Return what is to be said of the answer as a whole: whether it kept all of its messages."""
    found = []
    if _is_full(answer):
        text = "DCGM %s keeps %d messages of an answer, and all places are taken: numbers such as a bandwidth may be left out (issue 215)"
        found.append(reason("dcgm.messages", "skipped", text % (answer["version"], known.INFO_MAX_40), "DCGM 4.2 or newer keeps 128"))
    if answer["generation"] == 4 and answer["errors_count"] >= known.ERRORS_MAX_4:
        text = "DCGM keeps %d errors of an answer, and all places are taken: a pass may have lost its own" % known.ERRORS_MAX_4
        found.append(reason("dcgm.errors", "incomplete", text, "fewer", "mend what is named here, then run again"))
    return found
