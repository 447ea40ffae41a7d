"""The slide and its overlay as a picture in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_hspnet.classes import CIN3, NORMAL, NOT_RUN, Palette
from napari_hspnet.exchange.about import ExportInfo
from napari_hspnet.exchange.drawing import (
    REACH,
    blend,
    outlined,
    overlay_colours,
    veil_colours,
    veiled,
)
from napari_hspnet.exchange.frame import Frame
from napari_hspnet.exchange.output import Cancel, Report, stop_if
from napari_hspnet.exchange.seen import Seen
from napari_hspnet.slides import Slide

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Drawn", "Look", "draw", "line_scale", "swatch"]

Array = npt.NDArray[np.uint8]

_LINES_FROM = 1500
_EOSIN, _GLASS = (226, 190, 208), (244, 244, 246)


@dataclass(frozen=True)
class Look:
    """How the overlay is drawn.

    Attributes
    ----------
    palette : Palette
        Its colours.
    fill : bool
        Whether areas are filled beside their outlines.
    veil : bool
        Whether "not run" is hatched; where only corrections are shown it is not,
        since most of a slide is then left as it was.
    """

    palette: Palette
    fill: bool = False
    veil: bool = True

    @classmethod
    def of(cls, about: ExportInfo, fill: bool = False) -> Look:
        """As the labels want it that are described."""
        return cls(about.palette, fill, about.what in ("composite", "prediction"))


@dataclass(frozen=True)
class Drawn:
    """A picture.

    Attributes
    ----------
    image : Image
        RGB.
    whole : bool
        False where a part of the slide could not be read, which is grey then.
    """

    image: Image
    whole: bool


def draw(
    slide: Slide | None,
    seen: Seen,
    look: Look | None,
    progress: Report | None = None,
    cancel: Cancel | None = None,
) -> Drawn:
    """The slide and its overlay, tile by tile.

    Parameters
    ----------
    slide : Slide or None
        White without one.
    seen : Seen
        Where, and the labels there.
    look : Look or None
        No overlay without one, and nothing outside the region is made lighter.
    progress, cancel
        Told the part done; stops the drawing.

    Raises
    ------
    CancelledError
        If cancelled.
    """
    from PIL import Image as Images

    frame = seen.frame
    image = Images.new("RGB", (frame.width, frame.height))
    scale = line_scale(frame)
    whole, done = True, 0
    for at in frame.tiles():
        stop_if(cancel)
        pixels, read = frame.read_tile(slide, at)
        whole &= read
        if look is not None:
            _overlay(pixels, seen, at, look, scale)
        image.paste(Images.fromarray(pixels), (at[1].start, at[0].start))
        done += pixels.shape[0] * pixels.shape[1]
        if progress is not None:
            progress(done / (frame.height * frame.width))
    return Drawn(image, whole)


def line_scale(frame: Frame) -> int:
    """How many times wider than on screen lines are, to be seen on the whole picture."""
    return max(1, round(max(frame.shape) / _LINES_FROM))


def _overlay(pixels: Array, seen: Seen, at: tuple[slice, slice], look: Look, scale: int) -> None:
    reach = REACH * scale
    height, width = seen.frame.shape
    top, left = max(0, at[0].start - reach), max(0, at[1].start - reach)
    around = np.s_[top : min(height, at[0].stop + reach), left : min(width, at[1].stop + reach)]
    cut = np.s_[at[0].start - top : at[0].stop - top, at[1].start - left : at[1].stop - left]
    values = seen.values[around]
    own = values[cut]
    hatched = own if look.veil else np.where(own == NOT_RUN, 0, own).astype(np.uint8)
    y, x = seen.frame.y + at[0].start, seen.frame.x + at[1].start
    blend(pixels, veiled(hatched, y, x, scale), veil_colours())
    graded = np.where((values >= NORMAL) & (values <= CIN3), values, 0).astype(np.uint8)
    blend(pixels, outlined(graded, look.fill, scale)[cut], overlay_colours(look.palette))
    if seen.inside is None:
        return
    inside = seen.inside[around]
    beyond = ~inside[cut]
    pixels[beyond] = 255 - (255 - pixels[beyond]) // 3
    # The lines of the first class, which no grade has in black.
    border = outlined(inside.astype(np.uint8), False, scale)[cut]
    blend(pixels, np.where(border > CIN3, 1, 0).astype(np.uint8), {1: (0.1, 0.1, 0.12, 0.9)})


def swatch(value: int, look: Look, height: int, scale: int = 1) -> Array:
    """How a value looks, (height, 1.6 height, 3): for a legend."""
    width = round(height * 1.6)
    pixels = np.empty((height, width, 3), np.uint8)
    graded = NORMAL <= value <= CIN3
    pixels[:] = _EOSIN if graded else _GLASS
    if graded:
        scale = max(1, min(scale, height // (2 * REACH)))
        rim = min(2 * scale, height // 4)
        values = np.zeros((height, width), np.uint8)
        values[rim:-rim, rim:-rim] = value
        blend(pixels, outlined(values, look.fill, scale), overlay_colours(look.palette))
    elif look.veil or value != NOT_RUN:
        values = np.full((height, width), value, np.uint8)
        blend(pixels, veiled(values, 0, 0, scale), veil_colours())
    pixels[0] = pixels[-1] = pixels[:, 0] = pixels[:, -1] = 120
    return pixels
