"""A lost node is seen by its connections, which its kernel closes with the processes, or by its kernel's silence."""

from __future__ import annotations

import socket

from ansible.module_utils.plumbline.serving import peers

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def line(remote, state="01", port=0x9C40, local="0B00620A:1F90"):
    return "   0: %s %s:%04X %s 00000000:00000000 00:00000000 00000000     0        0 12345 1 0 20 4 0 10 -1\n" % (
        local, remote, port, state,
    )  # fmt: skip


def watched(tables, now, addresses=("10.98.0.12",), **more):
    return peers.Watch(addresses, **dict({"grace_s": 5, "read": lambda: tables, "ask": lambda _: True, "clock": lambda: now[0]}, **more))


LAB2, LAB3 = "0C00620A", "0D00620A"  # 10.98.0.12 and .13 as the kernel prints them
LAB2_MAPPED = "0000000000000000FFFF00000C00620A"


def test_only_established_connections_count():
    table = HEADER + line(LAB2) + line(LAB2, state="08") + line(LAB2, port=22) + line(LAB3)
    assert peers.live(["10.98.0.12", "10.98.0.13"], [table]) == {"10.98.0.12": 1, "10.98.0.13": 1}


def test_ansible_and_rsync_connections_are_no_evidence():
    table = HEADER + line(LAB2, local="0B00620A:0016")
    assert peers.live(["10.98.0.12"], [table]) == {"10.98.0.12": 0}


def test_ipv4_in_the_ipv6_table_is_the_same_node():
    assert peers.live(["10.98.0.12"], [HEADER + line(LAB2_MAPPED)]) == {"10.98.0.12": 1}


def test_a_peer_is_lost_when_it_had_connections_and_has_none_for_the_grace_time():
    tables, now = [HEADER + line(LAB2) + line(LAB2)], [0.0]
    watch = watched(tables, now)
    assert watch.lost() == ""
    tables[0] = HEADER
    for at, lost in ((1, False), (5.5, False), (6, True)):
        now[0] = at
        assert bool(watch.lost()) is lost
    assert watch.lost() == "lost the node 10.98.0.12 (no connection of its serving processes is left)"


def test_a_short_gap_is_no_loss_and_a_peer_without_connections_proves_nothing():
    tables, now = [HEADER + line(LAB2)], [0.0]
    watch = watched(tables, now, ["10.98.0.12", "10.98.0.13"])
    watch.lost()
    tables[0], now[0] = HEADER, 3
    assert watch.lost() == ""
    tables[0], now[0] = HEADER + line(LAB2), 4
    assert watch.lost() == ""
    tables[0], now[0] = HEADER, 8
    assert watch.lost() == "", "the time counts from the last gap"


def test_a_peer_that_took_part_before_the_watch_is_missed_too():
    now = [0.0]
    watch = watched([HEADER], now, proven=True)
    assert watch.lost() == ""
    now[0] = 5
    assert "10.98.0.12" in watch.lost()


def test_a_dead_machine_whose_connections_stay_open_is_lost_after_its_silence():
    now, alive = [0.0], [True]
    watch = watched([HEADER + line(LAB2)], now, ask=lambda _: alive[0])
    assert watch.lost() == ""
    alive[0] = False
    for at, lost in ((5, False), (20, False), (25, True)):
        now[0] = at
        assert bool(watch.lost()) is lost
    assert "10.98.0.12 (the machine has not answered for 20 s)" in watch.lost()
    alive[0], now[0] = True, 30
    assert watch.lost() == ""


def test_a_machine_behind_a_firewall_is_not_called_dead():
    now = [0.0]
    watch = watched([HEADER + line(LAB2)], now, ask=lambda _: False)
    for at in (0, 10, 60):
        now[0] = at
        assert watch.lost() == ""


def test_a_closed_port_answers_by_refusing():
    assert peers.answers("127.0.0.1")


def test_one_node_is_never_lost():
    assert peers.Watch([], proven=True).lost() == ""


def test_the_kernel_of_this_machine_is_read():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        assert peers.live(["127.0.0.1"], peers.read_tables())["127.0.0.1"] >= 1
