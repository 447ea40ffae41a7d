"""How the overlay looks: which classes, which colours, lines or filled."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_hspnet.classes import CIN2, CIN3, CLASSES, PALETTES, Palette
from napari_hspnet.exchange import drawing
from napari_hspnet.exchange.drawing import (
    FILL_ALPHA,
    HALO,
    LINE,
    LINE_WIDTHS,
    VEIL_VALUES,
    Rgba,
    veil_colours,
)

__all__ = [
    "FILL_ALPHA",
    "HALO",
    "LINE",
    "LINE_WIDTHS",
    "VEIL_VALUES",
    "OverlayStyle",
    "change_colours",
    "overlay_colours",
    "value_table",
    "veil_colours",
]


@dataclass(frozen=True)
class OverlayStyle:
    """All that the overlay section can change.

    Attributes
    ----------
    palette : str
        Key of `PALETTES`.
    hidden : frozenset of int
        Class values that are not drawn.
    two_tier : bool
        LSIL and HSIL instead of CIN1 to 3: CIN2 and CIN3 become one.
    fill : bool
        Filled areas beside the outlines.
    opacity : float
        Of the whole overlay, 0 to 1.
    visible : bool
        Whether it is shown at all.
    veil : bool
        Whether "not analysed" is marked.
    changes : bool
        Whether it is outlined where a reader changed what the model said.
    """

    palette: str = "paper"
    hidden: frozenset[int] = frozenset()
    two_tier: bool = False
    fill: bool = False
    opacity: float = 0.9
    visible: bool = True
    veil: bool = True
    changes: bool = False

    @property
    def colours(self) -> Palette:
        """The palette."""
        return PALETTES[self.palette]

    def rows(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Lines of the legend: name and the class values that it stands for."""
        if not self.two_tier:
            return tuple((c.name, (c.value,)) for c in CLASSES)
        tiers = dict.fromkeys(c.two_tier for c in CLASSES)
        return tuple(
            (tier, tuple(c.value for c in CLASSES if c.two_tier == tier)) for tier in tiers
        )

    def name_of(self, value: int) -> str:
        """A class value in the words of the legend."""
        return next(name for name, values in self.rows() if value in values)

    def shown(self, values: tuple[int, ...], show: bool) -> OverlayStyle:
        """With these classes shown or hidden."""
        hidden = self.hidden - set(values) if show else self.hidden | set(values)
        return replace(self, hidden=frozenset(hidden))

    def pixels_equal(self, other: OverlayStyle) -> bool:
        """Whether a change of colours alone leads from one to the other."""
        return (self.two_tier, self.fill, self.hidden) == (
            other.two_tier,
            other.fill,
            other.hidden,
        )


def value_table(style: OverlayStyle) -> npt.NDArray[np.uint8]:
    """What each label value is drawn as: itself, its tier's worst, or nothing (256,)."""
    table = np.zeros(256, np.uint8)
    for c in CLASSES:
        drawn = CIN3 if style.two_tier and c.value == CIN2 else c.value
        table[c.value] = 0 if c.value in style.hidden else drawn
    return table


def overlay_colours(style: OverlayStyle) -> dict[int | None, Rgba]:
    """Colour of every displayed value, for a direct colour map."""
    return drawing.overlay_colours(style.colours)


def change_colours() -> dict[int | None, Rgba]:
    """Colours of the outline of what was changed; see `display.ChangeLevel`."""
    clear = (0.0, 0.0, 0.0, 0.0)
    magenta = (1.0, 0.0, 0.85, 1.0)
    return {None: clear, 0: clear, HALO: (1.0, 1.0, 1.0, 0.9)} | {
        c.value + extra: colour
        for c in CLASSES
        for extra, colour in ((0, clear), (LINE, magenta), (HALO, (1.0, 1.0, 1.0, 0.9)))
    }
