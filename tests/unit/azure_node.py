"""A node of Azure's that can be asked what it is, and the run that has found something wrong with it. For tests of reports to Azure."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.health import account
from ansible.module_utils.plumbline.health import remedy as health_remedy
from ansible.module_utils.plumbline.health.evidence import azure
from health_nodes import ADDRESSES, H100, assess, node, sysfs, write

SERIALS = ["165012345670%d" % number for number in range(len(ADDRESSES))]
HOST = "PHYSHOST000001"  # as health_nodes.sysfs has it
VM_ID = "00000000-0000-0000-0000-000000000000"
STARTED_AT = "2026-11-27T19:00:00.000000Z"


def nvidia_smi(folder, addresses=tuple(ADDRESSES)):
    """Write a stand-in that knows ``--query-gpu=pci.bus_id,name,serial --format=csv``, in the form of a real one; return its path."""
    rows = ["0000%s, NVIDIA H100 80GB HBM3, %s" % (address, SERIALS[ADDRESSES.index(address)]) for address in addresses]
    path = folder / "mock-nvidia-smi"
    path.write_text("#!/bin/sh\ncat <<'EOF'\n%s\nEOF\n" % "\n".join(["pci.bus_id, name, serial", *rows]))
    path.chmod(0o755)
    return str(path)


class MockMetadata:
    """Stands in for the metadata service on loopback: ``address`` answers with what Azure calls this machine."""

    def __init__(self, resource_id, vm_id=VM_ID):
        told = json.dumps({"resourceId": resource_id, "vmId": vm_id, "vmSize": "Standard_ND96isr_H100_v5"}).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200 if self.headers.get("Metadata") == "true" else 400)
                self.end_headers()
                self.wfile.write(told)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = "http://127.0.0.1:%d/metadata/instance/compute" % self._server.server_address[1]

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def machine(root):
    """Write what an ND H100 v5 of Azure's has below ``root``."""
    sysfs(root)
    write(root, "sys/class/dmi/id/chassis_asset_tag", azure.AZURE_ASSET_TAG)
    return root


def health(evidence):
    """Return the health fact of a node as the module makes it of this evidence."""
    measurement = Measurement("health", "node")
    reasons, remediation = health_remedy.remediation(assess(evidence, H100), account.physical_host(evidence))
    measurement.reasons = reasons
    measurement.measured.update(account.measured(evidence))
    measurement.context.update(account.context(evidence, {"sku": "Standard_ND96isr_H100_v5", "from": "size"}), remediation=remediation)
    return dict(measurement.fact(), started_at=STARTED_AT)


def run_folder(folder, facts, incidents=()):
    """Write a run folder with health facts ``{host: fact}``; return its path."""
    for host, fact in facts.items():
        write(folder, "facts/%s/%s.json" % (host, "health.node"), json.dumps(fact))
    hosts = sorted({*facts, *(item["host"] for item in incidents)})
    write(folder, "run.json", json.dumps({"run_id": folder.name, "started_at": STARTED_AT, "hosts": hosts}))
    write(folder, "incidents.json", json.dumps(list(incidents)))
    return folder


def broken(root, **changes):
    """Return the health of a node below ``root`` (:func:`machine`), with changes as ``health_nodes.node`` takes them."""
    return health(node(root, **changes))
