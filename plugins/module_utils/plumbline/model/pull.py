"""Pull files from another node with rsync over ssh: the command, its statistics, its failures."""

from __future__ import annotations

import re


def rsync_command(user, host, source_path, path, list_file, remote_shell):
    """Return rsync's argv for the files named in ``list_file``.

    ``--ignore-times``: the caller has compared hashes, so each listed file is to be copied whatever its time
    and size say. ``--partial``: an interrupted large file goes on where it stopped. Links become files.
    """
    return [
        "rsync", "--times", "--copy-links", "--partial", "--ignore-times", "--chmod=D755,F644", "--timeout=60",
        "--no-human-readable", "--stats", f"--files-from={list_file}", "-e", remote_shell,
        f"{user}@{host}:{source_path.rstrip('/')}/", f"{path.rstrip('/')}/",
    ]  # fmt: skip


def received_bytes(stats):
    """Return the bytes that rsync says it received; None when its statistics are not there."""
    found = re.search(r"^Total bytes received: ([\d,.]+)$", stats or "", re.MULTILINE)
    return int(re.sub(r"[,.]", "", found.group(1))) if found else None


def explain(status, stderr, source):
    """Return ``(check, seen, remedy)`` for an rsync that failed. ``status`` None: stopped at the timeout."""
    text = " / ".join(line.strip() for line in (stderr or "").splitlines() if line.strip())[:600]
    seen = f"rsync from {source} ended with status {status}: {text or 'nothing was said'}"
    if status is None:
        seen = f"rsync from {source} was not done in time: {text or 'nothing was said'}"
        return "model.transfer", seen, "raise model_sync_timeout_s, or look at the link; the next run goes on from here"
    if "No space left on device" in text or "Disk quota exceeded" in text:
        return "model.disk", seen, "free space on this node, or set model_sync_path to a larger disk"
    if "Host key verification failed" in text:
        return "model.ssh", seen, "the head answers with another host key than it has: who answers at that address?"
    if "Permission denied" in text and status == 255:
        return "model.ssh", seen, "the head did not accept this node's key: look at its authorized_keys and sshd log"
    if status == 255 or "Connection refused" in text or "timed out" in text:
        return "model.ssh", seen, "is the head's sshd up and reachable from this node? then run it again"
    if "No such file or directory" in text or "vanished" in text:
        return "model.source", seen, "the head's files changed during the copy: check the head's verdict, run it again"
    return "model.transfer", seen, "run it again; the copy goes on where it stopped"
