"""The overlay as pixels: outlines with a rim, a hatch where nothing was analysed.

What the window shows and what is exported are drawn by the same functions.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from napari_hspnet.classes import CLASSES, NOT_RUN, SKIPPED, UNREADABLE, Colour, Palette

__all__ = [
    "FILL_ALPHA",
    "HALO",
    "HATCH",
    "LINE",
    "LINE_WIDTHS",
    "REACH",
    "VEIL_VALUES",
    "Rgba",
    "blend",
    "outlined",
    "overlay_colours",
    "veil_colours",
    "veiled",
]

Array = npt.NDArray[np.uint8]
Rgba = tuple[float, float, float, float]

LINE = 10
"""Added to a class value where its outline runs."""

HALO = 20
"""Displayed value of the thin rim around every outline."""

LINE_WIDTHS = {1: 1, 2: 2, 3: 3, 4: 4}
"""Pixels of an outline by class: the order of severity without any colour."""

REACH = max(LINE_WIDTHS.values()) + 1
"""Pixels beyond a box that can change what is drawn in it, at scale 1."""

FILL_ALPHA = 0.4

VEIL_VALUES = {SKIPPED: 1, UNREADABLE: 3, NOT_RUN: 5}
"""First of the two displayed values of each."""

HATCH = 6
"""Pixels of a stripe of the hatch, at scale 1."""


def outlined(values: Array, fill: bool, scale: int = 1) -> Array:
    """Class values as lines along the inner side of each region, with a rim.

    Parameters
    ----------
    values : ndarray of uint8, (h, w)
        0 to 4.
    fill : bool
        Whether the inside keeps its value or becomes 0.
    scale : int
        How many times wider all lines are.

    Returns
    -------
    ndarray of uint8, (h, w)
        Lines are ``LINE_WIDTHS`` wide and have ``LINE`` added; a rim one pixel
        wide on its inner side has ``HALO`` added, and one on the outer side,
        where that is empty, is ``HALO``.
    """
    out = values.copy() if fill else np.zeros_like(values)
    if not values.any():
        return out
    # Distance to the nearest pixel of another value, in steps, by growing.
    away = np.full(values.shape, 255, np.uint8)
    edge = np.zeros(values.shape, bool)
    across = values[:, 1:] != values[:, :-1]
    down = values[1:] != values[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    if not edge.any():
        return out
    for step in range(REACH * scale):
        away[edge & (away == 255)] = step
        grown = edge.copy()
        if step % 2 == 0:
            grown[:, 1:] |= edge[:, :-1]
            grown[:, :-1] |= edge[:, 1:]
            grown[1:] |= edge[:-1]
            grown[:-1] |= edge[1:]
        else:
            # Squares and diamonds in turn: lines keep their width on slopes.
            wide = edge.copy()
            wide[:, 1:] |= edge[:, :-1]
            wide[:, :-1] |= edge[:, 1:]
            grown = wide.copy()
            grown[1:] |= wide[:-1]
            grown[:-1] |= wide[1:]
        edge = grown
    widths = np.zeros(256, np.uint8)
    for value, width in LINE_WIDTHS.items():
        widths[value] = width * scale
    wanted = widths[values]
    line = (values != 0) & (away < wanted)
    rim = (values != 0) & ~line & (away < wanted + scale)
    out[line] = values[line] + LINE
    out[rim] = values[rim] + HALO
    out[(values == 0) & (away < scale)] = HALO
    return out


def veiled(values: Array, y: int, x: int, scale: int = 1) -> Array:
    """A hatch where nothing was analysed: two alternating values a reason, else 0.

    Parameters
    ----------
    values : ndarray of uint8, (h, w)
        Values of the overlay.
    y, x : int
        Where the first of them lies, so that stripes go on from box to box.
    scale : int
        How many times wider the stripes are.
    """
    table = np.zeros(256, np.uint8)
    for value, drawn in VEIL_VALUES.items():
        table[value] = drawn
    veil: Array = table[values]
    if veil.any():
        rows = np.arange(y, y + values.shape[0])[:, None]
        stripe = (rows + np.arange(x, x + values.shape[1])) // (HATCH * scale) % 2
        veil += np.where(veil != 0, stripe, 0).astype(np.uint8)
    return veil


def overlay_colours(palette: Palette) -> dict[int | None, Rgba]:
    """Colour of every value that `outlined` gives."""
    colours: dict[int | None, Rgba] = {None: (0, 0, 0, 0), 0: (0, 0, 0, 0)}
    colours[HALO] = (0.05, 0.05, 0.1, 0.6)
    for c in CLASSES:
        rgb = palette.colours[c.value]
        colours[c.value] = _rgba(rgb, FILL_ALPHA)
        colours[c.value + LINE] = _rgba(rgb, 1.0)
        colours[c.value + HALO] = _halo(rgb)
    return colours


def veil_colours() -> dict[int | None, Rgba]:
    """Colour of every value that `veiled` gives."""
    dark, light = 0.32, 0.12
    return {
        None: (0, 0, 0, 0),
        0: (0, 0, 0, 0),
        1: (0.30, 0.32, 0.36, 0.10),
        2: (0.30, 0.32, 0.36, 0.22),
        3: (0.95, 0.55, 0.05, light + 0.15),
        4: (0.95, 0.35, 0.05, dark + 0.2),
        5: (0.25, 0.25, 0.30, light),
        6: (0.25, 0.25, 0.30, dark),
    }


def blend(pixels: Array, drawn: Array, colours: Mapping[int | None, Rgba]) -> None:
    """Lay drawn values over a picture, in place.

    Parameters
    ----------
    pixels : ndarray of uint8, (h, w, 3)
        RGB.
    drawn : ndarray of uint8, (h, w)
        What `outlined` or `veiled` gives; 0 leaves a pixel as it is.
    colours : Mapping of int to (r, g, b, alpha)
        0 to 1, of every value in `drawn`.
    """
    at = drawn != 0
    if not at.any():
        return
    table = np.zeros((256, 4), np.float32)
    for value, colour in colours.items():
        if value is not None:
            table[value] = colour
    wanted = table[drawn[at]]
    alpha = wanted[:, 3:]
    mixed = pixels[at] * (1 - alpha) + wanted[:, :3] * (255 * alpha)
    pixels[at] = np.rint(mixed).astype(np.uint8)


def _halo(rgb: Colour) -> Rgba:
    # Dark around light lines, light around dark ones: it shows on glass and on
    # eosin, whatever the palette.
    light = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] > 110
    return (0.05, 0.05, 0.1, 0.75) if light else (1.0, 1.0, 1.0, 0.8)


def _rgba(rgb: Colour, alpha: float) -> Rgba:
    return (rgb[0] / 255, rgb[1] / 255, rgb[2] / 255, alpha)
