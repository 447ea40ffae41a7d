"""One slide's work in one folder."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from napari_hspnet.cases.cache import ChunkCache
from napari_hspnet.cases.composite import Composite, CorrectionSource, Source
from napari_hspnet.cases.corrections import Corrections, PastCorrections
from napari_hspnet.cases.database import CaseDatabase
from napari_hspnet.cases.editing import Editing
from napari_hspnet.cases.facts import SlideFacts, read_facts, said_bounds
from napari_hspnet.cases.failures import case_failures
from napari_hspnet.cases.journal import BEGIN, RUNS, SLIDE, Journal, moment
from napari_hspnet.cases.lock import CaseLock
from napari_hspnet.cases.places import default_case_folder, refuse_network
from napari_hspnet.cases.record import FINISHED, RunInfo, RunRecord, active_runs
from napari_hspnet.cases.review import Review
from napari_hspnet.cases.store import Array, CorrectionStore, Key, RunStore
from napari_hspnet.cases.unfinished import RunLayout, RunProgress, read_progress
from napari_hspnet.cases.writer import RunWriter
from napari_hspnet.errors import CaseError, OutputError
from napari_hspnet.slides.grid import LabelGrid
from napari_hspnet.slides.types import SlideInfo

__all__ = ["Case"]

Clock = Callable[[], str]

_DATABASE, _LOCK, _RUNS = "case.sqlite", "case.lock", "runs"
_CORRECTION = "correction.zarr"


class Case:
    """An open case folder; close it, or use it in a ``with`` statement.

    ``case.sqlite`` says which slide it is, which runs there are and, entry by
    entry, what was done; ``runs/<id>/`` holds each run's maps, ``correction.zarr``
    what readers said. A run's folder is complete before the database calls it
    finished; a correction is in the journal before it is in ``correction.zarr``.
    What a crash left undone is removed, or done, at the next opening; an unfinished
    run that can go on is kept where the opening asks for it. Made by
    `open_or_create` or `open`.

    Attributes
    ----------
    folder : Path
        Where it lies.
    grid : LabelGrid
        Its label grid.
    journal : Journal
        What was done.
    corrections : Corrections
        What readers said, as pixels.
    review : Review
        The review regions.
    editing : Editing
        Corrects, undoes and redoes.
    """

    def __init__(
        self,
        folder: Path,
        database: CaseDatabase,
        lock: CaseLock | None,
        clock: Clock,
        info: SlideInfo | None = None,
        keep_unfinished: bool = False,
    ) -> None:
        self.folder = folder
        self.grid = database.grid
        self._database = database
        self._lock = lock
        self._cache = ChunkCache()
        self._writers: set[RunWriter] = set()
        self._guard = threading.Lock()
        self._closed = False
        self.journal = Journal(database, clock)
        if lock is not None:
            self._clean(keep_unfinished)
            # As one: a case of the present format has a journal that says so.
            with database.transaction():
                database.migrate()
                self._begin_journal(info)
        self.review = Review(database, self.journal)
        self._store = CorrectionStore(folder / _CORRECTION, self.grid)
        self.corrections = Corrections(self._store, self.journal, self._cache, lock is None)
        self.editing = Editing(self.journal, self.corrections, self.review, self.composite)

    @classmethod
    def open_or_create(
        cls,
        folder: Path,
        info: SlideInfo,
        grid: LabelGrid,
        read_only: bool = False,
        clock: Clock = moment,
        keep_unfinished: bool = False,
    ) -> Case:
        """Open a case, or begin one where there is none.

        Parameters
        ----------
        folder : Path
            ``<name>.hspnet``, on a local disk.
        info : SlideInfo
            The open slide; a case of another one is refused.
        grid : LabelGrid
            Its label grid.
        read_only : bool
            Look only: needs no lock, and works beside another writer; shows the
            case as it is now.
        clock : callable () -> str
            The time for the journal, as `journal.moment` gives it.
        keep_unfinished : bool
            Keep runs that were broken off and can go on, for `take_up`.

        Raises
        ------
        CaseInUseError
            Another process holds it; the message says who.
        CaseMismatchError
            It belongs to another slide.
        CaseError
            Damaged, of a newer format, no case folder, or on a network share.
        OutputError
            Disk full, or writing not permitted.
        """
        folder = Path(folder).absolute()
        if read_only:
            return cls._opened(folder, read_only, clock, info, grid)
        refuse_network(folder, info)
        _refuse_foreign(folder, info)
        with case_failures(folder):
            (folder / _RUNS).mkdir(parents=True, exist_ok=True)
        return cls._opened(folder, read_only, clock, info, grid, keep_unfinished)

    @classmethod
    def open(cls, folder: Path, read_only: bool = True, clock: Clock = moment) -> Case:
        """Open a case that is there, for the slide that it says it belongs to.

        Raises
        ------
        CaseInUseError
            Another process holds it; the message says who.
        CaseError
            Damaged, of a newer format, no case, or on a network share.
        OutputError
            Disk full, or writing not permitted.
        """
        folder = Path(folder).absolute()
        if not (folder / _DATABASE).is_file():
            raise CaseError(
                "There is no case in this folder", advice="Choose a case folder", path=folder
            )
        if not read_only:
            refuse_network(folder)
        return cls._opened(folder, read_only, clock, None, None)

    @classmethod
    def _opened(
        cls,
        folder: Path,
        read_only: bool,
        clock: Clock,
        info: SlideInfo | None,
        grid: LabelGrid | None,
        keep_unfinished: bool = False,
    ) -> Case:
        if read_only and not (folder / _DATABASE).is_file():
            raise CaseError(
                "There is no case in this folder", advice="Choose a case folder", path=folder
            )
        lock = None if read_only else CaseLock(folder / _LOCK)
        try:
            database = CaseDatabase(folder / _DATABASE, read_only, info, grid)
            try:
                return cls(folder, database, lock, clock, info, keep_unfinished)
            except BaseException:
                database.close()
                raise
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    @property
    def read_only(self) -> bool:
        """Whether it was opened to look only."""
        return self._lock is None

    @property
    def runs(self) -> tuple[RunInfo, ...]:
        """All runs, oldest first."""
        return self._database.runs()

    @property
    def active(self) -> tuple[str, ...]:
        """Ids of the runs that the composite shows, the topmost last."""
        return self._database.active()

    def set_active(self, run_ids: Iterable[str]) -> None:
        """Choose which finished runs the composite shows, the topmost last.

        Raises
        ------
        CaseError
            If one is not a finished run of this case, or the case is read-only.
        """
        self._database.require_writable()
        chosen = tuple(run_ids)
        finished = {run.id for run in self.runs if run.state == FINISHED}
        for run_id in chosen:
            if run_id not in finished:
                raise CaseError(
                    f"The case has no finished run {run_id}",
                    advice="Choose one of its runs",
                    path=self.folder,
                )
        with self._database.transaction():
            self._database.set_active(chosen)
            self._enter_runs()

    def start_run(self, record: RunRecord, layout: RunLayout | None = None) -> RunWriter:
        """Begin a run; what it writes counts once it is finished.

        Parameters
        ----------
        record : RunRecord
            What it is made with.
        layout : RunLayout, optional
            The way that it takes, for one that `take_up` can go on with after a kill.

        Raises
        ------
        CaseError
            The case is read-only.
        OutputError
            Disk full, or writing not permitted.
        """
        self._database.require_writable()
        moment = re.sub(r"\D", "", record.started)[:14]
        run_id = f"{moment}-{secrets.token_hex(3)}"
        store = RunStore(self.folder / _RUNS / run_id, self.grid)
        info = self._database.add_run(run_id, record)
        try:
            with case_failures(self.folder):
                store.create(json.loads(record.to_json()))
            return self._writer(info, None if layout is None else RunProgress.none(layout))
        except BaseException:
            self._forget(run_id)
            raise

    def take_up(self, record: RunRecord, layout: RunLayout) -> RunWriter | None:
        """Go on with the newest run of the same request that was broken off.

        All others that were broken off are removed; so is that one where what it
        left is damaged. Its writer's `progress` says how far it had come.

        Parameters
        ----------
        record, layout
            As for `start_run`.

        Returns
        -------
        RunWriter or None
            None where there is none to go on with.

        Raises
        ------
        CaseError
            The case is read-only.
        OutputError
            Disk full, or writing not permitted.
        """
        self._database.require_writable()
        with self._guard:
            held = {writer.info.id for writer in self._writers}
        found = None
        for run in reversed([r for r in self.runs if r.state != FINISHED and r.id not in held]):
            progress = read_progress(self.folder / _RUNS / run.id)
            if (
                found is None
                and progress is not None
                and progress.layout == layout
                and run.record.same_request(record)
            ):
                try:
                    found = self._writer(run, progress)
                    continue
                except OutputError:
                    raise
                except CaseError:
                    pass
            self._forget(run.id)
        return found

    def _writer(self, info: RunInfo, progress: RunProgress | None) -> RunWriter:
        store = RunStore(self.folder / _RUNS / info.id, self.grid)
        writer = RunWriter(info, store, self._cache, self._finish, self._forget, progress)
        with self._guard:
            self._writers.add(writer)
        return writer

    def composite(
        self, live: RunWriter | None = None, only: Iterable[str] | None = None
    ) -> Composite:
        """The active runs as one picture; a live one lies on top of them.

        Take a new one when a run has been finished, discarded or chosen.

        Parameters
        ----------
        live : RunWriter, optional
            A run that is being written.
        only : iterable of str, optional
            Ids of finished runs to show instead of the active ones, the topmost last.
        """
        # In this order: a run that becomes active in between is known then.
        shown = self.active if only is None else tuple(only)
        runs = {run.id: run for run in self.runs}
        sources = [self._source(runs[run_id]) for run_id in reversed(shown)]
        if live is not None and all(source.info().id != live.info.id for source in sources):
            sources.insert(0, Source(lambda: live.info, live.chunk, lambda: live.pixels, True))
        # What was asked for run by run is what those runs said.
        return Composite(self.grid, sources, self.corrections if only is None else None)

    def at(self, seq: int) -> Composite:
        """The composite as it was after an entry, corrections from the journal alone.

        Raises
        ------
        CaseError
            If the journal is damaged.
        """
        active: list[str] = []
        with case_failures(self.folder):
            for entry in self.journal.entries(until=seq):
                if entry.kind == RUNS:
                    active = [run["id"] for run in entry.body["active"]]
        runs = {run.id: run for run in self.runs}
        past: CorrectionSource = PastCorrections(self.journal, self._store, seq)
        sources = [self._source(runs[i]) for i in reversed(active) if i in runs]
        return Composite(self.grid, sources, past)

    @property
    def slide(self) -> tuple[str, str]:
        """Fingerprint and file name of the slide that it belongs to."""
        return self._database.slide()

    @property
    def slide_facts(self) -> SlideFacts:
        """All that is known of that slide without its file."""
        return read_facts(self._database, self.journal.there)

    def attach(self, info: SlideInfo, reader: str) -> None:
        """Let the case belong to another file of the same picture.

        Raises
        ------
        CaseMismatchError
            If size or µm per pixel differ.
        CaseError
            If the case is read-only.
        """
        self._database.require_writable()
        fingerprint, name = self.slide
        with self._database.transaction():
            self._database.set_slide(info)
            self.journal.append(
                SLIDE,
                reader,
                {
                    "from": {"fingerprint": fingerprint, "name": name},
                    "to": {
                        "fingerprint": info.fingerprint,
                        "name": info.name,
                        **said_bounds(info),
                    },
                },
            )

    def close(self) -> None:
        """Discard what is being written, put all on the disk, release the lock.

        A second call does nothing.
        """
        with self._guard:
            writers = tuple(self._writers)
            closed, self._closed = self._closed, True
        if closed:
            return
        try:
            for writer in writers:
                writer.discard()
            try:
                self.corrections.sync()
            finally:
                self._database.close()
                # Whoever keeps the closed case does not keep its chunks.
                self._cache.clear()
        finally:
            if self._lock is not None:
                self._lock.release()

    def __enter__(self) -> Case:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _source(self, run: RunInfo) -> Source:
        store = RunStore(self.folder / _RUNS / run.id, self.grid)
        return Source(lambda: run, partial(self._cached, run.id, store), lambda: run.pixels)

    def _cached(self, run_id: str, store: RunStore, key: Key) -> Array | None:
        held, chunk = self._cache.get((run_id, key))
        if not held:
            chunk = store.read(key)
            self._cache.put((run_id, key), chunk)
        return chunk

    def _finish(
        self, run_id: str, seconds: float, pixels: Mapping[int, int], record: RunRecord
    ) -> RunInfo:
        with self._database.transaction():
            self._database.finish_run(run_id, seconds, pixels, record)
            self._enter_runs()
        self._drop_writer(run_id)
        return next(run for run in self.runs if run.id == run_id)

    def _enter_runs(self) -> None:
        """Journal which runs are active, the topmost last, and where."""
        self.journal.append(RUNS, "", active_runs(self.runs, self.active))

    def _begin_journal(self, info: SlideInfo | None) -> None:
        if self.journal.last:
            return
        fingerprint, name = self.slide
        migrated = self._database.migrated_from
        said: dict[str, Any] = {"fingerprint": fingerprint, "name": name}
        said |= {"grid": [*self.grid.shape, self.grid.mpp]}
        said |= {} if info is None else said_bounds(info)
        self.journal.append(
            BEGIN, "", said if migrated is None else {**said, "migrated_from": migrated}
        )
        if self.active:
            self._enter_runs()

    def _forget(self, run_id: str) -> None:
        self._drop_writer(run_id)
        # The row goes last: until then the next opening knows what to remove.
        shutil.rmtree(self.folder / _RUNS / run_id, ignore_errors=True)
        self._database.remove_run(run_id)

    def _drop_writer(self, run_id: str) -> None:
        with self._guard:
            self._writers = {w for w in self._writers if w.info.id != run_id}

    def _clean(self, keep_unfinished: bool) -> None:
        known = set()
        for run in self.runs:
            kept = keep_unfinished and read_progress(self.folder / _RUNS / run.id) is not None
            if run.state == FINISHED or kept:
                known.add(run.id)
            else:
                self._forget(run.id)
        with case_failures(self.folder):
            for orphan in (self.folder / _RUNS).iterdir():
                if orphan.name not in known:
                    shutil.rmtree(orphan, ignore_errors=True)


def _refuse_foreign(folder: Path, info: SlideInfo) -> None:
    """A folder that holds other things is not turned into a case."""
    with case_failures(folder):
        if folder.is_file():
            raise CaseError("This is a file, not a case folder", advice=_offer(info), path=folder)
        if not folder.is_dir():
            return
        database = folder / _DATABASE
        if database.exists() and (database.stat().st_size or _holds(database, "-wal")):
            return
        runs = folder / _RUNS
        if (folder / _CORRECTION).exists() or (runs.is_dir() and any(runs.iterdir())):
            # A new database would know nothing of them, and have the runs removed.
            raise CaseError(
                "The folder holds results, but their case.sqlite is gone",
                advice="Restore it from a backup, or begin it anew from the results with "
                "`napari-hspnet case rescue`",
                path=folder,
            )
        if database.exists():
            return
        if any(entry.name not in (_LOCK, _RUNS) for entry in folder.iterdir()):
            raise CaseError(
                "The folder holds other files and is no case", advice=_offer(info), path=folder
            )


def _holds(database: Path, end: str) -> bool:
    beside = database.with_name(database.name + end)
    return beside.exists() and beside.stat().st_size > 0


def _offer(info: SlideInfo) -> str:
    return f"Choose an empty folder, for instance {default_case_folder(info)}"
