"""What the role sku knows of each machine, as its variables give it to other roles."""

from __future__ import annotations

import re

import yaml
from ansible.module_utils.plumbline.machine import sku
from project import ROOT

FOLDER = ROOT / "roles" / "sku" / "vars" / "main"
VARIABLES = {}
for _path in sorted(FOLDER.glob("*.yml")):
    VARIABLES.update(yaml.safe_load(_path.read_text()))


def listed(variable):
    """Return ``{name: entry}`` of a list of entries, whose values name their variables: ``"{{ __sku_lab }}"``."""
    return {name: VARIABLES[re.fullmatch(r"\{\{ (\w+) \}\}", text)[1]] for name, text in VARIABLES[variable].items()}


def table(overrides=None):
    """Return every SKU, ``{name: {section: {key: value}}}``."""
    return sku.table(listed("__sku_skus"), listed("__sku_hosts"), overrides)
