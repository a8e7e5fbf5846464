"""The addresses by which nodes reach each other, out of the inventory's variables."""

from __future__ import annotations

import pytest
from ansible.plugins.loader import filter_loader
from project import ROOT


@pytest.fixture
def addresses():
    filter_loader.add_directory(str(ROOT / "plugins/filter"))
    return filter_loader.get("plumbline_addresses").j2_function


def test_the_first_variable_that_is_set_counts(addresses):
    hostvars = {"a": {"ansible_host": "10.0.0.4"}, "b": {"ansible_host": "1.2.3.4", "plumbline_address": "10.0.0.5"}, "c": {}}
    assert addresses(["a", "b", "c"], hostvars) == ["10.0.0.4", "10.0.0.5", "c"]


@pytest.mark.parametrize("given", ["127.0.0.1", "localhost", "::1"])
def test_the_loopback_has_one_name(addresses, given):
    assert addresses(["this_machine"], {"this_machine": {"ansible_host": given}}) == ["127.0.0.1"]


def test_ssh_takes_the_forwarded_port_at_ansible_host_and_sshds_own_elsewhere():
    filter_loader.add_directory(str(ROOT / "plugins/filter"))
    ssh_hosts = filter_loader.get("plumbline_ssh_hosts").j2_function
    read = {"host_keys": ["ssh-ed25519 AAAA"], "port": 2022}
    hostvars = {
        "a": {"ansible_host": "10.0.0.4", "ansible_port": 2201, "read": read},
        "b": {"ansible_host": "1.2.3.4", "ansible_port": 50001, "plumbline_address": "10.0.0.5", "read": read},
        "c": {"ansible_host": "10.0.0.6", "read": {"failed": True}},
    }
    assert ssh_hosts(["a", "b", "c"], hostvars, "own", "read") == [
        {"address": "10.0.0.4", "port": 2201, "host_keys": ["ssh-ed25519 AAAA"]},
        {"address": "10.0.0.5", "port": 2022, "host_keys": ["ssh-ed25519 AAAA"]},
        {"address": "10.0.0.6", "port": 22, "host_keys": []},
    ]
