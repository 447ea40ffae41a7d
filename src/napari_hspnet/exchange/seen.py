"""The labels of a part of the slide as a picture shows them, and how much there is of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.classes import CIN3, CLASSES, NOT_RUN
from napari_hspnet.exchange.frame import Frame
from napari_hspnet.exchange.output import Cancel, Report, stop_if
from napari_hspnet.exchange.sources import LabelSource
from napari_hspnet.slides import PixelBox

__all__ = ["FOCUS_UM2", "Inside", "Seen"]

FOCUS_UM2 = 250.0
"""A grade that covers so much of a pixel is seen, whatever lies under its centre.

A quarter of what counts as a worst grade, since a focus can lie on four pixels.
"""

Array = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Inside = Callable[[PixelBox], Mask | None]
"""Which pixels of a box belong to a region; None where all of them do."""


@dataclass(frozen=True)
class Seen:
    """The labels of a frame, and how much there is of each.

    Attributes
    ----------
    frame : Frame
        Where.
    values : ndarray of uint8, (height, width)
        The label under each pixel's centre; the grade of a focus that would be
        lost between the centres stands there instead.
    mm2 : Mapping of int to float
        Of the region in it, counted label pixel by label pixel.
    inside : ndarray of bool or None
        Which pixels belong to the region; None where all of them do.
    enlarged : bool
        Whether there was such a focus.
    """

    frame: Frame
    values: Array
    mm2: Mapping[int, float]
    inside: Mask | None = None
    enlarged: bool = False

    @classmethod
    def of(
        cls,
        labels: LabelSource,
        frame: Frame,
        box: PixelBox,
        inside: Inside | None = None,
        progress: Report | None = None,
        cancel: Cancel | None = None,
    ) -> Seen:
        """Read them, box by box.

        Parameters
        ----------
        labels : LabelSource
            What is shown.
        frame : Frame
            Where.
        box : PixelBox
            Label pixels that are counted, where `inside` has them.
        inside : callable (PixelBox) -> ndarray of bool or None, optional
            A region of any shape.
        progress, cancel
            Told the part done; stops the reading.

        Raises
        ------
        CancelledError
            If cancelled.
        """
        values = np.full(frame.shape, NOT_RUN, np.uint8)
        within = None if inside is None else np.ones(frame.shape, bool)
        counts = np.zeros(256, np.int64)
        foci = _Foci(frame) if frame.mpp * frame.mpp > FOCUS_UM2 else None
        done, total = 0, box.height * box.width
        for piece in frame.pieces(also=box):
            stop_if(cancel)
            at = piece.box
            read = labels.read(at.y0, at.x0, at.height, at.width)
            values[piece.at] = piece.pick(read)
            mask = None if inside is None else inside(at)
            if within is not None and mask is not None:
                within[piece.at] = piece.pick(mask)
            own = at.intersect(box)
            cut = np.s_[own.y0 - at.y0 : own.y1 - at.y0, own.x0 - at.x0 : own.x1 - at.x0]
            part = read[cut] if mask is None else read[cut][mask[cut]]
            counts += np.bincount(part.ravel(), minlength=256)
            if foci is not None:
                foci.take(at, read)
            done += own.height * own.width
            if progress is not None:
                progress(min(1.0, done / max(1, total)))
        enlarged = foci is not None and foci.mark(values)
        square = (labels.grid.mpp / 1000) ** 2
        mm2 = {int(v): float(counts[v]) * square for v in np.flatnonzero(counts)}
        if within is not None and within.all():
            within = None
        return cls(frame, values, mm2, within, enlarged)


class _Foci:
    """Grades of which a pixel holds enough to be seen though its centre lies elsewhere."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._counts = {c.value: np.zeros(frame.shape, np.uint32) for c in CLASSES}

    def take(self, box: PixelBox, values: Array) -> None:
        """Count a box of label pixels."""
        frame = self._frame
        ratio = frame.grid.mpp / frame.mpp
        rows = _owners(box.y0, box.y1, ratio, frame.y, frame.height)
        columns = _owners(box.x0, box.x1, ratio, frame.x, frame.width)
        for value, counts in self._counts.items():
            own = values == value
            if not own.any():
                continue
            starts = (
                np.flatnonzero(np.diff(rows, prepend=-1)),
                np.flatnonzero(np.diff(columns, prepend=-1)),
            )
            sums = np.add.reduceat(own, starts[0], axis=0, dtype=np.uint32)
            sums = np.add.reduceat(sums, starts[1], axis=1)
            counts[np.ix_(rows[starts[0]], columns[starts[1]])] += sums

    def mark(self, values: Array) -> bool:
        """Enter those that no pixel near them shows; whether there was one."""
        least = FOCUS_UM2 / self._frame.grid.mpp**2
        found = False
        for value, counts in self._counts.items():
            graded = (values >= value) & (values <= CIN3)
            lost = (counts >= least) & ~_grown(graded)
            if lost.any():
                found = True
                wider = _grown(lost) & ~((values > value) & (values <= CIN3))
                values[wider] = value
        return found


def _owners(start: int, stop: int, ratio: float, first: int, count: int) -> npt.NDArray[np.intp]:
    """The frame's pixel in which each label pixel's centre lies, along one axis."""
    at = np.floor((np.arange(start, stop) + 0.5) * ratio).astype(np.intp)
    return np.asarray(np.clip(at - first, 0, count - 1))


def _grown(mask: Mask) -> Mask:
    """With all pixels around each."""
    tall = mask.copy()
    tall[1:] |= mask[:-1]
    tall[:-1] |= mask[1:]
    wide = tall.copy()
    wide[:, 1:] |= tall[:, :-1]
    wide[:, :-1] |= tall[:, 1:]
    return wide
