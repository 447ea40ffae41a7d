"""How chunks and tiles are compressed: zstd, as Zarr's codec of that name writes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.slides.importing import import_zarr, import_zstd

__all__ = ["LEVEL", "decoded", "encoded", "load"]

LEVEL = 1


def load() -> None:
    """Import what it needs, in a thread that can wait for it."""
    import_zarr()
    import_zstd()


def encoded(values: npt.NDArray[Any]) -> bytes:
    """Compress an array; the frame's checksum tells damage from values."""
    codec = import_zstd()(level=LEVEL, checksum=True)
    return bytes(codec.encode(np.ascontiguousarray(values)))


def decoded(packed: bytes) -> Any:
    """What `encoded` compressed, as a buffer.

    Raises
    ------
    RuntimeError, ValueError, TypeError, MemoryError
        If it is damaged.
    """
    return import_zstd()().decode(packed)
