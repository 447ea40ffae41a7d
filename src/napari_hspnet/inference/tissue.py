"""Where there is tissue, decided from the slide alone, window by window.

A window that is left out is a lesion that nobody sees, so the mask errs on the
side of tissue: thresholds are absolute and local, so that pen or blood in one
place cannot move them in another, and a few pixels of tissue suffice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from napari_hspnet.errors import SlideReadError
from napari_hspnet.slides.grid import LabelGrid

__all__ = ["TISSUE_MPP", "TissueMap", "tissue_pixels"]

TISSUE_MPP = 8.0
"""µm per pixel of the mask."""

MIN_PIXELS = 4
"""Mask pixels (256 µm²) that make a window worth running."""

_TILE = 512
_CHROMA = 0.02
_DENSITY = 0.10
_BLACK = 48

ReadGrid = Callable[[int, int, int, int, float], npt.NDArray[np.uint8]]


def tissue_pixels(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Which pixels show tissue.

    Stained tissue absorbs green most (both haematoxylin and eosin do): a pixel is
    tissue where its optical densities differ by `_CHROMA` or average `_DENSITY`,
    unless it is black (padding, marker) or absorbs red far more than green (green
    and blue ink).

    Parameters
    ----------
    rgb : ndarray of uint8, (h, w, 3)
        At about 8 µm per pixel.

    Returns
    -------
    ndarray of bool, (h, w)
    """
    table = -np.log10((np.arange(256) + 1.0) / 256.0).astype(np.float32)
    density = table[rgb]
    red, green = density[..., 0], density[..., 1]
    chroma = density.max(axis=-1) - density.min(axis=-1)
    stained = (chroma > _CHROMA) | (density.mean(axis=-1) > _DENSITY)
    ink = red > 1.5 * green + 0.15
    black = rgb.max(axis=-1) < _BLACK
    return np.asarray(stained & ~ink & ~black)


class TissueMap:
    """The tissue mask of one slide, read where and when it is asked for.

    Parameters
    ----------
    read_grid : callable
        ``Slide.read_grid``.
    grid : LabelGrid
        The slide's label grid.
    """

    def __init__(self, read_grid: ReadGrid, grid: LabelGrid) -> None:
        self._read_grid = read_grid
        self._grid = grid
        self._tiles: dict[tuple[int, int], npt.NDArray[np.bool_]] = {}
        self._lock = threading.Lock()

    def gate(self, y: int, window: int, xs: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        """Which of the windows at row `y` and columns `xs` hold tissue.

        Parameters
        ----------
        y, window : int
            First row and side, in label pixels.
        xs : ndarray of intp, (n,)
            First columns.

        Returns
        -------
        ndarray of bool, (n,)
        """
        scale = self._grid.mpp / TISSUE_MPP
        y0, y1 = int(np.floor(y * scale)), int(np.ceil((y + window) * scale))
        left = np.floor(xs * scale).astype(np.intp)
        right = np.ceil((xs + window) * scale).astype(np.intp)
        x0, x1 = int(left.min()), int(right.max())
        columns = np.zeros(x1 - x0 + 1, dtype=np.int64)
        np.cumsum(self.read(y0, x0, y1 - y0, x1 - x0).sum(axis=0), out=columns[1:])
        found: npt.NDArray[np.bool_] = columns[right - x0] - columns[left - x0] >= MIN_PIXELS
        return found

    def read(self, y: int, x: int, height: int, width: int) -> npt.NDArray[np.bool_]:
        """A piece of the mask, in its own pixels of `TISSUE_MPP` µm."""
        out = np.zeros((height, width), dtype=bool)
        for ty in range(y // _TILE, (y + height - 1) // _TILE + 1):
            for tx in range(x // _TILE, (x + width - 1) // _TILE + 1):
                ys = slice(max(y, ty * _TILE), min(y + height, (ty + 1) * _TILE))
                xs = slice(max(x, tx * _TILE), min(x + width, (tx + 1) * _TILE))
                out[ys.start - y : ys.stop - y, xs.start - x : xs.stop - x] = self._tile(ty, tx)[
                    ys.start - ty * _TILE : ys.stop - ty * _TILE,
                    xs.start - tx * _TILE : xs.stop - tx * _TILE,
                ]
        return out

    def _tile(self, ty: int, tx: int) -> npt.NDArray[np.bool_]:
        with self._lock:
            if (ty, tx) not in self._tiles:
                try:
                    rgb = self._read_grid(ty * _TILE, tx * _TILE, _TILE, _TILE, TISSUE_MPP)
                    mask = tissue_pixels(rgb)
                except SlideReadError:
                    # Not known to be glass: the engine meets the error itself and
                    # names its place.
                    mask = np.ones((_TILE, _TILE), dtype=bool)
                self._tiles[ty, tx] = mask
            return self._tiles[ty, tx]
