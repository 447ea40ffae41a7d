"""Slide, review regions and outlines as a table: CSV, GeoParquet or JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases import ReviewRegion
from napari_hspnet.classes import CLASS_BY_VALUE, NOT_RUN, SKIPPED, UNREADABLE, VALUE_NAMES
from napari_hspnet.errors import InputError
from napari_hspnet.exchange.about import ExportInfo, value_names
from napari_hspnet.exchange.described import Describer, comments_text
from napari_hspnet.exchange.outlines import outline_id, outlines, region_id
from napari_hspnet.exchange.output import Cancel, Report, new_file, stop_if, stretch
from napari_hspnet.exchange.sources import LabelSource
from napari_hspnet.exchange.table_files import FILES, Column, Row

__all__ = ["KINDS", "TableKind", "Worst", "write_table"]

TableKind = Literal["csv", "parquet", "json"]
KINDS: tuple[TableKind, ...] = ("csv", "parquet", "json")

Worst = Callable[[Mapping[int, float]], int | None]
"""The worst grade of areas in mm² by value; None where there is none."""

_BLOCK = (512, 8192)
_DIGITS = 12
# How the time is shared: counting the slide, the regions, the outlines.
_COUNTED, _REGIONS = 0.25, 0.4


def write_table(
    path: Path,
    labels: LabelSource,
    about: ExportInfo,
    describer: Describer,
    kind: TableKind = "csv",
    *,
    worst: Worst | None = None,
    overwrite: bool = False,
    progress: Report | None = None,
    cancel: Cancel | None = None,
) -> Path:
    """Write a row for the slide, for each review region and for each outline.

    The column ``kind`` says which: "slide", "region" or "outline". Areas are mm² of
    label pixels, places µm from the slide's origin. An outline's ``id`` is the one
    that it has in GeoJSON. Where a row's ``readers`` and ``corrected_mm2`` stand,
    corrections stand in it, whatever they say.

    Parameters
    ----------
    path : Path
        Ends in ``.csv``, ``.parquet`` or ``.json`` by custom.
    labels : LabelSource
        What to export, the whole label grid.
    about : ExportInfo
        What the file says of itself.
    describer : Describer
        Knows corrections and review regions.
    kind : {"csv", "parquet", "json"}
        CSV has all of `about` that matters in every row; Parquet is GeoParquet 1.1
        with outlines in µm and `about` in its metadata; JSON is one document with
        ``hspnet``, ``slide``, ``regions`` and ``outlines``.
    worst : callable (Mapping of int to float) -> int or None, optional
        Says which grade counts as a region's worst; without it none is said.
    overwrite, progress, cancel
        As for `write_ome_tiff`.

    Raises
    ------
    InputError
        There is no such kind.
    DependencyError
        Parquet without pyarrow.
    OutputError
        The file exists, the disk is full, or writing is not permitted.
    CaseError
        The case is damaged.
    CancelledError
        If `cancel` was set.
    """
    if kind not in KINDS:
        raise InputError(
            f"There is no table of kind {kind!r}", advice=f"Choose one of {', '.join(KINDS)}"
        )
    path = Path(path)
    rows = _Rows(labels, about, describer, worst, cancel)
    make = FILES[kind]()
    with new_file(path, overwrite) as beside, make(beside, rows.columns, about) as file:
        file.slide(rows.slide(stretch(progress, 0.0, _COUNTED)))
        counted = stretch(progress, _COUNTED, _REGIONS)
        for number, region in enumerate(describer.regions):
            stop_if(cancel)
            file.region(*rows.region(region))
            if counted is not None:
                counted((number + 1) / len(describer.regions))
        found = outlines(labels, stretch(progress, _REGIONS, 1.0), cancel)
        for value, polygon in found:
            file.outline(*rows.outline(value, polygon))
    return path


@dataclass(frozen=True)
class _Rows:
    """Makes the rows; what a row does not have is absent from it."""

    labels: LabelSource
    about: ExportInfo
    describer: Describer
    worst: Worst | None
    cancel: Cancel | None

    @property
    def columns(self) -> tuple[Column, ...]:
        names = [(_mm2(name), "number") for name in value_names(self.about.what).values()]
        if self._analysed:
            names.append(("not_analysed_mm2", "number"))
        texts = ("state", "state_reader", "state_time", "tag", "comments")
        return (
            ("kind", "text"),
            ("id", "text"),
            ("region", "whole"),
            ("class", "text"),
            ("class_value", "whole"),
            ("pixels", "whole"),
            ("area_mm2", "number"),
            ("corrected_mm2", "number"),
            ("readers", "texts"),
            ("regions", "wholes"),
            *((f"{name}_um", "number") for name in ("centroid_x", "centroid_y")),
            *((f"{name}_um", "number") for name in ("x0", "y0", "x1", "y1")),
            *names,
            ("worst_grade", "text"),
            *((name, "text") for name in texts),
        )

    def slide(self, progress: Report | None) -> Row:
        """The whole slide."""
        counts = np.zeros(256, np.int64)
        height, width = self.labels.grid.shape
        rows, columns = _BLOCK
        for y in range(0, height, rows):
            for x in range(0, width, columns):
                stop_if(self.cancel)
                box = (min(rows, height - y), min(columns, width - x))
                counts += np.bincount(self.labels.read(y, x, *box).ravel(), minlength=256)
            if progress is not None:
                progress((y + rows) / height)
        found = {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
        mpp = self.about.grid.mpp
        return {
            "kind": "slide",
            "pixels": height * width,
            "area_mm2": self._area(height * width),
            "x0_um": 0.0,
            "y0_um": 0.0,
            "x1_um": width * mpp,
            "y1_um": height * mpp,
            **self._areas(found),
        }

    def region(self, region: ReviewRegion) -> tuple[Row, Any]:
        """A review region, and its border in µm."""
        shape = self._in_um(self.describer.outline(region, self.cancel))
        contents = self.describer.contents(region, self.labels, self.cancel)
        row = {
            "kind": "region",
            "id": region_id(self.about, region),
            "region": region.id,
            "pixels": region.pixels,
            "area_mm2": self._area(region.pixels),
            "corrected_mm2": self._area(contents.corrected),
            "readers": list(contents.readers),
            **_place(shape),
            **self._areas(contents.pixels),
            "state": region.state,
            "state_reader": region.state_reader,
            "state_time": region.state_time,
        }
        if region.tag:
            row["tag"] = region.tag
        if region.comments:
            row["comments"] = comments_text(region)
        return row, shape

    def outline(self, value: int, polygon: Any) -> tuple[Row, Any]:
        """A connected region of a class, and its border in µm."""
        described = self.describer.describe(polygon, self.cancel)
        shape = self._in_um(polygon)
        pixels = round(polygon.area)
        row = {
            "kind": "outline",
            "id": outline_id(self.about, value, polygon),
            "class": CLASS_BY_VALUE[value].name,
            "class_value": value,
            "pixels": pixels,
            "area_mm2": self._area(pixels),
            "corrected_mm2": self._area(described.corrected),
            "readers": list(described.readers),
            "regions": [region.id for region in described.regions],
            **_place(shape),
        }
        return row, shape

    @property
    def _analysed(self) -> bool:
        """Whether 255 says that nothing was run, and not that nothing was said."""
        return self.about.what in ("composite", "prediction")

    def _area(self, pixels: int) -> float:
        return round(pixels * (self.about.grid.mpp / 1000) ** 2, _DIGITS)

    def _areas(self, pixels: Mapping[int, int]) -> Row:
        names = value_names(self.about.what)
        areas: Row = {_mm2(name): self._area(pixels.get(v, 0)) for v, name in names.items()}
        if self._analysed:
            missing = sum(pixels.get(v, 0) for v in (SKIPPED, UNREADABLE, NOT_RUN))
            areas["not_analysed_mm2"] = self._area(missing)
        if self.worst is not None:
            worst = self.worst({value: self._area(count) for value, count in pixels.items()})
            if worst is not None:
                areas["worst_grade"] = VALUE_NAMES[worst]
        return areas

    def _in_um(self, shape: Any) -> Any:
        import shapely

        return shapely.transform(shape, self._scaled)

    def _scaled(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return points * self.about.grid.mpp


def _mm2(name: str) -> str:
    """ "none of the four", "skipped, no tissue" as the name of a column."""
    return f"{name.split(',')[0].replace(' ', '_')}_mm2"


def _place(shape: Any) -> Row:
    x0, y0, x1, y1 = shape.bounds
    centre = shape.centroid
    return {
        "centroid_x_um": round(centre.x, 3),
        "centroid_y_um": round(centre.y, 3),
        "x0_um": x0,
        "y0_um": y0,
        "x1_um": x1,
        "y1_um": y1,
    }
