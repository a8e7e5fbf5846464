"""Takes secrets out of text that is kept: commands, logs, other programs' JSON."""

from __future__ import annotations

import re

# As shlex.quote and repr write them: with blanks inside quotes.
_VALUE = r"""((?:'[^']*'|"[^"]*"|[^\s'"])+)"""
# Counts and ids of tokens are no secrets: max_num_batched_tokens, eos_token_id, tokenizer.
_NAMED = re.compile(r"\b(\w*(?:TOKEN(?!S|IZ|_ID)|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|CREDENTIAL)\w*['\"]?)(=|: )" + _VALUE, re.I)
_OPTION = re.compile(r"(--(?:api-key|hf-token|[a-z-]*password|[a-z-]*secret))([= ])" + _VALUE)
_SHAPED = re.compile(r"\b(?:hf_|ghp_|gho_|glpat-|sk-)[A-Za-z0-9_-]{8,}")


def scrub_text(text):
    """Return text with the values of variables that look like secrets, and what looks like a token, taken out."""
    for pattern in (_NAMED, _OPTION):
        text = pattern.sub(r"\1\2[scrubbed]", text)
    return _SHAPED.sub("[scrubbed]", text)


def scrub_environment(env):
    """Return ``{name: value}`` in the order of names, without the values of variables that look like secrets."""
    return {name: "[scrubbed]" if _NAMED.search("%s=x" % name) else scrub_text(str(env[name])) for name in sorted(env)}
