"""Rows by their grammar, the words of one process, and what two real outputs of one run say together."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.fabric.nccl import judge, output, streams, table
from project import CAPTURES

ROW = "        8192          2048     float     sum      -1    20.67    0.40    0.40       0    31.20    0.26    0.26       0"
NEXT = "       16384          4096     float     sum      -1    22.10    0.74    0.74       0    23.05    0.71    0.71       0"
HEADER = "#       size         count      type   redop    root     time   algbw   busbw  #wrong     time   algbw   busbw  #wrong"


def rows(*lines):
    found = table.Table()
    for line in (HEADER, *lines):
        found.line(line)
    found.end()
    return [row["in_place"]["busbw_gbps"] for row in found.rows], found.problems


def test_a_row_is_whole_or_none_wherever_it_is_cut():
    for place in range(1, len(ROW)):
        found, problems = rows(ROW[:place], NEXT)
        # In the blanks before the last column all is told but that; nothing of the row may be taken.
        assert found == [0.71], (place, found)
        assert problems or place < 40, place


def test_a_row_in_two_pieces_is_whole_again_wherever_its_numbers_are_cut():
    for place in range(ROW.index("-1") - 3, len(ROW)):
        assert rows(ROW[:place], "words of another", ROW[place:], NEXT) == ([0.26, 0.71], []), place


def test_the_rest_of_another_row_is_noticed_by_its_numbers():
    # 1 MiB in 31.2 µs is 33.6 GB/s: not the rest of a row of 8 KiB.
    found, problems = rows(ROW[:88], "    31.20   33.61   33.61       0", NEXT)
    assert "contradict each other" in problems[0]
    # The factor of the other rows is 1, here it would be 1.875.
    assert "contradict each other" in rows(ROW[:88], "    31.20    0.26    0.49       0", NEXT)[1][0]


def test_with_two_tables_what_contradicts_itself_is_no_row():
    found, problems = rows(HEADER, ROW[:88], "    31.20   33.61   33.61       0", NEXT)
    assert found == [0.71] and len(problems) == 1


@pytest.mark.parametrize("bad", ["nan", "inf", "-", "0,26", "0.2x", "-0.26", "1e999"])
def test_what_cannot_be_read_is_no_row(bad):
    found, problems = rows(ROW.replace("0.26", bad, 1), NEXT)
    assert found == [0.71] and problems and "cannot be read" in problems[0]


def test_each_process_is_told_apart():
    text = "[1,0]<stdout>:a[1,1]<stdout>:x\n[1,0]<stdout>:b\n[1,1]<stderr>:y\nbanner\n"
    assert streams.streams(text) == ["ab\n", "x\n", "y\n", "banner\n"]
    assert streams.streams("0: # a\n1: b\n0: c\n") == ["# a\nc\n", "b\n"]
    assert streams.streams("node1: # a\nnode2: b\n") == ["# a\n", "b\n"]
    assert streams.streams("2026-11-27T14:28:38Z # a\n") == ["# a\n"]
    assert streams.streams("# a\nnode1: b\n0: c\n[0] d\n") == ["# a\nnode1: b\n0: c\n[0] d\n"], "no label without the tests' own lines"


def test_the_text_lists_both_gpus_of_one_process_and_the_json_the_first():
    folder = CAPTURES / "h200x2"
    text = (folder / "nccl.all_reduce.g2.txt").read_text()
    document = output.load_json((folder / "nccl.all_reduce.g2.v3.json").read_text())
    found = output.combined(text, document)
    assert found["problems"] == [] and len(found["devices"]) == 2 and found["format"] == "json/3"
    assert found["rows"][-1]["in_place"]["busbw_gbps"] > 300
    run = {"what": "sweep", "sizes": [row["size_bytes"] for row in found["rows"]], "options": {"-n": 20}}
    for result, ranks, status, said in (
        (found, 2, "healthy", "the text's list"),
        (output.parse_json(document), 2, "healthy", "lists the first device of each"),
        (output.parse_json(document), 4, "failed", "1 devices"),
    ):
        measurement = Measurement("collective", "x")
        judge.judge_devices(measurement, [(run, result)], ranks, 1)
        assert measurement.reasons[0]["status"] == status and said in measurement.reasons[0]["seen"]


@pytest.mark.parametrize(
    ("gpus", "threads", "listed", "ranks", "hosts", "status"),
    [
        (4, 1, [(0, "vm")], 4, 1, "healthy"),  # -g 4
        (1, 2, [(0, "vm")], 2, 1, "healthy"),  # -t 2
        (2, 2, [(0, "vm")], 4, 1, "healthy"),  # -g 2 -t 2
        (2, 1, [(0, "a"), (2, "a"), (4, "b"), (6, "b")], 8, 2, "healthy"),  # mpirun, two processes a node, -g 2
        (1, 1, [(0, "a"), (1, "a"), (2, "b"), (3, "b")], 4, 2, None),  # mpirun, a process for each GPU: the JSON has them all
        (2, 1, [(0, "a"), (0, "a")], 4, 1, "failed"),  # a build without MPI: each process is rank 0
        (2, 1, [(0, "a"), (2, "a")], 4, 2, "failed"),  # all on one node
        (1, 1, [(0, "vm")], 2, 1, "failed"),  # one GPU where two were asked for
        (2, 1, [(0, "vm")], 4, 1, "failed"),
        (2, 1, [(0, "a"), (1, "b")], 4, 2, "failed"),  # ranks that do not fit what a process has
    ],
)
def test_the_json_lists_the_first_device_of_each_process(gpus, threads, listed, ranks, hosts, status):
    document = output.load_json((CAPTURES / "h200x2" / "nccl.all_reduce.g2.v3.json").read_text())
    like = document["config"]["devices"][0]
    document["config"].update(ngpus=gpus, nthreads=threads, devices=[dict(like, rank=rank, hostname=host) for rank, host in listed])
    measurement = Measurement("collective", "x")
    judge.judge_devices(measurement, [({"what": "sweep", "sizes": [], "options": {}}, output.parse_json(document))], ranks, hosts)
    assert [item["status"] for item in measurement.reasons] == ([status] if status else [])
    if status == "healthy":
        assert "lists the first device of each" in measurement.reasons[0]["seen"]


def test_a_row_that_nobody_asked_for_is_said():
    result = output.parse_text("\n".join((HEADER, ROW, NEXT, ROW, "# Out of bounds values : 0 OK", "# Avg bus bandwidth    : 1")))
    measurement = Measurement("collective", "x")
    judge.judge_completeness(measurement, [({"what": "sweep", "sizes": [8192], "options": {}}, result)])
    assert [item["check"] for item in measurement.reasons if item["status"] == "incomplete"] == ["collective.output"]
    assert "2 row(s) of 8192 bytes where 1 were asked for" in measurement.reasons[-1]["seen"]
    assert "1 row(s) of 16384 bytes where 0 were asked for" in measurement.reasons[-1]["seen"]
