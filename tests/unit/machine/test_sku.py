"""Looking up what is known of a machine: names, what is like what, what the inventory says otherwise."""

from __future__ import annotations

import copy
import re

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible.module_utils.plumbline.health import expect as health_expect
from ansible.module_utils.plumbline.machine import sku
from project import load
from skus import FOLDER, VARIABLES, listed, table

H100 = "Standard_ND96isr_H100_v5"
H200 = "Standard_ND96isr_H200_v5"
FILTERS = load("plugins/filter/plumbline_sku.py").FilterModule().filters()


# -- the data ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*VARIABLES["__sku_skus"], *VARIABLES["__sku_hosts"]])
def test_every_entry_holds_known_keys_and_each_section_its_source(name):
    entry = dict(listed("__sku_skus"), **listed("__sku_hosts"))[name]
    sections = {section: keys for section, keys in entry.items() if section != sku.LIKE}
    assert sections and set(sections) <= set(sku.SECTIONS)
    for section, keys in sections.items():
        assert isinstance(keys["source"], str) and keys["source"], section
    assert health_expect.problems(name, sections) == []
    assert set(sections.get("nccl", {})) <= set(sku.NCCL_KEYS)
    for threshold in sections.get("nccl", {}).get("thresholds", {}).values():
        assert threshold["source"] and len({"min_busbw_gbps", "expect_busbw_gbps", "expect_time_us"} & set(threshold)) == 1


def test_every_file_is_listed_under_its_name():
    named = {"standard_nd96isr_h100_v5": H100, "standard_nd96isr_h200_v5": H200, "lab": "lab", "generic": "generic"}
    files = {path.stem for path in FOLDER.glob("*.yml")} - {"main", "gpus"}
    assert files == set(named) | {"host_nd96isr_v5"}
    assert set(named.values()) == set(VARIABLES["__sku_skus"])
    for stem in files:
        assert "__sku_" + stem in VARIABLES


def test_gpus_have_their_read_rate_and_its_source():
    for name, known in VARIABLES["__sku_gpus"].items():
        assert name.startswith("NVIDIA ") and known["hbm_read_gbps"] > 0 and known["source"]


def test_both_sizes_have_the_hosts_figures_and_their_own():
    skus = table()
    for name, product, write, allreduce in ((H100, "H100", 380, 460), (H200, "H200", 360, 431)):
        entry = skus[name]
        assert entry["gpu"]["product"] == product and entry["gpu"]["count"] == len(entry["ib"]["ports"]) == 8
        assert entry["ib"]["write_min_gbit_s"] == write
        within = entry["nccl"]["thresholds"]["within_16g"]
        assert entry["nhc"]["nccl_allreduce_min_gbps"] == within["min_busbw_gbps"] == allreduce
        assert "%d.0 1 16G" % allreduce in within["source"]
        assert entry["nccl"]["env"]["NCCL_NET"] == "IB" and entry["nccl"]["transport"] == {"across": "IB", "within": "P2P"}
    assert len(skus[H100]["nccl"]["thresholds"]) == 7 and len(skus[H200]["nccl"]["thresholds"]) == 1


# -- looking up -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [H100, H100.lower(), H100.upper(), "  %s\n" % H100.lower()])
def test_case_and_blanks_do_not_matter(name):
    skus = table()
    assert sku.find(skus, name) == (H100, skus[H100])
    assert FILTERS["plumbline_sku"](skus, name) == skus[H100]
    assert health_expect.choose(name, skus, None)["expect"] == health_expect.expectations(skus[H100])


def test_an_unknown_name_is_said():
    with pytest.raises(AnsibleFilterError, match=r"'Standard_X'.*not known.*Standard_ND96isr_H100_v5.*sku_overrides"):
        FILTERS["plumbline_sku"](table(), "Standard_X")
    # What a node says of itself need not be known: node_health tells that it is not.
    assert FILTERS["plumbline_sku"](table(), "Standard_X", required=False) == dict.fromkeys(sku.SECTIONS, {})


# -- what the inventory says otherwise --------------------------------------------------------------------------


def test_overrides_go_over_one_key_and_keep_the_others():
    before = copy.deepcopy((listed("__sku_skus"), listed("__sku_hosts")))
    known = table()
    changed = table({
        " standard_nd96isr_h100_v5": {
            "health": {"disk_free_min_bytes": 1, "swap_max_bytes": None},
            "nccl": {"env": {"NCCL_PXN_DISABLE": None, "NCCL_DEBUG": "INFO"}, "thresholds": {"within_16g": {"min_busbw_gbps": 400}}},
        },
        "generic": {"ib": {"ports": ["mlx5_0"]}},
    })  # fmt: skip
    assert set(changed) == set(known)
    was, now = known[H100], changed[H100]
    health = {key: value for key, value in was["health"].items() if key != "swap_max_bytes"}
    assert now["health"] == dict(health, disk_free_min_bytes=1)
    assert "NCCL_PXN_DISABLE" in was["nccl"]["env"] and "NCCL_PXN_DISABLE" not in now["nccl"]["env"]
    assert now["nccl"]["env"]["NCCL_DEBUG"] == "INFO" and now["nccl"]["env"]["NCCL_NET"] == "IB"
    assert now["nccl"]["thresholds"]["within_16g"] == dict(was["nccl"]["thresholds"]["within_16g"], min_busbw_gbps=400)
    assert list(now["nccl"]["thresholds"]) == list(was["nccl"]["thresholds"])
    assert {section: now[section] for section in ("gpu", "ib", "nhc")} == {section: was[section] for section in ("gpu", "ib", "nhc")}
    assert changed["generic"]["ib"] == {"ports": ["mlx5_0"]}
    # What is shared is not written into.
    assert changed[H200] == known[H200] and before == (listed("__sku_skus"), listed("__sku_hosts")) and table() == known


def test_a_new_name_is_a_new_sku_and_may_begin_as_another():
    skus = table({"mine": {"like": H100.lower(), "gpu": {"count": 4}, "nhc": None}, "bare": {"health": {"cpu_count": 2}}})
    assert skus["mine"] == dict(table()[H100], gpu=dict(table()[H100]["gpu"], count=4), nhc={})
    assert skus["bare"] == {"health": {"cpu_count": 2}, "gpu": {}, "ib": {}, "nhc": {}, "nccl": {}}
    # What is like an entry follows what the inventory says of that entry.
    both = table({"mine": {"like": H100}, H100: {"ib": {"write_min_gbit_s": 100}}})
    assert both["mine"]["ib"]["write_min_gbit_s"] == both[H100]["ib"]["write_min_gbit_s"] == 100


def test_the_shared_host_can_be_changed_and_is_no_sku():
    skus = table({"ND96isr_v5": {"health": {"cpu_count": 95}}})
    assert skus[H100]["health"]["cpu_count"] == skus[H200]["health"]["cpu_count"] == 95
    assert sku.find(skus, "nd96isr_v5") == (None, None)


def test_what_the_readme_shows_holds():
    text = (FOLDER.parent.parent / "README.md").read_text()
    given = {}
    for example in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
        read = yaml.safe_load(example)
        given.update(read.get("sku_overrides", {}) if isinstance(read, dict) else {})
    skus = FILTERS["plumbline_sku_table"](listed("__sku_skus"), listed("__sku_hosts"), given)
    assert skus["our_hgx"]["gpu"]["product"] == "H100" and skus["our_hgx"]["nhc"]["checks"] == []
    assert skus[H100]["nccl"]["thresholds"]["within_16g"]["min_busbw_gbps"] == 470 and len(skus[H100]["nccl"]["thresholds"]) == 8


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"lab": {"healht": {}}}, "lab: unknown section 'healht', expected one of health, gpu, ib, nhc, nccl"),
        ({"lab": {"health": 3}}, "lab: health is 3"),
        (["lab"], "expected {name: {section: {key: value}}}"),
        ({"lab": 3}, "lab is 3, expected"),
        ({"lab": {"nccl": {"enw": {}}}}, "lab: unknown key nccl.enw"),
        ({"lab": {"nccl": {"env": ["NCCL_NET=IB"]}}}, "lab: nccl.env is"),
        ({"lab": {"nccl": {"thresholds": [{"op": "all_reduce"}]}}}, "lab: nccl.thresholds is"),
        ({"lab": {"nccl": {"thresholds": {"mine": 460}}}}, "lab: nccl.thresholds.mine is 460"),
        ({"mine": {"like": "nosuch"}}, "mine is like 'nosuch', and there is no such entry"),
        ({"a": {"like": "B"}, "b": {"like": "a"}}, "is like itself: a → b → a"),
        ({"a": {"like": "a"}}, "a is like itself: a → a"),
        ({"lab": {"health": {"gpu_count": 8}}}, "unknown key 'health.gpu_count'"),
        ({"lab": {"gpu": {"count": "8"}}}, "gpu.count is '8', expected int"),
    ],
)
def test_wrong_overrides_are_said(overrides, words):
    with pytest.raises(AnsibleFilterError) as caught:
        FILTERS["plumbline_sku_table"](listed("__sku_skus"), listed("__sku_hosts"), overrides)
    assert str(caught.value).startswith("sku_overrides: ") and words in str(caught.value)
