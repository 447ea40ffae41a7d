"""The tables of ``case.sqlite``, and how older formats become the present one."""

from __future__ import annotations

import sqlite3

__all__ = [
    "APPLICATION_ID",
    "DEFINITIONS",
    "FORMAT_VERSION",
    "REGION_TABLE",
    "create",
    "expected_definitions",
    "migrate",
]

APPLICATION_ID = 0x48535043  # "HSPC"

FORMAT_VERSION = 2
"""Raised with every change that an older reader would misread.

1: slide and runs. 2: journal, corrections, review regions.
"""

DEFINITIONS = "SELECT name, sql FROM sqlite_master ORDER BY name"
"""Asks for name and definition of every table and index."""

# What the journal's entries about regions add up to.
REGION_TABLE = """
CREATE TABLE region (
    id INTEGER PRIMARY KEY,
    entry INTEGER NOT NULL,
    part INTEGER NOT NULL,
    kind TEXT NOT NULL,
    pixels INTEGER NOT NULL,
    y0 INTEGER NOT NULL,
    x0 INTEGER NOT NULL,
    y1 INTEGER NOT NULL,
    x1 INTEGER NOT NULL,
    state TEXT NOT NULL,
    state_reader TEXT NOT NULL,
    state_time TEXT NOT NULL,
    tag TEXT NOT NULL DEFAULT '',
    comments TEXT NOT NULL DEFAULT '[]'
) STRICT;
"""

_SINCE_1 = """
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

# `tile.part` tells the regions of one entry apart; it is 0 for edits.
_SINCE_2 = """
CREATE TABLE entry (
    seq INTEGER PRIMARY KEY,
    time TEXT NOT NULL,
    reader TEXT NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    tiles TEXT NOT NULL,
    previous TEXT NOT NULL,
    hash TEXT NOT NULL
) STRICT;
CREATE TABLE tile (
    entry INTEGER NOT NULL,
    part INTEGER NOT NULL,
    row INTEGER NOT NULL,
    col INTEGER NOT NULL,
    y INTEGER NOT NULL,
    x INTEGER NOT NULL,
    height INTEGER NOT NULL,
    width INTEGER NOT NULL,
    before BLOB NOT NULL,
    after BLOB NOT NULL,
    PRIMARY KEY (entry, part, row, col)
) STRICT;
CREATE INDEX tile_place ON tile (row, col, entry);
CREATE TABLE seen (seq INTEGER NOT NULL) STRICT;
INSERT INTO seen VALUES (0);
"""


def create(db: sqlite3.Connection) -> None:
    """Make all tables, inside the caller's transaction."""
    _run(db, _SINCE_1 + _SINCE_2 + REGION_TABLE)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {FORMAT_VERSION}")


def migrate(db: sqlite3.Connection, version: int) -> None:
    """Bring a case of an older format up to date, inside the caller's transaction.

    Parameters
    ----------
    version : int
        The format found, 1 to `FORMAT_VERSION` - 1.
    """
    if version < 2:
        _run(db, _SINCE_2 + REGION_TABLE)
    db.execute(f"PRAGMA user_version = {FORMAT_VERSION}")


def expected_definitions() -> list[tuple[str, str | None]]:
    """What `DEFINITIONS` gives for a sound case of the present format."""
    db = sqlite3.connect(":memory:")
    try:
        create(db)
        rows: list[tuple[str, str | None]] = db.execute(DEFINITIONS).fetchall()
        return rows
    finally:
        db.close()


def _run(db: sqlite3.Connection, script: str) -> None:
    # Not `executescript`, which commits first.
    for statement in script.split(";"):
        db.execute(statement)
