"""Runs a module's own main, as Ansible would, and returns what it printed."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.testing import patch_module_args


def run_module(module, capsys, **arguments):
    """Run ``module.main()`` with the arguments and return its result, whether it succeeded or failed."""
    with patch_module_args(arguments), pytest.raises(SystemExit):
        module.main()
    return json.loads(capsys.readouterr().out)
