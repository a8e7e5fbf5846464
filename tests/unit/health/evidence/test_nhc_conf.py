"""The conf of Azure NHC: what of it is owed on this host."""

from __future__ import annotations

from ansible.module_utils.plumbline.health.evidence import nhc_conf

CONF = """# a comment || check_none
 * || check_gpu_count 8  # eight
 * || export NVIDIA_SMI_HEALTHMON=nvidia-smi
 * || TIMEOUT=300
 node1* || check_here
 node2 || check_there
 !node2 || check_not_there
 /^node[0-9]+$/ || check_by_pattern
 /[/ || check_by_a_pattern_that_is_none
 {node[2-4]} || check_range
 * ||
"""


def test_only_checks_of_this_host_are_owed():
    asked = ["check_gpu_count 8", "check_here", "check_not_there", "check_by_pattern", "check_by_a_pattern_that_is_none", "check_range"]
    assert nhc_conf.conf_checks(CONF, "node1") == asked
    there = nhc_conf.conf_checks(CONF, "node2.cluster")
    assert "check_there" in there and "check_here" not in there


def test_a_setting_is_no_check():
    assert [nhc_conf.is_setting(line) for line in ("export A=1", "A=1", "export A", "check_cmd_output -m A=1", "")] == [
        True,
        True,
        True,
        False,
        False,
    ]
