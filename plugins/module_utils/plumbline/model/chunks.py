"""The chunks of a model: how large they are, and the hash of each, so that what a relay hands on can be told from what the source has.

A file of their hashes lies beside the source's manifest, made once, of the same bytes that the manifest's own hashes are of. They go to
each node with the manifest.
"""

from __future__ import annotations

import base64
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

from ..core.files import write_atomically
from .chunk_server import layout, read_file

NAME = ".plumbline-chunks"
MIB = 2**20
SMALLEST, LARGEST = MIB // 16, 32 * MIB
# A chain of n relays takes n chunks' time longer than one copy, and each chunk costs a request: a thousandth of the model balances them.
PARTS = 1024
DIGEST = hashlib.sha256().digest_size


def size_for(total):
    """Return the size of a chunk for a model of ``total`` bytes: a power of two near a thousandth of it, 64 KiB to 32 MiB."""
    size = SMALLEST
    while size < total // PARTS and size < LARGEST:
        size *= 2
    return size


def chunk_bytes(manifest):
    """Return the size of a manifest's chunks, in bytes."""
    return size_for(sum(entry["size"] for entry in manifest["files"].values()))


def of(manifest):
    """Return ``[(name, offset, length)]`` of all chunks."""
    return layout(manifest, chunk_bytes(manifest))


def read(folder, sizes, threads):
    """Return ``({name: SHA-256}, hashes of all chunks)`` of the files ``{name: size}``. Reads every byte once; raises OSError."""
    size = size_for(sum(sizes.values()))

    def one(name):
        whole, parts = hashlib.sha256(), []
        with open(os.path.join(folder, name), "rb") as stream:
            for data in iter(lambda: stream.read(size), b""):
                whole.update(data)
                parts.append(hashlib.sha256(data).digest())
        return whole.hexdigest(), b"".join(parts)

    names = sorted(sizes)
    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        found = dict(zip(names, pool.map(one, names)))
    return {name: found[name][0] for name in names}, b"".join(found[name][1] for name in names)


def decode(text, manifest):
    """Return the list of hashes in base64 text, None where they are not as many as the manifest's chunks."""
    try:
        data = base64.b64decode(text or "", validate=True)
    except ValueError:
        return None
    if len(data) != len(of(manifest)) * DIGEST:
        return None
    return [data[at : at + DIGEST] for at in range(0, len(data), DIGEST)]


def encode(hashes):
    """Return the hashes as base64 text."""
    return base64.b64encode(hashes).decode("ascii")


def load(folder, manifest, digest):
    """Return the base64 text kept in a model's folder, None where it is missing or another manifest's."""
    kept, _line, text = (read_file(os.path.join(folder, NAME)) or b"").decode("ascii", errors="replace").partition("\n")
    return text if kept == digest and decode(text, manifest) is not None else None


def save(folder, text, digest):
    """Keep the hashes beside the manifest whose SHA-256 is ``digest``."""
    write_atomically(os.path.join(folder, NAME), "%s\n%s" % (digest, text))
