"""Ways in which the text of a tool, a log or a JSON document gets damaged."""

from __future__ import annotations

import copy
import re

# Lines of other processes and ranks, as they get between those of a table or a log.
FOREIGN = (
    "[1,3]<stdout>:#       size         count      type   redop    root     time   algbw   busbw  #wrong     time   algbw   busbw  #wrong",
    "  1048576        262144     float     sum      -1    33.75   31.07   58.25      0    33.10   31.68   59.40      0",
    "node2:4711:4802 [3] NCCL INFO Channel 00/0 : 3[3] -> 4[4] via P2P/CUMEM",
    "node2:4711:4802 [3] NCCL WARN NET/IB : Got completion from peer 10.0.0.5<4242> with status=12 opcode=0 len=0 vendor err 129",
    "(Worker_TP3 pid=815) INFO 11-27 10:00:01 [gpu_model_runner.py:2338] Model loading took 33.98 GiB and 12.3 seconds",
    "Traceback (most recent call last):",
    "ERROR:  nhc:  Health check failed:  check_gpu_count: Expected to see 8 but found 7. FaultCode: NHC2009",
    "[ 1234.567890] NVRM: Xid (PCI:0001:00:00): 79, pid=1234, name=python3, GPU has fallen off the bus.",
    " 8388608    1000             391.21             391.20             0.005829",
    "\t Link 3: <inactive>",
    "GPU 9: NVIDIA H100 80GB HBM3 (UUID: GPU-00000000-1111-2222-3333-444444444449)",
    "slurmstepd: error: *** STEP 12.0 ON node2 CANCELLED AT 2026-11-27T10:00:00 ***",
    '<gpu id="00000000:09:00.0">',
    "{}",
    "\x00\x00\x00\x00",
    "",
)
# What stands where a number is expected: other languages' digits, and what only looks like one, among them.
ODD_NUMBERS = (
    "nan", "inf", "-inf", "-1", "0", "1e999", "99999999999999999999999999", "N/A", "[N/A]", "[Unknown Error]", "ERR!", "\u00b2", "\u0663",
    "1,5", "1.5.2", "0x1f", "--", "", "1_000", "1e-5", "Infinity", "true",
)  # fmt: skip
ODD_VALUES = (None, True, "", "x", "7", 0, -1, 0.5, float("nan"), float("inf"), 10**30, [], [None], ["x"], {}, {"x": 1})
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def cut(rng, text):
    """Keep the beginning."""
    return text[: rng.randrange(len(text) + 1)]


def crlf(rng, text):
    """End lines as Windows does."""
    return text.replace("\n", "\r\n")


def not_utf8(rng, text):
    """Put bytes in that are no UTF-8, decoded as the project decodes."""
    data = bytearray(text.encode("utf-8", errors="replace"))
    for _time in range(rng.randint(1, 8)):
        place = rng.randrange(len(data) + 1)
        data[place : place + rng.randint(0, 2)] = bytes([rng.choice((0, 10, 13, 27, 128, 192, 237, 255))])
    return data.decode("utf-8", errors="replace")


def _lines(change):
    """Return a damage that changes the list of lines in place."""

    def damage(rng, text):
        lines = text.splitlines(keepends=True) or [""]
        change(rng, lines)
        return "".join(lines)

    damage.__name__ = change.__name__
    return damage


@_lines
def drop(rng, lines):
    """Lose some lines."""
    for _time in range(rng.randint(1, 3)):
        if lines:
            del lines[rng.randrange(len(lines))]


@_lines
def double(rng, lines):
    """Say a line twice, the second time anywhere."""
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))


@_lines
def swap(rng, lines):
    """Swap two lines."""
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]


@_lines
def foreign_line(rng, lines):
    """Put lines of another process between the lines."""
    for _time in range(rng.randint(1, 3)):
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(FOREIGN) + "\n")


@_lines
def foreign_within(rng, lines):
    """Put a line of another process into a line."""
    place = rng.randrange(len(lines))
    column = rng.randrange(len(lines[place]) + 1)
    lines[place] = lines[place][:column] + rng.choice(FOREIGN) + rng.choice(("", "\n")) + lines[place][column:]


@_lines
def joined(rng, lines):
    """Lose the end of a line."""
    place = rng.randrange(len(lines))
    lines[place] = lines[place].rstrip("\r\n")


def commas(rng, text):
    """Write numbers as another locale does: all, or those of one stretch."""
    first = rng.choice((0, rng.randrange(len(text) + 1)))
    return text[:first] + re.sub(r"(?<=\d)\.(?=\d)", ",", text[first:])


def letters(rng, text):
    """Turn digits to letters."""
    places = [match.start() for match in re.finditer(r"\d", text)]
    for place in rng.sample(places, min(len(places), rng.randint(1, 6))):
        text = text[:place] + rng.choice("lOxSe-") + text[place + 1 :]
    return text


def odd_number(rng, text):
    """Put something odd where a number is."""
    found = list(NUMBER.finditer(text))
    if not found:
        return text
    match = rng.choice(found)
    return text[: match.start()] + rng.choice(ODD_NUMBERS) + text[match.end() :]


def flat(rng, text):
    """Lose what aligns columns."""
    return re.sub(r"[ \t]+", rng.choice((" ", "\t")), text)


def empty(rng, text):
    """Say nothing, or nearly nothing."""
    return rng.choice(("", "\n", " ", "\r\n\r\n", "\x00"))


DAMAGES = (
    cut, cut, cut, crlf, not_utf8, drop, double, swap, foreign_line, foreign_line, foreign_within, joined, commas, letters, odd_number,
    odd_number, flat, empty,
)  # fmt: skip
NUMBERS = (letters, odd_number, commas)


def _places(value, found, path=()):
    """Append the path of every member of a JSON value to ``found``."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        found.append((*path, key))
        _places(member, found, (*path, key))


def json_value(rng, value):
    """Return a JSON value in which some members are gone or of another type."""
    value = copy.deepcopy(value)
    if rng.random() < 0.05:
        return rng.choice(ODD_VALUES)
    for _time in range(rng.randint(1, 3)):
        places = []
        _places(value, places)
        if not places:
            break
        *path, last = rng.choice(places)
        holder = value
        for key in path:
            holder = holder[key]
        if rng.random() < 0.3:
            del holder[last]
        else:
            holder[last] = copy.deepcopy(rng.choice(ODD_VALUES))
    return value
