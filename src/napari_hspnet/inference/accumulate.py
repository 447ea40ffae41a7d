"""Overlapping softmax values summed in a rolling strip; finished rows become labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from napari_hspnet.classes import CIN2, CIN3, SKIPPED

__all__ = ["Strip", "StripRows"]


@dataclass(frozen=True)
class StripRows:
    """Finished rows, uint8 (rows, width) each; see `LabelBlock`."""

    classes: npt.NDArray[np.uint8]
    score: npt.NDArray[np.uint8]
    high: npt.NDArray[np.uint8]


class Strip:
    """The accumulator of one band: (channels, about two windows high, band width).

    Rows are absolute label rows; columns are relative to the band.

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
        self._height = 2 * window
        self._top = 0
        self._first_class = 5 - channels
        self._sum = torch.zeros(
            (channels, self._height, width), dtype=torch.float32, device=weights.device
        )

    def begin(self, y: int) -> None:
        """Make room for windows at row `y`; rows above it are given up."""
        if y + self._window <= self._top + self._height:
            return
        shift = y - self._top
        if shift < self._height:
            self._sum[:, : self._height - shift] = self._sum[:, shift:].clone()
            self._sum[:, self._height - shift :] = 0
        else:
            self._sum.zero_()
        self._top = y

    def add(self, values: torch.Tensor, y: int, x: int, rows: slice, columns: slice) -> None:
        """Add one window's softmax.

        Parameters
        ----------
        values : Tensor (channels, window, window), float32
            Softmax over the channels.
        y, x : int
            Its first row (absolute) and column (relative to the band, may be
            negative).
        rows, columns : slice
            What of the window counts, in its own pixels; clipped to the band.
        """
        width = self._sum.shape[2]
        left = max(columns.start, -x)
        right = min(columns.stop, width - x)
        if left >= right or rows.start >= rows.stop:
            return
        target = self._sum[
            :, y - self._top + rows.start : y - self._top + rows.stop, x + left : x + right
        ]
        part = (slice(rows.start, rows.stop), slice(left, right))
        target.addcmul_(values[:, part[0], part[1]], self._weights[part])

    def finish(self, y0: int, y1: int) -> StripRows:
        """Labels of the absolute rows [y0, y1): argmax, highest value, p(CIN2+).

        Rows that no window reached are `SKIPPED`, whether or not the strip
        still holds them.
        """
        width = self._sum.shape[2]
        classes = np.full((y1 - y0, width), SKIPPED, dtype=np.uint8)
        score = np.zeros((y1 - y0, width), dtype=np.uint8)
        high = np.zeros((y1 - y0, width), dtype=np.uint8)
        first, last = max(y0, self._top), min(y1, self._top + self._height)
        if first < last:
            held = slice(first - y0, last - y0)
            classes[held], score[held], high[held] = self._values(
                self._sum[:, first - self._top : last - self._top]
            )
        return StripRows(classes, score, high)

    def _values(
        self, sums: torch.Tensor
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        # Softmax values of a window add up to one, so the channels' sum is the
        # sum of the weights.
        weight = sums.sum(dim=0)
        best, index = sums.max(dim=0)
        classes = (index + self._first_class).to(torch.uint8)
        classes[weight == 0] = SKIPPED
        scale = 255.0 / weight.clamp_min(torch.finfo(torch.float32).tiny)
        score = (best * scale).round_().clamp_(0, 255).to(torch.uint8)
        high = sums[CIN2 - self._first_class] + sums[CIN3 - self._first_class]
        high = (high * scale).round_().clamp_(0, 255).to(torch.uint8)
        return classes.cpu().numpy(), score.cpu().numpy(), high.cpu().numpy()
