"""Zarr and numcodecs, imported by one thread at a time.

Each imports parts of the other. Two threads that begin at once, one with each, see
halves of them, and one gets a `KeyError` from inside Python's import system.
"""

from __future__ import annotations

import threading
from typing import Any

__all__ = ["import_zarr", "import_zstd"]

_IMPORTING = threading.Lock()


def import_zarr() -> Any:
    """The module zarr, with its codecs."""
    with _IMPORTING:
        import zarr
        import zarr.codecs

        return zarr


def import_zstd() -> Any:
    """The class `numcodecs.zstd.Zstd`."""
    with _IMPORTING:
        from numcodecs.zstd import Zstd

        return Zstd
