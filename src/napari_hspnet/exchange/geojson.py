"""Outlines as GeoJSON that QuPath opens."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np
import numpy.typing as npt

from napari_hspnet.classes import CLASS_BY_VALUE
from napari_hspnet.exchange.about import ExportInfo
from napari_hspnet.exchange.output import Cancel, Report, new_file, stop_if
from napari_hspnet.exchange.sources import LabelSource

__all__ = ["Origin", "outlines", "write_geojson"]

Origin = Literal["bounds", "level0"]

_BAND_PIXELS = 64_000_000
_DIGITS = 3


@dataclass(frozen=True)
class _Frame:
    """From label pixels to level-0 pixels of the chosen origin."""

    scale: tuple[float, float]
    offset: tuple[float, float]

    @classmethod
    def of(cls, about: ExportInfo, origin: Origin) -> _Frame:
        mpp_y, mpp_x = about.slide_mpp
        bounds = about.bounds if origin == "bounds" else None
        return cls(
            (about.grid.mpp / mpp_x, about.grid.mpp / mpp_y),
            (bounds.x, bounds.y) if bounds is not None else (0.0, 0.0),
        )

    def ring(self, points: npt.NDArray[np.float64]) -> list[list[float]]:
        moved = points * np.asarray(self.scale) - np.asarray(self.offset)
        rounded: list[list[float]] = np.round(moved, _DIGITS).tolist()
        return rounded


def write_geojson(
    path: Path,
    labels: LabelSource,
    about: ExportInfo,
    origin: Origin = "bounds",
    *,
    overwrite: bool = False,
    progress: Report | None = None,
    cancel: Cancel | None = None,
) -> Path:
    """Write a polygon, with its holes, for every connected region of classes 1 to 4.

    Coordinates are level-0 pixels. QuPath crops a slide to OpenSlide's bounds, so
    their offset is subtracted unless `origin` is ``"level0"``. Regions are joined
    at edges (4-connected), whole across the slide, and named and coloured as
    QuPath's annotations are. What the export is about stands under ``"hspnet"``.

    Parameters
    ----------
    path : Path
        Ends in ``.geojson`` by custom.
    labels : LabelSource
        What to export, the whole label grid.
    about : ExportInfo
        What the file says of itself, and where the slide's bounds lie.
    origin : {"bounds", "level0"}
        Which point is (0, 0).
    overwrite, progress, cancel
        As for `write_ome_tiff`.

    Raises
    ------
    OutputError
        The file exists, the disk is full, or writing is not permitted.
    CancelledError
        If `cancel` was set.
    """
    path = Path(path)
    with new_file(path, overwrite) as beside, beside.open("w", encoding="utf-8") as file:
        said = {**about.facts(), "origin": origin}
        file.write('{"type": "FeatureCollection",\n"hspnet": ')
        file.write(json.dumps(said, ensure_ascii=False))
        file.write(',\n"features": [')
        _write_features(file, labels, about, origin, progress, cancel)
        file.write("\n]}\n")
    return path


def _write_features(
    file: TextIO,
    labels: LabelSource,
    about: ExportInfo,
    origin: Origin,
    progress: Report | None,
    cancel: Cancel | None,
) -> None:
    frame = _Frame.of(about, origin)
    space = uuid.uuid5(uuid.NAMESPACE_OID, about.slide_fingerprint + "".join(about.run_ids))
    for number, (value, polygon) in enumerate(outlines(labels, progress, cancel)):
        kind = CLASS_BY_VALUE[value]
        feature = {
            "type": "Feature",
            # The same export twice gives the same ids, so that QuPath can match them.
            "id": str(uuid.uuid5(space, str(number))),
            "geometry": {
                "type": "Polygon",
                "coordinates": [
                    frame.ring(np.asarray(ring.coords))
                    for ring in (polygon.exterior, *polygon.interiors)
                ],
            },
            "properties": {
                "objectType": "annotation",
                "classification": {
                    "name": kind.name,
                    "color": list(about.palette.colours[value]),
                },
                "measurements": {"Area µm^2": round(polygon.area * about.grid.mpp**2, 6)},
                "metadata": {"notice": about.notice, "model": about.model_name},
            },
        }
        file.write(",\n" if number else "\n")
        # Not json.dump: writing in pieces goes through Python, ten times slower.
        file.write(json.dumps(feature, ensure_ascii=False))


def outlines(
    labels: LabelSource,
    progress: Report | None = None,
    cancel: Cancel | None = None,
    band_pixels: int = _BAND_PIXELS,
) -> Iterator[tuple[int, Any]]:
    """The connected regions of classes 1 to 4, as shapely polygons in label pixels.

    Parameters
    ----------
    labels : LabelSource
        Where to read.
    progress, cancel
        As for `write_geojson`.
    band_pixels : int
        How many pixels are vectorised at once; what crosses a band's border is
        joined again, so the regions do not depend on it.

    Yields
    ------
    (int, shapely.Polygon)
        Class value and outline (x, y), valid, its holes with it.
    """
    import shapely

    height, width = labels.grid.shape
    rows = max(1, band_pixels // width)
    waiting: dict[int, list[Any]] = {value: [] for value in CLASS_BY_VALUE}
    for top in range(0, height, rows):
        stop_if(cancel)
        bottom = min(height, top + rows)
        meeting = waiting
        waiting = {value: [] for value in CLASS_BY_VALUE}
        for value, polygon in _vectorised(labels.read(top, 0, bottom - top, width), top):
            stop_if(cancel)
            _, low, _, high = polygon.bounds
            if top > 0 and low == top:
                meeting[value].append(polygon)
            elif bottom < height and high == bottom:
                waiting[value].append(polygon)
            else:
                yield value, polygon
        for value, parts in meeting.items():
            stop_if(cancel)
            if not parts:
                continue
            for polygon in shapely.get_parts(shapely.unary_union(parts)):
                if bottom < height and polygon.bounds[3] == bottom:
                    waiting[value].append(polygon)
                else:
                    yield value, _straightened(polygon)
        if progress is not None:
            progress(bottom / height)


def _vectorised(values: npt.NDArray[np.uint8], top: int) -> Iterator[tuple[int, Any]]:
    import shapely
    from rasterio.features import shapes
    from rasterio.transform import Affine

    wanted = (values >= min(CLASS_BY_VALUE)) & (values <= max(CLASS_BY_VALUE))
    if not wanted.any():
        return
    for geometry, value in shapes(
        values, mask=wanted, connectivity=4, transform=Affine.translation(0, top)
    ):
        shell, *holes = geometry["coordinates"]
        yield int(value), shapely.Polygon(shell, holes)


def _straightened(polygon: Any) -> Any:
    """Without the corners that joining left in the middle of straight edges."""
    import shapely

    return shapely.Polygon(
        _corners(polygon.exterior.coords), [_corners(ring.coords) for ring in polygon.interiors]
    )


def _corners(coordinates: Any) -> npt.NDArray[np.float64]:
    points: npt.NDArray[np.float64] = np.asarray(coordinates)[:-1]
    turns = (np.roll(points, 1, axis=0) != points).argmax(axis=1) != (
        np.roll(points, -1, axis=0) != points
    ).argmax(axis=1)
    kept: npt.NDArray[np.float64] = points[turns]
    return kept
