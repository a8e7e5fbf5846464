"""Takes secrets out of text that is kept, and out of what a module was given: commands, logs, other programs' JSON, options."""

from __future__ import annotations

import re

HIDDEN = "[scrubbed]"
# As shlex.quote and repr write them: with blanks inside quotes.
_VALUE = r"""((?:'[^']*'|"[^"]*"|[^\s'"])+)"""
# Counts and ids of tokens are no secrets: max_num_batched_tokens, eos_token_id, tokenizer.
_WORDS = r"TOKEN(?!S|IZ|_ID)|SECRET|PASSWORD|PASSWD|PASSPHRASE|API_?KEY|ACCESS_KEY|ACCOUNT_?KEY|PRIVATE_KEY|CREDENTIAL|CONNECTION_STRING"
_NAMED = re.compile(r"\b(\w*(?:%s)\w*['\"]?)(=|: )%s" % (_WORDS, _VALUE), re.I)
_OPTION_NAME = r"--(?:[a-z_-]*(?:api[-_]key|access[-_]key|password|secret)|(?:[a-z_-]*[-_])?token)"
_OPTION = re.compile(r"(%s)([= ])%s" % (_OPTION_NAME, _VALUE))
_IS_OPTION = re.compile(_OPTION_NAME)
# Hugging Face, GitHub, GitLab, OpenAI, NVIDIA, Slack, AWS, and a signed JSON token. They begin a word. One of Hugging Face is letters
# and digits alone; hf_quant_config.json and hf_overrides are names.
_SHAPED = re.compile(
    r"\bhf_(?!(?:[a-z]+_)+[a-z]+\b|overrides\b|transfer\b)[A-Za-z0-9_-]{8,}"
    r"|\b(?:ghp_|gho_|ghs_|github_pat_|glpat-|sk-|nvapi-|xox[abp]-)[A-Za-z0-9_-]{8,}|\bAKIA[0-9A-Z]{16}\b"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+"
)
# The signature of a shared access URL, a password in an address, and a header.
# Without the @ behind it, what follows a host's colon is its port.
_CARRIED = re.compile(r"""([?&;]sig=|://[^\s/:@'"]*:(?=[^\s&'"@/]+@)|\bBearer )([^\s&'"@/]{3,})(?=@|[\s&'"]|$)""")
# A name of an environment variable alone says more than a word in a log: ENCRYPTION_KEY, STORAGE_SAS.
_VARIABLE = re.compile(r"%s|_KEY$|(?:^|_)(?:SAS|PAT|AUTH)$|_(?:PWD|PASS)$" % _WORDS, re.I)
# Shorter texts, numbers and paths stand in too many other places to be taken out of everything.
_LEAST_LETTERS = 8


def scrub_text(text):
    """Return text with the values of variables that look like secrets, and what looks like a token, taken out."""
    for pattern in (_NAMED, _OPTION):
        text = pattern.sub(r"\1\2" + HIDDEN, text)
    return _SHAPED.sub(HIDDEN, _CARRIED.sub(r"\1" + HIDDEN, text))


def is_secret_name(name):
    """Tell whether a variable of that name holds a secret."""
    return bool(_VARIABLE.search(str(name)))


def scrub_environment(env):
    """Return ``{name: value}`` in the order of names, without the values of variables that look like secrets."""
    return {name: HIDDEN if is_secret_name(name) else scrub_text(str(env[name])) for name in sorted(env)}


def _walk(value, found):
    """Return ``value`` without its secrets, and put each into the set ``found``."""
    if isinstance(value, dict):
        return {key: _hidden(item, found) if _holds(key, item) else _walk(item, found) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return _walk_words(value, found)
    if isinstance(value, str):
        for pattern, group in ((_NAMED, 3), (_OPTION, 3), (_CARRIED, 2), (_SHAPED, 0)):
            found.update(match.group(group).strip("'\"") for match in pattern.finditer(value))
        return scrub_text(value)
    return value


def _holds(name, value):
    """Tell whether ``value`` of that name is a secret; a mapping is looked into, and nothing given is none."""
    return is_secret_name(name) and value not in (None, "", [], {}) and not isinstance(value, (bool, dict))


def _hidden(value, found):
    found.update(str(item) for item in (value if isinstance(value, (list, tuple)) else [value]))
    return HIDDEN


def _walk_words(words, found):
    """Take the secrets out of a list; what follows an option such as ``--api-key`` is one, several words if there are."""
    clean, hiding = [], False
    for word in words:
        if isinstance(word, str) and word.startswith("-"):
            hiding = bool(_IS_OPTION.fullmatch(word))
            clean.append(_walk(word, found))
        else:
            clean.append(_hidden(word, found) if hiding else _walk(word, found))
    return clean


def scrub_options(options):
    """Return ``(clean, secrets)`` of a module's or a task's options: the same structure without secrets, and what has to vanish elsewhere.

    ``secrets`` are the texts that are long and odd enough to be taken out of everything else, too.
    """
    found = set()
    clean = _walk(options, found)
    return clean, {text for text in found if len(text) >= _LEAST_LETTERS and not text.isdigit() and not text.startswith(("/", "~", HIDDEN))}
