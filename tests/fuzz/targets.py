"""What is fuzzed: each kind of case by its driver, and the readers of a server's words; where each format ends.

A target makes damaged inputs from its seeds, says whether reading one broke a rule, and which errors its reader documents.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

import damage
from ansible.module_utils.plumbline.benchmark import counters, result
from ansible.module_utils.plumbline.machine.nvidia import NvidiaError
from ansible.module_utils.plumbline.model import config, memory
from ansible.module_utils.plumbline.serving import cause, checks, log, options
from case import Case, read, worst

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "tests" / "cases"
CAPTURES = ROOT / "tests" / "captures"
# Characters of a seed: beyond, it is cut at a line (logs), or not a seed (documents).
MOST = 48_000


class Damaged(NamedTuple):
    """An input: the seed's name, what was done to it, the text to show, what the reader is given, and whether it lost its end."""

    name: str
    how: str
    text: str
    given: object
    ends_early: bool = False


def text_of(path):
    """Return a file as the project decodes it."""
    return path.read_bytes().decode("utf-8", errors="replace")


def folder_in_memory():
    """Return a temporary folder, in memory where that can be had: thousands of small trees are made."""
    return tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None)


def passes(found):
    """Tell whether nothing that was found stands against the hardware or the evidence."""
    return not found.reasons or worst(found.reasons) == "healthy"


# Where a format ends: each returns the place in a text up to which a cut must be noticed, or None where the text has no end mark.


def _nccl_end(text):
    # Its order: the rows, "Out of bounds values", "Avg bus bandwidth".
    place = text.find("# Avg bus bandwidth")
    return None if place < 0 else place


def _nhc_end(text):
    last = list(re.finditer(r"Health checks completed with exit code: -?\d+\.", text))
    return last[-1].end() if last else None


def _perftest_end(text):
    last = list(re.finditer(r"^-{10,}\s*$", text, re.M))
    return last[-1].start() if last else None


def _xml_end(text):
    place = text.rfind("</nvidia_smi_log>")
    return None if place < 0 else place + len("</nvidia_smi_log>")


def _dcgm_end(text):
    place = text.rstrip().rfind("}")
    return None if place < 0 else place + 1


def _links_end(text):
    # All GPUs and links of the node, as its XML names them: the last line of a link must be there.
    last = list(re.finditer(r"^\s*Link \d+: *\S.*$", text, re.M))
    return last[-1].start() if last else None


ENDS = {
    ("nccl", "output"): _nccl_end,
    ("dcgm", "json"): _dcgm_end,
    ("nhc", "log"): _nhc_end,
    ("perftest", "output"): _perftest_end,
    ("gpu", "xml"): _xml_end,
    ("gpu", "status"): _links_end,
    ("gpu", "errors"): _links_end,
}


class Cases:
    """The cases of one kind, read and judged by their driver."""

    raises = ()
    parts = None  # all
    damages = damage.DAMAGES

    def __init__(self):
        self.driver = importlib.import_module("drivers." + self.kind)
        found = [read(path) for path in sorted((CASES / "health").glob("*.txt"))]
        self.seeds = [case for case in found if case.kind == self.kind and self.fits(case)]
        self.good = {case.name for case in self.seeds if self.is_good(case)}

    def is_good(self, case):
        try:
            return passes(self.found(case))
        except Exception:  # the case's own test says whether that is right
            return False

    def fits(self, case):
        return sum(map(len, case.parts.values())) <= MOST

    def found(self, case):
        with folder_in_memory() as folder:
            return self.driver.run(case, Path(folder))

    def damaged(self, rng):
        case = rng.choice(self.seeds)
        part = rng.choice(sorted(name for name in case.parts if self.parts is None or name in self.parts))
        how, text = rng.choice(self.damages), case.parts[part]
        changed = self.change(how, rng, text)
        then = rng.choice(self.damages) if rng.random() < 0.25 else None
        shorter = len(changed) if how is damage.cut and then in (None, damage.crlf) else None
        if then is not None:
            changed = self.change(then, rng, changed)
        case = case._replace(parts=dict(case.parts, **{part: changed}))
        early = shorter is not None and case.name in self.good and self.is_early(case, part, text, shorter)
        names = how.__name__ + ("" if then is None else ", " + then.__name__)
        return Damaged(case.name, "%s of %s" % (names, part), changed, case, early)

    def change(self, how, rng, text):
        return how(rng, text)

    def documented(self, error):
        return isinstance(error, self.raises)

    def is_early(self, case, part, text, length):
        """Tell whether ``text``, a part of ``case``, lost its end mark when it was cut to ``length``."""
        end = ENDS.get((self.kind, part))
        place = end(text) if end else None
        return place is not None and length < place

    def broke(self, damaged):
        found = self.found(damaged.given)
        if damaged.ends_early and passes(found):
            return "it was cut to %d characters, before its end, and passes" % len(damaged.text)
        return ""


class Gpu(Cases):
    kind, raises = "gpu", (NvidiaError,)
    parts = ("xml", "status", "errors")

    def fits(self, case):
        return "tool" not in case.parts and super().fits(case)

    def is_early(self, case, part, text, length):
        # Where NVLink is not judged nothing is owed of these two.
        unjudged = part != "xml" and case.params.get("nvlink") is False
        return not unjudged and super().is_early(case, part, text, length)


class Nhc(Cases):
    kind = "nhc"

    def __init__(self):
        super().__init__()
        capture = Case("capture", "nhc", "", {"sku": {"gpu_count": 8}}, [], {"log": text_of(CAPTURES / "composed/nhc.nd96isr_h100_v5.log")})
        self.seeds.append(capture)
        self.good |= {case.name for case in [capture] if self.is_good(case)}


class Nccl(Cases):
    # A document that is no JSON is refused where the file is read (fabric/nccl/run.py).
    kind, raises = "nccl", (json.JSONDecodeError,)


class Ib(Cases):
    """A tree of files: what stands in them is damaged, never their paths, which would be written elsewhere."""

    kind = "ib"
    damages = (damage.odd_number, damage.letters, damage.empty, damage.cut, damage.commas)

    def change(self, how, rng, text):
        lines = text.splitlines()
        place = rng.randrange(len(lines))
        path, equals, value = lines[place].partition(" = ")
        lines[place] = path + equals + how(rng, value).replace("\n", " ").replace("\r", " ").replace("\x00", "")
        return "\n".join(lines) + "\n"


class Pairs(Cases):
    """Bandwidths come as numbers of our own facts: only their values are odd."""

    kind = "pairs"
    damages = (damage.odd_number,)

    def change(self, how, rng, text):
        links = json.loads(text)
        rng.choice(links)[2] = rng.choice((None, 0, -1, 0.0, 1e308, float("nan"), float("inf")))
        return json.dumps(links)


class Journal(Cases):
    kind = "journal"

    def is_early(self, case, part, text, length):
        # A line that is not whole: whole lines that are fewer are a shorter journal. A whole ring buffer stands in for a broken journal.
        return (
            part == "journal"
            and "ring" not in case.parts
            and 0 < length < len(text.rstrip("\n"))
            and text[length - 1] != "\n"
            and text[length] != "\n"
        )


class Kmsg(Cases):
    kind = "kmsg"

    def documented(self, error):
        # What journalctl answers is refused as a whole where it is no JSON (evidence/kernel_log.py).
        return isinstance(error, ValueError) and str(error).startswith("journalctl answered")


def _simple(name, *raises):
    return type(name.title(), (Cases,), {"kind": name, "raises": raises})


class Texts:
    """Readers of a text of a server; ``seeds`` are ``(name, text)``."""

    def documented(self, error):
        return False

    def __init__(self):
        self.seeds = [(path.name, text_of(path)[:MOST]) for pattern in self.patterns for path in sorted(ROOT.glob(pattern))]

    def damaged(self, rng):
        name, text = rng.choice(self.seeds)
        hows = [rng.choice(damage.DAMAGES) for _time in range(rng.randint(1, 2))]
        for how in hows:
            text = how(rng, text)
        return Damaged(name, ", ".join(how.__name__ for how in hows), text, text)


class Cause(Texts):
    kind, patterns = "cause", ("tests/cases/serving/*.log", "tests/captures/h200/vllm-*.kv-too-small.log")

    def broke(self, damaged):
        cause.root_cause(damaged.given)
        return ""


class Startup(Texts):
    kind, patterns = "startup", ("tests/cases/serving/l*.log", "tests/captures/h200/vllm-*.serve.*.warm.log", "tests/captures/cpu/*.log")

    def broke(self, damaged):
        measured, context = log.startup(damaged.given)
        options.max_num_seqs(damaged.given)
        options.prefix_caching(damaged.given)
        json.dumps(context)
        odd = [key for key, value in measured.items() if not math.isfinite(value)]
        return "%s is no number" % ", ".join(odd) if odd else ""


class Metrics(Texts):
    kind, patterns = "metrics", ("tests/captures/h200/*.metrics.*.txt",)

    def broke(self, damaged):
        counters.parse(damaged.given)
        return ""


class Documents:
    """Readers of a JSON document; ``seeds`` are ``(name, value)``."""

    def documented(self, error):
        return False

    def __init__(self):
        paths = [path for pattern in self.patterns for path in sorted(ROOT.glob(pattern)) if path.stat().st_size < MOST]
        self.seeds = [(path.name, json.loads(text_of(path))) for path in paths]

    def damaged(self, rng):
        name, value = rng.choice(self.seeds)
        value = damage.json_value(rng, value)
        return Damaged(name, "json_value", json.dumps(value), value)


class Bench(Documents):
    kind, patterns = "bench", ("tests/captures/*/vllm-*.bench_serve.*.json",)

    def broke(self, damaged):
        found = damaged.given
        if result.problems(found, 1, 512):
            result.first_error(found)
        # A result with other counts is judged by what it says itself, so that its numbers are read as well.
        count = found.get("num_prompts") if isinstance(found, dict) else None
        total = found.get("total_output_tokens") if isinstance(found, dict) else None
        if type(count) is int and type(total) is int and count > 0 and total > 0 and total < 10**9:
            if not result.problems(found, count, total // count):
                result.run(found, total // count)
                result.requests(found)
        return ""


class Config(Documents):
    """A model's config.json: what is told of it, and whether it fits. A number is known, or the reason why not."""

    kind, patterns = "config", ("tests/cases/serving/configs/*.json",)

    def broke(self, damaged):
        with folder_in_memory() as folder:
            Path(folder, "config.json").write_text(damaged.text, encoding="utf-8")
            found = config.config_of(folder)
            told = config.context(folder, "auto")
        json.dumps(told)
        layout = {"name": "fuzz", "tp": 2, "pp": 2, "nodes": 1, "executor": "mp"}
        checks.check_memory([{"index": 0, "total_mib": 81559.0}], found, layout, "auto", 2048, [])
        try:
            memory.per_rank(found, "auto", 2, 2)
            memory.kv_bytes_per_token(found)
        except (memory.UnknownModel, memory.ImpossibleLayout):
            pass
        return ""


KINDS = (
    _simple("clocks", NvidiaError), Kmsg, _simple("dcgm"), _simple("perftest"), _simple("transport"), _simple("topo"),
    Bench, Cause, Config, Gpu, Ib, Journal, Metrics, Nccl, Nhc, Pairs, Startup,
)  # fmt: skip
TARGETS = {target.kind: target for target in KINDS}
