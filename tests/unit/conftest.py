"""What unit tests of decisions on the controller share: a run that keeps facts."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def keep(tmp_path, monkeypatch):
    """Return a function that keeps a fact of a host as the callback does; the folder is where the run going on keeps."""
    folder = tmp_path / "kept"
    monkeypatch.setenv("PLUMBLINE_KEPT_DIR", str(folder))

    def put(host, fact):
        kind = fact["schema"].split(".")[1].split("/")[0]
        path = folder / "facts" / host / ("%s.%s.json" % (kind, fact["name"]))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(fact))
        hosts = sorted(item.name for item in (folder / "facts").iterdir())
        (folder / "run.json").write_text(json.dumps({"run_id": "kept", "hosts": hosts, "phases": [], "tags": [], "skip_tags": []}))

    put.folder = folder
    return put
