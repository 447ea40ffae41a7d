"""Changing the corrections: every change an entry of the journal, every act undoable."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases.composite import Composite, CorrectionSource
from napari_hspnet.cases.corrections import UNTOUCHED, Corrections
from napari_hspnet.cases.history import Act, History
from napari_hspnet.cases.journal import EDIT, REDO, UNDO, Entry, Journal, PackedTile, pack_tile
from napari_hspnet.cases.review import Review
from napari_hspnet.cases.selection import Selection, chunk_box, chunks_of
from napari_hspnet.cases.store import CHUNK
from napari_hspnet.classes import CIN3
from napari_hspnet.errors import CancelledError, HspnetError, InputError, RegionLockedError
from napari_hspnet.slides.region import PixelBox

__all__ = ["Draft", "EditResult", "Editing", "Patch", "accepted", "filled"]

Array = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Report = Callable[[float], None]

_SYNC_EVERY = 64
"""Entries after which the store is put on the disk: what an opening replays at most."""


@dataclass(frozen=True)
class Patch:
    """New corrections in a box of label pixels.

    Attributes
    ----------
    y, x : int
        The box's first pixel.
    values : ndarray of uint8, (h, w)
        0 to 4, or 255 to go back to the prediction.
    where : ndarray of bool, (h, w)
        Which pixels are meant.
    """

    y: int
    x: int
    values: Array
    where: Mask


@dataclass(frozen=True)
class EditResult:
    """What became of an act.

    Attributes
    ----------
    entry : Entry or None
        As journalled; None where it changed nothing.
    box : PixelBox
        What it changed, or would have changed, in label pixels.
    locked : tuple of int
        Regions signed off whose pixels it left alone.
    warning : str
        What the reader should know; empty where there is nothing.
    refusal : RegionLockedError or None
        The same as `locked`, in words.
    """

    entry: Entry | None
    box: PixelBox
    locked: tuple[int, ...] = ()
    warning: str = ""
    refusal: RegionLockedError | None = None


@dataclass
class Editing:
    """The acts on one case; safe from any thread, one act at a time.

    Parameters
    ----------
    journal, corrections, review
        The case's.
    composite : callable () -> Composite
        What is shown now.
    """

    journal: Journal
    corrections: Corrections
    review: Review
    composite: Callable[[], Composite]
    _history: History | None = field(default=None, init=False)
    _guard: threading.RLock = field(default_factory=threading.RLock, init=False)

    @property
    def can_undo(self) -> bool:
        """Whether there is an act to undo."""
        return bool(self._acts().done)

    @property
    def can_redo(self) -> bool:
        """Whether there is an act to redo."""
        return bool(self._acts().undone)

    def prepare(self) -> None:
        """Read from the journal what can be undone, so that asking takes no time.

        Raises
        ------
        CaseError
            If the journal is damaged.
        """
        self._acts()

    def correct(
        self,
        patches: Iterable[Patch],
        reader: str,
        tool: str,
        said: Mapping[str, Any] | None = None,
        continues: bool = False,
        total: int = 0,
        progress: Report | None = None,
        cancel: threading.Event | None = None,
    ) -> EditResult:
        """Write corrections; pixels of regions that are signed off stay as they are.

        Parameters
        ----------
        patches : iterable of Patch
            No pixel twice.
        reader : str
            Who corrects.
        tool : str
            With what, as the log shows it.
        said : Mapping, optional
            The tool's options, plain JSON values.
        continues : bool
            Part of the act before it, and undone with it.
        total : int
            How many patches there are, for the progress.
        progress : callable (float) -> None, optional
            Told the part that is done, 0 to 1.
        cancel : threading.Event, optional
            Stops before anything is written.

        Raises
        ------
        InputError
            A reader without a name, or a value that no correction has.
        RegionLockedError
            All that would change is signed off.
        CancelledError
            If cancelled; nothing has changed.
        OutputError
            Disk full or gone; nothing has changed.
        """
        with self._guard:
            history = self._acts()
            made = Draft(self.composite(), self.corrections, self.review)
            for number, patch in enumerate(patches, start=1):
                if cancel is not None and cancel.is_set():
                    raise CancelledError
                made.take(patch)
                if progress is not None and total:
                    progress(0.6 * number / total)
            if not made.tiles:
                if made.locked:
                    raise self.review.locked_error(made.locked)
                return EditResult(None, made.box)
            body = {"tool": tool, **(said or {}), **made.said}
            if continues:
                body["continues"] = True
            entry = self.journal.append(EDIT, reader, body, made.tiles)
            warning = self._entered(entry, history, progress, 0.6)
            refusal = self.review.locked_error(made.locked) if made.locked else None
            return EditResult(entry, made.box, tuple(sorted(made.locked)), warning, refusal)

    def reader_at(self, y: int, x: int) -> str:
        """Who said what stands at label pixel (y, x); empty where nobody did."""
        row, col = y // CHUNK, x // CHUNK
        standing = self._acts().standing()
        for seq in reversed(self.journal.touching(row, col)):
            tile = self.journal.tile(seq, row, col) if seq in standing else None
            if tile is None:
                continue
            at = y - row * CHUNK - tile.y, x - col * CHUNK - tile.x
            inside = 0 <= at[0] < tile.height and 0 <= at[1] < tile.width
            if inside and tile.values()[at] != tile.values(after=False)[at]:
                return self.journal.entry(seq).reader
        return ""

    def undo(self, reader: str, progress: Report | None = None) -> EditResult | None:
        """Take back the last act that stands; None where there is none.

        Raises
        ------
        RegionLockedError
            It lies in a region that is signed off.
        InputError
            A reader without a name.
        OutputError
            Disk full or gone; nothing has changed.
        """
        with self._guard:
            done = self._acts().done
            return self._again(UNDO, done[-1], reader, progress) if done else None

    def redo(self, reader: str, progress: Report | None = None) -> EditResult | None:
        """Do the act again that was undone last; None where there is none.

        Raises
        ------
        As for `undo`.
        """
        with self._guard:
            undone = self._acts().undone
            return self._again(REDO, undone[-1], reader, progress) if undone else None

    def _again(self, kind: str, act: Act, reader: str, progress: Report | None) -> EditResult:
        first = self.journal.entry(act[0])
        box = _joined(self.journal.entry(seq).box for seq in act)
        locked = self._locks_of(act)
        if locked:
            raise self.review.locked_error(locked)
        body = {"of": list(act), "tool": first.body.get("tool", ""), "box": _sides(box)}
        entry = self.journal.append(kind, reader, body)
        return EditResult(entry, box, (), self._entered(entry, self._acts(), progress, 0.0))

    def _locks_of(self, act: Act) -> set[int]:
        found: set[int] = set()
        for seq in act:
            for tile in self.journal.tiles(seq):
                changed = tile.values(after=True) != tile.values(after=False)
                at = np.s_[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
                for region, mask in self.review.locks(tile.row, tile.col):
                    if (mask[at] & changed).any():
                        found.add(region)
        return found

    def _entered(
        self, entry: Entry, history: History, progress: Report | None, begun: float
    ) -> str:
        """Bring history and store after an entry; what went wrong with the store."""

        def told(part: float) -> None:
            if progress is not None:
                progress(begun + (1 - begun) * part)

        history.take(entry)
        try:
            self.corrections.take(entry, told)
            told(1.0)
            if entry.seq % _SYNC_EVERY == 0:
                self.corrections.sync()
        except HspnetError as error:
            # The journal has it: it counts, shows, and is written when that is possible.
            return f"{error.what}. The act is in the journal; {error.advice[:1].lower()}" + (
                f"{error.advice[1:]}"
            )
        return ""

    def _acts(self) -> History:
        history = self._history
        if history is None:
            with self._guard:
                history = self._history = History.of(self.journal.entries())
        return history


class Draft:
    """What an act changes, gathered chunk by chunk; for `Editing` and the rescue of a case."""

    def __init__(self, composite: Composite, corrections: CorrectionSource, review: Review) -> None:
        self._composite, self._corrections, self._review = composite, corrections, review
        self._tiles: dict[tuple[int, int], PackedTile] = {}
        self.changes: Counter[str] = Counter()
        self.runs: set[str] = set()
        self.locked: set[int] = set()
        self._boxes: list[tuple[int, int, int, int]] = []

    @property
    def tiles(self) -> list[PackedTile]:
        return list(self._tiles.values())

    @property
    def box(self) -> PixelBox:
        return _joined(self._boxes)

    @property
    def said(self) -> dict[str, Any]:
        """What the journal says of it beside its tiles."""
        said: dict[str, Any] = {
            "box": _sides(self.box),
            "changes": dict(sorted(self.changes.items())),
            "runs": sorted(self.runs),
        }
        return said | ({"left_locked": sorted(self.locked)} if self.locked else {})

    def take(self, patch: Patch) -> None:
        """Take in what a patch changes.

        Raises
        ------
        InputError
            A value that no correction has.
        """
        shape = self._composite.grid.shape
        height, width = patch.values.shape
        box = PixelBox(patch.y, patch.x, patch.y + height, patch.x + width)
        asked = patch.values[patch.where]
        if asked.size and not ((asked <= CIN3) | (asked == UNTOUCHED)).all():
            wrong = int(asked[(asked > CIN3) & (asked != UNTOUCHED)][0])
            raise InputError(
                f"A correction cannot have the value {wrong}",
                advice="Use 0 (none of the four) to 4 (CIN3), or 255 for the prediction",
            )
        for place in chunks_of(box.intersect(PixelBox(0, 0, *shape))):
            own = chunk_box(place, shape)
            part = own.intersect(box)
            cut = np.s_[part.y0 - box.y0 : part.y1 - box.y0, part.x0 - box.x0 : part.x1 - box.x0]
            self._take_chunk(place, part, own, patch.values[cut], patch.where[cut])

    def _take_chunk(
        self, place: tuple[int, int], part: PixelBox, own: PixelBox, values: Array, where: Mask
    ) -> None:
        at = np.s_[part.y0 - own.y0 : part.y1 - own.y0, part.x0 - own.x0 : part.x1 - own.x0]
        chunk = self._corrections.chunk(("class", 0, *place))
        before = np.full(values.shape, UNTOUCHED, np.uint8) if chunk is None else chunk[at]
        changed = where & (values != before)
        for region, mask in self._review.locks(*place):
            hit = changed & mask[at]
            if hit.any():
                self.locked.add(region)
                self._note(hit, part)
                changed &= ~hit
        if not changed.any():
            return
        tight = self._note(changed, part)
        before, values, changed = before[tight], values[tight], changed[tight]
        after = np.where(changed, values, before).astype(np.uint8)
        y, x = part.y0 + tight[0].start, part.x0 + tight[1].start
        tile = pack_tile(*place, y - own.y0, x - own.x0, before, after)
        known = self._tiles.get(place)
        self._tiles[place] = tile if known is None else _one_tile(known, tile, changed, chunk)
        self._count(y, x, before, after, changed)

    def _note(self, mask: Mask, part: PixelBox) -> tuple[slice, slice]:
        ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        tight = slice(int(ys[0]), int(ys[-1]) + 1), slice(int(xs[0]), int(xs[-1]) + 1)
        self._boxes.append(
            (
                part.y0 + tight[0].start,
                part.x0 + tight[1].start,
                part.y0 + tight[0].stop,
                part.x0 + tight[1].stop,
            )
        )
        return tight

    def _count(self, y: int, x: int, before: Array, after: Array, changed: Mask) -> None:
        height, width = after.shape
        predicted = self._composite.read(y, x, height, width, what="prediction")
        shown = np.where(before == UNTOUCHED, predicted, before)[changed].astype(np.intp)
        becomes = np.where(after == UNTOUCHED, predicted, after)[changed]
        counts = np.bincount(shown * 256 + becomes, minlength=0)
        for pair in np.flatnonzero(counts):
            self.changes[f"{pair // 256}>{pair % 256}"] += int(counts[pair])
        self.runs |= self._composite.owners(y, x, changed)


def _one_tile(
    first: PackedTile, second: PackedTile, changed: Mask, chunk: Array | None
) -> PackedTile:
    """Two tiles of one chunk as one: an entry has one for each chunk."""
    y, x = min(first.y, second.y), min(first.x, second.x)
    bottom = max(first.y + first.height, second.y + second.height)
    right = max(first.x + first.width, second.x + second.width)
    if chunk is None:
        before = np.full((bottom - y, right - x), UNTOUCHED, np.uint8)
    else:
        before = chunk[y:bottom, x:right]
    after = before.copy()
    for tile, where in ((first, None), (second, changed)):
        box = np.s_[tile.y - y : tile.y - y + tile.height, tile.x - x : tile.x - x + tile.width]
        np.copyto(after[box], tile.values(), where=True if where is None else where)
    return pack_tile(first.row, first.col, y, x, before, after)


def filled(selection: Selection, value: int) -> Iterator[Patch]:
    """One value for all pixels of a selection."""
    for (row, col), mask in selection.masks.items():
        yield Patch(row * CHUNK, col * CHUNK, np.full(mask.shape, value, np.uint8), mask)


def accepted(selection: Selection, composite: Composite) -> Iterator[Patch]:
    """What is shown as the reader's own word; what was not analysed stays so."""
    for (row, col), mask in selection.masks.items():
        values = composite.read(row * CHUNK, col * CHUNK, *mask.shape)
        yield Patch(row * CHUNK, col * CHUNK, values, mask & (values <= CIN3))


def _joined(boxes: Iterable[tuple[int, int, int, int] | None]) -> PixelBox:
    sides = [box for box in boxes if box is not None]
    if not sides:
        return PixelBox(0, 0, 0, 0)
    return PixelBox(
        min(b[0] for b in sides),
        min(b[1] for b in sides),
        max(b[2] for b in sides),
        max(b[3] for b in sides),
    )


def _sides(box: PixelBox) -> list[int]:
    return [box.y0, box.x0, box.y1, box.x1]
