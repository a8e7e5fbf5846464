"""The variables of all hosts, held against what the roles read. Problems as sentences, each with the nodes that it is true for."""

from __future__ import annotations

from ansible.errors import AnsibleValueOmittedError

from ..core.scrub import scrub_text
from . import preflight
from .host_values import Findings, HostValues, NotGiven, Unresolved
from .role_variables import Roles, shown

# Roles that run on the controller, or make the lab: their defaults are no matter of the nodes.
CONTROLLERS = ("lab", "preflight", "report")

# Layouts and images have rules of their own, in preflight.py.
SERVING = ("vllm_serve_layouts", "vllm_serve_runtime", "vllm_serve_image", "vllm_serve_image_pull")


class Variables:
    """``hosts`` is ``{name: variables}``, with templates as they are; ``nodes`` are those of the hosts that are measured.

    ``templar`` is a task's, or None where no value is a template; ``loader`` reads the roles' defaults.
    """

    def __init__(self, templar, loader, nodes, hosts):
        self._nodes, self._given = nodes, hosts
        self._roles = Roles()
        defaults = self._roles.defaults(lambda path: loader.load_from_file(path, trusted_as_template=True))
        self._hosts = {name: {**defaults, **variables} for name, variables in hosts.items()}

        def resolve(value, variables):
            try:
                return templar.copy_with_new_env(available_variables=variables).template(value)
            except AnsibleValueOmittedError as error:
                raise NotGiven from error

        is_template = templar.is_template if templar else lambda value: False
        self._values = HostValues(resolve, is_template, self._roles.results)
        # Of the defaults, those that depend on other variables.
        self._derived = [name for name, value in defaults.items() if is_template(value) and self._roles.role_of(name) not in CONTROLLERS]
        self._faults = {}

    def number(self, name):
        """Return what the first node was given as ``name``, a whole number; 0 where it was not."""
        value = self._first(name)
        return int(value) if not isinstance(value, bool) and str(value).isdigit() else 0

    def texts(self, name):
        """Return what the first node was given as ``name``, a list of texts; none where it was not."""
        value = self._first(name)
        return [str(item) for item in value] if isinstance(value, list) else []

    def text(self, name):
        """Return what the first node was given as ``name``, a text; empty where it was not."""
        value = self._first(name)
        return value if isinstance(value, str) else ""

    def _first(self, name):
        return next((self._known(host, [name]).get(name) for host in self._nodes[:1]), None)

    def _known(self, host, names):
        """Return ``{name: value}`` of those of ``names`` that this host was given and that can be resolved now."""
        found = {}
        for name in names:
            if name in self._given[host]:
                try:
                    known, value = self._values.value(name, host, self._hosts[host])
                except Unresolved:
                    continue
                if known:
                    found[name] = value
        return found

    def problems(self):
        """Return every problem of the variables as a sentence."""
        found = Findings(self._nodes)
        misspelt = self._roles.misspelt({name for variables in self._given.values() for name in variables})
        for host in self._given:
            for sentence in self._serving(host) if host in self._nodes or not self._nodes else ():
                found.add(sentence, host)
        for host, variables in self._given.items():
            due = [name for name in variables if name in self._roles.specs] + (self._derived if host in self._nodes else [])
            for name in sorted(set(due)):
                sentence = self._fault(host, name)
                if sentence:
                    found.add(sentence, host)
        for host, variables in self._given.items():
            for name in sorted(misspelt.keys() & variables.keys()):
                found.add(misspelt[name], host)
        return found.lines()

    def _serving(self, host):
        """Return what is wrong with the layouts and the image of a host."""
        given = self._known(host, SERVING)
        key = repr(given)
        if key not in self._faults:
            # A layout's env and extra_args may hold tokens.
            self._faults[key] = [scrub_text(line) for line in preflight.serving_problems(given, len(self._nodes))]
        return self._faults[key]

    def _fault(self, host, name):
        """Return what is wrong with one variable of a host as a sentence, or None."""
        variables = self._hosts[host]
        try:
            known, value = self._values.value(name, host, variables)
        except Unresolved as error:
            if name not in self._given[host] and len(self._values.reads(name, variables) & self._given[host].keys()) > 0:
                return None  # a default: what it reads is told itself
            return "%s is the template %s, which cannot be resolved: %s" % (name, shown(name, variables[name]), scrub_text(str(error)))
        if not known:
            return None
        key = name, repr(value)
        if key not in self._faults:
            self._faults[key] = self._roles.fault(name, value)
        return self._faults[key]
