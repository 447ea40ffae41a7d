"""Which label pixels lie inside outlines: a pixel does where its centre does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.slides.region import PixelBox

__all__ = ["Outlines"]

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_LARGE = 2048
_FAR = 1e9


class Outlines:
    """Polygons with their holes, ready to be burned wherever it is asked.

    Written here and not left to rasterio, which fills edges that run along pixel
    centres twice over and counts from the window's corner: here a pixel is in the
    same outlines whichever window it is asked in, and of two outlines that share
    an edge exactly one has each centre on it, as slides at half the label grid's
    µm per pixel have them by the thousand.

    Parameters
    ----------
    polygons : sequence of shapely geometry
        Valid polygons or multipolygons, (x, y) in label pixels.
    """

    def __init__(self, polygons: Sequence[Any]) -> None:
        import shapely

        geometries = np.asarray(polygons, dtype=object)
        parts, owner_of = shapely.get_parts(geometries, return_index=True)
        rings, part_of = shapely.get_rings(parts, return_index=True)
        points, of_ring = shapely.get_coordinates(rings, return_index=True)
        owner = owner_of[part_of[of_ring]]
        start, stop = points[:-1], points[1:]
        # Level edges cross no row of centres, rings do not go on into each other.
        kept = (of_ring[:-1] == of_ring[1:]) & (start[:, 1] != stop[:, 1])
        start, stop, owner = start[kept], stop[kept], owner[:-1][kept]
        # In one direction, so that neighbours compute a common edge's crossings alike.
        down = (start[:, 1] < stop[:, 1])[:, None]
        upper, lower = np.where(down, start, stop), np.where(down, stop, start)
        self._edges: Floats = np.column_stack([upper[:, ::-1], lower[:, ::-1]])
        self._ends = np.searchsorted(owner, np.arange(len(polygons) + 1))
        bounds = np.clip(shapely.bounds(geometries).reshape(-1, 4), -_FAR, _FAR)
        x0, y0, x1, y1 = np.ceil(bounds - 0.5).astype(np.int64).T
        self._boxes = np.column_stack([y0, x0, y1, x1])
        self._tree = shapely.STRtree(shapely.box(x0, y0, np.maximum(x1, x0), np.maximum(y1, y0)))
        self._band: tuple[tuple[int, int], dict[int, Floats]] = ((0, 0), {})

    def __len__(self) -> int:
        return len(self._boxes)

    def box(self, number: int) -> PixelBox:
        """The label pixels whose centres one of them can hold."""
        y0, x0, y1, x1 = (int(side) for side in self._boxes[number])
        return PixelBox(y0, x0, y1, x1)

    def meeting(self, box: PixelBox) -> npt.NDArray[np.intp]:
        """Numbers of those that can hold a pixel of a box, in their order."""
        import shapely

        found: npt.NDArray[np.intp] = self._tree.query(shapely.box(box.x0, box.y0, box.x1, box.y1))
        return np.sort(found)

    def inside(self, number: int, box: PixelBox) -> Mask:
        """Which pixels of a box have their centres in one of them."""
        edges = self._edges[self._ends[number] : self._ends[number + 1]]
        if len(edges) > _LARGE:
            edges = self._in_rows(number, edges, box)
        return _inside(edges, box)

    def _in_rows(self, number: int, edges: Floats, box: PixelBox) -> Floats:
        """The edges of a large one that cross a box's rows, kept while one goes along them."""
        rows = (box.y0, box.y1)
        band = self._band
        if band[0] != rows:
            band = self._band = (rows, {})
        known = band[1].get(number)
        if known is None:
            known = edges[(edges[:, 0] < box.y1) & (edges[:, 2] > box.y0)]
            band[1][number] = known
        return known


def _inside(edges: Floats, box: PixelBox) -> Mask:
    """Even-odd by rows of centres; a centre on an edge belongs to what lies right or below."""
    height, width = box.height, box.width
    ya, xa, yb, xb = edges.T
    first = np.ceil(np.clip(ya, -_FAR, _FAR) - 0.5).astype(np.int64)
    last = np.ceil(np.clip(yb, -_FAR, _FAR) - 0.5).astype(np.int64)
    first, last = np.clip(first, box.y0, box.y1), np.clip(last, box.y0, box.y1)
    counts = last - first
    crossing = np.flatnonzero(counts)
    if not crossing.size:
        return np.zeros((height, width), bool)
    counts, first = counts[crossing], first[crossing]
    ya, xa, yb, xb = ya[crossing], xa[crossing], yb[crossing], xb[crossing]
    slope = (xb - xa) / (yb - ya)
    which = np.repeat(np.arange(crossing.size), counts)
    rows = np.arange(which.size) - np.repeat(np.cumsum(counts) - counts - first, counts)
    at = xa[which] + (rows + 0.5 - ya[which]) * slope[which]
    columns = np.clip(np.ceil(at - 0.5) - box.x0, 0, width).astype(np.int64)
    cells = (rows - box.y0) * (width + 1) + columns
    toggles = np.bincount(cells, minlength=height * (width + 1)).astype(np.uint8)
    crossed = np.cumsum(toggles.reshape(height, width + 1)[:, :width], axis=1, dtype=np.uint8)
    return (crossed & 1).astype(bool)
