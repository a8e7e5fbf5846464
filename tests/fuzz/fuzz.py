"""Feeds every reader with broken text: ``python fuzz.py <seed> <count> [kind ...]``; ends with 1 where a reader broke a rule.

Seeds are the cases of ``tests/cases`` and captures. Each is cut, mixed with another process' lines, damaged in its bytes and numbers, and
read as the project reads it. The rules, for each kind in :data:`TARGETS`: no exception but the documented ones, an answer within
:data:`LIMIT_S`, and no text that was cut before its end mark passes as healthy.

Needs the standard library alone, so that it runs on any Python from 3.9 on, without Ansible: ``ansible.module_utils`` is stood in for by
a package that finds the project's. The same seed and count give the same texts. ``--show N`` prints one.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
import traceback
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 5  # of the processor: a machine that is busy with other things breaks no rule
MOST_SHOWN = 5


def stand_in():
    """Let ``import ansible.module_utils.plumbline`` and the cases' drivers be found without Ansible."""
    for name, path in (("ansible", []), ("ansible.module_utils", [str(ROOT / "plugins" / "module_utils")])):
        module = types.ModuleType(name)
        module.__path__ = path
        sys.modules[name] = module
    sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "tests" / "cases")]


class Late(BaseException):
    """A reader took longer than :data:`LIMIT_S`: no ``except Exception`` of its own may swallow this."""


def _late(_signal, _frame):
    raise Late("no answer within %d s of the processor" % LIMIT_S)


def one(target, rng):
    """Make one text, read it, and return ``(what was done, what rule it broke or "")``."""
    damaged = target.damaged(rng)
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    try:
        broke = target.broke(damaged)
    except (Exception, Late) as error:
        broke = "" if target.documented(error) else traceback.format_exc(limit=-4)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return damaged, broke


def run(target, seed, count, show=None):
    """Fuzz one kind; print and return how often it broke a rule."""
    started, broken = time.monotonic(), 0
    for number in range(count) if show is None else [show]:
        damaged, broke = one(target, random.Random("%d %s %d" % (seed, target.kind, number)))
        if show is not None:
            print(damaged.text)
        if broke:
            broken += 1
            if broken <= MOST_SHOWN:
                print("%s %d: %s, %s\n%s" % (target.kind, number, damaged.name, damaged.how, broke.strip()))
    print("%-10s %d texts, %d broke a rule, %.1f s" % (target.kind, count, broken, time.monotonic() - started))
    return broken


def main(arguments=None):
    """Fuzz the kinds that are asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seed", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("kind", nargs="*")
    parser.add_argument("--show", type=int, metavar="N", help="make and print the N-th text alone")
    asked = parser.parse_args(arguments)
    stand_in()
    from targets import TARGETS

    signal.signal(signal.SIGPROF, _late)
    print("Python %s" % sys.version.split()[0])
    broken = [run(TARGETS[kind](), asked.seed, asked.count, asked.show) for kind in asked.kind or sorted(TARGETS)]
    return 1 if any(broken) else 0


if __name__ == "__main__":
    sys.exit(main())
