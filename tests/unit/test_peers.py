"""A lost node is seen by its connections, which the kernel closes with its processes or retransmits into the void."""

from __future__ import annotations

import socket

from ansible.module_utils.plumbline import peers

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def line(remote, state="01", retransmits=0, port=0x9C40, local="0B00620A:1F90"):
    return "   0: %s %s:%04X %s 00000000:00000000 00:00000000 %08X     0        0 12345 1 0 20 4 0 10 -1\n" % (
        local, remote, port, state, retransmits,
    )  # fmt: skip


LAB2, LAB3 = "0C00620A", "0D00620A"  # 10.98.0.12 and .13 as the kernel prints them
LAB2_MAPPED = "0000000000000000FFFF00000C00620A"


def test_only_established_connections_that_get_through_count():
    table = HEADER + line(LAB2) + line(LAB2, state="08") + line(LAB2, retransmits=8) + line(LAB2, port=22) + line(LAB3, retransmits=7)
    assert peers.live(["10.98.0.12", "10.98.0.13"], [table]) == {"10.98.0.12": 1, "10.98.0.13": 1}


def test_ansible_and_rsync_connections_are_no_evidence():
    table = HEADER + line(LAB2, local="0B00620A:0016")
    assert peers.live(["10.98.0.12"], [table]) == {"10.98.0.12": 0}


def test_ipv4_in_the_ipv6_table_is_the_same_node():
    assert peers.live(["10.98.0.12"], [HEADER + line(LAB2_MAPPED)]) == {"10.98.0.12": 1}


def test_a_peer_is_lost_when_it_had_connections_and_has_none_for_the_grace_time():
    tables, now = [HEADER + line(LAB2) + line(LAB2)], [0.0]
    watch = peers.Watch(["10.98.0.12"], grace_s=5, read=lambda: tables, clock=lambda: now[0])
    assert watch.lost() == ""
    tables[0] = HEADER
    for at, lost in ((1, False), (5.5, False), (6, True)):
        now[0] = at
        assert bool(watch.lost()) is lost
    assert watch.lost() == "lost the node 10.98.0.12 (no connection of its serving processes is left)"


def test_a_short_gap_is_no_loss_and_a_peer_without_connections_proves_nothing():
    tables, now = [HEADER + line(LAB2)], [0.0]
    watch = peers.Watch(["10.98.0.12", "10.98.0.13"], grace_s=5, read=lambda: tables, clock=lambda: now[0])
    watch.lost()
    tables[0], now[0] = HEADER, 3
    assert watch.lost() == ""
    tables[0], now[0] = HEADER + line(LAB2), 4
    assert watch.lost() == ""
    tables[0], now[0] = HEADER, 8
    assert watch.lost() == "", "the time counts from the last gap"


def test_a_peer_that_took_part_before_the_watch_is_missed_too():
    now = [0.0]
    watch = peers.Watch(["10.98.0.12"], grace_s=5, proven=True, read=lambda: [HEADER], clock=lambda: now[0])
    assert watch.lost() == ""
    now[0] = 5
    assert "10.98.0.12" in watch.lost()


def test_one_node_is_never_lost():
    assert peers.Watch([], proven=True).lost() == ""


def test_the_kernel_of_this_machine_is_read():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        assert peers.live(["127.0.0.1"], peers.read_tables())["127.0.0.1"] >= 1
