"""A run's folder belongs to one run, and what it could not keep is known."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from ansible.module_utils.plumbline.controller import kept, run_folder


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    monkeypatch.setenv(run_folder.NOT_KEPT, "")


def test_runs_of_one_second_have_a_folder_each(tmp_path):
    with ThreadPoolExecutor(32) as pool:
        folders = list(pool.map(lambda _number: run_folder.claim(str(tmp_path / "results")), range(32)))
    assert len(set(folders)) == 32 and all(os.listdir(folder) == [] for folder in folders)


def test_a_chosen_id_is_taken_once_but_may_be_a_folder_made_for_it(tmp_path):
    (tmp_path / "mine").mkdir()
    folder = run_folder.claim(str(tmp_path), "mine")
    (tmp_path / "mine/run.json").write_text("{}")
    assert folder == str(tmp_path / "mine")
    with pytest.raises(run_folder.CannotKeep, match="with the results of another run: choose another PLUMBLINE_RUN_ID"):
        run_folder.claim(str(tmp_path), "mine")
    assert run_folder.slug("../a b") == "-a-b"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO])
def test_a_folder_that_takes_no_file_is_an_error_with_path_reason_and_what_to_do(tmp_path, monkeypatch, number):
    def full(path, *_args, **_more):
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(run_folder, "write_atomically", full)
    with pytest.raises(run_folder.CannotKeep) as caught:
        run_folder.claim(str(tmp_path / "results"))
    said = str(caught.value)
    assert str(tmp_path / "results") in said and errno.errorcode[number] in said and "PLUMBLINE_RESULTS_DIR" in said
    assert os.listdir(tmp_path / "results") == [], "nothing is left of it"


def test_what_is_lost_is_named_until_it_is_kept_and_nothing_is_decided_without_it(tmp_path, monkeypatch):
    keeper = run_folder.Keeper(str(tmp_path))
    assert keeper.write("facts/n1/health.node.json", {"a": 1}) and not keeper.lost
    assert not keeper.write("facts/n2/health.node.json", {"a": float("nan")})
    assert not keeper.write("run.json/x/y", {"a": {1, 2}})
    assert "facts/n2/health.node.json could not be kept" in keeper.sentences()[0]
    assert run_folder.not_kept() == [" ".join(text.split()) for text in keeper.sentences()]
    monkeypatch.setenv("PLUMBLINE_KEPT_DIR", str(tmp_path))
    with pytest.raises(kept.NothingKeeps, match="nothing can be decided from it: facts/n2"):
        kept.load()
    keeper.write("facts/n2/health.node.json", {"a": 2})
    keeper.write("run.json/x/y", {})
    assert run_folder.not_kept() == [] and not keeper.lost


def test_a_thousand_lost_facts_fit_into_the_environment(tmp_path):
    keeper = run_folder.Keeper(str(tmp_path / "gone"))
    for number in range(1000):
        keeper.write("facts/n%d/health.node.json" % number, {})
    assert len(keeper.lost) == 1000 and len(run_folder.not_kept()) == 21 and "980 more" in run_folder.not_kept()[-1]
    assert len(os.environ[run_folder.NOT_KEPT]) < 16384 and not (tmp_path / "gone").exists()
