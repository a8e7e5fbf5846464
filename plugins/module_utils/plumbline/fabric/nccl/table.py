"""The rows that nccl-tests print, by their grammar.

A row is a preamble (size, count, type, redop, root) and two halves, out of place and in place: time, algbw, busbw, ``#wrong``; with
``-I 1`` four columns more in each; with ``-S 1`` a date and a time at the end (https://github.com/NVIDIA/nccl-tests, src/util.cu). A
trace replay measures in place alone and prints 33 blanks for the other half. The pieces are printed one after the other, the first
before the measurement, so that other words come between them, and NCCL's warnings begin with a line end of their own. Such a row is
put together again by its place in the one table of one process; where that is not certain, or its numbers contradict each other, it
is a problem. ``algbw`` is size / time, and ``busbw / algbw`` is the same in all rows.
"""

from __future__ import annotations

import math
import re

START = re.compile(r"\s*(\d+)\s+(\d+)\s+([a-z]\w*)(?=\s|$)")
ROW = re.compile(r"\s*(\d+)\s+(\d+)\s+([a-z]\w*)\s+(\S+)\s+(.*)$", re.S)
HEADER = re.compile(r"#\s+size\s+count\s+type\s+redop\b")
NUMBER = re.compile(r"(?:0|[1-9]\d*)(?:\.\d+)?(?:e[+-]\d+)?$")
STAMP = (re.compile(r"\d{4}-\d\d-\d\d$"), re.compile(r"\d\d:\d\d:\d\d$"))
# A line of nothing but what a row's columns can hold, three of them or more.
COLUMNS = re.compile(r"\s*(?:(?:-?[\d.,]+(?:e[+-]?\d*)?|N/A|-?nan|-?inf|-)(?:\s+|$)){3,}$")
BLANK_HALF = 33
WIDEST = 12  # characters of a column: times are printed in 7, bandwidths and counts in 6, and a count has up to 12 (1.23457e+06)
UNKNOWN = "a row with unknown columns or values that cannot be read: "
PLACES = ("out_of_place", "in_place")


def number(text):
    """Return a printed number, None for what is none (``N/A``, ``nan``, ``inf``, missing)."""
    try:
        value = float(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def count(value):
    """Return a count that was printed as text, as a float, or as ``2e+06``; None where nothing was counted."""
    value = number(value)
    return None if value is None else int(value)


def _range(token):
    """Return the least and the greatest value that is printed as ``token``."""
    value, digits = float(token), re.match(r"\d+(?:\.(\d+))?(?:e([+-]\d+))?", token)
    half = 0.5 * 10.0 ** (int(digits.group(2) or 0) - len(digits.group(1) or ""))
    return max(value - half, 0.0) * (1 - 1e-6), (value + half) * (1 + 1e-6)


def _readable(half):
    """Return whether each column of a half holds what belongs there."""
    if any(len(token) > WIDEST for token in half):
        return False
    whole = half[3] == "N/A" or (NUMBER.match(half[3]) is not None and float(half[3]) == int(float(half[3])))
    return whole and all(NUMBER.match(token) and math.isfinite(float(token)) for token in half[:3] + half[4:])


def _placement(tokens):
    timed = len(tokens) == 8
    return {
        "time_us": number(tokens[0]),
        "algbw_gbps": number(tokens[1]),
        "busbw_gbps": number(tokens[2]),
        "wrong": count(tokens[3]),
        "times_us": None,
        **({"min_us": number(tokens[4]), "max_us": number(tokens[5]), "p99_us": number(tokens[6])} if timed else {}),
    }


class Row:
    """One row as its tokens."""

    def __init__(self, match, tokens, width):
        self.match, self.root, self.joined = match, int(tokens[0]), False
        self.halves = [tokens[start : start + width] for start in range(1, len(tokens), width)]

    def fields(self):
        """Return the row as the result keeps it."""
        size, elements, kind, redop = self.match.groups()[:4]
        found = [_placement(half) for half in self.halves]
        return {
            "size_bytes": int(size), "count": int(elements), "type": kind, "redop": redop, "root": self.root,
            "out_of_place": found[0] if len(found) == 2 else None, "in_place": found[-1],
        }  # fmt: skip

    def factors(self):
        """Return the ranges of busbw / algbw that the halves allow."""
        for half in self.halves:
            (least, most), (low, high) = _range(half[1]), _range(half[2])
            yield low / most if most else 0.0, high / least if least else math.inf

    def speed_fits(self):
        """Return whether algbw is size / time in each half, within the rounding of what was printed."""
        size = int(self.match.group(1)) / 1000
        for half in self.halves:
            (short, long), (low, high) = _range(half[0]), _range(half[1])
            if size / long > high or (short and size / short < low):
                return False
        return True


class Table:
    """Reads the lines of one process; ``rows`` and ``problems`` are there after :meth:`end`."""

    def __init__(self):
        self.rows, self.problems = [], []
        self.width, self.tables, self.cpu_time, self.pending, self.strays = None, 0, False, "", 0
        self.known_root = True
        self._rows = []

    def line(self, line):
        """Read one line; return whether it was a row's or the table's."""
        if HEADER.match(line.strip()):
            self._header(line)
            return True
        if START.match(line):
            self.drop()
            self._take(line, joined=False)
            return True
        if line.lstrip().startswith("#"):
            self.drop()
            return False
        if self.pending:
            return self._go_on(line)
        if COLUMNS.match(line):
            self.strays += 1
            self.problems.append("numbers that belong to no row: %s" % line.strip()[:200])
            return True
        return False

    def _header(self, line):
        self.drop()
        names = line.split()
        self.tables += 1
        self.known_root = "root" in names and "error" not in names and "res" not in names
        self.cpu_time = self.cpu_time or "cputime" in names
        self.width = 8 if "i_min" in names else 4

    def _take(self, text, joined):
        """Read a row from its beginning; keep it open where more has to come."""
        match = ROW.match(text)
        tokens = match.group(5).split() if match else []
        if len(tokens) >= 3 and STAMP[0].match(tokens[-2]) and STAMP[1].match(tokens[-1]):
            tokens = tokens[:-2]
        row = self._whole(match, tokens) if match else None
        if row:
            row.joined, self.pending = joined, ""
            self._rows.append(row)
        elif len(tokens) < 1 + 2 * (self.width or 4) and self.known_root and not self._broken(tokens):
            self.pending = text.rstrip("\r\n")
        else:
            self.pending = ""
            self.problems.append(UNKNOWN + " ".join(text.split())[:200])

    def _whole(self, match, tokens):
        """Return the row, None where the tokens are none."""
        if not tokens or not re.match(r"-?\d+$", tokens[0]) or not self.known_root:
            return None
        width = self.width or (8 if len(tokens) == 17 else 4)
        alone = re.match(r"-?\d+[ ]{%d,}\S" % BLANK_HALF, match.group(5))
        if len(tokens) != 1 + (1 if alone else 2) * width:
            return None
        row = Row(match, tokens, width)
        return row if all(map(_readable, row.halves)) else None

    @staticmethod
    def _broken(tokens):
        """Return whether a token that is no row's last one (which may be cut) cannot stand in a row."""
        if tokens and not re.match(r"-?\d+$", tokens[0]) and (len(tokens) > 1 or tokens[0] != "-"):
            return True
        return any(not NUMBER.match(token) and token != "N/A" for token in tokens[1:-1])

    def _go_on(self, line):
        """Try a line as the rest of the open row; other words are another's, and the row stays open."""
        text = line.rstrip("\r\n")
        if not text.strip() or not re.match(r"[\d.eE+:/NA\s-]+$", text) or not re.search(r"\d|N/A", text):
            return False
        self._take(self.pending + text, joined=True)
        return True

    def drop(self):
        """Give up an open row: what comes now cannot be its rest."""
        if self.pending:
            self.problems.append("a row that is not whole: %s" % " ".join(self.pending.split())[:200])
            self.strays += 1
            self.pending = ""

    def end(self):
        """Close the table: judge what was put together."""
        self.drop()
        sure = self.tables < 2 and not self.strays
        factor = self._factor([row for row in self._rows if not row.joined] if sure else [])
        for row in self._rows:
            if (row.joined or not sure) and not self._agrees(row, factor):
                self.problems.append("a row whose numbers contradict each other: %s" % row.match.group(0).strip()[:200])
                if not sure:
                    continue
            self.rows.append(row.fields())

    @staticmethod
    def _factor(rows):
        ranges = [item for row in rows for item in row.factors()]
        return max((low for low, _high in ranges), default=0.0), min((high for _low, high in ranges), default=math.inf)

    def _agrees(self, row, factor):
        low, high = factor if factor[0] <= factor[1] else (0.0, math.inf)
        for least, most in row.factors():
            low, high = max(low, least), min(high, most)
        return low <= high and (self.cpu_time or row.speed_fits())
