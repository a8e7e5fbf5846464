"""The kernel log: both formats, what it says of a broken node, and why it could not be read."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.plumbline.health.evidence import kernel_events
from ansible.module_utils.plumbline.health.evidence import kernel_log as log

RING = """\
<5>[    0.000000] Linux version 6.8.0-1025-azure (buildd@lcy02) #30-Ubuntu SMP
<6>[    1.000000][    T1] mce: CPU supports 32 MCE banks
<3>[    2.500000] blk_update_request: I/O error, dev fd0, sector 0 op 0x0:(READ)
<6>[    3.250000] EXT4-fs (sda1): mounted filesystem with ordered data mode.
<4>[   12.000001] EXT4-fs error (device sda1): ext4_lookup:1857: inode #131: comm bash: iget: checksum invalid
"""


def test_ring_buffer():
    lines = log.parse_ring(RING)
    assert len(lines) == 5
    assert lines[1] == {"text": "mce: CPU supports 32 MCE banks", "at_s": 1.0}
    assert lines[4]["at_s"] == 12.000001
    events = kernel_events.parse(lines)
    assert len(events["rules"]["filesystem"]) == 1 and "checksum invalid" in events["rules"]["filesystem"][0]
    assert events["rules"]["io_error"] == [] and events["lines_count"] == 5
    assert list(events["rules"]) == list(kernel_events.RULES)


def test_an_xid_is_read_with_its_place_and_its_line():
    text = "NVRM: Xid (PCI:000A:00:00): 79, pid=1234, GPU has fallen off the bus."
    events = kernel_events.parse([{"text": "NVRM: loading", "at_s": 1.0}, {"text": text, "at_s": 2.0}])
    assert events["xids"] == [{"number": 79, "place": "000a:00:00", "text": text}]


def test_journal():
    entries = [
        {"MESSAGE": "Linux version 6.8", "__REALTIME_TIMESTAMP": "1763960000000000", "PRIORITY": "5"},
        {"MESSAGE": list(b"I/O error, dev sdb, sector 1 \xff"), "__REALTIME_TIMESTAMP": "1763960001500000"},
        {"MESSAGE": None, "__REALTIME_TIMESTAMP": "1763960002000000"},
    ]
    lines = log.parse_journal("".join(json.dumps(entry) + "\n" for entry in entries))
    assert [line["at_s"] for line in lines] == [1763960000.0, 1763960001.5]
    assert {rule for rule, texts in kernel_events.parse(lines)["rules"].items() if texts} == {"io_error"}
    with pytest.raises(ValueError):
        log.parse_journal("-- No entries --\n")


def test_unreadable_log_says_why(monkeypatch):
    def refuse():
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(log, "read_ring", refuse)
    monkeypatch.setattr(log.shutil, "which", lambda name: None)
    seen = log.collect()
    assert seen["lines"] is None and seen["events"] is None and seen["error"] == "klogctl: Operation not permitted"


def test_what_a_journal_lacks_is_said():
    first, more = {"MESSAGE": "Linux version 6.8"}, {"MESSAGE": "nvidia: loading"}
    whole = "".join(json.dumps(entry) + "\n" for entry in (first, more))
    assert log.journal_lacks(whole, log.parse_journal(whole)) is None
    for end in range(1, len(whole)):
        cut = whole[:end]
        try:
            lines = log.parse_journal(cut)
        except ValueError:
            continue
        # A cut between two entries is the one that the text does not show; journalctl's status does.
        assert log.journal_lacks(cut, lines) or cut == json.dumps(first) + "\n"
    assert "status 1" in log.journal_lacks(whole, log.parse_journal(whole), status=1)
    truncated = "Journal file /var/log/journal/a/system.journal is truncated, ignoring file."
    assert truncated in log.journal_lacks(whole, log.parse_journal(whole), truncated)


def test_values_of_the_journal_that_are_odd_raise_nothing():
    odd = [[1, 999], [None, {}], {}, 7, "", True, "x" * 9, ["a", "b"]]
    text = "".join(json.dumps({"MESSAGE": value, "__REALTIME_TIMESTAMP": value}) + "\n" for value in odd) + "[" * 100000 + "\n7\n"
    assert [line for line in log.parse_journal(text) if line.get("damaged")][-1]["text"] == "7"
