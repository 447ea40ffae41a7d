"""Decoded chunks, the most recently used kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

import numpy as np
import numpy.typing as npt

__all__ = ["ChunkCache"]

Array = npt.NDArray[np.uint8]


class ChunkCache:
    """A bounded map from keys to chunks (None for an empty one); thread-safe.

    Parameters
    ----------
    limit : int
        Bytes kept at most.
    """

    def __init__(self, limit: int = 64 << 20) -> None:
        self._limit = limit
        self._held = 0
        self._chunks: OrderedDict[Hashable, Array | None] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, key: Hashable) -> tuple[bool, Array | None]:
        """Whether the key is held, and its chunk."""
        with self._guard:
            if key not in self._chunks:
                return False, None
            self._chunks.move_to_end(key)
            return True, self._chunks[key]

    def put(self, key: Hashable, chunk: Array | None) -> None:
        """Keep a chunk; the least recently used ones make room."""
        with self._guard:
            self._drop(key)
            self._chunks[key] = chunk
            self._held += _weight(chunk)
            while self._held > self._limit and len(self._chunks) > 1:
                self._drop(next(iter(self._chunks)))

    def drop(self, key: Hashable) -> None:
        """Forget a chunk that has changed."""
        with self._guard:
            self._drop(key)

    def clear(self) -> None:
        """Forget all."""
        with self._guard:
            self._chunks.clear()
            self._held = 0

    def _drop(self, key: Hashable) -> None:
        if key in self._chunks:
            self._held -= _weight(self._chunks.pop(key))


def _weight(chunk: Array | None) -> int:
    # An empty one still costs its key.
    return 256 if chunk is None else chunk.nbytes
