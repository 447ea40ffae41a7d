"""Plain RGB images (PNG, JPEG, BMP) that OpenSlide and tifffile refuse."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from napari_hspnet.slides.backends.base import (
    AS_RGB,
    AS_TILES,
    COPY_AGAIN,
    Contents,
    Pixels,
    ReadError,
    Refusal,
    StoredLevel,
    on_white,
)

__all__ = ["MAX_PIXELS", "PillowBackend"]

MAX_PIXELS = 400_000_000
"""Largest image that is held whole in memory (1.2 GB)."""

_TILE = 512
_UM_PER_INCH = 25_400.0


class PillowBackend:
    """An image that is decoded whole on the first read and then kept.

    Parameters
    ----------
    path : Path
        The image.

    Raises
    ------
    Refusal
        If it is no PNG, JPEG or BMP of 8-bit colours.
    """

    name = "pillow"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._pixels: Pixels | None = None
        self._closed = False
        with self._open() as image:
            if image.mode not in ("RGB", "RGBA", "P"):
                raise Refusal(
                    f"it is a {image.format} image of mode {image.mode}, not of 8-bit RGB",
                    advice=AS_RGB,
                )
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise Refusal(
                    f"it is a {image.format} image of {width} x {height} px, too large to be "
                    "read without tiles",
                    advice=AS_TILES,
                )
            dpi = image.info.get("dpi")
            self.contents = Contents(
                vendor=str(image.format).lower(),
                levels=(StoredLevel((height, width), (_TILE, _TILE)),),
                mpp=_mpp(dpi),
                description=str(image.info.get("Description", "")),
            )

    def _open(self) -> Any:
        from PIL import Image, UnidentifiedImageError

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            try:
                return Image.open(self._path, formats=("PNG", "JPEG", "BMP"))
            except UnidentifiedImageError as error:
                raise Refusal("it is no PNG, JPEG or BMP image") from error
            except Image.DecompressionBombError as error:
                raise Refusal(
                    "it is an image too large to be read without tiles", advice=AS_TILES
                ) from error
            except (OSError, SyntaxError, ValueError) as error:
                raise Refusal(f"it is a damaged image ({error})", advice=COPY_AGAIN) from error

    def read(self, level: int, y: int, x: int, height: int, width: int) -> Pixels:
        """See `Backend.read`."""
        with self._lock:
            pixels = self._pixels
            if pixels is None:
                pixels = self._decode()
                if not self._closed:
                    self._pixels = pixels
        return np.ascontiguousarray(pixels[y : y + height, x : x + width])

    def _decode(self) -> Pixels:
        try:
            with self._open() as image:
                if image.mode == "RGB":
                    return np.array(image)
                return on_white(np.array(image.convert("RGBA")))
        except (OSError, SyntaxError, ValueError, Refusal) as error:
            raise ReadError(str(error)) from error

    def read_associated(self, name: str) -> Pixels:
        """See `Backend.read_associated`: there are none."""
        raise ReadError("plain images have no associated images")

    def close(self) -> None:
        """See `Backend.close`."""
        with self._lock:
            self._closed = True
            self._pixels = None


def _mpp(dpi: Any) -> tuple[float, float] | None:
    try:
        x, y = (float(value) for value in dpi)
    except (TypeError, ValueError):
        return None
    return (_UM_PER_INCH / y, _UM_PER_INCH / x) if x > 0 and y > 0 else None
