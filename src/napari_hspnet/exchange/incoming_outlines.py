"""Outlines of a GeoJSON file, laid onto a slide's label grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases import SlideFacts
from napari_hspnet.cases.selection import around, chunk_box, chunks_of
from napari_hspnet.cases.words import area_text
from napari_hspnet.errors import InputError
from napari_hspnet.exchange.burning import Outlines
from napari_hspnet.exchange.geojson import Origin
from napari_hspnet.exchange.incoming import (
    LEFT,
    REST,
    Closing,
    FoundName,
    guess_grade,
    ignored_name,
    other_slide_note,
)
from napari_hspnet.exchange.output import Cancel, Report, stop_if, stretch
from napari_hspnet.exchange.reading_geojson import Found, read_outlines
from napari_hspnet.slides.grid import LabelGrid
from napari_hspnet.slides.region import PixelBox

__all__ = ["IncomingOutlines", "open_outlines"]

Array = npt.NDArray[np.uint8]
Sides = tuple[float, float, float, float]

_SMALL = 4.0
_MOST_SCALES = 8
# Our own outlines reach the grid's end, written with three digits.
_ROUNDING = 0.01


@dataclass
class IncomingOutlines(Closing):
    """Outlines on a label grid; see `Incoming`.

    Where they overlap, the one with the smaller area lies on top, so that a region
    within a region survives whatever the file's order; of two of the same area, the
    later one. What is left out is as if it were not in the file, but for classes
    that QuPath ignores: what lies under these stays as it is.
    """

    path: Path
    sha256: str
    names: tuple[FoundName, ...]
    notes: tuple[str, ...]
    box: PixelBox
    said: Mapping[str, object]
    grid: LabelGrid
    _outlines: Outlines
    _keys: tuple[str, ...] = field(repr=False)
    kind: str = "geojson"
    rest_is_none: bool = False

    def read(self, y: int, x: int, height: int, width: int, grades: Mapping[str, int]) -> Array:
        """What it says in a box of label pixels, as `Incoming.read`."""
        out = np.full((height, width), LEFT, np.uint8)
        box = PixelBox(y, x, y + height, x + width)
        inside = box.intersect(PixelBox(0, 0, *self.grid.shape))
        # Chunk by chunk, so that what is kept of large outlines serves the next chunk.
        for place in chunks_of(inside):
            part = chunk_box(place, self.grid.shape).intersect(inside)
            own = out[part.y0 - y : part.y1 - y, part.x0 - x : part.x1 - x]
            own[...] = REST
            self._burn(own, part, grades)
        return out

    def _burn(self, out: Array, box: PixelBox, grades: Mapping[str, int]) -> None:
        for number in self._outlines.meeting(box):
            key = self._keys[number]
            grade = grades[key]
            if grade == LEFT and not ignored_name(key):
                continue
            part = self._outlines.box(number).intersect(box)
            if part.height == 0 or part.width == 0:
                continue
            mask = self._outlines.inside(number, part)
            out[part.y0 - box.y0 : part.y1 - box.y0, part.x0 - box.x0 : part.x1 - box.x0][mask] = (
                grade
            )

    def close(self) -> None:
        """Nothing is open any more."""


def open_outlines(
    path: Path,
    sha256: str,
    slide: SlideFacts,
    grid: LabelGrid,
    origin: Origin | None = None,
    progress: Report | None = None,
    cancel: Cancel | None = None,
) -> IncomingOutlines:
    """Open a GeoJSON; as `open_incoming`, which see.

    Raises
    ------
    InputError
        It is no GeoJSON, holds no outline that has an area, or none on the slide.
    """
    import shapely

    scale = slide.mpp[1] / grid.mpp, slide.mpp[0] / grid.mpp
    found = read_outlines(path, scale, stretch(progress, 0, 0.9), cancel)
    origin, notes = _origin(found.said, origin, slide)
    offset = _offset(origin, slide)
    shapes = np.asarray(found.shapes, dtype=object)
    if any(offset):
        shift = np.asarray(offset) * np.asarray(scale)
        shapes = shapely.transform(shapes, lambda points: points + shift)
    bounds = shapely.bounds(shapes).reshape(-1, 4)
    height, width = grid.shape
    near = np.asarray([-_ROUNDING, -_ROUNDING, width + _ROUNDING, height + _ROUNDING])
    # One that lies right beside the slide shares no pixel with it either.
    outside = (bounds[:, :2] >= [width, height]).any(axis=1) | (bounds[:, 2:] <= 0).any(axis=1)
    across = ~outside & ((bounds[:, :2] < near[:2]) | (bounds[:, 2:] > near[2:])).any(axis=1)
    if outside.all():
        _refuse(found, bounds, path, slide, grid, origin)
    kept = np.flatnonzero(~outside)
    # The largest first; of equal ones the earlier.
    order = kept[np.argsort(-shapely.area(shapes[kept]), kind="stable")] if kept.size else kept
    outlines = Outlines(list(shapes[order]))
    keys = tuple(found.names[number] for number in order)
    notes += [*other_slide_note(found.said.get("slide_sha256"), slide), *_notes(found, grid)]
    notes += _counted(int(outside.sum()), "lies", "lie", "outside the slide and {} left out")
    notes += _counted(int(across.sum()), "reaches", "reach", "beyond the slide and {} cut there")
    notes += _unseen(outlines, shapely.area(shapes[order]), cancel)
    counts = Counter(keys)
    names = tuple(FoundName(key, counts[key], guess_grade(key)) for key in sorted(counts))
    boxes = [outlines.box(number) for number in range(len(outlines))]
    box = around(boxes).intersect(PixelBox(0, 0, *grid.shape)) if boxes else PixelBox(0, 0, 0, 0)
    if progress is not None:
        progress(1.0)
    said: dict[str, object] = {"origin": origin, "offset": [offset[0], offset[1]]}
    return IncomingOutlines(path, sha256, names, tuple(notes), box, said, grid, outlines, keys)


def _origin(
    said: Mapping[str, Any], asked: Origin | None, slide: SlideFacts
) -> tuple[Origin, list[str]]:
    """Which point is (0, 0), and what is to be known about it."""
    notes = []
    written = said.get("origin")
    own: Origin | None = written if written in get_args(Origin) else None
    if asked is not None and own is not None and asked != own:
        notes.append(f"The file says that its origin is {own}; it is read as {asked}, as asked")
    origin: Origin = asked or own or "bounds"
    if origin == "bounds" and not slide.bounds_known:
        notes.append(
            "The case does not know whether the slide has a scanned area that QuPath crops it "
            "to; none is assumed, so check the places, or open the slide's file with the case"
        )
    return origin, notes


def _offset(origin: Origin, slide: SlideFacts) -> tuple[int, int]:
    bounds = slide.bounds if origin == "bounds" else None
    return (0, 0) if bounds is None else (bounds.x, bounds.y)


def _counted(count: int, one: str, more: str, rest: str) -> list[str]:
    """ "1 outline lies outside …", "2 outlines lie outside …"; nothing for none."""
    if not count:
        return []
    subject = f"1 outline {one}" if count == 1 else f"{count:,} outlines {more}"
    return [f"{subject} {rest.format('is' if count == 1 else 'are')}"]


def _notes(found: Found, grid: LabelGrid) -> list[str]:
    counts, notes = found.counts, []
    if counts["thin"]:
        notes.append(f"Points and lines have no area and are left out: {counts['thin']:,}")
    if counts["regions"]:
        notes.append(f"Review regions have no grade and are left out: {counts['regions']:,}")
    notes += _counted(
        counts["broken"],
        "has",
        "have",
        "no usable shape (too few points, no area, or points that are no numbers) and {} left out",
    )
    changed = area_text(found.mended, grid.mpp)
    notes += _counted(
        counts["mended"],
        "crosses itself and was mended, which changed",
        "cross themselves and were mended, which changed",
        f"the area by {changed} in all",
    )
    if not found.shapes and not counts:
        notes.append("The file holds no outlines")
    return notes


def _unseen(outlines: Outlines, areas: npt.NDArray[np.float64], cancel: Cancel | None) -> list[str]:
    """Whether some are so small that they hold no pixel's centre."""
    count = 0
    for number in np.flatnonzero(areas < _SMALL):
        stop_if(cancel)
        box = outlines.box(int(number))
        empty = box.height == 0 or box.width == 0
        count += empty or not outlines.inside(int(number), box).any()
    return _counted(
        count, "is", "are", "too small or thin to hold the middle of a label pixel and {} not seen"
    )


def _refuse(
    found: Found,
    bounds: npt.NDArray[np.float64],
    path: Path,
    slide: SlideFacts,
    grid: LabelGrid,
    origin: Origin,
) -> None:
    """Raise where there are outlines, or were to be, and none can lie on the slide."""
    if not found.shapes:
        if not found.counts:
            return
        raise InputError(
            f"The file holds {sum(found.counts.values()):,} objects, but none is an outline that "
            "has an area",
            advice="Choose a file of outlines; points and lines cannot be imported",
            path=path,
        )
    scale = np.asarray([slide.mpp[1] / grid.mpp, slide.mpp[0] / grid.mpp] * 2)
    own = np.concatenate([bounds[:, :2].min(axis=0), bounds[:, 2:].max(axis=0)]) / scale
    x0, y0, x1, y1 = (float(side) for side in own - np.asarray([*_offset(origin, slide)] * 2))
    height, width = slide.shape
    raise InputError(
        f"All {len(found.shapes):,} outlines lie outside the slide: they reach from x {x0:,.0f} "
        f"to {x1:,.0f} and y {y0:,.0f} to {y1:,.0f}, the slide has {width:,} x {height:,} pixels",
        advice=_likely((x0, y0, x1, y1), slide, origin),
        path=path,
    )


def _likely(sides: Sides, slide: SlideFacts, origin: Origin) -> str:
    """What is probably wrong, by what would bring them onto the slide."""
    offsets: dict[Origin, tuple[int, int]] = {
        "bounds": _offset("bounds", slide),
        "level0": (0, 0),
    }
    other: Origin = "level0" if origin == "bounds" else "bounds"
    if offsets[other] != offsets[origin] and _fits(sides, slide, 1, 1, offsets[other]):
        x, y = offsets["bounds"]
        where = (
            f"from the scanned area's corner (x {x:,}, y {y:,})"
            if other == "bounds"
            else "from the whole image's corner, not the scanned area's"
        )
        return f"They fit when counted {where}: choose {other} as origin"
    offset = offsets[origin]
    mpp_y, mpp_x = slide.mpp
    if _fits(sides, slide, 1 / mpp_x, 1 / mpp_y, offset):
        return "They fit when taken as µm: export them in pixels of the slide's finest level"
    for power in range(1, _MOST_SCALES + 1):
        factor = 1 << power
        if _fits(sides, slide, 1 / factor, 1 / factor, offset):
            return (
                f"They fit when divided by {factor}: they may belong to an image {factor} times "
                "as fine, or to another slide; export them in pixels of this slide's finest level"
            )
    x0, y0, x1, y1 = sides
    if y1 <= 0 and _fits((x0, -y1, x1, -y0), slide, 1, 1, offset):
        return "Their y grows upwards: export them with y growing downwards from the upper edge"
    return "They are probably those of another slide: choose the file that belongs to this one"


def _fits(sides: Sides, slide: SlideFacts, by_x: float, by_y: float, at: tuple[int, int]) -> bool:
    x0, y0, x1, y1 = sides
    height, width = slide.shape
    low = x0 * by_x + at[0] >= -1 and y0 * by_y + at[1] >= -1
    return low and x1 * by_x + at[0] <= width + 1 and y1 * by_y + at[1] <= height + 1
