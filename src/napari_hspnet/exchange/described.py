"""What is known of an outline: its area, who corrected it, which review regions it is in."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases import CaseSnapshot, ReviewRegion, Selection
from napari_hspnet.cases.attribution import Attribution, Readers
from napari_hspnet.cases.selection import Place, chunk_box, chunks_of
from napari_hspnet.exchange.burning import Outlines
from napari_hspnet.exchange.outlines import outlines
from napari_hspnet.exchange.output import Cancel, stop_if
from napari_hspnet.exchange.sources import LabelSource
from napari_hspnet.slides.grid import LabelGrid
from napari_hspnet.slides.region import PixelBox

__all__ = ["Contents", "Described", "Describer", "comments_text"]

Mask = npt.NDArray[np.bool_]

_HELD_CHUNKS = 256
_HELD_PIXELS = 256 << 20
"""Of review regions, a bit each."""


@dataclass(frozen=True)
class Described:
    """What is known of an outline.

    Attributes
    ----------
    area_um2 : float
        Of its label pixels.
    corrected_um2 : float
        Of those in which a reader's correction stands.
    corrected : int
        How many pixels these are.
    readers : tuple of str
        Whose corrections these are, the largest part first.
    regions : tuple of ReviewRegion
        The review regions that it is in, or that are in it: half of the smaller of
        the two lies in the other one at least. Without comments unless asked for.
    """

    area_um2: float
    corrected_um2: float = 0.0
    corrected: int = 0
    readers: tuple[str, ...] = ()
    regions: tuple[ReviewRegion, ...] = ()


@dataclass(frozen=True)
class Contents:
    """What a review region holds.

    Attributes
    ----------
    pixels : Mapping of int to int
        Label pixels by value; values that do not occur are absent.
    corrected : int
        Pixels in which a reader's correction stands.
    readers : tuple of str
        Whose corrections these are, the largest part first.
    """

    pixels: Mapping[int, int]
    corrected: int
    readers: tuple[str, ...]


class Describer:
    """Describes outlines of a case, by exact label pixels.

    Pixels are looked at where there are corrections or review regions, chunk by
    chunk; an outline far from all of them costs next to nothing.

    Parameters
    ----------
    grid : LabelGrid
        The case's.
    attribution : Attribution
        Whose corrections stand where.
    regions : sequence of ReviewRegion
        The review regions.
    selection : callable (int) -> Selection
        The pixels of the region of a number.
    """

    def __init__(
        self,
        grid: LabelGrid,
        attribution: Attribution,
        regions: tuple[ReviewRegion, ...],
        selection: Callable[[int], Selection],
    ) -> None:
        self.regions = regions
        self._grid, self._attribution = grid, attribution
        self._selection = selection
        boxes = [(r.box.y0, r.box.x0, r.box.y1, r.box.x1) for r in regions]
        self._boxes = np.asarray(boxes, np.int64).reshape(-1, 4)
        self._chunks: OrderedDict[Place, Readers | None] = OrderedDict()
        self._selections: OrderedDict[int, tuple[int, Selection]] = OrderedDict()

    @classmethod
    def of(cls, snapshot: CaseSnapshot, comments: bool = False) -> Describer:
        """For a case as it was after an entry.

        Parameters
        ----------
        snapshot : CaseSnapshot
            The case.
        comments : bool
            Whether comments on regions are handed on; they can name a patient.

        Raises
        ------
        CaseError
            If the journal is damaged.
        """
        regions = snapshot.regions
        if not comments:
            regions = tuple(replace(region, comments=()) for region in regions)
        attribution = Attribution(snapshot.journal, snapshot.standing, snapshot.grid.shape)
        return cls(snapshot.grid, attribution, regions, snapshot.selection)

    def describe(self, polygon: Any, cancel: Cancel | None = None) -> Described:
        """What is known of an outline.

        Parameters
        ----------
        polygon : shapely.Polygon
            As `outlines` gives it, in label pixels.
        cancel : threading.Event, optional
            Stops it.

        Raises
        ------
        CancelledError
            If cancelled.
        CaseError
            If the journal is damaged.
        """
        x0, y0, x1, y1 = (int(side) for side in polygon.bounds)
        box = PixelBox(y0, x0, y1, x1)
        outline = _Outline(polygon, box)
        near, within = self._near(box)
        said = np.zeros(len(self._attribution.readers) + 1, np.int64)
        common: Counter[int] = Counter({int(i): outline.pixels for i in near[within]})
        near = near[~within]
        for place in chunks_of(box):
            part = chunk_box(place, self._grid.shape).intersect(box)
            meeting = near[_meets(self._boxes[near], part)] if near.size else near
            if not meeting.size and place not in self._attribution.places:
                continue
            stop_if(cancel)
            said += self._said(place, part, outline)
            for i in meeting.tolist():
                shared = part.intersect(self.regions[i].box)
                mask = outline.inside(shared)
                if mask.any():
                    common[i] += int(np.count_nonzero(mask & self._mask(i, shared)))
        square = self._grid.mpp**2
        readers, corrected = self._readers(said)
        return Described(
            outline.pixels * square,
            corrected * square,
            corrected,
            readers,
            tuple(
                self.regions[i]
                for i in sorted(common)
                if 0 < min(outline.pixels, self.regions[i].pixels) <= 2 * common[i]
            ),
        )

    def contents(
        self, region: ReviewRegion, labels: LabelSource, cancel: Cancel | None = None
    ) -> Contents:
        """What a review region holds.

        Parameters
        ----------
        region : ReviewRegion
            One of `regions`.
        labels : LabelSource
            What is exported.
        cancel : threading.Event, optional
            Stops it.

        Raises
        ------
        CancelledError
            If cancelled.
        CaseError
            If the case is damaged.
        """
        number = self.regions.index(region)
        counts = np.zeros(256, np.int64)
        said = np.zeros(len(self._attribution.readers) + 1, np.int64)
        for place in chunks_of(region.box):
            stop_if(cancel)
            part = chunk_box(place, self._grid.shape).intersect(region.box)
            mask = self._mask(number, part)
            if not mask.any():
                continue
            values = labels.read(part.y0, part.x0, part.height, part.width)
            counts += np.bincount(values[mask], minlength=256)
            readers = self._chunk(place)
            if readers is not None:
                codes = readers[_within(part, chunk_box(place, self._grid.shape))][mask]
                said += np.bincount(codes, minlength=len(said))
        names, corrected = self._readers(said)
        found = {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
        return Contents(found, corrected, names)

    def outline(self, region: ReviewRegion, cancel: Cancel | None = None) -> Any:
        """A review region's border in label pixels, a polygon or several as one.

        Parameters
        ----------
        region : ReviewRegion
            One of `regions`.
        cancel : threading.Event, optional
            Stops it.
        """
        import shapely

        box = region.box
        if _is_box(region):
            return shapely.box(box.x0, box.y0, box.x1, box.y1)
        corner = np.array([box.x0, box.y0], float)
        source = _Inside(self, self.regions.index(region), LabelGrid((box.height, box.width)))
        polygons = [
            shapely.transform(polygon, lambda points: points + corner)
            for _, polygon in outlines(source, cancel=cancel)
        ]
        return polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)

    def read(self, number: int, box: PixelBox) -> Mask:
        """Which pixels of a box belong to the region at a place in `regions`."""
        return self._mask(number, box)

    def _near(self, box: PixelBox) -> tuple[npt.NDArray[np.intp], Mask]:
        """The regions whose boxes an outline's meets; which of them surely hold all of it."""
        near = np.flatnonzero(_meets(self._boxes, box))
        y0, x0, y1, x1 = self._boxes[near].T
        within = (y0 <= box.y0) & (x0 <= box.x0) & (y1 >= box.y1) & (x1 >= box.x1)
        whole = np.fromiter((_is_box(self.regions[i]) for i in near), bool, len(near))
        return near, within & whole

    def _said(self, place: Place, part: PixelBox, outline: _Outline) -> npt.NDArray[np.int64]:
        """Pixels of an outline in a part of a chunk, by whose corrections stand in them."""
        size = len(self._attribution.readers) + 1
        readers = self._chunk(place)
        codes = None if readers is None else readers[_within(part, chunk_box(place, self._shape))]
        if codes is None or not codes.any():
            return np.zeros(size, np.int64)
        return np.bincount(codes[outline.inside(part)], minlength=size)

    @property
    def _shape(self) -> tuple[int, int]:
        return self._grid.shape

    def _readers(self, said: npt.NDArray[np.int64]) -> tuple[tuple[str, ...], int]:
        order = np.argsort(-said[1:], kind="stable")
        names = tuple(self._attribution.readers[i] for i in order if said[i + 1])
        return names, int(said[1:].sum())

    def _chunk(self, place: Place) -> Readers | None:
        if place not in self._attribution.places:
            return None
        if place not in self._chunks:
            self._chunks[place] = self._attribution.chunk(*place)
            if len(self._chunks) > _HELD_CHUNKS:
                self._chunks.popitem(last=False)
        self._chunks.move_to_end(place)
        return self._chunks[place]

    def _mask(self, number: int, box: PixelBox) -> Mask:
        """Which pixels of a box that lies in a region's are the region's."""
        region = self.regions[number]
        if _is_box(region):
            return np.ones((box.height, box.width), bool)
        if number not in self._selections:
            self._selections[number] = region.pixels, self._selection(region.id)
            while (
                len(self._selections) > 1
                and sum(pixels for pixels, _ in self._selections.values()) > _HELD_PIXELS
            ):
                self._selections.popitem(last=False)
        self._selections.move_to_end(number)
        return self._selections[number][1].read(box)


class _Outline:
    """An outline whose pixels are asked for part by part, if at all."""

    def __init__(self, polygon: Any, box: PixelBox) -> None:
        self._polygon, self._box = polygon, box
        self.pixels = round(polygon.area)
        self._burned: Outlines | None = None

    def inside(self, part: PixelBox) -> Mask:
        """Which pixels of a part of its box belong to it."""
        if self.pixels == self._box.height * self._box.width:
            return np.ones((part.height, part.width), bool)
        if self._burned is None:
            self._burned = Outlines([self._polygon])
        return self._burned.inside(0, part)


@dataclass(frozen=True)
class _Inside:
    """The pixels of a review region as labels, within its box."""

    describer: Describer
    number: int
    grid: LabelGrid

    def read(self, y: int, x: int, height: int, width: int) -> npt.NDArray[np.uint8]:
        box = self.describer.regions[self.number].box
        part = PixelBox(box.y0 + y, box.x0 + x, box.y0 + y + height, box.x0 + x + width)
        return self.describer.read(self.number, part).astype(np.uint8)


def comments_text(region: ReviewRegion) -> str:
    """A review region's comments, a line each; empty where it has none."""
    return "\n".join(f"{c.reader}, {c.time[:10]}: {c.text}" for c in region.comments)


def _is_box(region: ReviewRegion) -> bool:
    return region.pixels == region.box.height * region.box.width


def _meets(boxes: npt.NDArray[np.int64], box: PixelBox) -> Mask:
    y0, x0, y1, x1 = boxes.T
    met: Mask = (y0 < box.y1) & (y1 > box.y0) & (x0 < box.x1) & (x1 > box.x0)
    return met


def _within(part: PixelBox, whole: PixelBox) -> tuple[slice, slice]:
    return (
        slice(part.y0 - whole.y0, part.y1 - whole.y0),
        slice(part.x0 - whole.x0, part.x1 - whole.x0),
    )
