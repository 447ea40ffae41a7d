"""Windows' pixels: canonical tiles read ahead by threads, windows cut from them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import numpy.typing as npt

from napari_hspnet.errors import SlideReadError
from napari_hspnet.slides import GRID_TILE

__all__ = ["GridReader", "TileReader", "tiles_of_window"]

Key = tuple[int, int]


class GridReader(Protocol):
    """What the engine needs of a slide's pixels; `Slide` is one."""

    def read_grid(
        self, y: int, x: int, height: int, width: int, mpp: float
    ) -> npt.NDArray[np.uint8]: ...


def tiles_of_window(y: int, x: int, window: int) -> Iterator[Key]:
    """Indices of the canonical tiles that a window meets."""
    for ty in range(y // GRID_TILE, (y + window - 1) // GRID_TILE + 1):
        for tx in range(x // GRID_TILE, (x + window - 1) // GRID_TILE + 1):
            yield ty, tx


class TileReader:
    """Reads each canonical tile once, ahead of need, and forgets it when passed.

    Parameters
    ----------
    slide : GridReader
        Read from several threads at once.
    mpp : float
        µm per pixel of the label grid.
    threads : int
        Readers.
    skip_unreadable : bool
        Whether an unreadable tile becomes white and is remembered, instead of
        ending the run.
    """

    def __init__(self, slide: GridReader, mpp: float, threads: int, skip_unreadable: bool) -> None:
        self._slide = slide
        self._mpp = mpp
        self._skip = skip_unreadable
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="hspnet-read")
        self._tiles: dict[Key, Future[npt.NDArray[np.uint8]]] = {}
        self._unreadable: set[Key] = set()
        self._lock = threading.Lock()

    @property
    def unreadable(self) -> frozenset[Key]:
        """Tiles that could not be read so far."""
        with self._lock:
            return frozenset(self._unreadable)

    @property
    def held(self) -> int:
        """How many tiles are in memory, or on their way."""
        return len(self._tiles)

    def want(self, keys: Sequence[Key]) -> None:
        """Begin to read tiles that will be needed soon."""
        for key in keys:
            if key not in self._tiles:
                self._tiles[key] = self._pool.submit(self._read, key)

    def forget(self, above: int | None = None) -> None:
        """Drop the tiles of all tile rows above `above`, or all of them."""
        for key in [k for k in self._tiles if above is None or k[0] < above]:
            self._tiles.pop(key).cancel()

    def cut(self, y: int, x: int, window: int, out: npt.NDArray[np.uint8]) -> None:
        """Write a window's pixels into `out`, uint8 (window, window, 3).

        Raises
        ------
        SlideReadError
            Where a tile cannot be read and is not to be skipped.
        """
        for key in tiles_of_window(y, x, window):
            self.want([key])
            tile = self._tiles[key].result()
            top, left = key[0] * GRID_TILE, key[1] * GRID_TILE
            y0, y1 = max(y, top), min(y + window, top + GRID_TILE)
            x0, x1 = max(x, left), min(x + window, left + GRID_TILE)
            out[y0 - y : y1 - y, x0 - x : x1 - x] = tile[y0 - top : y1 - top, x0 - left : x1 - left]

    def __enter__(self) -> TileReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._tiles.clear()

    def _read(self, key: Key) -> npt.NDArray[np.uint8]:
        y, x = key[0] * GRID_TILE, key[1] * GRID_TILE
        try:
            return self._slide.read_grid(y, x, GRID_TILE, GRID_TILE, self._mpp)
        except SlideReadError:
            if not self._skip:
                raise
            with self._lock:
                self._unreadable.add(key)
            return np.full((GRID_TILE, GRID_TILE, 3), 255, dtype=np.uint8)
