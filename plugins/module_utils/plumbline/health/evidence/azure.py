"""What an Azure virtual machine is told of itself: its size by the metadata service, its host by Hyper-V."""

from __future__ import annotations

import json
import os

from ...core.files import read_text

# The chassis asset tag that every Azure virtual machine shows (Azure documentation, "Azure Instance Metadata
# Service"; cloud-init uses the same one).
AZURE_ASSET_TAG = "7783-7084-3265-9085-8269-3286-77"
AZURE_METADATA = "http://169.254.169.254/metadata/instance/compute/vmSize?api-version=2021-02-01&format=text"
AZURE_INSTANCE = "http://169.254.169.254/metadata/instance/compute?api-version=2021-02-01&format=json"

# struct kvp_record of the kernel's tools/hv/hv_kvp_daemon.c: a key of HV_KVP_EXCHANGE_MAX_KEY_SIZE bytes, a value of
# HV_KVP_EXCHANGE_MAX_VALUE_SIZE, both padded with zeros. Pool 3 is what the host tells the guest.
KEY_BYTES, VALUE_BYTES = 512, 2048
POOL = "var/lib/hyperv/.kvp_pool_3"


def azure_vm_size(root="/", timeout_s=3):
    """Return ``{"azure": bool, "vm_size": str or None, "error": str or None}``.

    The metadata service is asked only where the DMI tag says Azure: elsewhere its address may be anything.
    """
    tag = read_text(os.path.join(root, "sys/class/dmi/id/chassis_asset_tag"))
    if tag != AZURE_ASSET_TAG:
        return {"azure": False, "vm_size": None, "error": None}
    text, error = _metadata(AZURE_METADATA, timeout_s, 200)
    return {"azure": True, "vm_size": None if error else text.strip(), "error": error}


def azure_instance(root="/", timeout_s=3, address=AZURE_INSTANCE):
    """Return ``{"resource_id", "vm_id", "error"}``: what the metadata service calls this machine; None where it does not tell."""
    found = {"resource_id": None, "vm_id": None, "error": None}
    if read_text(os.path.join(root, "sys/class/dmi/id/chassis_asset_tag")) != AZURE_ASSET_TAG:
        return dict(found, error="this is no virtual machine of Azure: its chassis asset tag is not %s" % AZURE_ASSET_TAG)
    text, error = _metadata(address, timeout_s, 1 << 20)
    try:
        told = json.loads(text) if error is None else {}
    except ValueError:
        told, error = {}, "the metadata service answered no JSON: %r" % text[:80]
    if not isinstance(told, dict):
        told, error = {}, "the metadata service answered no mapping: %r" % text[:80]
    return {"resource_id": told.get("resourceId") or None, "vm_id": told.get("vmId") or None, "error": error}


def _metadata(address, timeout_s, most):
    """Return ``(text, None)`` of at most ``most`` bytes that the metadata service answers, or ``(None, error)``."""
    import urllib.request  # here: loading it takes longer than all that is read on a node that is not Azure's

    request = urllib.request.Request(address, headers={"Metadata": "true"})
    try:
        # Proxies must not see it: Microsoft documents that the request has to bypass them.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=timeout_s) as answer:
            return answer.read(most).decode(errors="replace"), None
    except (OSError, ValueError) as error:
        return None, str(error)


def host_values(root="/"):
    """Return what the host tells this guest, ``{key: value}``; empty elsewhere than on Hyper-V."""
    try:
        with open(os.path.join(root, POOL), "rb") as stream:
            data = stream.read()
    except OSError:
        return {}
    found = {}
    for start in range(0, len(data) - KEY_BYTES - VALUE_BYTES + 1, KEY_BYTES + VALUE_BYTES):
        key = data[start : start + KEY_BYTES].split(b"\0", 1)[0].decode(errors="replace")
        value = data[start + KEY_BYTES : start + KEY_BYTES + VALUE_BYTES].split(b"\0", 1)[0].decode(errors="replace")
        if key:
            found[key] = value
    return found
