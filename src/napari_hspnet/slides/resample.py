"""Pixels of the µm grid from the pixels of a stored level."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from napari_hspnet.slides.types import Level

__all__ = ["GRID_TILE", "LEVEL_TOLERANCE", "choose_level", "resample_tile"]

GRID_TILE = 512
"""Side of a canonical tile of the µm grid, in grid pixels."""

LEVEL_TOLERANCE = 1e-3
"""How much coarser than asked a level may be, relatively, to count as fine enough."""

_BLOCK = 2048

ReadLevel = Callable[[int, int, int, int], npt.NDArray[np.uint8]]


def choose_level(
    levels: Sequence[Level], mpp: tuple[float, float], target: float
) -> tuple[int, tuple[float, float]]:
    """The coarsest level that is finer than `target` µm/px or equal.

    A level coarser by up to `LEVEL_TOLERANCE` counts as equal, since µm/px is
    written with few digits; level 0 is taken where none is fine enough.

    Returns
    -------
    level : int
    step : tuple of float
        (y, x) level pixels per grid pixel.
    """
    best = 0
    for index, level in enumerate(levels):
        stored = max(mpp[0] * level.downsample[0], mpp[1] * level.downsample[1])
        if stored <= target * (1 + LEVEL_TOLERANCE):
            best = index
    factor = levels[best].downsample
    return best, (target / (mpp[0] * factor[0]), target / (mpp[1] * factor[1]))


def resample_tile(
    read: ReadLevel, ty: int, tx: int, step: tuple[float, float], side: int = GRID_TILE
) -> npt.NDArray[np.uint8]:
    """Grid tile (ty, tx), always read in the same way.

    Hamming-windowed (support: one output pixel either way) when shrinking,
    bilinear when enlarging. Where six or more level pixels go into one grid pixel
    they are first averaged by an integer, block by block, so that memory
    stays bounded however coarse the grid.

    Parameters
    ----------
    read : callable (y, x, height, width) -> (h, w, 3) uint8
        Pixels of the level, white outside it.
    ty, tx : int
        Tile indices; tile (0, 0) begins at the slide's origin.
    step : tuple of float
        (y, x) level pixels per grid pixel.
    side : int
        Tile side in grid pixels.
    """
    from PIL import Image

    tops = [t * side * s for t, s in zip((ty, tx), step, strict=True)]
    reduce = [max(1, int(s / 3)) for s in step]
    if all(abs(s - 1) < 1e-9 for s in step):
        return read(ty * side, tx * side, side, side)
    starts, counts = [], []
    for top, s, k in zip(tops, step, reduce, strict=True):
        margin = max(s, k) + 2 * k
        first = math.floor((top - margin) / k)
        starts.append(first)
        counts.append(math.ceil((top + side * s + margin) / k) - first)
    source = _reduced(read, starts, counts, reduce)
    box = [(top - first * k) / k for top, first, k in zip(tops, starts, reduce, strict=True)]
    size = [side * s / k for s, k in zip(step, reduce, strict=True)]
    shrinking = any(s / k > 1 for s, k in zip(step, reduce, strict=True))
    image = Image.fromarray(source).resize(
        (side, side),
        Image.Resampling.HAMMING if shrinking else Image.Resampling.BILINEAR,
        box=(box[1], box[0], box[1] + size[1], box[0] + size[0]),
    )
    return np.array(image)


def _reduced(
    read: ReadLevel, starts: list[int], counts: list[int], factor: list[int]
) -> npt.NDArray[np.uint8]:
    from PIL import Image

    ky, kx = factor
    if ky == kx == 1:
        return read(starts[0], starts[1], counts[0], counts[1])
    out = np.empty((counts[0], counts[1], 3), np.uint8)
    rows, columns = max(1, _BLOCK // ky), max(1, _BLOCK // kx)
    for y in range(0, counts[0], rows):
        for x in range(0, counts[1], columns):
            h, w = min(rows, counts[0] - y), min(columns, counts[1] - x)
            block = read((starts[0] + y) * ky, (starts[1] + x) * kx, h * ky, w * kx)
            out[y : y + h, x : x + w] = np.asarray(Image.fromarray(block).reduce((kx, ky)))
    return out
