"""A tiled BigTIFF whose tiles may share their bytes.

tifffile writes every tile anew; here several tiles of a page may point to the
same bytes, so that a slide that is mostly glass stays small.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import blake2b
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

__all__ = ["DEFLATE", "JPEG", "Page", "Ref", "TiledTiff"]

JPEG, DEFLATE = 7, 8

Ref = tuple[int, int]
"""Offset and length of a tile's bytes in the file."""

_SHORT, _LONG, _RATIONAL, _ASCII, _LONG8 = 3, 4, 5, 2, 16


@dataclass
class Page:
    """One resolution: its size, and the bytes of its tiles in row order.

    Attributes
    ----------
    shape : tuple of int
        (height, width) in pixels.
    channels : int
        3 (RGB) or 1.
    compression : int
        `JPEG` (YCbCr) or `DEFLATE`.
    tile : int
        Side of a tile, a multiple of 16.
    mpp : float
        µm per pixel.
    description : str
        ASCII, may be empty.
    reduced : bool
        Whether it is a lower resolution of the first page.
    subsampling : int
        Of JPEG's colour, in both directions: 2, or 1 for none.
    """

    shape: tuple[int, int]
    channels: int
    compression: int
    tile: int
    mpp: float
    description: str = ""
    reduced: bool = False
    subsampling: int = 2
    offsets: npt.NDArray[np.uint64] = field(init=False)
    lengths: npt.NDArray[np.uint64] = field(init=False)

    def __post_init__(self) -> None:
        self.grid = -(-self.shape[0] // self.tile), -(-self.shape[1] // self.tile)
        self.offsets = np.zeros(self.grid, np.uint64)
        self.lengths = np.zeros(self.grid, np.uint64)

    def put(self, row: int, col: int, ref: Ref) -> None:
        """Say where a tile's bytes lie."""
        self.offsets[row, col], self.lengths[row, col] = ref


class TiledTiff:
    """Writes tiles as they come and the directories at the end.

    Parameters
    ----------
    file : binary file
        Open for writing, seekable, empty.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._known: dict[bytes, Ref] = {}
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
        self._at = 16

    def add(self, data: bytes) -> Ref:
        """Write bytes unless the same were written before."""
        key = blake2b(data, digest_size=16).digest()
        ref = self._known.get(key)
        if ref is None:
            ref = self._known[key] = (self._append(data), len(data))
        return ref

    def finish(self, pages: Sequence[Page]) -> int:
        """Write the directories; every tile of every page must have been put.

        Returns
        -------
        int
            Bytes in the file.
        """
        link = 8
        for page in pages:
            if not page.lengths.all():
                raise RuntimeError("a page of the phantom has tiles that were never written")
            entries = [self._entry(*tag) for tag in _tags(page)]
            start = self._append(struct.pack("<Q", len(entries)) + b"".join(entries) + bytes(8))
            self._file.seek(link)
            self._file.write(struct.pack("<Q", start))
            self._file.seek(self._at)
            link = start + 8 + 20 * len(entries)
        return self._at

    def _append(self, data: bytes) -> int:
        start = self._at
        padded = data + bytes(-len(data) % 16)
        self._file.write(padded)
        self._at += len(padded)
        return start

    def _entry(self, tag: int, kind: int, count: int, value: bytes) -> bytes:
        if len(value) > 8:
            value = struct.pack("<Q", self._append(value))
        return struct.pack("<HHQ", tag, kind, count) + value.ljust(8, b"\0")


def _tags(page: Page) -> list[tuple[int, int, int, bytes]]:
    height, width = page.shape
    rgb, jpeg = page.channels == 3, page.compression == JPEG
    density = Fraction(1e4 / page.mpp).limit_denominator(10_000)
    resolution = struct.pack("<II", density.numerator, density.denominator)

    def short(tag: int, *values: int) -> tuple[int, int, int, bytes]:
        return tag, _SHORT, len(values), struct.pack(f"<{len(values)}H", *values)

    def long(tag: int, value: int) -> tuple[int, int, int, bytes]:
        return tag, _LONG, 1, struct.pack("<I", value)

    tags = [
        long(254, int(page.reduced)),
        long(256, width),
        long(257, height),
        short(258, *[8] * page.channels),
        short(259, page.compression),
        short(262, 6 if jpeg else 2 if rgb else 1),
        short(277, page.channels),
        (282, _RATIONAL, 1, resolution),
        (283, _RATIONAL, 1, resolution),
        short(284, 1),
        short(296, 3),
        long(322, page.tile),
        long(323, page.tile),
        (324, _LONG8, page.offsets.size, page.offsets.astype("<u8").tobytes()),
        (325, _LONG8, page.lengths.size, page.lengths.astype("<u8").tobytes()),
    ]
    if jpeg:
        tags.append(short(530, page.subsampling, page.subsampling))
    if page.description:
        text = page.description.encode("ascii") + b"\0"
        tags.append((270, _ASCII, len(text), text))
    return sorted(tags)
