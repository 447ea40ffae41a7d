"""Writing a run: blocks in any order become chunks of all levels."""

from __future__ import annotations

import contextlib
import json
import random
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases.cache import ChunkCache
from napari_hspnet.cases.failures import case_failures
from napari_hspnet.cases.record import RunInfo, RunRecord
from napari_hspnet.cases.sampling import sample
from napari_hspnet.cases.store import CHUNK, FILL, MAPS, Key, RunStore
from napari_hspnet.cases.unfinished import RunNotes, RunProgress, forget_progress, kept_blocks
from napari_hspnet.classes import NOT_RUN
from napari_hspnet.errors import CaseError
from napari_hspnet.slides.grid import LabelBlock

__all__ = ["OPEN_BYTES", "RunWriter"]

OPEN_BYTES = 128 << 20
"""Memory for chunks that are not complete yet: enough for a row 42,240 pixels long."""

Array = npt.NDArray[np.uint8]


class RunWriter:
    """One run being written; one thread writes while others read for display.

    A chunk is held in memory until all its pixels have come, so that a hundred
    rows do not re-compress what came before; some are written early where
    `OPEN_BYTES` would be passed, and opened again if more comes. As a context
    manager it discards what has not been finished.

    Parameters
    ----------
    info : RunInfo
        The run, as entered in the database.
    store : RunStore
        Its folder, made.
    cache : ChunkCache
        The case's.
    on_finish : callable (run id, seconds, pixels per class, record) -> RunInfo
        Called when the folder is complete.
    on_discard : callable (run id) -> None
        Called when the run is given up.
    progress : RunProgress, optional
        Of a run that can go on after a kill: how far it has come. What its folder
        holds up to there is kept, what it holds beyond is removed.

    Raises
    ------
    CaseError
        If what is to be kept is damaged.
    """

    def __init__(
        self,
        info: RunInfo,
        store: RunStore,
        cache: ChunkCache,
        on_finish: Callable[[str, float, Mapping[int, int], RunRecord], RunInfo],
        on_discard: Callable[[str], None],
        progress: RunProgress | None = None,
    ) -> None:
        self._info = info
        self._store = store
        self._cache = cache
        self._on_finish = on_finish
        self._on_discard = on_discard
        self._writing = threading.RLock()
        self._state = threading.Lock()
        self._open: dict[Key, Array] = {}
        self._open_bytes = 0
        self._seen: dict[Key, int] = {}
        self._flushed: dict[Key, int] = {}
        self._pixels = np.zeros(256, np.int64)
        self._closed = False
        self._random = random.Random(0)
        self._notes: RunNotes | None = None
        if progress is not None:
            with case_failures(store.folder):
                self._take_up(progress)
                self._notes = RunNotes(store, progress)

    @property
    def info(self) -> RunInfo:
        """The run; of state "finished" once `finish` has returned."""
        return self._info

    @property
    def folder(self) -> Path:
        """The run's own, gone with it where it is discarded."""
        return self._store.folder

    @property
    def pixels(self) -> dict[int, int]:
        """Label pixels per class value so far, 255 (not run) left out."""
        with self._state:
            counts = self._pixels.copy()
        return {int(v): int(counts[v]) for v in np.flatnonzero(counts) if v != NOT_RUN}

    def write(self, block: LabelBlock) -> None:
        """Take one block, anywhere, of any size; a later one replaces an earlier.

        Raises
        ------
        OutputError
            Disk full or gone; the run is discarded.
        CaseError
            The block lies outside the grid, or the run is closed.
        """
        height, width = block.classes.shape
        rows, columns = self._store.shape
        if not (0 <= block.y <= rows - height and 0 <= block.x <= columns - width):
            raise CaseError(
                f"A block of {height} x {width} at ({block.y}, {block.x}) lies outside the grid",
                advice="Report this: it is a fault of the program",
                path=self._store.folder,
            )
        with self._writing:
            self._require_open()
            try:
                with case_failures(self._store.folder):
                    self._take(block)
                    self._make_room()
            except BaseException:
                self.discard()
                raise

    @property
    def progress(self) -> RunProgress | None:
        """How far it has come, as noted on the disk; None where a kill is its end."""
        return None if self._notes is None else self._notes.noted

    def reached(self, x0: int, y: int) -> None:
        """Hear that all of a band above a row has been written; noted now and then.

        Parameters
        ----------
        x0 : int
            First column of the band.
        y : int
            The row: a multiple of the chunks' side, or the layout's end.

        Raises
        ------
        OutputError
            Disk full or gone; the run is discarded.
        """
        with self._writing:
            self._require_open()
            if self._notes is None or not self._notes.reached(x0, y):
                return
            self._note(self._notes)

    def suspend(self) -> None:
        """Leave off where it is, to be gone on with; discards what cannot be gone on with.

        Raises
        ------
        OutputError
            Disk full or gone; the run is discarded.
        """
        with self._writing:
            if self._closed or self._notes is None:
                self.discard()
                return
            self._note(self._notes)
            self._closed = True

    def finish(self, seconds: float, record: RunRecord | None = None) -> RunInfo:
        """Write what is left, then tell the database: the run is immutable now.

        Parameters
        ----------
        seconds : float
            How long the run took.
        record : RunRecord, optional
            Its record with what has come out since: back end and notes.

        Raises
        ------
        OutputError
            Disk full or gone; the run is discarded.
        """
        with self._writing:
            self._require_open()
            try:
                with case_failures(self._store.folder):
                    while self._open:
                        self._flush(next(iter(self._open)))
                    known = self._info.record if record is None else record
                    if known != self._info.record:
                        self._store.describe(json.loads(known.to_json()))
                    self._store.sync()
                self._info = self._on_finish(self._info.id, seconds, self.pixels, known)
            except BaseException:
                self.discard()
                raise
            self._closed = True
            with contextlib.suppress(OSError):
                forget_progress(self._store.folder)
            return self._info

    def discard(self) -> None:
        """Give the run up: nothing of it stays. After `finish` it does nothing."""
        with self._writing:
            if self._closed:
                return
            self._closed = True
            with self._state:
                for key in self._flushed:
                    self._cache.drop((self._info.id, key))
                self._open.clear()
                self._flushed.clear()
                self._pixels[:] = 0
            self._on_discard(self._info.id)

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.discard()

    def chunk(self, key: Key) -> Array | None:
        """A chunk as it is now, or None where nothing has come; from any thread.

        Parameters
        ----------
        key : (str, int, int, int)
            Map, level, chunk row, chunk column.
        """
        with self._state:
            if key in self._open:
                return self._open[key].copy()
            version = self._flushed.get(key, 0)
        if version == 0:
            return None
        held, chunk = self._cache.get((self._info.id, key))
        if held:
            return chunk
        chunk = self._store.read(key)
        with self._state:
            # What was written meanwhile must not be hidden by what was read.
            if self._flushed.get(key, 0) == version and key not in self._open:
                self._cache.put((self._info.id, key), chunk)
        return chunk

    def _require_open(self) -> None:
        if self._closed:
            raise CaseError(
                "The run is closed already",
                advice="Start another run",
                path=self._store.folder,
            )

    def _note(self, notes: RunNotes) -> None:
        try:
            with case_failures(self._store.folder):
                for key in [k for k in self._open if k[1] == 0 and notes.concern(k)]:
                    self._flush(key)
                notes.note()
        except BaseException:
            self.discard()
            raise

    def _take_up(self, progress: RunProgress) -> None:
        """Go on from a folder that holds the finest level of what is finished."""
        for block in kept_blocks(self._store, progress):
            self._take(block, finest=1)
            for name, values in zip(MAPS, (block.classes, block.score, block.high), strict=True):
                if (values != FILL[name]).any():
                    self._flushed[(name, 0, block.y // CHUNK, block.x // CHUNK)] = 1
            self._pixels += _histogram(block.classes)
            self._make_room()

    def _take(self, block: LabelBlock, finest: int = 0) -> None:
        for name, values in zip(MAPS, (block.classes, block.score, block.high), strict=True):
            for level in range(finest, self._store.levels):
                y, x, part = sample(values, block.y, block.x, self._store.shape, level)
                for top in range(y - y % CHUNK, y + part.shape[0], CHUNK):
                    for left in range(x - x % CHUNK, x + part.shape[1], CHUNK):
                        y0, y1 = max(y, top), min(y + part.shape[0], top + CHUNK)
                        x0, x1 = max(x, left), min(x + part.shape[1], left + CHUNK)
                        self._put(
                            (name, level, top // CHUNK, left // CHUNK),
                            part[y0 - y : y1 - y, x0 - x : x1 - x],
                            y0 - top,
                            x0 - left,
                        )

    def _put(self, key: Key, part: Array, y: int, x: int) -> None:
        if part.size == 0:
            return
        self._seen[key] = self._seen.get(key, 0) + part.size
        chunk = self._opened(key, part)
        if chunk is not None:
            place = chunk[y : y + part.shape[0], x : x + part.shape[1]]
            counted = key[:2] == ("class", 0)
            change = _histogram(part) - _histogram(place) if counted else None
            with self._state:
                place[...] = part
                if change is not None:
                    self._pixels += change
        height, width = self._store.extent(key)
        if self._seen[key] >= height * width and key in self._open:
            self._flush(key)

    def _opened(self, key: Key, part: Array) -> Array | None:
        """The chunk in memory; None where it would only be filled with nothing."""
        if key in self._open:
            return self._open[key]
        fill = FILL[key[0]]
        if key in self._flushed:
            stored = self._store.read(key)
            chunk = np.full(self._store.extent(key), fill, np.uint8) if stored is None else stored
            chunk = chunk.copy()
        elif (part == fill).all():
            return None
        else:
            chunk = np.full(self._store.extent(key), fill, np.uint8)
        with self._state:
            self._open[key] = chunk
        self._open_bytes += chunk.nbytes
        return chunk

    def _make_room(self) -> None:
        # At random: rows come round in circles, where the one longest untouched is
        # just the one needed next, and chunks that no more rows will reach have to
        # go at some time too.
        while self._open_bytes > OPEN_BYTES:
            self._flush(self._random.choice(list(self._open)))

    def _flush(self, key: Key) -> None:
        # Compressing outside `_state` keeps the window from waiting for it; only
        # this thread changes the chunk meanwhile.
        self._store.write(key, self._open[key])
        if self._notes is not None:
            self._notes.wrote(key)
        with self._state:
            self._cache.drop((self._info.id, key))
            self._flushed[key] = self._flushed.get(key, 0) + 1
            self._open_bytes -= self._open.pop(key).nbytes
        # What comes later replaces a preview, and is complete when it has all come.
        self._seen[key] = 0


def _histogram(values: Array) -> npt.NDArray[np.int64]:
    first = values.flat[0]
    if (values == first).all():
        counts = np.zeros(256, np.int64)
        counts[first] = values.size
        return counts
    return np.bincount(values.ravel(), minlength=256)
