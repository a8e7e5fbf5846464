"""What the tests of a node's health share."""

from __future__ import annotations

import pytest
from health_nodes import sysfs


@pytest.fixture
def root(tmp_path):
    """Return a folder with the sysfs of a healthy ND H100 v5."""
    sysfs(tmp_path)
    return tmp_path
