"""Flat colours from which a test network reads the truth."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.phantom.geometry import GLASS, STROMA
from napari_hspnet.phantom.tissue import GLASS_COLOUR

__all__ = ["ORACLE_COLOURS", "ORACLE_GLASS", "oracle_lookup", "oracle_paint"]

Colour = tuple[int, int, int]

ORACLE_GLASS: Colour = GLASS_COLOUR
"""Colour of glass in an oracle slide; its value is 0, as that of stroma."""

# All within the gamut of H&E, so that a tissue mask that knows pen takes none
# of them for pen; at least 70 apart.
ORACLE_COLOURS: MappingProxyType[int, Colour] = MappingProxyType(
    {
        0: (240, 180, 200),
        1: (200, 120, 220),
        2: (230, 80, 140),
        3: (140, 60, 190),
        4: (90, 30, 100),
    }
)
"""RGB of stroma (0) and of the four classes (1 to 4) in an oracle slide."""


def oracle_paint(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Colours (h, w, 3) of codes (h, w): GLASS, STROMA, or a class value."""
    table = np.zeros((STROMA + 1, 3), np.uint8)
    for value, colour in ORACLE_COLOURS.items():
        table[STROMA if value == 0 else value] = colour
    table[GLASS] = ORACLE_GLASS
    return table[np.minimum(codes, STROMA)]


def oracle_lookup(rgb: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The class value whose colour is nearest.

    Parameters
    ----------
    rgb : ndarray, (..., 3)
        Values 0..255.

    Returns
    -------
    ndarray of uint8, (...)
        0 to 4; 0 for glass and stroma.
    """
    colours = np.asarray([ORACLE_GLASS, *ORACLE_COLOURS.values()], np.float32)
    values = np.asarray([0, *ORACLE_COLOURS], np.uint8)
    away = np.stack([((rgb - c) ** 2).sum(axis=-1) for c in colours])
    return np.asarray(values[away.argmin(axis=0)])
