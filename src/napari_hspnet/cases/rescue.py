"""A new ``case.sqlite`` from what is left, where the journal itself is damaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_hspnet.cases.checks import CORRECTION, DATABASE, RUN_FOLDERS
from napari_hspnet.cases.composite import Composite, Source
from napari_hspnet.cases.corrections import PastCorrections
from napari_hspnet.cases.database import CaseDatabase
from napari_hspnet.cases.editing import Draft
from napari_hspnet.cases.facts import said_bounds
from napari_hspnet.cases.failures import case_failures
from napari_hspnet.cases.journal import BEGIN, EDIT, REGIONS, RUNS, Journal, PackedTile, moment
from napari_hspnet.cases.lock import CaseLock
from napari_hspnet.cases.places import refuse_network
from napari_hspnet.cases.record import RunInfo, active_runs
from napari_hspnet.cases.remains import Remains, RunRemains, identity_of, keep_database
from napari_hspnet.cases.review import TO_DO, Review, ReviewRegion, project
from napari_hspnet.cases.store import Array, CorrectionStore, Key, RunStore
from napari_hspnet.errors import CaseError, InputError
from napari_hspnet.slides.grid import LabelGrid
from napari_hspnet.slides.types import SlideInfo

__all__ = ["Rescue", "rescue_case"]

_LOCK = "case.lock"
_BUILDING, _READY = f".{DATABASE}.building", f".{DATABASE}.rescued"
_MOST_NAMED = 200


@dataclass(frozen=True)
class Rescue:
    """What became of a case.

    Attributes
    ----------
    kept : tuple of Path
        What was damaged, kept beside.
    pixels : int
        Corrected pixels that were saved.
    runs, regions : int
        How many were saved.
    entries_read : int
        Entries of the old journal that could still be read; they stay in the kept
        database.
    lost : tuple of str
        What could not be read, in words.
    """

    kept: tuple[Path, ...]
    pixels: int
    runs: int
    regions: int
    entries_read: int
    lost: tuple[str, ...]


def rescue_case(
    folder: Path,
    reader: str,
    info: SlideInfo | None = None,
    grid: LabelGrid | None = None,
    clock: Callable[[], str] = moment,
) -> Rescue:
    """Begin the journal of a damaged case anew, from all that can still be read.

    The damaged ``case.sqlite`` and ``correction.zarr`` are kept beside. The new
    journal begins with what was rescued from where and what was lost, then the
    runs, the corrections as one act of the tool "rescue", and the review regions
    with what others had said of them. The old acts cannot be undone any more.
    Nothing is replaced before the new database is whole.

    Parameters
    ----------
    folder : Path
        The case folder.
    reader : str
        Who rescues.
    info : SlideInfo, optional
        The slide; needed where the case does not say any more which it is.
    grid : LabelGrid, optional
        Its label grid; goes with `info`.
    clock : callable () -> str
        As for `Case.open`.

    Raises
    ------
    InputError
        A reader without a name, or another one than the second reading's.
    CaseError
        There is nothing to rescue, or it is not known which slide it belongs to.
    CaseInUseError
        Another process holds it.
    OutputError
        Disk full, or writing not permitted; the case is as it was.
    """
    folder = Path(folder).absolute()
    if not reader.strip():
        raise InputError("Nobody is named as reader", advice="Say who rescues (--reader)")
    there = (DATABASE, _READY, CORRECTION, RUN_FOLDERS)
    if not any((folder / name).exists() for name in there):
        raise CaseError(
            "There is no case in this folder", advice="Choose a case folder", path=folder
        )
    refuse_network(folder)
    lock = CaseLock(folder / _LOCK)
    try:
        with case_failures(folder):
            return _Rescuer(folder, reader, clock).run(info, grid)
    finally:
        lock.release()


class _Rescuer:
    def __init__(self, folder: Path, reader: str, clock: Callable[[], str]) -> None:
        self._folder, self._reader, self._clock = folder, reader, clock
        self._name = f"damaged-{moment().replace(':', '')}"
        self._kept: list[Path] = []

    def run(self, info: SlideInfo | None, grid: LabelGrid | None) -> Rescue:
        ready, database = self._folder / _READY, self._folder / DATABASE
        if ready.exists() and not database.exists():
            # A rescue was cut off after its last word was written.
            return self._finished_earlier()
        # The copy is what is read.
        copied = keep_database(self._folder, self._name)
        self._kept += [copied] if copied is not None else []
        with closing(Remains(self._folder, copied)) as old:
            if old.reading is not None:
                old.reading.refuse_other(self._reader)
            identity = identity_of(old, info, grid)
            old.audit()
            runs = list(old.runs(identity.grid))
            for end in ("", "-wal", "-shm"):
                (self._folder / f"{_BUILDING}{end}").unlink(missing_ok=True)
            with (
                closing(
                    CaseDatabase(self._folder / _BUILDING, False, identity.info, identity.grid)
                ) as new,
                new.transaction(),
            ):
                counts = self._build(new, old, runs, info)
            entries = old.entries_read
        (self._folder / _BUILDING).replace(ready)
        # What the database does not know is removed on opening.
        for run in runs:
            if run.info is None and not run.unfinished:
                aside = self._folder / f"{RUN_FOLDERS}.{self._name}"
                aside.mkdir(exist_ok=True)
                self._kept.append(run.folder.replace(aside / run.folder.name))
        self._put_in_place()
        return Rescue(tuple(self._kept), *counts, entries, tuple(old.lost))

    def _put_in_place(self) -> None:
        # The log first: it must never be left to a database that it is not of.
        for end in ("-wal", "-shm", ""):
            (self._folder / f"{DATABASE}{end}").unlink(missing_ok=True)
        correction = self._folder / CORRECTION
        if correction.exists():
            # The next opening makes it from the journal, without what was damaged.
            self._kept.append(correction.replace(self._folder / f"{CORRECTION}.{self._name}"))
        (self._folder / _READY).replace(self._folder / DATABASE)

    def _finished_earlier(self) -> Rescue:
        self._put_in_place()
        with closing(CaseDatabase(self._folder / DATABASE, read_only=True)) as database:
            journal = Journal(database)
            body = journal.entry(1).body
            pixels = sum(
                sum(entry.body["changes"].values())
                for entry in journal.entries()
                if entry.kind == EDIT
            )
            regions = len(Review(database, journal).regions)
            counts = pixels, len(database.runs()), regions
        kept = (self._folder / body["rescued_from"],) if body["rescued_from"] else ()
        return Rescue((*kept, *self._kept), *counts, body["entries_read"], tuple(body["lost"]))

    def _build(
        self,
        database: CaseDatabase,
        old: Remains,
        runs: Sequence[RunRemains],
        info: SlideInfo | None,
    ) -> tuple[int, int, int]:
        found = [run.info for run in runs if run.info is not None]
        old.lost += [line for run in runs for line in run.lost]
        journal = Journal(database, self._clock)
        for run in found:
            database.put_run(run)
        active = old.active([run.id for run in found])
        database.set_active(active)
        draft = self._draft(database, journal, old)
        regions = list(old.regions())
        fingerprint, name = database.slide()
        said: dict[str, Any] = {
            "fingerprint": fingerprint,
            "name": name,
            "grid": [*database.grid.shape, database.grid.mpp],
            "rescued_from": self._kept[0].name if self._kept else "",
            "entries_read": old.entries_read,
            "lost": old.lost[:_MOST_NAMED],
            **({} if info is None else said_bounds(info)),
            **({} if old.reading is None else {"reading": old.reading.body()}),
        }
        if len(old.lost) > _MOST_NAMED:
            said["lost_more"] = len(old.lost) - _MOST_NAMED
        journal.append(BEGIN, self._reader, said)
        if active:
            journal.append(RUNS, "", active_runs(found, active))
        if draft.tiles:
            journal.append(
                EDIT, self._reader, {"tool": "rescue", "final": True, **draft.said}, draft.tiles
            )
        for region, masks in regions:
            self._enter_region(journal, region, masks)
        return sum(draft.changes.values()), len(found), len(regions)

    def _draft(self, database: CaseDatabase, journal: Journal, old: Remains) -> Draft:
        runs = {run.id: run for run in database.runs()}
        sources = [self._source(runs[i], database.grid) for i in reversed(database.active())]
        store = CorrectionStore(self._folder / CORRECTION, database.grid)
        nothing = PastCorrections(journal, store, 0)
        draft = Draft(Composite(database.grid, sources), nothing, Review(database, journal))
        for patch in old.patches(database.grid):
            draft.take(patch)
        return draft

    def _source(self, run: RunInfo, grid: LabelGrid) -> Source:
        store = RunStore(self._folder / RUN_FOLDERS / run.id, grid)

        def chunk(key: Key) -> Array | None:
            # A damaged part of a run says nothing here; verifying names it.
            with suppress(CaseError):
                return store.read(key)
            return None

        return Source(lambda: run, chunk, lambda: run.pixels)

    def _enter_region(
        self, journal: Journal, region: ReviewRegion, masks: Sequence[PackedTile]
    ) -> None:
        def enter(said: dict[str, Any], tiles: Sequence[PackedTile] = ()) -> None:
            journal.append(REGIONS, self._reader, said, tiles, also=project)

        box = [region.box.y0, region.box.x0, region.box.y1, region.box.x1]
        one = {"id": region.id, "pixels": region.pixels, "box": box}
        by = [region.state_reader, region.state_time]
        enter({"do": "add", "kind": region.kind, "regions": [one], "said_by": by}, masks)
        of = {"regions": [region.id]}
        if region.tag:
            enter({"do": "tag", "tag": region.tag, **of})
        for said in region.comments:
            by_whom = [said.reader, said.time]
            enter({"do": "comment", "text": said.text, "said_by": by_whom, **of})
        if region.state != TO_DO:
            enter({"do": "state", "state": region.state, "said_by": by, **of})
