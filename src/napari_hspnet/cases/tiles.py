"""Grid tiles over tissue: regions to be reviewed one after another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases.composite import Composite
from napari_hspnet.cases.selection import Place, Selection, chunk_box, chunks_of
from napari_hspnet.classes import NOT_RUN, SKIPPED
from napari_hspnet.errors import CancelledError, InputError
from napari_hspnet.slides.region import PixelBox

__all__ = ["tissue_tiles"]

_MOST_TILES = 10_000
_ENOUGH = 64
"""Pixels of a tile's side from which on its share of tissue is known well enough."""


def tissue_tiles(
    composite: Composite,
    side_um: float,
    least_share: float = 0.05,
    progress: Callable[[float], None] | None = None,
    cancel: threading.Event | None = None,
) -> tuple[Selection, ...]:
    """Square tiles from the slide's origin that hold tissue, row by row.

    Tissue is what was analysed, unreadable parts with it: neither skipped (253)
    nor not run (255). The slide itself is not needed.

    Parameters
    ----------
    composite : Composite
        What is shown.
    side_um : float
        A tile's side, rounded to whole label pixels.
    least_share : float
        The share of a tile, 0 to 1, that is tissue at least.
    progress : callable (float) -> None, optional
        Told the part that is done, 0 to 1.
    cancel : threading.Event, optional
        Stops it.

    Raises
    ------
    InputError
        A side or a share that makes no sense, or more tiles than can be reviewed.
    CancelledError
        If cancelled.
    """
    grid = composite.grid
    side = round(side_um / grid.mpp) if np.isfinite(side_um) else 0
    if side < 1:
        raise InputError(
            f"A tile cannot have a side of {side_um:g} µm", advice=f"Give {grid.mpp:g} µm or more"
        )
    if not 0 < least_share <= 1:
        raise InputError(
            f"{least_share:g} is no share of a tile", advice="Give one above 0, up to 1"
        )
    rows, columns = (-(-length // side) for length in grid.shape)
    if rows * columns > _MOST_TILES:
        raise InputError(
            f"The grid would have {rows * columns:,} tiles", advice="Choose a larger side"
        )
    found = []
    for row in range(rows):
        if cancel is not None and cancel.is_set():
            raise CancelledError
        for box in _row(row, side, columns):
            box = box.intersect(PixelBox(0, 0, *grid.shape))
            if _tissue(composite, box) >= least_share:
                found.append(Selection(grid.shape, _BoxMasks(box, grid.shape)))
        if progress is not None:
            progress((row + 1) / rows)
    return tuple(found)


class _BoxMasks(Mapping[Place, npt.NDArray[np.bool_]]):
    """The masks of a box, made when asked for: thousands of tiles would fill the memory."""

    def __init__(self, box: PixelBox, shape: tuple[int, int]) -> None:
        self._box, self._shape = box, shape
        self._places = tuple(chunks_of(box))

    def __getitem__(self, place: Place) -> npt.NDArray[np.bool_]:
        part = self._box.intersect(chunk_box(place, self._shape))
        return Selection.of_box(part, self._shape).masks[place]

    def __iter__(self) -> Iterator[Place]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _row(row: int, side: int, columns: int) -> Iterator[PixelBox]:
    for column in range(columns):
        y, x = row * side, column * side
        yield PixelBox(y, x, y + side, x + side)


def _tissue(composite: Composite, box: PixelBox) -> float:
    """The share of a box that was analysed, seen on a level that is fine enough."""
    level, last = 0, len(composite.levels) - 1
    while level < last and min(box.height, box.width) >> (level + 1) >= _ENOUGH:
        level += 1
    y, x = box.y0 >> level, box.x0 >> level
    height, width = -(-box.y1 >> level) - y, -(-box.x1 >> level) - x
    values = composite.read(y, x, height, width, level)
    return float(np.mean((values != SKIPPED) & (values != NOT_RUN)))
