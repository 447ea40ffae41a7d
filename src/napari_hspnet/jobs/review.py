"""Going through a slide: tiles over its tissue, how far one is."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases import Selection
from napari_hspnet.cases.selection import chunk_box
from napari_hspnet.cases.tiles import grid_tiles
from napari_hspnet.errors import CancelledError, InputError
from napari_hspnet.inference import TISSUE_MPP, TissueMap
from napari_hspnet.slides import LabelGrid, PixelBox

__all__ = [
    "Coverage",
    "Footprint",
    "coverage",
    "footprint",
    "read_tissue",
    "tissue_tiles",
]

Mask = npt.NDArray[np.bool_]
Report = Callable[[float], None]

_STRIPE = 512


@dataclass(frozen=True)
class Footprint:
    """The pixels of the tissue mask whose centres lie in a region, a bit each.

    Attributes
    ----------
    box : PixelBox
        In pixels of the tissue mask.
    bits : ndarray of uint8
        Packed.
    """

    box: PixelBox
    bits: npt.NDArray[np.uint8]

    def mask(self) -> Mask:
        """Which pixels of the box."""
        shape = (self.box.height, self.box.width)
        count = shape[0] * shape[1]
        return np.unpackbits(self.bits, count=count).astype(bool).reshape(shape)


def footprint(selection: Selection, grid: LabelGrid) -> Footprint:
    """A region as the tissue mask sees it."""
    whole = selection.box
    rows = _sampled(whole.y0, whole.y1, grid.shape[0], grid.mpp)
    columns = _sampled(whole.x0, whole.x1, grid.shape[1], grid.mpp)
    out = np.zeros((len(rows), len(columns)), bool)
    for place, mask in selection.masks.items():
        box = chunk_box(place, selection.shape)
        ys = (rows >= box.y0) & (rows < box.y1)
        xs = (columns >= box.x0) & (columns < box.x1)
        if ys.any() and xs.any():
            out[np.ix_(ys, xs)] = mask[np.ix_(rows[ys] - box.y0, columns[xs] - box.x0)]
    top = _first(whole.y0, grid.shape[0], grid.mpp)
    left = _first(whole.x0, grid.shape[1], grid.mpp)
    return Footprint(
        PixelBox(top, left, top + len(rows), left + len(columns)), np.packbits(out.ravel())
    )


def _tissue_shape(grid: LabelGrid) -> tuple[int, int]:
    height, width = (math.ceil(size * grid.mpp / TISSUE_MPP - 1e-9) for size in grid.shape)
    return height, width


def _centres(size: int, mpp: float) -> npt.NDArray[np.intp]:
    """The label pixel under the centre of each pixel of the tissue mask, along one axis."""
    count = math.ceil(size * mpp / TISSUE_MPP - 1e-9)
    at = np.floor((np.arange(count) + 0.5) * (TISSUE_MPP / mpp)).astype(np.intp)
    # A last pixel that reaches beyond the grid would belong to no region whatever.
    return np.asarray(np.minimum(at, size - 1))


def _sampled(start: int, stop: int, size: int, mpp: float) -> npt.NDArray[np.intp]:
    at = _centres(size, mpp)
    return at[(at >= start) & (at < stop)]


def _first(start: int, size: int, mpp: float) -> int:
    return int(np.searchsorted(_centres(size, mpp), start))


def read_tissue(
    tissue: TissueMap,
    grid: LabelGrid,
    progress: Report | None = None,
    cancel: threading.Event | None = None,
) -> Mask:
    """The tissue of the whole slide, `TISSUE_MPP` µm a pixel.

    Raises
    ------
    CancelledError
        If cancelled.
    """
    height, width = _tissue_shape(grid)
    out = np.zeros((height, width), bool)
    for y in range(0, height, _STRIPE):
        for x in range(0, width, _STRIPE):
            _check(cancel)
            at = np.s_[y : y + _STRIPE, x : x + _STRIPE]
            out[at] = tissue.read(y, x, min(_STRIPE, height - y), min(_STRIPE, width - x))
        if progress is not None:
            progress(min(1.0, (y + _STRIPE) / height))
    return out


@dataclass(frozen=True)
class Coverage:
    """How much of a slide's tissue lies in regions."""

    covered_mm2: float
    tissue_mm2: float

    @property
    def share(self) -> float:
        """0 to 1; 0 where there is no tissue."""
        return self.covered_mm2 / self.tissue_mm2 if self.tissue_mm2 else 0.0


def coverage(tissue: Mask, regions: Iterable[Footprint]) -> Coverage:
    """How much of the tissue lies in at least one of the regions.

    Parameters
    ----------
    tissue : ndarray of bool
        As `read_tissue` gives it.
    regions : iterable of Footprint
        Of the same slide.
    """
    union = np.zeros_like(tissue)
    for region in regions:
        box = region.box
        union[box.y0 : box.y1, box.x0 : box.x1] |= region.mask()
    square = (TISSUE_MPP / 1000) ** 2
    return Coverage(
        float(np.count_nonzero(union & tissue)) * square, float(np.count_nonzero(tissue)) * square
    )


def tissue_tiles(
    tissue: TissueMap,
    grid: LabelGrid,
    side_um: float = 1000.0,
    least_share: float = 0.05,
    progress: Report | None = None,
    cancel: threading.Event | None = None,
) -> tuple[Selection, ...]:
    """Square tiles from the slide's origin that hold tissue, row by row.

    Tissue is what the slide shows, whether it was analysed or not.

    Parameters
    ----------
    tissue : TissueMap
        The slide's.
    grid : LabelGrid
        The slide's.
    side_um : float
        A tile's side, rounded to whole label pixels; the last ones are cut at the
        slide's end.
    least_share : float
        The share of a tile, 0 to 1, that is tissue at least.
    progress : callable (float) -> None, optional
        Told the part that is done, 0 to 1.
    cancel : threading.Event, optional
        Stops it.

    Raises
    ------
    InputError
        A side or a share that makes no sense, or more tiles than one can review.
    CancelledError
        If cancelled.
    """
    if math.isfinite(side_um) and side_um < TISSUE_MPP:
        raise InputError(
            f"A tile cannot have a side of {side_um:g} µm", advice=f"Give {TISSUE_MPP:g} or more"
        )
    return grid_tiles(
        grid, side_um, lambda box: _share(tissue, grid, box), least_share, progress, cancel
    )


def _share(tissue: TissueMap, grid: LabelGrid, box: PixelBox) -> float:
    """The share of a box that is tissue, by the mask's pixels centred in it."""
    rows = _sampled(box.y0, box.y1, grid.shape[0], grid.mpp)
    columns = _sampled(box.x0, box.x1, grid.shape[1], grid.mpp)
    if not rows.size or not columns.size:
        return 0.0
    top = _first(box.y0, grid.shape[0], grid.mpp)
    left = _first(box.x0, grid.shape[1], grid.mpp)
    return float(tissue.read(top, left, len(rows), len(columns)).mean())


def _check(cancel: threading.Event | None) -> None:
    if cancel is not None and cancel.is_set():
        raise CancelledError
