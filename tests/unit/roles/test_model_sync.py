"""Where the keys of the model's copy may come from."""

from __future__ import annotations

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from project import ROOT

ROLE = ROOT / "roles/model_sync"
KEY = "ssh-ed25519 AAAA plumbline-model-sync@%s"


def let_in(keys):
    """Return ``(keys, sources)`` of the task that lets in keys, for pullers whose ``ssh_key`` said ``keys`` (by name)."""
    loader = DataLoader()
    variables = loader.load_from_file(str(ROLE / "vars/main.yml"), trusted_as_template=True)
    hosts = {name: {} if said is None else {"__model_sync_key_result": said} for name, said in keys.items()}
    variables.update(hostvars={"head": {}, **hosts}, __model_sync_pullers=list(keys))
    (block,) = loader.load_from_file(str(ROLE / "tasks/copy.yml"), trusted_as_template=True)
    (task,) = (item for item in block["block"] if "ssh_access" in item)
    given, templar = task["ssh_access"], Templar(loader=loader, variables=variables)
    return templar.template(given["keys"]), templar.template(given["sources"])


def made(name, *sources):
    return {"public_key": KEY % name, "sources": list(sources)}


@pytest.mark.parametrize(
    ("keys", "names", "sources"),
    [
        ({"a": made("a", "10.0.0.5"), "b": made("b", "10.0.0.6", "fd00::6"), "c": made("c", "10.0.0.5")}, "abc",
         ["10.0.0.5", "10.0.0.6", "fd00::6"]),
        ({"a": made("a", "10.0.0.5"), "b": made("b")}, "ab", []),
        # A node that has no key comes from nowhere: it neither adds an address nor opens the others' lines.
        ({"a": made("a", "10.0.0.5"), "b": {"failed": True, "msg": "cannot make the key"}, "c": None}, "a", ["10.0.0.5"]),
        ({"a": None}, "", []),
    ],
    ids=["all know", "one knows no address", "one has no key", "none has"],
)  # fmt: skip
def test_keys_are_let_in_from_the_pulling_nodes_addresses_only(keys, names, sources):
    assert let_in(keys) == ([KEY % name for name in names], sources)
