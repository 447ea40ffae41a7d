"""What training reads: images with labels, wherever they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from napari_hspnet.classes import BACKGROUND, CIN3
from napari_hspnet.errors import InputError
from napari_hspnet.training.losses import IGNORE

__all__ = [
    "LABELS",
    "ArrayImage",
    "Array",
    "ImageSet",
    "LabelledImage",
    "check_box",
    "known_labels",
]

Array = npt.NDArray[np.uint8]

LABELS = tuple(range(BACKGROUND, CIN3 + 1))
"""Values that a pixel can be taught as; `IGNORE` is the only other one."""


class LabelledImage(Protocol):
    """An image and its labels, read box by box; safe from several threads.

    Attributes
    ----------
    name : str
        What it is called in messages and tables.
    patient : str
        Images of one patient stay on one side of a split.
    height, width : int
        Pixels of `mpp`.
    mpp : float
        µm per pixel.
    """

    @property
    def name(self) -> str: ...

    @property
    def patient(self) -> str: ...

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def mpp(self) -> float: ...

    def read(self, y: int, x: int, height: int, width: int) -> tuple[Array, Array]:
        """A box within the image.

        Returns
        -------
        tuple of ndarray of uint8
            RGB (height, width, 3) and labels (height, width): 0 to 4, 255 ignored.
            Copies that the caller may change.

        Raises
        ------
        ValueError
            If the box is not within the image.
        InputError, SlideReadError
            If it cannot be read.
        """

    def read_labels(self, y: int, x: int, height: int, width: int) -> Array:
        """The labels alone, as `read` gives them; the picture is then not decoded."""


@dataclass(frozen=True, eq=False)
class ArrayImage:
    """An image held in memory.

    Attributes
    ----------
    name, patient : str
        See `LabelledImage`.
    rgb : ndarray of uint8, (h, w, 3)
    labels : ndarray of uint8, (h, w)
        0 to 4, 255 ignored.
    mpp : float
        µm per pixel.

    Raises
    ------
    InputError
        If the two do not fit, or a label is none.
    """

    name: str
    patient: str
    rgb: Array
    labels: Array
    mpp: float = 1.0

    def __post_init__(self) -> None:
        for what, array in (("picture", self.rgb), ("labels", self.labels)):
            if array.dtype != np.uint8:
                raise InputError(
                    f"The {what} of {self.name} are of type {array.dtype}", advice="Give uint8"
                )
        if self.rgb.shape != (*self.labels.shape, 3) or self.labels.size == 0:
            raise InputError(
                f"{self.name} has a picture of shape {self.rgb.shape} and labels of shape "
                f"{self.labels.shape}",
                advice="Give (h, w, 3) and (h, w)",
            )
        known_labels(self.labels, self.name)

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.labels.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.labels.shape[1])

    def read(self, y: int, x: int, height: int, width: int) -> tuple[Array, Array]:
        """See `LabelledImage.read`."""
        check_box(self, y, x, height, width)
        rgb = self.rgb[y : y + height, x : x + width].copy()
        return rgb, self.labels[y : y + height, x : x + width].copy()

    def read_labels(self, y: int, x: int, height: int, width: int) -> Array:
        """See `LabelledImage.read_labels`."""
        check_box(self, y, x, height, width)
        return self.labels[y : y + height, x : x + width].copy()


@dataclass(frozen=True)
class ImageSet:
    """Images that were found together.

    Attributes
    ----------
    images : tuple of LabelledImage
        By name.
    notes : tuple of str
        What a user should know of how they were read, one sentence each.
    """

    images: tuple[LabelledImage, ...]
    notes: tuple[str, ...] = ()

    @property
    def patients(self) -> tuple[str, ...]:
        """Each once, sorted."""
        return patients_of(self.images)


def patients_of(images: Sequence[LabelledImage]) -> tuple[str, ...]:
    """Their patients, each once, sorted."""
    return tuple(sorted({image.patient for image in images}))


def check_box(image: LabelledImage, y: int, x: int, height: int, width: int) -> None:
    """Refuse a box that is not within the image.

    Raises
    ------
    ValueError
        If so.
    """
    if min(y, x) < 0 or min(height, width) < 1:
        raise ValueError(f"no box: {height} x {width} at ({y}, {x})")
    if y + height > image.height or x + width > image.width:
        raise ValueError(
            f"{height} x {width} at ({y}, {x}) reaches beyond {image.name} of "
            f"{image.height} x {image.width}"
        )


def known_labels(labels: Array, name: str, path: Path | None = None) -> None:
    """Refuse labels with a value that stands for nothing.

    Parameters
    ----------
    labels : ndarray of uint8
    name : str
        Whose, for the message.
    path : Path, optional
        The file.

    Raises
    ------
    InputError
        Which names the values.
    """
    found = np.flatnonzero(np.bincount(labels.ravel(), minlength=256))
    unknown = [int(v) for v in found if v not in LABELS and v != IGNORE]
    if unknown:
        few = ", ".join(map(str, unknown[:8])) + (", …" if len(unknown) > 8 else "")
        raise InputError(
            f"The labels of {name} hold {few}, which stands for no class",
            advice="Save 0 for none, 1 for normal, 2 for CIN1, 3 for CIN2, 4 for CIN3, and "
            "255 for what is to be ignored",
            path=path,
        )
