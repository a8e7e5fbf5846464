"""Inventory plugin: the nodes of Azure scale sets, by azure_rm, with the sets' capacity beside them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: azure_scale_set
short_description: The nodes of Azure scale sets, and how many there should be
description:
  - Uses M(azure.azcollection.azure_rm) (login, requests, host variables) and narrows it to the instances of some scale sets of one resource
    group, of Uniform and of Flexible orchestration. No other machine joins, and none is asked about.
  - Instances that are stopped, failed or not ready yet are nodes too, so that preflight names them.
  - Each node is in the group C(nodes) and in C(scale_set_<name>). It has C(powerstate), C(provisioning_state), C(vmss.name), C(id) and the
    other host variables of azure_rm; of those C(tags) is called C(azure_tags) and C(name) is left out, except in filters and expressions.
  - Sets C(preflight_expected_nodes) of the group to the sum of the sets' capacity, and C(preflight_inventory_notes) to a sentence for each
    thing that is short, which are also warnings. A filter of hosts lowers the expected number by what it leaves out.
  - A throttled request (429) is repeated by the Azure SDK when Azure's Retry-After has passed. An error ends the inventory with Azure's
    words.
  - With a cache, the names that a set had when it was last whole are remembered, so that one which is gone is told by name.
  - A cached answer counts only for the same sets, and only if it was whole, so that a node that has come since is seen at once.
  - The options C(include_*) and C(batch_fetch) of azure_rm have no effect, nor have its variables C(ANSIBLE_AZURE_VM_RESOURCE_GROUPS) and
    C(ANSIBLE_AZURE_VMSS_RESOURCE_GROUPS).
extends_documentation_fragment:
  - azure.azcollection.azure
  - azure.azcollection.azure_rm
  - constructed
  - inventory_cache
options:
  plugin:
    description: This plugin's name.
    required: true
    type: str
    choices: [azure_scale_set, plumbline.cluster.azure_scale_set]
  resource_group:
    description: The resource group of the scale sets. The environment counts where the file does not say it.
    required: true
    type: str
    env:
      - name: PLUMBLINE_AZURE_RESOURCE_GROUP
  scale_sets:
    description: The scale sets' names, as a list; one alone may be a text. The environment counts where the file does not say them.
    required: true
    type: list
    elements: str
    env:
      - name: PLUMBLINE_AZURE_SCALE_SETS
  address:
    description: Whether C(ansible_host) is a node's private or its public address.
    type: str
    choices: [private, public]
    default: private
  plain_host_names:
    description: Take Azure's names of instances; V(false) adds a hash to them.
    type: bool
    default: true
  default_host_filters:
    description: Filters beside O(exclude_host_filters); none, since a machine that does not run is to be named.
    type: list
    elements: str
    default: []
  batch_fetch_interval:
    description: No effect.
    type: int
    default: 3
  batch_fetch_timeout:
    description: No effect.
    type: int
    default: 5
requirements:
  - "The Azure SDK on the controller: C(make azure)"
author: [Plumbline]
"""

EXAMPLES = r"""
# inventory/azure/azure_scale_set.yml
plugin: azure_scale_set
resource_group: my-resource-group
scale_sets: [my-scale-set]

# Two sets, of which only the machines with a tag are nodes, by their public addresses:
# plugin: azure_scale_set
# resource_group: my-resource-group
# scale_sets: [train-a, train-b]
# address: public
# include_host_filters: ["tags.purpose is defined and tags.purpose == 'train'"]
"""

import hashlib
import json
import os
import time
from queue import Empty

from ansible.errors import AnsibleParserError
from ansible.inventory.group import to_safe_group_name
from ansible.plugins.inventory import get_cache_plugin
from ansible_collections.azure.azcollection.plugins.inventory import azure_rm
from ansible_collections.azure.azcollection.plugins.module_utils import azure_rm_common

try:
    from azure.core import PipelineClient
    from azure.core.exceptions import AzureError, ResourceNotFoundError
    from azure.core.pipeline.policies import RetryPolicy
except ImportError:
    PipelineClient = RetryPolicy = None
    AzureError = ResourceNotFoundError = AnsibleParserError  # raised by nobody then

# The version in which Azure serves what belongs to the network of a Uniform set's instances.
UNIFORM_NETWORK_API = "2018-10-01"

# What of the environment decides which subscription is asked.
ACCOUNT = ("AZURE_SUBSCRIPTION_ID", "AZURE_PROFILE", "AZURE_CLOUD_ENVIRONMENT", "AZURE_TENANT", "AZURE_CLIENT_ID")


class Refused(Exception):
    """Azure's answer to one request was an error: ``status`` is HTTP's, the text says what was asked and what came."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


def _first_line(error):
    """Return the first line of an exception's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _name_of(resource_id):
    """Return the last part of a resource's id."""
    return str(resource_id).rpartition("/")[2]


def _primary_first(items):
    """Return network interfaces or their configurations, the primary one first; the SDK's form and ARM's own are both known."""
    return sorted(items, key=lambda item: not (item.get("primary") or item.get("properties", {}).get("primary")))


def _configurations(interfaces):
    """Return the address configurations of interfaces as azure_rm keeps them, the primary one first."""
    found = []
    for interface in _primary_first(interfaces):
        inner = interface.get("properties", interface)
        for item in _primary_first(inner.get("ip_configurations") or inner.get("ipConfigurations") or []):
            found.append(item.get("properties", item))
    return found


def _private(hostvars):
    """Return a machine's first private address, or None."""
    for item in _configurations(hostvars["network_interface_properties"]):
        address = item.get("private_ip_address") or item.get("privateIPAddress")
        if address:
            return address
    return None


def _public(hostvars, addresses):
    """Return a machine's first public address, or None; ``addresses`` are those of Uniform sets, by their id in lower case."""
    for item in _configurations(hostvars["network_interface_properties"]):
        reference = item.get("public_ip_address") or item.get("publicIPAddress") or {}
        address = addresses.get(str(reference.get("id")).lower())
        if address:
            return address
    return next((address for address in hostvars["public_ipv4_address"] if address), None)


def capacity_notes(scale_set, before):
    """Return a sentence for what is wrong between a set's capacity and what Azure lists of it; none where they agree.

    ``before`` is what was remembered of the set when it was last whole: ``{"names": [...], "at": a time}``, or None.
    """
    name, capacity, listed = scale_set["name"], scale_set["capacity"], scale_set["instances"]
    if capacity is None:
        return ["scale set %s tells no capacity, so that an instance which is missing is not missed" % name]
    if len(listed) == capacity:
        return []
    said = "scale set %s has a capacity of %d and Azure lists %d (%s)" % (name, capacity, len(listed), ", ".join(sorted(listed)) or "none")
    state = "the set's own state is %s" % scale_set["state"]
    if len(listed) > capacity:
        return ["%s: it is being made smaller, or a machine is being replaced; %s. Wait for it" % (said, state)]
    gone = sorted(set(before["names"]) - set(listed)) if before else []
    known = "%s, which it had when it was last whole (%s)" % (", ".join(gone), before["at"]) if gone else "never came, or went away"
    return ["%s, %d missing: %s; %s. Look at the set's activity log" % (said, capacity - len(listed), known, state)]


class InventoryModule(azure_rm.InventoryModule):
    """azure_rm, narrowed to some scale sets."""

    NAME = "azure_scale_set"

    def verify_file(self, path):
        """Take any YAML file that names this plugin."""
        return super(azure_rm.InventoryModule, self).verify_file(path) and path.endswith((".yml", ".yaml"))

    def parse(self, inventory, loader, path, cache=True):
        """Add the nodes; errors of the SDK and of Azure become the inventory's."""
        self._sets, self._public, self._left_out, self._others = {}, {}, {}, []
        self._path, self._fetched = path, False
        try:
            super().parse(inventory, loader, path, cache)
        except azure_rm_common.AzureRMAuthException as error:
            raise AnsibleParserError("no login to Azure: %s (docs/azure.md)" % _first_line(error)) from error
        except Refused as error:
            raise AnsibleParserError(str(error)) from error
        except AzureError as error:
            raise AnsibleParserError("Azure cannot be asked: %s" % _first_line(error)) from error

    def get_cache_key(self, path):
        """Return a key that other sets, another resource group or another account do not share."""
        asked = [self.get_option("subscription_id"), self.get_option("resource_group"), self._wanted()]
        text = json.dumps([str(item) for item in asked] + [os.environ.get(name) for name in ACCOUNT])
        return "%s_%s" % (super().get_cache_key(path), hashlib.sha256(text.encode()).hexdigest()[:12])

    def _wanted(self):
        """Return the names of the sets in lower case, as Azure compares them."""
        return sorted({name.strip().lower() for name in self.get_option("scale_sets")})

    def _credential_setup(self):
        """Log in, and make the client that azure_rm asks with repeat what Azure throttles."""
        if PipelineClient is None or not hasattr(azure_rm_common, "managed_identity"):
            why = (azure_rm_common.HAS_AZURE_EXC or "").strip().rpartition("\n")[2]
            raise AnsibleParserError("the Azure SDK is not installed for this Python: run `make azure` (docs/azure.md). %s" % why)
        super()._credential_setup()
        self._clientconfig.retry_policy = RetryPolicy()
        self.new_client = PipelineClient(self.azure_auth._cloud_environment.endpoints.resource_manager, config=self._clientconfig)

    def _get_hosts(self):
        """Ask for the sets and for the machines of their resource group, and for no other."""
        self._fetched = True
        group = self.get_option("resource_group")
        self._enqueue_vmss_list(group)
        self._enqueue_vm_list(group)
        # One by one: azure_rm's batches lose errors, and send what is done once more after a 429.
        self._process_queue_serial()
        missing = [name for name in self._wanted() if name not in self._sets]
        if missing:
            there = ", ".join(sorted(self._others + [item["name"] for item in self._sets.values()])) or "none"
            raise AnsibleParserError("resource group %s has no scale set %s; it has: %s" % (group, ", ".join(missing), there))

    def _process_queue_serial(self):
        """Ask for everything in the queue. What Azure no longer knows of a single machine is left out of it, a list must come."""
        while True:
            try:
                item = self._request_queue.get_nowait()
            except Empty:
                return
            try:
                answer = self.send_request(item.url, item.api_version)
            except Refused as error:
                if error.status != 404 or "page_response" in item.handler.__name__:
                    raise
                continue
            item.handler(answer, **item.handler_args)

    def send_request(self, url, api_version):
        """Return Azure's answer to one GET; raise Refused with its words where it is an error."""
        headers = dict(self._default_header_parameters)
        response = self.new_client.send_request(self.new_client.get(url, {"api-version": api_version}, headers))
        try:
            answer = json.loads(response.body())
        except ValueError:
            answer = {}
        if response.status_code != 200:
            error = answer.get("error") or {}
            words = "%s: %s" % (error.get("code") or response.reason, error.get("message") or "no message")
            remedy = {
                401: "; log in again (az login)",
                403: "; the login needs the role Reader on the resource group",
                404: "; is resource_group right, and the subscription?",
                429: "; it stayed so after all repetitions, try later",
            }
            text = "Azure answers %d to GET %s (%s%s)" % (response.status_code, url, words, remedy.get(response.status_code, ""))
            raise Refused(response.status_code, text)
        return answer

    def _on_vmss_page_response(self, response):
        """Keep the sets that are asked for, with their capacity."""
        kept = []
        for vmss in response.get("value", []):
            if vmss["name"].lower() not in self._wanted():
                self._others.append(vmss["name"])
                continue
            mode = vmss["properties"].setdefault("orchestrationMode", "Uniform")
            self._sets[vmss["name"].lower()] = {
                "name": vmss["name"],
                "id": vmss["id"],
                "mode": mode,
                "capacity": (vmss.get("sku") or {}).get("capacity"),
                "state": str(vmss["properties"].get("provisioningState", "unknown")),
                "instances": [],
            }
            if mode != "Flexible" and self.get_option("address") == "public":
                self._enqueue_get("%s/publicipaddresses" % vmss["id"], UNIFORM_NETWORK_API, self._on_public_page_response)
            kept.append(vmss)
        super()._on_vmss_page_response(dict(response, value=kept))

    def _on_public_page_response(self, response):
        """Keep the public addresses of a Uniform set's instances, which azure_rm knows by their ids alone."""
        if response.get("nextLink"):
            self._enqueue_get(response["nextLink"], UNIFORM_NETWORK_API, self._on_public_page_response)
        for item in response.get("value", []):
            self._public[item["id"].lower()] = item["properties"].get("ipAddress")

    def _on_vm_page_response(self, response, vmss=None, arcvm=None):
        """Keep the machines of the sets: a Uniform set lists its own, a machine of a Flexible one names its set."""
        kept = []
        for machine in response.get("value", []):
            scale_set = vmss or machine["properties"].get("virtualMachineScaleSet") or {}
            known = _name_of(scale_set.get("id")).lower()
            if known not in self._wanted():
                continue
            if vmss:
                # azure_rm takes an instance of a Uniform set by the set's own interfaces if it finds none here; and here are none that
                # its version of the API would serve.
                machine["properties"]["networkProfile"] = {"networkInterfaces": []}
                if not (machine["properties"].get("hardwareProfile") or {}).get("vmSize"):
                    machine["properties"]["hardwareProfile"] = {"vmSize": (machine.get("sku") or {}).get("name")}
            else:
                machine["properties"].setdefault("networkProfile", {}).setdefault("networkInterfaces", [])
            kept.append(machine)
        super()._on_vm_page_response(dict(response, value=kept), vmss=vmss, arcvm=arcvm)

    def _serialize(self, hosts):
        """Return the nodes, the sets and what is to say about them, as the cache keeps it."""
        found = []
        for host in hosts:
            scale_set = self._set_of(host)
            scale_set["instances"].append(host.default_inventory_hostname)
            try:
                (node,) = super()._serialize([host])
            except (ResourceNotFoundError, KeyError, TypeError) as error:
                # Gone meanwhile, or so new that Azure's description of it has holes.
                self._left_out[host.default_inventory_hostname] = _first_line(error)
                continue
            node["hostvars"]["vmss"] = {"id": scale_set["id"], "name": scale_set["name"]}
            private = self.get_option("address") == "private"
            node["address"] = _private(node["hostvars"]) if private else _public(node["hostvars"], self._public)
            found.append(node)
        capacities = [scale_set["capacity"] for scale_set in self._sets.values()]
        return {
            "hosts": found,
            "expected": None if None in capacities else sum(capacities),
            "notes": self._notes(found, self._remembered()),
        }

    def _remembered(self):
        """Return what each set had when it was last whole, and remember those that are so now; nothing without a cache.

        Azure has no name for an instance that is not there. This is kept beside the cache, without an end, and --flush-cache spares it.
        """
        place = self.get_option("cache_connection")
        if not self.get_option("cache") or not place:
            return {}
        memory = get_cache_plugin(self.get_option("cache_plugin"), _uri=place.rstrip("/") + "-whole", _timeout=0)
        key = self.get_cache_key("whole")
        before = memory.get(key) or {}
        at = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        now = {
            name: {"names": item["instances"], "at": at} for name, item in self._sets.items() if len(item["instances"]) == item["capacity"]
        }
        memory[key] = {**before, **now}
        memory.update_cache_if_changed()
        return before

    def _set_of(self, host):
        """Return the set of a machine that azure_rm knows."""
        scale_set = host._vmss or host._vm_model["properties"]["virtualMachineScaleSet"]
        return self._sets[_name_of(scale_set["id"]).lower()]

    def _notes(self, found, before):
        """Return a sentence for everything that keeps the answer from being whole."""
        notes = [line for name, scale_set in self._sets.items() for line in capacity_notes(scale_set, before.get(name))]
        for name, why in sorted(self._left_out.items()):
            notes.append("%s: Azure lists it and tells nothing more of it (%s); it may just be coming or going" % (name, why))
        for node in found:
            state = [node["hostvars"][key] for key in ("powerstate", "provisioning_state")]
            name = node["default_inventory_hostname"]
            if state != ["running", "succeeded"]:
                notes.append("%s is %s, its provisioning %s (Azure)" % (name, *state))
            elif not node["address"]:
                notes.append("%s has no %s address (Azure)" % (name, self.get_option("address")))
        return notes

    def _populate(self, results):
        """Add the nodes, their groups and addresses, and how many there should be."""
        if results["notes"] and not self._fetched:
            # Kept by the cache and not whole: things may have changed since.
            self._credential_setup()
            self._get_hosts()
            results = self._serialize(self._hosts)
            self._cache[self.get_cache_key(self._path)] = results
        self.inventory.add_group("nodes")
        super()._populate(results["hosts"])
        filtered = 0
        for node in results["hosts"]:
            name = self._get_hostname(node, hostnames=self.get_option("hostnames"))
            if name not in self.inventory.hosts:
                filtered += 1
                continue
            self._place(name, node)
        if results["expected"] is not None:
            self.inventory.set_variable("nodes", "preflight_expected_nodes", results["expected"] - filtered)
        self.inventory.set_variable("nodes", "preflight_inventory_notes", results["notes"])
        for note in results["notes"]:
            self.display.warning(note)

    def _place(self, name, node):
        """Give a node its address and its groups; one without an address is unreachable under its own name, which preflight says."""
        # Ansible keeps these names for itself and warns of them in every run.
        for reserved in ("name", "tags"):
            self.inventory.hosts[name].vars.pop(reserved, None)
        self.inventory.set_variable(name, "azure_tags", node["hostvars"]["tags"])
        named = {**(self.get_option("compose") or {}), **(self.get_option("hostvar_expressions") or {})}
        if "ansible_host" not in named:
            self.inventory.set_variable(name, "ansible_host", node["address"] or name)
        group = to_safe_group_name("scale_set_" + node["hostvars"]["vmss"]["name"], force=True, silent=True)
        for item in ("nodes", self.inventory.add_group(group)):
            self.inventory.add_child(item, name)
