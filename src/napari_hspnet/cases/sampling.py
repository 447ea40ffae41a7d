"""Levels of label arrays, sampled at pixel centres.

Pixel i of level k is pixel ``i * 2**k + 2**(k - 1)`` of level 0 (the last one
clipped to the array), so class values are never mixed, and choosing between runs
or corrections gives the same result before and after down-sampling.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["COARSEST", "level_count", "level_shape", "padded_shape", "sample", "sampled_span"]

COARSEST = 1024
"""Largest side, in pixels, of the coarsest level."""


def level_shape(shape: tuple[int, int], level: int) -> tuple[int, int]:
    """(height, width) of a level: the base's divided by ``2**level``, rounded up."""
    return _up(shape[0], level), _up(shape[1], level)


def _up(size: int, level: int) -> int:
    return -(-size // (1 << level))


def level_count(shape: tuple[int, int]) -> int:
    """How many levels, the base counted, until the largest side is `COARSEST` or less."""
    count = 1
    while max(level_shape(shape, count - 1)) > COARSEST:
        count += 1
    return count


def padded_shape(shape: tuple[int, int], level: int) -> tuple[int, int]:
    """A level's shape when level 0 is padded so that all ratios are powers of two.

    napari derives level factors from the shapes, so rounded ones would shift
    the coarse levels against the slide.
    """
    coarsest = level_count(shape) - 1
    factor = 1 << (coarsest - level)
    height, width = level_shape(shape, coarsest)
    return height * factor, width * factor


def sampled_span(start: int, stop: int, size: int, level: int) -> tuple[int, int]:
    """Which pixels of `level` sample the pixels ``[start, stop)`` of level 0.

    Parameters
    ----------
    start, stop : int
        Half-open range on level 0.
    size : int
        Level 0's length along this axis.
    level : int
        The level asked for.

    Returns
    -------
    (int, int)
        Half-open range on that level, empty where none does.
    """
    if level == 0:
        return start, stop
    step, half = 1 << level, 1 << (level - 1)
    first = max(0, -(-(start - half) // step))
    last = _up(size, level) if stop >= size else max(0, -(-(stop - half) // step))
    return first, max(first, last)


def sample(
    values: npt.NDArray[Any], y: int, x: int, shape: tuple[int, int], level: int
) -> tuple[int, int, npt.NDArray[Any]]:
    """The pixels of a level that a block of level 0 decides.

    Parameters
    ----------
    values : ndarray (h, w)
        The block.
    y, x : int
        Where its first pixel lies on level 0.
    shape : tuple of int
        Level 0's shape.
    level : int
        The level asked for.

    Returns
    -------
    (int, int, ndarray)
        First row and column on that level, and the values there.
    """
    if level == 0:
        return y, x, values
    rows = sampled_span(y, y + values.shape[0], shape[0], level)
    columns = sampled_span(x, x + values.shape[1], shape[1], level)
    return (
        rows[0],
        columns[0],
        values[_picked(rows, y, shape[0], level)][:, _picked(columns, x, shape[1], level)],
    )


def _picked(span: tuple[int, int], start: int, size: int, level: int) -> Any:
    step, half = 1 << level, 1 << (level - 1)
    first, last = span
    if last == first:
        return slice(0, 0)
    if (last - 1) * step + half < size:
        begin = first * step + half - start
        return slice(begin, begin + (last - first - 1) * step + 1, step)
    return np.minimum(np.arange(first, last) * step + half, size - 1) - start
