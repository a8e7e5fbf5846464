"""A subscription as Azure's API describes it: scale sets of both kinds, and machines that are nobody's. For tests/mocks/arm/."""

from __future__ import annotations

SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-00000000000a"
GROUP = "Train-RG"
SIZE = "Standard_ND96isr_H100_v5"


def compute(kind, group=GROUP):
    """Return the id of a kind of resource of Compute in a resource group."""
    return "%s/resourceGroups/%s/providers/Microsoft.Compute/%s" % (SUBSCRIPTION, group, kind)


class World:
    """What the stand-in answers: ``resources``, by path in lower case. Lists are paged by the stand-in."""

    def __init__(self):
        self.resources = {}
        for group in (GROUP, "Other-RG"):
            for kind in ("virtualMachines", "virtualMachineScaleSets"):
                self._list(compute(kind, group))

    def _list(self, path):
        return self.resources.setdefault(path.lower(), [])

    def _put(self, path, body):
        self.resources[path.lower()] = body

    def _view(self, machine, name, power):
        states = ["ProvisioningState/" + machine["properties"]["provisioningState"].lower()] + (["PowerState/" + power] if power else [])
        view = {"computerName": name, "osName": "ubuntu", "osVersion": "22.04", "hyperVGeneration": "V2"}
        self._put(machine["id"] + "/instanceView", {**view, "statuses": [{"code": code} for code in states]})

    def scale_set(self, name, capacity, mode="Uniform", group=GROUP, state="Succeeded"):
        """Add a set without machines."""
        path = compute("virtualMachineScaleSets", group)
        body = {
            "name": name,
            "id": "%s/%s" % (path, name),
            "type": "Microsoft.Compute/virtualMachineScaleSets",
            "location": "southcentralus",
            "sku": {"name": SIZE, "tier": "Standard", "capacity": capacity},
            "properties": {"orchestrationMode": mode, "provisioningState": state, "uniqueId": "0"},
        }
        self._list(path).append(body)
        self._list(body["id"] + "/virtualMachines")
        self._list(body["id"] + "/publicipaddresses")

    def uniform(self, name, number, address, public=None, power="running", state="Succeeded", tags=None):
        """Add an instance of a Uniform set of that name, with its interfaces: the second one is the primary one."""
        path = "%s/%s/virtualMachines/%d" % (compute("virtualMachineScaleSets"), name, number)
        nics = ["%s/networkInterfaces/%s" % (path, nic) for nic in ("storage", "front")]
        machine = self._machine(path, "%s_%d" % (name, number), nics, state, tags)
        machine.update(instanceId=str(number), sku={"name": SIZE, "tier": "Standard"})
        machine["properties"]["hardwareProfile"] = {}
        self._list(path.rpartition("/")[0]).append(machine)
        self._put(path, machine)
        self._view(machine, "%s%06d" % (name, number), power)
        interfaces = []
        for nic, primary, its in zip(nics, (False, True), ("10.99.0.%d" % number, address), strict=True):
            configuration = "%s/ipConfigurations/ipc" % nic
            inner = {"primary": True, "privateIPAddress": its, "privateIPAllocationMethod": "Dynamic"}
            if public and primary:
                inner["publicIPAddress"] = {"id": "%s/publicIPAddresses/pub" % configuration}
                of_set = "%s/%s/publicipaddresses" % (compute("virtualMachineScaleSets"), name)
                of_set_id = inner["publicIPAddress"]["id"].replace("networkInterfaces", "NetworkInterfaces")
                self._list(of_set).append({"name": "pub", "id": of_set_id, "properties": {"ipAddress": public}})
            properties = {"primary": primary, "macAddress": "00-0D-3A-00-00-01"}
            properties["ipConfigurations"] = [{"name": "ipc", "id": configuration, "properties": inner}]
            interfaces.append({"name": nic.rpartition("/")[2], "id": nic, "properties": properties})
        self._put(path + "/networkInterfaces", interfaces)

    def flexible(self, name, address, of=None, public=None, power="running", state="Succeeded", group=GROUP):
        """Add a machine: of the Flexible set ``of``, or nobody's."""
        path = "%s/%s" % (compute("virtualMachines", group.upper()), name)
        nic = "%s/resourceGroups/%s/providers/Microsoft.Network/networkInterfaces/%s-nic" % (SUBSCRIPTION, group, name)
        machine = self._machine(path, name, [nic], state, None)
        machine["properties"]["hardwareProfile"] = {"vmSize": SIZE}
        if of:
            # Azure answers with ids in capitals here and there.
            machine["properties"]["virtualMachineScaleSet"] = {"id": "%s/%s" % (compute("virtualMachineScaleSets"), of.upper())}
            # The same machine as an instance of its set.
            self._put("%s/%s/virtualMachines/%s" % (compute("virtualMachineScaleSets"), of, name), machine)
        self._list(compute("virtualMachines", group)).append(machine)
        self._view(machine, name, power)
        inner = {"primary": True, "privateIPAddress": address}
        if public:
            pip = nic.replace("networkInterfaces", "publicIPAddresses")
            inner["publicIPAddress"] = {"id": pip}
            self._put(pip, {"name": name + "-pip", "id": pip, "properties": {"ipAddress": public}})
        properties = {"primary": True, "macAddress": "00-0D-3A-00-00-02", "ipConfigurations": [{"name": "ipc", "properties": inner}]}
        self._put(nic, {"name": name + "-nic", "id": nic, "properties": properties})

    def _machine(self, path, name, nics, state, tags):
        return {
            "name": name,
            "id": path,
            "location": "southcentralus",
            "tags": tags or {},
            "properties": {
                "vmId": "00000000-0000-0000-0000-000000000000",
                "provisioningState": state,
                "storageProfile": {
                    "imageReference": {"publisher": "microsoft-dsvm", "offer": "ubuntu-hpc", "sku": "2204", "version": "latest"},
                    "osDisk": {"osType": "Linux", "name": name + "-os", "managedDisk": {"id": path + "-os"}},
                    "dataDisks": [],
                },
                "osProfile": {"computerName": name, "linuxConfiguration": {}},
                "networkProfile": {"networkInterfaces": [{"id": nic} for nic in nics]},
            },
        }


def usual():
    """Return two Uniform sets, a Flexible one and foreign machines; of ``train`` one is stopped, one failed, one never came."""
    world = World()
    world.scale_set("train", 4)
    world.uniform("train", 0, "10.0.0.4", "203.0.113.4")
    world.uniform("train", 2, "10.0.0.5", "203.0.113.5", power="deallocated")
    world.uniform("train", 3, "10.0.0.6", None, power="", state="Failed")
    world.scale_set("infer", 1)
    world.uniform("infer", 0, "10.0.1.4")
    world.scale_set("flex", 2, "Flexible")
    world.flexible("flex_1a2b3c4d", "10.0.2.4", "flex", "203.0.113.7")
    world.flexible("flex_5e6f7a8b", "10.0.2.5", "flex")
    # Foreign: a login host, one that calls itself as if it were the set's, machines and a set of the same name elsewhere.
    world.flexible("login", "10.0.3.4")
    world.flexible("train_9", "10.0.3.5")
    world.scale_set("flexi", 1, "Flexible")
    world.flexible("flexi_00000001", "10.0.3.6", "flexi")
    world.flexible("elsewhere", "10.0.4.4", group="Other-RG")
    world.scale_set("train", 9, group="Other-RG")
    return world
