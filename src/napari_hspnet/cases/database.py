"""``case.sqlite``: which slide, which runs, in which order."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from napari_hspnet.cases import schema
from napari_hspnet.cases.failures import case_failures
from napari_hspnet.cases.record import FINISHED, WRITING, RunInfo, RunRecord
from napari_hspnet.cases.schema import APPLICATION_ID, FORMAT_VERSION
from napari_hspnet.errors import CaseError, CaseMismatchError
from napari_hspnet.slides.grid import LabelGrid
from napari_hspnet.slides.types import SlideInfo

__all__ = ["CaseDatabase"]


class CaseDatabase:
    """The database of one case; safe to call from any thread.

    Parameters
    ----------
    path : Path
        ``case.sqlite``; made where absent, unless read-only or no slide is given.
    read_only : bool
        Change nothing on the disk.
    info : SlideInfo, optional
        The slide that is open; without it the case is taken for what it says it is.
    grid : LabelGrid, optional
        Its label grid; goes with `info`.
    check : bool
        Whether damaged pages are looked for. Without, a damaged database opens as
        long as SQLite can find its tables.
    still : bool
        Nobody writes meanwhile, and the write-ahead log is empty: then reading
        leaves no file of SQLite's beside it. Goes with `read_only`.

    Attributes
    ----------
    format : int
        As found; a read-only case may be of an older one, without a journal.
    migrated_from : int or None
        The format before `migrate`.

    Raises
    ------
    CaseError
        Damaged, no case, or of a newer format.
    CaseMismatchError
        The case of another slide, or of another µm per pixel.
    OutputError
        Disk full or not writable.
    """

    def __init__(
        self,
        path: Path,
        read_only: bool,
        info: SlideInfo | None = None,
        grid: LabelGrid | None = None,
        check: bool = True,
        still: bool = False,
    ) -> None:
        self._path = path
        self._guard = threading.RLock()
        self._depth = 0
        self.read_only = read_only
        self._runs: tuple[RunInfo, ...] | None = None
        self._active: tuple[str, ...] | None = None
        self.format = FORMAT_VERSION
        self.migrated_from: int | None = None
        with case_failures(path.parent):
            self._db = _connect_read_only(path, still) if read_only else _connect(path)
            try:
                self._open(info, grid, check)
            except BaseException:
                self._db.close()
                raise

    def _open(self, info: SlideInfo | None, grid: LabelGrid | None, check: bool) -> None:
        if self._is_new():
            if info is None or grid is None:
                raise sqlite3.DatabaseError("it is empty")
            self._create(info, grid)
        version = self._check_version(check)
        row = self._db.execute("SELECT grid_height, grid_width, grid_mpp FROM slide").fetchone()
        if row is None:
            raise sqlite3.DatabaseError("it does not say which slide it belongs to")
        self.grid = LabelGrid((row[0], row[1]), row[2])
        if info is not None and grid is not None:
            self._check_slide(info, grid)
        self.format = version

    def migrate(self) -> None:
        """Bring a case of an older format up to date.

        Apart from opening, so that what is refused stays as it was, and so that
        the journal can begin in the same transaction.
        """
        if self.format < FORMAT_VERSION:
            with self.transaction() as db:
                schema.migrate(db, self.format)
            self.format, self.migrated_from = FORMAT_VERSION, self.format

    def close(self) -> None:
        """Close the database; its write-ahead log is folded in."""
        with self._guard, case_failures(self._path.parent):
            self._db.close()

    def size(self) -> int:
        """Bytes that it takes on the disk, the write-ahead log with it."""
        files = (self._path, self._path.with_name(f"{self._path.name}-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    @property
    def folder(self) -> Path:
        """The case folder."""
        return self._path.parent

    @contextmanager
    def held(self) -> Iterator[bool]:
        """No other thread uses the database meanwhile; gives whether a transaction is open."""
        with self._guard:
            yield self._depth > 0

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, on the disk when the outermost one ends.

        Raises
        ------
        OutputError
            Disk full or not writable; nothing has changed.
        CaseError
            The database cannot be used.
        """
        with self._guard, case_failures(self._path.parent):
            if self._depth == 0:
                self._db.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield self._db
            except BaseException:
                self._depth -= 1
                if self._depth == 0 and self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._depth -= 1
            if self._depth == 0:
                self._commit()

    def _commit(self) -> None:
        try:
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def require_writable(self) -> None:
        """Raise where the case was opened to look only.

        Raises
        ------
        CaseError
            If so.
        """
        if self.read_only:
            raise CaseError(
                "The case is open read-only",
                advice="Open it for writing, or choose another case folder",
                path=self._path.parent,
            )

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """The rows of a SELECT.

        Raises
        ------
        CaseError
            The database is damaged there.
        """
        with self._guard, case_failures(self._path.parent):
            return self._db.execute(sql, parameters).fetchall()

    @contextmanager
    def _changing_runs(self) -> Iterator[sqlite3.Connection]:
        with self.transaction() as db:
            try:
                yield db
            finally:
                self._runs = self._active = None

    def _is_new(self) -> bool:
        marks = [self._pragma("application_id"), self._pragma("user_version")]
        return marks == [0, 0] and not self.read_only

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    def _check_version(self, check: bool) -> int:
        version = self._pragma("user_version")
        if self._pragma("application_id") != APPLICATION_ID:
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
        said = self._db.execute("PRAGMA quick_check").fetchone()[0] if check else "ok"
        if said != "ok":
            raise sqlite3.DatabaseError(
                f"{said}; `napari-hspnet case verify` says which entries it concerns"
            )
        tables = self._db.execute(
            "SELECT count(*) FROM sqlite_master WHERE name = 'entry'"
        ).fetchone()[0]
        if version < 1 or (version < 2 and tables):
            # To take it for an old case would hide its journal.
            if check:
                raise sqlite3.DatabaseError(
                    f"its format number {version} is wrong; `napari-hspnet case verify --repair` "
                    "sets it right"
                )
            return FORMAT_VERSION
        return version

    def _create(self, info: SlideInfo, grid: LabelGrid) -> None:
        with self.transaction() as db:
            schema.create(db)
            db.execute(
                "INSERT INTO slide VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    info.fingerprint,
                    info.name,
                    *info.shape,
                    *info.require_mpp(),
                    *grid.shape,
                    grid.mpp,
                ),
            )

    def slide(self) -> tuple[str, str]:
        """Fingerprint and name of the slide that the case belongs to."""
        fingerprint, name = self.query("SELECT fingerprint, name FROM slide")[0]
        return fingerprint, name

    def set_slide(self, info: SlideInfo) -> None:
        """Let the case belong to another file of the same size and resolution.

        Raises
        ------
        CaseMismatchError
            If size or µm per pixel differ.
        """
        row = self.query("SELECT height, width, mpp_y, mpp_x FROM slide")[0]
        now = (*info.shape, *info.require_mpp())
        if tuple(row) != now:
            raise CaseMismatchError(
                f"The case's slide has {row[1]:,} x {row[0]:,} px of {row[3]:g} x {row[2]:g} µm, "
                f"this one {now[1]:,} x {now[0]:,} px of {now[3]:g} x {now[2]:g} µm",
                advice="Attach the case to the same picture only",
                path=self._path.parent,
            )
        with self.transaction() as db:
            db.execute("UPDATE slide SET fingerprint = ?, name = ?", (info.fingerprint, info.name))

    def _check_slide(self, info: SlideInfo, grid: LabelGrid) -> None:
        fingerprint, name, mpp_y, mpp_x = self._db.execute(
            "SELECT fingerprint, name, mpp_y, mpp_x FROM slide"
        ).fetchone()
        if fingerprint != info.fingerprint:
            raise CaseMismatchError(
                f"The case belongs to {name} ({fingerprint[:12]}…), the open slide is "
                f"{info.name} ({info.fingerprint[:12]}…)",
                advice="Open that slide or choose another case folder; if it is the same slide, "
                "saved anew, join them with `napari-hspnet case attach`",
                path=self._path.parent,
            )
        if self.grid != grid:
            now_y, now_x = info.require_mpp()
            raise CaseMismatchError(
                f"The case was made at {mpp_x:g} x {mpp_y:g} µm per slide pixel and "
                f"{self.grid.mpp:g} µm per label pixel, the slide is open at {now_x:g} x {now_y:g} "
                f"and {grid.mpp:g}",
                advice="State the same µm per pixel, or choose another case folder",
                path=self._path.parent,
            )

    def runs(self) -> tuple[RunInfo, ...]:
        """All runs, oldest first."""
        # A writer knows of every change, so that a window need not wait for the
        # database while a worker uses it.
        known = self._runs
        if known is not None:
            return known
        with self._guard, case_failures(self._path.parent):
            rows = self._db.execute(
                "SELECT id, record, state, finished, seconds, pixels FROM run ORDER BY id"
            ).fetchall()
            known = tuple(self._info(*row) for row in rows)
            if not self.read_only and self._depth == 0:
                self._runs = known
        return known

    def run(self, run_id: str) -> RunInfo:
        """One run, whatever the table holds beside it.

        Raises
        ------
        CaseError
            If there is none, or it is damaged.
        """
        with self._guard, case_failures(self._path.parent):
            rows = self._db.execute(
                "SELECT id, record, state, finished, seconds, pixels FROM run WHERE id = ?",
                (run_id,),
            ).fetchall()
            if not rows:
                raise KeyError(f"no run {run_id}")
            return self._info(*rows[0])

    def _info(
        self,
        run_id: str,
        record: str,
        state: str,
        finished: str | None,
        seconds: float | None,
        pixels: str,
    ) -> RunInfo:
        counts = {int(value): int(count) for value, count in dict(json.loads(pixels)).items()}
        square = (self.grid.mpp / 1000) ** 2
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
        with self._changing_runs() as db:
            db.execute(
                "INSERT INTO run (id, record, state) VALUES (?, ?, ?)",
                (run_id, record.to_json(), WRITING),
            )
        return RunInfo(run_id, record, WRITING)

    def put_run(self, run: RunInfo) -> None:
        """Enter a run that is finished already, as it was before; it is not active."""
        with self._changing_runs() as db:
            db.execute(
                "INSERT INTO run (id, record, state, finished, seconds, pixels) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (
                    run.id,
                    run.record.to_json(),
                    run.state,
                    run.finished,
                    run.seconds,
                    _counts(run.pixels),
                ),
            )

    def finish_run(
        self, run_id: str, seconds: float, pixels: Mapping[int, int], record: RunRecord
    ) -> None:
        """Say that a run's folder is complete; it becomes the topmost active run."""
        with self._changing_runs() as db:
            db.execute(
                "UPDATE run SET record = ?, state = ?, finished = ?, seconds = ?, pixels = ?, "
                "position = (SELECT coalesce(max(position), 0) + 1 FROM run) WHERE id = ?",
                (
                    record.to_json(),
                    FINISHED,
                    datetime.now(UTC).isoformat(timespec="seconds"),
                    seconds,
                    _counts(pixels),
                    run_id,
                ),
            )

    def remove_run(self, run_id: str) -> None:
        """Forget a run."""
        with self._changing_runs() as db:
            db.execute("DELETE FROM run WHERE id = ?", (run_id,))

    def active(self) -> tuple[str, ...]:
        """Ids of the active runs, the topmost last."""
        known = self._active
        if known is not None:
            return known
        with self._guard, case_failures(self._path.parent):
            rows = self._db.execute(
                "SELECT id FROM run WHERE position IS NOT NULL ORDER BY position"
            ).fetchall()
            known = tuple(row[0] for row in rows)
            if not self.read_only and self._depth == 0:
                self._active = known
        return known

    def set_active(self, run_ids: Iterable[str]) -> None:
        """Choose the active runs, the topmost last."""
        chosen = [(position, run_id) for position, run_id in enumerate(run_ids, 1)]
        with self._changing_runs() as db:
            db.execute("UPDATE run SET position = NULL")
            db.executemany("UPDATE run SET position = ? WHERE id = ?", chosen)


def _counts(pixels: Mapping[int, int]) -> str:
    return json.dumps({str(value): count for value, count in sorted(pixels.items())})


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
    except BaseException:
        db.close()
        raise
    return db


def _connect_read_only(path: Path, still: bool) -> sqlite3.Connection:
    # `immutable` is for media on which SQLite cannot even make its shared-memory
    # file; elsewhere it would overlook a writer's write-ahead log.
    for query in ("mode=ro", "mode=ro&immutable=1")[still:]:
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
