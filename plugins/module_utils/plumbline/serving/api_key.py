"""The key of a server that asks for one: which one it is, and how Plumbline's own requests and vLLM's client show it.

vLLM asks for it under ``/v1`` and a few other paths (vllm/entrypoints/serve/middleware/authenticate.py), not for ``/metrics``, ``/health``
and ``/tokenize``. It goes with these all the same: what stands before a server may ask for it everywhere.
"""

from __future__ import annotations

import urllib.request

VARIABLE = "VLLM_API_KEY"
# vLLM's benchmark client reads it from its environment (vllm/benchmarks/lib/endpoint_request_func.py).
CLIENT_VARIABLE = "OPENAI_API_KEY"


def split(argv):
    """Return ``(rest, keys)``: ``argv`` without ``--api-key``, and the keys of its last use, None where it is not there."""
    rest, keys, words = [], None, [str(word) for word in argv]
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if name.replace("_", "-") != "--api-key":
            rest.append(word)
        elif equals:
            keys = [value]
        else:
            keys = []
            while words and not words[0].startswith("-"):
                keys.append(words.pop(0))
    return rest, keys


def accepted(argv, env):
    """Return a key that a server with these arguments and this environment takes, ``""`` where it asks for none.

    Of several any will do: it is the first. As in vLLM the option wins over the variable, and empty keys count as none.
    """
    keys = split(argv)[1] or [str((env or {}).get(VARIABLE, ""))]
    return next(filter(None, keys), "")


def problem(key):
    """Return why no client can show this key, ``""`` for one that can be shown; the sentence does not hold it."""
    # A header has no place for a line's end, servers strip blanks, and clients differ in how they encode what is not ASCII.
    if key.isascii() and key.isprintable() and key == key.strip():
        return ""
    return "the API key has a character that no HTTP header carries: a blank or a line's end around it, or one that is not ASCII"


def request(url, key="", body=None, content_type=None):
    """Return the request for ``url`` with the ``key``, which no redirection takes elsewhere; ValueError for one that cannot be shown."""
    if problem(key):
        raise ValueError(problem(key))
    made = urllib.request.Request(url, body, {"Content-Type": content_type} if content_type else {})
    if key:
        made.add_unredirected_header("Authorization", "Bearer " + key)
    return made


def client_environment(env, key):
    """Return the environment of vLLM's benchmark client: ``env`` with the server's ``key``, as it is without one."""
    return dict(env or {}, **({CLIENT_VARIABLE: key} if key else {}))
