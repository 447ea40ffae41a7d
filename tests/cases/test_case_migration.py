"""A case of format 1, as the first release left it, becomes one of today."""

import json
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from case_tools import run_record, slide_info
from damage_tools import ANN, SHAPE, files, open_case, paint, shown

from napari_hspnet.cases import Case
from napari_hspnet.cases.database import CaseDatabase
from napari_hspnet.cases.store import RunStore
from napari_hspnet.cases.verify import verify_case
from napari_hspnet.errors import CaseError
from napari_hspnet.slides import LabelGrid

# Word for word as the first release made it.
FORMAT_1 = """
CREATE TABLE slide (
    fingerprint TEXT NOT NULL,
    name TEXT NOT NULL,
    height INTEGER NOT NULL,
    width INTEGER NOT NULL,
    mpp_y REAL NOT NULL,
    mpp_x REAL NOT NULL,
    grid_height INTEGER NOT NULL,
    grid_width INTEGER NOT NULL,
    grid_mpp REAL NOT NULL
) STRICT;
CREATE TABLE run (
    id TEXT PRIMARY KEY,
    record TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('writing', 'finished')),
    finished TEXT,
    seconds REAL,
    pixels TEXT NOT NULL DEFAULT '{}',
    position INTEGER
) STRICT;
"""
RUN = "20261123101112-0a1b2c"


@pytest.fixture
def old(tmp_path):
    folder = tmp_path / "a.hspnet"
    (folder / "runs").mkdir(parents=True)
    info = slide_info(*SHAPE)
    grid = LabelGrid.of(info)
    store = RunStore(folder / "runs" / RUN, grid)
    store.create(json.loads(run_record().to_json()))
    store.write(("class", 0, 0, 0), np.full((512, 512), 3, np.uint8))
    store.write(
        ("class", 1, 0, 0),
        np.pad(np.full((256, 256), 3), ((0, 256), (0, 256)), constant_values=255).astype(np.uint8),
    )
    db = sqlite3.connect(folder / "case.sqlite", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("BEGIN IMMEDIATE")
    for statement in FORMAT_1.split(";"):
        db.execute(statement)
    db.execute(
        "INSERT INTO slide VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (info.fingerprint, info.name, *info.shape, 1.0, 1.0, *grid.shape, grid.mpp),
    )
    db.execute(
        "INSERT INTO run VALUES (?, ?, 'finished', '2026-11-23T10:12:00+00:00', 12.5, ?, 1)",
        (RUN, run_record().to_json(), json.dumps({"3": 512 * 512})),
    )
    db.execute(f"PRAGMA application_id = {0x48535043}")
    db.execute("PRAGMA user_version = 1")
    db.execute("COMMIT")
    db.close()
    return folder


def written(folder):
    # SQLite's own two, made by reading.
    return {n: c for n, c in files(folder).items() if not n.endswith(("-wal", "-shm"))}


def test_looking_at_an_old_case_changes_nothing(old):
    before = written(old)
    with Case.open(old) as case:
        assert [run.id for run in case.runs] == [RUN]
        assert case.active == (RUN,)
        assert (shown(case)[:512, :512] == 3).all()
        assert (shown(case) == 3).sum() == 512 * 512
        assert case.composite().levels[1][10, 10] == 3
        assert case.composite().areas().mm2[3] == pytest.approx(0.262144)
        assert not case.journal.there
        assert (case.journal.last, list(case.journal.entries())) == (0, [])
        assert list(case.journal.verify()) == []
        assert case.review.regions == ()
        assert case.review.at(3, 3) == ()
        assert case.corrections.chunks == ()
        assert not case.editing.can_undo
        assert (case.at(0).read(0, 0, 5, 5) == 255).all()
        with pytest.raises(CaseError, match="read-only"):
            paint(case, 0, 0, 3, 3, 1)
    assert written(old) == before
    found = verify_case(old)
    assert found.ok
    assert found.entries == 0
    assert verify_case(old, repair=True).ok
    before.pop("case.lock", None)
    assert {n: c for n, c in written(old).items() if n != "case.lock"} == before


def test_opening_for_writing_migrates_and_journals_it(old):
    with open_case(old) as case:
        begin, runs = case.journal.entries()
        assert (begin.kind, begin.body["migrated_from"]) == ("begin", 1)
        assert [run["id"] for run in runs.body["active"]] == [RUN]
        assert (shown(case) == 3).sum() == 512 * 512
        assert case.runs[0].seconds == 12.5
        paint(case, 0, 0, 10, 10, 1)
        assert (case.at(2).read(0, 0, 10, 10) == 3).all()
    with open_case(old) as case:
        assert (shown(case)[:10, :10] == 1).all()
        assert case.journal.last == 3
        case.editing.undo(ANN)
    assert verify_case(old).ok
    db = sqlite3.connect(old / "case.sqlite")
    assert db.execute("PRAGMA user_version").fetchone() == (2,)
    tables = {row[0] for row in db.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL")}
    db.close()
    new = old.parent / "new.hspnet"
    open_case(new).close()
    db = sqlite3.connect(new / "case.sqlite")
    assert {
        row[0] for row in db.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL")
    } == tables
    db.close()


KILLED = """
    import os, signal, sys
    sys.path.insert(0, sys.argv[2])
    from pathlib import Path
    from damage_tools import open_case
    from napari_hspnet.cases import database, journal
    owner, name = {"tables": (database.schema, "migrate"), "journal": (journal.Journal, "append"),
                   "commit": (database.CaseDatabase, "_commit")}[sys.argv[3]]
    plain = getattr(owner, name)
    def killed(*args, **more):
        if sys.argv[3] != "commit":
            plain(*args, **more)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(owner, name, killed)
    open_case(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("where", ["tables", "journal", "commit"])
def test_a_migration_that_is_killed_leaves_the_old_case_whole(old, where):
    here = str(Path(__file__).parent)
    script = textwrap.dedent(KILLED)
    code = subprocess.run([sys.executable, "-c", script, str(old), here, where], check=False)
    assert code.returncode == -9
    with Case.open(old) as case:
        assert case._database.format == 1
        assert (shown(case) == 3).sum() == 512 * 512
    with open_case(old) as case:
        assert next(iter(case.journal.entries())).body["migrated_from"] == 1
        assert case.journal.last == 2
    assert verify_case(old).ok


def test_a_migration_on_a_full_disk_leaves_the_old_case_whole(old, monkeypatch):
    from napari_hspnet.errors import OutputError

    before = written(old)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CaseDatabase, "_commit", full)
    with pytest.raises(OutputError, match="full"):
        open_case(old)
    monkeypatch.undo()
    assert {n: c for n, c in written(old).items() if n != "case.lock"} == before
    with open_case(old) as case:
        assert next(iter(case.journal.entries())).body["migrated_from"] == 1
