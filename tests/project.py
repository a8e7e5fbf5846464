"""Where things of the project are, for its tests, and how a plugin is imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CAPTURES = ROOT / "tests" / "captures"
H200 = CAPTURES / "h200"
SCHEMAS = ROOT / "docs" / "schema"


def load(path):
    """Import a plugin by its path in the project: plugins of different types may share a name."""
    name = path.replace("/", "_").removesuffix(".py")
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
