"""What an artefact is: something that changes light on its way."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Artefact", "Box", "crosses", "tinted"]

Floats = npt.NDArray[np.float64]
Light = npt.NDArray[np.float32]
Box = tuple[float, float, float, float]
"""(y0, x0, y1, x1) in µm."""


class Artefact(Protocol):
    """Something that changes light on its way."""

    @property
    def reads(self) -> float:
        """How far around a pixel it looks, µm."""

    @property
    def box(self) -> Box:
        """Where it lies."""

    def meets(self, box: Box) -> bool:
        """Whether it may change light in a box; never wrongly False."""

    def apply(self, light: Light, y: Floats, x: Floats, mpp: float) -> Light:
        """The light (h, w, 3) at crossings of y (h,) and x (w,), changed.

        Right but for the outermost `reads` µm.
        """


def crosses(a: Box, b: Box) -> bool:
    """Whether two boxes share a point."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def tinted(colour: tuple[float, float, float], amount: npt.NDArray[np.floating]) -> Light:
    """Transmission of so much of a colour: 1 where there is none."""
    density = -np.log(np.asarray(colour, np.float32))
    return np.asarray(np.exp(-density * amount[..., None].astype(np.float32)), np.float32)
