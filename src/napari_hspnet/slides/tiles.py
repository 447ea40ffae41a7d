"""A bounded store of tiles that were read lately."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np
import numpy.typing as npt

__all__ = ["TileCache"]


class TileCache:
    """Least recently used tiles, up to a number of bytes; safe between threads.

    Parameters
    ----------
    capacity : int
        Bytes of pixels to keep.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._tiles: OrderedDict[Hashable, npt.NDArray[np.uint8]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(
        self, key: Hashable, make: Callable[[], npt.NDArray[np.uint8]]
    ) -> npt.NDArray[np.uint8]:
        """The tile of that key, made where it is not kept; read-only.

        Two threads that ask for an absent tile at once both make it: the result
        is the same, and neither waits for the other's reading.
        """
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
                return tile
        tile = make()
        tile.flags.writeable = False
        with self._lock:
            if key not in self._tiles and tile.nbytes <= self.capacity:
                self._tiles[key] = tile
                self._bytes += tile.nbytes
                while self._bytes > self.capacity:
                    self._bytes -= self._tiles.popitem(last=False)[1].nbytes
        return tile

    def clear(self) -> None:
        """Forget all tiles."""
        with self._lock:
            self._tiles.clear()
            self._bytes = 0
