"""Which labels of a case are handed on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases import UNTOUCHED, Composite
from napari_hspnet.errors import InputError
from napari_hspnet.slides.grid import LabelGrid

__all__ = ["WHATS", "CaseLabels", "LabelSource", "What"]

What = Literal["composite", "prediction", "correction", "difference"]
"""What is shown, what the runs said, what readers said, where they said something else."""

WHATS: tuple[What, ...] = get_args(What)


class LabelSource(Protocol):
    """Where labels are exported from: those of a case, or anything like them."""

    @property
    def grid(self) -> LabelGrid:
        """The label grid."""

    def read(self, y: int, x: int, height: int, width: int) -> npt.NDArray[np.uint8]:
        """Class values of a box of label pixels."""


@dataclass(frozen=True)
class CaseLabels:
    """Labels of a case.

    Attributes
    ----------
    composite : Composite
        Of a snapshot, so that they stay as they are.
    what : {"composite", "prediction", "correction", "difference"}
        In the last two 255 stands where no reader said, or changed, anything.
    """

    composite: Composite
    what: What = "composite"

    def __post_init__(self) -> None:
        if self.what not in WHATS:
            raise InputError(
                f"There is no {self.what!r} to export", advice=f"Choose one of {', '.join(WHATS)}"
            )

    @property
    def grid(self) -> LabelGrid:
        """The label grid."""
        return self.composite.grid

    def read(self, y: int, x: int, height: int, width: int) -> npt.NDArray[np.uint8]:
        """Class values of a box of label pixels."""
        box = y, x, height, width
        if self.what == "composite":
            return self.composite.read(*box)
        if self.what == "prediction":
            return self.composite.read(*box, what="prediction")
        said = self.composite.read(*box, what="correction")
        if self.what == "difference" and (said != UNTOUCHED).any():
            said[said == self.composite.read(*box, what="prediction")] = UNTOUCHED
        return said
