"""What readers said, pixel by pixel: ``correction.zarr`` and what leads to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases.cache import ChunkCache
from napari_hspnet.cases.failures import case_failures
from napari_hspnet.cases.history import History
from napari_hspnet.cases.journal import (
    EDIT,
    REDO,
    UNDO,
    Entry,
    Journal,
    PackedTile,
    damaged_entry,
)
from napari_hspnet.cases.sampling import sample, sampled_span
from napari_hspnet.cases.store import CHUNK, CorrectionStore, Key
from napari_hspnet.classes import NOT_RUN
from napari_hspnet.errors import CaseError, OutputError

__all__ = ["UNTOUCHED", "Corrections", "PastCorrections", "effect"]

Array = npt.NDArray[np.uint8]

UNTOUCHED = NOT_RUN
"""Value of a correction where no reader said anything."""

Report = Callable[[float], None]

_HELD_BYTES = 48 << 20
_MAP = "class"


def effect(journal: Journal, entry: Entry) -> Iterator[tuple[PackedTile, bool]]:
    """The tiles that an entry writes, in order, each with whether its `after` counts.

    Raises
    ------
    CaseError
        If the journal is damaged there.
    """
    if entry.kind == EDIT:
        for tile in journal.tiles(entry.seq):
            yield tile, True
    elif entry.kind in (UNDO, REDO):
        forward = entry.kind == REDO
        of = entry.body.get("of")
        if not isinstance(of, list):
            raise damaged_entry(entry.seq, "it does not say of what")
        for seq in of if forward else reversed(of):
            for tile in journal.tiles(seq):
                yield tile, forward


class Corrections:
    """The corrections as they are now; one thread writes, others read.

    What the journal has and the store has not is written on opening. A damaged
    chunk is made anew from the journal.

    Parameters
    ----------
    store : CorrectionStore
        On the disk; made with the first correction.
    journal : Journal
        The case's.
    cache : ChunkCache
        The case's.
    read_only : bool
        Keep in memory what cannot be written.
    """

    def __init__(
        self, store: CorrectionStore, journal: Journal, cache: ChunkCache, read_only: bool
    ) -> None:
        self._store, self._journal, self._cache = store, journal, cache
        self._read_only = read_only
        # Who changes the store: one thread at a time, also for a repair while reading.
        self._writing = threading.RLock()
        self._state = threading.Lock()
        self._written: dict[Key, int] = {}
        self._taken = 0
        self._behind = False
        self._held: dict[Key, Array] = {}
        self._unsynced: set[Key] = set()
        self._versions: dict[tuple[int, int], int] = {}
        self._repaired: set[Key] = set()
        self._chunks = set(store.chunks())
        self._catch_up()

    @property
    def repaired(self) -> int:
        """How many damaged chunks were made anew from the journal."""
        return len(self._repaired)

    @property
    def chunks(self) -> tuple[tuple[int, int], ...]:
        """(row, column) of the chunks of level 0 that hold corrections."""
        with self._state:
            return tuple(sorted(self._chunks))

    def version(self, row: int, col: int) -> int:
        """Grows with every change of a chunk of level 0."""
        with self._state:
            return self._versions.get((row, col), 0)

    def chunk(self, key: Key) -> Array | None:
        """A chunk as it is now, or None where nothing was said; from any thread."""
        while True:
            with self._state:
                if key in self._held:
                    return self._held[key].copy()
                written = self._written.get(key)
            held, chunk = self._cache.get(("correction", key))
            if held:
                return chunk
            chunk = self._stored(key)
            with self._state:
                # What was written meanwhile must not be hidden by what was read.
                if written == self._written.get(key) and key not in self._held:
                    self._cache.put(("correction", key), chunk)
                    return chunk

    def take(self, entry: Entry, progress: Report | None = None) -> None:
        """Write what an entry says, at all levels; the journal has it already.

        Parameters
        ----------
        entry : Entry
            An edit, an undo or a redo; others change nothing.
        progress : callable (float) -> None, optional
            Told the part that is done, 0 to 1.

        Raises
        ------
        OutputError
            Disk full or gone. The entry counts nevertheless: it shows, and is
            written at the next opening.
        """
        of = entry.body.get("of", [entry.seq])
        total = 0 if progress is None else self._journal.tile_count(of)
        with self._writing:
            try:
                for number, (tile, after) in enumerate(effect(self._journal, entry)):
                    if progress is not None and total:
                        progress(number / total)
                    self._change(tile, tile.values(after))
                    if sum(chunk.nbytes for chunk in self._held.values()) > _HELD_BYTES:
                        # Where the disk does not take it, the rest is to show all the same.
                        with suppress(OutputError):
                            self._write()
                self._taken = entry.seq
            except BaseException:
                self._behind = True
                raise
            finally:
                self._write()

    def sync(self) -> None:
        """Have all of it on the disk, and say so in the journal's table."""
        if self._read_only:
            return
        with self._writing:
            if self._held or self._behind:
                return
            with case_failures(self._store.folder):
                self._store.sync(self._unsynced)
            self._unsynced.clear()
            last = self._journal.last
            between = self._journal.entries(after=self._taken, until=last)
            if any(entry.kind in (EDIT, UNDO, REDO) for entry in between):
                # Another thread has entered it and has not come here yet.
                last = self._taken
            if self._journal.seen != last:
                self._journal.set_seen(last)

    def _catch_up(self) -> None:
        seen = self._journal.seen
        if seen and not self._store.exists:
            # A folder that went away holds nothing that was seen; said before it is
            # made anew, or a crash in between would leave it half empty for good.
            seen = 0
            if not self._read_only:
                self._journal.set_seen(0)
        self._taken = seen
        for entry in self._journal.entries(after=seen):
            self.take(entry)

    def _change(self, tile: PackedTile, values: Array) -> None:
        """Take a box of level 0 into the chunks of all levels, in memory."""
        y, x = tile.row * CHUNK + tile.y, tile.col * CHUNK + tile.x
        for level in range(self._store.levels):
            # A box of one chunk never reaches into a second one of a coarser level.
            top, left, part = sample(values, y, x, self._store.shape, level)
            if part.size == 0:
                continue
            key = (_MAP, level, top // CHUNK, left // CHUNK)
            fresh = self._writable(key) if key not in self._held else None
            rows = slice(top % CHUNK, top % CHUNK + part.shape[0])
            columns = slice(left % CHUNK, left % CHUNK + part.shape[1])
            with self._state:
                if fresh is not None:
                    self._held[key] = fresh
                self._held[key][rows, columns] = part
        place = (tile.row, tile.col)
        empty = (self._held[(_MAP, 0, *place)] == UNTOUCHED).all()
        with self._state:
            self._versions[place] = self._versions.get(place, 0) + 1
            if empty:
                self._chunks.discard(place)
            else:
                self._chunks.add(place)

    def _writable(self, key: Key) -> Array:
        now = self.chunk(key)
        if now is None:
            return np.full(self._store.extent(key), UNTOUCHED, np.uint8)
        return now.copy()

    def _write(self) -> None:
        """Write what is held, and what could not be written before."""
        if self._read_only or not self._held:
            return
        with case_failures(self._store.folder):
            self._store.make({"what": "corrections; 255 where no reader said anything"})
            # The finest level first: the others can be made from it.
            for key in sorted(self._held, key=lambda k: k[1]):
                self._store.write(key, self._held[key])
                with self._state:
                    self._unsynced.add(key)
                    self._written[key] = self._written.get(key, 0) + 1
                    self._cache.put(("correction", key), self._held.pop(key))

    def _stored(self, key: Key) -> Array | None:
        try:
            return self._store.read(key)
        except CaseError:
            if not self._journal.there:
                raise
        with self._writing:
            try:
                # Another thread may have been here first.
                return self._store.read(key)
            except CaseError:
                made = PastCorrections(self._journal, self._store, self._journal.last).chunk(key)
            with self._state:
                self._repaired.add(key)
                if self._read_only:
                    return made
                whole = np.full(self._store.extent(key), UNTOUCHED, np.uint8)
                self._held[key] = whole if made is None else made.copy()
            # It shows also where the disk does not take it; it is tried again.
            with suppress(OutputError):
                self._write()
        return made


class PastCorrections:
    """The corrections as they were after an entry, from the journal alone.

    Parameters
    ----------
    journal : Journal
        The case's.
    store : CorrectionStore
        For the shape of its levels; not read.
    until : int
        The last entry that counts.

    Attributes
    ----------
    standing : frozenset of int
        Numbers of the edits that stand then.
    """

    def __init__(self, journal: Journal, store: CorrectionStore, until: int) -> None:
        self._journal, self._store = journal, store
        history = History.of(journal.entries(until=until))
        self.standing = history.standing()
        self._touched = frozenset(journal.chunks())
        self._cache = ChunkCache()

    @property
    def chunks(self) -> tuple[tuple[int, int], ...]:
        """(row, column) of the chunks of level 0 that hold corrections."""
        return tuple(
            place for place in sorted(self._touched) if self.chunk((_MAP, 0, *place)) is not None
        )

    def version(self, row: int, col: int) -> int:
        """Never changes."""
        return 0

    def chunk(self, key: Key) -> Array | None:
        """A chunk of any level, or None where nothing was said."""
        held, chunk = self._cache.get(key)
        if not held:
            chunk = self._folded(key[2], key[3]) if key[1] == 0 else self._sampled(key)
            self._cache.put(key, chunk)
        return chunk

    def _folded(self, row: int, col: int) -> Array | None:
        if (row, col) not in self._touched:
            return None
        chunk: Array | None = None
        for seq in self._journal.touching(row, col):
            if seq not in self.standing:
                continue
            tile = self._journal.tile(seq, row, col)
            if tile is None:
                continue
            if chunk is None:
                chunk = np.full(self._store.extent((_MAP, 0, row, col)), UNTOUCHED, np.uint8)
            chunk[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width] = tile.values()
        return None if chunk is None or (chunk == UNTOUCHED).all() else chunk

    def _sampled(self, key: Key) -> Array | None:
        _, level, row, col = key
        height, width = self._store.extent(key)
        out = np.full((height, width), UNTOUCHED, np.uint8)
        for place in self._touched:
            spans = [
                sampled_span(i * CHUNK, min(size, (i + 1) * CHUNK), size, level)
                for i, size in zip(place, self._store.shape, strict=True)
            ]
            inside = all(
                low // CHUNK == at and high > low
                for (low, high), at in zip(spans, (row, col), strict=True)
            )
            base = self.chunk((_MAP, 0, *place)) if inside else None
            if base is None:
                continue
            y, x, part = sample(base, place[0] * CHUNK, place[1] * CHUNK, self._store.shape, level)
            y, x = y - row * CHUNK, x - col * CHUNK
            out[y : y + part.shape[0], x : x + part.shape[1]] = part
        return None if (out == UNTOUCHED).all() else out
