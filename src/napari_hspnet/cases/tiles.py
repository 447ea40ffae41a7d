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
from napari_hspnet.slides.grid import LabelGrid
from napari_hspnet.slides.region import PixelBox

__all__ = ["MOST_REGIONS", "analysed_share", "grid_tiles"]

MOST_REGIONS = 10_000
"""That are added at once: nobody goes through more."""

_ENOUGH = 64
"""Pixels of a tile's side from which on its share is known well enough."""


def grid_tiles(
    grid: LabelGrid,
    side_um: float,
    share: Callable[[PixelBox], float],
    least_share: float = 0.05,
    progress: Callable[[float], None] | None = None,
    cancel: threading.Event | None = None,
) -> tuple[Selection, ...]:
    """Square tiles from the slide's origin that hold enough of something, row by row.

    Parameters
    ----------
    grid : LabelGrid
        The slide's.
    side_um : float
        A tile's side, rounded to whole label pixels; the last ones are cut at the
        slide's end.
    share : callable (PixelBox) -> float
        How much of a box it is, 0 to 1: tissue, or what was analysed.
    least_share : float
        The share that a tile has at least.
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
    side = round(side_um / grid.mpp) if np.isfinite(side_um) else 0
    if side < 1:
        raise InputError(
            f"A tile cannot have a side of {side_um:g} µm", advice=f"Give {grid.mpp:g} or more"
        )
    if not 0 < least_share <= 1:
        raise InputError(
            f"{least_share:g} is no share of a tile", advice="Give one above 0, up to 1"
        )
    found: list[Selection] = []
    height, width = grid.shape
    for y in range(0, height, side):
        for x in range(0, width, side):
            if cancel is not None and cancel.is_set():
                raise CancelledError
            box = PixelBox(y, x, min(y + side, height), min(x + side, width))
            if share(box) >= least_share:
                found.append(Selection(grid.shape, _BoxMasks(box, grid.shape)))
            if len(found) > MOST_REGIONS:
                raise InputError(
                    f"There would be more than {MOST_REGIONS:,} tiles",
                    advice="Choose a larger side",
                )
        if progress is not None:
            progress(min(1.0, (y + side) / height))
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


def analysed_share(composite: Composite, box: PixelBox) -> float:
    """The share of a box that was analysed, unreadable parts with it.

    Neither skipped (253) nor not run (255), seen on a level that is fine enough.
    """
    level, last = 0, len(composite.levels) - 1
    while level < last and min(box.height, box.width) >> (level + 1) >= _ENOUGH:
        level += 1
    y, x = box.y0 >> level, box.x0 >> level
    height, width = -(-box.y1 >> level) - y, -(-box.x1 >> level) - x
    values = composite.read(y, x, height, width, level)
    return float(np.mean((values != SKIPPED) & (values != NOT_RUN)))
