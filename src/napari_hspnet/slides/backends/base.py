"""The protocol that every reader of slide files keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from napari_hspnet.slides.types import Bounds

__all__ = [
    "AS_RGB",
    "AS_TILES",
    "COPY_AGAIN",
    "Backend",
    "Contents",
    "Pixels",
    "ReadError",
    "Refusal",
    "StoredLevel",
    "on_white",
]

Pixels = npt.NDArray[np.uint8]


class Refusal(Exception):  # noqa: N818 - a verdict on a file, not an error for the user
    """A backend does not read this file; the sentence says why.

    Parameters
    ----------
    reason : str
        A sentence without full stop.
    advice : str, optional
        What the user should do. Given where the file's kind was recognised, so
        that no other backend should be asked and `reason` is what the user is told.
    """

    def __init__(self, reason: str, *, advice: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice


COPY_AGAIN = "Copy the file again from where it came, or export it anew from the scanner"
AS_RGB = "Export it as 8-bit RGB, best as a tiled pyramidal TIFF"
AS_TILES = "Convert it to a tiled pyramidal TIFF"


class ReadError(Exception):
    """Pixels that the file should hold cannot be decoded."""


@dataclass(frozen=True)
class StoredLevel:
    """Size and tile size, (height, width), of a level as stored."""

    shape: tuple[int, int]
    tile: tuple[int, int]


@dataclass(frozen=True)
class Contents:
    """What a file says of itself.

    Attributes
    ----------
    vendor : str
        OpenSlide's vendor name or the file format.
    levels : tuple of StoredLevel
        Finest first.
    mpp : tuple of float or None
        (y, x) µm/px exactly as the file states it, plausible or not.
    objective : float or None
        Objective power.
    bounds : Bounds or None
        Scanned area in level-0 pixels.
    associated : tuple of str
        Names of associated images.
    properties : Mapping of str to str
        Technical properties, none that could name a patient.
    description : str
        The image description, for the phantom's marker only: never kept.
    """

    vendor: str
    levels: tuple[StoredLevel, ...]
    mpp: tuple[float, float] | None = None
    objective: float | None = None
    bounds: Bounds | None = None
    associated: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    description: str = ""


class Backend(Protocol):
    """An open file. `read` is called from several threads at once."""

    name: str
    contents: Contents

    def read(self, level: int, y: int, x: int, height: int, width: int) -> Pixels:
        """Pixels (height, width, 3) of a box that lies wholly inside the level.

        Raises
        ------
        ReadError
            If they cannot be decoded.
        """

    def read_associated(self, name: str) -> Pixels:
        """An associated image (h, w, 3), by one of ``contents.associated``.

        Raises
        ------
        ReadError
            If it cannot be decoded.
        """

    def close(self) -> None:
        """Release the file. Reads under way finish."""


def on_white(rgba: Pixels) -> Pixels:
    """Straight-alpha RGBA (h, w, 4) composited on white, (h, w, 3)."""
    rgb, alpha = rgba[..., :3], rgba[..., 3:]
    if alpha.size == 0 or int(alpha.min()) == 255:
        return np.ascontiguousarray(rgb)
    weighed = rgb.astype(np.uint16) * alpha + (255 - alpha.astype(np.uint16)) * np.uint16(255)
    return ((weighed + 127) // 255).astype(np.uint8)
