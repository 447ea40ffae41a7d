"""Overlapping softmax values summed in a ring of rows; finished rows become labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from napari_hspnet.classes import CIN2, CIN3, SKIPPED

__all__ = ["Strip", "StripRows", "labelled"]

_PIXELS = 1 << 17
"""Finished at a time: bounds what the arg max needs beside the strip."""


@dataclass(frozen=True)
class StripRows:
    """Finished rows, uint8 (rows, width) each; see `LabelBlock`."""

    classes: npt.NDArray[np.uint8]
    score: npt.NDArray[np.uint8]
    high: npt.NDArray[np.uint8]


class Strip:
    """The accumulator of one band: (channels, one window high, band width).

    Rows are absolute label rows, held as a ring: row r lies at r modulo the height,
    so that moving on copies nothing. Columns are relative to the band.

    Parameters
    ----------
    channels : int
        Five, background first, or four (classes 1 to 4).
    window : int
        Side of a window.
    width : int
        Columns of the band.
    weights : Tensor (window, window)
        Blending weights, on the device.
    """

    def __init__(self, channels: int, window: int, width: int, weights: torch.Tensor) -> None:
        self._window = window
        self._weights = weights
        self._top = 0
        self._sum = torch.zeros(
            (channels, window, width), dtype=torch.float32, device=weights.device
        )
        self._softmax = torch.empty(
            (channels, window, window), dtype=torch.float32, device=weights.device
        )

    def begin(self, y: int) -> None:
        """Make room for windows at row `y`; rows above it are given up."""
        if y - self._top >= self._window:
            self._sum.zero_()
        elif y > self._top:
            for _, held in self._pieces(self._top, y):
                self._sum[:, held].zero_()
        self._top = max(y, self._top)

    def add(self, logits: torch.Tensor, y: int, x: int, rows: slice, columns: slice) -> None:
        """Add one window's softmax.

        Parameters
        ----------
        logits : Tensor (channels, window, window), float32
            As the network gives them; left as they are.
        y, x : int
            Its first row (absolute; `begin` has made room for it) and column
            (relative to the band, may be negative).
        rows, columns : slice
            What of the window counts, in its own pixels; clipped to the band.
        """
        width = self._sum.shape[2]
        left = max(columns.start, -x)
        right = min(columns.stop, width - x)
        if left >= right or rows.start >= rows.stop:
            return
        # Over the whole window, whatever counts: a value must not depend on the band.
        torch.softmax(logits, dim=0, out=self._softmax)
        for place, held in self._pieces(y + rows.start, y + rows.stop):
            part = (slice(place.start - y, place.stop - y), slice(left, right))
            self._sum[:, held, x + left : x + right].addcmul_(
                self._softmax[:, part[0], part[1]], self._weights[part]
            )

    def finish(self, y0: int, y1: int) -> StripRows:
        """Labels of the absolute rows [y0, y1): argmax, highest value, p(CIN2+).

        Rows that no window reached are `SKIPPED`, whether or not the strip
        still holds them.
        """
        shape, device = (y1 - y0, self._sum.shape[2]), self._sum.device
        classes = torch.full(shape, SKIPPED, dtype=torch.uint8, device=device)
        score = torch.zeros(shape, dtype=torch.uint8, device=device)
        high = torch.zeros(shape, dtype=torch.uint8, device=device)
        first, last = max(y0, self._top), min(y1, self._top + self._window)
        step = max(1, _PIXELS // shape[1])
        for y in range(first, last, step):
            for place, held in self._pieces(y, min(y + step, last)):
                rows = slice(place.start - y0, place.stop - y0)
                _label(self._sum[:, held], classes[rows], score[rows], high[rows])
        return StripRows(classes.cpu().numpy(), score.cpu().numpy(), high.cpu().numpy())

    def _pieces(self, y0: int, y1: int) -> Iterator[tuple[slice, slice]]:
        """The absolute rows [y0, y1), at most a window, and where the ring holds them."""
        while y0 < y1:
            at = y0 % self._window
            stop = min(y1, y0 + self._window - at)
            yield slice(y0, stop), slice(at, at + stop - y0)
            y0 = stop


def labelled(sums: torch.Tensor) -> StripRows:
    """Labels of softmax values, or of their weighted sums, float32 (channels, h, w)."""
    first = torch.empty_like(sums[0], dtype=torch.uint8)
    maps = first, torch.empty_like(first), torch.empty_like(first)
    _label(sums, *maps)
    return StripRows(*(values.cpu().numpy() for values in maps))


def _label(
    sums: torch.Tensor, classes: torch.Tensor, score: torch.Tensor, high: torch.Tensor
) -> None:
    """Labels of some rows; the first of equal classes wins."""
    # Softmax values of a window add up to one, so the channels' sum is the sum
    # of the weights; added one by one, it is the same in whatever shape.
    # Comparing is several times as fast as `max` with indices, and multiplied
    # marks as `masked_fill`: a later channel's class is the higher number.
    first_class = 5 - sums.shape[0]
    best, weight = sums[0].clone(), sums[0].clone()
    classes.fill_(first_class)
    for channel in range(1, sums.shape[0]):
        _raise(classes, sums[channel] > best, first_class + channel)
        torch.maximum(best, sums[channel], out=best)
        weight.add_(sums[channel])
    _raise(classes, weight == 0, SKIPPED)
    scale = 255.0 / weight.clamp_min_(torch.finfo(torch.float32).tiny)
    score.copy_(best.mul_(scale).round_().clamp_(0, 255))
    both = sums[CIN2 - first_class] + sums[CIN3 - first_class]
    high.copy_(both.mul_(scale).round_().clamp_(0, 255))


def _raise(values: torch.Tensor, where: torch.Tensor, to: int) -> None:
    """Set uint8 values to a higher number where a mask says so."""
    torch.maximum(values, where.view(torch.uint8).mul_(to), out=values)
