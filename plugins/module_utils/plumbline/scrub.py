"""Takes secrets out of text that is kept: commands, logs, other programs' JSON."""

from __future__ import annotations

import re

_NAMED = re.compile(r"\b([A-Za-z_]*(?:TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIAL)[A-Za-z_]*)(=|: )(\S+)", re.I)
_OPTION = re.compile(r"(--(?:api-key|hf-token|[a-z-]*password|[a-z-]*secret))([= ])(\S+)")
_SHAPED = re.compile(r"\b(?:hf_|ghp_|gho_|glpat-|sk-)[A-Za-z0-9_-]{8,}")


def scrub_text(text):
    """Return text with the values of variables that look like secrets, and what looks like a token, taken out."""
    for pattern in (_NAMED, _OPTION):
        text = pattern.sub(r"\1\2[scrubbed]", text)
    return _SHAPED.sub("[scrubbed]", text)
