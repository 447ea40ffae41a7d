"""What can still be read of a case whose database is damaged."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases.audit import audit
from napari_hspnet.cases.cache import ChunkCache
from napari_hspnet.cases.checks import CORRECTION, DATABASE, RUN_FOLDERS
from napari_hspnet.cases.corrections import UNTOUCHED, Corrections, PastCorrections
from napari_hspnet.cases.database import CaseDatabase
from napari_hspnet.cases.editing import Patch
from napari_hspnet.cases.facts import SlideFacts
from napari_hspnet.cases.journal import RUNS, Journal, PackedTile
from napari_hspnet.cases.readers import Reading
from napari_hspnet.cases.record import FINISHED, RunInfo, RunRecord
from napari_hspnet.cases.review import KINDS, STATES, TAGS, TO_DO, Review, ReviewRegion
from napari_hspnet.cases.store import CHUNK, CorrectionStore, Key, RunStore
from napari_hspnet.cases.unfinished import PROGRESS
from napari_hspnet.classes import CIN3, NOT_RUN
from napari_hspnet.errors import CaseError, CaseMismatchError
from napari_hspnet.slides.grid import LabelGrid
from napari_hspnet.slides.types import SlideInfo

__all__ = ["Identity", "Remains", "RunRemains", "identity_of", "keep_database"]

Array = npt.NDArray[np.uint8]

# Any byte can have been hit: what comes of it is that this part is lost.
_LOST = (Exception,)


@dataclass(frozen=True)
class Identity:
    """Which slide a case belongs to."""

    info: SlideInfo
    grid: LabelGrid


@dataclass(frozen=True)
class RunRemains:
    """A run as it was found.

    Attributes
    ----------
    folder : Path
        Where it lies.
    info : RunInfo or None
        As it can be entered again; None where it cannot.
    unfinished : bool
        Whether it was being written.
    lost : tuple of str
        What is the matter with it.
    """

    folder: Path
    info: RunInfo | None
    unfinished: bool = False
    lost: tuple[str, ...] = ()


class Remains:
    """A damaged case, read piece by piece.

    Parameters
    ----------
    folder : Path
        The case's.
    database : Path or None
        Its database, or a copy; None where it is gone.
    """

    def __init__(self, folder: Path, database: Path | None) -> None:
        self.folder = folder
        self.lost: list[str] = []
        self.database: CaseDatabase | None = None
        if database is not None:
            try:
                self.database = CaseDatabase(database, read_only=True, check=False)
            except CaseError as error:
                self.lost.append(f"the journal cannot be opened: {error.what}")
        self._journal = None if self.database is None else Journal(self.database)
        if self._journal is not None and not self._journal.there:
            self._journal = None
        self._told: PastCorrections | None = None

    def close(self) -> None:
        """Close the database."""
        if self.database is not None:
            self.database.close()

    @property
    def reading(self) -> Reading | None:
        """What made it a second reading; None where it was none, or nobody knows."""
        return None if self._journal is None else self._journal.reading

    @property
    def entries_read(self) -> int:
        """Entries of the journal that can be read."""
        return sum(1 for _ in self._entries())

    def audit(self) -> None:
        """Note what is damaged in the journal."""
        if self.database is None or self._journal is None:
            return
        for damage in audit(self.database):
            self.lost.append(f"entry {damage.seq} {damage.what}" if damage.seq else damage.what)

    def runs(self, grid: LabelGrid) -> Iterator[RunRemains]:
        """Every run that the table or the folder knows, by its id."""
        base = self.folder / RUN_FOLDERS
        folders = {path.name for path in base.iterdir() if path.is_dir()} if base.is_dir() else ()
        for run_id in sorted({*folders, *self._run_ids()}):
            known = self._run_row(run_id)
            noted = (base / run_id / PROGRESS).exists()
            if noted if known is None else known.state != FINISHED:
                yield RunRemains(base / run_id, None, unfinished=True)
            elif run_id not in folders:
                self.lost.append(f"the folder of run {run_id} is gone")
            else:
                yield self._found(base / run_id, known, grid)

    def active(self, run_ids: Sequence[str]) -> list[str]:
        """Which of some runs were active, the topmost last."""
        said: Sequence[str] | None = None
        try:
            if all(self._run_row(run_id) is not None for run_id in run_ids):
                said = self.opened().active()
        except _LOST:
            said = None
        if said is None:
            for entry in self._entries():
                if entry.kind == RUNS:
                    said = [run["id"] for run in entry.body.get("active", [])]
        if said is None:
            self.lost.append("which runs were active; all are now, the newest on top")
            said = run_ids
        return [run_id for run_id in said if run_id in run_ids]

    def patches(self, grid: LabelGrid) -> Iterator[Patch]:
        """What readers had said, chunk by chunk."""
        store = CorrectionStore(self.folder / CORRECTION, grid)
        now = self._replayed(store)
        places = set(store.chunks())
        if now is not None:
            places |= set(now.chunks)
        if self._journal is not None:
            try:
                places |= {p for p in self._journal.chunks() if _inside(p, grid)}
            except _LOST as error:
                self.lost.append(f"where the journal has corrections ({_said(error)})")
        for place in sorted(places):
            values = self._chunk(("class", 0, *place), store, now)
            if values is None:
                continue
            where = (values <= CIN3) & (values != UNTOUCHED)
            if where.any():
                yield Patch(place[0] * CHUNK, place[1] * CHUNK, values, where)

    def regions(self) -> Iterator[tuple[ReviewRegion, list[PackedTile]]]:
        """Every review region that can be read, with its pixels."""
        if self.database is None or self._journal is None:
            return
        try:
            rows = self.database.query("SELECT id, entry, part FROM region ORDER BY id")
        except _LOST as error:
            self.lost.append(f"the review regions ({_said(error)})")
            return
        review = Review(self.database, self._journal)
        for number, entry, part in rows:
            try:
                region = review.region(number)
                tiles = [replace(tile, part=0) for tile in self._journal.tiles(entry, part)]
                pixels = sum(int(np.count_nonzero(tile.values())) for tile in tiles)
                if region.kind not in KINDS or pixels != region.pixels:
                    raise ValueError("it is not as it was entered")
            except _LOST as error:
                self.lost.append(f"review region {number} ({_said(error)})")
                continue
            if region.state not in STATES or region.tag not in ("", *TAGS):
                self.lost.append(f"state and tag of review region {number}")
                region = replace(region, state=TO_DO, tag="")
            yield region, tiles

    def _entries(self) -> Iterator[Any]:
        if self._journal is None or self.database is None:
            return
        try:
            numbers = [row[0] for row in self.database.query("SELECT seq FROM entry ORDER BY seq")]
        except _LOST:
            numbers = list(range(1, self.database.size() // 200 + 1))
        for seq in numbers:
            try:
                yield self._journal.entry(seq)
            except _LOST:
                continue

    def _run_ids(self) -> list[str]:
        try:
            rows = self.opened().query("SELECT id FROM run")
        except _LOST:
            return []
        # An id is a folder's name, and nothing else.
        return [row[0] for row in rows if isinstance(row[0], str) and row[0] == Path(row[0]).name]

    def _run_row(self, run_id: str) -> RunInfo | None:
        try:
            return self.opened().run(run_id)
        except _LOST:
            return None

    def _found(self, folder: Path, known: RunInfo | None, grid: LabelGrid) -> RunRemains:
        if known is not None:
            return RunRemains(folder, known)
        try:
            said = json.loads((folder / "zarr.json").read_text())["attributes"]["hspnet"]
            record = RunRecord.from_json(json.dumps(said))
        except _LOST as error:
            why = f"run {folder.name} cannot be entered again ({_said(error)})"
            return RunRemains(folder, None, lost=(f"{why}; its folder is kept aside",))
        store = RunStore(folder, grid)
        counts, lost = np.zeros(256, np.int64), [f"the row of run {folder.name}; entered anew"]
        for row in range(-(-grid.shape[0] // CHUNK)):
            for column in range(-(-grid.shape[1] // CHUNK)):
                try:
                    chunk = store.read(("class", 0, row, column))
                except CaseError as error:
                    lost.append(f"a part of run {folder.name}, chunk {row}/{column} ({error.what})")
                    continue
                if chunk is not None:
                    counts += np.bincount(chunk.ravel(), minlength=256)
        pixels = {int(v): int(counts[v]) for v in np.flatnonzero(counts) if v != NOT_RUN}
        time = datetime.fromtimestamp(folder.stat().st_mtime, UTC).isoformat(timespec="seconds")
        return RunRemains(
            folder, RunInfo(folder.name, record, FINISHED, time, None, pixels), lost=tuple(lost)
        )

    def opened(self) -> CaseDatabase:
        """The database.

        Raises
        ------
        CaseError
            If it cannot be opened.
        """
        if self.database is None:
            raise CaseError("The database is gone", advice="Go on without it", path=self.folder)
        return self.database

    def _past(self, store: CorrectionStore) -> PastCorrections:
        if self._told is None:
            journal = Journal(self.opened())
            self._told = PastCorrections(journal, store, journal.last)
        return self._told

    def _replayed(self, store: CorrectionStore) -> Corrections | None:
        """The corrections with what the journal alone has."""
        if self._journal is None:
            return None
        try:
            return Corrections(store, self._journal, ChunkCache(), read_only=True)
        except _LOST as error:
            self.lost.append(f"what was in the journal alone ({_said(error)})")
            return None

    def _chunk(self, key: Key, store: CorrectionStore, now: Corrections | None) -> Array | None:
        name = f"{CORRECTION}/class/0/c/{key[2]}/{key[3]}"
        try:
            stored = store.read(key)
            if now is None and stored is not None:
                return stored
        except CaseError:
            self.lost.append(f"{name} is damaged; made from what the journal still says")
        try:
            if now is not None:
                return now.chunk(key)
            return None if self._journal is None else self._past(store).chunk(key)
        except _LOST as error:
            self.lost.append(f"the corrections in {name} ({_said(error)})")
            return None


def keep_database(folder: Path, name: str) -> Path | None:
    """Copy ``case.sqlite``, its write-ahead log with it, to ``case.sqlite.<name>`` beside it."""
    kept = folder / f"{DATABASE}.{name}"
    for end in ("-wal", ""):
        file = folder / f"{DATABASE}{end}"
        if file.exists() and (file.stat().st_size or not end):
            shutil.copy2(file, folder / f"{kept.name}{end}")
    return kept if kept.exists() else None


def identity_of(remains: Remains, info: SlideInfo | None, grid: LabelGrid | None) -> Identity:
    """Which slide a case belongs to, as it says itself or as the user does.

    Raises
    ------
    CaseError
        If nobody knows.
    CaseMismatchError
        If they disagree.
    """
    known = _known(remains)
    if info is None or grid is None:
        if known is None:
            raise CaseError(
                "The case does not say any more which slide it belongs to",
                advice="Name the slide's file too",
                path=remains.folder,
            )
        return known
    if known is not None and known.info.fingerprint != info.fingerprint:
        raise CaseMismatchError(
            f"The case belongs to {known.info.name} ({known.info.fingerprint[:12]}…), the slide "
            f"is {info.name} ({info.fingerprint[:12]}…)",
            advice="Name that slide",
            path=remains.folder,
        )
    if remains.database is not None:
        remains.database.grid = grid
    return Identity(info, grid)


def _known(remains: Remains) -> Identity | None:
    try:
        row = remains.opened().query(
            "SELECT fingerprint, name, height, width, mpp_y, mpp_x, grid_height, grid_width, "
            "grid_mpp FROM slide"
        )[0]
    except _LOST:
        return None
    texts, sides, steps = row[:2], (*row[2:4], *row[6:8]), (*row[4:6], row[8])
    if not (
        all(isinstance(text, str) for text in texts)
        and all(isinstance(side, int) and 0 < side < 1 << 31 for side in sides)
        and all(isinstance(step, float) and math.isfinite(step) and step > 0 for step in steps)
    ):
        return None
    facts = SlideFacts(row[1], row[0], (row[2], row[3]), (row[4], row[5]))
    return Identity(facts.info(), LabelGrid((row[6], row[7]), row[8]))


def _inside(place: tuple[int, int], grid: LabelGrid) -> bool:
    return all(
        isinstance(number, int) and 0 <= number * CHUNK < size
        for number, size in zip(place, grid.shape, strict=True)
    )


def _said(error: BaseException) -> str:
    return error.what if isinstance(error, CaseError) else f"{type(error).__name__}: {error}"
