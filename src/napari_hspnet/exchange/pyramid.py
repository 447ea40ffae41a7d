"""Labels with all their levels, streamed in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases.sampling import level_count, level_shape, sample
from napari_hspnet.classes import NOT_RUN
from napari_hspnet.exchange.output import Cancel, Report, stop_if
from napari_hspnet.exchange.sources import LabelSource

__all__ = ["TILE", "Part", "Pyramid"]

TILE = 512

_KEPT_FROM = 3
_BLOCK = TILE << (_KEPT_FROM - 1)

Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Part:
    """A piece of a level.

    Attributes
    ----------
    level, y, x : int
        Where its first pixel lies, in that level's pixels: a multiple of `TILE`.
    values : ndarray of uint8, (height, width)
        Whole tiles, cut at the level's end only.
    """

    level: int
    y: int
    x: int
    values: Array


class Pyramid:
    """Levels by factor 2, sampled at pixel centres; never more than a 64th held.

    Take `parts` once, or `tiles` level by level from 0 on: the coarse levels are
    made on the way.

    Parameters
    ----------
    labels : LabelSource
        Level 0.
    progress, cancel
        Told the part done; makes the next piece raise `CancelledError`.
    """

    def __init__(
        self, labels: LabelSource, progress: Report | None = None, cancel: Cancel | None = None
    ) -> None:
        self._labels = labels
        self._progress = progress
        self._cancel = cancel
        self._shape = labels.grid.shape
        self.levels = level_count(self._shape)
        # From level 3 on they are a 64th of the slide together and may be held.
        self._kept = {
            level: np.full(level_shape(self._shape, level), NOT_RUN, np.uint8)
            for level in range(_KEPT_FROM, self.levels)
        }
        self._done = 0

    def parts(self) -> Iterator[Part]:
        """All levels in pieces of up to 2048 x 2048 pixels; level 0 is read once."""
        fine = range(min(_KEPT_FROM, self.levels))
        rows, columns = (-(-side // _BLOCK) for side in self._shape)
        total = rows * columns + sum(1 for _ in self._held())
        for row in range(rows):
            for column in range(columns):
                top, left = row * _BLOCK, column * _BLOCK
                values = self._level_0(top, left, _BLOCK, _BLOCK)
                for level in fine:
                    yield Part(level, *sample(values, top, left, self._shape, level))
                self._report(total)
        for part in self._held():
            yield part
            self._report(total)

    def _held(self) -> Iterator[Part]:
        for level, kept in self._kept.items():
            for y in range(0, kept.shape[0], _BLOCK):
                for x in range(0, kept.shape[1], _BLOCK):
                    yield Part(level, y, x, kept[y : y + _BLOCK, x : x + _BLOCK])

    def tiles(self, level: int) -> Iterator[Array]:
        """The level's tiles in row order, 255 beyond its end.

        Level 0 is read once for level 0 and again for levels 1 and 2.
        """
        total = sum(
            -(-h // TILE) * -(-w // TILE)
            for h, w in (level_shape(self._shape, k) for k in range(self.levels))
        )
        height, width = level_shape(self._shape, level)
        for y in range(0, height, TILE):
            for x in range(0, width, TILE):
                stop_if(self._cancel)
                tile = np.full((TILE, TILE), NOT_RUN, np.uint8)
                part = self._read(level, y, x, min(TILE, height - y), min(TILE, width - x))
                tile[: part.shape[0], : part.shape[1]] = part
                self._report(total)
                yield tile

    def _read(self, level: int, y: int, x: int, height: int, width: int) -> Array:
        if level >= _KEPT_FROM:
            return self._kept[level][y : y + height, x : x + width]
        step = 1 << level
        top, left = y * step, x * step
        if level == 0:
            return self._level_0(top, left, height, width)
        rows = min(height * step, self._shape[0] - top)
        columns = min(width * step, self._shape[1] - left)
        values = self._labels.read(top, left, rows, columns)
        # A level's pixels lie within the part of level 0 that they stand for, the
        # clipped last ones too, so the box read is all that decides the tile.
        part = sample(values, top, left, self._shape, level)[2]
        return np.ascontiguousarray(part)

    def _level_0(self, top: int, left: int, height: int, width: int) -> Array:
        """A box, cut at the end; what it says of the held levels is kept."""
        stop_if(self._cancel)
        rows, columns = min(height, self._shape[0] - top), min(width, self._shape[1] - left)
        values = self._labels.read(top, left, rows, columns)
        for level, kept in self._kept.items():
            y, x, part = sample(values, top, left, self._shape, level)
            kept[y : y + part.shape[0], x : x + part.shape[1]] = part
        return values

    def _report(self, total: int) -> None:
        stop_if(self._cancel)
        self._done += 1
        if self._progress is not None:
            self._progress(self._done / total)
