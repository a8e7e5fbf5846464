"""The index is a cache: whatever happens to it or to the folders, it says what the folders say."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from ansible.module_utils.plumbline.controller.report.compare import index, runs
from project import ROOT, SCHEMAS
from report_runs import benchmark, put, whole_run, write


def run_of(run_id, factor=1.0, hour=12):
    files = whole_run()
    files["run.json"].update(run_id=run_id, started_at="2026-11-24T%02d:00:00Z" % hour)
    for name in ("tp1", "tp2_within"):
        one = benchmark(name)
        for run in one["measured"]["runs"]:
            run["throughput_tok_s"] *= factor
        put(files, "node1", one)
    return files


@pytest.fixture
def results(tmp_path):
    for number in range(3):
        write(run_of("run%d" % number, hour=number + 1), tmp_path / ("run%d" % number))
    return tmp_path


class Reader:
    """Reads folders as the report does, and remembers which."""

    def __init__(self):
        self.asked = []

    def __call__(self, folder):
        self.asked.append(os.path.basename(folder))
        return runs.read(folder, str(SCHEMAS))


def names(results, reader=None, **options):
    return [run.run_id for run in index.runs(str(results), reader or Reader(), **options)]


def test_a_folder_is_read_once_and_again_only_when_it_changed(results):
    reader = Reader()
    assert names(results, reader) == ["run0", "run1", "run2"] and reader.asked == ["run0", "run1", "run2"]
    assert names(results, reader) == ["run0", "run1", "run2"] and len(reader.asked) == 3
    write(run_of("run1", 0.9, hour=2), results / "run1")
    assert names(results, reader) == ["run0", "run1", "run2"] and reader.asked[3:] == ["run1"]


def test_a_folder_that_is_gone_is_gone(results):
    assert names(results) == ["run0", "run1", "run2"]
    shutil.rmtree(results / "run1")
    assert names(results) == ["run0", "run2"]


@pytest.mark.parametrize(
    "content", [b"", b"no database at all, but long enough to be looked at" * 30, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_what_is_no_database_is_made_anew(results, content):
    (results / index.FILE).write_bytes(content)
    reader = Reader()
    assert names(results, reader) == ["run0", "run1", "run2"]
    assert names(results, reader) == ["run0", "run1", "run2"] and len(reader.asked) == 3, "the second time it is a good one"


@pytest.mark.parametrize("statement", ["PRAGMA user_version = 999", "DROP TABLE measured", "ALTER TABLE runs ADD COLUMN more TEXT"])
def test_another_version_or_shape_is_made_anew(results, statement):
    assert len(names(results)) == 3
    with closing(sqlite3.connect(results / index.FILE)) as database:
        database.execute(statement)
        if "ALTER" in statement:
            database.execute("PRAGMA user_version = 2000")
    assert names(results) == ["run0", "run1", "run2"]


def test_half_of_a_run_spoils_nothing_and_gives_what_is_whole(results):
    (results / "run1" / "run.json").write_text('{"run_id": "run1", "sta')
    (results / "run2" / "facts" / "node1" / "benchmark.tp1.json").write_text('{"schema": "plumbline.benchm')
    (results / "empty" / "facts").mkdir(parents=True)
    (results / "notes.txt").write_text("x")
    found = index.runs(str(results), Reader())
    assert {run.folder for run in found} == {"run0", "run1", "run2"}
    half = next(run for run in found if run.folder == "run2")
    subjects = {item.subject for item in half.measured if item.scope == "layout"}
    assert subjects == {"tp2_within", "pp2_across", "tp2_across"}


def test_check_mode_and_a_folder_that_cannot_be_written_leave_no_file(results, monkeypatch):
    assert len(names(results, keep=False)) == 3 and not (results / index.FILE).exists()
    (results / index.FILE).mkdir()  # also root cannot write a database there
    assert names(results) == ["run0", "run1", "run2"]


def test_a_report_that_waits_too_long_for_another_makes_its_own(results, monkeypatch):
    monkeypatch.setattr(index, "PATIENCE_S", 0.1)
    assert len(names(results)) == 3
    with closing(sqlite3.connect(results / index.FILE, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        write(run_of("run9", hour=9), results / "run9")
        assert names(results) == ["run0", "run1", "run2", "run9"]
    assert len(names(results)) == 4


PROGRAM = """
import sys
import ansible.module_utils
ansible.module_utils.__path__.append(sys.argv[1])
from ansible.module_utils.plumbline.controller.report.compare import index, runs
found = index.runs(sys.argv[2], lambda folder: runs.read(folder, sys.argv[3]))
print(len(found), sum(len(run.measured) for run in found))
"""


def test_reports_at_once_all_say_the_same(results):
    argv = [sys.executable, "-c", PROGRAM, str(ROOT / "plugins" / "module_utils"), str(results), str(SCHEMAS)]
    started = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    assert len({out for out, _err in said}) == 1 and said[0][0].startswith("3 ")
    with closing(sqlite3.connect(results / index.FILE)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (3,)


def test_a_run_reads_from_the_index_as_from_its_folder(results):
    (first, *_rest) = index.runs(str(results), Reader())
    again = index.runs(str(results), Reader())[0]
    fresh = runs.read(str(results / "run0"), str(SCHEMAS))
    assert first == again and [tuple(item) for item in again.measured] == [tuple(item) for item in fresh.measured]
    assert json.loads(fresh.measured[0].key)["tp"] == 1
