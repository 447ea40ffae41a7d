"""Noise and tiles fixed to absolute positions, and planes read at any µm per pixel.

All that reads does so pixel by pixel from absolute coordinates, so that blocks
of a section join exactly wherever it is cut.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["TILE_MPP", "Grid", "blobs", "crisp", "finer", "grain_tile", "red_cell_tile"]

Plane = npt.NDArray[np.float32]

TILE_MPP = 0.25
"""µm per pixel of all tiles."""


def blobs(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> Plane:
    """Smooth noise of about unit deviation and `scale` pixels correlation.

    Parameters
    ----------
    rng : numpy Generator
    shape : tuple of int
    scale : float
        Pixels of the result from one free value to the next.

    Returns
    -------
    ndarray of float32, `shape`
    """
    from PIL import Image as Pillow

    small = (max(3, math.ceil(shape[0] / scale) + 2), max(3, math.ceil(shape[1] / scale) + 2))
    noise = Pillow.fromarray(rng.standard_normal(small).astype(np.float32))
    # The same spacing both ways, whatever the shape's sides.
    box = (0.5, 0.5, 0.5 + shape[1] / scale, 0.5 + shape[0] / scale)
    box = (*box[:2], min(box[2], small[1]), min(box[3], small[0]))
    big = noise.resize((shape[1], shape[0]), Pillow.Resampling.BICUBIC, box=box)
    return np.asarray(big, dtype=np.float32) * np.float32(1.3)


def grain_tile(rng: np.random.Generator, side: int = 1024) -> Plane:
    """Periodic granular noise at two scales, zero mean and unit deviation.

    Returns
    -------
    ndarray of float32, (side, side), `TILE_MPP` µm per pixel
    """
    from scipy.ndimage import gaussian_filter

    fine = rng.standard_normal((side // 2, side // 2), dtype=np.float32)
    fine = gaussian_filter(fine, 1.5, mode="wrap", truncate=3)
    coarse = rng.standard_normal((side // 4, side // 4), dtype=np.float32)
    coarse = finer(gaussian_filter(coarse, 1.0, mode="wrap"), 4)
    both = 0.75 * np.tile(fine / fine.std(), (2, 2)) + 0.65 * coarse / coarse.std()
    return np.asarray(both / both.std(), dtype=np.float32)


def finer(plane: Plane, factor: int) -> Plane:
    """A periodic plane with `factor` pixels for one, bicubic."""
    from PIL import Image as Pillow

    wide = Pillow.fromarray(np.pad(plane, 4, mode="wrap"))
    size = (wide.width * factor, wide.height * factor)
    cut = slice(4 * factor, -4 * factor)
    return np.asarray(wide.resize(size, Pillow.Resampling.BICUBIC), np.float32)[cut, cut]


def red_cell_tile(rng: np.random.Generator, side: int = 256) -> Plane:
    """Periodic packing of red cells, 6 to 7 µm wide: 0 between them to 1.

    Returns
    -------
    ndarray of float32, (side, side), `TILE_MPP` µm per pixel
    """
    from scipy.spatial import cKDTree

    span = side * TILE_MPP
    step = 6.2
    count = int(span / step)
    grid = (np.stack(np.meshgrid(*2 * [np.arange(count)], indexing="ij"), -1) + 0.5) * span / count
    grid = (grid + rng.uniform(-1.7, 1.7, grid.shape)).reshape(-1, 2) % span
    there = grid[rng.random(grid.shape[0]) < 0.9]
    axis = (np.arange(side) + 0.5) * TILE_MPP
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    far, which = cKDTree(there, boxsize=span).query(points, distance_upper_bound=5.0)
    radius = np.append(rng.uniform(2.8, 3.5, there.shape[0]), 0.0)[which]
    tone = np.append(rng.uniform(0.75, 1.1, there.shape[0]), 0.0)[which]
    # Paler in the middle, where the disc is thin.
    disc = np.clip((radius - far) / 0.6 + 0.5, 0, 1) * (0.8 + 0.2 * np.clip(far / 2.6, 0, 1))
    disc[~np.isfinite(disc)] = 0.0
    return np.asarray((disc * tone).reshape(side, side), dtype=np.float32)


def crisp(field: Plane, soft: float) -> Plane:
    """Share of a pixel inside a border, from the signed distance to it in µm.

    Parameters
    ----------
    field : ndarray of float32
        Positive inside.
    soft : float
        µm over which the border fades.
    """
    out = field * np.float32(1 / soft)
    out += np.float32(0.5)
    return np.clip(out, 0, 1, out=out)


def _ends(
    start: int, count: int, mpp: float, limit: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Plane]:
    at = (np.arange(start, start + count) + 0.5) * mpp - 0.5
    low = np.floor(at)
    share = (at - low).astype(np.float32)
    first = np.clip(low, 0, limit - 1).astype(np.intp)
    second = np.clip(low + 1, 0, limit - 1).astype(np.intp)
    return first, second, share


@dataclass(frozen=True)
class Grid:
    """The pixels of a block: where to read planes and tiles.

    Attributes
    ----------
    y, x : int
        First pixel, in pixels of `mpp` µm from the canvas's corner.
    height, width : int
    mpp : float
        µm per pixel.
    """

    y: int
    x: int
    height: int
    width: int
    mpp: float

    def plane(self, plane: Plane) -> Plane:
        """A plane of 1 µm per pixel, bilinear; its border pixels go on.

        Parameters
        ----------
        plane : ndarray of float32, (rows, columns)

        Returns
        -------
        ndarray of float32, (height, width)
        """
        top, bottom, down = _ends(self.y, self.height, self.mpp, plane.shape[0])
        left, right, across = _ends(self.x, self.width, self.mpp, plane.shape[1])
        low, high = int(left.min()), int(right.max()) + 1
        part = plane[:, low:high]
        rows = part[top]
        if down.any():
            rows = rows + (part[bottom] - rows) * down[:, None]
        out = np.take(rows, left - low, axis=1)
        if across.any():
            out += (np.take(rows, right - low, axis=1) - out) * across
        return out

    def tile(self, tile: Plane, shift: tuple[int, int] = (0, 0)) -> Plane:
        """A periodic tile of `TILE_MPP` at the block's pixels, (height, width)."""
        rows = self._steps(self.y, self.height) + shift[0]
        cols = self._steps(self.x, self.width) + shift[1]
        picked = np.take(tile[rows % tile.shape[0]], cols % tile.shape[1], axis=1)
        return np.asarray(picked, dtype=np.float32)

    def _steps(self, start: int, count: int) -> npt.NDArray[np.intp]:
        at = (np.arange(start, start + count) + 0.5) * (self.mpp / TILE_MPP)
        # Just below a whole number for whole ratios: never on the edge of rounding.
        return np.asarray(np.floor(at - 0.01), dtype=np.intp)
