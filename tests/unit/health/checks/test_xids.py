"""What XIDs ask for: by the catalogue, by the text, by an XID 154, and what becomes of the words that are shown."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.health.checks import xids

CHANGED = "NVRM: Xid (PCI:0001:00:00): 154, GPU recovery action changed from 0x0 (None) to "


def event(number, text="", place="0001:00:00"):
    return {"number": number, "place": place, "text": text}


@pytest.mark.parametrize(
    ("wanted", "action"),
    [
        ("0x0 (None)", "nothing"),
        ("0x1 (GPU Reset Required)", "GPU reset"),
        ("0x1 (PF FLR)", "GPU reset"),
        ("0x2 (Node Reboot Required)", "node reboot"),
        ("0x2 (OS Reboot)", "node reboot"),
        ("0x3 (Drain P2P)", "drain P2P"),
        ("0x4 (Drain and Reset)", "drain and reset"),
        ("0x2", "node reboot"),
        ("0x2 (Node Reb", "an action that cannot be read"),
        ("0xffffffffffffffff", "an action that cannot be read"),
        ("", "an action that cannot be read"),
    ],
)
def test_recovery_action(wanted, action):
    assert xids.recovery_action(CHANGED + wanted) == action


def test_what_in_words_says_is_what_classify_reads():
    found = xids.fatal([event(48), event(154, CHANGED + "0x2 (OS Reboot)"), event(64, place="0002:00:00 GPU-I:01"), event(31)])
    words = xids.in_words(found)
    assert words == "XID 48 at 0001:00:00, XID 64 at 0002:00:00 GPU-I:01, XID 154 at 0001:00:00 [node reboot]"
    assert xids.classify(words + "; the last: NVRM: Xid 79") == ("replace", "NHC2007")
    assert xids.classify(xids.in_words(found[:1])) == ("reset_gpu", "NHC2014")
    assert xids.classify(xids.in_words([found[0], found[1]])) == ("reboot", "NHC2014")


def test_every_fatal_xid_fails_alone_and_keeps_its_class():
    for number, wanted in xids.FATAL.items():
        assert xids.classify(xids.in_words(xids.fatal([event(number)]))) == wanted
    for number in xids.BY_SEVERITY:
        assert xids.fatal([event(number, "RLW Nonfatal XC0"), event(number, "RLW Non-fatal XC0"), event(number, "cut")]) == []
        assert xids.classify(xids.in_words(xids.fatal([event(number, "RLW Fatal XC0")]))) == xids.NVLINK_FATAL


def test_every_xid_of_azure_nhc_fails_but_the_remapped_row():
    # 63 says that the repair worked; whether it waits for a reset is gpu.remap's to tell.
    nhc = [48, 56, 57, 58, 62, 63, 64, 65, 68, 69, 73, 74, 79, 80, 81, 92, 119, 120]
    assert [number for number in nhc if not xids.fatal([event(number)])] == [63]
    assert "when convenient" in xids.remedy([event(63)])


def test_only_the_last_154_of_a_gpu_counts():
    reset, none = event(154, CHANGED + "0x1 (GPU Reset Required)"), event(154, CHANGED + "0x0 (None)")
    assert xids.fatal([reset, none]) == []
    assert [item["action"] for item in xids.fatal([none, reset, dict(none, place="0002:00:00")])] == ["GPU reset"]
    assert [item["number"] for item in xids.fatal([event(79), reset, none])] == [79]


def test_a_154_before_another_fatal_xid_does_not_decide():
    reset = event(154, CHANGED + "0x1 (GPU Reset Required)")
    assert xids.classify(xids.in_words(xids.fatal([event(79), reset]))) == ("reset_gpu", "NHC2013")
    assert xids.classify(xids.in_words(xids.fatal([reset, event(79)]))) == ("reboot", "NHC2013")
    assert xids.classify(xids.in_words(xids.fatal([event(64), reset]))) == ("replace", "NHC2007")
