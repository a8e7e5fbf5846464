"""The model on the node is the one in its manifest, byte for byte."""

from __future__ import annotations

import json

import pytest


def test_model_is_as_its_manifest_says(host, variables):
    path = variables.get("model_sync_path", "/var/lib/plumbline/models/tiny-qwen2")
    file = host.file(path + "/manifest.json")
    if not file.exists:
        pytest.skip(f"no model was synchronised to {path}")
    known = json.loads(file.content_string)["files"]
    assert known, "the manifest lists no file"
    lines = "".join("{}  {}\n".format(entry["sha256"], name) for name, entry in sorted(known.items()))
    answer = host.run("cd %s && printf '%%s' %s | sha256sum --check --strict --quiet", path, lines)
    assert answer.rc == 0, answer.stdout + answer.stderr
