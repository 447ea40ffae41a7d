"""Small pictures for the overview; workers make them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from napari_hspnet._qt.style import OverlayStyle, value_table
from napari_hspnet.cases import Composite
from napari_hspnet.classes import CLASSES
from napari_hspnet.slides import Slide

__all__ = ["overlay_picture", "slide_picture", "worst_of_blocks"]

_SIDE = 560
_MOST_PIXELS = 40_000_000


def slide_picture(slide: Slide) -> npt.NDArray[np.uint8] | None:
    """The slide, (h, w, 3); None where only a huge level could tell.

    Raises
    ------
    SlideReadError
        If the level cannot be read.
    """
    from PIL import Image

    level = len(slide.info.levels) - 1
    height, width = slide.info.levels[level].shape
    if height * width > _MOST_PIXELS:
        return None
    mpp_y, mpp_x = slide.info.mpp or (1.0, 1.0)
    pixels = Image.fromarray(slide.read_level(level, 0, 0, height, width))
    # A pixel may be wider than it is high; the picture's are square.
    factor = max(height * mpp_y, width * mpp_x) / _SIDE
    size = (max(1, round(width * mpp_x / factor)), max(1, round(height * mpp_y / factor)))
    return np.asarray(pixels.resize(size, Image.Resampling.BOX))


def overlay_picture(composite: Composite, style: OverlayStyle) -> npt.NDArray[np.uint8]:
    """The overlay of the whole slide, (h, w, 4): of each block the worst class.

    A small focus of a high grade is what one looks for, so it must not be
    averaged away.
    """
    level = len(composite.levels) - 1
    step = 1 << level
    rows, columns = (math.ceil(side / step) for side in composite.grid.shape)
    values = value_table(style)[composite.read(0, 0, rows, columns, level)]
    worst = worst_of_blocks(values, max(1, math.ceil(max(values.shape) / _SIDE)))
    table = np.zeros((256, 4), np.uint8)
    for c in CLASSES:
        table[c.value] = (*style.colours.colours[c.value], 150)
    return np.asarray(table[worst])


def worst_of_blocks(values: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """The highest value of each block of `side` x `side` pixels, (h, w) rounded up."""
    height, width = values.shape
    padded = np.zeros((-(-height // side) * side, -(-width // side) * side), values.dtype)
    padded[:height, :width] = values
    blocks = padded.reshape(padded.shape[0] // side, side, -1, side)
    return np.asarray(blocks.max(axis=(1, 3)))
