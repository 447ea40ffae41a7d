"""Connected parts of coded pixels, found chunk by chunk over any box of a slide."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases.codec import decoded, encoded
from napari_hspnet.cases.selection import Place, chunk_box, chunks_of
from napari_hspnet.errors import CancelledError, InputError
from napari_hspnet.slides.region import PixelBox

__all__ = [
    "Parts",
    "Report",
    "borders",
    "check",
    "label",
    "pixels_from",
    "pixels_within",
    "unheld",
]

Array = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[Any]
"""Part of each pixel from 1, 0 for none, in the smallest unsigned type that holds them."""
Report = Callable[[float], None]

_ROUNDING = 1e-6
"""Of a pixel: 0.3 µm² at 0.1 µm are 30 pixels."""


def pixels_within(um2: float, mpp: float) -> int:
    """How many label pixels fit an area.

    Parameters
    ----------
    um2 : float
        In µm², zero or more.
    mpp : float
        µm per label pixel.

    Raises
    ------
    InputError
        If the area is negative or no number.
    """
    return math.floor(as_pixels(um2, mpp) + _ROUNDING)


def pixels_from(um2: float, mpp: float) -> int:
    return math.ceil(as_pixels(um2, mpp) - _ROUNDING)


def as_pixels(um2: float, mpp: float) -> float:
    if not (math.isfinite(um2) and um2 >= 0):
        raise InputError(f"{um2:g} µm² is no area", advice="Give a number of µm², zero or more")
    return um2 / mpp**2


@dataclass(frozen=True)
class Parts:
    """Connected parts of coded pixels, found chunk by chunk and kept compressed.

    Attributes
    ----------
    codes, pixels : ndarray of int, (parts,)
        What each one is, and its size; as met on the slide, row of chunks by row.
    places : tuple of (int, int)
        The chunks that hold some, row by row.
    """

    codes: npt.NDArray[np.int64]
    pixels: npt.NDArray[np.int64]
    places: tuple[Place, ...]
    _box: PixelBox
    _shape: tuple[int, int]
    _sheets: Mapping[Place, tuple[bytes, str, npt.NDArray[np.int64]]]

    @classmethod
    def of(
        cls,
        box: PixelBox,
        codes: Callable[[PixelBox], Array],
        wanted: Sequence[int],
        *,
        shape: tuple[int, int],
        least: int = 0,
        most: int | None = None,
        barred: Callable[[PixelBox], Mask] | None = None,
        diagonals: bool = False,
        places: Iterable[Place] | None = None,
        progress: Report | None = None,
        cancel: threading.Event | None = None,
    ) -> Parts:
        """Find them.

        Parameters
        ----------
        box : PixelBox
            Where, in label pixels; beyond it there is nothing.
        codes : callable (PixelBox) -> ndarray of uint8
            The code of each pixel of a box; asked once for every chunk.
        wanted : sequence of int
            The codes that count.
        shape : tuple of int
            The label grid's.
        least, most : int, optional
            Sizes in pixels, both included. Others are not kept.
        barred : callable (PixelBox) -> ndarray of bool, optional
            Pixels that no part kept may hold.
        diagonals : bool
            Whether pixels that meet at a corner are connected.
        places : iterable of (int, int), optional
            Chunks to look at, by default all that the box meets.
        progress, cancel
            As for `components`.
        """
        search = _Search(math.inf if most is None else most, least, diagonals)
        todo = sorted(chunks_of(box) if places is None else set(places))
        for number, place in enumerate(todo, start=1):
            check(cancel)
            part = chunk_box(place, shape).intersect(box)
            if part.height and part.width:
                search.take(place, codes(part), wanted, None if barred is None else barred(part))
            if progress is not None:
                progress(number / len(todo))
        kept, found, pixels = search.joined()
        sheets = {}
        for place, (packed, kind, nodes) in search.sheets.items():
            own = kept[nodes]
            if (own >= 0).any():
                sheets[place] = packed, kind, own
        return cls(found, pixels, tuple(sorted(sheets)), box, shape, sheets)

    def read(self, place: Place) -> npt.NDArray[np.int64]:
        """The number of the part that each pixel of a chunk belongs to, -1 for none.

        Returns
        -------
        ndarray of int64, (h, w)
            Of the chunk as far as it lies in the box; all -1 where it holds none.
        """
        part = chunk_box(place, self._shape).intersect(self._box)
        if place not in self._sheets:
            return np.full((part.height, part.width), -1, np.int64)
        labels, own = self._unpacked(place)
        return np.concatenate(([-1], own)).take(labels)

    def pieces(
        self, progress: Report | None = None, cancel: threading.Event | None = None
    ) -> Iterator[tuple[Place, PixelBox, int, Mask]]:
        """Each chunk's share of each part: chunk, box on the slide, part, mask of the box."""
        from scipy import ndimage

        for number, place in enumerate(self.places, start=1):
            check(cancel)
            labels, own = self._unpacked(place)
            names, merged = np.unique(own, return_inverse=True)
            joined = np.concatenate(([0], np.where(own < 0, 0, merged + 1))).take(labels)
            area = chunk_box(place, self._shape).intersect(self._box)
            for label, at in enumerate(ndimage.find_objects(joined), start=1):
                if at is not None:
                    y, x = area.y0 + at[0].start, area.x0 + at[1].start
                    mask = joined[at] == label
                    box = PixelBox(y, x, y + mask.shape[0], x + mask.shape[1])
                    yield place, box, int(names[label - 1]), mask
            if progress is not None:
                progress(number / len(self.places))

    def _unpacked(self, place: Place) -> tuple[Labels, npt.NDArray[np.int64]]:
        packed, kind, own = self._sheets[place]
        part = chunk_box(place, self._shape).intersect(self._box)
        labels = np.frombuffer(decoded(packed), kind)
        return labels.reshape(part.height, part.width), own


@dataclass
class _Search:
    """Parts of chunk after chunk, row by row, and which of them touch.

    A part that touches no border of its chunk has its size at once, so that only
    those of a size that may count are nodes of the graph that is joined at the end.
    """

    most: float
    least: int
    diagonals: bool
    sheets: dict[Place, tuple[bytes, str, npt.NDArray[np.int64]]] = field(default_factory=dict)
    _count: int = 0
    _nodes: list[npt.NDArray[np.int64]] = field(default_factory=list)
    _pairs: list[npt.NDArray[np.int64]] = field(default_factory=list)
    _sides: dict[Place, tuple[npt.NDArray[np.int64], ...]] = field(default_factory=dict)

    def take(self, place: Place, codes: Array, wanted: Sequence[int], barred: Mask | None) -> None:
        edges = borders(np.broadcast_to(np.int64(-1), codes.shape))
        kept = np.zeros(codes.shape, np.uint32)
        names: list[int] = []
        for code in wanted:
            mask = codes == code
            if not mask.any():
                continue
            labels, count = label(mask, self.diagonals)
            sizes = np.bincount(labels.ravel(), minlength=count + 1)
            shut = np.zeros(count + 1, bool)
            if barred is not None:
                shut[labels[barred]] = True
            own = borders(labels)
            node = (sizes >= self.least) & (sizes <= self.most) & ~shut
            for edge in own:
                node[edge] = True
            node[0] = False
            fresh = int(np.count_nonzero(node))
            name = np.full(count + 1, -1)
            name[node] = self._count + np.arange(fresh)
            self._count += fresh
            self._nodes.append(np.stack([np.full(count + 1, code), sizes, shut])[:, node])
            for edge, those in zip(edges, own, strict=True):
                np.maximum(edge, name[those], out=edge)
            # What is too large, or barred, already here need not be remembered.
            small = node & (sizes <= self.most) & ~shut
            brief = np.zeros(count + 1, np.uint32)
            brief[small] = len(names) + 1 + np.arange(np.count_nonzero(small))
            names += name[small].tolist()
            if small.any():
                kept += brief.take(labels)
        self._connect(place, edges)
        if names:
            kind = np.min_scalar_type(len(names))
            self.sheets[place] = encoded(kept.astype(kind)), kind.str, np.asarray(names)

    def _connect(self, place: Place, sides: tuple[npt.NDArray[np.int64], ...]) -> None:
        row, col = place
        top, _, _, left = sides
        self._sides[place] = sides
        for other, side, mine in (((row - 1, col), 2, top), ((row, col - 1), 1, left)):
            if other not in self._sides:
                continue
            theirs = self._sides[other][side]
            self._touch(theirs, mine)
            if self.diagonals:
                self._touch(theirs[:-1], mine[1:])
                self._touch(theirs[1:], mine[:-1])
        if self.diagonals:
            for step, theirs_at, at in ((-1, np.s_[-1:], np.s_[:1]), (1, np.s_[:1], np.s_[-1:])):
                above = self._sides.get((row - 1, col + step))
                if above is not None:
                    self._touch(above[2][theirs_at], top[at])

    def _touch(self, one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> None:
        pairs = np.stack([one, other])[:, (one >= 0) & (other >= 0)]
        new = np.ones(pairs.shape[1], bool)
        new[1:] = (pairs[:, 1:] != pairs[:, :-1]).any(axis=0)
        self._pairs.append(pairs[:, new])

    def joined(self) -> tuple[npt.NDArray[np.int64], ...]:
        """Part of each node (-1 where it is not kept); code and size of each part."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        nothing = np.zeros((3, 0), np.int64)
        code, size, shut = np.concatenate([nothing, *self._nodes], axis=1)
        one, other = np.concatenate([nothing[:2], *self._pairs], axis=1)
        if code.size == 0:
            return code, code, code
        same = code[one] == code[other]
        links = (np.ones(np.count_nonzero(same), bool), (one[same], other[same]))
        count, part = connected_components(
            coo_array(links, shape=(code.size, code.size)), directed=False
        )
        pixels = np.zeros(count, np.int64)
        np.add.at(pixels, part, size)
        keep = (pixels >= self.least) & (pixels <= self.most)
        keep[part[shut != 0]] = False
        codes = np.zeros(count, np.int64)
        codes[part] = code
        number = np.where(keep, np.cumsum(keep) - 1, -1)
        return number[part], codes[keep], pixels[keep]


def label(mask: Mask, diagonals: bool = False) -> tuple[Labels, int]:
    """Connected parts of a chunk, and how many."""
    from scipy import ndimage

    if mask.all():
        return mask.view(np.uint8), 1
    labels, count = ndimage.label(mask, np.ones((3, 3)) if diagonals else None)
    return labels.astype(np.min_scalar_type(count)), int(count)


def borders(labels: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
    """Copies of the upper, right, lower and left border."""
    return tuple(edge.copy() for edge in (labels[0], labels[:, -1], labels[-1], labels[:, 0]))


def unheld(mask: Mask) -> Mask:
    """A mask that is True throughout, without its memory."""
    return np.broadcast_to(np.True_, mask.shape)


def check(cancel: threading.Event | None) -> None:
    """Raise CancelledError if cancelled."""
    if cancel is not None and cancel.is_set():
        raise CancelledError
