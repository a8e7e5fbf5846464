"""What is known of one machine, by the name of its SKU: one table, one way to look a name up.

An entry is ``{section: {key: value}}``; the entries are data, in ``roles/sku/vars/main``. ``like`` names an entry that an entry
begins as. A name is found whatever its case and the blanks around it: Azure writes one size in several cases
(``Standard_ND96isr_H100_v5``, ``standard_nd96isr_h100_v5``).
"""

from __future__ import annotations

SECTIONS = ("health", "gpu", "ib", "nhc", "nccl")
# Keys of the section nccl; those of the other sections are in health/expect.py.
NCCL_KEYS = ("source", "transport", "env", "mca", "thresholds")
LIKE = "like"
AUTO = "auto"


def plain(name):
    """Return a name as names are compared."""
    return str(name).strip().lower()


def find(table, name):
    """Return ``(name as the table writes it, entry)``; ``(None, None)`` where the table has no such name."""
    wanted = plain(name)
    for known, entry in table.items():
        if plain(known) == wanted:
            return known, entry
    return None, None


def nothing():
    """Return the entry of a machine of which nothing is known: every section, empty."""
    return {section: {} for section in SECTIONS}


def _over(base, other):
    """Return ``base`` with ``other`` over it, key by key at every depth. None stays, for what this goes over in its turn."""
    found = dict(base)
    for key, value in other.items():
        below = found.get(key)
        found[key] = _over(below if isinstance(below, dict) else {}, value) if isinstance(value, dict) else value
    return found


def _given(entry):
    """Return an entry without its keys that are None, at every depth."""
    return {key: _given(value) if isinstance(value, dict) else value for key, value in entry.items() if value is not None}


def table(skus, hosts=None, overrides=None):
    """Return every SKU by name, ``{name: {section: {key: value}}}``, each section there.

    ``hosts`` are entries that are only there to be named by ``like``, and are left out of the result. ``overrides`` has the same shape
    and goes over both, by name and key by key at every depth; None takes a key away, a new name is a new SKU.

    Raises ``ValueError`` with what is wrong: an entry or section that is no mapping, an unknown section or key of ``nccl``, a ``like``
    that names no entry or leads back to itself.
    """
    own = dict(hosts or {}, **skus)
    if not isinstance(overrides or {}, dict):
        raise ValueError("expected {name: {section: {key: value}}}, got %r" % (overrides,))
    for name, change in (overrides or {}).items():
        if not isinstance(change, dict):
            raise ValueError("%s is %r, expected {section: {key: value}}" % (name, change))
        known, entry = find(own, name)
        own[known or str(name).strip()] = _over(entry or {}, change)
    shared = {plain(name) for name in hosts or {}}
    whole = {name: _given(_resolved(own, name, ())) for name in own if plain(name) not in shared}
    wrong = [text for name, entry in whole.items() for text in _problems(name, entry)]
    if wrong:
        raise ValueError("; ".join(wrong))
    return {name: dict(nothing(), **entry) for name, entry in whole.items()}


def _resolved(own, name, below):
    """Return the entry ``name`` with what it is like under it; ``below`` are the names that led here."""
    entry = dict(own[name])
    like = entry.pop(LIKE, None)
    if like is None:
        return entry
    known, _entry = find(own, like)
    if known is None:
        raise ValueError("%s is like %r, and there is no such entry: expected one of %s" % (name, like, ", ".join(sorted(own))))
    if known == name or known in below:
        raise ValueError("%s is like itself: %s" % (name, " → ".join((*below, name, known))))
    return _over(_resolved(own, known, (*below, name)), entry)


def _problems(name, entry):
    """Return what is wrong with the shape of an entry, as sentences."""
    found = []
    for section, keys in entry.items():
        if section not in SECTIONS:
            found.append("%s: unknown section %r, expected one of %s" % (name, section, ", ".join(SECTIONS)))
        elif not isinstance(keys, dict):
            found.append("%s: %s is %r, expected {key: value}" % (name, section, keys))
        elif section == "nccl":
            found += ["%s: %s" % (name, text) for text in _nccl_problems(keys)]
    return found


def _nccl_problems(keys):
    found = []
    for key, value in keys.items():
        if key not in NCCL_KEYS:
            found.append("unknown key nccl.%s, expected one of %s" % (key, ", ".join(NCCL_KEYS)))
        elif key != "source" and not isinstance(value, dict):
            found.append("nccl.%s is %r, expected {name: value}" % (key, value))
        elif key == "thresholds":
            wrong = [each for each in value if not isinstance(value[each], dict)]
            found += ["nccl.thresholds.%s is %r, expected {op, scope, size_bytes, …}" % (each, value[each]) for each in wrong]
    return found
