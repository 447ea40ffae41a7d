"""Which windows a run needs, in which order: pure planning, no pixel read."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_hspnet.inference.settings import Settings
from napari_hspnet.slides.grid import LabelGrid
from napari_hspnet.slides.region import PixelBox, Region

__all__ = ["Band", "Plan", "axis_starts", "make_plan", "shared"]

BAND_WIDTH = 5120
"""Columns of a band, in label pixels: bounds the accumulator, not the slide. A multiple of
a chunk of a case."""

_MASK_ROWS = 512

RowGate = Callable[[int, int, npt.NDArray[np.intp]], npt.NDArray[np.bool_]]
"""(y, window, xs) -> which of the windows at (y, xs) hold tissue."""


def axis_starts(length: int, window: int, stride: int) -> npt.NDArray[np.intp]:
    """First pixels of the windows along one axis of a whole slide.

    Multiples of the stride, the last window shifted inwards to end with the
    slide; a single one where the slide is no longer than a window. They depend
    on the slide alone, so every region sees the same windows.
    """
    if length <= window:
        return np.zeros(1, dtype=np.intp)
    last = length - window
    starts = np.arange(0, last + 1, stride, dtype=np.intp)
    return starts if starts[-1] == last else np.append(starts, last)


@dataclass(frozen=True)
class Band:
    """Columns that are worked through from top to bottom.

    Attributes
    ----------
    x0, x1 : int
        Label columns that this band finishes.
    xs : ndarray of intp, (n,)
        First columns of its windows (some reach beyond the band).
    own : ndarray of intp, (n, 2)
        Columns that each window may write with plain stitching.
    active : ndarray of bool, (rows, n)
        Which windows are run.
    finished : int
        Rows above this one are finished already.
    """

    x0: int
    x1: int
    xs: npt.NDArray[np.intp]
    own: npt.NDArray[np.intp]
    active: npt.NDArray[np.bool_]
    finished: int = 0


@dataclass(frozen=True)
class Plan:
    """A run, before the first pixel is read.

    Attributes
    ----------
    grid : LabelGrid
        Where labels live.
    region : Region
        What was asked for.
    box : PixelBox
        Label pixels that hold the region.
    settings : Settings
        As given.
    ys : ndarray of intp, (rows,)
        First rows of the windows.
    own : ndarray of intp, (rows, 2)
        Rows that each may write with plain stitching.
    bands : tuple of Band
        Left to right.
    """

    grid: LabelGrid
    region: Region
    box: PixelBox
    settings: Settings
    ys: npt.NDArray[np.intp]
    own: npt.NDArray[np.intp]
    bands: tuple[Band, ...]

    @property
    def windows(self) -> int:
        """How many windows are run; one that two bands need is run once."""
        twice = sum(int(shared(*both).sum()) for both in itertools.pairwise(self.bands))
        return sum(int(band.active.sum()) for band in self.bands) - twice

    def rest(self, finished: Sequence[int], batch: int = 1) -> Plan:
        """What is left of the run when the first rows of its bands are finished.

        Carried out with the same batch, it gives the remaining rows to the bit as the
        whole plan does: every window that reaches them is run, in the same order. Batches
        are the same, too, but where the left neighbour is finished already: then windows
        that it has run for both are run again.

        Parameters
        ----------
        finished : sequence of int
            For each band the label row up to which it is finished.
        batch : int
            Windows at a time. A rest begins where one of the whole plan's batches does.

        Raises
        ------
        ValueError
            If there are more or fewer numbers than bands.
        """
        bands = [
            replace(band, active=self._left(band, row, batch), finished=row)
            for band, row in zip(self.bands, finished, strict=True)
            if row < self.box.y1
        ]
        return replace(self, bands=tuple(bands))

    def _left(self, band: Band, row: int, batch: int) -> npt.NDArray[np.bool_]:
        places = np.flatnonzero(band.active)
        done = int((self.ys[places // band.xs.size] + self.settings.window <= row).sum())
        if done < places.size:
            done -= done % batch
        active = band.active.copy()
        active.flat[places[:done]] = False
        return active


def shared(band: Band, neighbour: Band) -> npt.NDArray[np.bool_]:
    """Which of a band's windows a neighbour needs, too: as `Band.active`."""
    both = np.zeros_like(band.active)
    if neighbour.x0 == band.x1 or neighbour.x1 == band.x0:
        _, own, its = np.intersect1d(band.xs, neighbour.xs, True, return_indices=True)
        both[:, own] = band.active[:, own] & neighbour.active[:, its]
    return both


def make_plan(
    grid: LabelGrid,
    region: Region,
    settings: Settings,
    gate: RowGate | None = None,
    band_width: int = BAND_WIDTH,
) -> Plan:
    """Plan a run.

    Parameters
    ----------
    grid : LabelGrid
        The slide's.
    region : Region
        What to segment; windows that touch none of its pixels are left out.
    settings : Settings
        Window, stride and blending.
    gate : callable, optional
        Says which windows of a row hold tissue; all do where it is left out.
    band_width : int
        See `BAND_WIDTH`; bands end at its multiples.

    Raises
    ------
    RegionError
        If the region lies outside the slide.
    """
    box = region.box(grid)
    window, stride = settings.window, settings.effective_stride
    all_ys = axis_starts(grid.shape[0], window, stride)
    all_xs = axis_starts(grid.shape[1], window, stride)
    rows = _touching(all_ys, window, box.y0, box.y1)
    ys, own_rows = all_ys[rows], _owned(all_ys, window)[rows]
    own_columns = _owned(all_xs, window)
    bands = []
    # On multiples, so that no chunk of a case waits for the next band.
    inner = range((box.x0 // band_width + 1) * band_width, box.x1, band_width)
    for x0, x1 in itertools.pairwise((box.x0, *inner, box.x1)):
        columns = _touching(all_xs, window, x0, x1)
        xs = all_xs[columns]
        active = _meets_region(region, PixelBox(box.y0, x0, box.y1, x1), grid, ys, xs, window)
        if gate is not None:
            for row, y in enumerate(ys):
                if active[row].any():
                    active[row] &= gate(int(y), window, xs)
        bands.append(Band(x0, x1, xs, own_columns[columns], active))
    return Plan(grid, region, box, settings, ys, own_rows, tuple(bands))


def _touching(
    starts: npt.NDArray[np.intp], window: int, first: int, last: int
) -> npt.NDArray[np.bool_]:
    return (starts < last) & (starts + window > first)


def _owned(starts: npt.NDArray[np.intp], window: int) -> npt.NDArray[np.intp]:
    """Half-open ranges that tile the axis: each window yields to the one before it."""
    first = starts.copy()
    first[1:] = np.maximum(starts[1:], starts[:-1] + window)
    return np.stack([first, starts + window], axis=1)


def _meets_region(
    region: Region,
    box: PixelBox,
    grid: LabelGrid,
    ys: npt.NDArray[np.intp],
    xs: npt.NDArray[np.intp],
    window: int,
) -> npt.NDArray[np.bool_]:
    """Which windows hold at least one pixel of the region within `box`."""
    if region.kind == "slide":
        return np.ones((ys.size, xs.size), dtype=bool)
    left = np.clip(xs - box.x0, 0, box.width)
    right = np.clip(xs + window - box.x0, 0, box.width)
    hits = np.ones((box.height, xs.size), dtype=bool)
    for y0 in range(box.y0, box.y1, _MASK_ROWS):
        y1 = min(y0 + _MASK_ROWS, box.y1)
        mask = region.mask(PixelBox(y0, box.x0, y1, box.x1), grid)
        if mask is not None:
            total = np.zeros((mask.shape[0], box.width + 1), dtype=np.int32)
            np.cumsum(mask, axis=1, out=total[:, 1:])
            hits[y0 - box.y0 : y1 - box.y0] = total[:, right] > total[:, left]
    meets = np.zeros((ys.size, xs.size), dtype=bool)
    for row, y in enumerate(ys):
        meets[row] = hits[max(0, y - box.y0) : max(0, y + window - box.y0)].any(axis=0)
    return meets
