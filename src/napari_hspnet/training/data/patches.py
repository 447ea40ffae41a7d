"""Which patches of a window's size there are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_hspnet.classes import BACKGROUND
from napari_hspnet.errors import InputError
from napari_hspnet.training.data.images import LABELS, LabelledImage
from napari_hspnet.training.losses import IGNORE

__all__ = ["PatchIndex", "patch_index"]

Indices = npt.NDArray[np.int32]

_MPP_TOLERANCE = 0.02


@dataclass(frozen=True, eq=False)
class PatchIndex:
    """Where the patches of a set of images lie. Made by `patch_index`.

    Attributes
    ----------
    image, y, x : ndarray of int32, (n,)
        Number of the image, and the patch's corner in its pixels; ordered by them.
    counts : ndarray of int32, (n, 5)
        Pixels of each label 0 to 4; ignored ones are those that lack.
    side, stride : int
        Pixels.
    min_foreground : float
        Smallest proportion of labels 1 to 4.
    outside : int
        The label beyond images smaller than a patch.
    windows : int
        How many there were before any was dropped.
    """

    image: Indices
    y: Indices
    x: Indices
    counts: Indices
    side: int
    stride: int
    min_foreground: float
    outside: int
    windows: int

    def __len__(self) -> int:
        return len(self.image)

    @property
    def digest(self) -> str:
        """SHA-256 of all that it says: a training that goes on finds the same patches."""
        said = (self.side, self.stride, self.min_foreground, self.outside, self.windows)
        mark = hashlib.sha256(repr(said).encode())
        for array in (self.image, self.y, self.x, self.counts):
            mark.update(array.astype("<i4").tobytes())
        return mark.hexdigest()


def patch_index(
    images: Sequence[LabelledImage],
    side: int = 400,
    stride: int = 100,
    min_foreground: float = 0.2,
    *,
    outside: Literal[0, 255] = 255,
) -> PatchIndex:
    """Find the patches with enough foreground (paper, section 4.1).

    Windows sit on multiples of the stride from each image's corner; the last row
    and column are shifted inwards. An image smaller than a window gives one that
    is padded, at the bottom and right, with white. Labels are read in bands, one
    image after another, and summed up as an integral image on the windows' edges.

    Parameters
    ----------
    images : sequence of LabelledImage
    side, stride : int
        Pixels.
    min_foreground : float
        Windows with a smaller proportion of labels 1 to 4 are dropped, and always
        those without any label.
    outside : {0, 255}
        The label of what is padded.

    Raises
    ------
    InputError
        There is no image, they differ in µm per pixel, no window has enough
        foreground, or a number makes no sense.
    """
    if side < 1 or stride < 1 or not 0 <= min_foreground <= 1 or outside not in (0, IGNORE):
        raise InputError(
            f"There are no patches of {side} px, stride {stride}, foreground {min_foreground}, "
            f"padded with label {outside}",
            advice="Give pixels of 1 or more, a proportion from 0 to 1, and 0 or 255",
        )
    _refuse_mixed(images)
    found, windows, most = [], 0, 0.0
    for number, image in enumerate(images):
        ys, xs = _starts(image.height, side, stride), _starts(image.width, side, stride)
        counts = _counts(image, ys, xs, side)
        if outside == BACKGROUND:
            padded = side * side - min(side, image.height) * min(side, image.width)
            counts[..., BACKGROUND] += padded
        foreground = counts[..., 1:].sum(axis=-1) / side**2
        most = max(most, float(foreground.max()))
        keep = (foreground >= min_foreground) & (counts.sum(axis=-1) > 0)
        rows, columns = np.nonzero(keep)
        windows += keep.size
        found.append((np.full(len(rows), number), ys[rows], xs[columns], counts[keep]))
    image_of, y, x, kept = (np.concatenate(part) for part in zip(*found, strict=True))
    if not len(y):
        raise InputError(
            f"None of the {windows} patches has enough foreground: {most:.1%} at most, where "
            f"{min_foreground:.1%} is asked for",
            advice="Lower the limit, or add images with more annotation",
        )
    at = _frozen(image_of), _frozen(y), _frozen(x)
    return PatchIndex(*at, _frozen(kept), side, stride, min_foreground, outside, windows)


def _frozen(values: npt.NDArray[np.integer]) -> Indices:
    array = values.astype(np.int32)
    array.flags.writeable = False
    return array


def _refuse_mixed(images: Sequence[LabelledImage]) -> None:
    if not images:
        raise InputError("There is no image to learn from", advice="Give at least one")
    first = images[0]
    for image in images:
        if abs(image.mpp / first.mpp - 1) > _MPP_TOLERANCE:
            raise InputError(
                f"{first.name} has {first.mpp:g} µm per pixel, {image.name} {image.mpp:g}",
                advice="Bring all images to one resolution",
            )


def _starts(length: int, side: int, stride: int) -> npt.NDArray[np.intp]:
    """Where windows begin along one axis."""
    last = max(0, length - side)
    starts = np.arange(0, last + 1, stride)
    return starts if starts[-1] == last else np.append(starts, last)


def _counts(
    image: LabelledImage, ys: npt.NDArray[np.intp], xs: npt.NDArray[np.intp], side: int
) -> npt.NDArray[np.int64]:
    """Pixels of each label in each window, (len(ys), len(xs), 5)."""
    bottoms, rights = np.minimum(ys + side, image.height), np.minimum(xs + side, image.width)
    rows, columns = np.union1d(ys, bottoms), np.union1d(xs, rights)
    table = np.zeros((len(rows), len(columns), len(LABELS)), np.int64)
    for i, (top, bottom) in enumerate(pairwise(rows)):
        labels = image.read_labels(int(top), 0, int(bottom - top), image.width)
        for value in LABELS:
            sums = np.concatenate([[0], np.cumsum(np.count_nonzero(labels == value, axis=0))])
            table[i + 1, :, value] = table[i, :, value] + sums[columns]
    y0, y1 = np.searchsorted(rows, ys), np.searchsorted(rows, bottoms)
    x0, x1 = np.searchsorted(columns, xs), np.searchsorted(columns, rights)
    below, above = table[y1], table[y0]
    counts: npt.NDArray[np.int64] = below[:, x1] - below[:, x0] - above[:, x1] + above[:, x0]
    return counts
