"""Why a node did not answer, as one sentence and what to do, from what Ansible and OpenSSH's client said.

The texts are OpenSSH's own (sshconnect.c, readconf.c, packet.c, kex.c, 7.x to 10.x) and those of Ansible's connection ``ssh``. A warning
in a frame of ``@`` is fourteen lines; the cause in it is one.
"""

from __future__ import annotations

import re

_PREFIX = re.compile(r"^(?:Task failed: )?(?:Data could not be sent to remote host \"[^\"]*\"\. )?.*?via ssh: ?", re.S)
_DEBUG = re.compile(r"^(?:debug\d: |OpenSSH_|\*\* ?(?:WARNING|This session|The server)|Warning: Permanently added)")
_SAID_LEAST = 300
_AGAIN = "; then run the playbook again"

# (what OpenSSH or Ansible says, the cause, what to do). The first that matches counts: from the particular to the general. Named groups go
# into both sentences, beside {host}, {target} (host and port for ssh) and {user}.
CAUSES = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED.*?Offending \S+ key in (?P<file>[^\n]+?):(?P<line>\d+)"
        r".*?(?P<remove>ssh-keygen -f [^\n]+)",
        "its host key is not the one that {file}, line {line}, holds for it",
        "if the machine was made anew: {remove}; if it was not, find out who answers there before you connect",
    ),
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED.*?Offending \S+ key in (?P<file>[^\n]+?):(?P<line>\d+)",
        "its host key is not the one that {file}, line {line}, holds for it",
        "if the machine was made anew: ssh-keygen -f {file} -R '{entry}'; if it was not, find out who answers there before you connect",
    ),
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|POSSIBLE DNS SPOOFING",
        "its host key is not the one that known_hosts holds for it",
        "if the machine was made anew: ssh-keygen -R '{entry}'; if it was not, find out who answers there before you connect",
    ),
    (
        r"UNPROTECTED PRIVATE KEY FILE.*?Permissions (?P<mode>\d+) for '(?P<file>[^']+)'",
        "ssh does not use the key {file}, since others may read it (mode {mode})",
        "chmod 600 {file}",
    ),
    (
        r"Bad owner or permissions on (?P<file>\S+)",
        "ssh does not use {file}, since others may write to it",
        "chmod 600 {file}; chown it to yourself",
    ),
    (
        r"Host key verification failed|host key is known for .* strict checking",
        "its host key is not known yet",
        "compare its fingerprint and let it in: ssh-keyscan {keyscan} >> ~/.ssh/known_hosts",
    ),
    (
        r"Too many authentication failures",
        "it refuses, since ssh offered it too many keys",
        "name the one key: ansible_ssh_private_key_file, and IdentitiesOnly=yes in ansible_ssh_common_args",
    ),
    (
        r"Permission denied \((?P<ways>[^)]*)\)|Permission denied, please try again",
        "it does not let {user} in ({ways})",
        "check ansible_user and ansible_ssh_private_key_file, and that the key is in ~/.ssh/authorized_keys there: ssh {target} true",
    ),
    (
        r"sshpass program|Invalid/[Ii]ncorrect password",
        "its password cannot be given to ssh, or is wrong",
        "use a key (ansible_ssh_private_key_file), or install sshpass and check ansible_password",
    ),
    (
        r"Could not resolve hostname (?P<name>[^\s:]+)",
        "the name {name} has no address",
        "set ansible_host to an address, or mend the name in DNS or /etc/hosts",
    ),
    (
        r"no matching (?P<what>[a-z ]+?) found\. Their offer: (?P<offer>[^\s]+)",
        "its SSH server and this ssh share no {what}; it offers {offer:.80}",
        "bring its SSH server up to date, or allow one of these in ansible_ssh_common_args",
    ),
    (r"Connection refused", "nothing listens there for ssh", "start sshd on it, or set ansible_port and ansible_host to where it listens"),
    (
        r"No route to host|Network is unreachable|Network unreachable",
        "no way leads to its address",
        "check that it is up and on this network, its address (ansible_host) and the routes: ip route get {host}",
    ),
    (
        r"banner exchange.*?(?:timed out|Connection to)|timed out during banner exchange",
        "something takes the connection there and says nothing",
        "check that sshd is what listens there and that the machine is not out of memory or hung: its console",
    ),
    (
        r"Connection timed out|Operation timed out|Connection to \S+ timed out|connect .*timed out|Timeout, server \S+ not responding"
        r"|Timeout \(\d+s\) waiting",
        "it does not answer in time",
        "check that it is up (power, console) and that no firewall drops port {port}",
    ),
    (
        r"kex_exchange_identification|ssh_exchange_identification|banner line|Bad packet length|Protocol major versions differ",
        "what listens there ends the connection before it says who it is",
        "check that sshd is what listens there, and its MaxStartups, AllowUsers and hosts.deny: journalctl -u ssh",
    ),
    (
        r"[Nn]o such identity: (?P<file>[^\s:]+)|Load key \"(?P<key>[^\"]+)\"",
        "ssh cannot use the key {file}{key}",
        "set ansible_ssh_private_key_file to a private key that can be read",
    ),
    (
        r"Failed to create temporary directory|No space left on device",
        "it lets {user} in, and Ansible cannot make its temporary folder there",
        "check free space and the home of {user} on it: ssh {target} 'df -h ~ /tmp; ls -ld ~'",
    ),
    (
        r"Connection (?:closed|reset)|Shared connection .* closed|Broken pipe|client_loop: send disconnect|mux_client",
        "the connection was there and broke",
        "see whether it rebooted or ran out of memory: ssh {target} 'uptime; journalctl -k -n 50'",
    ),
)  # fmt: skip
_TABLE = [(re.compile(pattern, re.S), cause, remedy) for pattern, cause, remedy in CAUSES]


# What :func:`silence` says, at the end of a line.
_SILENCE = re.compile(r"it has been silent for \d+ s[^\n]*(?=\n)")


def silence(silent_s, at_s, line):
    """Return the first line of the message on a node that fell silent ``at_s`` seconds into a task; ``line`` is its last of progress."""
    return "it has been silent for %d s; %d s into the task, its last word was: %s" % (silent_s, at_s, line or "nothing yet")


def explain(message, host, port=None, user=None):
    """Return ``(cause, remedy)`` as sentences; ``message`` is Ansible's, ``host``, ``port`` and ``user`` those of the connection.

    What is not known is told in ssh's own last words; an ssh that said nothing is told as such. How long a node has been silent stands
    behind the cause.
    """
    silent = _SILENCE.search(str(message or ""))
    if silent:
        cause, remedy = explain(message[silent.end() :], host, port, user)
        return "%s; %s" % (cause, silent.group()), remedy
    port = int(port) if str(port or "").isdigit() else 22
    who = "%s@%s" % (user, host) if user else str(host)
    words = {
        "host": host, "port": port, "user": user or "the user", "entry": host if port == 22 else "[%s]:%d" % (host, port),
        "target": who if port == 22 else "-p %d %s" % (port, who), "keyscan": host if port == 22 else "-p %d %s" % (port, host),
    }  # fmt: skip
    lines = [line.strip() for line in _PREFIX.sub("", str(message or ""), count=1).splitlines()]
    said = "\n".join(line for line in lines if line and not _DEBUG.match(line))
    for pattern, cause, remedy in _TABLE:
        match = pattern.search(said)
        if match:
            found = dict(words, **{key: value or "" for key, value in match.groupdict().items()})
            return cause.format(**found), remedy.format(**found) + _AGAIN
    look = "see what ssh says: ssh -v %s true" % words["target"]
    if not said.strip("@ \n"):
        return "ssh ended without a word", look + _AGAIN
    return " ".join(said.replace("@@", "").split())[-_SAID_LEAST:], look + _AGAIN


def said(item):
    """Return the message of one item of a loop over nodes: of a node that did not answer, why."""
    if not item.get("unreachable") or not any(pattern.search(str(item["msg"])) for pattern, _cause, _remedy in _TABLE):
        return item["msg"]
    return "%s → %s" % explain(item["msg"], item.get("item", "it"))
