"""Reaching another node by ssh with a key made for it."""

from __future__ import annotations

import subprocess

import pytest
from ansible.module_utils.plumbline.machine import ssh


def test_known_hosts_text_takes_the_port_and_drops_comments():
    assert ssh.known_hosts_text("h", 22, ["ssh-ed25519 AAA root@h"]) == "h ssh-ed25519 AAA\n"
    assert ssh.known_hosts_text("h", 2222, ["ssh-ed25519 AAA"]) == "[h]:2222 ssh-ed25519 AAA\n"


# 10.0.0.5 in IPv6's clothes is written with dots by the C library, and in hexadecimal by ipaddress.
@pytest.mark.parametrize(
    ("given", "looked_for"),
    [("fd00:0:0:0:0:0:0:11", "fd00::11"), ("FD00::11", "fd00::11"), ("::FFFF:10.0.0.5", "::ffff:10.0.0.5")],
)
@pytest.mark.parametrize(("port", "form"), [(22, "%s"), (2222, "[%s]:2222")])
def test_an_ipv6_address_is_found_in_known_hosts_by_its_canonical_form(tmp_path, given, looked_for, port, form):
    known = tmp_path / "known_hosts"
    known.write_text(
        ssh.known_hosts_text(given, port, ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"])
    )
    found = subprocess.run(["ssh-keygen", "-F", form % looked_for, "-f", str(known)], capture_output=True, text=True, check=False)
    assert found.returncode == 0 and "ssh-ed25519" in found.stdout


def test_what_is_no_ipv6_address_is_written_once():
    for host in ("10.0.0.5", "node3.example.com", "fe80::1%eth0", "fd00::11"):
        assert ssh.known_hosts_text(host, 22, ["ssh-ed25519 AAA"]) == host + " ssh-ed25519 AAA\n"


def test_ssh_trusts_only_what_it_was_given():
    command = ssh.command(2222, "/k", "/known")
    for option in (
        "-i /k",
        "-p 2222",
        "StrictHostKeyChecking=yes",
        "UserKnownHostsFile=/known",
        "GlobalKnownHostsFile=/dev/null",
        "-F none",
    ):
        assert option in command


HOSTS = [{"address": "10.0.0.5", "port": 22, "host_keys": []}, {"address": "node3.example.com", "port": 2222, "host_keys": []}]


def effective(tmp_path, host):
    """What the real ssh makes of the configuration."""
    path = tmp_path / "config"
    path.write_text(ssh.config_text(HOSTS, "hpc", "/run/a b/id", "/run/a b/known"))
    text = subprocess.run(["ssh", "-F", str(path), "-G", host], capture_output=True, text=True, check=True).stdout
    return dict(line.partition(" ")[::2] for line in text.splitlines())


# Open MPI 4 asks for node3 where the host file has node3.example.com.
@pytest.mark.parametrize(
    ("host", "name", "port"),
    [("10.0.0.5", "10.0.0.5", "22"), ("node3.example.com", "node3.example.com", "2222"), ("node3", "node3.example.com", "2222")],
)
def test_ssh_itself_takes_the_configuration_for_each_host_and_learns_no_host_key(tmp_path, host, name, port):
    found = effective(tmp_path, host)
    assert (found["hostname"], found["port"], found["user"]) == (name, port, "hpc")
    assert found["identityfile"] == "/run/a b/id" and found["userknownhostsfile"].strip('"') == "/run/a b/known"
    assert found["stricthostkeychecking"] in ("true", "yes") and found["globalknownhostsfile"] == "/dev/null"
    assert (found["batchmode"], found["identitiesonly"], found["identityagent"]) == ("yes", "yes", "none")
