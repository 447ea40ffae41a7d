"""Levels of a slide, each the area average of the one before."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from napari_hspnet.phantom.bank import STEP
from napari_hspnet.phantom.bigtiff import Page, TiledTiff
from napari_hspnet.phantom.layout import TILE
from napari_hspnet.phantom.tissue import shrink

__all__ = ["build_levels"]

Image = npt.NDArray[np.uint8]


def build_levels(
    tiff: TiledTiff,
    pages: Sequence[Page],
    leaf: Callable[[int, int], Image | None],
    plain: Image,
    encode: Callable[[Image], bytes],
    step: Callable[[], None],
) -> None:
    """Write tiles of some levels, each with all that lie under it before it.

    Parameters
    ----------
    tiff : TiledTiff
    pages : sequence of Page
        From the finest; may be none.
    leaf : callable
        A tile (row, col) of the finest; None where it is glass alone.
    plain : ndarray of uint8, (TILE, TILE, 3)
        Glass alone.
    encode : callable
        Pixels to bytes.
    step : callable
        Called after every tile.
    """
    if not pages:
        return
    blank = tiff.add(encode(plain))

    def visit(level: int, row: int, col: int) -> Image | None:
        page = pages[level]
        if row >= page.grid[0] or col >= page.grid[1]:
            return None
        tile = None
        if level == 0:
            tile = leaf(row, col)
        else:
            below = [
                [visit(level - 1, row * STEP + i, col * STEP + j) for j in range(STEP)]
                for i in range(STEP)
            ]
            if any(t is not None for line in below for t in line):
                # One after the other: sixteen large tiles need not stay at once.
                tile = np.empty((TILE, TILE, 3), np.uint8)
                side = TILE // STEP
                for i, line in enumerate(below):
                    for j, part in enumerate(line):
                        tile[i * side : (i + 1) * side, j * side : (j + 1) * side] = shrink(
                            plain if part is None else part, STEP
                        )
        page.put(row, col, blank if tile is None else tiff.add(encode(tile)))
        step()
        return tile

    for row in range(pages[-1].grid[0]):
        for col in range(pages[-1].grid[1]):
            visit(len(pages) - 1, row, col)
