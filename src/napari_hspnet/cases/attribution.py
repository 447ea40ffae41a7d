"""Whose corrections stand, pixel by pixel."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases.corrections import UNTOUCHED
from napari_hspnet.cases.journal import Journal, PackedTile
from napari_hspnet.cases.selection import Place, chunk_box

__all__ = ["Attribution", "Readers"]

Readers = npt.NDArray[np.unsignedinteger[Any]]
"""For each pixel the place of its reader in `Attribution.readers`, from 1; 0 for nobody."""


class Attribution:
    """Who said what stands at each label pixel.

    A pixel belongs to who changed it last. Where that gave it back to the prediction
    no correction stands, and it belongs to nobody; who painted the value that was
    there already changed nothing.

    Parameters
    ----------
    journal : Journal
        The case's.
    standing : set of int
        Numbers of the edits that count, as `CaseSnapshot.standing`.
    shape : tuple of int
        The label grid's.

    Attributes
    ----------
    readers : tuple of str
        In the order of their first edits that count.
    places : frozenset of (int, int)
        The chunks that may hold corrections; no other does.

    Raises
    ------
    CaseError
        If the journal is damaged.
    """

    def __init__(self, journal: Journal, standing: Set[int], shape: tuple[int, int]) -> None:
        self._journal, self._shape = journal, shape
        readers: dict[str, int] = {}
        self._reader_of: dict[int, int] = {}
        if standing:
            for entry in journal.entries(until=max(standing)):
                if entry.seq in standing:
                    number = readers.setdefault(entry.reader, len(readers) + 1)
                    self._reader_of[entry.seq] = number
        self.readers = tuple(readers)
        self.places: frozenset[Place] = frozenset(journal.chunks() if standing else ())
        self._type = np.uint8 if len(readers) < 256 else np.uint16

    def chunk(self, row: int, col: int) -> Readers | None:
        """Whose corrections stand in a chunk of level 0; None where nobody's do.

        Returns
        -------
        ndarray of uint8, or of uint16 where there are more than 255 readers, or None
            (height, width) of the chunk, cut at the grid's end: 0 where no correction
            stands, else one more than the reader's place in `readers`.

        Raises
        ------
        CaseError
            If the journal is damaged.
        """
        if (row, col) not in self.places:
            return None
        box = chunk_box((row, col), self._shape)
        said: Readers = np.zeros((box.height, box.width), self._type)
        for seq in self._journal.touching(row, col):
            number = self._reader_of.get(seq)
            tile = None if number is None else self._journal.tile(seq, row, col)
            if number is not None and tile is not None:
                _take(said, tile, number)
        return said if said.any() else None


def _take(said: Readers, tile: PackedTile, number: int) -> None:
    before, after = tile.values(after=False), tile.values()
    part = said[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
    part[before != after] = number
    part[after == UNTOUCHED] = 0
