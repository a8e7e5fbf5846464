"""An Azure machine's size, by the metadata service, which is asked nowhere else."""

from __future__ import annotations

import urllib.request

from ansible.module_utils.plumbline.health.evidence import azure
from health_nodes import write


def test_metadata_is_asked_only_on_azure(tmp_path, monkeypatch):
    def refuse(*_arguments):
        raise AssertionError("the metadata service was asked elsewhere")

    monkeypatch.setattr(urllib.request, "build_opener", refuse)
    write(tmp_path, "sys/class/dmi/id/chassis_asset_tag", "No Asset Tag\n")
    assert azure.azure_vm_size(str(tmp_path)) == {"azure": False, "vm_size": None, "error": None}


def test_metadata_on_azure(tmp_path, monkeypatch):
    class Answer:
        def __enter__(self):
            return self

        def __exit__(self, *_error):
            return None

        def read(self, _limit):
            return b"Standard_ND96isr_H100_v5"

    class Opener:
        answers = [Answer(), OSError("timed out")]

        def open(self, request, timeout):
            assert request.get_header("Metadata") == "true" and timeout > 0
            answer = self.answers.pop(0)
            if isinstance(answer, OSError):
                raise answer
            return answer

    opener = Opener()
    monkeypatch.setattr(urllib.request, "build_opener", lambda *_handlers: opener)
    write(tmp_path, "sys/class/dmi/id/chassis_asset_tag", azure.AZURE_ASSET_TAG + "\n")
    assert azure.azure_vm_size(str(tmp_path))["vm_size"] == "Standard_ND96isr_H100_v5"
    assert azure.azure_vm_size(str(tmp_path)) == {"azure": True, "vm_size": None, "error": "timed out"}
