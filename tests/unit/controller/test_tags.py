"""A tag that no task has is told with the nearest one."""

from __future__ import annotations

from ansible.module_utils.plumbline.controller import tags

KNOWN = {"health", "clocks", "fabric", "validate", "verdict"}


def test_the_projects_files_have_the_tags_of_its_pages():
    assert {"preflight", "health", "clocks", "fabric", "model", "serve", "benchmark", "report", "validate", "verdict"} <= tags.written()


def test_an_unknown_tag_is_named_with_the_nearest():
    assert tags.unknown(["helth"], [], KNOWN, True) == ["--tags helth: no task has this tag, did you mean health?"]
    assert tags.unknown([], ["verdct"], KNOWN, True) == ["--skip-tags verdct: no task has this tag, did you mean verdict?"]
    (said,) = tags.unknown(["zzz"], [], KNOWN, True)
    assert said.endswith("expected some of clocks, fabric, health, validate, verdict")
    assert tags.unknown(["all", "never", "tagged", "untagged", "always", "health"], ["fabric"], KNOWN, True) == []


def test_in_somebody_elses_playbook_only_a_near_name_is_called():
    assert tags.unknown(["monitoring"], [], KNOWN, False) == []
    assert len(tags.unknown(["clock"], [], KNOWN, False)) == 1
    assert tags.all_ours([tags.ROOT + "/site.yml"]) and not tags.all_ours(["/somewhere/site.yml"])
