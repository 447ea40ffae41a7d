"""Where readers and the runs on top differ."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases.composite import Composite
from napari_hspnet.cases.parts import Parts, Report, pixels_from
from napari_hspnet.cases.selection import PackedMasks, Place, Selection
from napari_hspnet.classes import CIN3, NOT_RUN
from napari_hspnet.slides.grid import LabelGrid
from napari_hspnet.slides.region import PixelBox

__all__ = ["Disagreement", "differing", "disagreements", "paired"]

Array = npt.NDArray[np.uint8]

_PAIR = 8
"""Codes a pair (one, other) as one * 8 + other."""


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
    found = differing(
        composite.grid, partial(_pairs, composite), least_um2, places, progress, cancel
    )
    return tuple(Disagreement(where.box, *said) for where, *said in found)


def differing(
    grid: LabelGrid,
    pairs: Callable[[PixelBox], Array],
    least_um2: float,
    places: Iterable[Place] | None = None,
    progress: Report | None = None,
    cancel: threading.Event | None = None,
) -> Iterator[tuple[Selection, int, int, int]]:
    """Where two of equal grid say different classes.

    Parameters
    ----------
    grid : LabelGrid
        Theirs.
    pairs : callable (PixelBox) -> ndarray of uint8
        What they say in a box, as `paired` gives it.
    least_um2, places, progress, cancel
        As for `disagreements`.

    Yields
    ------
    tuple of Selection, int, int, int
        (where, pixels, one, other), in the order of `disagreements`.

    Raises
    ------
    As `disagreements`.
    """
    every = range(CIN3 + 1)
    parts = Parts.of(
        PixelBox(0, 0, *grid.shape),
        pairs,
        [a * _PAIR + b for a in every for b in every if a != b],
        least=pixels_from(least_um2, grid.mpp),
        shape=grid.shape,
        places=places,
        progress=progress,
        cancel=cancel,
    )
    masks = [PackedMasks(grid.shape) for _ in range(len(parts.pixels))]
    for place, box, part, mask in parts.pieces(cancel=cancel):
        masks[part].pack(place, box, mask)
    for i in np.argsort(-parts.pixels, kind="stable").tolist():
        where = Selection(grid.shape, masks[i])
        yield where, int(parts.pixels[i]), *divmod(int(parts.codes[i]), _PAIR)


def paired(one: Array, other: Array) -> Array:
    """Codes of what two say, 255 where one of them says no class (0 to 4)."""
    out = np.full(one.shape, NOT_RUN, np.uint8)
    both = (one <= CIN3) & (other <= CIN3)
    np.copyto(out, one * np.uint8(_PAIR) + other, where=both)
    return out


def _pairs(composite: Composite, box: PixelBox) -> Array:
    at = (box.y0, box.x0, box.height, box.width)
    said = composite.read(*at, what="correction")
    if (said == NOT_RUN).all():
        return said
    return paired(said, composite.read(*at, what="prediction"))
