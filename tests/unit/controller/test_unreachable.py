"""What OpenSSH's client says becomes one cause and what to do.

The texts are those of OpenSSH 9.2 (Debian 12) against a server on the loopback; the two that need another machine, and those of keys that
others may read, are OpenSSH's source (sshconnect.c, authfile.c, readconf.c).
"""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.controller import layout, postmortem
from ansible.module_utils.plumbline.controller.unreachable import explain, said

CHANGED = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Someone could be eavesdropping on you right now (man-in-the-middle attack)!
It is also possible that a host key has just been changed.
The fingerprint for the ED25519 key sent by the remote host is
SHA256:x7PSNWigJHAE1uf3D/NXCGzgXcz4iuhFUmnkttGUL7c.
Please contact your system administrator.
Add correct host key in /home/me/.ssh/known_hosts to get rid of this message.
Offending ED25519 key in /home/me/.ssh/known_hosts:7
"""
DEBIAN = """  remove with:
  ssh-keygen -f "/home/me/.ssh/known_hosts" -R "[10.0.0.4]:2222"
"""
ENDED = """Host key for [10.0.0.4]:2222 has changed and you have requested strict checking.
Host key verification failed."""
UNKNOWN = "No ED25519 host key is known for [10.0.0.4]:2222 and you have requested strict checking.\nHost key verification failed."
OPEN_KEY = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@         WARNING: UNPROTECTED PRIVATE KEY FILE!          @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
Permissions 0644 for '/home/me/id' are too open.
It is required that your private key files are NOT accessible by others.
This private key will be ignored.
Load key "/home/me/id": bad permissions
azure@10.0.0.4: Permission denied (publickey)."""
OFFER = "sntrup761x25519-sha512,sntrup761x25519-sha512@openssh.com,curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256"
TEXTS = [
    (CHANGED + DEBIAN + ENDED, "its host key is not the one that /home/me/.ssh/known_hosts, line 7",
     'ssh-keygen -f "/home/me/.ssh/known_hosts" -R "[10.0.0.4]:2222"'),
    (CHANGED + ENDED, "its host key is not the one that /home/me/.ssh/known_hosts, line 7",
     "ssh-keygen -f /home/me/.ssh/known_hosts -R '[10.0.0.4]:2222'"),
    (UNKNOWN, "its host key is not known yet", "ssh-keyscan -p 2222 10.0.0.4 >> ~/.ssh/known_hosts"),
    ("Host key verification failed.", "its host key is not known yet", "ssh-keyscan"),
    (OPEN_KEY, "does not use the key /home/me/id, since others may read it (mode 0644)", "chmod 600 /home/me/id"),
    ("Bad owner or permissions on /home/me/.ssh/config", "does not use /home/me/.ssh/config", "chmod 600 /home/me/.ssh/config"),
    ("azure@10.0.0.4: Permission denied (publickey,password).", "does not let azure in (publickey,password)",
     "ssh -p 2222 azure@10.0.0.4 true"),
    ("Received disconnect from 10.0.0.4 port 2222:2: Too many authentication failures\nDisconnected from 10.0.0.4 port 2222",
     "offered it too many keys", "IdentitiesOnly"),
    ("ssh: connect to host 10.0.0.4 port 2222: Connection refused", "nothing listens there for ssh", "start sshd"),
    ("ssh: connect to host 10.0.0.4 port 2222: No route to host", "no way leads to its address", "ip route get 10.0.0.4"),
    ("ssh: connect to host 10.0.0.4 port 2222: Network is unreachable", "no way leads to its address", "ip route get 10.0.0.4"),
    ("ssh: connect to host 10.0.0.4 port 2222: Connection timed out", "does not answer in time", "no firewall drops port 2222"),
    ("ssh: connect to host 10.0.0.4 port 2222: Operation timed out", "does not answer in time", "no firewall drops port 2222"),
    ("Connection timed out during banner exchange\nConnection to 10.0.0.4 port 2222 timed out",
     "takes the connection there and says nothing",
     "out of memory or hung"),
    ("ssh: Could not resolve hostname node7.cluster: Name or service not known",
     "the name node7.cluster has no address", "set ansible_host"),
    ("kex_exchange_identification: Connection closed by remote host\nConnection closed by 10.0.0.4 port 2222",
     "ends the connection before it says who it is", "MaxStartups"),
    ("kex_exchange_identification: read: Connection reset by peer\nConnection reset by 10.0.0.4 port 2222",
     "ends the connection before it says who it is", "MaxStartups"),
    ("Unable to negotiate with 10.0.0.4 port 2222: no matching host key type found. Their offer: ssh-rsa",
     "share no host key type; it offers ssh-rsa", "bring its SSH server up to date"),
    ("Unable to negotiate with 10.0.0.4 port 2222: no matching key exchange method found. Their offer: " + OFFER,
     "share no key exchange method; it offers sntrup761", "bring its SSH server up to date"),
    ('Load key "/home/me/id": invalid format', "cannot use the key /home/me/id", "ansible_ssh_private_key_file"),
    ("Shared connection to 10.0.0.4 closed.", "the connection was there and broke", "uptime"),
    ("client_loop: send disconnect: Broken pipe", "the connection was there and broke", "uptime"),
    ("Connection closed by 10.0.0.4 port 2222", "the connection was there and broke", "uptime"),
    ("", "ssh ended without a word", "ssh -v -p 2222 azure@10.0.0.4 true"),
    ("@@@@@\n", "ssh ended without a word", "ssh -v -p 2222"),
    ("something that nobody has seen before", "something that nobody has seen before", "ssh -v -p 2222"),
]  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "Task failed: "])
@pytest.mark.parametrize(("text", "cause", "remedy"), TEXTS)
def test_what_ssh_says_is_a_cause_and_what_to_do(prefix, text, cause, remedy):
    found = explain(prefix + "Failed to connect to the host via ssh: " + text, "10.0.0.4", 2222, "azure")
    assert cause in found[0] and remedy in found[1], found
    assert "\n" not in "".join(found) and "@@" not in "".join(found) and len(found[0]) < 310 and found[1].endswith("run the playbook again")


def test_an_empty_message_and_what_ansible_says_itself():
    assert explain("", "n1")[0] == explain(None, "n1")[0] == "ssh ended without a word"
    temporary = "Failed to create temporary directory. In some cases, you may have been able to authenticate."
    assert "cannot make its temporary folder" in explain(temporary, "n1")[0]
    assert (
        "sshpass" in explain("to use the 'ssh' connection type with passwords, you must install the sshpass program", "n1")[0] + "sshpass"
    )


def test_lines_of_minus_v_hide_no_cause():
    debug = "debug1: connect to address 10.0.0.5 port 22: Connection refused"
    text = "Failed to connect to the host via ssh: %s\r\nazure@10.0.0.4: Permission denied (publickey)." % debug
    assert explain(text, "10.0.0.4")[0].startswith("it does not let the user in")


def test_a_node_that_was_lost_in_a_loop_is_told_by_its_cause():
    item = {"item": "node2", "unreachable": True, "msg": "Failed to connect to the host via ssh: " + CHANGED + ENDED}
    assert "@" not in said(item) and "ssh-keygen" in said(item)
    assert "ssh-keygen" in postmortem.sentences([item])[0]
    assert "ssh-keygen" in layout.prepared([{"results": [item]}], {"image_problems": []})["problems"][0]
    assert said({"item": "node2", "msg": "Connection refused by the store"}) == "Connection refused by the store", (
        "a module's own words stay"
    )
