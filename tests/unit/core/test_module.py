"""A module's result holds no secret that it was given, whether it succeeds, fails, or refuses its options."""

from __future__ import annotations

import importlib
import json

import pytest
from ansible.module_utils.plumbline.core.module import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from project import ROOT

SPEC = {"env": {"type": "dict", "default": {}}, "extra_args": {"type": "list", "elements": "str", "default": []}, "n": {"type": "int"}}
GIVEN = {"env": {"HF_TOKEN": "plainSecretWords", "ONE": "1", "TINY_SECRET": "1"}, "extra_args": ["--api-key", "keyMadeUp4711"], "n": 11}


def ended(capsys, given, end):
    with patch_module_args(given), pytest.raises(SystemExit):
        end(AnsibleModule(argument_spec=SPEC))
    return json.loads(capsys.readouterr().out)


def test_a_result_is_useful_and_holds_no_secret(capsys):
    found = ended(capsys, GIVEN, lambda module: module.exit_json(log="it said plainSecretWords and 1 of 11", numbers=[1, 11]))
    assert "plainSecretWords" not in json.dumps(found) and "keyMadeUp4711" not in json.dumps(found)
    arguments = found["invocation"]["module_args"]
    assert arguments["env"] == {"HF_TOKEN": "[scrubbed]", "ONE": "1", "TINY_SECRET": "[scrubbed]"} and arguments["n"] == 11
    assert found["log"].endswith("and 1 of 11") and found["numbers"] == [1, 11], "a short value takes nothing out of the rest"


def test_a_failure_holds_none_either(capsys):
    found = ended(capsys, GIVEN, lambda module: module.fail_json(msg="cannot use keyMadeUp4711 with HF_TOKEN=plainSecretWords"))
    assert found["failed"] and "plainSecretWords" not in json.dumps(found) and "keyMadeUp4711" not in json.dumps(found)


def test_options_that_are_refused_are_not_quoted_with_their_secrets(capsys):
    found = ended(capsys, {"env": "HF_TOKEN: plainSecretWords", "n": 1}, lambda module: module.exit_json())
    assert found["failed"] and "env" in found["msg"] and "plainSecretWords" not in json.dumps(found)


@pytest.mark.parametrize(
    "path", sorted(path for path in (ROOT / "library").glob("*.py") if not path.name.startswith("lab_")), ids=lambda path: path.stem
)
def test_every_module_that_takes_an_environment_or_arguments_is_one_of_these(path):
    text = path.read_text()
    if any('"%s": {"type"' % name in text for name in ("env", "extra_args", "layout", "mpirun_args")):
        assert importlib.import_module(path.stem).AnsibleModule is AnsibleModule
