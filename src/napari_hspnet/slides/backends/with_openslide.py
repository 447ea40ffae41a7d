"""Reading through OpenSlide: Aperio, Hamamatsu, MIRAX, Leica, Philips, Ventana, Zeiss, …"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_hspnet.slides.backends.base import (
    COPY_AGAIN,
    Contents,
    Pixels,
    ReadError,
    Refusal,
    StoredLevel,
    on_white,
)
from napari_hspnet.slides.types import Bounds

__all__ = ["OpenSlideBackend"]

# An allow-list, since vendors put names, accession numbers, dates and free text
# wherever they like: what is not known to be technical is not kept.
_TECHNICAL = re.compile(
    r"openslide\.(vendor|mpp-[xy]|objective-power|level-count|bounds-(x|y|width|height)"
    r"|background-color|icc-size|level\[\d+\]\.(downsample|width|height|tile-width|tile-height))"
    r"|tiff\.(ResolutionUnit|XResolution|YResolution)"
    r"|aperio\.(AppMag|MPP|OriginalWidth|OriginalHeight|StripeWidth|Filtered)"
    r"|hamamatsu\.(SourceLens|XOffsetFromSlideCentre|YOffsetFromSlideCentre|LayerCount)"
    r"|leica\.objective|ventana\.(Magnification|ScanRes)|mirax\.GENERAL\.OBJECTIVE_MAGNIFICATION"
    r"|philips\.DICOM_PIXEL_SPACING"
    r"|dicom\.(Modality|PhotometricInterpretation|TransferSyntaxUID|LossyImageCompressionRatio"
    r"|ImagedVolume(Width|Height)|TotalPixelMatrix(Columns|Rows)|Rows|Columns|NumberOfFrames)"
)


class OpenSlideBackend:
    """One OpenSlide handle shared by all threads, replaced once it is poisoned.

    Parameters
    ----------
    path : Path
        The slide.

    Raises
    ------
    Refusal
        If OpenSlide does not read the file or is not installed.
    """

    name = "openslide"

    def __init__(self, path: Path) -> None:
        try:
            import openslide
        except (ImportError, OSError) as error:
            raise Refusal(f"OpenSlide is not usable here ({error})") from error
        self._path = path
        self._error: type[Exception] = openslide.OpenSlideError
        self._lock = threading.Lock()
        self._handle: Any = None
        self._closed = False
        try:
            self._handle = self._fresh()
            self._downsamples: tuple[float, ...] = self._handle.level_downsamples
            self.contents = _contents(self._handle)
        except openslide.OpenSlideUnsupportedFormatError as error:
            raise Refusal("it is not in a slide format that OpenSlide knows") from error
        except openslide.OpenSlideError as error:
            raise Refusal(f"it is damaged ({error})", advice=COPY_AGAIN) from error
        if self.contents.vendor == "generic-tiff" and "<OME" in self.contents.description:
            # OpenSlide would show the first page alone, without levels or µm.
            self._handle = None
            raise Refusal("OME-TIFF is not read through OpenSlide")

    def _fresh(self) -> Any:
        import openslide

        return openslide.OpenSlide(self._path)

    def read(self, level: int, y: int, x: int, height: int, width: int) -> Pixels:
        """See `Backend.read`.

        OpenSlide addresses every level in level-0 pixels through *its* factor,
        the mean ratio of sizes, so that is the one to multiply with: the place
        found is then off by half a level-0 pixel at most, whatever the level.
        """
        factor = self._downsamples[level]
        where = (round(x * factor), round(y * factor))
        handle = None
        try:
            handle = self._current()
            return _rgb(handle.read_region(where, level, (width, height)))
        except self._error as error:
            # After one error a handle answers every call with that error, so a
            # thread cannot tell its own from another's: it asks again alone.
            self._retire(handle)
            try:
                return _rgb(self._fresh().read_region(where, level, (width, height)))
            except self._error:
                raise ReadError(str(error)) from error

    def read_associated(self, name: str) -> Pixels:
        """See `Backend.read_associated`."""
        try:
            return _rgb(self._fresh().associated_images[name])
        except self._error as error:
            raise ReadError(str(error)) from error

    def close(self) -> None:
        """See `Backend.close`: the last reader's reference closes the handle."""
        with self._lock:
            self._closed = True
            self._handle = None

    def _current(self) -> Any:
        with self._lock:
            if self._closed:
                raise ReadError("the slide was closed")
            if self._handle is None:
                self._handle = self._fresh()
            return self._handle

    def _retire(self, poisoned: Any) -> None:
        with self._lock:
            if self._handle is poisoned:
                self._handle = None


def _rgb(image: Any) -> Pixels:
    return on_white(np.asarray(image))


def _contents(handle: Any) -> Contents:
    properties: Mapping[str, str] = handle.properties
    levels = []
    for index, (width, height) in enumerate(handle.level_dimensions):
        prefix = f"openslide.level[{index}].tile-"
        levels.append(
            StoredLevel(
                (height, width),
                (
                    int(_number(properties.get(prefix + "height")) or 256),
                    int(_number(properties.get(prefix + "width")) or 256),
                ),
            )
        )
    mpp = tuple(_number(properties.get(f"openslide.mpp-{axis}")) for axis in "yx")
    return Contents(
        vendor=properties.get("openslide.vendor", "unknown"),
        levels=tuple(levels),
        mpp=None if mpp[0] is None or mpp[1] is None else (mpp[0], mpp[1]),
        objective=_number(properties.get("openslide.objective-power")),
        bounds=_bounds(properties),
        associated=tuple(sorted(handle.associated_images)),
        properties={k: v for k, v in properties.items() if _TECHNICAL.fullmatch(k)},
        description="\n".join(
            properties.get(key, "") for key in ("openslide.comment", "tiff.ImageDescription")
        ),
    )


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _bounds(properties: Mapping[str, str]) -> Bounds | None:
    values = [
        _number(properties.get(f"openslide.bounds-{k}")) for k in ("y", "x", "height", "width")
    ]
    if any(value is None for value in values):
        return None
    y, x, height, width = (int(value or 0) for value in values)
    return Bounds(y, x, height, width) if height > 0 and width > 0 else None
