"""How much there is of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.classes import VALUE_NAMES
from napari_hspnet.errors import InputError
from napari_hspnet.training.data.images import LABELS, LabelledImage
from napari_hspnet.training.data.patches import PatchIndex

__all__ = ["ClassBalance", "ClassCount", "check_classes", "class_balance", "class_pixels"]

_ROWS = 1024


@dataclass(frozen=True)
class ClassCount:
    """How much there is of one class.

    Attributes
    ----------
    value : int
        Its label.
    name : str
    pixels : int
        Of all images, or of all patches, where they overlap as often as they do.
    share : float
        Of all that is not ignored, 0 to 1.
    images : int
        That hold some.
    patients : int
        Likewise.
    patches : int or None
        Likewise; None where images were counted.
    """

    value: int
    name: str
    pixels: int
    share: float
    images: int
    patients: int
    patches: int | None


@dataclass(frozen=True)
class ClassBalance:
    """A row for each label 0 to 4.

    Attributes
    ----------
    rows : tuple of ClassCount
    images, patients : int
        In all.
    patches : int or None
        In all; None where images were counted.
    """

    rows: tuple[ClassCount, ...]
    images: int
    patients: int
    patches: int | None

    @property
    def present(self) -> tuple[ClassCount, ...]:
        """The rows with pixels."""
        return tuple(row for row in self.rows if row.pixels)

    def lines(self) -> tuple[str, ...]:
        """The table as text, a heading first."""
        patched = self.patches is not None
        head = f"{'class':<18}{'pixels':>15}{'share':>8}{'images':>8}{'patients':>10}"
        lines = [head + (f"{'patches':>10}" if patched else "")]
        for r in self.rows:
            line = f"{r.name:<18}{r.pixels:>15,}{r.share:>8.1%}{r.images:>8}{r.patients:>10}"
            lines.append(line + (f"{r.patches:>10,}" if patched else ""))
        return tuple(lines)


def class_pixels(images: Sequence[LabelledImage]) -> npt.NDArray[np.int64]:
    """Pixels of each label in each image, (images, 5); masks are read one by one."""
    counts = np.zeros((len(images), len(LABELS)), np.int64)
    for i, image in enumerate(images):
        for y in range(0, image.height, _ROWS):
            labels = image.read_labels(y, 0, min(_ROWS, image.height - y), image.width)
            counts[i] += np.bincount(labels.ravel(), minlength=256)[: len(LABELS)]
    return counts


def class_balance(
    images: Sequence[LabelledImage],
    index: PatchIndex | None = None,
    pixels: npt.NDArray[np.int64] | None = None,
) -> ClassBalance:
    """Count classes in images, or in the patches of an index.

    Parameters
    ----------
    images : sequence of LabelledImage
    index : PatchIndex, optional
        Of these images; its patches are counted instead of whole images.
    pixels : ndarray of int64, (images, 5), optional
        What `class_pixels` gave of them, if it is at hand.
    """
    if index is None:
        counts = class_pixels(images) if pixels is None else pixels
        owners = np.arange(len(images))
    else:
        counts, owners = index.counts.astype(np.int64), index.image.astype(np.intp)
    patients = np.array([image.patient for image in images])
    totals = counts.sum(axis=0)
    everything = max(1, int(totals.sum()))
    rows = []
    for value in LABELS:
        own = owners[counts[:, value] > 0]
        rows.append(
            ClassCount(
                value,
                VALUE_NAMES[value],
                int(totals[value]),
                int(totals[value]) / everything,
                len(np.unique(own)),
                len(np.unique(patients[own])),
                None if index is None else len(own),
            )
        )
    used = np.unique(owners)
    patches = None if index is None else len(index)
    return ClassBalance(tuple(rows), len(used), len(np.unique(patients[used])), patches)


def check_classes(balance: ClassBalance) -> None:
    """Refuse data of one class: a network learns nothing from it.

    Raises
    ------
    InputError
        If less than two labels have pixels.
    """
    present = balance.present
    if len(present) < 2:
        what = f"only {present[0].name}" if present else "no class at all"
        raise InputError(
            f"The training data hold {what}, so there is nothing to tell apart",
            advice="Add images with other classes",
        )
