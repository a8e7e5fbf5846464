"""All lines of a log that may say why a server failed, each with its whole message.

An exception is found by the grammar of a traceback, in each writer's own stream: frames, then a line that does not begin with a space,
whatever the class is called and whether it has a text. Several that are linked ("the direct cause", "during handling") are one chain.
Left out are what was handled or happened to a request: records of warnings, "Exception ignored" with its own traceback, errors that a
logger met while logging, and exceptions of the server's request handlers.
"""

from __future__ import annotations

import bisect
import re
from typing import NamedTuple

from ...core.scrub import scrub_text
from . import kinds
from .lines import Line

LIMIT = 500
_MESSAGE_LINES = 12
_FRAMES_LINES = 400

_TRACEBACK = re.compile(r"Traceback \(most recent call last\):\s*$")
_LINK = re.compile(r"^(?:The above exception was the direct cause of|During handling of the above exception, another)")
_FRAME = re.compile(r"""^\s*File ["\u201c](?P<file>[^"\u201d]*)["\u201d], line (?P<line>\d+)(?:, in (?P<where>\S+))?""")
_GROUP = re.compile(r"^ *(?:\| |\+-+ ?(?:\d+ -+)?|\+ (?=Exception Group))")
# After frames: any class, dotted or not, with a text, an empty text or none.
_LOOSE = re.compile(
    r"^(?!(?:INFO|DEBUG|TRACE|WARNING|ERROR|CRITICAL|Aborted|Killed|Terminated)\b)"
    r"(?:(?:[A-Za-z_]\w*\.)+\w+|[A-Z]\w*|\w*[eE]rror\w*)(?:\([\w.]*\))?(?::(?: .*)?)?$"
)
# Anywhere: a class that says what it is, or one of a module.
_STRICT = re.compile(
    r"^(?:(?:[A-Za-z_]\w*\.)*(?:[A-Za-z]\w*)?(?:Error|Exception|Exit|Interrupt|Timeout|Died|Panic)(?:_\w+)?(?:\([\w.]*\))?: ?\S.*"
    r"|(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception)"
    r"|(?:[a-z_]\w*\.)+[A-Z]\w*(?<!Warning)(?:\([\w.]*\))?: \S.*)$"
)
_IGNORED = re.compile(r"^Exception ignored (?:in|while|on)\b|^--- Logging error ---|^Exception in thread .*(?:usage|_report)")
_REQUEST = re.compile(
    r"Exception in ASGI application|^Error \d+: Traceback|Error in preprocessing prompt|Error in (?:chat )?completion stream"
    r"|Request \S+ failed"
)
_REQUEST_SOURCE = re.compile(
    r"^(?:\S*/)?(?:serving\w*|protocol|exception_handlers?|server_utils|chat_utils|\w*_tool_parser|httptools_impl|h11_impl)\.py"
)
_BANNER = re.compile(
    r"^(?:terminate called|libc\+\+abi|Killed|Aborted|Segmentation fault|Bus error|Illegal instruction|!!!!|\*\*\* SIG"
    r"|Fatal Python error)"
)
_WHAT = re.compile(r"^\s*what\(\):\s*(.*)")
_TERMINATE = re.compile(r"^(?:terminate called after throwing|libc\+\+abi: terminating)")
# Advice that follows every error of a kind and tells them not apart.
_NOISE = re.compile(
    r"^(?:Set TORCH_LOGS|CUDA kernel errors might|For debugging consider|Compile with `TORCH_USE|Search for `cuda"
    r"|You can suppress|For further information"
    r"|Exception raised from|frame #|\^+$|C\+\+ CapturedTraceback|You can inspect the repository)"
)
_NCCL = re.compile(r"NCCL [Ee]rror|DistBackendError")
_NCCL_WARN = re.compile(r"NCCL WARN (.*)")
_WAITING = "Waiting for creating a placement group"
_WORKER_STARTED = re.compile(r"world_size=\d+ rank=|oading model|Loading weights|Model loading took")
_STARTED = re.compile(r"Application startup complete")
# A shell that misses a helper while the server goes on.
_SHELL_KINDS = ("program", "permission", "interpreter", "exec_format")


class Candidate(NamedTuple):
    """One line that may be the cause: ``text`` with its message, ``line`` where it stands, what it means, ``linked`` to a better one."""

    text: str
    line: Line
    meaning: kinds.Meaning
    linked: bool = False


class _Error:
    """One exception while it is read: its first line, the lines of its message, the last frame before it."""

    def __init__(self, line, said, frame):
        self.line, self.said, self.frame, self.message = line, said, frame, []

    def take(self, said):
        if len(self.message) < _MESSAGE_LINES:
            self.message.append(said.strip())


class _Stream:
    """Reads the exceptions out of one writer's lines."""

    def __init__(self):
        self.chains = []  # of (reason to leave out or "", [_Error, ...])
        self.used = set()  # the lines that belong to a traceback
        self._chain, self._leave = [], ""
        self._frames, self._frame, self._linked, self._headed = 0, None, False, False

    def close(self):
        """End the chain that is read."""
        if self._chain:
            self.chains.append((self._leave, self._chain))
        self._chain, self._leave, self._frames, self._frame, self._linked, self._headed = [], "", 0, None, False, False

    def leave(self, why):
        """What follows next, and only that, is no cause."""
        self.close()
        self._leave = why

    def read(self, line):
        """Take one line."""
        said = _GROUP.sub("", line.said) if self._headed or self._chain else line.said
        plain = said.strip()
        if not plain:
            return
        if _IGNORED.search(plain):
            self.leave("ignored")
        elif _REQUEST.search(plain) and not line.quiet:
            self.leave("request")
        elif _LINK.match(plain):
            self._linked = bool(self._chain)
        elif _TRACEBACK.search(plain):
            self._begin(line)
        elif _FRAME.match(said):
            self._take_frame(line, said)
        elif self._frames:
            self._in_frames(line, said)
        else:
            self._outside(line, said)

    def _begin(self, line):
        if self._chain and not self._linked:
            self.close()
        self._frames, self._frame, self._linked, self._headed = 1, None, False, True
        self.used.add(line)

    def _take_frame(self, line, said):
        self._frames = max(1, self._frames)
        self._frame = [_FRAME.match(said), ""]
        self.used.add(line)

    def _in_frames(self, line, said):
        self._frames += 1
        if said[0].isspace():
            if self._frame and not self._frame[1] and said.strip("~^ \t"):
                self._frame[1] = said.strip()
            self.used.add(line)
        elif (_LOOSE if self._headed else _STRICT).match(said):
            self._add(line, said)
        elif self._frames > _FRAMES_LINES:
            self.close()

    def _outside(self, line, said):
        if _STRICT.match(said) and not self._announced(said):
            if self._chain and not self._linked:
                self.close()
            self._linked = False
            self._add(line, said)
        elif _BANNER.match(said) or (line.level and not line.source):
            self.close()  # a process that dies, or another writer of the same output, speaks for itself
        elif self._chain:
            self._chain[-1].take(said)
            self.used.add(line)
        elif self._leave:
            self.close()  # its traceback did not follow

    def _announced(self, said):
        """Whether ``said`` is still the message of the exception before it."""
        return bool(self._chain) and (
            self._chain[-1].said.endswith(":") or (_NCCL.search(self._chain[-1].said) and said.startswith("nccl"))
        )

    def _add(self, line, said):
        self._chain.append(_Error(line, said.strip(), self._frame))
        self._frames, self._frame = 0, None
        self.used.add(line)


def _streams(lines):
    """Return the lines by their writer: a process, and in it a logger's place or its plain output. In the order of the first line."""
    found = {}
    for line in lines:
        found.setdefault((line.log, line.process, line.source), []).append(line)
    return found


def _shortened(text, at):
    """Return ``text`` in at most :data:`LIMIT` characters, with what lies ``at``, by which it was known."""
    clean = scrub_text(text)  # before a cut hides what tells a secret
    if clean != text:
        text, at = clean, len(scrub_text(text[:at]))
    if len(text) <= LIMIT:
        return text
    if at < LIMIT - 100:
        return text[:LIMIT]
    return "%s … %s" % (text[: LIMIT // 2], text[max(0, at - 60) :][: LIMIT // 2 - 10])


def _nccl_warnings(lines):
    """Return ``{log: [(number, text), ...]}`` of NCCL's warnings."""
    warnings = {}
    for line in lines:
        match = _NCCL_WARN.search(line.said)
        if match:
            warnings.setdefault(line.log, []).append((line.number, match.group(1)))
    return warnings


def _last_nccl_warning(warnings, error):
    """Return NCCL's warning before ``error`` that says most: of the last ones the last of a kind, or else the last."""
    told = warnings.get(error.line.log, [])
    end = bisect.bisect_right(told, (error.line.number, "\U0010ffff"))
    near = [text for _number, text in told[max(0, end - 50) : end]]
    known = [text for text in near if kinds.of_hint(text)]
    return (known or near or [""])[-1]


def _told(error, warnings):
    """Return the text of an exception, with what its first line only announces, and all of its message."""
    message = [said for said in error.message if not _NOISE.match(said)]
    whole = " ".join([error.said, *message])
    if _NCCL.search(error.said):
        if "Last error:" in message[:-1]:
            return "%s: %s" % (error.said, message[message.index("Last error:") + 1]), whole
        # "run with NCCL_DEBUG=INFO for details": where it was, NCCL's own warning is the detail.
        warning = _last_nccl_warning(warnings, error)
        if warning:
            return "%s: NCCL WARN %s" % (error.said, warning), "%s %s" % (whole, warning)
    if re.search(r"\d+ validation errors? for", error.said) and message:
        return "%s: %s" % (error.said, " ".join(message)), whole
    if error.frame and re.fullmatch(r"[\w.]+:?", error.said):
        where, code = error.frame
        place = "%s:%s" % (where.group("file").rpartition("/")[2], where.group("line"))
        text = "%s at %s" % (error.said.rstrip(":"), place) + (": " + code if code else "")
        if code.startswith("assert "):
            whole = "%s %s" % (whole, code)  # the condition is all that it says
        return " ".join([text, *message[:1]]), whole
    more = [said for said in message if kinds.of_error(said).kind]
    if error.said.endswith(":") or kinds.of_error(error.said).kind != kinds.of_error(whole).kind or (more and error.line.source):
        return " ".join([error.said, *message[: 1 + (message.index(more[0]) if more else 0)]]), whole
    return error.said, whole


def _of_chain(chain, warnings):
    """Return the candidates of linked exceptions; all but the one that explains most are ``linked``.

    The inner one is met first. One without a text, a lookup that failed and a wait say less than what was made of them.
    """
    found = []
    for error in chain:
        text, whole = _told(error, warnings)
        meaning = kinds.of_error(whole)
        found.append(Candidate(_shortened(text, meaning.at), error.line, meaning))

    def explains(candidate):
        meaning = candidate.meaning
        poor = not meaning.kind and bool(
            re.match(r"(?:\w+\.)*(?:KeyError|AttributeError|StopIteration|LookupError|[\w.]+$|[\w.]+ at )", candidate.text)
        )
        return (meaning.weight, not poor, bool(meaning.kind), -found.index(candidate))

    best = max(found, key=explains)
    return [candidate._replace(linked=candidate is not best) for candidate in found]


def _exceptions(lines):
    """Return ``(candidates, lines that belong to tracebacks)``."""
    found, used, warnings = [], set(), _nccl_warnings(lines)
    for members in _streams(lines).values():
        stream = _Stream()
        for line in members:
            stream.read(line)
        stream.close()
        used |= stream.used
        for why, chain in stream.chains:
            first = chain[0].line
            if first.quiet or why == "ignored":
                continue
            candidates = _of_chain(chain, warnings)
            if why == "request" or _REQUEST_SOURCE.match(first.source):
                # A request's own error; what it heard of the engine's end is an echo of that.
                candidates = [candidate for candidate in candidates if candidate.meaning.weight <= kinds.ECHO + 5]
            found += candidates
    return found, used


def _terminated(lines):
    """Return the candidates of C++ exceptions that nobody caught, and the lines that they take up."""
    found, used = [], set()
    for members in _streams(lines).values():
        for index, line in enumerate(members):
            if not _TERMINATE.match(line.said):
                continue
            used.add(line)
            text = line.said
            for later in members[index + 1 : index + 6]:
                what = _WHAT.match(later.said)
                if what:
                    text = "%s: %s" % (text, what.group(1))
                    used.add(later)
                    break
            meaning = kinds.of_error(text)
            found.append(Candidate(_shortened(text, meaning.at), line, meaning))
    return found, used


def _lives(lines):
    """Tell whether a Python server wrote some of the lines."""
    return any(line.process or (line.level and line.source.split(":")[0].endswith(".py")) for line in lines)


def _plain(lines, used):
    """Return ``(candidates, hints)`` of the lines that belong to no traceback."""
    found, hints, lives = [], [], _lives(lines)
    for line in lines:
        said = line.said.strip()
        if not said or line in used:
            continue
        if line.quiet:
            meaning = kinds.of_hint(said)
            if meaning:
                hints.append(Candidate(_shortened(said, meaning.at), line, meaning))
            continue
        meaning = None if _REQUEST.search(said) or _REQUEST_SOURCE.match(line.source) else kinds.of_line(said)
        if meaning and meaning.kind in _SHELL_KINDS and lives and not line.level:
            hints.append(Candidate(scrub_text(said)[:LIMIT], line, meaning._replace(weight=kinds.VAGUE)))
        elif meaning:
            found.append(Candidate(_shortened(said, meaning.at), line, meaning))
    return found, hints


def _still_waiting(lines):
    """Return Ray's last word on a placement group that never came, as a candidate in a list."""
    waiting = []
    for line in lines:
        said = line.said.strip()
        if _WAITING in said:
            waiting = [Candidate(scrub_text(said)[:LIMIT], line, kinds.of_error(said)._replace(weight=kinds.ECHO + 6))]
        elif _WORKER_STARTED.search(said):
            waiting = []
    return waiting


def _after_the_start(lines):
    """Return the lines after each log's last word that its server is up: what came before was handled."""
    started = {}
    for line in lines:
        if _STARTED.search(line.said):
            started[line.log] = line.number
    return [line for line in lines if line.number > started.get(line.log, 0)]


def collect(lines):
    """Return every :class:`Candidate` of ``lines``; [] where nothing failed."""
    lines = _after_the_start(lines)
    exceptions, used = _exceptions(lines)
    terminated, more = _terminated(lines)
    plain, hints = _plain(lines, used | more)
    found = exceptions + [candidate for candidate in terminated if candidate.line not in used] + plain
    if not found:
        return _still_waiting(lines)
    return found + hints + _still_waiting(lines)
