"""Outlines as GeoJSON that QuPath opens."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases import SIGNED_OFF, ReviewRegion
from napari_hspnet.classes import CLASS_BY_VALUE
from napari_hspnet.errors import InputError
from napari_hspnet.exchange.about import ExportInfo
from napari_hspnet.exchange.described import Described, Describer, comments_text
from napari_hspnet.exchange.outlines import outline_id, outlines, region_id
from napari_hspnet.exchange.output import Cancel, Report, new_file, stop_if
from napari_hspnet.exchange.simplified import refuse_too_many, simplified
from napari_hspnet.exchange.sources import LabelSource

__all__ = ["Origin", "write_geojson"]

Origin = Literal["bounds", "level0"]

_DIGITS = 3
# Corners of pixels stay in place when rounded; slanting edges can come to touch.
_SLANTING_DIGITS = 6
_PIECE = 8192


@dataclass(frozen=True)
class _Frame:
    """From label pixels to level-0 pixels of the chosen origin."""

    scale: tuple[float, float]
    offset: tuple[float, float]
    digits: int

    @classmethod
    def of(cls, about: ExportInfo, origin: Origin, digits: int) -> _Frame:
        mpp_y, mpp_x = about.slide_mpp
        bounds = about.bounds if origin == "bounds" else None
        return cls(
            (about.grid.mpp / mpp_x, about.grid.mpp / mpp_y),
            (bounds.x, bounds.y) if bounds is not None else (0.0, 0.0),
            digits,
        )

    def points(self, ring: npt.NDArray[np.float64]) -> list[list[float]]:
        moved = ring * np.asarray(self.scale) - np.asarray(self.offset)
        rounded: list[list[float]] = np.round(moved, self.digits).tolist()
        return rounded


def write_geojson(
    path: Path,
    labels: LabelSource,
    about: ExportInfo,
    origin: Origin = "bounds",
    *,
    simplify_um: float = 0.0,
    describer: Describer | None = None,
    regions: bool = False,
    overwrite: bool = False,
    progress: Report | None = None,
    cancel: Cancel | None = None,
) -> Path:
    """Write a polygon, with its holes, for every connected region of classes 1 to 4.

    Coordinates are level-0 pixels. QuPath crops a slide to OpenSlide's bounds, so
    their offset is subtracted unless `origin` is ``"level0"``. Regions are joined
    at edges (4-connected), whole across the slide, and named and coloured as
    QuPath's annotations are; those in a review region that is signed off are locked
    there. What the export is about stands under ``"hspnet"``.

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
    simplify_um : float
        About how far a border may be moved to have fewer corners, 0 for not at all.
        Borders that two outlines share stay shared; areas are those of the labels.
    describer : Describer, optional
        Tells who corrected an outline, and which review regions it is in.
    regions : bool
        Whether the review regions are outlines of their own, without a class; needs
        `describer`.
    overwrite, progress, cancel
        As for `write_ome_tiff`.

    Raises
    ------
    InputError
        No distance to simplify by, or too many corners for it.
    OutputError
        The file exists, the disk is full, or writing is not permitted.
    CaseError
        The case is damaged.
    CancelledError
        If `cancel` was set.
    """
    path = Path(path)
    if not (math.isfinite(simplify_um) and simplify_um >= 0):
        raise InputError(
            f"{simplify_um:g} µm is no distance to simplify by", advice="Give 0 or more"
        )
    with new_file(path, overwrite) as beside, beside.open("w", encoding="utf-8") as file:
        said = {**about.facts(), "origin": origin}
        if simplify_um:
            said["simplified"] = _simplified_by(simplify_um)
        file.write('{"type": "FeatureCollection",\n"hspnet": ')
        file.write(json.dumps(said, ensure_ascii=False))
        file.write(',\n"features": [')
        digits = _SLANTING_DIGITS if simplify_um else _DIGITS
        writer = _Features(file, about, _Frame.of(about, origin, digits), describer, cancel)
        found = outlines(labels, progress, cancel)
        if simplify_um:
            writer.common["simplified"] = said["simplified"]
            for value, exact, simple in _simple(found, simplify_um / about.grid.mpp, cancel):
                writer.outline(value, exact, simple)
        else:
            for value, polygon in found:
                writer.outline(value, polygon, polygon)
        if regions and describer is not None:
            for region in describer.regions:
                stop_if(cancel)
                writer.region(region, describer.outline(region, cancel))
        file.write("\n]}\n")
    return path


def _simplified_by(um: float) -> str:
    return f"by about {um:g} µm; areas are those of the labels"


def _simple(
    found: Iterable[tuple[int, Any]], tolerance: float, cancel: Cancel | None
) -> Iterator[tuple[int, Any, Any]]:
    """All outlines as they are and simplified, which needs all of them at once."""
    import shapely

    values, exact, corners = [], [], 0
    for value, polygon in found:
        values.append(value)
        exact.append(polygon)
        corners += shapely.get_num_coordinates(polygon)
        # Said as soon as it is known, and not after minutes.
        refuse_too_many(corners)
    simple = simplified(np.asarray(exact, dtype=object), tolerance, cancel)
    yield from zip(values, exact, simple, strict=True)


class _Features:
    """Writes objects as QuPath's `QuPathTypeAdapters` reads them."""

    def __init__(
        self,
        file: TextIO,
        about: ExportInfo,
        frame: _Frame,
        describer: Describer | None,
        cancel: Cancel | None,
    ) -> None:
        self._file, self._about, self._frame = file, about, frame
        self._describer, self._cancel = describer, cancel
        self._count = 0
        # QuPath keeps texts alone here.
        self.common = {
            "notice": about.notice,
            "labels": about.what,
            "model": about.model_name,
            "runs": "; ".join(about.run_ids),
            "tool": about.tool,
        }

    def outline(self, value: int, exact: Any, shown: Any) -> None:
        """A region of a class, and how it is drawn."""
        described = Described(round(exact.area) * self._about.grid.mpp**2)
        if self._describer is not None:
            described = self._describer.describe(exact, self._cancel)
        measurements = {"Area µm^2": _number(described.area_um2)}
        if self._describer is not None:
            measurements["Corrected µm^2"] = _number(described.corrected_um2)
        colour = self._about.palette.colours[value]
        properties: dict[str, Any] = {
            "objectType": "annotation",
            "classification": {"name": CLASS_BY_VALUE[value].name, "color": list(colour)},
        }
        if any(region.state == SIGNED_OFF for region in described.regions):
            properties["isLocked"] = True
        properties["measurements"] = measurements
        properties["metadata"] = {**self.common, **_said(described)}
        self._write(outline_id(self._about, value, exact), shown, properties)

    def region(self, region: ReviewRegion, shape: Any) -> None:
        """A review region."""
        area = region.pixels * self._about.grid.mpp**2
        properties: dict[str, Any] = {
            "objectType": "annotation",
            "name": f"Region {region.id}, {region.state}",
            **({"isLocked": True} if region.state == SIGNED_OFF else {}),
            "measurements": {"Area µm^2": _number(area)},
            "metadata": {**self.common, **_said(Described(area, regions=(region,)))},
        }
        properties["metadata"].pop("simplified", None)
        self._write(region_id(self._about, region), shape, properties)

    def _write(self, number: str, shape: Any, properties: dict[str, Any]) -> None:
        polygons = getattr(shape, "geoms", None)
        write = self._file.write
        write(",\n" if self._count else "\n")
        self._count += 1
        kind = "Polygon" if polygons is None else "MultiPolygon"
        write(f'{{"type": "Feature", "id": "{number}", "geometry": {{"type": "{kind}", ')
        write('"coordinates": ')
        if polygons is None:
            self._rings(shape)
        else:
            for place, polygon in enumerate(polygons):
                write(", " if place else "[")
                self._rings(polygon)
            write("]")
        write('}, "properties": ')
        write(json.dumps(properties, ensure_ascii=False))
        write("}")

    def _rings(self, polygon: Any) -> None:
        """In pieces: an outline can have a million corners, and one may want to cancel."""
        for number, ring in enumerate((polygon.exterior, *polygon.interiors)):
            stop_if(self._cancel)
            self._file.write(", " if number else "[")
            points = np.asarray(ring.coords)
            for start in range(0, len(points), _PIECE):
                stop_if(self._cancel)
                # Not json.dump: writing in pieces goes through Python, ten times slower.
                text = json.dumps(self._frame.points(points[start : start + _PIECE]))
                head = "[" if start == 0 else ", "
                self._file.write(head + text[1:-1])
            self._file.write("]")
        self._file.write("]")


def _number(area: float) -> float:
    return round(area, 6)


def _said(described: Described) -> dict[str, str]:
    """Readers and review regions as texts, several ones joined."""
    said = {}
    if described.readers:
        said["readers"] = "; ".join(described.readers)
    regions = described.regions
    if regions:
        said["region"] = "; ".join(str(region.id) for region in regions)
        said["state"] = _each(regions, [_state(region) for region in regions])
    if any(region.tag for region in regions):
        said["tag"] = _each(regions, [region.tag for region in regions])
    comments = [comments_text(region) for region in regions]
    if any(comments):
        said["comments"] = _each(regions, comments)
    return said


def _each(regions: Sequence[ReviewRegion], texts: Sequence[str]) -> str:
    """What is said of each region; which one is meant where there are several."""
    if len(regions) == 1:
        return texts[0]
    return "; ".join(f"{r.id}: {text}" for r, text in zip(regions, texts, strict=True) if text)


def _state(region: ReviewRegion) -> str:
    return f"{region.state} by {region.state_reader}, {region.state_time}"
