"""The label grid: where labels live, whatever the slide's own resolution."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.slides.types import SlideInfo

__all__ = ["LABEL_MPP", "LabelBlock", "LabelGrid"]

LABEL_MPP = 1.0
"""µm per label pixel by default: the paper's x10 (section 4.1)."""

_ROUNDING = 1e-6


@dataclass(frozen=True)
class LabelGrid:
    """Square pixels of `mpp` µm from the slide's origin, size rounded up.

    The origin is the corner of level 0's first pixel; label pixel (i, j) covers
    ``[i*mpp, (i+1)*mpp) x [j*mpp, (j+1)*mpp)`` µm.
    """

    shape: tuple[int, int]
    mpp: float = LABEL_MPP

    @classmethod
    def of(cls, info: SlideInfo, mpp: float = LABEL_MPP) -> LabelGrid:
        """The grid of a slide.

        Raises
        ------
        ResolutionError
            If the slide's µm per pixel is unknown.
        """
        mpp_y, mpp_x = info.require_mpp()
        height, width = info.shape
        return cls(
            (
                max(1, math.ceil(height * mpp_y / mpp - _ROUNDING)),
                max(1, math.ceil(width * mpp_x / mpp - _ROUNDING)),
            ),
            mpp,
        )


@dataclass(frozen=True)
class LabelBlock:
    """A finished piece of a run, in label-grid pixels.

    Attributes
    ----------
    y, x : int
        Where its first pixel lies on the label grid.
    classes : ndarray of uint8, (h, w)
        0 to 4; 253 skipped (no tissue); 254 unreadable; 255 not run.
    score : ndarray of uint8, (h, w)
        Highest softmax value times 255, rounded; 0 where there is no class.
        A model score, not calibrated.
    high : ndarray of uint8, (h, w)
        p(CIN2) + p(CIN3), likewise.
    """

    y: int
    x: int
    classes: npt.NDArray[np.uint8]
    score: npt.NDArray[np.uint8]
    high: npt.NDArray[np.uint8]
