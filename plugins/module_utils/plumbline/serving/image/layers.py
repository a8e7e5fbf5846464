"""How far a pull is, from what the engine says of each layer."""

from __future__ import annotations

# What the API's ``status`` says of a layer whose bytes are all here.
_HERE = ("Download complete", "Verifying Checksum", "Extracting", "Pull complete", "Already exists")


class Layers:
    """The layers of one pull; :meth:`hear` takes the API's messages in their order."""

    def __init__(self):
        self._size, self._done, self._state, self.retries = {}, {}, {}, 0

    def hear(self, message):
        """Take one message: ``{"id", "status", "progressDetail": {"current", "total"}}``; others say nothing of a layer."""
        layer, status = message.get("id"), message.get("status") or ""
        if status.startswith("Retrying in"):
            self.retries += 1
        if not layer or not _of_a_layer(status):
            return
        self._state[layer] = status
        detail = message.get("progressDetail") or {}
        if status == "Downloading":
            self._done[layer] = int(detail.get("current") or 0)
            if detail.get("total"):
                self._size[layer] = int(detail["total"])
        elif status in _HERE and layer in self._size:
            self._done[layer] = self._size[layer]

    def __len__(self):
        return len(self._state)

    @property
    def done_bytes(self):
        """Bytes that came over the network, compressed, as far as the engine says."""
        return sum(self._done.values())

    @property
    def known_bytes(self):
        """Bytes of all layers of which the engine has said how large they are."""
        return sum(self._size.values())

    @property
    def sized(self):
        """Tell whether every layer's size is known: an engine says it when it begins to download it, three at a time."""
        return all(layer in self._size or state in _HERE for layer, state in self._state.items())

    def line(self):
        """Return ``3 of 9 layers here``, with what is being unpacked."""
        here = sum(state in _HERE for state in self._state.values())
        unpacking = sum(state == "Extracting" for state in self._state.values())
        text = "%d of %d layers here" % (here, len(self._state))
        return text + (", unpacking" if unpacking else "")


def _of_a_layer(status):
    return status in _HERE or status in ("Downloading", "Pulling fs layer", "Waiting")
