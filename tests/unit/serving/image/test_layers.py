"""How far a pull is: the messages are those of Docker 20.10.24, pulling from the lab's registry, shortened."""

from __future__ import annotations

from ansible.module_utils.plumbline.serving.image import bring
from ansible.module_utils.plumbline.serving.image.layers import Layers

START = [
    {"status": "Pulling from plumbline/more", "id": "registry:5000/plumbline/more@sha256:23b7"},
    {"status": "Pulling fs layer", "progressDetail": {}, "id": "bb852b337515"},
    {"status": "Pulling fs layer", "progressDetail": {}, "id": "1f2bb8f57505"},
    {"status": "Already exists", "progressDetail": {}, "id": "d077b477dea3"},
]


def heard(*messages):
    layers = Layers()
    for message in messages:
        layers.hear(message)
    return layers


def downloading(layer, current, total):
    return {"status": "Downloading", "progressDetail": {"current": current, "total": total}, "progress": "[>  ]", "id": layer}


def test_before_a_size_is_known_there_is_no_time_left():
    layers = heard(*START, downloading("bb852b337515", 5_000_000, 50_000_000))
    assert not layers.sized and bring._line(layers, 2.0) == "5.0 MB so far, 2.5 MB/s; 1 of 3 layers here"


def test_with_all_sizes_there_is():
    layers = heard(*START, downloading("bb852b337515", 5_000_000, 50_000_000), downloading("1f2bb8f57505", 5_000_000, 50_000_000))
    assert layers.sized and bring._line(layers, 2.0) == "10.0 of 100.0 MB, 5.0 MB/s, 18 s left; 1 of 3 layers here"


def test_a_layer_that_is_here_counts_whole_and_is_unpacked():
    layers = heard(*START, downloading("bb852b337515", 5, 50), {"status": "Verifying Checksum", "id": "bb852b337515"},
                   {"status": "Extracting", "progressDetail": {"current": 1, "total": 50}, "id": "bb852b337515"})  # fmt: skip
    assert layers.done_bytes == 50 and layers.line() == "2 of 3 layers here, unpacking"


def test_a_retry_is_counted_and_starts_the_layer_over():
    layers = heard(*START, downloading("bb852b337515", 40, 50), {"status": "Retrying in 5 seconds", "id": "bb852b337515"},
                   downloading("bb852b337515", 1, 50))  # fmt: skip
    assert layers.retries == 1 and layers.done_bytes == 1


def test_before_any_layer_the_registry_was_asked():
    assert bring._line(heard(START[0]), 3.0) == "3 s, the registry has been asked"
    assert bring._line(heard(*START), 3.0) == "3 s, 1 of 3 layers here"
