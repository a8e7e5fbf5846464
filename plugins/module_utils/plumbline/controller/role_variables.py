"""What the roles read: their variables by meta/argument_specs.yml, whether a value fits, and what a wrong name was to be."""

from __future__ import annotations

import difflib
import os
import re

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ..core.scrub import scrub_text
from .place import ROLES_DIR
from .preflight import REMOVED

# Names in which a role keeps results: what others may read, and what does not exist before the role ran.
REGISTERED = r"^\s*(?:register|loop_var|index_var): (\w+)"
# Variables of a node that belong to no role.
OF_NODES = r"\b(plumbline_[a-z_]+)"
# Arguments of roles that plays give them, for one layout after the other.
OF_PLAYS = ("vllm_serve_layout", "vllm_serve_hosts", "vllm_serve_node_addresses")
# Variables of plays, and what modules return beside their results; no role has them among its arguments.
OTHERS = ("plumbline_address", "plumbline_serving_group", "vllm_serve_image_info")

# preflight.py has rules of its own for these.
JUDGED_ELSEWHERE = ("vllm_serve_layouts", "vllm_serve_runtime", "vllm_serve_image")

# Lists that roles work on themselves. Of all others modules make a list, also of a text: "a,b" is [a, b].
LISTS_IN_EXPRESSIONS = (
    "awx_setup_callback_plugins",
    "awx_setup_layouts",
    "lab_packages",
    "serve_benchmark_sweep",
    "vllm_serve_extra_args",
    "vllm_serve_hosts",
    "vllm_serve_node_addresses",
)

# The same for mappings, which modules make of JSON in a text.
MAPPINGS_IN_EXPRESSIONS = (
    "awx_setup_extra_vars",
    "fabric_baseline_env",
    "fabric_baseline_min_busbw_gbps",
    "fabric_baseline_nccl_env",
    "fabric_baseline_nccl_mca",
    "serve_benchmark_context",
    "sku_overrides",
    "vllm_serve_env",
    "vllm_serve_layout",
    "vllm_serve_ray_env",
)

WORDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "path": "a path",
    "list": "a list",
    "dict": "a mapping",
}
OF = {"int": " of whole numbers", "float": " of numbers", "str": " of texts", "path": " of paths", "dict": " of mappings"}

# How near a name must be to be taken for a misspelt one (difflib's ratio): one that begins as ours do, and any other.
NEAR, VERY_NEAR = 0.8, 0.9


def _in_tasks(folder, pattern):
    """Return what matches ``pattern`` in a role's tasks."""
    found = set()
    tasks = os.path.join(folder, "tasks")
    for name in sorted(os.listdir(tasks)) if os.path.isdir(tasks) else ():
        with open(os.path.join(tasks, name), encoding="utf-8") as stream:
            found.update(re.findall(pattern, stream.read(), re.M))
    return found


class Roles:
    """All roles of the project, by name in ``names``.

    ``specs`` is ``{variable: option}`` of what they read, ``results`` are the names of what only a run makes, and
    ``shared`` those of what belongs to no role.
    """

    def __init__(self, folder=ROLES_DIR):
        self.folder = folder
        self.names = sorted(name for name in os.listdir(folder) if os.path.isdir(os.path.join(folder, name)))
        self.specs = {}
        self.results = set(OF_PLAYS)
        self.shared = set(OTHERS)
        self._validators = {}
        for name in self.names:
            self.results |= _in_tasks(os.path.join(folder, name), REGISTERED)
            self.shared |= _in_tasks(os.path.join(folder, name), OF_NODES)
            path = os.path.join(folder, name, "meta", "argument_specs.yml")
            if not os.path.exists(path):
                continue
            with open(path, encoding="utf-8") as stream:
                entries = yaml.load(stream, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["argument_specs"]
            for entry in entries.values():
                self.specs.update(entry.get("options") or {})

    def defaults(self, load):
        """Return the defaults of all roles in one mapping; ``load`` reads one file, as Ansible's loader does."""
        found = {}
        for name in self.names:
            path = os.path.join(self.folder, name, "defaults", "main.yml")
            if os.path.exists(path):
                found.update(load(path) or {})
        return found

    def role_of(self, name):
        """Return the role whose variables begin as this name does, or None; of several the one with the longest name."""
        return max((role for role in self.names if name.startswith(role + "_")), key=len, default=None)

    # -- values ----------------------------------------------------------------------------

    def fault(self, name, value):
        """Return what is wrong with a role's variable as a sentence, or None; what Ansible's own validator accepts is a value."""
        option = self.specs[name]
        if name in JUDGED_ELSEWHERE:
            return None
        kind = option.get("type", "str")
        if value is None:
            # Of an empty text nothing is nothing, too; any other role would compute with it.
            if option.get("default") in ("", None):
                return None
            return "%s is null (nothing after the colon), expected %s; leave it out for the role's own default" % (name, expected(option))
        if (kind in ("list", "dict") and isinstance(value, str)) and name in LISTS_IN_EXPRESSIONS + MAPPINGS_IN_EXPRESSIONS:
            return "%s is a text, expected %s; on the command line as JSON: -e '{\"%s\": …}'" % (name, expected(option), name)
        if name not in self._validators:
            keys = ("type", "elements", "choices")
            self._validators[name] = ArgumentSpecValidator({name: {key: option[key] for key in keys if key in option}})
        if not self._validators[name].validate({name: value}, validate_role_argument_spec=True).error_messages:
            return None
        return "%s is %s, expected %s" % (name, shown(name, value), expected(option))

    # -- names -----------------------------------------------------------------------------

    def _near(self, name, role, known):
        """Return the name of this role that is nearest to one that begins as its variables do; that all begin so says nothing."""
        start = role + "_"
        own = {item[len(start) :]: item for item in sorted(known) if item.startswith(start)}
        return [own[item] for item in difflib.get_close_matches(name[len(start) :], own, 1, 0.5)]

    def misspelt(self, names):
        """Return ``{name: sentence}`` for those of ``names`` that no role reads and that look as if one should.

        A name that begins as a role's variables do is meant for it. Where the role's name is a single word (lab, report), others may begin
        so as well: then, and where the beginning itself may be misspelt, only a name that is near to a known one is called.
        """
        known = set(self.specs) | self.results | self.shared
        found = {}
        for name in sorted(names):
            if name in known or name in REMOVED or not isinstance(name, str) or name.startswith(("_", "ansible_")):
                continue
            role = self.role_of(name) or ("plumbline" if name.startswith("plumbline_") else None)
            ours = role is not None and ("_" in role or role == "plumbline")
            close = (
                self._near(name, role, known) if ours else difflib.get_close_matches(name, sorted(known), 1, NEAR if role else VERY_NEAR)
            )
            if close:
                found[name] = "%s is read by nothing: did you mean %s?" % (name, close[0])
            elif role == "plumbline":
                found[name] = "%s is read by nothing: expected one of %s" % (
                    name,
                    ", ".join(sorted(n for n in known if n.startswith("plumbline_"))),
                )
            elif ours:
                found[name] = "%s is read by nothing: roles/%s/defaults/main.yml has what the role %s reads" % (name, role, role)
        return found


def expected(option):
    """Return in words what a role's variable must be."""
    if option.get("choices"):
        texts = [str(item) for item in option["choices"]]
        return " or ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))
    kind = option.get("type", "str")
    return WORDS.get(kind, kind) + (OF.get(option.get("elements"), "") if kind == "list" else "")


def shown(name, value):
    """Return a value as a message may have it: short, without what looks like a secret, and without what a mapping holds."""
    if isinstance(value, dict):
        return "a mapping"
    text = repr(str(value)) if isinstance(value, str) else repr(value)
    text = scrub_text("%s=%s" % (name, text)).partition("=")[2]
    return text if len(text) <= 80 else text[:60] + "…"
