"""TIFF and OME-TIFF through tifffile, where OpenSlide refuses or misses levels."""

from __future__ import annotations

import math
import struct
import threading
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
from napari_hspnet.slides.importing import import_zarr

__all__ = ["MAX_PIXELS", "TiffBackend"]

MAX_PIXELS = 400_000_000
"""Largest level without tiles or strips that is held whole in memory (1.2 GB)."""

_LARGE_SEGMENT = 4096 * 4096
_UM_PER_CM = 10_000.0
_UM_PER_INCH = 25_400.0
_UM_OF_UNIT = {
    "nm": 1e-3,
    "µm": 1.0,
    "μm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "\\u00b5m": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "inch": _UM_PER_INCH,
    "in": _UM_PER_INCH,
}


class TiffBackend:
    """8-bit RGB, interleaved or planar, with levels as SubIFDs or pages.

    Parameters
    ----------
    path : Path
        The TIFF.

    Raises
    ------
    Refusal
        If it is no TIFF, or not of 8-bit RGB.
    """

    name = "tifffile"

    def __init__(self, path: Path) -> None:
        import tifffile

        self._lock = threading.Lock()
        if _cut_short(path):
            raise Refusal(
                "the file is cut short: a part of its index is missing", advice=COPY_AGAIN
            )
        try:
            self._file = tifffile.TiffFile(path)
        except tifffile.TiffFileError as error:
            raise Refusal("it is no TIFF") from error
        except Exception as error:
            # tifffile meets damaged tags with whatever the parsing raised.
            raise Refusal(f"it is a damaged TIFF ({error})", advice=COPY_AGAIN) from error
        try:
            self._series = _choose_series(self._file)
            self.contents = _contents(self._file, self._series)
        except Refusal:
            self._file.close()
            raise
        except Exception as error:
            self._file.close()
            raise Refusal(f"it is a damaged TIFF ({error})", advice=COPY_AGAIN) from error
        self._arrays: dict[int, Any] = {}
        self._axes = self._series.axes
        self._alpha = _has_alpha(self._series)

    def read(self, level: int, y: int, x: int, height: int, width: int) -> Pixels:
        """See `Backend.read`."""
        array = self._array(level)
        box = (slice(y, y + height), slice(x, x + width))
        try:
            if self._axes == "SYX":
                pixels = np.moveaxis(np.asarray(array[(slice(None), *box)]), 0, -1)
            else:
                pixels = np.asarray(array[box])
        except Exception as error:
            # Codecs raise their own kinds of errors, with no common base.
            raise ReadError(_first_line(error)) from error
        return on_white(pixels) if self._alpha else np.ascontiguousarray(pixels[..., :3])

    def _array(self, level: int) -> Any:
        zarr = import_zarr()
        with self._lock:
            if level not in self._arrays:
                stored = self._series.levels[level]
                if _segment_pixels(stored.keyframe) > _LARGE_SEGMENT:
                    # One strip for all: every box would decode it anew.
                    try:
                        self._arrays[level] = self._series.asarray(level=level)
                    except Exception as error:
                        raise ReadError(_first_line(error)) from error
                else:
                    # Tiles that the file leaves out are glass.
                    store = self._series.aszarr(level=level, fillvalue=255)
                    self._arrays[level] = zarr.open_array(store, mode="r")
            return self._arrays[level]

    def read_associated(self, name: str) -> Pixels:
        """See `Backend.read_associated`: tifffile's are not offered."""
        raise ReadError("associated images are read through OpenSlide alone")

    def close(self) -> None:
        """See `Backend.close`."""
        with self._lock:
            self._arrays.clear()
            self._file.close()


def _cut_short(path: Path) -> bool:
    """Whether the chain of a TIFF's directories leads beyond the end of the file.

    tifffile then offers the pages before the break, which may lack level 0 or
    what states the µm per pixel, so an interrupted copy would go unnoticed.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 8:
            return False
        version = struct.unpack(order + "H", head[2:4])[0]
        if version == 42:
            offset = struct.unpack(order + "I", head[4:8])[0]
            count, entry, link = "H", 12, "I"
        elif version == 43 and len(head) == 16:
            offset = struct.unpack(order + "Q", head[8:16])[0]
            count, entry, link = "Q", 20, "Q"
        else:
            return False
        seen = set()
        while offset and offset not in seen:
            seen.add(offset)
            file.seek(offset)
            raw = file.read(struct.calcsize(count))
            if len(raw) < struct.calcsize(count):
                return True
            end = offset + len(raw) + struct.unpack(order + count, raw)[0] * entry
            if end + struct.calcsize(link) > size:
                return True
            file.seek(end)
            offset = struct.unpack(order + link, file.read(struct.calcsize(link)))[0]
    return False


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def _choose_series(file: Any) -> Any:
    rgb = [series for series in file.series if _is_rgb(series)]
    if not rgb:
        first = file.series[0] if file.series else None
        what = (
            f"axes {first.axes}, {first.dtype}" if first is not None else "nothing that can be read"
        )
        raise Refusal(f"it is a TIFF, but not of 8-bit RGB (it holds {what})", advice=AS_RGB)
    return max(rgb, key=lambda series: int(np.prod(series.shape)))


def _is_rgb(series: Any) -> bool:
    if series.axes not in ("YXS", "SYX") or series.dtype != np.uint8:
        return False
    return series.shape[series.axes.index("S")] in (3, 4)


def _has_alpha(series: Any) -> bool:
    extra = tuple(int(sample) for sample in getattr(series.keyframe, "extrasamples", ()))
    return series.shape[series.axes.index("S")] == 4 and 2 in extra


def _segment_pixels(page: Any) -> int:
    if page.is_tiled:
        return int(page.tilelength * page.tilewidth)
    return int(min(page.rowsperstrip, page.imagelength) * page.imagewidth)


def _contents(file: Any, series: Any) -> Contents:
    levels = []
    for level in series.levels:
        page = level.keyframe
        shape = (int(page.imagelength), int(page.imagewidth))
        tile = (
            (int(page.tilelength), int(page.tilewidth))
            if page.is_tiled
            else (max(1, min(int(page.rowsperstrip), shape[0])), shape[1])
        )
        if _segment_pixels(page) > _LARGE_SEGMENT and shape[0] * shape[1] > MAX_PIXELS:
            raise Refusal(
                f"it is a TIFF of {shape[1]} x {shape[0]} px in one piece, too large to be read "
                "without tiles",
                advice=AS_TILES,
            )
        levels.append(StoredLevel(shape, tile))
    page = series.keyframe
    return Contents(
        vendor="ome-tiff" if file.is_ome else "tiff",
        levels=tuple(levels),
        mpp=_ome_mpp(file, series) or _imagej_mpp(file, page) or _tag_mpp(page),
        objective=_ome_objective(file),
        description=str(page.description or "") + str(file.pages[0].description or ""),
    )


def _resolution(page: Any) -> tuple[float, float] | None:
    """Pixels per unit, (y, x), from the tags."""
    values = []
    for name in ("YResolution", "XResolution"):
        tag = page.tags.get(name)
        if tag is None:
            return None
        over, under = tag.value if isinstance(tag.value, tuple) else (tag.value, 1)
        if not over or not under:
            return None
        values.append(over / under)
    return values[0], values[1]


def _tag_mpp(page: Any) -> tuple[float, float] | None:
    unit = page.tags.get("ResolutionUnit")
    # Absent means inch by the TIFF standard; 1 means a ratio without a unit.
    um = {2: _UM_PER_INCH, 3: _UM_PER_CM}.get(2 if unit is None else int(unit.value))
    found = _resolution(page)
    return None if um is None or found is None else (um / found[0], um / found[1])


def _imagej_mpp(file: Any, page: Any) -> tuple[float, float] | None:
    unit = (file.imagej_metadata or {}).get("unit") if file.is_imagej else None
    um, found = _UM_OF_UNIT.get(str(unit).lower()), _resolution(page)
    return None if um is None or found is None else (um / found[0], um / found[1])


def _ome_images(file: Any) -> list[Any]:
    from xml.etree import ElementTree

    if not file.is_ome or "<!DOCTYPE" in (file.ome_metadata or ""):
        return []
    try:
        root = ElementTree.fromstring(file.ome_metadata)
    except (ElementTree.ParseError, TypeError):
        return []
    return [element for element in root.iter() if element.tag.endswith("}Pixels")]


def _ome_mpp(file: Any, series: Any) -> tuple[float, float] | None:
    images = _ome_images(file)
    index = next(i for i, other in enumerate(file.series) if other is series)
    if index >= len(images):
        return None
    pixels = images[index]
    values = []
    for axis in "YX":
        um = _UM_OF_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm").lower())
        try:
            value = float(pixels.get(f"PhysicalSize{axis}", ""))
        except ValueError:
            return None
        if um is None or not math.isfinite(value):
            return None
        values.append(value * um)
    return values[0], values[1]


def _ome_objective(file: Any) -> float | None:
    from xml.etree import ElementTree

    if not _ome_images(file):
        return None
    for element in ElementTree.fromstring(file.ome_metadata).iter():
        if element.tag.endswith("}Objective"):
            try:
                return float(element.get("NominalMagnification", ""))
            except ValueError:
                return None
    return None
