"""What an unfinished run notes of itself, so that it can go on after a kill."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases.store import CHUNK, FILL, MAPS, Key, RunStore
from napari_hspnet.slides.grid import LabelBlock

__all__ = [
    "NOTE_EVERY",
    "PROGRESS",
    "RunLayout",
    "RunNotes",
    "RunProgress",
    "forget_progress",
    "kept_blocks",
    "read_progress",
    "write_progress",
]

PROGRESS = "progress.json"
"""Beside the maps of a run as long as it is being written."""

NOTE_EVERY = 5.0
"""Seconds between two notes: about what a kill costs."""

_FORMAT = 1


@dataclass(frozen=True)
class RunLayout:
    """The way a run takes: bands from left to right, each from top to bottom.

    Attributes
    ----------
    bands : tuple of (int, int)
        Half-open ranges of label columns.
    y0, y1 : int
        Label rows of all of them, half-open.
    windows : int
        Network inputs in all.
    """

    bands: tuple[tuple[int, int], ...]
    y0: int
    y1: int
    windows: int


@dataclass(frozen=True)
class RunProgress:
    """How far a run has come; never further than what is on the disk.

    Attributes
    ----------
    layout : RunLayout
        Its way.
    rows : tuple of int
        For each band the label row up to which it is finished: a multiple of the
        chunks' side, or the layout's ends.
    seconds : float
        Spent so far.
    """

    layout: RunLayout
    rows: tuple[int, ...]
    seconds: float = 0.0

    @classmethod
    def none(cls, layout: RunLayout) -> RunProgress:
        """Of a run that has just begun."""
        return cls(layout, tuple(layout.y0 for _ in layout.bands))

    @property
    def part(self) -> float:
        """Finished label pixels as a part of all, 0 to 1."""
        height = self.layout.y1 - self.layout.y0
        widths = [x1 - x0 for x0, x1 in self.layout.bands]
        done = [y - self.layout.y0 for y in self.rows]
        whole = height * sum(widths)
        return sum(w * d for w, d in zip(widths, done, strict=True)) / whole if whole else 1.0


class RunNotes:
    """Keeps note of how far a run has come while it is being written.

    Parameters
    ----------
    store : RunStore
        The run's folder.
    progress : RunProgress
        How far it has come; noted at once.
    """

    def __init__(self, store: RunStore, progress: RunProgress) -> None:
        self._store = store
        self._rows = list(progress.rows)
        self._before = progress.seconds
        self._begun = self._at = time.monotonic()
        self._unsynced: set[Key] = set()
        self.noted = progress
        write_progress(store.folder, progress)

    def wrote(self, key: Key) -> None:
        """Hear that a chunk went to the disk, as far as the operating system says."""
        if key[1] == 0:
            self._unsynced.add(key)

    def reached(self, x0: int, y: int) -> bool:
        """Hear that the band from column `x0` is written up to row `y`; whether to note it."""
        for number, band in enumerate(self.noted.layout.bands):
            if band[0] == x0:
                self._rows[number] = max(y, self._rows[number])
        return time.monotonic() - self._at >= NOTE_EVERY

    def concern(self, key: Key) -> bool:
        """Whether a chunk holds rows that the next note will call finished."""
        return bool(_finished_columns(key, self._store, self._now()).any())

    def note(self) -> None:
        """Note it; every chunk that it concerns has been written."""
        self._store.sync(self._unsynced)
        self._unsynced.clear()
        self.noted = self._now()
        write_progress(self._store.folder, self.noted)
        self._at = time.monotonic()

    def _now(self) -> RunProgress:
        spent = self._before + time.monotonic() - self._begun
        return replace(self.noted, rows=tuple(self._rows), seconds=spent)


def write_progress(folder: Path, progress: RunProgress) -> None:
    """Note how far a run has come, on the disk when it returns."""
    said = {"format": _FORMAT, **asdict(progress)}
    path = folder / PROGRESS
    beside = path.with_name(f".{path.name}.part")
    with beside.open("w", encoding="utf-8") as file:
        json.dump(said, file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def read_progress(folder: Path) -> RunProgress | None:
    """What `write_progress` noted; None where there is nothing, or nothing of use."""
    try:
        said = json.loads((folder / PROGRESS).read_bytes())
        if said["format"] != _FORMAT:
            return None
        layout = said["layout"]
        found = RunProgress(
            RunLayout(
                tuple((int(x0), int(x1)) for x0, x1 in layout["bands"]),
                int(layout["y0"]),
                int(layout["y1"]),
                int(layout["windows"]),
            ),
            tuple(int(row) for row in said["rows"]),
            float(said["seconds"]),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    way = found.layout
    sound = len(found.rows) == len(way.bands) and all(
        row in (way.y0, way.y1) or (row % CHUNK == 0 and way.y0 < row < way.y1)
        for row in found.rows
    )
    return found if sound else None


def forget_progress(folder: Path) -> None:
    """Remove the note of a run that is finished."""
    (folder / PROGRESS).unlink(missing_ok=True)


def kept_blocks(store: RunStore, progress: RunProgress) -> Iterator[LabelBlock]:
    """Bring a run's folder back to what was noted of it; what is finished, chunk by chunk.

    What was written after the note goes. So do all coarse levels, which follow from
    the blocks that are given.

    Raises
    ------
    CaseError
        If a finished chunk is damaged.
    """
    for name in MAPS:
        for level in range(1, store.levels):
            shutil.rmtree(store.folder / name / str(level) / "c", ignore_errors=True)
        for torn in (store.folder / name / "0").rglob(".*.part"):
            torn.unlink()
    height, width = store.shape
    for row in range(-(-height // CHUNK)):
        for column in range(-(-width // CHUNK)):
            keys = [(name, 0, row, column) for name in MAPS]
            chunks = _kept(store, keys, _finished_columns(keys[0], store, progress))
            if chunks is not None:
                yield LabelBlock(row * CHUNK, column * CHUNK, *chunks)


def _finished_columns(key: Key, store: RunStore, progress: RunProgress) -> npt.NDArray[np.bool_]:
    """Which columns of a chunk are finished; no band ends within a chunk but the layout's."""
    columns = np.zeros(store.extent(key)[1], dtype=bool)
    top, left = key[2] * CHUNK, key[3] * CHUNK
    for (x0, x1), row in zip(progress.layout.bands, progress.rows, strict=True):
        if progress.layout.y0 < row and top < row:
            columns[max(0, x0 - left) : max(0, x1 - left)] = True
    return columns


def _kept(
    store: RunStore, keys: list[Key], columns: npt.NDArray[np.bool_]
) -> list[npt.NDArray[np.uint8]] | None:
    if not columns.any():
        for key in keys:
            store.remove(key)
        return None
    stored = [store.read(key) for key in keys]
    if all(chunk is None for chunk in stored):
        return None
    kept = []
    for key, found in zip(keys, stored, strict=True):
        empty = np.full(store.extent(key), FILL[key[0]], np.uint8)
        chunk = empty if found is None else np.where(columns, found, empty)
        if found is not None and not np.array_equal(chunk, found):
            store.write(key, chunk)
        kept.append(chunk)
    return kept
