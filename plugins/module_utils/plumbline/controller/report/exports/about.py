"""What every line and every metric says of its fact: which node, of what kind, which layout."""

from __future__ import annotations

from ..records.entries import of_kind
from ..records.layouts import layout_name
from ..records.reading import get, text


def skus(data):
    """Return ``{host: SKU}`` by the nodes' own health facts; a host whose SKU nobody named is left out."""
    found = {entry["host"]: text(get(entry["fact"], "context", "sku")) for entry in of_kind(data, "health") if entry["name"] == "node"}
    return {host: sku for host, sku in found.items() if sku}


def layout_of(entry):
    """Return the layout that a fact is about, None for one of a node."""
    return layout_name(entry) if entry["kind"] in ("startup", "benchmark") else None
