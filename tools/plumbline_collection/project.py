"""What the project has: the names that need the collection's in front, and its pins."""

from __future__ import annotations

import ast

import tomllib

NAMESPACE, NAME = "plumbline", "cluster"
COLLECTION = "%s.%s" % (NAMESPACE, NAME)
# Kinds of plugins that there are rules for.
KINDS = ("action", "callback", "filter", "inventory", "module_utils")


class Project:
    """The project in the folder ``root``."""

    def __init__(self, root):
        self.root = root
        self.settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        self.version = self.settings["version"]
        self.modules = sorted(path.stem for path in (root / "library").glob("*.py"))
        self.actions = sorted({*self.modules, *(path.stem for path in (root / "plugins" / "action").glob("*.py"))})
        self.roles = sorted(path.name for path in (root / "roles").iterdir() if path.is_dir())
        self.playbooks = sorted(path.stem for path in (root / "playbooks").glob("*.yml"))
        self.filters = sorted(name for path in (root / "plugins" / "filter").glob("*.py") for name in filters_of(path.read_text()))
        self.inventories = sorted(path.stem for path in (root / "plugins" / "inventory").glob("*.py"))

    def unknown_kinds(self):
        """Return the kinds of plugins that the project has and that no rule is there for."""
        return sorted(path.name for path in (self.root / "plugins").iterdir() if path.is_dir() and path.name not in (*KINDS, "__pycache__"))

    def pins(self, *names):
        """Return the project's own pins of these distributions, in order."""
        found = {item.partition("==")[0]: item for item in self.settings["dependencies"]}
        return [found[name] for name in names]

    def azure_pins(self):
        """Return the pins of what inventory/azure needs."""
        return list(self.settings["optional-dependencies"]["azure"])

    def constraints(self):
        """Return ``{distribution: line}`` of everything that was tested; where the Azure SDK asks for an older one, that."""
        found = {}
        for name in ("constraints.txt", "constraints-azure.txt"):
            for line in (self.root / name).read_text(encoding="utf-8").splitlines():
                if line and not line.startswith("#"):
                    found[line.partition("==")[0].lower().replace("_", "-")] = line
        return found


def filters_of(source):
    """Return the names under which a filter plugin's ``filters`` gives its filters to Ansible."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name == "filters":
            (given,) = [item.value for item in ast.walk(node) if isinstance(item, ast.Return)]
            return [key.value for key in given.keys]
    return []
