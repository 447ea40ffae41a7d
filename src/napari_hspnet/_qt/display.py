"""What napari draws: class values turned into outlines, fills and hatches on reading.

Array-likes over the composite's levels. Nothing is stored; a box is computed when
napari asks for it, so an outline is as thin as the level that is on screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_hspnet._qt.style import OverlayStyle, value_table
from napari_hspnet.cases import Composite
from napari_hspnet.classes import NOT_RUN
from napari_hspnet.exchange.drawing import REACH, outlined, veiled
from napari_hspnet.slides import LazyLabels

__all__ = [
    "REACH",
    "ChangeLevel",
    "LabelLevel",
    "OverlayLevel",
    "VeilLevel",
    "change_levels",
    "outlined",
    "overlay_levels",
    "veil_levels",
]

Array = npt.NDArray[np.uint8]
_CHANGE = 2
"""The class whose line width outlines a change."""


class LabelLevel(Protocol):
    """A level of labels: a composite's, or an ndarray."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, index: Any) -> Any: ...


class OverlayLevel(LazyLabels):
    """Outlines (and fills) of the classes: class value, + LINE, + HALO; 0 is empty.

    Parameters
    ----------
    source : LabelLevel
        Class values.
    style : OverlayStyle
        Which of them, and whether filled.
    """

    def __init__(self, source: LabelLevel, style: OverlayStyle) -> None:
        super().__init__(_shape(source))
        self._source = source
        self._table = value_table(style)
        self._fill = style.fill

    def _read(self, y0: int, x0: int, height: int, width: int) -> Array:
        y1, x1 = y0 + height, x0 + width
        top, left = max(0, y0 - REACH), max(0, x0 - REACH)
        bottom, right = min(self.shape[0], y1 + REACH), min(self.shape[1], x1 + REACH)
        values = np.asarray(self._source[top:bottom, left:right])
        drawn = outlined(self._table[values], self._fill)
        return drawn[y0 - top : y1 - top, x0 - left : x1 - left]


class ChangeLevel(LazyLabels):
    """Outlines of where a correction is not what the runs predicted.

    Parameters
    ----------
    composite : Composite
        Corrections on predictions.
    level : int
        Which level of it.
    """

    def __init__(self, composite: Composite, level: int) -> None:
        super().__init__(composite.levels[level].shape)
        self._composite, self._level = composite, level

    def _read(self, y0: int, x0: int, height: int, width: int) -> Array:
        box = y0 - REACH, x0 - REACH, height + 2 * REACH, width + 2 * REACH
        said = self._composite.read(*box, self._level, "correction")
        if (said == NOT_RUN).all():
            return np.zeros((height, width), np.uint8)
        predicted = self._composite.read(*box, self._level, "prediction")
        changed = (said != NOT_RUN) & (said != predicted)
        drawn = outlined(np.where(changed, _CHANGE, 0).astype(np.uint8), False)
        return drawn[REACH : REACH + height, REACH : REACH + width]


class VeilLevel(LazyLabels):
    """A hatch where nothing was analysed: two alternating values a reason, else 0."""

    def __init__(self, source: LabelLevel) -> None:
        super().__init__(_shape(source))
        self._source = source

    def _read(self, y0: int, x0: int, height: int, width: int) -> Array:
        values = np.asarray(self._source[y0 : y0 + height, x0 : x0 + width])
        return veiled(values, y0, x0)


def _shape(level: LabelLevel) -> tuple[int, int]:
    return int(level.shape[0]), int(level.shape[1])


def overlay_levels(levels: Sequence[LabelLevel], style: OverlayStyle) -> list[OverlayLevel]:
    """The overlay's pyramid."""
    return [OverlayLevel(level, style) for level in levels]


def veil_levels(levels: Sequence[LabelLevel]) -> list[VeilLevel]:
    """The veil's pyramid."""
    return [VeilLevel(level) for level in levels]


def change_levels(composite: Composite) -> list[ChangeLevel]:
    """The pyramid of what was changed."""
    return [ChangeLevel(composite, level) for level in range(len(composite.levels))]
