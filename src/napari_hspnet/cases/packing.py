"""What an entry of the journal is made of on the disk: packed tiles, and hashes over all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases.codec import decoded, encoded
from napari_hspnet.cases.store import CHUNK
from napari_hspnet.errors import CaseError

__all__ = [
    "FIRST",
    "PackedTile",
    "canonical",
    "entry_hash",
    "pack_tile",
    "stored_tile",
    "tiles_hash",
]

Array = npt.NDArray[np.uint8]

FIRST = "0" * 64
"""What stands for the hash of the entry before the first."""


@dataclass(frozen=True)
class PackedTile:
    """What an entry changed in one chunk: a box of it, before and after.

    Attributes
    ----------
    row, col : int
        The chunk.
    y, x, height, width : int
        The box, in pixels of the chunk.
    before, after : bytes
        Its values, compressed. Values of corrections for an edit; for a region
        `after` is its mask and `before` is empty.
    part : int
        Which region of the entry; 0 for edits.
    """

    row: int
    col: int
    y: int
    x: int
    height: int
    width: int
    before: bytes
    after: bytes
    part: int = 0

    def values(self, after: bool = True) -> Array:
        """The box's values, (height, width), after the entry or before it.

        Raises
        ------
        CaseError
            If they are damaged.
        """
        try:
            raw = decoded(self.after if after else self.before)
            return np.frombuffer(raw, np.uint8).reshape(self.height, self.width)
        except (RuntimeError, ValueError, TypeError, MemoryError) as error:
            raise _damaged(str(error)) from error


def stored_tile(
    shape: tuple[int, int], place: tuple[int, int], stored: Sequence[Any], part: int = 0
) -> PackedTile:
    """A tile as the database has it.

    Parameters
    ----------
    shape : tuple of int
        The label grid's.
    place : tuple of int
        (row, column) of its chunk.
    stored : sequence
        y, x, height, width, before, after.
    part : int
        As in `PackedTile`.

    Raises
    ------
    CaseError
        If it lies in no chunk of the grid: then it is damaged.
    """
    y, x, height, width, before, after = stored
    sides = zip(place, (y, x), (height, width), shape, strict=True)
    if not (
        all(isinstance(n, int) for n in (*place, y, x, height, width))
        and all(
            number >= 0 and 0 <= at < at + size <= min(CHUNK, whole - number * CHUNK)
            for number, at, size, whole in sides
        )
        and isinstance(before, bytes)
        and isinstance(after, bytes)
    ):
        raise _damaged("it lies in no chunk")
    return PackedTile(*place, y, x, height, width, before, after, part)


def _damaged(how: str) -> CaseError:
    return CaseError(
        f"A tile of the journal is damaged ({how})",
        advice="`napari-hspnet case verify` says which entry it belongs to",
    )


def pack_tile(
    row: int, col: int, y: int, x: int, before: Array | None, after: Array, part: int = 0
) -> PackedTile:
    """Compress what an entry changes in one chunk."""
    return PackedTile(
        row,
        col,
        y,
        x,
        after.shape[0],
        after.shape[1],
        b"" if before is None else encoded(before),
        encoded(after),
        part,
    )


def canonical(body: Mapping[str, Any]) -> str:
    """An entry's body as the text that is stored and hashed."""
    text = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    # A name or comment from a terminal of another encoding can hold lone surrogates,
    # which neither SQLite nor a hash takes.
    return text.encode("utf-8", "replace").decode()


def tiles_hash(tiles: Iterable[PackedTile]) -> str:
    """SHA-256 over an entry's tiles, in the order of part, row and column."""
    digest = hashlib.sha256()
    for t in tiles:
        place = (t.part, t.row, t.col, t.y, t.x, t.height, t.width)
        digest.update(" ".join(map(str, place)).encode())
        digest.update(hashlib.sha256(t.before).digest())
        digest.update(hashlib.sha256(t.after).digest())
    return digest.hexdigest()


def entry_hash(
    previous: str, seq: int, time: str, reader: str, kind: str, body: str, tiles: str
) -> str:
    """SHA-256 of an entry, which binds it to the one before."""
    said = json.dumps([previous, seq, time, reader, kind, body, tiles], ensure_ascii=False)
    return hashlib.sha256(said.encode()).hexdigest()
