"""An index of the runs in ``results/``: what each of them measured, so that comparing reads no folder twice. Controller only: SQLite.

It is a cache and nothing else. The folders decide: one that is gone is gone from the index, one that changed is read again, an index of
another version, or one that is no database, is made anew. Where it cannot be written (a read-only folder, another report that holds it)
the same is made in memory, for this one report.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field

from .metrics import Measured, Sample

FILE = ".plumbline-index.sqlite"
# Counts up with what is kept, and with what metrics.py takes from a run.
VERSION = 1
# Seconds that a report waits for another one that writes the index.
PATIENCE_S = 20

TABLES = """
CREATE TABLE runs (folder TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, run_id TEXT NOT NULL, started_at TEXT NOT NULL, about TEXT NOT NULL);
CREATE TABLE measured (
  folder TEXT NOT NULL REFERENCES runs (folder) ON DELETE CASCADE,
  scope TEXT NOT NULL, subject TEXT NOT NULL, key TEXT NOT NULL, metric TEXT NOT NULL,
  count INTEGER NOT NULL, mean REAL NOT NULL, deviation REAL
);
CREATE INDEX equal_runs ON measured (scope, key, metric);
"""


@dataclass
class Run:
    """A run in the index: its folder's name, its id, when it started (text), what it was made with, and its :class:`Measured`."""

    folder: str
    run_id: str
    started_at: str
    about: dict
    measured: list
    _places: dict = field(default=None, compare=False, repr=False)
    _subjects: dict = field(default=None, compare=False, repr=False)

    def same(self, item):
        """Return what this run measured of the same metric under the same conditions as ``item``."""
        if self._places is None:
            self._places = {}
            for one in self.measured:
                self._places.setdefault((one.scope, one.key, one.metric), []).append(one)
        return self._places.get((item.scope, item.key, item.metric), [])

    def of_subject(self, item):
        """Return what this run measured of the same metric of the same layout or node, as a list."""
        if self._subjects is None:
            self._subjects = {(one.scope, one.subject, one.key, one.metric): one for one in self.measured}
        found = self._subjects.get((item.scope, item.subject, item.key, item.metric))
        return [found] if found else []


def runs(results_dir, read, keep=True):
    """Return the :class:`Run` of each run folder in ``results_dir``, the oldest first.

    ``read`` returns the :class:`Run` of a folder's path, or None for one that holds none (half-written, no run). With ``keep`` False, as in
    check mode, nothing is written.
    """
    folders = fingerprints(results_dir)
    path = os.path.join(results_dir, FILE) if keep else ":memory:"
    for attempt in (path, path, ":memory:"):
        try:
            with closing(_opened(attempt)) as database:
                _update(database, results_dir, folders, read)
                return _all(database)
        except sqlite3.OperationalError:
            continue  # locked for too long, or not writable: the second time, or in memory
        except sqlite3.DatabaseError:
            _remove(path)  # no database: somebody else's file, or half of one
    raise AssertionError("SQLite cannot make a database in memory")


def fingerprints(results_dir):
    """Return ``{folder: fingerprint}`` of the run folders: of the names, sizes and times of what a run keeps."""
    found = {}
    for name in sorted(_listing(results_dir)):
        folder = os.path.join(results_dir, name)
        if name.startswith(".") or not os.path.isdir(os.path.join(folder, "facts")):
            continue
        digest = hashlib.sha256()
        for path in _files(folder):
            try:
                seen = os.stat(path)
            except OSError:
                continue  # removed meanwhile
            digest.update(("%s %d %d\n" % (os.path.relpath(path, folder), seen.st_size, seen.st_mtime_ns)).encode("utf-8", "replace"))
        found[name] = digest.hexdigest()
    return found


def _files(folder):
    yield os.path.join(folder, "run.json")
    for host in sorted(_listing(os.path.join(folder, "facts"))):
        for name in sorted(_listing(os.path.join(folder, "facts", host))):
            yield os.path.join(folder, "facts", host, name)


def _listing(path):
    try:
        return os.listdir(path)
    except OSError:
        return []


def _remove(path):
    try:
        os.unlink(path)
    except OSError:
        pass  # gone already, or never a file


def _opened(path):
    database = sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None)
    try:
        database.execute("PRAGMA foreign_keys = ON")
        return database
    except sqlite3.Error:
        database.close()
        raise


def _update(database, results_dir, folders, read):
    """Make the index say what the folders say, in one transaction: two reports at once wait for each other."""
    database.execute("BEGIN IMMEDIATE")
    try:
        _tables(database)
        known = dict(database.execute("SELECT folder, fingerprint FROM runs"))
        for folder in known:
            if known[folder] != folders.get(folder):
                database.execute("DELETE FROM runs WHERE folder = ?", (folder,))
        for folder, fingerprint in folders.items():
            if known.get(folder) != fingerprint:
                _add(database, folder, fingerprint, read(os.path.join(results_dir, folder)))
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _tables(database):
    """Make the tables, and make them anew where they are of another version."""
    names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
    if database.execute("PRAGMA user_version").fetchone()[0] == VERSION and set(names) == {"runs", "measured"}:
        return
    for name in sorted(names):  # "measured" first, which names "runs"
        database.execute('DROP TABLE "%s"' % name.replace('"', '""'))
    for statement in TABLES.split(";"):
        database.execute(statement)
    database.execute("PRAGMA user_version = %d" % VERSION)


def _add(database, folder, fingerprint, run):
    about = (run.run_id, run.started_at, json.dumps(run.about)) if run else ("", "", "{}")
    database.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?)", (folder, fingerprint, *about))
    rows = [(folder, item.scope, item.subject, item.key, item.metric, *item.sample) for item in run.measured] if run else []
    database.executemany("INSERT INTO measured VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)


def _all(database):
    """Return all runs that measured something, by the time at which they started."""
    found = {}
    for folder, *row in database.execute("SELECT folder, scope, subject, key, metric, count, mean, deviation FROM measured ORDER BY rowid"):
        found.setdefault(folder, []).append(Measured(*row[:4], Sample(*row[4:])))
    order = "SELECT folder, run_id, started_at, about FROM runs ORDER BY started_at, folder"
    rows = list(database.execute(order))
    return [Run(folder, run_id, at, json.loads(about), found[folder]) for folder, run_id, at, about in rows if folder in found]
