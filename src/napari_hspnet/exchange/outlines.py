"""The connected regions of a label mask as polygons."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np

from napari_hspnet.cases import ReviewRegion
from napari_hspnet.cases.store import CHUNK
from napari_hspnet.classes import CLASS_BY_VALUE
from napari_hspnet.exchange.about import ExportInfo
from napari_hspnet.exchange.output import Cancel, Report, stop_if
from napari_hspnet.exchange.sources import LabelSource
from napari_hspnet.exchange.tracing import Tracer

__all__ = ["BAND_PIXELS", "outline_id", "outlines", "region_id"]

BAND_PIXELS = 24_000_000
"""Followed at once."""

_READ = 8 * CHUNK


def outlines(
    labels: LabelSource,
    progress: Report | None = None,
    cancel: Cancel | None = None,
    band_pixels: int = BAND_PIXELS,
) -> Iterator[tuple[int, Any]]:
    """The connected regions of classes 1 to 4, as shapely polygons in label pixels.

    Regions are joined at edges (4-connected) and whole across the slide. Corners are
    where the border turns, and nowhere else.

    Parameters
    ----------
    labels : LabelSource
        Where to read; each pixel is asked for once, from the top.
    progress : callable (float) -> None, optional
        Told the part that is done, 0 to 1.
    cancel : threading.Event, optional
        Stops it within a second.
    band_pixels : int
        How many pixels are looked at at once; neither regions nor their order
        depend on it.

    Yields
    ------
    (int, shapely.Polygon)
        Class value and outline (x, y), valid, its holes with it; those that end
        first come first. Its first point is the corner of its first pixel.

    Raises
    ------
    CancelledError
        If `cancel` was set.
    """
    height, width = labels.grid.shape
    rows = max(1, band_pixels // width)
    if rows >= CHUNK:
        # Chunks that are cut by a band's border would be read twice.
        rows -= rows % CHUNK
    tracers = {value: Tracer(width, lambda: stop_if(cancel)) for value in CLASS_BY_VALUE}
    values = np.empty((rows, width), np.uint8)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        band = values[: bottom - top]
        for left in range(0, width, _READ):
            stop_if(cancel)
            right = min(width, left + _READ)
            band[:, left:right] = labels.read(top, left, bottom - top, right - left)
        found = []
        for value, tracer in tracers.items():
            stop_if(cancel)
            found += [
                (traced.key, value, traced.polygon)
                for traced in tracer.take(band == value, bottom == height)
            ]
        found.sort(key=lambda each: each[:2])
        for _, value, polygon in found:
            stop_if(cancel)
            yield value, polygon
        if progress is not None:
            progress(bottom / height)


def outline_id(about: ExportInfo, value: int, polygon: Any) -> str:
    """What tells an outline from all others of the slide, as a UUID.

    The same outline has the same one in every export of the same kind of labels,
    whatever became of other outlines meanwhile, so that QuPath can match them.

    Parameters
    ----------
    about : ExportInfo
        Which slide, and which of its labels.
    value : int
        The outline's class.
    polygon : shapely.Polygon
        As `outlines` gives it.
    """
    x0, y0, x1, y1 = (int(side) for side in polygon.bounds)
    first_x, _ = polygon.exterior.coords[0]
    said = (
        f"{about.slide_fingerprint} {about.grid.mpp!r} {about.what} {value} "
        f"{y0} {int(first_x)} {y1} {x0} {x1} {int(polygon.area)}"
    )
    return str(uuid.uuid5(uuid.NAMESPACE_OID, said))


def region_id(about: ExportInfo, region: ReviewRegion) -> str:
    """The same for a review region."""
    said = f"{about.slide_fingerprint} review region {region.id} {region.box} {region.pixels}"
    return str(uuid.uuid5(uuid.NAMESPACE_OID, said))
