"""A slide as napari shows it: lazy levels whose shape ratios are the true factors."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.errors import SlideReadError
from napari_hspnet.slides.factors import padded_shapes
from napari_hspnet.slides.slide import Slide
from napari_hspnet.slides.tiles import TileCache

__all__ = ["DisplayPyramid", "display_pyramid"]

Pixels = npt.NDArray[np.uint8]
OnError = Callable[[SlideReadError], None]

_CHUNK = 512
"""napari reads, and hands to the GPU, all chunks that the view touches."""

_LARGEST_TILE = 2048
_COARSE_ENOUGH = 64_000_000
_COARSEST = 16_000_000
_SHRINK = 4
_COMPUTED_TILE = 512
_COMPUTED_BYTES = 48 << 20


@dataclass(frozen=True)
class DisplayPyramid:
    """What a multiscale image layer needs.

    Attributes
    ----------
    levels : list of dask array, (H, W, 3) uint8
        Finest first, padded with white until shape ratios are the true factors.
    scale : tuple of float
        (y, x) µm per level-0 pixel; (1, 1) where it is unknown.
    translate : tuple of float
        ``scale / 2``: napari puts the centre of pixel 0 at the origin, we its
        corner.
    computed : int
        How many of the coarsest levels the file does not hold. Showing one
        reads all of the slide below it, which is slow on a large slide.
    """

    levels: list[Any]
    scale: tuple[float, float]
    translate: tuple[float, float]
    computed: int = 0


def display_pyramid(slide: Slide, on_error: OnError | None = None) -> DisplayPyramid:
    """A slide's levels as lazy dask arrays. No pixels are read.

    A tile that cannot be read shows as a hatched gap; the rest goes on. Where
    the coarsest level is still over 64 Mpx, coarser ones are computed when
    shown, since napari loads the coarsest level whole.

    Parameters
    ----------
    slide : Slide
        An open slide; it must stay open while the levels are shown.
    on_error : callable, optional
        Called once for each tile that cannot be read, from the reading thread.
    """
    import dask.array as da

    info = slide.info
    shapes = [level.shape for level in info.levels]
    factors = [level.downsample for level in info.levels]
    computed = 0
    if math.prod(shapes[-1]) > _COARSE_ENOUGH:
        while math.prod(shapes[-1]) > _COARSEST:
            height, width = shapes[-1]
            shapes.append((math.ceil(height / _SHRINK), math.ceil(width / _SHRINK)))
            factors.append((factors[-1][0] * _SHRINK, factors[-1][1] * _SHRINK))
            computed += 1
    sources: list[_Source] = []
    for index, shape in enumerate(padded_shapes(shapes, factors)):
        if index < len(info.levels):
            sources.append(_Stored(slide, index, shape, on_error))
        else:
            sources.append(_Computed(sources[-1], shape))
    levels = [
        # name=False: hashing the source would be slow and could read pixels.
        da.from_array(
            source,
            chunks=(*source.chunk, 3),
            name=False,
            inline_array=True,
            meta=np.empty((0, 0, 0), np.uint8),
        )
        for source in sources
    ]
    scale = info.mpp or (1.0, 1.0)
    return DisplayPyramid(levels, scale, (scale[0] / 2, scale[1] / 2), computed)


class _Source:
    """An array-like of (H, W, 3) uint8 that reads what is indexed.

    Dask hands down the part of a chunk that is wanted, not the whole chunk.
    """

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, shape: tuple[int, int], chunk: tuple[int, int]) -> None:
        self.shape = (*shape, 3)
        self.chunk = chunk

    def __getitem__(self, key: Any) -> Any:
        keys = (*key, slice(None), slice(None), slice(None))[:3]
        (y0, y1, rows), (x0, x1, columns) = (
            _span(k, n) for k, n in zip(keys[:2], self.shape[:2], strict=True)
        )
        return self.box(y0, x0, y1 - y0, x1 - x0)[rows, columns, keys[2]]

    def box(self, y: int, x: int, height: int, width: int) -> Pixels:
        raise NotImplementedError


class _Stored(_Source):
    """A level of the file, with gaps where it cannot be read."""

    def __init__(
        self, slide: Slide, level: int, shape: tuple[int, int], on_error: OnError | None
    ) -> None:
        stored = slide.info.levels[level]
        super().__init__(shape, tuple(_chunk_side(side) for side in stored.tile))  # type: ignore[arg-type]
        self._slide, self._level, self._on_error = slide, level, on_error
        self._size = stored.shape
        self._tile = tuple(min(max(side, 64), _LARGEST_TILE) for side in stored.tile)
        self._bad: set[tuple[int, int]] = set()
        self._lock = threading.Lock()

    def box(self, y: int, x: int, height: int, width: int) -> Pixels:
        tiles = self._tiles(y, x, height, width)
        if not self._bad.intersection(tiles):
            try:
                return self._slide.read_level(self._level, y, x, height, width)
            except SlideReadError:
                pass  # one tile may be at fault: the others are shown
        out = np.full((height, width, 3), 255, np.uint8)
        for ty, tx in tiles:
            top, left = ty * self._tile[0], tx * self._tile[1]
            bottom = min(top + self._tile[0], self._size[0])
            right = min(left + self._tile[1], self._size[1])
            tile = self._tile_or_gap(ty, tx, top, left, bottom - top, right - left)
            y0, y1 = max(y, top), min(y + height, bottom)
            x0, x1 = max(x, left), min(x + width, right)
            out[y0 - y : y1 - y, x0 - x : x1 - x] = tile[y0 - top : y1 - top, x0 - left : x1 - left]
        return out

    def _tiles(self, y: int, x: int, height: int, width: int) -> list[tuple[int, int]]:
        """Tiles of the file that overlap a box, those beyond the slide left out."""
        bottom, right = min(y + height, self._size[0]), min(x + width, self._size[1])
        if bottom <= y or right <= x:
            return []
        return [
            (ty, tx)
            for ty in range(y // self._tile[0], (bottom - 1) // self._tile[0] + 1)
            for tx in range(x // self._tile[1], (right - 1) // self._tile[1] + 1)
        ]

    def _tile_or_gap(self, ty: int, tx: int, y: int, x: int, height: int, width: int) -> Pixels:
        if (ty, tx) not in self._bad:
            try:
                return self._slide.read_level(self._level, y, x, height, width)
            except SlideReadError as error:
                with self._lock:
                    first = (ty, tx) not in self._bad
                    self._bad.add((ty, tx))
                if first and self._on_error is not None:
                    self._on_error(error)
        return _gap(y, x, height, width)


class _Computed(_Source):
    """A level that the file lacks: means of 4 x 4 pixels of the level below."""

    def __init__(self, below: _Source, shape: tuple[int, int]) -> None:
        super().__init__(shape, (_CHUNK, _CHUNK))
        self._below = below
        self._tiles = TileCache(_COMPUTED_BYTES)

    def box(self, y: int, x: int, height: int, width: int) -> Pixels:
        out = np.full((height, width, 3), 255, np.uint8)
        side = _COMPUTED_TILE
        for ty in range(y // side, -((-y - height) // side)):
            for tx in range(x // side, -((-x - width) // side)):
                tile = self._tiles.get((ty, tx), partial(self._make, ty * side, tx * side))
                top, left = ty * side, tx * side
                y0, y1 = max(y, top), min(y + height, top + tile.shape[0])
                x0, x1 = max(x, left), min(x + width, left + tile.shape[1])
                out[y0 - y : y1 - y, x0 - x : x1 - x] = tile[
                    y0 - top : y1 - top, x0 - left : x1 - left
                ]
        return out

    def _make(self, top: int, left: int) -> Pixels:
        from PIL import Image

        height = min(_COMPUTED_TILE, self.shape[0] - top)
        width = min(_COMPUTED_TILE, self.shape[1] - left)
        source = np.full((height * _SHRINK, width * _SHRINK, 3), 255, np.uint8)
        part = self._below[
            top * _SHRINK : (top + height) * _SHRINK, left * _SHRINK : (left + width) * _SHRINK
        ]
        source[: part.shape[0], : part.shape[1]] = part
        return np.array(Image.fromarray(source).reduce(_SHRINK))


def _span(key: Any, size: int) -> tuple[int, int, Any]:
    """First and last-plus-one index that a key needs, and the key within them."""
    if isinstance(key, list | np.ndarray):
        wanted = np.arange(size)[np.asarray(key)]
        if wanted.size == 0:
            return 0, 0, slice(0, 0)
        return int(wanted.min()), int(wanted.max()) + 1, wanted - int(wanted.min())
    if not isinstance(key, slice):
        index = int(key) % size
        return index, index + 1, 0
    start, stop, step = key.indices(size)
    count = len(range(start, stop, step))
    if count == 0:
        return 0, 0, slice(0, 0)
    last = start + (count - 1) * step
    return min(start, last), max(start, last) + 1, slice(None, None, step)


def _chunk_side(tile: int) -> int:
    return _CHUNK // tile * tile if tile <= _CHUNK else _CHUNK


def _gap(y: int, x: int, height: int, width: int) -> Pixels:
    """Diagonal grey hatching, which no tissue looks like; continuous across tiles."""
    diagonal = np.add.outer(np.arange(y, y + height), np.arange(x, x + width)) % 24
    grey = np.where(diagonal < 5, 130, 222).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)
