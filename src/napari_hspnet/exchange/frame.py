"""A rectangle of the slide at any µm per pixel: the picture there, and the labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.errors import SlideReadError
from napari_hspnet.exchange.output import Cancel, stop_if
from napari_hspnet.exchange.png import checked_mpp
from napari_hspnet.slides import GRID_TILE, LabelGrid, PixelBox, Slide

__all__ = ["BLOCK", "Frame", "Piece"]

BLOCK = 2048
"""Side of the boxes of label pixels that are read at a time."""

UNREAD = (176, 176, 182)
"""Colour of what cannot be read of a slide."""

Array = npt.NDArray[np.uint8]
Read = Callable[[PixelBox], npt.NDArray[Any]]


@dataclass(frozen=True)
class Piece:
    """A box of label pixels, and which pixels of a frame have their centres in it.

    Attributes
    ----------
    box : PixelBox
        In label pixels.
    at : tuple of slice
        The frame's pixels.
    rows, columns : ndarray of int
        The label pixel of each of them, from the box's corner.
    """

    box: PixelBox
    at: tuple[slice, slice]
    rows: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]

    def pick(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The frame's pixels out of those of the box."""
        picked: npt.NDArray[Any] = values[self.rows][:, self.columns]
        return picked


@dataclass(frozen=True)
class Frame:
    """Pixels of the grid of `mpp` µm that begins at the slide's origin.

    Attributes
    ----------
    y, x, height, width : int
        Of that grid, as `Slide.read_grid` counts.
    mpp : float
        µm per pixel.
    grid : LabelGrid
        The label grid beneath.
    """

    y: int
    x: int
    height: int
    width: int
    mpp: float
    grid: LabelGrid

    @classmethod
    def around(cls, box: PixelBox, grid: LabelGrid, mpp: float) -> Frame:
        """The smallest that holds a box of label pixels."""
        mpp = checked_mpp(mpp)
        ratio = grid.mpp / mpp
        # What a rounding error alone would add is no pixel.
        y, x = (math.floor(side * ratio + 1e-6) for side in (box.y0, box.x0))
        bottom, right = (math.ceil(side * ratio - 1e-6) for side in (box.y1, box.x1))
        return cls(y, x, max(1, bottom - y), max(1, right - x), mpp, grid)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    def part(self, y: int, x: int, height: int, width: int) -> Frame:
        """A part of it, by pixels of its own."""
        return Frame(self.y + y, self.x + x, height, width, self.mpp, self.grid)

    def _under(self, first: int, count: int, limit: int) -> npt.NDArray[np.intp]:
        """The label pixels under the centres along one axis, the grid's last beyond it."""
        at = (np.arange(first, first + count) + 0.5) * (self.mpp / self.grid.mpp)
        return np.clip(at.astype(np.intp), 0, limit - 1)

    def pieces(self, also: PixelBox | None = None) -> Iterator[Piece]:
        """All its labels in boxes of at most `BLOCK` pixels, row by row.

        Parameters
        ----------
        also : PixelBox, optional
            Label pixels that the boxes hold too, whether a centre lies on them or not.
        """
        rows = self._under(self.y, self.height, self.grid.shape[0])
        columns = self._under(self.x, self.width, self.grid.shape[1])
        top, bottom, left, right = int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])
        if also is not None and also.height and also.width:
            top, bottom = min(top, also.y0), max(bottom, also.y1 - 1)
            left, right = min(left, also.x0), max(right, also.x1 - 1)
        for y0, y1 in _steps(top, bottom + 1):
            r0, r1 = (int(n) for n in np.searchsorted(rows, (y0, y1)))
            for x0, x1 in _steps(left, right + 1):
                c0, c1 = (int(n) for n in np.searchsorted(columns, (x0, x1)))
                yield Piece(
                    PixelBox(y0, x0, y1, x1),
                    (slice(r0, r1), slice(c0, c1)),
                    rows[r0:r1] - y0,
                    columns[c0:c1] - x0,
                )

    def sampled(self, read: Read, cancel: Cancel | None = None) -> npt.NDArray[Any]:
        """The label, or whatever `read` gives of a box, under each pixel's centre."""
        out: npt.NDArray[Any] | None = None
        for piece in self.pieces():
            stop_if(cancel)
            if not piece.rows.size or not piece.columns.size:
                continue
            values = piece.pick(read(piece.box))
            if out is None:
                out = np.empty(self.shape, values.dtype)
            out[piece.at] = values
        assert out is not None, "a frame has a pixel, and each lies over a label"
        return out

    def tiles(self) -> Iterator[tuple[slice, slice]]:
        """Its pixels in the boxes that `Slide.read_grid` makes at a time, row by row."""
        for top, bottom in _steps(self.y, self.y + self.height, GRID_TILE):
            for left, right in _steps(self.x, self.x + self.width, GRID_TILE):
                yield (
                    slice(top - self.y, bottom - self.y),
                    slice(left - self.x, right - self.x),
                )

    def read_tile(self, slide: Slide | None, at: tuple[slice, slice]) -> tuple[Array, bool]:
        """The slide's pixels in a box of the frame, white without one.

        Returns
        -------
        (ndarray of uint8 (h, w, 3), bool)
            RGB; False where a part cannot be read, which is grey then.
        """
        height, width = at[0].stop - at[0].start, at[1].stop - at[1].start
        if slide is None:
            return np.full((height, width, 3), 255, np.uint8), True
        y, x = self.y + at[0].start, self.x + at[1].start
        try:
            return slide.read_grid(y, x, height, width, self.mpp), True
        except SlideReadError:
            out = np.empty((height, width, 3), np.uint8)
            out[:] = UNREAD
            return out, False

    def image(self, slide: Slide, cancel: Cancel | None = None) -> Array:
        """The slide's pixels, (height, width, 3) RGB, as `Slide.read_grid` gives them.

        Raises
        ------
        SlideReadError
            If a part cannot be read.
        CancelledError
            If cancelled.
        """
        out = np.empty((*self.shape, 3), np.uint8)
        for rows, columns in self.tiles():
            stop_if(cancel)
            out[rows, columns] = slide.read_grid(
                self.y + rows.start,
                self.x + columns.start,
                rows.stop - rows.start,
                columns.stop - columns.start,
                self.mpp,
            )
        return out


def _steps(start: int, stop: int, step: int = BLOCK) -> Iterator[tuple[int, int]]:
    """From `start` to `stop`, cut at multiples of `step`: chunks are then read once."""
    while start < stop:
        end = min(stop, (start // step + 1) * step)
        yield start, end
        start = end
