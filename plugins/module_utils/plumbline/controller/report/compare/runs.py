"""A run against an earlier one: which one, what differs between them, and where the interval says that a number does."""

from __future__ import annotations

import json
import math
import os

from ..data import NotARunFolder, load
from ..records.collect import collect
from ..records.reading import get, text
from . import index
from .judge import UNKNOWN, judge, successive
from .metrics import LAYOUT, NODE, measured_in, title

# Equal runs before this one that say how far equal runs differ: the last so many.
LOOKED_BACK = 20
# What does not make two runs unequal, and is said where it differs: the reason may be there.
ABOUT = ("vllm_version", "nccl_version", "torch_version", "driver", "kernel", "image_id", "plumbline_version")
# With a run that somebody names, only these have to be the same; what else differs is said.
NAMED_ALIKE = ("model", "tp", "pp", "nodes")


class NoSuchRun(ValueError):
    """The run that somebody named is not there, or is no run."""


def about(data):
    """Return what a run was made with, by name: each value once, sorted."""
    found = {"plumbline_version": {str(data["run"]["plumbline_version"] or "")}}
    for entry in data["facts"]:
        for key in ABOUT:
            value = text(get(entry["fact"], "context", key))
            if value:
                found.setdefault(key, set()).add(value)
    return {key: sorted(values - {""}) for key, values in found.items() if values - {""}}


def started_at(data):
    """Return when a run started, as text that sorts: as run.json says, else its first fact."""
    facts = [str(get(entry["fact"], "started_at") or "") for entry in data["facts"]]
    return str(data["run"]["started_at"] or min((at for at in facts if at), default=""))


def read(folder, schema_dir):
    """Return the :class:`index.Run` of a folder; None where it is no run folder or holds nothing that can be read."""
    try:
        records = collect(load(folder, schema_dir))
    except (NotARunFolder, OSError):
        return None
    return of_records(records, os.path.basename(os.path.abspath(folder)))


def of_records(records, folder):
    """Return the :class:`index.Run` of a run's records."""
    data = records.data
    return index.Run(folder, data["run"]["run_id"], started_at(data), about(data), measured_in(records))


def named(name, results_dir, schema_dir):
    """Return the run that somebody names, by its id in ``results_dir`` or by a path. Raises :class:`NoSuchRun`."""
    places = [os.path.join(results_dir, name), os.path.abspath(os.path.expanduser(name))]
    for place in places:
        found = read(place, schema_dir) if os.path.isdir(place) else None
        if found:
            return found
    raise NoSuchRun("no run to compare with: neither %s is a run folder. See `ls %s`." % (" nor ".join(places), results_dir))


def before(this, runs):
    """Return the runs that started before this one, so that rendering an old run again says what it said."""
    return [run for run in runs if run.started_at < this.started_at and run.run_id != this.run_id]


def compared(this, earlier, other=None):
    """Return ``[{scope, subject, metric, title, unit, run, then, now, runs, differs_in, better, ...}]``: a run against earlier ones.

    ``this`` is the run, ``earlier`` all others of the index, the oldest first, ``other`` the run that somebody named, None for the last
    equal one, which may be another one for each layout. The rest of an item is what :func:`judge.judge` says.
    """
    earlier = before(this, earlier)
    pairs = [(item, *_other(item, earlier, other)) for item in this.measured]
    pairs = [pair for pair in pairs if pair[1] is not None]
    spreads = _of_nodes_together(pairs, earlier)
    counts = {scope: sum(pair[0].scope == scope for pair in pairs) for scope in (LAYOUT, NODE)}
    return [_item(this, *pair, spreads, earlier, counts[pair[0].scope]) for pair in pairs]


def equal(item, runs):
    """Return ``[(run, measured)]`` of the earlier runs that measured the same under the same conditions, the oldest first."""
    found = []
    for run in runs:
        mine = run.of_subject(item)
        # A layout may have been called otherwise; a node is that node.
        if not mine and item.scope == LAYOUT and len(run.same(item)) == 1:
            mine = run.same(item)
        found += [(run, one) for one in mine]
    return found


def _other(item, earlier, other):
    """Return ``(run, measured)`` to compare with, ``(None, None)`` where there is none."""
    if other is None:
        return (equal(item, earlier) or [(None, None)])[-1]
    same = equal(item, [other]) or _alike(item, other)
    return same[-1] if same else (None, None)


def _alike(item, run):
    """Return what a named run measured of a layout of the same model and shape: of one name first, else where there is only one."""
    if item.scope != LAYOUT:
        return []
    mine = json.loads(item.key)
    found = [one for one in run.measured if one.scope == LAYOUT and one.metric == item.metric]
    found = [one for one in found if all(json.loads(one.key)[key] == mine[key] for key in NAMED_ALIKE)]
    best = [one for one in found if one.subject == item.subject] or found
    return [(run, best[0])] if len(best) == 1 else []


def _of_nodes_together(pairs, earlier):
    """Return ``{(key, metric): (variance, differences)}``: how far equal runs differ in a number of one node, over all equal nodes."""
    found = {}
    for item, _run, _then in pairs:
        if item.scope == NODE:
            variance, differences = successive([one.sample.mean for _run, one in equal(item, earlier)[-LOOKED_BACK:]])
            if differences:
                total = found.setdefault((item.key, item.metric), [0.0, 0])
                total[0] += variance * differences
                total[1] += differences
    return {key: (total / count, count) for key, (total, count) in found.items()}


def _item(this, item, run, then, spreads, earlier, comparisons):
    history = equal(item, earlier)[-LOOKED_BACK:]
    between = (
        spreads.get((item.key, item.metric), (None, 0)) if item.scope == NODE else successive([one.sample.mean for _r, one in history])
    )
    name, unit, higher = title(item)
    found = judge(item.sample, then.sample, item.metric, between, comparisons)
    rises = found["change"] > 0
    return {
        "scope": item.scope,
        "subject": item.subject,
        "metric": item.metric,
        "title": name,
        "unit": unit,
        "run": run.run_id,
        "then": math.exp(then.sample.mean),
        "now": math.exp(item.sample.mean),
        "then_count": then.sample.count,
        "now_count": item.sample.count,
        "runs": len(history),
        "differs_in": _differs(this, run, item, then),
        "better": None if found["says"] == UNKNOWN else rises == higher,
        **found,
    }


def _differs(this, run, item, then):
    """Return in words what else the two runs differ in, as far as their facts tell."""
    found = []
    if item.scope == LAYOUT:
        mine, theirs = json.loads(item.key), json.loads(then.key)
        found += ["%s: %s, then %s" % (key, mine[key], theirs[key]) for key in sorted(mine) if mine[key] != theirs.get(key)]
    for key in ABOUT:
        now, past = (", ".join(run_about.get(key, [])) for run_about in (this.about, run.about))
        if now and past and now != past:
            found.append("%s: %s, then %s" % (key, now, past))
    return found
