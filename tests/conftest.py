"""Makes the project's module_utils importable the way Ansible imports them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import ansible.module_utils

ROOT = Path(__file__).resolve().parent.parent

ansible.module_utils.__path__.append(str(ROOT / "plugins" / "module_utils"))
sys.path.append(str(ROOT / "library"))


def load(path):
    """Import a plugin by its path in the project: plugins of different types may share a name."""
    name = path.replace("/", "_").removesuffix(".py")
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
