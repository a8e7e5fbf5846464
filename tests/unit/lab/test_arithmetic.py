"""The lab's arithmetic, and how it reads the kernel's tables."""

import pytest
from ansible.module_utils.plumbline.lab import plan as lab


def make(**changes):
    settings = {"lab": "lab", "count": 3, "subnet": "10.98.0.0/16", "rate": "1gbit", "rates": None}
    return lab.plan(**dict(settings, **changes))


def test_plan_names_and_addresses():
    plan = make(rates={"lab2": "100mbit"})
    assert plan["bridge"] == "labbr0"
    assert (plan["controller"], plan["prefix"]) == ("10.98.255.254", 16)
    assert [(n["name"], n["address"], n["link"], n["link_rate"]) for n in plan["nodes"]] == [
        ("lab1", "10.98.0.11", "labh1", "1gbit"),
        ("lab2", "10.98.0.12", "labh2", "100mbit"),
        ("lab3", "10.98.0.13", "labh3", "1gbit"),
    ]


def test_plan_never_gives_an_address_twice():
    plan = make(count=lab.MAX_NODES, subnet="10.1.2.0/24")
    addresses = [node["address"] for node in plan["nodes"]] + [plan["controller"]]
    assert len(set(addresses)) == lab.MAX_NODES + 1
    assert "10.1.2.255" not in addresses


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lab": "Lab"}, "lab_name"),
        ({"lab": "toolongname"}, "lab_name"),
        ({"lab": ""}, "lab_name"),
        ({"count": 0}, "lab_nodes is 0"),
        ({"subnet": "10.98.0.1/16"}, "expected a network"),
        ({"subnet": "10.98.0.0/29"}, "too small"),
        ({"rate": "fast"}, "link rate is 'fast'"),
        ({"rates": {"lab9": "1gbit"}}, "lab9"),
        ({"rates": {"lab1": "0mbit"}}, "0mbit"),
    ],
)
def test_plan_refuses(changes, words):
    with pytest.raises(lab.LabError, match=words):
        make(**changes)


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("1gbit", 10**9),
        ("200Mbit", 200 * 10**6),
        ("1.5mbit", 1500000),
        ("10mbps", 80 * 10**6),
        ("1mibit", 2**20),
        ("9600bit", 9600),
        ("unlimited", None),
    ],
)
def test_parse_rate(text, bits):
    assert lab.parse_rate(text) == bits


@pytest.mark.parametrize("text", ["", "1", "gbit", "-1mbit", "1 gbit x", "0gbit"])
def test_parse_rate_refuses(text):
    with pytest.raises(lab.LabError, match="expected a rate"):
        lab.parse_rate(text)


def test_mac_is_local_unicast_and_differs_by_address():
    assert lab.mac("10.98.0.11") == "02:00:0a:62:00:0b"
    assert lab.mac("10.98.0.12") != lab.mac("10.98.0.11")


def test_parse_size():
    assert lab.parse_size("6G") == 6 * 2**30
    assert lab.parse_size("512MiB") == 512 * 2**20
    assert lab.parse_size(4096) == 4096
    with pytest.raises(lab.LabError, match="6 parsecs"):
        lab.parse_size("6 parsecs")


def test_burst_holds_an_offloaded_packet_and_two_milliseconds():
    assert lab.tbf_burst(10**6) == 65536
    assert lab.tbf_burst(10**9) == 250000


def test_bucket_in_tc_words():
    assert lab.tbf(10**9) == ["tbf", "rate", "1000000000bit", "burst", "250000", "latency", "50ms"]


def test_overlaps():
    addresses = [
        {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}]},
        {"ifname": "eth0", "addr_info": [{"local": "10.0.0.4", "prefixlen": 8}]},
        {"ifname": "labbr0", "addr_info": [{"local": "10.98.255.254", "prefixlen": 16}]},
        {},
    ]
    assert lab.overlaps("10.98.0.0/16", addresses, "labbr0") == ["eth0 has 10.0.0.4/8"]
    assert lab.overlaps("192.168.7.0/24", addresses, "labbr0") == []


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("NSpid:\t4711\t1", True),  # first process of a node
        ("NSpid:\t4711", False),  # a process of the machine
        ("NSpid:\t4711\t9", False),  # another process of a node
        ("NSpid:\t4711\t40\t1", False),  # first process of a container in a node
        ("", False),
    ],
)
def test_is_pid1(line, verdict):
    assert lab.is_pid1(f"Name:\tsh\nPid:\t4711\n{line}\nVmPeak: 1 kB\n") is verdict


def test_established_inodes_reads_proc_net_tcp():
    table = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: FEFF620A:A5F0 0B00620A:0016 01 00000000:00000000 02:0009FA80 00000000     0        0 51234 2 0 20 4 0 10 -1\n"
        "   1: FEFF620A:A5F2 0C00620A:0016 01 00000000:00000000 02:0009FA80 00000000     0        0 51235 2 0 20 4 0 10 -1\n"
        "   2: FEFF620A:A5F4 0B00620A:0050 01 00000000:00000000 02:0009FA80 00000000     0        0 51236 2 0 20 4 0 10 -1\n"
        "   3: FEFF620A:A5F6 0B00620A:0016 06 00000000:00000000 03:00000B2B 00000000     0        0 0 3 0 0 0 0 0\n"
    )
    assert lab.established_inodes(table, "10.98.0.11") == {"51234"}
    assert lab.established_inodes("", "10.98.0.11") == set()


def test_explain_names_what_is_missing_and_the_way_without_a_lab():
    text = lab.explain(["root: you are uid 1000", "overlay"])
    assert "  - root: you are uid 1000\n  - overlay\n" in text
    assert "-i <inventory> site.yml" in text
