"""Where readers and the runs on top differ."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases.composite import Composite
from napari_hspnet.cases.parts import Parts, Report, pixels_from
from napari_hspnet.cases.selection import Place, around
from napari_hspnet.classes import CIN3, NOT_RUN
from napari_hspnet.slides.region import PixelBox

__all__ = ["Disagreement", "disagreements"]

Array = npt.NDArray[np.uint8]

_PAIR = 8
"""Codes a pair (said, predicted) as said * 8 + predicted."""


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
    every = range(CIN3 + 1)
    parts = Parts.of(
        PixelBox(0, 0, *composite.grid.shape),
        lambda box: _pairs(composite, box),
        [s * _PAIR + p for s in every for p in every if s != p],
        least=pixels_from(least_um2, composite.grid.mpp),
        shape=composite.grid.shape,
        places=places,
        progress=progress,
        cancel=cancel,
    )
    boxes: dict[int, PixelBox] = {}
    for _, box, part, _ in parts.pieces(cancel=cancel):
        boxes[part] = around([box, boxes.get(part, box)])
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
