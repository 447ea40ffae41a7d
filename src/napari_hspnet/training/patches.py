"""Random patches from fields held in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from napari_hspnet.classes import CLASSES
from napari_hspnet.errors import InputError
from napari_hspnet.training.augment import orient, stain_jitter

__all__ = ["FieldPatches", "LabelledField", "PatchSource"]

Image = npt.NDArray[np.uint8]


class LabelledField(Protocol):
    """An image with its truth."""

    @property
    def rgb(self) -> Image:
        """(h, w, 3)."""

    @property
    def truth(self) -> Image:
        """(h, w), label values 0 to 4."""


class PatchSource(Protocol):
    """Where a training loop gets its batches."""

    def batch(self, rng: np.random.Generator, side: int, count: int) -> tuple[Image, Image]:
        """(count, side, side, 3) and (count, side, side)."""


class FieldPatches:
    """Random, augmented patches, every class as often.

    A class is drawn first, then a field by how much of the class it has, then a
    place. As in the paper (section 4.1) a patch with too little foreground is
    dropped and drawn again.

    Parameters
    ----------
    fields : sequence of LabelledField
    min_foreground : float
        Smallest proportion of classes 1 to 4 in a patch.
    stain : float
        See `stain_jitter`.

    Raises
    ------
    InputError
        If there is no field, or no annotated pixel in any.
    """

    def __init__(
        self, fields: Sequence[LabelledField], min_foreground: float = 0.2, stain: float = 0.08
    ) -> None:
        self._fields = tuple(fields)
        self._min_foreground = min_foreground
        self._stain = stain
        counts = np.array(
            [[np.count_nonzero(field.truth == c.value) for c in CLASSES] for field in self._fields],
            np.float64,
        ).reshape(len(self._fields), len(CLASSES))
        present = counts.sum(axis=0) > 0
        if not present.any():
            raise InputError(
                "there is nothing to train on: no annotated pixel in any field",
                advice="Give fields with at least one of the four classes",
            )
        counts = counts[:, present]
        self._shares = (counts / counts.sum(axis=0)).T

    def batch(self, rng: np.random.Generator, side: int, count: int) -> tuple[Image, Image]:
        """A batch of patches.

        Parameters
        ----------
        rng : numpy Generator
        side : int
            Pixels; smaller fields are padded with white and class 0.
        count : int

        Returns
        -------
        tuple of ndarray of uint8
            (count, side, side, 3) and (count, side, side).
        """
        rgb = np.empty((count, side, side, 3), np.uint8)
        truth = np.empty((count, side, side), np.uint8)
        for i in range(count):
            rgb[i], truth[i] = self._patch(rng, side)
        return rgb, truth

    def _patch(self, rng: np.random.Generator, side: int) -> tuple[Image, Image]:
        share = self._shares[rng.integers(len(self._shares))]
        field = self._fields[rng.choice(len(self._fields), p=share)]
        rgb, truth = _at_least(field.rgb, field.truth, side)
        best, most = (0, 0), -1.0
        # A field may have no place with enough foreground: then the best of these.
        for _ in range(20):
            y = int(rng.integers(truth.shape[0] - side + 1))
            x = int(rng.integers(truth.shape[1] - side + 1))
            here = float(np.mean(truth[y : y + side, x : x + side] > 0))
            if here > most:
                best, most = (y, x), here
            if here >= self._min_foreground:
                break
        y, x = best
        part = rgb[y : y + side, x : x + side], truth[y : y + side, x : x + side]
        image, label = orient(*part, int(rng.integers(8)))
        return stain_jitter(image, rng, self._stain), label


def _at_least(rgb: Image, truth: Image, side: int) -> tuple[Image, Image]:
    short = [max(0, side - n) for n in truth.shape]
    if not any(short):
        return rgb, truth
    pad = [(0, n) for n in short]
    return np.pad(rgb, [*pad, (0, 0)], constant_values=255), np.pad(truth, pad)
