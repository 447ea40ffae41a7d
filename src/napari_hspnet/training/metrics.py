"""Dice, IoU and pixel accuracy from pooled confusion counts (paper, section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.classes import BACKGROUND, CLASSES

__all__ = ["Scores", "confusion", "scores"]

_VALUES = len(CLASSES) + 1


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix comes to.

    Attributes
    ----------
    dice, iou : dict of str to float
        By class name. A class that is neither there nor predicted is left out.
    mean_dice, mean_iou : float
        Over these classes (equations 3 and 4); NaN if there is none.
    accuracy : float
        Share of counted pixels that are right (the paper's AP, equation 5).
    pixels : int
        Counted pixels.
    """

    dice: dict[str, float]
    iou: dict[str, float]
    mean_dice: float
    mean_iou: float
    accuracy: float
    pixels: int


def confusion(
    truth: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8]
) -> npt.NDArray[np.int64]:
    """Pixel counts by true (row) and predicted (column) value, 0 to 4.

    Sum the matrices of several images to pool them.
    """
    both = truth.astype(np.int64).ravel() * _VALUES + predicted.ravel()
    return np.bincount(both, minlength=_VALUES**2).reshape(_VALUES, _VALUES)


def scores(counts: npt.NDArray[np.int64], masked: bool = True) -> Scores:
    """Scores of classes 1 to 4.

    Parameters
    ----------
    counts : ndarray of int64, (5, 5)
        See `confusion`.
    masked : bool
        Whether pixels whose truth is background are left out, whatever is
        predicted there (the public scorer's way); a predicted 0 on an annotated
        pixel is an error either way.
    """
    if masked:
        counts = counts.copy()
        counts[BACKGROUND] = 0
    dice: dict[str, float] = {}
    iou: dict[str, float] = {}
    for c in CLASSES:
        hit = int(counts[c.value, c.value])
        both = int(counts[c.value].sum() + counts[:, c.value].sum())
        if both:
            dice[c.name] = 2 * hit / both
            iou[c.name] = hit / (both - hit)
    pixels = int(counts.sum())
    return Scores(
        dice,
        iou,
        float(np.mean(list(dice.values()))) if dice else float("nan"),
        float(np.mean(list(iou.values()))) if iou else float("nan"),
        float(np.trace(counts)) / pixels if pixels else float("nan"),
        pixels,
    )
