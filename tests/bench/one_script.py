"""What parallel-ssh runs on a node: the health check and the look for a GPU, as one script without Ansible.

:func:`script` returns the text: the packages that node_health uses, zipped, and a few lines that call what its ``main()`` calls.
"""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("core", "machine", "health", "clocks")

MAIN = """
import base64, io, json, os, sys, tempfile
place = tempfile.mkdtemp()
archive = os.path.join(place, "p.zip")
with open(archive, "wb") as stream:
    stream.write(base64.b64decode(PAYLOAD))
sys.path.insert(0, archive)
try:
    from plumbline.core.fact import Measurement
    from plumbline.health import account, expect, remedy, verdict
    from plumbline.health.collect import collect
    from plumbline.health.evidence import cpu
    from plumbline.machine import nvidia
    given = json.loads(GIVEN)
    found = Measurement("health", "node")
    chosen = expect.choose(given["sku"], given["skus"], None)
    evidence = collect(given["paths"], None, [], True)
    evidence["cpu"]["others"] = cpu.others(evidence["cpu"], chosen["expect"].get("load_per_cpu_max"))
    found.reasons += remedy.remediation(verdict.assess(evidence, chosen["expect"]), account.physical_host(evidence))[0]
    found.measured = account.measured(evidence)
    clocks = nvidia.is_present(nvidia.presence())
    print(json.dumps({"health": found.fact(), "gpu": clocks}))
finally:
    os.unlink(archive)
    os.rmdir(place)
"""


def script(sku, skus, paths=("/", "/var/lib/plumbline")):
    """Return the script's text; ``skus`` is the table of roles/sku."""
    packed = io.BytesIO()
    source = ROOT / "plugins" / "module_utils" / "plumbline"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("plumbline/__init__.py", "")
        for package in PACKAGES:
            for path in sorted((source / package).rglob("*.py")):
                archive.write(path, "plumbline/%s" % path.relative_to(source))
    given = json.dumps({"sku": sku, "skus": skus, "paths": list(paths)})
    return "PAYLOAD = %r\nGIVEN = %r\n%s" % (base64.b64encode(packed.getvalue()).decode(), given, MAIN)
