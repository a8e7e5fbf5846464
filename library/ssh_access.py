#!/usr/bin/python
"""Ansible module: let another node's key in, or take it away."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ssh_access
short_description: Let other nodes' keys in on this node, restricted, or take them away
description:
  - Adds lines to the user's C(~/.ssh/authorized_keys), or takes them away, and leaves every other line as it is. Each change is made under
    a lock and written whole, so that runs beside each other do not undo each other's.
  - A line has C(restrict), and C(from=) and C(expiry-time=) where O(sources) and O(valid_s) are given (OpenSSH 7.7 and newer).
  - Lines of O(comment) that have expired are taken away on the way.
options:
  state:
    description: V(present) lets O(keys) in, V(absent) takes them away.
    type: str
    choices: [present, absent]
    default: present
  user:
    description: The user on this node who is logged in as.
    type: str
    required: true
  keys:
    description: Public keys, C(type base64 comment) each. None with V(absent) means all whose comment begins with O(comment).
    type: list
    elements: str
    default: []
  comment:
    description: What the comments of these keys begin with.
    type: str
    required: true
  sources:
    description: Numeric addresses that the keys may be used from; empty for any.
    type: list
    elements: str
    default: []
  valid_s:
    description: Seconds for which sshd takes the keys; V(0) for ever.
    type: int
    default: 0
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    description: Shows the lines of O(comment) only.
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Let mpirun's key in for an hour
  ssh_access:
    user: root
    keys: ["ssh-ed25519 AAAA... plumbline-mpi@node1"]
    comment: plumbline-mpi@
    sources: [10.0.0.4]
    valid_s: 3600
"""

RETURN = r"""
path:
  description: The file that the lines are in.
  type: str
  returned: success
"""

import os
import pwd
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.machine import authorized_keys

UNKNOWN = "ssh-ed25519 (the key that a run makes)"  # what check mode shows in the place of a key that nobody has made


def local_time():
    """Let times be the machine's own: sshd, a service, has no TZ of the user's."""
    os.environ.pop("TZ", None)
    time.tzset()


def lines_of(args, now_s):
    """Return the lines of the keys."""
    until_s = now_s + args["valid_s"] if args["valid_s"] else None
    return [authorized_keys.line(key, args["sources"], until_s) for key in args["keys"]]


def changed_text(args, now_s):
    """Return the function from the file's text to what it should be."""
    if args["state"] == "absent":
        return lambda text: authorized_keys.without_lines(text, args["keys"], args["comment"])
    lines = lines_of(args, now_s)
    return lambda text: authorized_keys.with_lines(text, lines, args["comment"], now_s)


def ours(text, comment):
    """Return the lines of ours."""
    return "".join(item for item in text.splitlines(True) if authorized_keys.comment(item).startswith(comment))


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "user": {"type": "str", "required": True},
            "keys": {"type": "list", "elements": "str", "no_log": False, "default": []},
            "comment": {"type": "str", "required": True},
            "sources": {"type": "list", "elements": "str", "default": []},
            "valid_s": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    args = module.params
    local_time()
    try:
        owner = pwd.getpwnam(args["user"])
    except KeyError:
        if args["state"] == "absent":
            module.exit_json(changed=False, path="")
        module.fail_json(msg="there is no user %s on this node: the key cannot be let in" % args["user"])
    home, path = owner.pw_dir, os.path.join(owner.pw_dir, ".ssh", "authorized_keys")
    try:
        function = changed_text(args, time.time())
        if module.check_mode:
            before = authorized_keys.read(path)
            after = function(before)
        else:
            before, after = authorized_keys.change(home, (owner.pw_uid, owner.pw_gid), function)
    except (OSError, ValueError) as error:
        module.fail_json(msg="cannot change %s: %s" % (path, error))
    shown = {"before": ours(before, args["comment"]), "after": ours(after, args["comment"])}
    if module.check_mode and args["state"] == "present" and not args["keys"]:
        shown["after"] += authorized_keys.options(args["sources"], time.time() + args["valid_s"] if args["valid_s"] else None)
        shown["after"] += " %s %s\n" % (UNKNOWN, args["comment"])
    header = {"before_header": path, "after_header": path}
    module.exit_json(changed=before != after or shown["before"] != shown["after"], path=path, diff=dict(shown, **header))


if __name__ == "__main__":
    main()
