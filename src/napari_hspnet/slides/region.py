"""What part of a slide is meant: a view, drawn shapes of any kind, or all of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.errors import RegionError
from napari_hspnet.slides.grid import LabelGrid

__all__ = ["PixelBox", "Region"]

Point = tuple[float, float]


@dataclass(frozen=True)
class PixelBox:
    """Half-open box of label-grid pixels."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def height(self) -> int:
        return self.y1 - self.y0

    @property
    def width(self) -> int:
        return self.x1 - self.x0

    def intersect(self, other: PixelBox) -> PixelBox:
        """The common box; of zero size where there is none."""
        y0, x0 = max(self.y0, other.y0), max(self.x0, other.x0)
        return PixelBox(y0, x0, max(y0, min(self.y1, other.y1)), max(x0, min(self.x1, other.x1)))


@dataclass(frozen=True)
class Region:
    """A part of a slide in µm from its origin; frozen and exactly recordable.

    Attributes
    ----------
    kind : str
        ``"slide"``, ``"view"`` or ``"shapes"``.
    polygons : tuple of tuple of (y, x)
        Outlines in µm, their union being the region; empty for the whole slide.
        A label pixel belongs to it where its centre does.
    """

    kind: str
    polygons: tuple[tuple[Point, ...], ...] = ()

    @classmethod
    def slide(cls) -> Region:
        """The whole slide."""
        return cls("slide")

    @classmethod
    def rectangle(
        cls, y: float, x: float, height: float, width: float, kind: str = "view"
    ) -> Region:
        """An upright rectangle in µm.

        Raises
        ------
        RegionError
            If it has no area or is not finite.
        """
        return cls.shapes(
            [[(y, x), (y, x + width), (y + height, x + width), (y + height, x)]], kind
        )

    @classmethod
    def shapes(cls, outlines: Iterable[Iterable[Point]], kind: str = "shapes") -> Region:
        """Polygons of any kind, their (y, x) vertices in µm.

        Raises
        ------
        RegionError
            If there is none, or one has no area or is not finite.
        """
        polygons = tuple(tuple((float(y), float(x)) for y, x in o) for o in outlines)
        if not polygons:
            raise RegionError("No region is drawn", advice="Draw or select at least one shape")
        for polygon in polygons:
            if not np.all(np.isfinite(np.asarray(polygon, dtype=float))) or _area(polygon) <= 0:
                raise RegionError(
                    "A region has no area", advice="Give it a width and a height above zero"
                )
        return cls(kind, polygons)

    def box(self, grid: LabelGrid) -> PixelBox:
        """The smallest box of label pixels that holds the region.

        Raises
        ------
        RegionError
            If the region lies outside the slide.
        """
        height, width = grid.shape
        whole = PixelBox(0, 0, height, width)
        if self.kind == "slide":
            return whole
        points = np.concatenate([np.asarray(p, dtype=float) for p in self.polygons]) / grid.mpp
        (y0, x0), (y1, x1) = points.min(axis=0), points.max(axis=0)
        box = PixelBox(math.floor(y0), math.floor(x0), math.ceil(y1), math.ceil(x1)).intersect(
            whole
        )
        if box.height == 0 or box.width == 0:
            raise RegionError(
                f"The region lies outside the slide, which is {width * grid.mpp:,.0f} x "
                f"{height * grid.mpp:,.0f} µm",
                advice="Choose a region that overlaps the slide",
            )
        return box

    def mask(self, box: PixelBox, grid: LabelGrid) -> npt.NDArray[np.bool_] | None:
        """Which pixels of `box` belong to the region; None where all of them do."""
        if self.kind == "slide":
            return None
        ys = (np.arange(box.y0, box.y1, dtype=np.float64) + 0.5) * grid.mpp
        xs = (np.arange(box.x0, box.x1, dtype=np.float64) + 0.5) * grid.mpp
        inside = np.zeros((ys.size, xs.size), dtype=bool)
        for polygon in self.polygons:
            _scan_convert(np.asarray(polygon, dtype=float), ys, xs, inside)
        return None if inside.all() else inside

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; `from_dict` gives the same region again."""
        return {"kind": self.kind, "polygons_um_yx": [[list(p) for p in o] for o in self.polygons]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Region:
        """The region that `to_dict` wrote."""
        return cls(
            str(data["kind"]),
            tuple(tuple((float(y), float(x)) for y, x in o) for o in data["polygons_um_yx"]),
        )


def _area(polygon: tuple[Point, ...]) -> float:
    points = np.asarray(polygon, dtype=float).reshape(-1, 2)
    y, x = points[:, 0], points[:, 1]
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def _scan_convert(
    polygon: npt.NDArray[np.float64],
    ys: npt.NDArray[np.float64],
    xs: npt.NDArray[np.float64],
    inside: npt.NDArray[np.bool_],
) -> None:
    """Set `inside` where a pixel centre lies in `polygon` (even-odd rule).

    Written here because the core imports with torch and numpy alone, and because
    a centre on an edge must fall the same way whichever block it is asked in:
    crossings are half-open in y and compared with absolute coordinates.
    """
    start, stop = polygon, np.roll(polygon, -1, axis=0)
    for row, y in enumerate(ys):
        crossing = (start[:, 0] <= y) != (stop[:, 0] <= y)
        if not crossing.any():
            continue
        (ya, xa), (yb, xb) = start[crossing].T, stop[crossing].T
        at = np.sort(xa + (y - ya) * (xb - xa) / (yb - ya))
        ends = np.searchsorted(xs, at, side="left")
        for left, right in zip(ends[::2], ends[1::2], strict=True):
            inside[row, left:right] = True
