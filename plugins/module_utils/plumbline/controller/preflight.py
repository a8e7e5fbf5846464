"""What must be right before anything is touched: the inventory, the layouts, the controller. Problems as sentences."""

from __future__ import annotations

import difflib
import os
import re

from ..serving.command import LAYOUT_KEYS
from .lacking import lacks
from .place import ROOT, SETUP

EXECUTORS = ("ray", "mp")
SERVING_TAGS = {"all", "serve", "vllm_serve", "benchmark", "serve_benchmark"}
RUNTIMES = ("host", "docker")
DIGEST = re.compile(r"(?:^|@)sha256:[0-9a-f]{64}$")
REQUIRED_KEYS = ("name", "tp", "pp", "nodes", "executor")
NAME = re.compile(r"[a-z0-9_]+")


def inventory_problems(nodes, expected=0, groups=None, notes=()):
    """Check the group ``nodes``: ``[{"name", "address", "port"}]``; ``expected`` 0 accepts any number but none.

    ``groups`` are the inventory's, ``{group: hosts}``: where none is called nodes, those that there are are told. ``notes`` are the
    inventory's own sentences about what it lacks; they explain a wrong number.
    """
    if not nodes:
        return [_no_nodes(groups or {})]
    found = []
    if any(node["name"] == "localhost" for node in nodes):
        found.append(
            "a node is called localhost, which Ansible and the report take for the controller: give it another name, with"
            " ansible_connection: local where it is this machine (inventory/local/hosts.yml)"
        )
    if expected and len(nodes) != expected:
        text = "the inventory group 'nodes' has %d nodes (%s), preflight_expected_nodes is %d" % (
            len(nodes),
            ", ".join(node["name"] for node in nodes[:8]) + (", …" if len(nodes) > 8 else ""),
            expected,
        )
        if notes:
            text += ": " + "; ".join(notes)
        elif len(nodes) < expected:
            text += "; azure_rm leaves out machines that are not running or not provisioned yet: look at them, or wait"
        found.append(text)
    by_place = {}
    for node in nodes:
        port = node.get("port") or 22
        if isinstance(port, bool) or not re.fullmatch(r"[0-9]{1,5}", str(port)):
            found.append("%s: ansible_port is %r, not a port" % (node["name"], port))
            continue
        place = (str(node.get("address") or node["name"]).lower(), int(port))
        by_place.setdefault(place, []).append(node["name"])
    for (address, port), names in sorted(by_place.items()):
        if len(names) > 1:
            found.append(
                "%s share the address %s port %d: they are one machine, give each its own ansible_host"
                % (" and ".join(names), address, port)
            )
    return found


def _no_nodes(groups):
    """Return what is wrong with an inventory that has no node, with the hosts that it has in other groups."""
    text = (
        "the inventory group 'nodes' is empty: the lab is not up (make lab), or give your own inventory (-i inventory/azure);"
        " an inventory that could not be read says why in a warning at the beginning"
    )
    others = {name: hosts for name, hosts in sorted(groups.items()) if hosts and name not in ("all", "nodes")}
    if not others:
        return text
    named = ["%s (%s%s)" % (name, ", ".join(hosts[:4]), ", …" if len(hosts) > 4 else "") for name, hosts in others.items()]
    return "%s. The inventory has hosts in %s: call their group 'nodes', or make it one of its children" % (text, ", ".join(named[:8]))


def _kind(value):
    """Return the name of a value's plain type; Ansible's own types of texts and lists carry names that nobody knows."""
    return next((kind.__name__ for kind in (bool, int, float, str, list, dict) if isinstance(value, kind)), type(value).__name__)


def layout_problems(layouts, node_count):
    """Check ``vllm_serve_layouts`` against the number of nodes in the inventory (0: unknown, not compared)."""
    if layouts is None:
        return ["vllm_serve_layouts is null (nothing after the colon), expected a list of layouts; [] serves none"]
    if not isinstance(layouts, list):
        return ["vllm_serve_layouts is %s, expected a list of layouts" % _kind(layouts)]
    found = []
    names = {}
    for index, layout in enumerate(layouts):
        where = "vllm_serve_layouts[%d]" % index
        if layout is None:
            found.append("%s is null (nothing after the dash), expected a mapping with %s" % (where, ", ".join(REQUIRED_KEYS)))
            continue
        if not isinstance(layout, dict):
            found.append("%s is %s, expected a mapping with %s" % (where, _kind(layout), ", ".join(REQUIRED_KEYS)))
            continue
        name = layout.get("name")
        if name is not None:
            where += " (%s)" % name
            names.setdefault(str(name), []).append(index)
        found += ["%s: %s" % (where, text) for text in _one_layout(layout, node_count)]
    for name, indexes in names.items():
        if len(indexes) > 1:
            found.append("vllm_serve_layouts: the name %r is used %d times; names tell results apart" % (name, len(indexes)))
    return found


def _one_layout(layout, node_count):
    """Return what is wrong with one layout, a mapping."""
    found = []
    for key in sorted(set(layout) - set(LAYOUT_KEYS), key=str):
        close = difflib.get_close_matches(str(key), sorted(LAYOUT_KEYS), 1)
        hint = "did you mean %s?" % close[0] if close else "expected %s" % ", ".join(sorted(LAYOUT_KEYS))
        found.append("unknown key %r, %s" % (key, hint))
    missing = [key for key in REQUIRED_KEYS if layout.get(key) is None]
    if missing:
        found.append("%s missing" % ", ".join(missing))
    name = layout.get("name")
    if name is not None and (not isinstance(name, str) or not NAME.fullmatch(name)):
        found.append("name %r, expected only a-z, 0-9 and _ (it becomes a file name)" % (name,))
    executor = layout.get("executor")
    if executor is not None and executor not in EXECUTORS:
        found.append("executor %r, expected %s" % (executor, " or ".join(EXECUTORS)))
    sizes = {}
    for key in ("tp", "pp", "nodes"):
        value = layout.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            found.append("%s is %r, expected a whole number of at least 1" % (key, value))
        else:
            sizes[key] = value
    if len(sizes) == 3 and sizes["tp"] * sizes["pp"] % sizes["nodes"]:
        found.append("tp %(tp)d × pp %(pp)d ranks do not divide over %(nodes)d nodes: every node must hold as many" % sizes)
    if "nodes" in sizes and node_count and sizes["nodes"] > node_count:
        found.append("needs %d nodes, the inventory has %d" % (sizes["nodes"], node_count))
    for key, kind, words in (("extra_args", list, "a list of arguments"), ("env", dict, "a mapping of variables")):
        if layout.get(key) is not None and not isinstance(layout[key], kind):
            found.append("%s is %r, expected %s" % (key, layout[key], words))
    return found + _argument_problems(layout.get("extra_args")) + _variable_problems(layout.get("env"))


def _argument_problems(arguments):
    """Return what is wrong with single items of a layout's ``extra_args``."""
    found = []
    for index, item in enumerate(arguments if isinstance(arguments, list) else ()):
        where = "extra_args[%d] is %r" % (index, item)
        if isinstance(item, bool) or not isinstance(item, (str, int, float)):
            found.append("%s, expected a text; JSON goes into quotes" % where)
        elif isinstance(item, str) and item.startswith("-") and re.search(r"\s", item.partition("=")[0]):
            found.append("%s: an option and its value are two items, or one with = between them" % where)
    return found


def _variable_problems(variables):
    """Return what is wrong with single variables of a layout's ``env``: numbers become texts, anything else is no value."""
    found = []
    for name, value in variables.items() if isinstance(variables, dict) else ():
        if not isinstance(name, str) or not name or "=" in name:
            found.append("env has %r, not the name of a variable" % (name,))
        elif not isinstance(value, (str, int, float)):
            found.append("env: %s is %r, expected a text" % (name, value))
    return found


def image_problems(runtime, image, pull):
    """Check what a run in containers is given: ``vllm_serve_runtime``, ``vllm_serve_image``, ``vllm_serve_image_pull``."""
    if runtime not in RUNTIMES:
        return ["vllm_serve_runtime is %r, expected %s" % (runtime, " or ".join(RUNTIMES))]
    if runtime != "docker":
        return []
    look_up = "look it up with `docker buildx imagetools inspect <name>:<tag>` and write <name>@sha256:<64 digits>"
    if image and not isinstance(image, str):
        return ["vllm_serve_image is %r, expected a text; digits alone go into quotes" % (image,)]
    if not image:
        return ["vllm_serve_runtime is docker and vllm_serve_image is not set: %s" % look_up]
    if pull != "never" and not DIGEST.search(image):
        return [
            "vllm_serve_image is %r, not pinned by a digest, so that two nodes or two days may get two images: %s;"
            " or set vllm_serve_image_pull: never when the image is on the nodes already" % (image, look_up)
        ]
    return []


def package_problems(packages, python):
    """Check that the controller's Python (its path in ``python``) can import ``packages``; nothing is imported."""
    missing = [name for name in packages if lacks(name)]
    if not missing:
        return []
    return [
        "the controller's Python (%s) lacks %s: run '%s', or %s -m pip install %s"
        % (python, ", ".join(missing), SETUP, python, " ".join(missing))
    ]


def container_problems(runtime, asked, skipped):
    """Check that what makes the containers is there, where this run serves in some: tags ``asked`` for and ``skipped``."""
    serves = SERVING_TAGS & set(asked or ["all"]) and not SERVING_TAGS & set(skipped)
    if runtime != "docker" or not serves or not lacks("ansible_collections.community.docker"):
        return []
    return [
        "vllm_serve_runtime is docker, and the collection community.docker, which makes the containers, is not installed:"
        " run 'ansible-galaxy collection install -r %s'" % os.path.join(ROOT, "requirements.yml")
    ]


def nodes_of(names, hostvars):
    """Return the nodes as :func:`inventory_problems` takes them, from their host variables."""
    found = []
    for name in names:
        variables = hostvars[name]
        found.append({"name": name, "address": variables.get("ansible_host") or name, "port": variables.get("ansible_port") or 22})
    return found


def serving_problems(variables, node_count):
    """Return what is wrong with what one node was given of ``vllm_serve_layouts``, ``vllm_serve_runtime`` and the image."""
    return layout_problems(variables.get("vllm_serve_layouts", []), node_count) + image_problems(
        variables.get("vllm_serve_runtime") or "host",
        variables.get("vllm_serve_image") or "",
        variables.get("vllm_serve_image_pull") or "missing",
    )


# Variables that are gone, and what takes their place. An old inventory must not lose a threshold without a word.
REMOVED = {
    "node_health_sku": "sku_name",
    "node_health_skus": "sku_overrides: {<SKU>: {<section>: {<key>: …}}}",
    "node_health_expect": "sku_overrides: {<SKU>: {<section>: {<key>: …}}}",
    "fabric_baseline_nccl_sku": "sku_name",
    "fabric_baseline_nccl_skus": "sku_overrides: {<SKU>: {nccl: {env: {…}, mca: {…}, transport: {…}, thresholds: {<name>: {…}}}}}",
    "fabric_baseline_nccl_transport": "sku_overrides: {<SKU>: {nccl: {transport: {across: …, within: …}}}}",
    "fabric_baseline_nccl_thresholds": "sku_overrides: {<SKU>: {nccl: {thresholds: {<name>: {…}}}}}",
    "fabric_baseline_link_sku": "sku_name",
    "fabric_baseline_link_expect": "sku_overrides: {<SKU>: {ib: {write_min_gbit_s: …, ports: […]}}}",
}


def removed_variables(names):
    """Return a sentence for each of ``names`` (variables of nodes) that nothing reads any more, with its successor."""
    return ["%s is no longer read: use %s (roles/sku/README.md)" % (name, REMOVED[name]) for name in sorted(set(names) & set(REMOVED))]
