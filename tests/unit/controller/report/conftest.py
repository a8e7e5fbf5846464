"""What the report's tests share: the records of a run folder that a test makes."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.controller.report.data import load
from ansible.module_utils.plumbline.controller.report.records.collect import collect
from project import SCHEMAS
from report_runs import write


@pytest.fixture
def records(tmp_path):
    """Write a run folder, read it, and return its records."""
    return lambda files: collect(load(str(write(files, tmp_path)), str(SCHEMAS)))
