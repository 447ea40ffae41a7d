"""Connected parts of the overlay, over the whole slide, chunk by chunk."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases.composite import Composite
from napari_hspnet.cases.sampling import level_count, level_shape
from napari_hspnet.cases.selection import Place, Selection, chunk_box, chunks_of
from napari_hspnet.cases.store import CHUNK
from napari_hspnet.classes import BACKGROUND, CIN3, NOT_RUN, SKIPPED, UNREADABLE
from napari_hspnet.errors import CancelledError, InputError
from napari_hspnet.slides.region import PixelBox

__all__ = [
    "Component",
    "Disagreement",
    "Parts",
    "Report",
    "check",
    "class_values",
    "component_at",
    "components",
    "disagreements",
    "pixels_within",
]

Array = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[Any]
"""Part of each pixel from 1, 0 for none, in the smallest unsigned type that holds them."""
Report = Callable[[float], None]

_EMPTY = {
    SKIPPED: "it was skipped as holding no tissue",
    UNREADABLE: "the slide could not be read",
    NOT_RUN: "no run covers it",
}
_STEPS = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""To the chunk above, right, below, left; the side opposite to i is i ^ 2."""

_ROUNDING = 1e-6
"""Of a pixel: 0.3 µm² at 0.1 µm are 30 pixels."""

_PAIR = 8
"""Codes a pair (said, predicted) as said * 8 + predicted."""


@dataclass(frozen=True)
class Component:
    """A 4-connected part of one class.

    Attributes
    ----------
    value : int
        Its class value.
    pixels : int
        Label pixels.
    box : PixelBox
        The smallest that holds it.
    selection : Selection
        Its pixels, kept packed: a mask is made whenever it is asked for.
    """

    value: int
    pixels: int
    box: PixelBox
    selection: Selection


@dataclass(frozen=True)
class Disagreement:
    """A 4-connected place where a reader and the runs differ in the same way.

    Attributes
    ----------
    box : PixelBox
        The smallest that holds it.
    pixels : int
        Label pixels.
    said, predicted : int
        Class values (0 to 4) of the reader and of the run on top.
    """

    box: PixelBox
    pixels: int
    said: int
    predicted: int


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
    return math.floor(_as_pixels(um2, mpp) + _ROUNDING)


def _pixels_from(um2: float, mpp: float) -> int:
    return math.ceil(_as_pixels(um2, mpp) - _ROUNDING)


def _as_pixels(um2: float, mpp: float) -> float:
    if not (math.isfinite(um2) and um2 >= 0):
        raise InputError(f"{um2:g} µm² is no area", advice="Give a number of µm², zero or more")
    return um2 / mpp**2


def component_at(
    composite: Composite,
    y: int,
    x: int,
    background: bool = False,
    progress: Report | None = None,
    cancel: threading.Event | None = None,
) -> Selection:
    """The 4-connected part of one class that holds a label pixel, wherever it leads.

    Parameters
    ----------
    composite : Composite
        What is shown.
    y, x : int
        The label pixel.
    background : bool
        Whether value 0, none of the four, counts as a class: it may fill the slide.
    progress : callable (float) -> None, optional
        Told with every chunk the share that is done, 0 to 1, never less than
        before. How far the part leads is guessed from the coarsest level.
    cancel : threading.Event, optional
        Stops it within a chunk.

    Returns
    -------
    Selection
        Masks row by row; those of full chunks take no memory and are read-only.

    Raises
    ------
    InputError
        Outside the slide, not analysed there, or 0 where that does not count.
    CancelledError
        If cancelled.
    """
    value = _graded(composite, y, x, background)
    flood = _Flood(composite, value)
    start = (y // CHUNK, x // CHUNK)
    first = flood.sheet(start)
    fresh = np.zeros_like(first.mine)
    fresh[first.labels[y % CHUNK, x % CHUNK]] = True
    waiting: dict[Place, Mask] = {start: fresh}
    expected = _reach(composite, y, x, value) if progress is not None else 1
    told = 0.0
    while waiting:
        check(cancel)
        place = next(iter(waiting))
        flood.spread(place, waiting.pop(place), waiting)
        if progress is not None:
            done = len(flood.sheets)
            told = max(told, 0.9 * done / max(done + len(waiting), expected))
            progress(told)
    masks = {}
    for place in sorted(flood.sheets):
        check(cancel)
        mask = flood.sheets.pop(place).mask()
        if mask is not None:
            masks[place] = mask
    if progress is not None:
        progress(1.0)
    return Selection(composite.grid.shape, masks)


def _graded(composite: Composite, y: int, x: int, background: bool) -> int:
    height, width = composite.grid.shape
    if not (0 <= y < height and 0 <= x < width):
        raise InputError("This place lies outside the slide", advice="Click on the slide")
    value = int(composite.read(y, x, 1, 1)[0, 0])
    if value > CIN3:
        raise InputError(
            f"Nothing was analysed here: {_EMPTY.get(value, f'its value is {value}')}",
            advice="Segment this part first, or draw the region and set its grade",
        )
    if value == BACKGROUND and not background:
        raise InputError(
            "This place has none of the four grades, and no end that was meant",
            advice="Choose a region with a grade, or draw one",
        )
    return value


def _reach(composite: Composite, y: int, x: int, value: int) -> int:
    """About how many chunks the part at (y, x) meets, seen on the coarsest level."""
    from scipy import ndimage

    shape = composite.grid.shape
    level = level_count(shape) - 1
    rough = composite.read(0, 0, *level_shape(shape, level), level) == value
    labels, _ = ndimage.label(rough, np.ones((3, 3)))
    own = labels[y >> level, x >> level]
    if own == 0:
        return 1
    at = np.nonzero(labels == own)
    rows, columns = ((side << level) // CHUNK for side in at)
    return len(np.unique(rows * (shape[1] // CHUNK + 1) + columns))


class _Sheet:
    """One chunk's parts of the wanted value.

    Attributes
    ----------
    labels : ndarray of int, (h, w)
        Which part.
    sides : tuple of ndarray
        The labels along its upper, right, lower and left border.
    mine : ndarray of bool, (parts + 1,)
        Which parts belong to the region, as far as is known.
    """

    def __init__(self, wanted: Mask) -> None:
        self.labels, count = _label(wanted)
        self.sides = _borders(self.labels)
        self.mine = np.zeros(count + 1, bool)

    def mask(self) -> Mask | None:
        """Which pixels belong to it; None where none does."""
        if not self.mine.any():
            return None
        mask = self.mine.take(self.labels)
        return _unheld(mask) if mask.all() else mask


@dataclass
class _Flood:
    """A region that spreads from chunk to chunk."""

    composite: Composite
    value: int
    sheets: dict[Place, _Sheet] = field(default_factory=dict)

    def sheet(self, place: Place) -> _Sheet:
        if place not in self.sheets:
            box = chunk_box(place, self.composite.grid.shape)
            values = self.composite.read(box.y0, box.x0, box.height, box.width)
            self.sheets[place] = _Sheet(values == self.value)
        return self.sheets[place]

    def spread(self, place: Place, fresh: Mask, waiting: dict[Place, Mask]) -> None:
        """Take parts of a chunk in; what they touch beyond it waits to be taken in."""
        own = self.sheets[place]
        fresh &= ~own.mine
        own.mine |= fresh
        height, width = self.composite.grid.shape
        for side, (down, right) in enumerate(_STEPS):
            touched = fresh[own.sides[side]]
            row, col = place[0] + down, place[1] + right
            inside = 0 <= row * CHUNK < height and 0 <= col * CHUNK < width
            if not inside or not touched.any():
                continue
            there = self.sheet((row, col))
            reached = np.zeros_like(there.mine)
            reached[there.sides[side ^ 2][touched]] = True
            reached[0] = False
            reached &= ~there.mine
            if reached.any():
                known = waiting.get((row, col))
                waiting[row, col] = reached if known is None else reached | known


def components(
    composite: Composite,
    least_um2: float,
    values: Iterable[int] = (1, 2, 3, 4),
    within: PixelBox | None = None,
    progress: Report | None = None,
    cancel: threading.Event | None = None,
) -> tuple[Component, ...]:
    """All 4-connected parts of a class, from a size on.

    Parameters
    ----------
    composite : Composite
        What is shown.
    least_um2 : float
        The smallest area wanted, µm².
    values : iterable of int
        Which classes, 0 to 4.
    within : PixelBox, optional
        Looks at these label pixels alone, as if the overlay ended there.
    progress : callable (float) -> None, optional
        Told the share that is done, 0 to 1.
    cancel : threading.Event, optional
        Stops it within a chunk.

    Returns
    -------
    tuple of Component
        The worst class first, then the largest; equal ones as on the slide.

    Raises
    ------
    InputError
        An area or a class that there is not.
    CancelledError
        If cancelled.
    """
    whole = PixelBox(0, 0, *composite.grid.shape)
    parts = Parts.of(
        whole if within is None else within.intersect(whole),
        lambda box: composite.read(box.y0, box.x0, box.height, box.width),
        class_values(values),
        least=_pixels_from(least_um2, composite.grid.mpp),
        shape=composite.grid.shape,
        progress=None if progress is None else lambda part: progress(0.8 * part),
        cancel=cancel,
    )
    masks = [_PackedMasks(composite.grid.shape) for _ in range(len(parts.pixels))]
    told = None if progress is None else lambda part: progress(0.8 + 0.2 * part)
    for place, box, part, mask in parts.pieces(told, cancel):
        masks[part].pack(place, box, mask)
    order = np.lexsort((-parts.pixels, -parts.codes))
    return tuple(
        Component(
            int(parts.codes[i]),
            int(parts.pixels[i]),
            masks[i].box,
            Selection(composite.grid.shape, masks[i]),
        )
        for i in order
    )


def class_values(values: Iterable[int]) -> tuple[int, ...]:
    """Class values, once each.

    Raises
    ------
    InputError
        If one is not 0 to 4.
    """
    chosen = tuple(sorted(set(values)))
    for value in chosen:
        if not BACKGROUND <= value <= CIN3:
            raise InputError(f"There is no class {value}", advice="Choose among 0 to 4")
    return chosen


def disagreements(
    composite: Composite,
    least_um2: float,
    places: Iterable[Place] | None = None,
    progress: Report | None = None,
    cancel: threading.Event | None = None,
) -> tuple[Disagreement, ...]:
    """Where a reader said something else than the run on top.

    Parameters
    ----------
    composite : Composite
        What is shown.
    least_um2 : float
        The smallest area wanted, µm².
    places : iterable of (int, int), optional
        Chunks that hold corrections, as `Corrections.chunks` gives them: others
        are not looked at. All of the slide's by default.
    progress : callable (float) -> None, optional
        Told the share that is done, 0 to 1.
    cancel : threading.Event, optional
        Stops it within a chunk.

    Returns
    -------
    tuple of Disagreement
        4-connected places of equal (said, predicted), the largest first; equal
        ones as on the slide. Where no run predicts a class there is none.

    Raises
    ------
    InputError
        If the area is negative or no number.
    CancelledError
        If cancelled.
    """
    every = range(CIN3 + 1)
    parts = Parts.of(
        PixelBox(0, 0, *composite.grid.shape),
        lambda box: _pairs(composite, box),
        [s * _PAIR + p for s in every for p in every if s != p],
        least=_pixels_from(least_um2, composite.grid.mpp),
        shape=composite.grid.shape,
        places=places,
        progress=progress,
        cancel=cancel,
    )
    boxes: dict[int, PixelBox] = {}
    for _, box, part, _ in parts.pieces(cancel=cancel):
        boxes[part] = _around([box, boxes.get(part, box)])
    order = np.argsort(-parts.pixels, kind="stable")
    return tuple(
        Disagreement(boxes[i], int(parts.pixels[i]), *divmod(int(parts.codes[i]), _PAIR))
        for i in order.tolist()
    )


def _pairs(composite: Composite, box: PixelBox) -> Array:
    at = (box.y0, box.x0, box.height, box.width)
    said = composite.read(*at, what="correction")
    out = np.full(said.shape, NOT_RUN, np.uint8)
    there = said != NOT_RUN
    if there.any():
        predicted = composite.read(*at, what="prediction")
        np.copyto(out, said * np.uint8(_PAIR) + predicted, where=there & (predicted <= CIN3))
    return out


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
        from numcodecs.zstd import Zstd

        packed, kind, own = self._sheets[place]
        part = chunk_box(place, self._shape).intersect(self._box)
        labels = np.frombuffer(Zstd().decode(packed), kind)
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
        edges = _borders(np.broadcast_to(np.int64(-1), codes.shape))
        kept = np.zeros(codes.shape, np.uint32)
        names: list[int] = []
        for code in wanted:
            mask = codes == code
            if not mask.any():
                continue
            labels, count = _label(mask, self.diagonals)
            sizes = np.bincount(labels.ravel(), minlength=count + 1)
            shut = np.zeros(count + 1, bool)
            if barred is not None:
                shut[labels[barred]] = True
            own = _borders(labels)
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
            self.sheets[place] = _packed(kept.astype(kind)), kind.str, np.asarray(names)

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


class _PackedMasks(Mapping[Place, Mask]):
    """Masks of chunks, each cropped and a bit a pixel; unpacked whenever one is asked for."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._packed: dict[Place, tuple[PixelBox, Array]] = {}

    @property
    def box(self) -> PixelBox:
        """The smallest that holds all of them."""
        return _around([box for box, _ in self._packed.values()])

    def pack(self, place: Place, box: PixelBox, mask: Mask) -> None:
        """Enter what lies in one chunk: a box on the slide and its mask."""
        self._packed[place] = box, np.packbits(mask)

    def __getitem__(self, place: Place) -> Mask:
        box, packed = self._packed[place]
        own = chunk_box(place, self._shape)
        bits = np.unpackbits(packed, count=box.height * box.width).view(bool)
        mask = np.zeros((own.height, own.width), bool)
        at = np.s_[box.y0 - own.y0 : box.y1 - own.y0, box.x0 - own.x0 : box.x1 - own.x0]
        mask[at] = bits.reshape(box.height, box.width)
        return mask

    def __iter__(self) -> Iterator[Place]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


def _around(boxes: Sequence[PixelBox]) -> PixelBox:
    return PixelBox(
        min(box.y0 for box in boxes),
        min(box.x0 for box in boxes),
        max(box.y1 for box in boxes),
        max(box.x1 for box in boxes),
    )


def _label(mask: Mask, diagonals: bool = False) -> tuple[Labels, int]:
    """Connected parts of a chunk, and how many."""
    from scipy import ndimage

    if mask.all():
        return mask.view(np.uint8), 1
    labels, count = ndimage.label(mask, np.ones((3, 3)) if diagonals else None)
    return labels.astype(np.min_scalar_type(count)), int(count)


def _borders(labels: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
    """Copies of the upper, right, lower and left border."""
    return tuple(edge.copy() for edge in (labels[0], labels[:, -1], labels[-1], labels[:, 0]))


def _packed(labels: Labels) -> bytes:
    from numcodecs.zstd import Zstd

    return bytes(Zstd(level=1).encode(np.ascontiguousarray(labels)))


def _unheld(mask: Mask) -> Mask:
    """A mask that is True throughout, without its memory."""
    return np.broadcast_to(np.True_, mask.shape)


def check(cancel: threading.Event | None) -> None:
    """Raise CancelledError if cancelled."""
    if cancel is not None and cancel.is_set():
        raise CancelledError
