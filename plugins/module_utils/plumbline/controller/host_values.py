"""What Ansible's variables are for each host before anything runs: found once for all hosts, templated no more often than they differ."""

from __future__ import annotations

import re

WORD = re.compile(r"[A-Za-z_]\w*")
# What a template reads through these depends on everything, and on the host.
EVERYTHING = {"hostvars", "vars", "lookup", "query", "q"}
# What a play or a gathering of facts makes later.
LATER = {"ansible_facts", "hostvars", "groups", "role_path", "item", "ansible_play_hosts", "ansible_play_hosts_all", "ansible_check_mode"}


class Unresolved(Exception):
    """A value is a template that cannot be resolved; the message says why."""


class NotGiven(Exception):
    """A template says that there is no value (``omit``)."""


class HostValues:
    """The variables of one host after another; ``template(value, variables)`` resolves one value, ``is_template`` tells whether it must.

    ``later`` are names that only a run makes. A value that reads one of them cannot be known yet, and is not judged.
    """

    def __init__(self, template, is_template, later=()):
        self._template, self._is_template = template, is_template
        self._later = LATER | set(later)
        self._words = {}
        self._resolved = {}

    def reads(self, name, variables):
        """Return the names that the variable reads, itself included, through however many others."""
        seen, due = set(), [name]
        while due:
            current = due.pop()
            if current in seen:
                continue
            seen.add(current)
            value = variables.get(current)
            if current not in EVERYTHING | self._later and self._is_template(value):
                due += self._words_in(value)
        return seen

    def _words_in(self, value):
        text = repr(value)
        if text not in self._words:
            self._words[text] = set(WORD.findall(text))
        return self._words[text]

    def value(self, name, host, variables):
        """Return ``(known, value)``; not known is what only the run will tell. Raises :class:`Unresolved`."""
        raw = variables[name]
        if not self._is_template(raw):
            return True, raw
        names = self.reads(name, variables)
        if any(item in self._later or item.startswith("__") for item in names):
            return False, None
        key = (name, host if names & EVERYTHING else repr([(item, variables[item]) for item in sorted(names) if item in variables]))
        if key not in self._resolved:
            self._resolved[key] = self._try(raw, variables)
        known, value, why = self._resolved[key]
        if why:
            raise Unresolved(why)
        return known, value

    def _try(self, raw, variables):
        try:
            return True, self._template(raw, variables), None
        except NotGiven:
            return False, None, None
        except Exception as error:  # whatever a filter or a lookup raises is the template's fault
            return True, None, " ".join(str(error).split()) or type(error).__name__


class Findings:
    """Sentences with the hosts that they are true for; the same one on many hosts is one line."""

    def __init__(self, hosts):
        self._hosts = list(hosts)
        self._found = {}

    def add(self, sentence, host):
        """Note a sentence for a host."""
        self._found.setdefault(sentence, []).append(host)

    def lines(self):
        """Return each sentence once, with the hosts unless it holds for all of them."""
        return [sentence + self._where(hosts) for sentence, hosts in self._found.items()]

    def _where(self, hosts):
        hosts = list(dict.fromkeys(hosts))
        on = [host for host in hosts if host in self._hosts]
        if not on:
            return ""
        if len(on) == len(self._hosts):
            return "" if len(on) == 1 else " (on all %d nodes)" % len(on)
        if len(on) == 1:
            return " (on %s)" % on[0]
        return " (on %d of %d nodes: %s%s)" % (len(on), len(self._hosts), ", ".join(on[:8]), ", …" if len(on) > 8 else "")
