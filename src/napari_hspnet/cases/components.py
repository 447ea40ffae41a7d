"""Connected parts of the overlay, over the whole slide, chunk by chunk."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases.composite import Composite
from napari_hspnet.cases.parts import (
    Parts,
    Report,
    borders,
    check,
    label,
    pixels_from,
    unheld,
)
from napari_hspnet.cases.sampling import level_count, level_shape
from napari_hspnet.cases.selection import PackedMasks, Place, Selection, chunk_box
from napari_hspnet.cases.store import CHUNK
from napari_hspnet.classes import BACKGROUND, CIN3, NOT_RUN, SKIPPED, UNREADABLE
from napari_hspnet.errors import InputError
from napari_hspnet.slides.region import PixelBox

__all__ = ["Component", "class_values", "component_at", "components"]

Array = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

_EMPTY = {
    SKIPPED: "it was skipped as holding no tissue",
    UNREADABLE: "the slide could not be read",
    NOT_RUN: "no run covers it",
}
_STEPS = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""To the chunk above, right, below, left; the side opposite to i is i ^ 2."""


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
            "Here the overlay shows none of the four grades, so there is no region",
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
        self.labels, count = label(wanted)
        self.sides = borders(self.labels)
        self.mine = np.zeros(count + 1, bool)

    def mask(self) -> Mask | None:
        """Which pixels belong to it; None where none does."""
        if not self.mine.any():
            return None
        mask = self.mine.take(self.labels)
        return unheld(mask) if mask.all() else mask


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
        least=pixels_from(least_um2, composite.grid.mpp),
        shape=composite.grid.shape,
        progress=None if progress is None else lambda part: progress(0.8 * part),
        cancel=cancel,
    )
    masks = [PackedMasks(composite.grid.shape) for _ in range(len(parts.pixels))]
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
