"""Is a case whole? And what can be written anew from its journal."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_hspnet.cases import schema
from napari_hspnet.cases.audit import audit
from napari_hspnet.cases.cache import ChunkCache
from napari_hspnet.cases.checks import CORRECTION, DATABASE, RUN_FOLDERS, Checks, Finding
from napari_hspnet.cases.corrections import UNTOUCHED, Corrections, PastCorrections
from napari_hspnet.cases.database import CaseDatabase
from napari_hspnet.cases.failures import case_failures
from napari_hspnet.cases.journal import Journal, moment
from napari_hspnet.cases.lock import CaseLock
from napari_hspnet.cases.places import refuse_network
from napari_hspnet.cases.remains import keep_database
from napari_hspnet.cases.review import Review
from napari_hspnet.cases.schema import FORMAT_VERSION
from napari_hspnet.cases.store import CorrectionStore, Key
from napari_hspnet.errors import CaseError

__all__ = ["Finding", "Verification", "verify_case"]

_LOCK = "case.lock"


@dataclass(frozen=True)
class Verification:
    """What was found.

    Attributes
    ----------
    entries, chunks : int
        How many entries of the journal, and chunks of corrections and runs, were
        looked at.
    damages : tuple of Finding
        What does not hold; after a repair, what remains.
    mended : tuple of Finding
        What did not hold and was written anew.
    rescue : bool
        Whether the journal does not hold. What a repair has not mended then is for
        `rescue_case`.
    """

    entries: int
    chunks: int
    damages: tuple[Finding, ...]
    mended: tuple[Finding, ...] = ()
    rescue: bool = False

    @property
    def ok(self) -> bool:
        """Whether all of it holds."""
        return not self.damages

    @property
    def repaired(self) -> int:
        """How many damages were repaired."""
        return len(self.mended)


def verify_case(
    folder: Path,
    repair: bool = False,
    progress: Callable[[float], None] | None = None,
    cancel: threading.Event | None = None,
) -> Verification:
    """Check a case: pages, journal, review regions, corrections, runs.

    Without `repair` nothing is changed, and another window may have the case open.
    With it, what follows from the journal is made anew from it: chunks of
    ``correction.zarr`` (those replaced are kept beside), the table of regions, the
    choice of active runs. Where pages of the database are damaged and yet every
    entry of the journal holds, it is copied into sound pages. The journal and the
    runs are what they are.

    Parameters
    ----------
    folder : Path
        The case folder.
    repair : bool
        Write anew what can be; takes the lock.
    progress : callable (float) -> None, optional
        Told the part that is done, 0 to 1; a repair is followed by a second look.
    cancel : threading.Event, optional
        Stops it.

    Raises
    ------
    CaseError
        There is no case, or, with `repair`, it lies on a network share.
    CaseInUseError
        With `repair`: another process holds it.
    OutputError
        With `repair`: disk full, or writing not permitted.
    CancelledError
        If cancelled.
    """
    folder = Path(folder).absolute()
    _require_case(folder)
    progress, cancel = progress or (lambda part: None), cancel or threading.Event()
    if not repair:
        return _look(folder, progress, cancel)[0]
    refuse_network(folder)
    lock = CaseLock(folder / _LOCK)
    try:
        found, checks = _look(folder, progress, cancel)
        if found.ok or checks is None:
            return found
        if not checks.pages_hold and _repaged(folder):
            _, checks = _look(folder, progress, cancel)
        try:
            if checks is None or not _mend(folder, checks):
                return found
        except CaseError as error:
            remark = Finding(0, f"cannot be written anew: {error.what}", DATABASE)
            return Verification(found.entries, found.chunks, (*found.damages, remark), rescue=True)
        now, _ = _look(folder, progress, cancel)
        mended = tuple(f for f in found.damages if f not in set(now.damages))
        return Verification(now.entries, now.chunks, now.damages, mended, now.rescue)
    finally:
        lock.release()


def _require_case(folder: Path) -> None:
    if (folder / DATABASE).is_file():
        return
    if (folder / CORRECTION).is_dir() or (folder / RUN_FOLDERS).is_dir():
        raise CaseError(
            "The case's case.sqlite is gone",
            advice="Restore it from a backup, or begin it anew from the results with "
            "`napari-hspnet case rescue`",
            path=folder,
        )
    raise CaseError("There is no case in this folder", advice="Choose a case folder", path=folder)


def _look(
    folder: Path, progress: Callable[[float], None], cancel: threading.Event
) -> tuple[Verification, Checks | None]:
    log = folder / f"{DATABASE}-wal"
    still = not log.exists() or log.stat().st_size == 0
    found, checks = _look_once(folder, still, progress, cancel)
    if still and log.exists() and log.stat().st_size:
        # Somebody began to write.
        return _look_once(folder, False, progress, cancel)
    return found, checks


def _look_once(
    folder: Path, still: bool, progress: Callable[[float], None], cancel: threading.Event
) -> tuple[Verification, Checks | None]:
    try:
        database = CaseDatabase(folder / DATABASE, read_only=True, check=False, still=still)
    except CaseError as error:
        damage = Finding(0, f"cannot be opened: {error.what}", DATABASE)
        return Verification(0, 0, (damage,), rescue=True), None
    try:
        checks = Checks(folder, database, progress, cancel)
        checks.run()
    finally:
        database.close()
    whole = checks.pages_hold and checks.entries_hold and not checks.bad_tiles
    found = Verification(checks.entries, checks.chunks, tuple(checks.findings), rescue=not whole)
    return found, checks


def _repaged(folder: Path) -> bool:
    """Copy the tables into a database with sound pages; whether the journal came over whole."""
    database, fresh = folder / DATABASE, folder / f".{DATABASE}.repaged"
    with case_failures(folder):
        fresh.unlink(missing_ok=True)
        try:
            with closing(CaseDatabase(database, read_only=True, check=False)) as damaged:
                if damaged.format < FORMAT_VERSION:
                    return False
                _copy_rows(damaged, fresh)
            with closing(CaseDatabase(fresh, read_only=True)) as copy:
                if next(audit(copy), None) is not None:
                    return False
            keep_database(folder, f"damaged-{moment().replace(':', '')}")
            # The log first: it must never be left to a database that it is not of. A
            # crash before the last step is one that `rescue_case` mends.
            for end in ("-wal", "-shm"):
                (folder / f"{DATABASE}{end}").unlink(missing_ok=True)
            fresh.replace(database)
        except (CaseError, sqlite3.IntegrityError):
            # A row that no table takes is damage too.
            return False
        finally:
            for end in ("", "-wal", "-shm"):
                (folder / f"{fresh.name}{end}").unlink(missing_ok=True)
    return True


def _copy_rows(source: CaseDatabase, target: Path) -> None:
    # Row by row from the tables themselves: VACUUM would copy damaged indexes as well.
    with closing(sqlite3.connect(target, isolation_level=None)) as db:
        db.execute("BEGIN")
        schema.create(db)
        for table in ("slide", "run", "entry", "tile"):
            _copy_table(source, db, table)
        # These two follow from the others.
        for table in ("seen", "region"):
            with suppress(CaseError, sqlite3.IntegrityError):
                _copy_table(source, db, table)
        db.execute("COMMIT")


def _copy_table(source: CaseDatabase, db: sqlite3.Connection, table: str) -> None:
    db.execute(f"DELETE FROM {table}")
    last = -(1 << 63)
    while rows := source.query(
        f"SELECT rowid, * FROM {table} NOT INDEXED WHERE rowid > ? ORDER BY rowid LIMIT 200",
        (last,),
    ):
        if rows[-1][0] <= last:
            raise sqlite3.IntegrityError("rows are out of order")
        last = rows[-1][0]
        marks = ", ".join("?" * (len(rows[0]) - 1))
        db.executemany(f"INSERT INTO {table} VALUES ({marks})", [row[1:] for row in rows])


def _mend(folder: Path, checks: Checks) -> bool:
    """Write anew what follows from the journal; whether anything was tried."""
    if not (checks.entries_hold and checks.pages_hold):
        return False
    with closing(CaseDatabase(folder / DATABASE, read_only=False, check=False)) as database:
        if database.format < FORMAT_VERSION:
            return False
        # Where only this number was hit, the tables say what it was.
        database.query(f"PRAGMA user_version = {FORMAT_VERSION}")
        journal = Journal(database)
        if checks.review_differs:
            Review(database, journal).rebuild()
        if checks.active is not None:
            database.set_active(checks.active)
        _mend_corrections(folder, checks, database, journal)
    return True


def _mend_corrections(
    folder: Path, checks: Checks, database: CaseDatabase, journal: Journal
) -> None:
    store = CorrectionStore(folder / CORRECTION, database.grid)
    if checks.broken_metadata and store.exists:
        _mend_metadata(store, checks.broken_metadata, database)
    # Entries that are not there yet are written by this.
    corrections = Corrections(store, journal, ChunkCache(), read_only=False)
    past = PastCorrections(journal, store, journal.last)
    kept = folder / f"{CORRECTION}.kept-{moment().replace(':', '')}"
    for key in checks.wrong:
        if _below(journal, store, key) & checks.bad_tiles:
            # The journal is no better.
            continue
        chunk = past.chunk(key)
        with case_failures(store.folder):
            _keep(store.folder, kept, key)
            whole = np.full(store.extent(key), UNTOUCHED, np.uint8)
            store.write(key, whole if chunk is None else chunk)
    with case_failures(store.folder):
        store.sync(checks.wrong)
    corrections.sync()


def _below(journal: Journal, store: CorrectionStore, key: Key) -> set[int]:
    """Entries that ever wrote below a chunk."""
    return {
        seq
        for row, col in journal.chunks()
        if (row >> key[1], col >> key[1]) == key[2:]
        for seq in journal.touching(row, col)
    }


def _keep(folder: Path, kept: Path, key: Key) -> None:
    name = Path(key[0], str(key[1]), "c", str(key[2]), str(key[3]))
    if (folder / name).is_file():
        (kept / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(folder / name, kept / name)


def _mend_metadata(store: CorrectionStore, names: list[str], database: CaseDatabase) -> None:
    with case_failures(store.folder), tempfile.TemporaryDirectory(dir=store.folder.parent) as made:
        fresh = CorrectionStore(Path(made) / CORRECTION, database.grid)
        fresh.make({"what": "corrections; 255 where no reader said anything"})
        for name in names:
            (store.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (fresh.folder / name).replace(store.folder / name)
