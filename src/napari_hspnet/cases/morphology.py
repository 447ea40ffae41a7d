"""Changing the shape of regions: grown, shrunk, without holes, without specks.

Distances are Euclidean, between pixel centres, in µm; areas are µm². What each of
them gives goes to `Editing.correct`, chunk by chunk.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases.components import class_values
from napari_hspnet.cases.composite import Composite
from napari_hspnet.cases.editing import Patch
from napari_hspnet.cases.parts import Parts, Report, check, pixels_within
from napari_hspnet.cases.selection import Place, Selection, chunk_box, chunks_of
from napari_hspnet.classes import BACKGROUND, CIN3, UNREADABLE
from napari_hspnet.errors import InputError
from napari_hspnet.slides.region import PixelBox

__all__ = ["REACH", "Patches", "grown", "holes_filled", "shrunk", "specks_dropped"]

Array = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]

REACH = 512
"""How far a border moves at most, in label pixels: bounds the memory for one chunk."""

_CLASSES = CIN3 + 1
_NEAR = 1e-9
"""µm that two distances may differ by rounding."""


@dataclass(frozen=True)
class Patches:
    """Corrections yet to be made: one patch for each chunk that changes.

    They are worked out while one goes through them, each time anew.

    Attributes
    ----------
    chunks : tuple of (int, int)
        The chunks that may change. `len` counts them: at most so many patches come.
    make : callable (row, column) -> Patch or None
        A chunk's patch, None where nothing changes.
    cancel : threading.Event, optional
        Ends it with `CancelledError`.
    """

    chunks: tuple[Place, ...]
    make: Callable[[Place], Patch | None]
    cancel: threading.Event | None = None

    def __len__(self) -> int:
        return len(self.chunks)

    def __iter__(self) -> Iterator[Patch]:
        for place in self.chunks:
            check(self.cancel)
            patch = self.make(place)
            if patch is not None:
                yield patch


def grown(
    composite: Composite,
    selection: Selection,
    um: float,
    value: int,
    cancel: threading.Event | None = None,
) -> Patches:
    """Move a region's border outwards: what lies near it gets its class.

    A reader may extend a region over what no run covers or what was skipped as
    holding no tissue, but not over what could not be read: there is no picture to
    judge by.

    Parameters
    ----------
    composite : Composite
        What is shown.
    selection : Selection
        The region.
    um : float
        How far, µm: pixels whose centre is at most so far from that of one of the
        region's.
    value : int
        The class that they get, 0 to 4.
    cancel : threading.Event, optional
        Stops it within a chunk.

    Raises
    ------
    InputError
        A distance that is not above zero or too large, or a class that there is not.
    """
    class_values([value])
    mpp, shape = composite.grid.mpp, composite.grid.shape
    halo = _halo(um, mpp)
    whole = PixelBox(0, 0, *shape)

    def make(place: Place) -> Patch | None:
        own = chunk_box(place, shape)
        window = _grown_box(own, halo).intersect(whole)
        region = selection.read(window)
        inner = _cut(own, window)
        at = _near(region, ~region[inner], inner, halo)
        if at is None:
            return None
        near = np.zeros(region.shape, bool)
        near[at] = _distance(~region[at]) * mpp <= um + _NEAR
        values = composite.read(own.y0, own.x0, own.height, own.width)
        where = near[inner] & ~region[inner] & _open(values) & (values != value)
        return _patch(own, np.full(where.shape, value, np.uint8), where)

    places: set[Place] = set()
    for place, mask in selection.masks.items():
        own = chunk_box(place, shape)
        places.update(chunks_of(_grown_box(_tight(mask, own), halo).intersect(whole)))
    return Patches(tuple(sorted(places)), make, cancel)


def shrunk(
    composite: Composite,
    selection: Selection,
    um: float,
    cancel: threading.Event | None = None,
) -> Patches:
    """Move a region's border inwards: its rim gets the class that lies beyond it.

    The slide's own border is no border of the region.

    Parameters
    ----------
    composite : Composite
        What is shown.
    selection : Selection
        The region.
    um : float
        How far, µm: pixels whose centre is at most so far from that of one outside
        the region get the class of the nearest one outside, 0 where that was not
        analysed. Among equally near ones the same is taken whatever the chunks. What
        could not be read stays so.
    cancel : threading.Event, optional
        Stops it within a chunk.

    Raises
    ------
    InputError
        A distance that is not above zero or too large.
    """
    mpp, shape = composite.grid.mpp, composite.grid.shape
    halo = _halo(um, mpp)
    whole = PixelBox(0, 0, *shape)

    def make(place: Place) -> Patch | None:
        own = chunk_box(place, shape)
        window = _grown_box(own, halo).intersect(whole)
        region = selection.read(window)
        inner = _cut(own, window)
        at = _near(~region, region[inner], inner, halo)
        if at is None:
            return None
        distance, rows, columns = _nearest(region[at])
        shown = composite.read(window.y0, window.x0, window.height, window.width)
        beyond = shown[at][rows, columns]
        values = np.zeros(region.shape, np.uint8)
        values[at] = np.where(beyond <= CIN3, beyond, BACKGROUND)
        rim = np.zeros(region.shape, bool)
        rim[at] = distance * mpp <= um + _NEAR
        where = region[inner] & rim[inner] & _open(shown[inner]) & (values[inner] != shown[inner])
        return _patch(own, values[inner], where)

    return Patches(tuple(sorted(selection.masks)), make, cancel)


def holes_filled(
    composite: Composite,
    selection: Selection,
    largest_um2: float,
    value: int,
    progress: Report | None = None,
    cancel: threading.Event | None = None,
) -> Patches:
    """Fill the holes of a region up to a size with its class.

    A hole is what the region encloses, whatever is in it; one that opens to the
    slide's border is none. Holes meet at corners, as the region does not. What could
    not be read stays so.

    Parameters
    ----------
    composite : Composite
        What is shown.
    selection : Selection
        The region.
    largest_um2 : float
        Area of the largest hole to be filled, µm².
    value : int
        The class that they get, 0 to 4.
    progress : callable (float) -> None, optional
        Told how much of the search for holes is done, 0 to 1; patches come after.
    cancel : threading.Event, optional
        Stops it within a chunk.

    Raises
    ------
    InputError
        An area or a class that there is not.
    CancelledError
        If cancelled while looking for holes.
    """
    class_values([value])
    shape, box = composite.grid.shape, selection.box
    found = Parts.of(
        box,
        lambda part: (~selection.read(part)).view(np.uint8),
        [1],
        shape=shape,
        most=pixels_within(largest_um2, composite.grid.mpp),
        barred=lambda part: _rim(part, box),
        diagonals=True,
        progress=progress,
        cancel=cancel,
    )

    def make(place: Place) -> Patch | None:
        part = chunk_box(place, shape).intersect(box)
        values = composite.read(part.y0, part.x0, part.height, part.width)
        where = (found.read(place) >= 0) & _open(values) & (values != value)
        return _patch(part, np.full(where.shape, value, np.uint8), where)

    return Patches(found.places, make, cancel)


def specks_dropped(
    composite: Composite,
    within: PixelBox | Selection,
    largest_um2: float,
    values: Iterable[int] = (1, 2, 3, 4),
    progress: Report | None = None,
    cancel: threading.Event | None = None,
) -> Patches:
    """Give small parts of a class to the class around them.

    A speck is a 4-connected part of one class, up to the size, that lies in the box
    or region as a whole. It takes the class with which it shares the longest border;
    the higher grade where two are as long. Borders with other specks do not count:
    one that meets nothing else waits until they have been given a class, so that
    none is left afterwards. 0 where all that surrounds it was not analysed.

    Parameters
    ----------
    composite : Composite
        What is shown.
    within : PixelBox or Selection
        Where; of any size.
    largest_um2 : float
        Area of the largest speck, µm².
    values : iterable of int
        Classes whose specks are dropped.
    progress : callable (float) -> None, optional
        Told how much of the search for specks is done, 0 to 1; patches come after.
    cancel : threading.Event, optional
        Stops it within a chunk.

    Raises
    ------
    InputError
        An area or a class that there is not.
    CancelledError
        If cancelled while looking for specks.
    """
    shape = composite.grid.shape
    whole = PixelBox(0, 0, *shape)
    box = (within.box if isinstance(within, Selection) else within).intersect(whole)
    # One pixel more shows which parts go on outside.
    around = _grown_box(box, 1).intersect(whole) if box.height and box.width else box
    found = Parts.of(
        around,
        lambda part: composite.read(part.y0, part.x0, part.height, part.width),
        class_values(values),
        shape=shape,
        most=pixels_within(largest_um2, composite.grid.mpp),
        barred=lambda part: ~_inside(within, part),
        progress=None if progress is None else lambda share: progress(0.7 * share),
        cancel=cancel,
    )
    borders = _Borders(composite, found, around)
    for number, place in enumerate(found.places, start=1):
        check(cancel)
        borders.count(place)
        if progress is not None:
            progress(0.7 + 0.3 * number / len(found.places))
    if progress is not None:
        progress(1.0)
    takes = np.concatenate((borders.decided(cancel), [-1]))
    changes = takes != np.concatenate((found.codes, [-1]))

    def make(place: Place) -> Patch | None:
        part = chunk_box(place, shape).intersect(around)
        which = found.read(place)
        return _patch(part, takes.take(which).astype(np.uint8), changes.take(which))

    return Patches(found.places, make, cancel)


class _Borders:
    """How long the border of each speck is, with each class and with other specks."""

    def __init__(self, composite: Composite, specks: Parts, box: PixelBox) -> None:
        self._composite, self._specks, self._box = composite, specks, box
        self._whole = PixelBox(0, 0, *composite.grid.shape)
        self._many = specks.pixels.size
        self._with_class = np.zeros(self._many * _CLASSES, np.int64)
        self._with_speck: list[Numbers] = []
        # A row of chunks needs those above and below it, and most slides are this wide.
        self._read = lru_cache(maxsize=16)(specks.read)

    def count(self, place: Place) -> None:
        """Take the borders of the pixels of a chunk."""
        own = chunk_box(place, self._whole_shape).intersect(self._box)
        window = _grown_box(own, 1).intersect(self._whole)
        values = self._composite.read(window.y0, window.x0, window.height, window.width)
        specks = np.full(values.shape, -1, np.int64)
        for other in chunks_of(window.intersect(self._box)):
            area = chunk_box(other, self._whole_shape).intersect(self._box)
            part = area.intersect(window)
            specks[_cut(part, window)] = self._read(other)[_cut(part, area)]
        for here, there in _neighbours(own, window):
            mine, theirs, shown = specks[here], specks[there], values[there]
            free = (mine >= 0) & (theirs < 0) & (shown <= CIN3)
            pair, length = np.unique(mine[free] * _CLASSES + shown[free], return_counts=True)
            self._with_class[pair] += length
            both = (mine >= 0) & (theirs >= 0) & (mine != theirs)
            # One number for two sorts ten times as fast as a pair does.
            pair, length = np.unique(mine[both] * self._many + theirs[both], return_counts=True)
            self._with_speck.append(np.stack([pair, length]))

    @property
    def _whole_shape(self) -> tuple[int, int]:
        return self._whole.height, self._whole.width

    def decided(self, cancel: threading.Event | None) -> Numbers:
        """The class that each speck takes."""
        nothing = np.zeros((2, 0), np.int64)
        pair, length = np.concatenate([nothing, *self._with_speck], axis=1)
        one, other = np.divmod(pair, max(1, self._many))
        lengths = self._with_class.copy()
        takes = np.full(self._many, -1, np.int64)
        while True:
            check(cancel)
            by_class = lengths.reshape(-1, _CLASSES)
            now = (takes < 0) & by_class.any(axis=1)
            if not now.any():
                takes[takes < 0] = BACKGROUND
                return takes
            takes[now] = CIN3 - np.argmax(by_class[now, ::-1], axis=1)
            told = (takes[one] < 0) & now[other]
            np.add.at(lengths, one[told] * _CLASSES + takes[other[told]], length[told])


def _neighbours(
    own: PixelBox, window: PixelBox
) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Pixels of a box and, in the same order, those above, below, left, right of them."""
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        moved = PixelBox(own.y0 + down, own.x0 + right, own.y1 + down, own.x1 + right)
        there = moved.intersect(window)
        here = PixelBox(there.y0 - down, there.x0 - right, there.y1 - down, there.x1 - right)
        yield _cut(here, window), _cut(there, window)


def _inside(within: PixelBox | Selection, part: PixelBox) -> Mask:
    if isinstance(within, Selection):
        return within.read(part)
    inside = np.zeros((part.height, part.width), bool)
    inside[_cut(within.intersect(part), part)] = True
    return inside


def _rim(part: PixelBox, box: PixelBox) -> Mask:
    """Which pixels of a part of a box lie along the box's border."""
    rim = np.zeros((part.height, part.width), bool)
    rim[0] |= part.y0 == box.y0
    rim[-1] |= part.y1 == box.y1
    rim[:, 0] |= part.x0 == box.x0
    rim[:, -1] |= part.x1 == box.x1
    return rim


def _halo(um: float, mpp: float) -> int:
    if not (math.isfinite(um) and um > 0):
        raise InputError(f"A border cannot be moved by {um:g} µm", advice="Give a distance above 0")
    halo = math.ceil(um / mpp) + 1
    if halo > REACH:
        raise InputError(
            f"A border cannot be moved by {um:g} µm at once",
            advice=f"Move it by at most {(REACH - 1) * mpp:g} µm, or draw the region",
        )
    return halo


def _near(
    source: Mask, target: Mask, inner: tuple[slice, slice], halo: int
) -> tuple[slice, slice] | None:
    """The part of a window that decides how far pixels of its inside are from a source.

    Parameters
    ----------
    source : ndarray of bool, (h, w)
        What distances are measured from, in the window.
    target : ndarray of bool
        Pixels of the inside that they are measured at.
    inner : tuple of slice
        Where the inside lies in the window.
    halo : int
        Distances from here on do not matter.

    Returns
    -------
    tuple of slice or None
        None where no pixel is within the halo of another.
    """
    if not source.any() or not target.any():
        return None
    whole = PixelBox(0, 0, *source.shape)
    y, x = inner[0].start, inner[1].start
    own = PixelBox(y, x, y + target.shape[0], x + target.shape[1])
    asked = _grown_box(_tight(target, own), halo)
    part = _grown_box(_tight(source, whole), halo).intersect(asked).intersect(whole)
    at = _cut(part, whole)
    return at if source[at].any() else None


def _distance(far: Mask) -> npt.NDArray[np.float64]:
    """Pixels from each pixel's centre to that of the nearest one that is not `far`."""
    from scipy import ndimage

    distance: npt.NDArray[np.float64] = ndimage.distance_transform_edt(far)
    return distance


def _nearest(far: Mask) -> tuple[npt.NDArray[np.float64], Any, Any]:
    """As `_distance`, with row and column of that pixel."""
    from scipy import ndimage

    distance, (rows, columns) = ndimage.distance_transform_edt(far, return_indices=True)
    return distance, rows, columns


def _open(values: Array) -> Mask:
    """Which pixels a reader may judge: all but those that could not be read."""
    judged: Mask = values != UNREADABLE
    return judged


def _patch(box: PixelBox, values: Array, where: Mask) -> Patch | None:
    return Patch(box.y0, box.x0, values, where) if where.any() else None


def _grown_box(box: PixelBox, by: int) -> PixelBox:
    return PixelBox(box.y0 - by, box.x0 - by, box.y1 + by, box.x1 + by)


def _tight(mask: Mask, box: PixelBox) -> PixelBox:
    """The smallest box that holds what is marked in a box; it is not empty."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    y, x = box.y0, box.x0
    return PixelBox(y + int(ys[0]), x + int(xs[0]), y + int(ys[-1]) + 1, x + int(xs[-1]) + 1)


def _cut(part: PixelBox, box: PixelBox) -> tuple[slice, slice]:
    """Where a part lies in an array of a box."""
    return (
        slice(part.y0 - box.y0, part.y1 - box.y0),
        slice(part.x0 - box.x0, part.x1 - box.x0),
    )
