"""``case.sqlite``: which slide, which runs, in which order."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from napari_hspnet.cases.failures import case_failures
from napari_hspnet.cases.record import FINISHED, WRITING, RunInfo, RunRecord
from napari_hspnet.errors import CaseError, CaseMismatchError
from napari_hspnet.slides.grid import LabelGrid
from napari_hspnet.slides.types import SlideInfo

__all__ = ["FORMAT_VERSION", "CaseDatabase"]

FORMAT_VERSION = 1
"""Raised with every change that an older reader would misread."""

_APPLICATION_ID = 0x48535043  # "HSPC"

_SCHEMA = """
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


class CaseDatabase:
    """The database of one case; safe to call from any thread.

    Parameters
    ----------
    path : Path
        ``case.sqlite``; made where absent, unless read-only.
    info : SlideInfo
        The slide that is open.
    grid : LabelGrid
        Its label grid.
    read_only : bool
        Change nothing on the disk.

    Raises
    ------
    CaseError
        Damaged, no case, or of a newer format.
    CaseMismatchError
        The case of another slide, or of another µm per pixel.
    OutputError
        Disk full or not writable.
    """

    def __init__(self, path: Path, info: SlideInfo, grid: LabelGrid, read_only: bool) -> None:
        self._path = path
        self._grid = grid
        self._guard = threading.RLock()
        with case_failures(path.parent):
            self._db = _connect_read_only(path) if read_only else _connect(path)
            try:
                self._check_version(read_only)
                if not read_only and not self._version():
                    self._create(info)
                self._check_slide(info)
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        """Close the database; its write-ahead log is folded in."""
        with self._guard, case_failures(self._path.parent):
            self._db.close()

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _check_version(self, read_only: bool) -> None:
        application = int(self._db.execute("PRAGMA application_id").fetchone()[0])
        version = self._version()
        fresh = application == 0 and version == 0
        if fresh and not read_only:
            return
        if application != _APPLICATION_ID:
            raise CaseError(
                "case.sqlite is no case of ours",
                advice="Choose another folder",
                path=self._path.parent,
            )
        if version > FORMAT_VERSION:
            raise CaseError(
                f"The case has format {version}, made by a newer version; this one reads up to "
                f"{FORMAT_VERSION}",
                advice="Update napari-hspnet",
                path=self._path.parent,
            )
        said = self._db.execute("PRAGMA quick_check").fetchone()[0]
        if said != "ok":
            raise sqlite3.DatabaseError(said)

    def _create(self, info: SlideInfo) -> None:
        mpp_y, mpp_x = info.require_mpp()
        self._db.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            self._db.execute(statement)
        self._db.execute(
            "INSERT INTO slide VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                info.fingerprint,
                info.name,
                *info.shape,
                mpp_y,
                mpp_x,
                *self._grid.shape,
                self._grid.mpp,
            ),
        )
        self._db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        self._db.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        self._db.execute("COMMIT")

    def _check_slide(self, info: SlideInfo) -> None:
        row = self._db.execute(
            "SELECT fingerprint, name, mpp_y, mpp_x, grid_height, grid_width, grid_mpp FROM slide"
        ).fetchone()
        if row is None:
            raise sqlite3.DatabaseError("it does not say which slide it belongs to")
        fingerprint, name, mpp_y, mpp_x, height, width, mpp = row
        if fingerprint != info.fingerprint:
            raise CaseMismatchError(
                f"The case belongs to {name} ({fingerprint[:12]}…), the open slide is "
                f"{info.name} ({info.fingerprint[:12]}…)",
                advice="Open that slide, or choose another case folder",
                path=self._path.parent,
            )
        if ((height, width), mpp) != (self._grid.shape, self._grid.mpp):
            now_y, now_x = info.require_mpp()
            raise CaseMismatchError(
                f"The case was made at {mpp_x:g} x {mpp_y:g} µm per slide pixel and {mpp:g} µm per "
                f"label pixel, the slide is open at {now_x:g} x {now_y:g} and {self._grid.mpp:g}",
                advice="State the same µm per pixel, or choose another case folder",
                path=self._path.parent,
            )

    def runs(self) -> tuple[RunInfo, ...]:
        """All runs, oldest first."""
        with self._guard, case_failures(self._path.parent):
            rows = self._db.execute(
                "SELECT id, record, state, finished, seconds, pixels FROM run ORDER BY id"
            ).fetchall()
            return tuple(self._info(*row) for row in rows)

    def _info(
        self,
        run_id: str,
        record: str,
        state: str,
        finished: str | None,
        seconds: float | None,
        pixels: str,
    ) -> RunInfo:
        counts = {int(value): int(count) for value, count in json.loads(pixels).items()}
        square = (self._grid.mpp / 1000) ** 2
        return RunInfo(
            run_id,
            RunRecord.from_json(record),
            state,
            finished,
            seconds,
            counts,
            {value: count * square for value, count in counts.items()},
        )

    def add_run(self, run_id: str, record: RunRecord) -> RunInfo:
        """Enter a run that begins to write."""
        with self._guard, case_failures(self._path.parent):
            self._db.execute(
                "INSERT INTO run (id, record, state) VALUES (?, ?, ?)",
                (run_id, record.to_json(), WRITING),
            )
        return RunInfo(run_id, record, WRITING)

    def finish_run(self, run_id: str, seconds: float, pixels: Mapping[int, int]) -> RunInfo:
        """Say that a run's folder is complete; it becomes the topmost active run."""
        with self._guard, case_failures(self._path.parent):
            self._db.execute(
                "UPDATE run SET state = ?, finished = ?, seconds = ?, pixels = ?, position = "
                "(SELECT coalesce(max(position), 0) + 1 FROM run) WHERE id = ?",
                (
                    FINISHED,
                    datetime.now(UTC).isoformat(timespec="seconds"),
                    seconds,
                    json.dumps({str(value): count for value, count in sorted(pixels.items())}),
                    run_id,
                ),
            )
        return next(run for run in self.runs() if run.id == run_id)

    def remove_run(self, run_id: str) -> None:
        """Forget a run."""
        with self._guard, case_failures(self._path.parent):
            self._db.execute("DELETE FROM run WHERE id = ?", (run_id,))

    def active(self) -> tuple[str, ...]:
        """Ids of the active runs, the topmost last."""
        with self._guard, case_failures(self._path.parent):
            rows = self._db.execute(
                "SELECT id FROM run WHERE position IS NOT NULL ORDER BY position"
            ).fetchall()
        return tuple(row[0] for row in rows)

    def set_active(self, run_ids: Iterable[str]) -> None:
        """Choose the active runs, the topmost last."""
        chosen = [(position, run_id) for position, run_id in enumerate(run_ids, 1)]
        with self._guard, case_failures(self._path.parent):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.execute("UPDATE run SET position = NULL")
                self._db.executemany("UPDATE run SET position = ? WHERE id = ?", chosen)
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
    except BaseException:
        db.close()
        raise
    return db


def _connect_read_only(path: Path) -> sqlite3.Connection:
    # `immutable` is for media on which SQLite cannot even make its shared-memory
    # file; elsewhere it would overlook a writer's write-ahead log.
    for query in ("mode=ro", "mode=ro&immutable=1"):
        uri = f"{path.resolve().as_uri()}?{query}"
        db = sqlite3.connect(uri, uri=True, timeout=5, check_same_thread=False)
        try:
            db.execute("PRAGMA user_version")
            db.execute("SELECT count(*) FROM sqlite_master")
            return db
        except sqlite3.OperationalError:
            db.close()
            if "immutable" in query:
                raise
        except BaseException:
            db.close()
            raise
    raise AssertionError
