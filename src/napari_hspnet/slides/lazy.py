"""Read-only arrays whose pixels are made when they are asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["LazyLabels"]


class LazyLabels(ABC):
    """A read-only array-like of uint8, (height, width), as napari and dask take it.

    Indexing with integers and slices (any step) reads the smallest box that
    holds what is asked.

    Parameters
    ----------
    shape : tuple of int
        (height, width).
    """

    dtype = np.dtype(np.uint8)
    ndim = 2

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape

    @abstractmethod
    def _read(self, y: int, x: int, height: int, width: int) -> npt.NDArray[np.uint8]:
        """The pixels of a box inside the array, of no zero side."""

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes that it would take in memory."""
        return self.size

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("the pixels are computed, so a copy is made")
        return np.asarray(self[:, :], dtype=dtype)

    def __getitem__(self, index: Any) -> Any:
        picks = index if isinstance(index, tuple) else (index,)
        if Ellipsis in picks:
            at = picks.index(Ellipsis)
            missing = 3 - len(picks)
            picks = picks[:at] + (slice(None),) * missing + picks[at + 1 :]
        picks += (slice(None),) * (2 - len(picks))
        if len(picks) != 2:
            raise IndexError(f"2 indices at most, not {len(picks)}")
        spans = [_span(pick, size) for pick, size in zip(picks, self.shape, strict=True)]
        (y, height, rows), (x, width, columns) = spans
        if height == 0 or width == 0:
            box = np.zeros((height, width), np.uint8)
        else:
            box = self._read(y, x, height, width)
        return box[rows, columns]


def _span(pick: Any, size: int) -> tuple[int, int, int | slice]:
    """First pixel and how many to read, and what to pick of them."""
    if not isinstance(pick, slice):
        at = int(pick.__index__())
        if not -size <= at < size:
            raise IndexError(f"{at} is out of bounds for {size} pixels")
        return at % size, 1, 0
    chosen = range(*pick.indices(size))
    if not chosen:
        return 0, 0, slice(None)
    low, high = min(chosen[0], chosen[-1]), max(chosen[0], chosen[-1])
    return low, high - low + 1, slice(None, None, chosen.step)
